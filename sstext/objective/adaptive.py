"""Thresholds that adapt during training. Their weights (N,) are 0 or 1.

Each class states whether it observes a step before or after it weighs the step's rows, because papers differ in this
order.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from sstext.objective.part import Signals, in_range, last_of_each, yes_or_no
from sstext.objective.targets import Hard, Sharpen, Soft, Target, follow
from sstext.objective.weights import Weight


class Curriculum(Weight):
    """A row counts if the teacher is confident. The threshold is lower for classes that are learned more slowly.

    w = 1[max q ≥ T(argmax q)], T(c) = M(β(c)) · τ, M(x) = x / (2 − x). σ(c) = number of corpus rows (of N) whose last
    prediction with max q ≥ τ was c. With warm-up, β(c) = σ(c) / max{max σ, N − Σ σ}. Without it, β(c) = σ(c) / max σ.

    A step is weighed with the counts **before** it, then counted. At first no row has been confident. With warm-up, all
    T(c) are then 0 and every row counts. Without warm-up, β = 0/0 is set to 1, its value for any equal counts, so
    T(c) = τ (released code: 0). State: one integer per corpus row.

    Source: Zhang et al. 2021 (FlexMatch), sections 3.1 to 3.3 and algorithm 1.

    Args:
        threshold: τ.
        warmup: keep all thresholds low while most rows have never been predicted with confidence.

    >>> curriculum = Curriculum(threshold=.8); curriculum.bind(2, 2)
    >>> rows = Signals(torch.tensor([[.9, .1], [.3, .7]]), ids=torch.tensor([0, 1]))
    >>> curriculum.observe(rows); curriculum(rows)  # no row has been counted yet: T = [0, 0]
    tensor([1., 1.])
    >>> curriculum.observe(rows); curriculum.thresholds  # σ = [1, 0], one row of two was never confident
    tensor([0.8000, 0.0000])
    """

    early = True
    last_class: Tensor
    counts: Tensor
    thresholds: Tensor

    def __init__(self, threshold: float = 0.95, warmup: bool = True) -> None:
        super().__init__()
        self.threshold, self.warmup = in_range("threshold", threshold, 0, 1), yes_or_no("warmup", warmup)

    def bind(self, num_classes: int, num_rows: int) -> None:
        self.register_buffer("last_class", torch.full((num_rows,), -1, dtype=torch.int32))  # −1: never confident
        self.register_buffer("counts", torch.zeros(num_classes, dtype=torch.long))  # σ, of `last_class`
        self.add_state("thresholds", self._thresholds())

    def observe(self, signals: Signals) -> None:
        self.thresholds.copy_(self._thresholds())
        confidence, predicted = signals.probs.float().max(-1)
        sure = confidence >= self.threshold
        ids, predicted = self.need(signals, "ids")[sure], predicted[sure]
        last = last_of_each(ids)
        rows, after = ids[last], predicted[last]
        before = self.last_class[rows].long()
        self.counts += self._count(after) - self._count(before)
        self.last_class[rows] = after.int()

    def forward(self, signals: Signals) -> Tensor:
        return _reaches(signals.probs, self.thresholds)

    def _count(self, classes: Tensor) -> Tensor:
        return F.one_hot(classes + 1, len(self.counts) + 1).sum(0)[1:]  # (C,), without the −1s

    def _thresholds(self) -> Tensor:
        best, never = self.counts.max(), len(self.last_class) - self.counts.sum()
        if self.warmup:
            learned = self.counts / torch.maximum(best, never).clamp_min(1)
        else:
            learned = torch.where(best > 0, self.counts / best.clamp_min(1), 1)
        return learned / (2 - learned) * self.threshold


class SelfAdaptive(Weight):
    """A row counts if the teacher's confidence reaches a moving threshold for the predicted class.

    w = 1[max q ≥ T(argmax q)], T(c) = p̃(c) / max p̃ · τ. τ, p̃ and h̃ start at 1/C and are moving averages over
    batches: τ ← λ τ + (1 − λ) mean max q, p̃ ← λ p̃ + (1 − λ) mean q, h̃ ← λ h̃ + (1 − λ) share of each class among
    argmax q.

    A step is observed first, then weighed.

    Source: Wang et al. 2023 (FreeMatch), eqs. 5–8. Only the fairness loss (`Fairness`) uses h̃.

    Args:
        momentum: λ.

    Attributes:
        confidence: τ.
        mean_probs: (C,) p̃.
        histogram: (C,) h̃.

    >>> adaptive = SelfAdaptive(momentum=.9); adaptive.bind(2, 1)
    >>> adaptive.observe(Signals(torch.tensor([[.9, .1], [.6, .4]])))
    >>> adaptive.thresholds
    tensor([0.5250, 0.4750])
    """

    early = True
    confidence: Tensor
    mean_probs: Tensor
    histogram: Tensor

    def __init__(self, momentum: float = 0.999) -> None:
        super().__init__()
        self.momentum = in_range("momentum", momentum, 0, 1)

    def bind(self, num_classes: int, num_rows: int) -> None:
        self.add_state("confidence", torch.tensor(1 / num_classes))
        self.add_state("mean_probs", torch.full((num_classes,), 1 / num_classes))
        self.add_state("histogram", torch.full((num_classes,), 1 / num_classes))

    @property
    def thresholds(self) -> Tensor:
        """T, (C,)."""
        return self.mean_probs / self.mean_probs.max().clamp_min(1e-12) * self.confidence

    def observe(self, signals: Signals) -> None:
        confidence, predicted = signals.probs.float().max(-1)
        follow(self.confidence, confidence, self.momentum)
        follow(self.mean_probs, signals.probs, self.momentum)
        follow(self.histogram, F.one_hot(predicted, signals.probs.shape[-1]), self.momentum)

    def forward(self, signals: Signals) -> Tensor:
        return _reaches(signals.probs, self.thresholds)


class Relative(Weight):
    """A row counts if the teacher is about as confident as the student is on labeled rows.

    w = 1[max q′ ≥ c], c = factor · mean over labeled rows of max p, q′ = `of`(q), p = softmax of the labeled logits.

    A step is observed first, then weighed.

    Source: Berthelot et al. 2022 (AdaMatch), paragraph "Relative confidence threshold".

    Args:
        factor: the threshold as a fraction of the confidence on labeled rows (paper: .9).
        of: the target part that computes q′ (AdaMatch: `AlignToLabeled`). Default: q′ = q.
        momentum: with 0, only the labeled rows of the current batch are used, as in the paper. Above 0, their
            confidence is a moving average that starts at 1/C.

    >>> relative = Relative(); relative.bind(2, 1)
    >>> rows = Signals(torch.tensor([[.75, .25], [.7, .3]]), labeled_logits=torch.tensor([[.8, .2]]).log())
    >>> relative.observe(rows); relative(rows)  # c = .72
    tensor([1., 0.])
    """

    confidence: Tensor

    def __init__(self, factor: float = 0.9, of: Target | None = None, momentum: float = 0.0) -> None:
        super().__init__()
        self.factor, self.momentum = in_range("factor", factor, 0), in_range("momentum", momentum, 0, 1)
        self.of = of if of is not None else Soft()

    def bind(self, num_classes: int, num_rows: int) -> None:
        self.add_state("confidence", torch.tensor(1 / num_classes))

    def observe(self, signals: Signals) -> None:
        labeled = self.need(signals, "labeled_logits").float().softmax(-1)
        follow(self.confidence, labeled.amax(-1), self.momentum)

    def forward(self, signals: Signals) -> Tensor:
        confidence = self.of(signals.probs).float().amax(-1)
        return (confidence >= self.factor * self.confidence).to(signals.probs.dtype)


class LossThreshold(Weight):
    """A row counts if the loss on its own target is below a bound. The bound falls during training.

    w = 1[H(target, q) ≤ ρ], ρ = max(c · γ^−k · ρ₀, floor). The target is q sharpened by T while ρ is above its floor,
    and argmax q afterwards. `SoftThenHard` gives the student the same target. During the warm-up no row counts. ρ₀ is
    the mean loss of the labeled rows between the warm-up and the first reduction. If no step lies between them, ρ₀ is
    the mean loss of the first step after the reduction. k = ⌊(t/T − warmup) / interval⌋ is the number of reductions so
    far. A step is observed first, then weighed.

    With the defaults and ρ₀ = .5, ρ reaches .05 after 10 reductions, at 60 % of the training.

    Source: Xu et al. 2021 (Dash), section 4 and algorithm 1; warm-up, T, floor and numbers: section 6. In the paper, ρ₀
    is the loss of all labeled rows at once. In the released code, every row counts during the warm-up, ρ₀ is the mean
    loss of unlabeled rows, c is not used, and the target is argmax q (with < instead of ≤) from the start.

    Args:
        c, gamma, floor: as above (paper: 1.0001, 1.27, .05).
        warmup: share of the training before any row counts (released code: 10 of 1024 epochs).
        interval: share of the training between two reductions (released code: 9 of 1024 epochs).
        temperature: T (paper: .5).

    Attributes:
        bound: ρ. Until the warm-up is over, it is log C, the loss of uniform predictions.
        initial_loss: ρ₀.
        rows_seen: number of labeled rows in the mean ρ₀.

    >>> part = LossThreshold(warmup=0.); part.bind(2, 1)
    >>> p, labels = torch.tensor([[.6, .4]]), torch.tensor([0])
    >>> rows = Signals(torch.tensor([[.9, .1], [.6, .4]]), labeled_logits=p.log(), labels=labels)
    >>> part.observe(rows); part(rows)  # ρ = −log .6 = .511; targets (.988, .012), (.692, .308) cost .132 and .636
    tensor([1., 0.])
    """

    bound: Tensor
    initial_loss: Tensor
    rows_seen: Tensor

    def __init__(
        self,
        c: float = 1.0001,
        gamma: float = 1.27,
        floor: float = 0.05,
        warmup: float = 0.1,
        interval: float = 0.05,
        temperature: float = 0.5,
    ) -> None:
        super().__init__()
        self.c, self.gamma, self.floor = in_range("c", c, 0), in_range("gamma", gamma, 1), in_range("floor", floor, 0)
        self.warmup, self.interval = in_range("warmup", warmup, 0, 1), in_range("interval", interval, 1e-3, 1)
        self.soft, self.hard = Sharpen(temperature), Hard()

    def bind(self, num_classes: int, num_rows: int) -> None:
        self.add_state("bound", torch.tensor(math.log(num_classes)))
        self.add_state("initial_loss", torch.tensor(0.0))
        self.add_state("rows_seen", torch.tensor(0.0))

    def observe(self, signals: Signals) -> None:
        if signals.progress < self.warmup:
            return
        # 1e-9, because .15 − .1 is slightly less than .05 in floating point
        reductions = math.floor((signals.progress - self.warmup) / self.interval + 1e-9)
        if reductions == 0 or self.rows_seen == 0:
            logits, labels = self.need(signals, "labeled_logits"), self.need(signals, "labels")
            self.rows_seen += len(labels)
            share = len(labels) / float(self.rows_seen.clamp_min(1))
            follow(self.initial_loss, F.cross_entropy(logits.float(), labels, reduction="none"), 1 - share)
        self.bound.copy_((self.c * self.gamma**-reductions * self.initial_loss).clamp_min(self.floor))

    def target(self, probs: Tensor) -> Tensor:
        """The target (N, C) of the loss that is compared with ρ."""
        return torch.where(self.bound > self.floor, self.soft(probs), self.hard(probs))

    def forward(self, signals: Signals) -> Tensor:
        q = signals.probs.float()
        loss = -torch.xlogy(self.target(q), q).sum(-1)  # xlogy is 0 if both q and the target are 0
        return ((loss <= self.bound) & (signals.progress >= self.warmup)).to(signals.probs.dtype)


class SoftThenHard(Target):
    """Sharpened probabilities until the bound of a `LossThreshold` reaches its floor, argmax q afterwards.

    Source: Xu et al. 2021 (Dash), section 6.

    Args:
        until: the weight. It also holds the temperature, so both use the same target.

    >>> part = LossThreshold(temperature=.5); part.bind(2, 1)
    >>> SoftThenHard(until=part)(torch.tensor([[.8, .2]]))  # .64 : .04
    tensor([[0.9412, 0.0588]])
    """

    def __init__(self, until: LossThreshold) -> None:
        super().__init__()
        self.until = until

    def forward(self, probs: Tensor) -> Tensor:
        return self.until.target(probs)


def _reaches(probs: Tensor, thresholds: Tensor) -> Tensor:
    """1[max q ≥ threshold of argmax q], (N, C) and (C,) → (N,)."""
    confidence, predicted = probs.float().max(-1)
    return (confidence >= thresholds[predicted]).to(probs.dtype)
