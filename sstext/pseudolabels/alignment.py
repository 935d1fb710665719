"""Calibrated scores, aligned to class shares and read in slices."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sstext.errors import UserError
from sstext.evaluation.calibration import softmax

#: Number of rows of a corpus that statistics are computed on at most.
SLICE_ROWS = 100_000
#: Number of rows of a corpus that are processed together.
TOGETHER = 25_000


class Probabilities(Protocol):
    """Probabilities (N, C). An index returns rows as an array."""

    def __len__(self) -> int: ...
    def __getitem__(self, rows: Any, /) -> np.ndarray: ...


class Mean:
    """The mean of several students' probabilities (N, C) of the same rows, read in slices as each of them is.

    >>> Mean([np.array([[1., 0.]]), np.array([[.5, .5]])])[:1]
    array([[0.75, 0.25]])
    """

    def __init__(self, students: Sequence[Probabilities]) -> None:
        self.students = students

    def __len__(self) -> int:
        return len(self.students[0])

    def __getitem__(self, rows: Any) -> np.ndarray:
        return np.asarray(np.mean([student[rows] for student in self.students], axis=0))


def slices(rows: int) -> Iterator[slice]:
    """Consecutive slices of at most `TOGETHER` rows, which together cover all rows."""
    return (slice(start, min(rows, start + TOGETHER)) for start in range(0, rows, TOGETHER))


def align(probabilities: ArrayLike, prior: ArrayLike, *, iterations: int = 100) -> NDArray[np.float64]:
    """Align the mean prediction of a whole corpus to known class shares.

    q′ = Norm(q · u / E[q]), repeated until E[q′] is within 1e-6 of u. One iteration is what `objective.targets.Align`
    does with a moving average; the fixed point is q′_i ∝ q_i · w with the w (C,) that makes the mean equal u.

    Args:
        probabilities: (N, C) q, rows summing to 1.
        prior: (C,) class shares u, scaled to sum to 1. A class with share 0 gets no mass. A row whose whole mass is on such
            classes becomes u. A class without any mass in q cannot get any.
        iterations: at most this many.

    Returns:
        (N, C) q′ in float64, rows summing to 1.

    Raises:
        UserError: shapes that do not fit, or shares that are negative or not finite.

    Source: Berthelot et al. 2020 (ReMixMatch), section 3.1; repeated as in Sinkhorn and Knopp 1967.

    >>> align([[.9, .1], [.5, .5]], [.5, .5]).mean(0).round(3)
    array([0.5, 0.5])
    """
    probabilities, shares = _checked_shares(probabilities, prior)
    return reweight(probabilities, alignment(probabilities, shares, iterations=iterations), shares)


def alignment(probabilities: ArrayLike, prior: ArrayLike, *, iterations: int = 100) -> NDArray[np.float64]:
    """The class weights w, (C,), with which `align` computes q′_i ∝ q_i · w. It has the same arguments and errors."""
    probabilities, shares = _checked_shares(probabilities, prior)
    weights, aligned = np.ones_like(shares), probabilities
    for _ in range(iterations):
        mean = aligned.mean(0)
        if np.abs(mean - shares).max() <= 1e-6:
            break
        weights *= np.divide(shares, mean, out=np.zeros_like(mean), where=mean > 0)
        weights /= weights.max()  # only their ratios matter, and this prevents an overflow
        aligned = reweight(probabilities, weights, shares)
    return weights


def reweight(probabilities: NDArray[Any], weights: NDArray[Any], prior: NDArray[Any]) -> NDArray[np.float64]:
    """q′ = Norm(q · w) for the rows of (N, C). A row without mass on classes with a weight becomes the prior."""
    if (weights == 1).all():
        return probabilities  # bit for bit, because dividing by sums that are only nearly 1 would change them
    weighted = probabilities * weights
    mass = weighted.sum(1, keepdims=True)
    return np.where(mass > 0, weighted / np.where(mass > 0, mass, 1), prior)


class CalibratedScores:
    """Logits of a corpus (N, C), possibly on disk. An index returns calibrated and aligned probabilities of rows.

    Probabilities are computed only for the rows that are read, so the corpus may have any size.

    Args:
        logits: (N, C).
        temperature: T of softmax(logits / T).
        prior: (C,) class shares that the mean prediction is aligned to (see `align`). None means no alignment. With more
            than `SAMPLE` rows, the class weights are computed on so many of them, spread evenly.

    >>> CalibratedScores(np.zeros((4, 2)), 1.0, prior=np.array([.25, .75]))[:1]
    array([[0.25, 0.75]])
    """

    #: Rows that the class weights are computed on. A share of classes is then known to a thousandth or two.
    SAMPLE = 100_000

    def __init__(self, logits: NDArray[Any], temperature: float, prior: NDArray[Any] | None = None) -> None:
        self.logits, self.temperature, self.prior = logits, temperature, prior
        self.weights: NDArray[Any] | None = None
        if prior is not None and len(logits):
            self.weights = alignment(self._sample(), prior)

    def __len__(self) -> int:
        return len(self.logits)

    def mean(self) -> NDArray[np.float64]:
        """The mean prediction before any alignment, (C,), of at most `SAMPLE` rows."""
        return self._sample().mean(0)

    def _sample(self) -> NDArray[np.float64]:
        return self._probabilities(self.logits[:: -(-len(self.logits) // self.SAMPLE)])

    def __getitem__(self, rows: Any) -> NDArray[np.float64]:
        """Probabilities (n, C) of a slice or an array of rows."""
        probabilities = self._probabilities(self.logits[rows])
        if self.weights is None or self.prior is None:
            return probabilities
        return reweight(probabilities, self.weights, self.prior)

    def _probabilities(self, logits: NDArray[Any]) -> NDArray[np.float64]:
        return softmax(np.asarray(logits, dtype=np.float64), self.temperature)


@dataclass(frozen=True)
class CorpusScores:
    """The predictions of a student for a corpus of N rows, with their temperature.

    Attributes:
        logits: (N, C), possibly on disk.
        temperature: T of softmax(logits / T).
        with_probe: whether head and probe predicted together. These scores are already calibrated.
    """

    logits: NDArray[Any]
    temperature: float = 1.0
    with_probe: bool = False

    def __len__(self) -> int:
        return len(self.logits)

    def aligned(self, prior: NDArray[Any] | None = None) -> CalibratedScores:
        """Calibrated probabilities, aligned to class shares (C,) if they are given."""
        return CalibratedScores(self.logits, self.temperature, prior)

    def predicted_shares(self) -> NDArray[np.float64]:
        """Share of the corpus that is predicted as each class, (C,).

        >>> CorpusScores(np.array([[2.0, 0], [0, 1], [1, 0], [3, 0]])).predicted_shares()
        array([0.75, 0.25])
        """
        counts = np.zeros(self.logits.shape[1], dtype=np.int64)
        for some in slices(len(self)):
            counts += np.bincount(self.logits[some].argmax(-1), minlength=len(counts))
        return counts / len(self)


def _checked_shares(probabilities: ArrayLike, prior: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A copy of the probabilities (N, C) and the prior (C,) with sum 1, both float64, checked."""
    copied, shares = np.array(probabilities, dtype=np.float64), np.asarray(prior, dtype=np.float64)
    if copied.ndim != 2 or not copied.size or shares.shape != copied.shape[1:]:
        raise UserError(
            "expected probabilities (N, C) of at least one row and a prior (C,), "
            f"found shapes {copied.shape} and {shares.shape}"
        )
    # Written so that NaN fails too.
    unsound = ~((copied >= 0).all(1) & (np.abs(copied.sum(1) - 1) <= 1e-3))
    if unsound.any():
        row = unsound.argmax()
        raise UserError(
            f"probabilities: expected rows of shares that sum to 1, found {copied[row].tolist()} in row {row}"
        )
    if not ((shares >= 0).all() and 0 < shares.sum() < float("inf")):
        raise UserError(f"prior: expected class shares of 0 or more, not all 0, found {shares.tolist()}")
    return copied, shares / shares.sum()
