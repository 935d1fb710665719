"""How much a row counts: a function of the teacher's probabilities, (N, C) → (N,) in [0, 1].

The same parts serve inside a training step and between rounds, where the whole corpus is one step.
"""

import torch
from torch import Tensor

from sstext.objective.part import Part, Signals, in_range
from sstext.objective.targets import Soft, Target


class Weight(Part):
    """Signals of a step → weight (N,) of every unlabeled row, in the type of the probabilities."""

    def forward(self, signals: Signals) -> Tensor:
        raise NotImplementedError


class Everyone(Weight):
    """Every row counts in full: w = 1.

    >>> Everyone()(Signals(torch.tensor([[.75, .25]])))
    tensor([1.])
    """

    def forward(self, signals: Signals) -> Tensor:
        return torch.ones_like(signals.probs[:, 0])


class Threshold(Weight):
    """A row counts where the teacher is confident: w = 1[max q ≥ τ].

    Source: Sohn et al. 2020 (FixMatch), eq. 4.

    Args:
        threshold: τ. Above 1 no row ever counts; at 0 every row does.

    >>> Threshold(.75)(Signals(torch.tensor([[.75, .25], [.5, .5]])))
    tensor([1., 0.])
    """

    def __init__(self, threshold: float = 0.95) -> None:
        super().__init__()
        self.threshold = in_range("threshold", threshold, 0)

    def forward(self, signals: Signals) -> Tensor:
        return (signals.probs.amax(-1) >= self.threshold).to(signals.probs.dtype)


class Gaussian(Weight):
    """A row counts less the further its confidence lies below the usual one (truncated Gaussian).

    w = 1 where max q′ ≥ μ, else exp(−(max q′ − μ)² / (2 σ²)), with moving averages of the mean μ and the unbiased variance
    σ² of max q over batches; μ₀ = 1/C, σ²₀ = 1. Statistics are of the plain q, the weight is of q′ = `of`(q).

    Source: Chen et al. 2023 (SoftMatch), eqs. 5–8.

    Args:
        momentum: m of μ ← m μ + (1 − m) mean, and of σ² likewise.
        n_sigma: the released code divides σ² by n_sigma² (there 2); the paper's equation is n_sigma = 1.
        of: the target part that gives q′ (SoftMatch: `Align`).

    >>> gaussian = Gaussian(momentum=.9); gaussian.bind(2, 1)
    >>> gaussian.observe(Signals(torch.tensor([[.9, .1], [.4, .6]])))
    >>> gaussian(Signals(torch.tensor([[.51, .49], [.6, .4]])))
    tensor([0.9999, 1.0000])
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, momentum: float = 0.999, n_sigma: float = 1.0, of: Target | None = None) -> None:
        super().__init__()
        self.momentum, self.n_sigma = in_range("momentum", momentum, 0, 1), in_range("n_sigma", n_sigma, 1e-3)
        self.of = of if of is not None else Soft()

    def bind(self, num_classes: int, num_rows: int) -> None:
        self.add_state("mean", torch.tensor(1 / num_classes))
        self.add_state("variance", torch.tensor(1.0))

    def observe(self, signals: Signals) -> None:
        confidence = signals.probs.float().amax(-1)
        self.mean.lerp_(confidence.mean(), 1 - self.momentum)
        if len(confidence) > 1:  # one row has no unbiased variance
            self.variance.lerp_(confidence.var(unbiased=True), 1 - self.momentum)

    def forward(self, signals: Signals) -> Tensor:
        below = (self.of(signals.probs).float().amax(-1) - self.mean).clamp_max(0)
        variance = (self.variance / self.n_sigma**2).clamp_min(1e-12)
        return torch.exp(-(below**2) / (2 * variance)).to(signals.probs.dtype)
