"""The accuracy of a model on texts without true labels, estimated from labeled rows that it was not trained on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sstext.evaluation.intervals import effective_rows, wilson_interval

#: Confidence level of the interval.
LEVEL = 0.9
#: How many rows of its own a held-out row is worth. The students of the chains are not the model, and rows that were predicted
#: by the same student err together. With 1, intervals of 90 % covered 82 % (recipes/benchmark/LOG.md).
WORTH_OF_HELD_OUT = 0.6
#: Rows that were drawn at random, from which on the accuracy is estimated from them alone, if others were chosen.
ENOUGH_DRAWN = 100


@dataclass(frozen=True)
class AccuracyEstimate:
    """The estimated accuracy of a model, with its interval.

    Attributes:
        value: the estimate, in [0, 1].
        low, high: ends of the interval.
        level: confidence level of the interval.
        rows: number of labeled rows.
        effective_rows: number of independent, equally weighted rows with which the interval is as wide.
        gain: the part of `value` that is the gain of the model over the students that predicted the rows.
    """

    value: float
    low: float
    high: float
    level: float
    rows: int
    effective_rows: float
    gain: float


def estimate_accuracy(
    right: ArrayLike, weights: ArrayLike | None = None, *, gain: float = 0.0, worth: float = 1.0
) -> AccuracyEstimate:
    """Estimate the accuracy from labeled rows, with Wilson's interval for the effective number of rows.

    a = Σ_i w_i r_i / Σ_i w_i + g, limited to [0, 1], and n = v (Σ_i w_i)² / Σ_i w_i².

    Args:
        right: (B,) r, whether each row is predicted correctly.
        weights: (B,) w, how often each row counts. Default: equally.
        gain: g, see `gain_over`. 0 if the model itself predicted the rows.
        worth: v, effective rows per row. `WORTH_OF_HELD_OUT` if other students predicted the rows.

    Source: Kish 1965, "Survey Sampling", section 8.2 (effective number of rows); v: measured in recipes/benchmark/LOG.md.

    >>> found = estimate_accuracy([True] * 7 + [False] * 3)
    >>> found.value, round(found.low, 3), round(found.high, 3)
    (0.7, 0.442, 0.873)
    """
    r = np.asarray(right, np.float64)
    w = np.ones(len(r)) if weights is None else np.asarray(weights, np.float64)
    value = float(np.clip((w * r).sum() / w.sum() + gain, 0, 1))
    effective = worth * effective_rows(w)
    low, high = wilson_interval(value, effective, LEVEL)
    return AccuracyEstimate(value, float(low), float(high), LEVEL, len(r), effective, gain)


def weights_of_random_labels(labels: NDArray) -> NDArray[np.float64]:
    """How often each labeled row counts, (B,), if the class shares of new texts are known only from these labels.

    w_i = (n_y + 1) / n_y with n_y rows of the class y of row i: the class shares are the posterior mean (n_y + 1) / (B + C).

    A class that happens to have many labels is also predicted well. With a weight of 1 each, such rows make the accuracy too
    high, by 2 to 5 points in recipes/benchmark/LOG.md. Balanced labels get equal weights.

    >>> weights_of_random_labels(np.array([0, 0, 1]))
    array([1.5, 1.5, 2. ])
    """
    counts = np.bincount(labels)
    return 1 + 1 / counts[labels]


def rows_that_count(drawn: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The labeled rows from which the accuracy is estimated, (B,): those that were drawn at random if they are enough, or all.

    Rows that were chosen because a model is unsure of them make the accuracy too low, by up to 8 points in
    recipes/benchmark/LOG.md. A few random rows are worse: with 2 to 20 of them, the error was 1.7 times as large as with all
    rows. Weights of the chosen rows did not help.

    Args:
        drawn: (B,) whether a row was drawn at random.

    >>> rows_that_count(np.array([True, False])), rows_that_count(np.arange(101) > 0).sum()
    (array([ True,  True]), np.int64(100))
    """
    return drawn if drawn.sum() >= ENOUGH_DRAWN else np.ones(len(drawn), dtype=bool)


def gain_over(probabilities: NDArray, predicted: NDArray, others: NDArray) -> float:
    """The expected gain in accuracy of a model over other models on the same unlabeled rows, from their probabilities.

    g = mean_i (q_i[ŷ_i] − mean_k q_i[ŷ_ik]). Rows for which all models predict the same class do not count.

    Args:
        probabilities: (N, C) q, calibrated.
        predicted: (N,) ŷ, classes that the model predicts.
        others: (K, N) classes that the other models predict.

    >>> gain_over(np.array([[.75, .25], [.5, .5]]), np.array([0, 0]), np.array([[1, 0], [0, 1]]))
    0.125
    """
    rows = np.arange(len(predicted))
    return float((probabilities[rows, predicted] - probabilities[rows, others].mean(0)).mean())
