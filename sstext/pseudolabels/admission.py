"""Admission: how a method selects pseudo-labels between two rounds, composed of the parts of an objective."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from torch import nn

from sstext.errors import UserError
from sstext.objective.part import Part
from sstext.objective.targets import Hard, Target
from sstext.objective.weights import Everyone, Threshold, Weight

#: (confidence (N,), disagreement (N,) or None, random numbers) → priority (N,): rows of a class with a higher priority
#: are selected first.
Order = Callable[[np.ndarray, np.ndarray | None, np.random.Generator], np.ndarray]


def most_confident(
    confidence: np.ndarray, disagreement: np.ndarray | None = None, rng: np.random.Generator | None = None
) -> np.ndarray:
    """Priority is confidence."""
    return confidence


def easy(confidence: np.ndarray, disagreement: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
    """Rows are drawn with probability ∝ 1 − BALD. It is high if the dropout passes agree (UST, eq. 7)."""
    return _drawn(1 - _asked_for(disagreement, "easy"), rng)


def hard(confidence: np.ndarray, disagreement: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
    """Rows are drawn with probability ∝ BALD. It is high if the dropout passes disagree (UST, eq. 8)."""
    return _drawn(_asked_for(disagreement, "hard"), rng)


def _drawn(odds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Priorities by which the first n rows are n draws without replacement, each row with these odds.

    The priority is −Exp(1)/odds: of several exponential clocks, each one rings first with a probability ∝ its rate. Odds of
    0 or less count as 1e-10, so these rows come last, in random order.

    Source: Efraimidis & Spirakis 2006, "Weighted random sampling", section 3.
    """
    return -rng.exponential(size=len(odds)) / np.maximum(odds, 1e-10)


def _asked_for(disagreement: np.ndarray | None, order: str) -> np.ndarray:
    if disagreement is None:
        raise UserError(f"{order}: expected the disagreement of dropout passes, found none; give passes=30")
    return np.asarray(disagreement, dtype=np.float64)


@dataclass(frozen=True)
class Admission:
    """How pseudo-labels are selected from the scored corpus, and what the next student learns from them.

    A row is a candidate if its weight is above 0. Each class gets its quota of candidates, in an `order`. The
    pseudo-label is the most probable class of the target. The parts are those of an objective; the whole corpus is one
    step for them.

    Attributes:
        weight: how much a row counts in the training.
        target: what the student should predict; hard ones become class numbers.
        order: which rows of a class come first.
        quotas: share of the rows that a class gets: `prior`, or `equal` among the classes with labels. With `none`, all
            candidates are selected.
        refill: whether a class with too few candidates for its quota repeats them, in their order.
        align: whether the mean prediction is aligned to the prior first.
        passes: number of passes with dropout over the corpus. 0 means one pass without dropout.
        subset: number of rows in these passes, drawn at random. None means all rows.
        noise: whether the student reads the rows with token edits.
        history: whether all rounds so far count. A row whose label has changed since the round before is not selected, and rows
            are ordered by their mean margin instead of `order`.
        min_confidence: probability below which a row is never selected.

    >>> Admission(weight=Threshold(.9), quotas="none").refusal()
    'no text is predicted with a confidence of 0.9 or more'
    """

    weight: Weight = field(default_factory=Everyone)
    target: Target = field(default_factory=Hard)
    order: Order = most_confident
    quotas: str = "prior"
    refill: bool = False
    align: bool = True
    passes: int = 0
    subset: int | None = None
    noise: bool = True
    history: bool = False
    min_confidence: float = 0.0

    def __post_init__(self) -> None:
        if self.quotas not in ("prior", "equal", "none"):
            raise UserError(f"quotas: expected prior, equal or none, found {self.quotas!r}")
        if type(self.passes) is not int or self.passes < 0 or self.passes == 1:
            raise UserError(
                f"passes: expected a whole number of at least 2 dropout passes (or 0: none), found {self.passes!r}"
            )
        if self.subset is not None and (type(self.subset) is not int or self.subset < 1):
            raise UserError(f"subset: expected a number of rows of at least 1, found {self.subset!r}")

    def parts(self) -> list[Part]:
        """Every part once, even if two other parts share it."""
        return [module for module in nn.ModuleList([self.weight, self.target]).modules() if isinstance(module, Part)]

    def scored_rows(self, corpus: int) -> int:
        """Number of rows of a corpus that are candidates."""
        return min(corpus, self.subset) if self.passes and self.subset is not None else corpus

    def at_most(self, corpus: int, share: float) -> int:
        """Number of rows of a corpus that can be selected at most, given a share."""
        return self.scored_rows(corpus) if self.quotas == "none" else max(1, round(share * self.scored_rows(corpus)))

    def class_shares(self, prior: np.ndarray) -> np.ndarray:
        """The shares that the quotas follow, (C,)."""
        return prior if self.quotas == "prior" else (prior > 0) / (prior > 0).sum()

    def refusal(self) -> str:
        """Why no row was selected."""
        needed = max(self.min_confidence, self.weight.threshold if isinstance(self.weight, Threshold) else 0.0)
        if self.history:
            sure = f", with a confidence of {needed} or more" if needed else ""
            return f"no text has the label that it had in the round before{sure}"
        if needed:
            return f"no text is predicted with a confidence of {needed} or more"
        return f"no text is given a weight ({type(self.weight).__name__})"
