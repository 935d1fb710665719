"""The numbers in the figures: reliability, precision and coverage by threshold, confusion of classes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sstext.evaluation.intervals import wilson_interval

Floats = NDArray[np.float64]
#: Smallest number of rows in a bin of a reliability diagram, if there is more than one bin.
ROWS_PER_BIN = 12
#: Smallest number of rows above a threshold for which a precision is shown.
ROWS_FOR_PRECISION = 5


@dataclass(frozen=True)
class Reliability:
    """B bins of rows in the order of confidence: mean confidence, and accuracy with its 95 % interval."""

    confidence: Floats
    accuracy: Floats
    low: Floats
    high: Floats
    rows: NDArray[np.int64]


def reliability(probabilities: Floats, labels: NDArray[np.int64], bins: int = 10) -> Reliability:
    """Confidence against accuracy, in bins with the same number of rows.

    Args:
        probabilities: (N, C).
        labels: (N,) classes.
        bins: largest number of bins. There are fewer bins if a bin would have less than `ROWS_PER_BIN` rows.

    >>> found = reliability(np.array([[.75, .25]] * 4), np.array([0, 0, 0, 1]))
    >>> found.confidence, found.accuracy
    (array([0.75]), array([0.75]))
    """
    confidence, right = probabilities.max(-1), probabilities.argmax(-1) == labels
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, max(1, min(bins, len(order) // ROWS_PER_BIN)))
    counts = np.array([len(part) for part in parts])
    accuracy = np.array([right[part].mean() for part in parts])
    low, high = wilson_interval(accuracy, counts)
    return Reliability(np.array([confidence[part].mean() for part in parts]), accuracy, low, high, counts)


def confidence_counts(confidence: Floats, marked: NDArray[np.bool_], bins: int = 20) -> tuple[Floats, Floats, Floats]:
    """Histograms of the confidence of marked rows and of the other rows.

    Args:
        confidence: (N,) in [0, 1].
        marked: (N,).

    Returns:
        (bins + 1,) edges, (bins,) counts of marked rows and (bins,) counts of other rows.

    >>> [counts.tolist() for counts in confidence_counts(np.array([.2, .9, 1.]), np.array([True, True, False]), bins=2)]
    [[0.0, 0.5, 1.0], [1, 1], [0, 1]]
    """
    edges = np.linspace(0, 1, bins + 1)
    return edges, np.histogram(confidence[marked], edges)[0], np.histogram(confidence[~marked], edges)[0]


def precision_and_coverage(
    probabilities: Floats, labels: NDArray[np.int64], points: int = 101
) -> tuple[Floats, Floats, Floats]:
    """Precision and coverage of the rows whose confidence reaches a threshold.

    Args:
        probabilities: (N, C).
        labels: (N,) classes.

    Returns:
        (points,) thresholds from 0 to 1, precisions (NaN for fewer than `ROWS_FOR_PRECISION` rows), and coverages.

    >>> probabilities, labels = np.array([[.6, .4]] * 5 + [[.9, .1]] * 5), np.array([1] * 5 + [0] * 5)
    >>> thresholds, precision, coverage = precision_and_coverage(probabilities, labels, points=3)
    >>> precision.tolist(), coverage.tolist()
    ([0.5, 0.5, nan], [1.0, 1.0, 0.0])
    """
    confidence, right = probabilities.max(-1), probabilities.argmax(-1) == labels
    order = np.argsort(-confidence, kind="stable")
    hits = np.concatenate([[0], right[order].cumsum()])
    thresholds = np.linspace(0, 1, points)
    above = np.searchsorted(-confidence[order], -thresholds, side="right")
    precision = np.where(above >= ROWS_FOR_PRECISION, hits[above] / np.maximum(above, 1), np.nan)
    return thresholds, precision, above / len(labels)


@dataclass(frozen=True)
class ConfusedPair:
    """Texts of one class that are predicted as another class."""

    true: int
    predicted: int
    count: int
    share: float  #: of the texts of the true class


def confusion(probabilities: Floats, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts (C, C): one row per true class, one column per predicted class."""
    counts = np.zeros((probabilities.shape[1],) * 2, dtype=np.int64)
    np.add.at(counts, (labels, probabilities.argmax(-1)), 1)
    return counts


def row_shares(counts: NDArray[np.int64]) -> Floats:
    """Counts (C, C) as shares of their row. The row of a class without texts is 0.

    >>> row_shares(np.array([[3, 1], [0, 0]])).tolist()
    [[0.75, 0.25], [0.0, 0.0]]
    """
    return counts / np.maximum(counts.sum(1, keepdims=True), 1)


def confused_pairs(counts: NDArray[np.int64], limit: int = 15) -> list[ConfusedPair]:
    """The pairs of classes with the most mistakes, at most `limit`. Ties are sorted by the share of the true class.

    >>> [(pair.true, pair.predicted, pair.count) for pair in confused_pairs(np.array([[9, 1], [3, 0]]))]
    [(1, 0, 3), (0, 1, 1)]
    """
    shares = row_shares(counts)
    pairs = [
        ConfusedPair(int(i), int(j), int(counts[i, j]), float(shares[i, j]))
        for i, j in np.argwhere(counts > 0)
        if i != j
    ]
    return sorted(pairs, key=lambda pair: (-pair.count, -pair.share, pair.true, pair.predicted))[:limit]
