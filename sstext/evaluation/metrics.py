"""Metrics of predictions, and their bootstrap intervals.

N rows, C classes. Every metric is a function of predictions, references and `weights` (..., N), how often each row
counts (default: 1 each). The same implementation therefore computes a data set and thousands of its resamples at once.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sstext.errors import UserError, listed
from sstext.evaluation.calibration import softmax
from sstext.evaluation.intervals import wilson_interval

Floats = NDArray[np.float64]


Weights = Floats | None


BINS = 15


#: Elements of one (resamples, N) array in the bootstrap. About twelve such arrays, with 8 bytes per element, exist at
#: once.
CHUNK_ELEMENTS = 2**19


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
    found, references, weights = _check_inputs(predictions, references, weights)
    labels = found.argmax(1) if found.ndim == 2 else found
    classes = np.arange(found.shape[1] if found.ndim == 2 else max(labels.max(), references.max()) + 1)
    predicted, actual = labels[:, None] == classes, references[:, None] == classes  # (N, C)
    return ClassCounts(*(weights @ rows.astype(np.float64) for rows in (predicted & actual, predicted, actual)))


def negative_log_likelihood(probabilities: ArrayLike, references: ArrayLike, weights: Weights = None) -> Floats:
    """Mean −log p(reference) in nats, (...). p is clipped at 2⁻⁵², so that an error with p = 0 stays finite.

    >>> round(float(negative_log_likelihood([[.5, .5]], [0])), 6)
    0.693147
    """
    probabilities, references, weights = _check_inputs(probabilities, references, weights, dimensions=(2,))
    likelihood = probabilities[np.arange(len(references)), references]
    return weights @ -np.log(likelihood.clip(np.finfo(float).eps, 1)) / weights.sum(-1)


def brier_score(probabilities: ArrayLike, references: ArrayLike, weights: Weights = None) -> Floats:
    """Mean squared distance between probabilities and one-hot reference, Σ_c (p_c − y_c)² in [0, 2], (...).

    Source: Brier 1950, "Verification of forecasts expressed in terms of probability".

    >>> float(brier_score([[.75, .25]], [0]))
    0.125
    """
    probabilities, references, weights = _check_inputs(probabilities, references, weights, dimensions=(2,))
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
    probabilities, references, weights = _check_inputs(probabilities, references, weights, dimensions=(2,))
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


#: Names of the metrics that `bootstrap` can compute.
METRICS = ("accuracy", "macro_f1", "expected_calibration_error", "nll", "brier")


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


def bootstrap(
    metrics: Sequence[str],
    probabilities: ArrayLike,
    references: ArrayLike,
    *,
    resamples: int = 9999,
    confidence_level: float = 0.95,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Metrics with percentile intervals over resampled rows: name → {"score", "confidence_interval", "standard_error"}.

    The interval of the expected calibration error is shifted by score − mean(resampled) and cut at 0. Otherwise the
    percentiles of a calibrated model often exclude its score. If every row is correct, or none, all resamples have the
    same accuracy. Its interval is then Wilson's. Memory is bounded for all N and `resamples`.

    Args:
        metrics: names from `METRICS`.
        probabilities: (N, C), rows that sum to 1.
        references: (N,) classes.
        resamples: number of resampled data sets, each of N rows drawn with replacement, at least 2.
        confidence_level: share of the resampled scores between low and high, in (0, 1).
        seed: seed of the draws. Equal seeds and N give equal resamples.

    Raises:
        UserError: if a metric is unknown, a number is out of range, or probabilities and references do not match.

    Source: Efron 1979, "Bootstrap methods: another look at the jackknife". The result has the format of evaluate's
    evaluator.

    >>> bootstrap(["macro_f1"], [[.75, .25]], [0])
    {'macro_f1': {'score': 1.0, 'confidence_interval': (1.0, 1.0), 'standard_error': 0.0}}
    """
    unknown = [name for name in metrics if name not in METRICS]
    if unknown:
        raise UserError(f"metrics: expected names among {listed(METRICS)}, found {listed(unknown)}")
    if resamples < 2 or not 0 < confidence_level < 1:
        found = f"{resamples} and {confidence_level}"
        raise UserError(f"expected at least 2 resamples and a confidence level between 0 and 1, found {found}")
    probabilities, references, _ = _check_inputs(probabilities, references, dimensions=(2,))
    chunks = [
        {name: measure(name, probabilities, references, weights) for name in metrics}
        for weights in _resampled_weights(len(references), resamples, seed)
    ]
    results = {}
    for name in metrics:
        score = float(measure(name, probabilities, references))
        values = np.concatenate([chunk[name] for chunk in chunks])
        low, high = np.quantile(values, [(1 - confidence_level) / 2, (1 + confidence_level) / 2])
        if name == "expected_calibration_error":  # repeated rows increase it, as fewer rows do
            bias = values.mean() - score
            low, high = max(low - bias, 0.0), high - bias
        elif name == "accuracy" and score in (0, 1):  # no resample differs
            low, high = wilson_interval(score, len(references), confidence_level)
        interval, error = (float(low), float(high)), float(values.std(ddof=1))
        results[name] = {"score": score, "confidence_interval": interval, "standard_error": error}
    return results


def evaluate_predictions(
    probabilities: ArrayLike,
    references: ArrayLike,
    class_names: Sequence[str],
    *,
    resamples: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Everything in results.json about predictions (N, C), as plain Python numbers. For the arguments, see `bootstrap`.

    The default is 9,999 resamples, and fewer (at least 999) if N is above 20,000: with many rows, intervals are narrow
    and resampling is slow.

    Returns:
        "rows"; "metrics", all `METRICS` in the format of `bootstrap`; "micro_f1", "weighted_f1" and
        "matthews_correlation"; "per_class", name → {"precision", "recall", "f1", "support"}; "confusion_matrix",
        C lists of C counts, with one row per reference class and one column per predicted class.

    Raises:
        UserError: if class names, probabilities and references do not match.
    """
    probabilities, references, _ = _check_inputs(probabilities, references, dimensions=(2,))
    if resamples is None:
        resamples = max(999, min(9_999, 200_000_000 // len(references)))
    num_classes = probabilities.shape[1]
    if not len(class_names) == len(set(class_names)) == num_classes:
        raise UserError(f"class_names: expected {num_classes} different names, found {listed(list(class_names))}")
    counts, confusion = count_classes(probabilities, references), np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(confusion, (references, probabilities.argmax(1)), 1)
    columns = {name: getattr(counts, name).tolist() for name in ("precision", "recall", "f1")}
    columns["support"] = confusion.sum(1).tolist()
    return {
        "rows": len(references),
        "metrics": bootstrap(METRICS, probabilities, references, resamples=resamples, seed=seed),
        **{name: float(getattr(counts, name)) for name in ("micro_f1", "weighted_f1", "matthews_correlation")},
        "per_class": {name: {key: column[c] for key, column in columns.items()} for c, name in enumerate(class_names)},
        "confusion_matrix": confusion.tolist(),
    }


def _check_inputs(
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


def _resampled_weights(num_rows: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Yield chunks (r, N) with the number of times that each of r resamples contains each row.

    The size of the chunks does not change the draws.
    """
    rng, chunk = np.random.default_rng(seed), max(1, CHUNK_ELEMENTS // num_rows)
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        cells = rng.integers(num_rows, size=(size, num_rows)) + num_rows * np.arange(size)[:, None]
        yield np.bincount(cells.ravel(), minlength=cells.size).reshape(cells.shape).astype(np.float64)


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
