"""Objective: composes the axes, and is the only place where per-row values become one number."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sstext.errors import UserError
from sstext.objective.divergences import cross_entropy
from sstext.objective.joint_pass import joint_pass
from sstext.objective.outputs import (
    BLOCKS,
    LABELED,
    LABELED_AGAIN,
    LABELED_STRONG,
    MASKED,
    OF_UNLABELED_ROWS,
    UNLABELED,
    UNLABELED_AGAIN,
    WEAK,
    Outputs,
)
from sstext.objective.part import Part, Signals, in_range
from sstext.objective.ramps import Ramp, linear_ramp
from sstext.objective.regularizers import Regularizer
from sstext.objective.targets import Hard, Target
from sstext.objective.teachers import Teacher
from sstext.objective.views import Augmented, Same, View
from sstext.objective.weights import Everyone, Weight

Divergence = Callable[[Tensor, Tensor], Tensor]
Gather = Callable[[Tensor], Tensor]
Components = dict[str, tuple[Tensor, int]]
#: Axis → what it wants, and how a message says it.
AXES: dict[str, tuple[Any, str]] = {
    "teacher": (Teacher, "a Teacher, as teachers.EMA()"),
    "target": (Target, "a Target, as targets.Hard()"),
    "weight": (Weight, "a Weight, as weights.Threshold(0.95)"),
    "view": (View, "a View, as views.Augmented()"),
    "divergence": (Callable, "a function of logits and target, as divergences.kl"),
    "ramp": (Callable, "a function of progress, as ramps.linear_ramp(0.4)"),
    "label_weight": (Weight, "a Weight, as weights.TrainingSignalAnnealing()"),
}


@dataclass
class Losses:
    """The loss of one micro-batch and what it is made of.

    Attributes:
        total: scalar with gradient.
        components: stable name → (sum, count) over rows, detached, on the device: means over any window are sum ÷ count.
        logits: (B, C) of the labeled rows.
    """

    total: Tensor
    components: Components = field(default_factory=dict)
    logits: Tensor | None = None


class Objective(nn.Module):
    """What the student is asked to minimize: L = L_labeled + λ · ramp(t/T) · L_unlabeled + Σ c · L_regularizer.

    L_labeled = mean of row weight · H(label, p), or with a label weight its sum over the kept rows ÷ their number;
    L_unlabeled = mean over the **whole** unlabeled batch of weight · divergence(student on its view, target), rows with
    weight 0 included, as the papers write it.

    Args:
        teacher: who labels; None: no row is labeled by anybody, and target, weight and divergence do not matter.
        target, weight, view, divergence: the other axes, defaults as in FixMatch without its threshold.
        strength: λ.
        ramp: progress in [0, 1] → factor of λ in [0, 1].
        label_weight: which labeled rows count in a step (signals → (B,)); None: all of them.
        regularizers: further losses.

    Raises:
        UserError: an axis is given something else than its part, for example a name.

    Attributes:
        label_shift: (C,) added to the logits of the labeled rows in their loss, τ log π for logit adjustment (Menon et al.
            2021, "Long-tail learning via logit adjustment", eq. 10); None: nothing is.
        tasks: what it can be trained for; anything else is refused by name.

    >>> Objective().supervised
    True
    """

    tasks = ("single-label",)

    def __init__(
        self,
        teacher: Teacher | None = None,
        target: Target | None = None,
        weight: Weight | None = None,
        view: View | None = None,
        divergence: Divergence = cross_entropy,
        strength: float = 1.0,
        ramp: Ramp | None = None,
        label_weight: Weight | None = None,
        regularizers: Sequence[Regularizer] = (),
    ) -> None:
        super().__init__()
        _check_axes(
            teacher=teacher, target=target, weight=weight, view=view, divergence=divergence, ramp=ramp,
            label_weight=label_weight,
        )  # fmt: skip
        _check_regularizers(regularizers)
        self.teacher = teacher
        self.target = target if target is not None else Hard()
        self.weight = weight if weight is not None else Everyone()
        self.view = view if view is not None else Augmented()
        self.divergence, self.strength = divergence, in_range("strength", strength, 0)
        self.ramp = ramp if ramp is not None else linear_ramp(0.0)
        self.label_weight = label_weight
        self.label_shift: Tensor | None
        self.register_buffer("label_shift", None, persistent=False)  # the trainer counts the labels anew
        self.regularizers = nn.ModuleList(regularizers)

    def extra_repr(self) -> str:
        """What is no part of its own, as `print` shows it above the parts."""
        divergence = getattr(self.divergence, "__name__", type(self.divergence).__name__)
        return f"divergence={divergence}, strength={self.strength}"

    # What it asks of the batches

    @property
    def blocks(self) -> list[str]:
        """The rows of the joint forward pass, block by block, in this order."""
        asked = {LABELED, *(block for regularizer in self._regularizers() for block in regularizer.blocks)}
        if self.teacher is not None:
            asked.add(UNLABELED)
        if UNLABELED_AGAIN in asked:
            asked.add(UNLABELED)
        if UNLABELED in asked and isinstance(self.view, Same):
            asked.discard(WEAK)  # the same rows
        return [block for block in BLOCKS if block in asked]

    @property
    def supervised(self) -> bool:
        """Whether unlabeled rows play no part."""
        return not OF_UNLABELED_ROWS & set(self.blocks)

    @property
    def plain(self) -> bool:
        """Whether it is the cross-entropy of the labeled rows, and nothing else."""
        return self.blocks == [LABELED] and self.label_weight is None and not len(self.regularizers)

    @property
    def takes_groups(self) -> bool:
        """Whether its rows may pass in groups of similar length (`sstext.modeling.length_groups`) and not as a whole."""
        return MASKED not in self.blocks and not (UNLABELED in self.blocks and self.view.shifts)

    @property
    def wants_strong(self) -> bool:
        """Whether the batches must hold a changed copy of every unlabeled row."""
        return self.view.strong and UNLABELED in self.blocks

    def _regularizers(self) -> list[Regularizer]:
        return [module for module in self.regularizers if isinstance(module, Regularizer)]

    def parts(self) -> list[Part]:
        """Every part once, also where two others share it."""
        return [module for module in self.modules() if isinstance(module, Part)]

    def bind(self, num_classes: int, num_rows: int, student: nn.Module | None = None) -> "Objective":
        """Allocate the state of all parts for C classes and N corpus rows, and what has the shape of the student."""
        for part in self.parts():
            part.bind(num_classes, num_rows)
            if student is not None:
                part.bind_student(student)
        return self

    def after_step(self, student: nn.Module, progress: float) -> None:
        """Tell all parts that the optimizer has made a step."""
        for part in self.parts():
            part.after_step(student, progress)

    # One step

    def forward(
        self,
        student: nn.Module,
        labeled: Mapping[str, Tensor],
        labels: Tensor,
        row_weights: Tensor | None = None,
        unlabeled: Mapping[str, Any] | None = None,
        *,
        strong: Mapping[str, Tensor] | None = None,
        progress: float = 0.0,
        gather: Gather = lambda tensor: tensor,
        unwrapped: nn.Module | None = None,
    ) -> Losses:
        """The losses of one micro-batch.

        Args:
            student: the model that is trained, possibly wrapped for several devices.
            labeled: its inputs for B labeled rows, (B, T) each.
            labels: (B,) classes, or (B, C) probabilities.
            row_weights: (B,) how much each labeled row counts; None: in full.
            unlabeled: {"weak": inputs, "strong": inputs, "ids": (N,), "keys": (N,)}, and for reconstruction "masked" and
                "masked_targets"; all padded to the length of `labeled`.
            strong: inputs of the labeled rows in a changed copy, where a regularizer asks for it.
            progress: t/T.
            gather: concatenates a tensor over processes, with gradient to the own rows (identity on one process).
            unwrapped: the student without its wrapper, for passes of its own.
        """
        plain = unwrapped if unwrapped is not None else student
        looked_at = None if self.supervised else unlabeled
        probs = self.teacher(plain, looked_at) if self.teacher is not None and looked_at is not None else None  # (N, C)
        blocks, shift = self._rows(plain, labeled, strong, looked_at)
        outputs = joint_pass(
            student,
            plain,
            blocks,
            shift=shift,
            token_targets=looked_at.get("masked_targets") if looked_at is not None else None,
            pooled=any(regularizer.pooled for regularizer in self._regularizers()),
            head_only=any(regularizer.head_only(progress) for regularizer in self._regularizers()),
        )
        if UNLABELED in outputs.logits and isinstance(self.view, Same):
            outputs = replace(outputs, logits={**outputs.logits, WEAK: outputs.logits[UNLABELED]})
        outputs = replace(outputs, labels=labels, row_weights=row_weights, progress=progress, gather=gather)
        with torch.autocast(labels.device.type, enabled=False):  # where the caller has it on: losses are float32
            return self._losses(outputs, _signals(outputs, probs, looked_at))

    def _losses(self, outputs: Outputs, signals: Signals) -> Losses:
        """Labeled, unlabeled and further losses, added up."""
        loss, components = self._labeled_loss(outputs, signals)
        if len(signals.probs):
            outputs, loss_unlabeled, more = self._unlabeled_loss(outputs, signals)
            loss = loss + self.strength * self.ramp(outputs.progress) * loss_unlabeled
            components |= more
        for regularizer in self._regularizers():
            if regularizer.serves(outputs.logits):
                value = torch.stack([per_row.mean() for per_row in regularizer(outputs)]).sum()
                loss = loss + regularizer.strength * value
                components[f"loss_{_snake(regularizer)}"] = (value.detach(), 1)
        return Losses(loss, components, outputs.logits[LABELED])

    def _rows(
        self,
        plain: nn.Module,
        labeled: Mapping[str, Tensor],
        strong: Mapping[str, Tensor] | None,
        unlabeled: Mapping[str, Any] | None,
    ) -> tuple[dict[str, Mapping[str, Tensor]], Tensor | None]:
        """The inputs of every block that this batch has, and what is added to the embeddings of the view."""
        rows: dict[str, Any] = {LABELED: labeled, LABELED_AGAIN: labeled, LABELED_STRONG: strong}
        shift = None
        if unlabeled is not None:
            rows |= {WEAK: unlabeled["weak"], MASKED: unlabeled.get("masked")}
            if UNLABELED in self.blocks:
                seen = self.view.prepare(plain, unlabeled)
                rows |= {UNLABELED: seen.inputs, UNLABELED_AGAIN: seen.inputs}
                shift = seen.shift
        return {block: rows[block] for block in self.blocks if rows.get(block) is not None}, shift

    def _unlabeled_loss(self, outputs: Outputs, signals: Signals) -> tuple[Outputs, Tensor, Components]:
        everyone = signals.map(outputs.gather)
        for part in self.parts():
            part.observe(everyone)
        w, q = self.weight(signals), self.target(signals.probs)  # (N,), (N, C)
        per_row = w * self.divergence(outputs.logits[UNLABELED], q)  # (N,)
        components = {
            "loss_unlabeled": (per_row.detach().sum(), len(w)),
            "kept_share": ((w > 0).float().sum(), len(w)),
            "mean_weight": (w.detach().float().sum(), len(w)),
        }
        return replace(outputs, weight=w, target=q), per_row.mean(), components

    def _labeled_loss(self, outputs: Outputs, signals: Signals) -> tuple[Tensor, Components]:
        logits = outputs.logits[LABELED].float()
        if self.label_shift is not None:
            logits = logits + self.label_shift
        per_row = F.cross_entropy(logits, outputs.labels, reduction="none")  # (B,)
        if outputs.row_weights is not None:
            per_row = per_row * outputs.row_weights
        components = {"loss_labeled": (per_row.detach().sum(), len(per_row))}
        if self.label_weight is None:
            return per_row.mean(), components
        kept = self.label_weight(signals).to(per_row.dtype)  # (B,)
        everywhere = outputs.gather(kept)
        components["labels_used"] = (kept.sum(), len(kept))
        # ÷ the kept rows of all processes, as in one batch; several processes average their losses
        share = everywhere.sum().clamp_min(1) / (len(everywhere) / len(kept))
        return (kept * per_row).sum() / share, components


def _check_axes(**given: Any) -> None:
    """Refuse what is no part of its axis; None is the axis' default (but the divergence has none)."""
    for axis, found in given.items():
        kind, expected = AXES[axis]
        fits = isinstance(found, kind) and not isinstance(found, type)  # a class is callable, too
        if not fits and (found is not None or axis == "divergence"):
            raise UserError(f"{axis}: expected {expected}, found {_shown(found)}")


def _check_regularizers(given: Any) -> None:
    several = isinstance(given, Sequence | nn.ModuleList) and not isinstance(given, str)
    wrong = [found for found in given if not isinstance(found, Regularizer)] if several else [given]
    if wrong:
        raise UserError(
            f"regularizers: expected a list of Regularizers, as [regularizers.Entropy(0.1)], found {_shown(wrong[0])}"
        )


def _shown(found: Any) -> str:
    """A value in a message.

    >>> _shown("EMA"), _shown(Hard()), _shown(Hard)
    ("'EMA'", 'Hard()', 'the class Hard: call it')
    """
    if isinstance(found, type):
        return f"the class {found.__name__}: call it"
    return f"{type(found).__name__}()" if isinstance(found, nn.Module) else repr(found)


def _signals(outputs: Outputs, probs: Tensor | None, unlabeled: Mapping[str, Any] | None) -> Signals:
    """What a step knows, detached; without a teacher, of no unlabeled row."""
    logits, labels = outputs.logits[LABELED].detach(), outputs.labels
    return Signals(
        probs=probs if probs is not None else logits.new_zeros(0, logits.shape[-1]).float(),
        student_logits=outputs.logits[UNLABELED].detach() if UNLABELED in outputs.logits else None,
        ids=unlabeled["ids"] if unlabeled is not None else None,
        labeled_logits=logits,
        labels=labels.argmax(-1) if labels.dim() == 2 else labels,
        progress=outputs.progress,
    )


def _snake(part: Part) -> str:
    """A part's name in logs.

    >>> _snake(Hard())
    'hard'
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(part).__name__).lower()
