"""Weights of rows: signals of a step → (N,), in [0, 1] except for `InverseVariance`.

The same parts are used inside a training step and between rounds. Between rounds, the whole corpus is one step.
Adaptive thresholds are in `adaptive.py`.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from sstext.errors import UserError, nearest
from sstext.objective.part import Part, Signals, in_range
from sstext.objective.targets import Soft, Target, follow


class Weight(Part):
    """Signals of a step → weight (N,) of every unlabeled row, in the type of the probabilities.

    As the `label_weight` of an objective, it returns the weight (B,) of every labeled row (`TrainingSignalAnnealing`).
    """

    def forward(self, signals: Signals) -> Tensor:
        raise NotImplementedError


class Everyone(Weight):
    """Every row counts in full: w = 1.

    >>> Everyone()(Signals(torch.tensor([[.75, .25]])))
    tensor([1.])
    """

    def forward(self, signals: Signals) -> Tensor:
        return torch.ones_like(signals.probs[:, 0])


class Known(Weight):
    """A row counts if the teacher has a prediction for it: w = 1[Σ q > 0].

    The teacher `History` returns zeros for a row before its first visit.

    >>> Known()(Signals(torch.tensor([[.75, .25], [0., 0.]])))
    tensor([1., 0.])
    """

    def forward(self, signals: Signals) -> Tensor:
        return (signals.probs.sum(-1) > 0).to(signals.probs.dtype)


class Threshold(Weight):
    """A row counts if the teacher is confident: w = 1[max q ≥ τ].

    Source: Sohn et al. 2020 (FixMatch), eq. 4.

    Args:
        threshold: τ. Above 1 no row ever counts; at 0 every row does.

    >>> Threshold(.75)(Signals(torch.tensor([[.75, .25], [.5, .5]])))
    tensor([1., 0.])
    """

    early = True

    def __init__(self, threshold: float = 0.95) -> None:
        super().__init__()
        self.threshold = in_range("threshold", threshold, 0)

    def forward(self, signals: Signals) -> Tensor:
        return (signals.probs.amax(-1) >= self.threshold).to(signals.probs.dtype)


class Confidence(Weight):
    """The weight is the probability that the row's label is right: w = max q, for a calibrated q.

    >>> Confidence()(Signals(torch.tensor([[.75, .25], [.5, .5]])))
    tensor([0.7500, 0.5000])
    """

    def forward(self, signals: Signals) -> Tensor:
        return signals.probs.amax(-1)


class Gaussian(Weight):
    """A row counts less, the further its confidence is below the mean confidence (truncated Gaussian).

    w = 1 if max q′ ≥ μ, and exp(−(max q′ − μ)² / (2 σ²)) otherwise. μ and σ² are moving averages over batches of the
    mean and the unbiased variance of max q; μ₀ = 1/C, σ²₀ = 1. The statistics use q, the weight uses q′ = `of`(q).

    Source: Chen et al. 2023 (SoftMatch), eqs. 5–8. The released code uses q′ for the statistics, too.

    Args:
        momentum: m of μ ← m μ + (1 − m) mean, and of σ² likewise.
        n_sigma: σ² is divided by n_sigma² (paper: 1; released code: 2).
        of: the target part that computes q′ (SoftMatch: `Align`). Default: q′ = q.

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
        follow(self.mean, confidence, self.momentum)
        if len(confidence) > 1:  # one row has no unbiased variance
            self.variance.lerp_(confidence.var(unbiased=True), 1 - self.momentum)

    def forward(self, signals: Signals) -> Tensor:
        below = (self.of(signals.probs).float().amax(-1) - self.mean).clamp_max(0)
        variance = (self.variance / self.n_sigma**2).clamp_min(1e-12)
        return torch.exp(-(below**2) / (2 * variance)).to(signals.probs.dtype)


class InverseVariance(Weight):
    """A row counts more if the teacher's dropout passes agree: w = α log(1 / Var), at least 0 and usually above 1.

    Var = variance of the predicted class's probability over dropout passes. It is at most 1/4, and is clamped to at
    least 1e-10 (as in the released code), so w lies between 1.39 α and 23.03 α.

    Source: Mukherjee & Awadallah 2020 (UST), section 3.3. The released code uses the variance of the first class's
    probability, regardless of the predicted class.

    Args:
        alpha: α (paper: 1; released code: .1).

    >>> InverseVariance()(Signals(torch.tensor([[.75, .25], [.5, .5]]), variance=torch.tensor([.01, .25])))
    tensor([4.6052, 1.3863])
    """

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = in_range("alpha", alpha, 0)

    def forward(self, signals: Signals) -> Tensor:
        variance = self.need(signals, "variance").float().clamp(1e-10, 1)
        return (-self.alpha * variance.log()).to(signals.probs.dtype)


#: Schedule of `TrainingSignalAnnealing` → a(t/T).
ANNEALING: dict[str, Callable[[float], float]] = {
    "linear": lambda progress: progress,
    "exp": lambda progress: math.exp(5 * (progress - 1)),
    "log": lambda progress: 1 - math.exp(-5 * progress),
    "none": lambda progress: math.inf,  # every row counts
}


class TrainingSignalAnnealing(Weight):
    """A **labeled** row counts only while p(label) is below a bound: w = 1[p(label) < η], (B,) for `label_weight`.

    η = a (1 − 1/C) + 1/C rises from chance to 1, with a = t/T (linear), e^{5(t/T − 1)} (exp: rises late, for few
    labels, which are overfitted early) or 1 − e^{−5 t/T} (log: rises early, for many labels). The bound applies to the
    probability of the **correct** class. If it applied to the largest probability, confident mistakes would never be
    corrected.

    Source: Xie et al. 2020 (UDA), "Training Signal Annealing".

    Args:
        schedule: linear, exp, log, or none (every row counts).

    >>> annealing = TrainingSignalAnnealing("linear")
    >>> p, labels = torch.tensor([[.8, .2], [.8, .2]]), torch.tensor([0, 1])
    >>> annealing(Signals(p, labeled_logits=p.log(), labels=labels, progress=.5))  # η = .75
    tensor([0., 1.])
    """

    def __init__(self, schedule: str = "linear") -> None:
        super().__init__()
        if not isinstance(schedule, str) or schedule not in ANNEALING:
            raise UserError(f"annealing: no schedule {schedule!r}; {nearest(str(schedule), ANNEALING)}")
        self.schedule = schedule

    def bound(self, progress: float, num_classes: int) -> float:
        """η at t/T = `progress`, for C classes."""
        return ANNEALING[self.schedule](progress) * (1 - 1 / num_classes) + 1 / num_classes

    def forward(self, signals: Signals) -> Tensor:
        logits, labels = self.need(signals, "labeled_logits"), self.need(signals, "labels")
        correct = logits.float().softmax(-1).gather(-1, labels[:, None])[:, 0]  # (B,)
        return (correct < self.bound(signals.progress, logits.shape[-1])).float()
