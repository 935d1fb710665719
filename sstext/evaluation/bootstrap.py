"""Metrics with confidence intervals: the bootstrap, and all figures of results.json about predictions.

N rows, C classes.
"""

from collections.abc import Iterator, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sstext.errors import UserError, listed
from sstext.evaluation.intervals import bounded_mean_interval, effective_rows, wilson_interval
from sstext.evaluation.metrics import Floats, check_inputs, count_classes, measure

#: Names of the metrics that `bootstrap` can compute, and the largest value of each.
LARGEST = {
    "accuracy": 1.0,
    "macro_f1": 1.0,
    "expected_calibration_error": 1.0,
    "nll": -float(np.log(np.finfo(float).eps)),
    "brier": 2.0,
}
METRICS = tuple(LARGEST)
#: Resampled scores within this range are equal: their sums were rounded differently.
EQUAL = 1e-12
#: Elements of one (resamples, N) array in the bootstrap. About twelve such arrays, with 8 bytes per element, exist at
#: once.
CHUNK_ELEMENTS = 2**19


def bootstrap(
    metrics: Sequence[str],
    probabilities: ArrayLike,
    references: ArrayLike,
    *,
    resamples: int = 9999,
    confidence_level: float = 0.95,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Metrics with 95 % intervals: name → {"score", "confidence_interval", "standard_error"}.

    - The accuracy has Wilson's interval. Resamples of 29 right rows of 30 would say that 100 % is as likely as 93 %, and those
      of 30 right rows would say nothing else than 100 %.
    - Other metrics have percentile intervals over resampled rows. That of the expected calibration error is shifted by
      score − mean(resampled) and cut at 0. Otherwise the percentiles of a calibrated model often exclude its score.
    - If every row is right, or none, no resample shows how many errors there may be. The macro-F1 then has Wilson's interval
      for C² / Σ_c 1/n_c rows, with n_c rows in each of the C classes that occur: if errors are few, it falls like the mean
      recall of the classes, whose variance is that of a share of that many rows. The interval of the calibration error then
      also has the gaps between the mean confidence and every accuracy in Wilson's interval.
    - If all resamples are equal for another reason (one row, or equal losses), the interval is that of the mean of N values
      between 0 and the largest one, see `bounded_mean_interval`. It is wide: a log-loss can be 36 nats.

    The standard error is that of the resamples. If they are all equal, it is half the width of the interval, divided by z.
    Memory is bounded for all N and `resamples`.

    Args:
        metrics: names from `METRICS`.
        probabilities: (N, C), rows that sum to 1.
        references: (N,) classes.
        resamples: number of resampled data sets, each of N rows drawn with replacement, at least 2.
        confidence_level: share of the resampled scores between low and high, in (0, 1).
        seed: seed of the draws. Equal seeds and N give equal resamples.

    Raises:
        UserError: if a metric is unknown, a number is out of range, or probabilities and references do not match.

    Source: Efron 1979, "Bootstrap methods: another look at the jackknife"; Wilson 1927; Kish 1965, section 8.2 (rows of unequal
    weight). The result has the format of evaluate's evaluator.

    >>> low, high = bootstrap(["macro_f1"], [[.75, .25]] * 10, [0] * 10)["macro_f1"]["confidence_interval"]
    >>> round(low, 3), high
    (0.722, 1.0)
    """
    unknown = [name for name in metrics if name not in METRICS]
    if unknown:
        raise UserError(f"metrics: expected names among {listed(METRICS)}, found {listed(unknown)}")
    if resamples < 2 or not 0 < confidence_level < 1:
        found = f"{resamples} and {confidence_level}"
        raise UserError(f"expected at least 2 resamples and a confidence level between 0 and 1, found {found}")
    probabilities, references, _ = check_inputs(probabilities, references, dimensions=(2,))
    chunks = [
        {name: measure(name, probabilities, references, weights) for name in metrics}
        for weights in _resampled_weights(len(references), resamples, seed)
    ]
    results = {}
    for name in metrics:
        score = float(measure(name, probabilities, references))
        values = np.concatenate([chunk[name] for chunk in chunks])
        low, high = _interval(name, score, values, probabilities, references, confidence_level)
        error = float(values.std(ddof=1))
        if np.ptp(values) < EQUAL:
            error = (high - low) / (2 * NormalDist().inv_cdf((1 + confidence_level) / 2))
        results[name] = {"score": score, "confidence_interval": (low, high), "standard_error": error}
    return results


def _interval(
    name: str, score: float, values: Floats, probabilities: Floats, references: NDArray[Any], level: float
) -> tuple[float, float]:
    """The interval of a metric, see `bootstrap`.

    Args:
        score: the metric of all rows.
        values: (R,) the metric of each resample.
    """
    right = probabilities.argmax(1) == references
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    if name == "accuracy":
        low, high = wilson_interval(score, len(right), level)
    elif name == "macro_f1" and right.all() | ~right.any():
        low, high = wilson_interval(score, effective_rows(1 / np.bincount(references)[references]), level)
    elif name == "expected_calibration_error":
        bias = values.mean() - score  # repeated rows increase it, as fewer rows do
        low, high = max(low - bias, 0.0), high - bias
        if right.all() | ~right.any():
            least, most = wilson_interval(right.mean(), len(right), level)
            confidence = probabilities.max(1).mean()
            nearest = np.clip(confidence, least, most)
            low = min(low, abs(confidence - nearest))
            high = max(high, confidence - least, most - confidence)
    elif np.ptp(values) < EQUAL:
        low, high = bounded_mean_interval(score, len(right), LARGEST[name], level)
    return float(low), float(high)


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
    probabilities, references, _ = check_inputs(probabilities, references, dimensions=(2,))
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


def _resampled_weights(num_rows: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Yield chunks (r, N) with the number of times that each of r resamples contains each row.

    The size of the chunks does not change the draws.
    """
    rng, chunk = np.random.default_rng(seed), max(1, CHUNK_ELEMENTS // num_rows)
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        cells = rng.integers(num_rows, size=(size, num_rows)) + num_rows * np.arange(size)[:, None]
        yield np.bincount(cells.ravel(), minlength=cells.size).reshape(cells.shape).astype(np.float64)
