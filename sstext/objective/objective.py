"""Objective: composes the axes. It is the only place that reduces per-row values to one number."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sstext.modeling.length_groups import may_choose_rows
from sstext.objective.axes import check_axes, check_regularizers
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
from sstext.objective.part import Part, Signals, in_range, known
from sstext.objective.ramps import Ramp, linear_ramp
from sstext.objective.regularizers import Regularizer
from sstext.objective.targets import Hard, Target
from sstext.objective.teachers import Teacher
from sstext.objective.views import Augmented, Same, View
from sstext.objective.weights import Everyone, Weight

Divergence = Callable[[Tensor, Tensor], Tensor]
Gather = Callable[[Tensor], Tensor]
Components = dict[str, tuple[Tensor, Tensor | int]]
Weighed = tuple[Tensor, Tensor]  # weights (N,) and targets (N, C) of the unlabeled rows


@dataclass
class Losses:
    """The loss of one micro-batch and its components.

    Attributes:
        total: scalar with gradient.
        components: stable name → (sum, count) over rows, detached, on the device. The mean over several steps is sum ÷
            count.
        logits: (B, C) logits of the labeled rows.
    """

    total: Tensor
    components: Components = field(default_factory=dict)
    logits: Tensor | None = None


class Objective(nn.Module):
    """The loss that the student minimizes: L = L_labeled + λ · ramp(t/T) · L_unlabeled + Σ c · L_regularizer.

    L_labeled = mean of row weight · H(label, p). With a label weight, it is the sum over the rows that count ÷ their
    number. With class weights w, it is Σ w_y · row weight · H(label, p) ÷ Σ w_y. L_unlabeled = mean over the **whole**
    unlabeled batch of weight · divergence(student on its view, target). The mean includes rows with weight 0, as in the
    papers.

    Args:
        teacher: labels the unlabeled rows. Without a teacher, target, weight and divergence are not used. Default:
            none.
        target, weight, view, divergence: the other axes. The defaults are those of FixMatch without its threshold.
        strength: λ.
        ramp: progress in [0, 1] → factor of λ in [0, 1].
        label_weight: selects the labeled rows that count in a step (signals → (B,)). Default: all rows.
        regularizers: further losses.

    Raises:
        UserError: an axis gets something other than its part, for example a name.

    Attributes:
        label_shift: (C,) τ log π, added to the logits of the labeled rows in their loss for logit adjustment (Menon et
            al. 2021, "Long-tail learning via logit adjustment", eq. 10). None without logit adjustment.
        class_weight: (C,) weights w of the classes in the labeled loss. A label of probabilities has the mean of its
            classes. None if all are equal.
        tasks: the tasks that it supports. Any other task raises an error.
        reads_all: whether the student reads all unlabeled rows, also where those without weight could be left out, so that a
            step takes its full time.

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
        check_axes(
            teacher=teacher, target=target, weight=weight, view=view, divergence=divergence, ramp=ramp,
            label_weight=label_weight,
        )  # fmt: skip
        check_regularizers(regularizers)
        self.teacher = teacher
        self.target = target if target is not None else Hard()
        self.weight = weight if weight is not None else Everyone()
        self.view = view if view is not None else Augmented()
        self.divergence, self.strength = divergence, in_range("strength", strength, 0)
        self.ramp = ramp if ramp is not None else linear_ramp(0.0)
        self.label_weight = label_weight
        self.label_shift: Tensor | None
        self.register_buffer("label_shift", None, persistent=False)  # the trainer counts the labels again
        self.class_weight: Tensor | None
        self.register_buffer("class_weight", None, persistent=False)
        self.regularizers = nn.ModuleList(regularizers)
        self.reads_all = False

    def extra_repr(self) -> str:
        """The settings that are not parts. `print` shows them above the parts."""
        divergence = getattr(self.divergence, "__name__", type(self.divergence).__name__)
        return f"divergence={divergence}, strength={self.strength}"

    # What the batches must contain

    @property
    def blocks(self) -> list[str]:
        """The blocks of rows in the joint forward pass, in their order."""
        needed = {LABELED, *(block for regularizer in self._regularizers() for block in regularizer.blocks)}
        if self.teacher is not None:
            needed.add(UNLABELED)
        if UNLABELED_AGAIN in needed:
            needed.add(UNLABELED)
        if UNLABELED in needed and isinstance(self.view, Same):
            needed.discard(WEAK)  # the view shows the same rows
        return [block for block in BLOCKS if block in needed]

    @property
    def supervised(self) -> bool:
        """Whether the objective uses no unlabeled rows."""
        return not OF_UNLABELED_ROWS & set(self.blocks)

    @property
    def plain(self) -> bool:
        """Whether the loss is only the cross-entropy of the labeled rows."""
        return self.blocks == [LABELED] and self.label_weight is None and not len(self.regularizers)

    @property
    def wants_strong(self) -> bool:
        """Whether the batches must contain changed copies of unlabeled or of labeled rows."""
        return (self.view.strong and UNLABELED in self.blocks) or LABELED_STRONG in self.blocks

    def _regularizers(self) -> list[Regularizer]:
        return [module for module in self.regularizers if isinstance(module, Regularizer)]

    def parts(self) -> list[Part]:
        """Every part once, even if two other parts share it."""
        return [module for module in self.modules() if isinstance(module, Part)]

    def bind(self, num_classes: int, num_rows: int, student: nn.Module | None = None) -> "Objective":
        """Allocate the state of all parts for C classes, N corpus rows and the student's weights."""
        for part in self.parts():
            part.bind(num_classes, num_rows)
            if student is not None:
                part.bind_student(student)
        return self

    @property
    def follows_steps(self) -> bool:
        """Whether a part changes after every step of the optimizer."""
        return any(type(part).after_step is not Part.after_step for part in self.parts())

    def after_step(self, student: nn.Module, progress: float) -> None:
        """Update all parts after a step of the optimizer."""
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
            labeled: inputs of B labeled rows, (B, T) each.
            labels: (B,) classes, or (B, C) probabilities.
            row_weights: (B,) weight of each labeled row. Default: 1.
            unlabeled: {"weak": inputs, "strong": inputs, "ids": (N,), "keys": (N,)}, and "masked" and "masked_targets"
                for reconstruction. All are padded to the length of `labeled`.
            strong: inputs of changed copies of the labeled rows, if a regularizer needs them.
            progress: t/T.
            gather: concatenates a tensor over processes. The gradient flows to this process's rows. Default: one
                process.
            unwrapped: the student without its wrapper, for the passes of teacher and view.
        """
        plain = unwrapped if unwrapped is not None else student
        used = None if self.supervised else unlabeled
        probs = self.teacher(plain, used) if self.teacher is not None and used is not None else None  # (N, C)
        blocks, shift = self._rows(plain, labeled, strong, used)
        weighed = None
        if used is not None and probs is not None and shift is None and self._chooses_rows(student, plain, labeled):
            with torch.autocast("cpu", enabled=False):
                weighed = self._weigh(Signals(probs, ids=used["ids"], progress=progress), gather)
        outputs = joint_pass(
            student,
            plain,
            blocks,
            rows=weighed[0].nonzero()[:, 0] if weighed is not None else None,
            shift=shift,
            token_targets=used.get("masked_targets") if used is not None else None,
            pooled=any(regularizer.pooled for regularizer in self._regularizers()),
            head_only=any(regularizer.head_only(progress) for regularizer in self._regularizers()),
        )
        if UNLABELED in outputs.logits and isinstance(self.view, Same):
            outputs = replace(outputs, logits={**outputs.logits, WEAK: outputs.logits[UNLABELED]})
        outputs = replace(outputs, labels=labels, row_weights=row_weights, progress=progress, gather=gather)
        with torch.autocast(labels.device.type, enabled=False):  # losses are float32 even if the caller uses autocast
            return self._losses(outputs, _signals(outputs, probs, used), weighed)

    def _losses(self, outputs: Outputs, signals: Signals, weighed: Weighed | None) -> Losses:
        """Add the labeled loss, the unlabeled loss and the regularizers."""
        loss, components = self._labeled_loss(outputs, signals)
        if len(signals.probs):
            w, q = weighed if weighed is not None else self._weigh(signals, outputs.gather)
            outputs, loss_unlabeled, more = self._unlabeled_loss(outputs, w, q)
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
        """Return the inputs of every block in this batch, and the shift of the view's embeddings."""
        rows: dict[str, Any] = {LABELED: labeled, LABELED_AGAIN: labeled, LABELED_STRONG: strong}
        shift = None
        if unlabeled is not None:
            rows |= {WEAK: unlabeled["weak"], MASKED: unlabeled.get("masked")}
            if UNLABELED in self.blocks:
                seen = self.view.prepare(plain, unlabeled)
                rows |= {UNLABELED: seen.inputs, UNLABELED_AGAIN: seen.inputs}
                shift = seen.shift
        return {block: rows[block] for block in self.blocks if rows.get(block) is not None}, shift

    def _weigh(self, signals: Signals, gather: Gather) -> Weighed:
        """Let all parts observe the step, and return the weights (N,) and the targets (N, C) of the unlabeled rows."""
        gathered = known(signals.map(gather))
        for part in self.parts():
            part.observe(gathered)
        return self.weight(signals), self.target(signals.probs)

    def _chooses_rows(self, student: nn.Module, plain: nn.Module, labeled: Mapping[str, Tensor]) -> bool:
        """Whether the student reads only those unlabeled rows whose weight is not 0. The others add nothing to the loss.

        The weights must be known before, and no regularizer may look at the other rows. On an accelerator, it would have to
        wait for the weights.
        """
        if self.reads_all or student is not plain or not may_choose_rows(labeled["input_ids"], plain):
            return False
        observing = [part for part in self.parts() if type(part).observe is not Part.observe]
        weights = [part for part in self.weight.modules() if isinstance(part, Weight)]
        early = all(vars(type(part)).get("early", False) for part in (*observing, *weights))
        return early and not len(self.regularizers)

    def _unlabeled_loss(self, outputs: Outputs, w: Tensor, q: Tensor) -> tuple[Outputs, Tensor, Components]:
        per_row = w * self.divergence(outputs.logits[UNLABELED], q)  # (N,)
        components: Components = {
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
        components: Components = {"loss_labeled": (per_row.detach().sum(), len(per_row))}
        if self.label_weight is None and self.class_weight is None:
            return per_row.mean(), components
        counts = torch.ones_like(per_row)  # (B,)
        if self.label_weight is not None:
            counts = self.label_weight(signals).to(per_row.dtype)
            components["labels_used"] = (counts.sum(), len(counts))
        least = 1.0
        if self.class_weight is not None:
            w, y = self.class_weight.to(per_row.dtype), outputs.labels
            counts, least = counts * (w[y] if y.dim() == 1 else y.to(w.dtype) @ w), float(torch.finfo(w.dtype).tiny)
            components["loss_labeled"] = ((counts * per_row).detach().sum(), counts.sum())
        # Divided by what counts in all processes, as in one batch: processes average their losses.
        gathered = outputs.gather(counts)
        share = gathered.sum().clamp_min(least) / (len(gathered) / len(counts))
        return (counts * per_row).sum() / share, components


def _signals(outputs: Outputs, probs: Tensor | None, unlabeled: Mapping[str, Any] | None) -> Signals:
    """The signals of a step, detached. Without a teacher, they contain no unlabeled rows."""
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
