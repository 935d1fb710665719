"""Objective: composes the axes, and is the only place where per-row values become one number."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sstext.objective.divergences import cross_entropy
from sstext.objective.part import Part, Signals, in_range
from sstext.objective.targets import Hard, Target
from sstext.objective.teachers import Teacher
from sstext.objective.views import Augmented, View
from sstext.objective.weights import Everyone, Weight

Divergence = Callable[[Tensor, Tensor], Tensor]
Gather = Callable[[Tensor], Tensor]


def linear_ramp(length: float) -> Callable[[float], float]:
    """min(1, progress / length): how an unlabeled loss is faded in over the first `length` of the training.

    >>> ramp = linear_ramp(.4); ramp(0.), ramp(.2), ramp(.8), linear_ramp(0.)(0.)
    (0.0, 0.5, 1.0, 1.0)
    """
    in_range("ramp", length, 0, 1)
    return lambda progress: 1.0 if length <= 0 else min(1.0, progress / length)


@dataclass
class Losses:
    """The loss of one micro-batch and what it is made of.

    Attributes:
        total: scalar with gradient.
        components: stable name → (sum, count) over rows, detached, on the device: means over any window are sum ÷ count.
        logits: (B, C) of the labeled rows.
    """

    total: Tensor
    components: dict[str, tuple[Tensor, int]] = field(default_factory=dict)
    logits: Tensor | None = None


class Objective(nn.Module):
    """What the student is asked to minimize: L = L_labeled + λ · ramp(t/T) · L_unlabeled.

    L_labeled = mean of row weight · H(label, p); L_unlabeled = mean over the **whole** unlabeled batch of
    weight · divergence(student on its view, target), rows with weight 0 included, as the papers write it.

    Args:
        teacher: who labels; None is supervised training, and nothing below matters.
        target, weight, view, divergence: the other axes, defaults as in FixMatch without its threshold.
        strength: λ.
        ramp: progress in [0, 1] → factor of λ in [0, 1].

    >>> Objective().supervised
    True
    """

    def __init__(
        self,
        teacher: Teacher | None = None,
        target: Target | None = None,
        weight: Weight | None = None,
        view: View | None = None,
        divergence: Divergence = cross_entropy,
        strength: float = 1.0,
        ramp: Callable[[float], float] | None = None,
    ) -> None:
        super().__init__()
        self.teacher = teacher
        self.target = target if target is not None else Hard()
        self.weight = weight if weight is not None else Everyone()
        self.view = view if view is not None else Augmented()
        self.divergence, self.strength = divergence, in_range("strength", strength, 0)
        self.ramp = ramp if ramp is not None else linear_ramp(0.0)

    @property
    def supervised(self) -> bool:
        """Whether unlabeled rows play no part."""
        return self.teacher is None

    def parts(self) -> list[Part]:
        """Every part once, also where two others share it."""
        return [module for module in self.modules() if isinstance(module, Part)]

    def bind(self, num_classes: int, num_rows: int) -> "Objective":
        """Allocate the state of all parts for C classes and N corpus rows."""
        for part in self.parts():
            part.bind(num_classes, num_rows)
        return self

    def forward(
        self,
        student: nn.Module,
        labeled: Mapping[str, Tensor],
        labels: Tensor,
        row_weights: Tensor | None = None,
        unlabeled: Mapping[str, Any] | None = None,
        *,
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
            unlabeled: {"weak": inputs, "strong": inputs, "ids": (N,)}, padded to the length of `labeled`.
            progress: t/T.
            gather: concatenates a tensor over processes (identity on one).
            unwrapped: the student without its wrapper, for passes without gradient.
        """
        if unlabeled is None or self.teacher is None:
            logits = student(**labeled).logits
            loss, components = self._labeled_loss(logits, labels, row_weights)
            return Losses(loss, components, logits)

        plain = unwrapped if unwrapped is not None else student
        probs = self.teacher(plain, unlabeled["weak"])  # (N, C)
        inputs = self.view.prepare(plain, unlabeled)
        both = student(**_stack(labeled, inputs)).logits  # one joint pass keeps several devices simple
        logits, logits_u = both[: len(labels)], both[len(labels) :]

        classes = labels.argmax(-1) if labels.dim() == 2 else labels
        signals = Signals(probs, logits_u.detach(), unlabeled["ids"], logits.detach(), classes, progress)
        gathered = signals.map(gather)
        for part in self.parts():
            part.observe(gathered)

        w, q = self.weight(signals), self.target(probs)  # (N,), (N, C)
        loss, components = self._labeled_loss(logits, labels, row_weights)
        per_row = w * self.divergence(logits_u, q)  # (N,)
        count = len(per_row)
        components["loss_unlabeled"] = (per_row.detach().sum(), count)
        components["kept_share"] = ((w > 0).float().sum(), count)
        components["mean_weight"] = (w.detach().float().sum(), count)
        return Losses(loss + self.strength * self.ramp(progress) * per_row.mean(), components, logits)

    def _labeled_loss(
        self, logits: Tensor, labels: Tensor, row_weights: Tensor | None
    ) -> tuple[Tensor, dict[str, tuple[Tensor, int]]]:
        per_row = F.cross_entropy(logits.float(), labels, reduction="none")  # (B,)
        if row_weights is not None:
            per_row = per_row * row_weights
        return per_row.mean(), {"loss_labeled": (per_row.detach().sum(), len(per_row))}


def _stack(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rows of two batches that were padded to one length, one after the other."""
    return {name: torch.cat([first[name], second[name]]) for name in first}
