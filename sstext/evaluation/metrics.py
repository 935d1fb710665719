"""Metrics of predictions.

N rows, C classes. Every metric is a function of predictions, references and `weights` (..., N), how often each row
counts (default: 1 each). The same implementation therefore computes a data set and thousands of its resamples at once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sstext.errors import UserError
from sstext.evaluation.calibration import softmax

Floats = NDArray[np.float64]
Weights = Floats | None

BINS = 15


@dataclass(frozen=True)
class ClassCounts:
    """Number of correct, predicted and actual rows of each class, (..., C) each. A ratio with denominator 0 is 0.

    >>> count_classes([0, 0, 1], [0, 1, 1]).precision
    array([0.5, 1. ])
    """

    hits: Floats
    predicted: Floats
    actual: Floats

    @property
    def precision(self) -> Floats:
        """hits / predicted, (..., C)."""
        return _ratio(self.hits, self.predicted)

    @property
    def recall(self) -> Floats:
        """hits / actual, (..., C)."""
        return _ratio(self.hits, self.actual)

    @property
    def f1(self) -> Floats:
        """2 hits / (predicted + actual), (..., C)."""
        return _ratio(2 * self.hits, self.predicted + self.actual)

    @property
    def accuracy(self) -> Floats:
        """Share of correct rows, (...)."""
        return self.hits.sum(-1) / self.actual.sum(-1)

    @property
    def macro_f1(self) -> Floats:
        """Mean F1 of the classes that occur in predictions or references, (...)."""
        return _ratio(self.f1.sum(-1), (self.predicted + self.actual > 0).sum(-1))

    @property
    def micro_f1(self) -> Floats:
        """F1 of the counts summed over classes, (...). With one label per row, it equals accuracy."""
        return _ratio(2 * self.hits.sum(-1), (self.predicted + self.actual).sum(-1))

    @property
    def weighted_f1(self) -> Floats:
        """Mean F1, weighted by the number of actual rows, (...)."""
        return _ratio((self.f1 * self.actual).sum(-1), self.actual.sum(-1))

    @property
    def matthews_correlation(self) -> Floats:
        """Correlation of predicted and actual class in [−1, 1], (...). It is 0 if either is constant.

        Source: Gorodkin 2004, "Comparing two K-category assignments by a K-category correlation coefficient".
        """
        rows = self.actual.sum(-1)
        covariance = self.hits.sum(-1) * rows - (self.predicted * self.actual).sum(-1)
        spread = (rows**2 - (self.predicted**2).sum(-1)) * (rows**2 - (self.actual**2).sum(-1))
        return _ratio(covariance, np.sqrt(spread))


def count_classes(predictions: ArrayLike, references: ArrayLike, weights: Weights = None) -> ClassCounts:
    """Count hits, predictions and references per class.

    Args:
        predictions: (N, C) probabilities, whose most probable class counts, or (N,) classes. With classes, C is the
            largest class that occurs plus one.
        references: (N,) classes.
        weights: (..., N) how often each row counts.

    Raises:
        UserError: if predictions and references do not match.
    """
    found, references, weights = check_inputs(predictions, references, weights)
    labels = found.argmax(1) if found.ndim == 2 else found
    classes = np.arange(found.shape[1] if found.ndim == 2 else max(labels.max(), references.max()) + 1)
    predicted, actual = labels[:, None] == classes, references[:, None] == classes  # (N, C)
    return ClassCounts(*(weights @ rows.astype(np.float64) for rows in (predicted & actual, predicted, actual)))


def negative_log_likelihood(probabilities: ArrayLike, references: ArrayLike, weights: Weights = None) -> Floats:
    """Mean −log p(reference) in nats, (...). p is clipped at 2⁻⁵², so that an error with p = 0 stays finite.

    >>> round(float(negative_log_likelihood([[.5, .5]], [0])), 6)
    0.693147
    """
    probabilities, references, weights = check_inputs(probabilities, references, weights, dimensions=(2,))
    likelihood = probabilities[np.arange(len(references)), references]
    return weights @ -np.log(likelihood.clip(np.finfo(float).eps, 1)) / weights.sum(-1)


def brier_score(probabilities: ArrayLike, references: ArrayLike, weights: Weights = None) -> Floats:
    """Mean squared distance between probabilities and one-hot reference, Σ_c (p_c − y_c)² in [0, 2], (...).

    Source: Brier 1950, "Verification of forecasts expressed in terms of probability".

    >>> float(brier_score([[.75, .25]], [0]))
    0.125
    """
    probabilities, references, weights = check_inputs(probabilities, references, weights, dimensions=(2,))
    one_hot = references[:, None] == np.arange(probabilities.shape[1])
    return weights @ ((probabilities - one_hot) ** 2).sum(1) / weights.sum(-1)


def expected_calibration_error(probabilities: ArrayLike, references: ArrayLike, weights: Weights = None) -> Floats:
    """Gap between confidence and accuracy, Σ_b n_b/N |accuracy_b − confidence_b| over 15 bins of equal mass, (...).

    The rows are sorted by confidence and cut into bins of N/15 rows. Rows of equal confidence are all in the bin of the
    first of them, so the order of the rows does not matter. The estimate is biased upwards: it is above 0 even for a
    perfectly calibrated model, and larger with fewer rows.

    Source: Guo et al. 2017, eq. 3; bins of equal mass: Nixon et al. 2019, "Measuring Calibration in Deep Learning".

    >>> float(expected_calibration_error([[.75, .25]] * 4, [0, 0, 1, 1]))
    0.25
    """
    probabilities, references, weights = check_inputs(probabilities, references, weights, dimensions=(2,))
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == references
    order = confidence.argsort()
    confidence, gap = confidence[order], (confidence - correct)[order]
    samples = np.atleast_2d(weights)[:, order]  # (R, N)
    total = samples.sum(1, keepdims=True)
    rows_below = (samples.cumsum(1) - samples)[:, confidence.searchsorted(confidence)]
    # A last row with weight 0 has all other rows below it. The minimum keeps it out of the next sample's bins.
    bin_of = np.minimum((BINS * rows_below / total).astype(np.int64), BINS - 1)
    cells = bin_of + BINS * np.arange(len(samples))[:, None]
    bin_gap = np.bincount(cells.ravel(), (samples * gap).ravel(), minlength=BINS * len(samples))
    return (np.abs(bin_gap).reshape(-1, BINS).sum(1) / total[:, 0]).reshape(weights.shape[:-1])


PROBABILITY_METRICS: dict[str, Callable[[ArrayLike, ArrayLike, Weights], Floats]] = {
    "expected_calibration_error": expected_calibration_error,
    "nll": negative_log_likelihood,
    "brier": brier_score,
}


def measure(name: str, predictions: ArrayLike, references: ArrayLike, weights: Weights = None) -> Floats:
    """One metric by name: a key of `PROBABILITY_METRICS`, or a property of `ClassCounts`."""
    if name in PROBABILITY_METRICS:
        return PROBABILITY_METRICS[name](predictions, references, weights)
    return getattr(count_classes(predictions, references, weights), name)


def check_inputs(
    predictions: ArrayLike, references: ArrayLike, weights: Weights = None, dimensions: tuple[int, ...] = (1, 2)
) -> tuple[NDArray[Any], NDArray[Any], Floats]:
    """Check predictions and references. Returns classes (N,) or float64 probabilities (N, C), references and weights.

    Raises:
        UserError: if they do not match or are out of range.
    """
    found, references = np.asarray(predictions), np.asarray(references)
    if found.ndim not in dimensions or references.shape != found.shape[:1] or not found.size:
        expected = "probabilities (N, C)" if dimensions == (2,) else "classes (N,) or probabilities (N, C)"
        raise UserError(f"expected {expected} and references (N,), found shapes {found.shape} and {references.shape}")
    if found.ndim == 1:
        _check_classes(found, "predictions", found.max() + 1)
        _check_classes(references, "references", references.max() + 1)
    else:
        found = found.astype(np.float64)
        unsound = ~((found >= 0).all(1) & (np.abs(found.sum(1) - 1) <= 1e-3))  # NaN is unsound too
        if unsound.any():
            sight = f"found {found[unsound.argmax()].tolist()} in row {unsound.argmax()}"
            raise UserError(f"probabilities: expected rows that sum to 1, {sight}; apply a softmax to logits first")
        _check_classes(references, "references", found.shape[1])
    return found, references, np.ones(len(found)) if weights is None else weights


def _check_classes(classes: NDArray[Any], name: str, num_classes: int) -> None:
    outside = (classes < 0) | (classes >= num_classes)
    if outside.any() or not np.issubdtype(classes.dtype, np.integer):
        found = f"found {classes[outside.argmax()]} in row {outside.argmax()}"
        raise UserError(f"{name}: expected integer classes 0 … {num_classes - 1}, {found}")


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """numerator / denominator, or 0 if the denominator is 0."""
    return np.divide(numerator, denominator, out=np.zeros(np.shape(numerator)), where=denominator > 0)


def development_metrics(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The metrics by which rounds and checkpoints are compared."""
    counts = count_classes(np.asarray(logits).argmax(-1), labels)
    return {"accuracy": float(counts.accuracy), "macro_f1": float(counts.macro_f1)}


def checkpoint_metrics(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """`development_metrics` and `choice`, the score by which the best step of a training is chosen.

    `choice` is macro-F1. With few rows, several steps often have the same macro-F1. Among these, the step with the
    lowest log-loss is chosen, because the first of them is hardly trained.
    """
    metrics = development_metrics(logits, labels)
    loss = float(negative_log_likelihood(softmax(np.asarray(logits, dtype=np.float64)), labels))
    return metrics | {"choice": metrics["macro_f1"] - 1e-4 * min(loss, 10.0)}
