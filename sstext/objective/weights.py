"""How much a row counts: signals of a step → (N,), in [0, 1] but for `InverseVariance`.

The same parts serve inside a training step and between rounds, where the whole corpus is one step. Thresholds that learn
stand in `adaptive.py`.
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

    As `label_weight` of an objective: → weight (B,) of every labeled row (`TrainingSignalAnnealing`).
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
    """A row counts where the teacher says anything at all: w = 1[Σ q > 0].

    A teacher that remembers (`History`) answers zeros for a row that it has not seen yet.

    >>> Known()(Signals(torch.tensor([[.75, .25], [0., 0.]])))
    tensor([1., 0.])
    """

    def forward(self, signals: Signals) -> Tensor:
        return (signals.probs.sum(-1) > 0).to(signals.probs.dtype)


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


class Confidence(Weight):
    """A row counts as much as its label is expected to be right: w = max q, of a q that is calibrated.

    >>> Confidence()(Signals(torch.tensor([[.75, .25], [.5, .5]])))
    tensor([0.7500, 0.5000])
    """

    def forward(self, signals: Signals) -> Tensor:
        return signals.probs.amax(-1)


class Gaussian(Weight):
    """A row counts less the further its confidence lies below the usual one (truncated Gaussian).

    w = 1 where max q′ ≥ μ, else exp(−(max q′ − μ)² / (2 σ²)), with moving averages of the mean μ and the unbiased variance
    σ² of max q over batches; μ₀ = 1/C, σ²₀ = 1. Statistics are of the plain q, the weight is of q′ = `of`(q).

    Source: Chen et al. 2023 (SoftMatch), eqs. 5–8. Its released code takes the statistics of q′, too.

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
        follow(self.mean, confidence, self.momentum)
        if len(confidence) > 1:  # one row has no unbiased variance
            self.variance.lerp_(confidence.var(unbiased=True), 1 - self.momentum)

    def forward(self, signals: Signals) -> Tensor:
        below = (self.of(signals.probs).float().amax(-1) - self.mean).clamp_max(0)
        variance = (self.variance / self.n_sigma**2).clamp_min(1e-12)
        return torch.exp(-(below**2) / (2 * variance)).to(signals.probs.dtype)


class InverseVariance(Weight):
    """A row counts the more, the less the passes of the teacher vary: w = α log(1 / Var), never below 0, beyond 1 mostly.

    Var = the variance over dropout passes of the probability of the predicted class. It is at most 1/4, and taken to be at
    least 1e-10 (as in the released code), so that w lies between 1.39 α and 23.03 α.

    Source: Mukherjee & Awadallah 2020 (UST), section 3.3. Its released code weighs by the variance of the first class's
    probability, whatever the predicted class.

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
    "none": lambda progress: math.inf,  # no row is ever known too well
}


class TrainingSignalAnnealing(Weight):
    """A **labeled** row counts only while it is not known too well: w = 1[p(label) < η], (B,) for `label_weight`.

    η = a (1 − 1/C) + 1/C rises from chance to 1 as a = t/T (linear), e^{5(t/T − 1)} (exp: late, for few labels, which are
    soon learned by heart) or 1 − e^{−5 t/T} (log: early, for many). It is the probability of the **correct** class that
    counts: by the maximal one, rows that are surely wrong would never be corrected.

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
