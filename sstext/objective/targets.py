"""Which target the student is given: a function of the teacher's probabilities, (N, C) → (N, C)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from sstext.errors import UserError
from sstext.objective.part import Part, Signals, in_range


class Target(Part):
    """Teacher's probabilities (N, C) → what the student should predict (N, C), rows summing to 1."""

    def forward(self, probs: Tensor) -> Tensor:
        raise NotImplementedError


class Soft(Target):
    """The probabilities as they are: q.

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


class Align(Target):
    """Distribution alignment: q′ = Norm(q · u / E[q]), with E[q] a moving average over batches that starts at 1/C.

    Source: Berthelot et al. 2020 (ReMixMatch), section 3.1; with u uniform as in Chen et al. 2023 (SoftMatch), section 3.2.

    Args:
        prior: (C,) class shares u; None is uniform. Uniform alignment hurts where classes are truly imbalanced.
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
        self.prior = None if prior is None else [in_range("prior", share, 1e-12) for share in prior]

    def bind(self, num_classes: int, num_rows: int) -> None:
        uniform = torch.full((num_classes,), 1 / num_classes)
        prior = uniform if self.prior is None else torch.tensor(self.prior, dtype=torch.float32)
        if prior.shape != (num_classes,):
            raise UserError(f"Align: expected a prior of {num_classes} class shares, found {len(prior)}")
        self.add_state("mean_probs", uniform)
        self.add_state("target_prior", prior / prior.sum())

    def observe(self, signals: Signals) -> None:
        self.mean_probs.lerp_(signals.probs.float().mean(0), 1 - self.momentum)

    def forward(self, probs: Tensor) -> Tensor:
        aligned = probs.float() * (self.target_prior / self.mean_probs.clamp_min(1e-12))
        return (aligned / aligned.sum(-1, keepdim=True)).to(probs.dtype)
