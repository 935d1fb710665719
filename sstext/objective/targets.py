"""Targets of the student, as functions of the teacher's probabilities: (N, C) → (N, C)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sstext.errors import UserError
from sstext.objective.part import Part, Signals, class_shares, in_range

TINY = torch.finfo(torch.float32).tiny  # divisor instead of 0


class Target(Part):
    """The teacher's probabilities (N, C) → the probabilities that the student should predict (N, C). Rows sum to 1."""

    def forward(self, probs: Tensor) -> Tensor:
        raise NotImplementedError


class Soft(Target):
    """The teacher's probabilities, unchanged: q.

    >>> Soft()(torch.tensor([[.75, .25]]))
    tensor([[0.7500, 0.2500]])
    """

    def forward(self, probs: Tensor) -> Tensor:
        return probs


class Hard(Target):
    """All mass on the most probable class: one-hot argmax q.

    >>> Hard()(torch.tensor([[.75, .25]]))
    tensor([[1., 0.]])
    """

    def forward(self, probs: Tensor) -> Tensor:
        return F.one_hot(probs.argmax(-1), probs.shape[-1]).to(probs.dtype)


class Sharpen(Target):
    """Sharpened probabilities: q^(1/T), scaled to the sum 1.

    *Relations*: `Soft` at T = 1; `Hard` in the limit T → 0, except for ties; uniform in the limit T → ∞.

    Source: Berthelot et al. 2019 (MixMatch), eq. 7; Xie et al. 2020 (UDA), "Sharpening Predictions", in the equivalent
    form softmax(logits ÷ T).

    Args:
        temperature: T, between .001 and 1000 (UDA: .4).

    >>> Sharpen(.5)(torch.tensor([[.8, .2]]))  # .64 : .04
    tensor([[0.9412, 0.0588]])
    """

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = in_range("temperature", temperature, 1e-3, 1e3)

    def forward(self, probs: Tensor) -> Tensor:
        q = probs.float()
        # Relative to the largest probability, because the powers of small numbers underflow to 0.
        relative = q / q.amax(-1, keepdim=True).clamp_min(TINY)
        return normalized(relative ** (1 / self.temperature)).to(probs.dtype)


class Align(Target):
    """Distribution alignment: q′ = Norm(q · u / E[q]), with E[q] a moving average over batches that starts at 1/C.

    Source: Berthelot et al. 2020 (ReMixMatch), section 3.1; with u uniform as in Chen et al. 2023 (SoftMatch), section 3.2.

    Args:
        prior: (C,) class shares u. Uniform shares do harm if the classes are imbalanced. Default: uniform.
        momentum: m of E[q] ← m E[q] + (1 − m) mean q.

    >>> align = Align(prior=[.5, .5]); align.bind(2, 1)
    >>> align(torch.tensor([[.75, .25]]))  # nothing observed yet: E[q] is uniform
    tensor([[0.7500, 0.2500]])
    """

    mean_probs: Tensor
    target_prior: Tensor

    def __init__(self, prior: Sequence[float] | None = None, momentum: float = 0.999) -> None:
        super().__init__()
        self.momentum = in_range("momentum", momentum, 0, 1)
        self.prior = None if prior is None else class_shares("prior", prior)

    def bind(self, num_classes: int, num_rows: int) -> None:
        uniform = torch.full((num_classes,), 1 / num_classes)
        prior = uniform if self.prior is None else torch.tensor(self.prior, dtype=torch.float32)
        if prior.shape != (num_classes,):
            raise UserError(f"Align: expected a prior of {num_classes} class shares, found {len(prior)}")
        self.add_state("mean_probs", uniform)
        self.add_state("target_prior", prior / prior.sum())

    def observe(self, signals: Signals) -> None:
        follow(self.mean_probs, signals.probs, self.momentum)

    def forward(self, probs: Tensor) -> Tensor:
        ratio = self.target_prior.clamp_min(1e-12) / self.mean_probs.clamp_min(1e-12)
        return normalized(probs.float() * ratio).to(probs.dtype)


class AlignToLabeled(Align):
    """Distribution alignment to predictions on labeled rows: q′ = Norm(q · E[p] / E[q]), p: labeled, q: unlabeled rows.

    Both expectations are moving averages over batches, because a batch has few labeled rows. They start at 1/C.

    *Relations*: `Align` whose prior u is the moving average E[p].

    Source: Berthelot et al. 2022 (AdaMatch), paragraph "Distribution alignment". Its released code averages E[q] over the
    last 128 batches instead.

    Args:
        momentum: m of E[q] ← m E[q] + (1 − m) mean q, and of E[p] likewise.

    >>> align = AlignToLabeled(momentum=0.); align.bind(2, 1)
    >>> p, q = torch.tensor([[.75, .25]]), torch.tensor([[.5, .5]])
    >>> align.observe(Signals(q, labeled_logits=p.log()))
    >>> align(q)
    tensor([[0.7500, 0.2500]])
    """

    def __init__(self, momentum: float = 0.999) -> None:
        super().__init__(prior=None, momentum=momentum)

    def observe(self, signals: Signals) -> None:
        super().observe(signals)
        follow(self.target_prior, self.need(signals, "labeled_logits").float().softmax(-1), self.momentum)


class Chain(Target):
    """Several targets, applied from left to right.

    Each target observes the teacher's probabilities, not the output of the target before it.

    *Relations*: `Soft` if there are no targets.

    Args:
        targets: the targets, in the order of application.

    >>> Chain(Sharpen(.5), Hard())(torch.tensor([[.8, .2]]))
    tensor([[1., 0.]])
    """

    def __init__(self, *targets: Target) -> None:
        super().__init__()
        self.targets = nn.ModuleList(targets)

    def forward(self, probs: Tensor) -> Tensor:
        for target in self.targets:
            probs = target(probs)
        return probs


def normalized(rows: Tensor) -> Tensor:
    """Scale rows to the sum 1. A row of zeros stays unchanged: the teacher has no prediction for it yet."""
    return rows / rows.sum(-1, keepdim=True).clamp_min(TINY)


def follow(average: Tensor, rows: Tensor, momentum: float) -> None:
    """average ← m · average + (1 − m) · mean of the rows, in float32 and in place. Without rows, nothing changes.

    >>> average = torch.tensor(.5); follow(average, torch.tensor([1., 0., 1., 1.]), momentum=.5); average
    tensor(0.6250)
    """
    if len(rows):
        average.lerp_(rows.float().mean(0), 1 - momentum)
