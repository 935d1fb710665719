"""Calibration of probabilities: fit a temperature, estimate precision, and find confidence thresholds."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from sstext.errors import UserError

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0


#: Prior of log T if nothing else is known: exp of its mean, and its standard deviation. A classifier that was
#: fine-tuned on few labels is overconfident, see recipes/benchmark/LOG.md.
USUAL_TEMPERATURE, TEMPERATURE_SPREAD = 2.0, 0.5
#: The same for a head and a probe that predict together. They are calibrated by design, and a few dozen labels are noise beside
#: that: the true temperatures of five runs were 1.0 to 1.1, and 1.8 in the worst one (recipes/benchmark/LOG.md).
TEMPERATURE_OF_PROBE, SPREAD_OF_PROBE = 1.0, 0.25


def fit_temperature(
    logits: Tensor | ArrayLike,
    labels: Tensor | ArrayLike,
    *,
    believed: float | None = None,
    spread: float = TEMPERATURE_SPREAD,
    weights: ArrayLike | None = None,
) -> float:
    """Find the temperature that makes held-out labels most likely.

    T = argmin_T −Σ_i w_i log softmax(z_i / T)[y_i], within [0.05, 20]. The loss is convex in 1/T. Bisection finds the
    root of its slope, Σ_i w_i (E[z_i] − z_i[y_i]), with the expectation over softmax(z_i / T). If every row is
    predicted correctly, a sharper model is always better, and T is the lower bound. If the labels contradict the
    logits, T is the upper bound. If the logits of each row are all equal, the temperature has no effect, and T is 1.

    With `believed`, T is the mode of the posterior with the prior log T ~ N(log T₀, σ²). The prior supplies what a few
    rows cannot show. It keeps T away from its bound if all rows are predicted correctly.

    Args:
        logits: (N, C) z, of rows that the model was not trained on.
        labels: (N,) classes y.
        believed: T₀ of the prior. Default: no prior.
        spread: σ of the prior.
        weights: (N,) w, how often each row counts. Default: 1 each.

    Raises:
        UserError: if there are no rows, shapes do not match, a logit is not finite, or a label is outside 0 … C − 1.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", eq. 9.

    >>> z = 3 * torch.tensor([[.75, .25]]).log().expand(4, 2)  # three times too confident: 3 of 4 are correct
    >>> round(fit_temperature(z, [0, 0, 0, 1]), 6)
    3.0
    """
    z, y = _check_logits(logits, labels)
    z = z - z.amax(-1, keepdim=True)  # equal logits become 0, so their slope is exactly 0
    counted = torch.ones(len(y), dtype=z.dtype) if weights is None else _on_cpu(weights, torch.float64)
    if counted.shape != y.shape:
        raise UserError(f"expected a weight for each of {len(y)} rows, found the shape {tuple(counted.shape)}")

    def slope(inverse_temperature: float) -> float:
        """Derivative of the mean negative log-likelihood with respect to 1/T. It never decreases."""
        expected = ((z * inverse_temperature).softmax(-1) * z).sum(-1)
        return float((counted * (expected - z.gather(-1, y[:, None])[:, 0])).mean())

    if believed is None:
        return _solve_temperature(slope)
    usual = believed

    def pull(inverse_temperature: float) -> float:
        """The slope plus that of the prior, d/d(1/T) of (log T − log T₀)²/2σ². Both are divided by N."""
        away = math.log(inverse_temperature * usual) / (spread**2 * inverse_temperature)
        return slope(inverse_temperature) + away / len(y)

    return _solve_temperature(pull)


def matching_temperature(logits: ArrayLike, probabilities: ArrayLike) -> float:
    """Find the temperature at which a model agrees best with given probabilities of the same rows.

    T = argmin_T −Σ_i Σ_c q_ic log softmax(z_i / T)_c within [0.05, 20], by bisection of its slope,
    Σ_i Σ_c (p_ic − q_ic) z_ic.

    *Relations*: if each row of q is one-hot, it equals `fit_temperature`.

    Args:
        logits: (N, C) z.
        probabilities: (N, C) q, rows that sum to 1.

    >>> round(matching_temperature([[6., 0.]], [[.731058579, .268941421]]), 6)
    6.0
    """
    z, q = torch.as_tensor(np.asarray(logits, dtype=np.float64)), torch.as_tensor(np.asarray(probabilities, np.float64))
    z = z - z.amax(-1, keepdim=True)
    return _solve_temperature(lambda inverse: float((((z * inverse).softmax(-1) - q) * z).sum(-1).mean()))


def temperature_of_confidence(logits: ArrayLike, confidence: float) -> float:
    """Find the temperature at which the mean confidence of a model is a given one.

    T solves mean_i max_c softmax(z_i / T)_c = confidence within [0.05, 20], by bisection. The mean never rises with T. T is a
    bound if no temperature gives the confidence, and 1 if the logits of each row are all equal.

    Args:
        logits: (N, C) z.
        confidence: mean probability of the predicted classes, in (0, 1].

    >>> round(temperature_of_confidence([[6., 0.]], .731058579), 6)
    6.0
    """
    z = np.asarray(logits, dtype=np.float64)
    if (z == z[:, :1]).all():
        return 1.0
    return _solve_temperature(lambda inverse: float(softmax(z * inverse).max(-1).mean()) - confidence)


def _solve_temperature(falling: Callable[[float], float]) -> float:
    """The T at which the non-decreasing slope by 1/T is 0. It is a bound if there is no root, and 1 if all is 0."""
    low, high = 1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE
    rises, falls = falling(low) >= 0, falling(high) <= 0
    if rises and falls:
        return 1.0
    if rises or falls:
        return MAX_TEMPERATURE if rises else MIN_TEMPERATURE
    while high / low > 1 + 1e-12:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if falling(middle) > 0 else (middle, high)
    return float((low * high) ** -0.5)


def precision_curve(confidence: ArrayLike, *, points: int = 50) -> list[list[float]]:
    """The expected precision of the most confident rows, if the confidence is calibrated.

    The n most confident rows have the expected precision mean(confidence). No label is needed, so it can be computed on
    an unlabeled corpus.

    Args:
        confidence: (N,) calibrated probability of the predicted class.

    Returns:
        [confidence of the last row, precision, share of the rows] for `points` shares of the rows, most confident
            first.

    >>> precision_curve([.9, .5, .7, .5], points=2)
    [[0.7, 0.8, 0.5], [0.5, 0.65, 1.0]]
    """
    best = np.sort(np.asarray(confidence, dtype=np.float64))[::-1]
    if not len(best):
        return []
    precision = best.cumsum() / np.arange(1, len(best) + 1)
    ends = np.unique(np.ceil(len(best) * np.arange(1, points + 1) / points).astype(int)) - 1
    # Rounded down, because no row would pass a threshold that is above all confidences.
    return [
        [math.floor(float(v) * 1e6) / 1e6 for v in (best[end], precision[end], (end + 1) / len(best))] for end in ends
    ]


def confidence_for(curve: Iterable[Sequence[float]], precision: float) -> float | None:
    """The lowest confidence threshold with at least the given precision, or None if there is none.

    >>> confidence_for([[.7, .8, .5], [.5, .65, 1.]], .75), confidence_for([[.7, .8, .5]], .9)
    (0.7, None)
    """
    passing = [threshold for threshold, found, _ in curve if found >= precision]
    return min(passing, default=None)


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """softmax(logits / T) along the last axis, (N, C).

    >>> softmax(np.array([[0., 0.]]))
    array([[0.5, 0.5]])
    """
    scaled = logits / temperature
    scaled = scaled - scaled.max(-1, keepdims=True)
    exponentials = np.exp(scaled)
    return exponentials / exponentials.sum(-1, keepdims=True)


@dataclass(frozen=True)
class Correction:
    """What makes the logits of a model calibrated for the corpus: z / T + s.

    Attributes:
        temperature: T.
        shift: (C,) s, for a corpus with other class shares than the training data. None: 0.

    >>> Correction(2.0, np.log([3.0, 1.0])).probabilities(np.array([[5.0, 5.0]])).round(2)
    array([[0.75, 0.25]])
    """

    temperature: float = 1.0
    shift: np.ndarray | None = None

    def logits(self, logits: np.ndarray) -> np.ndarray:
        """The corrected logits, (N, C) in float64."""
        divided = logits.astype(np.float64) / self.temperature
        return divided if self.shift is None else divided + self.shift

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Their softmax, (N, C)."""
        return softmax(self.logits(logits))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + e^−z) of every logit.

    >>> sigmoid(np.array([0.0, -1e4]))
    array([0.5, 0. ])
    """
    return 0.5 * (1 + np.tanh(0.5 * logits))  # e^−z itself would overflow


def _check_logits(logits: Tensor | ArrayLike, labels: Tensor | ArrayLike) -> tuple[Tensor, Tensor]:
    """Check logits and labels, and return them on the CPU as (N, C) float64 and (N,) int64."""
    z, y = _on_cpu(logits, torch.float64), _on_cpu(labels, torch.int64)
    if z.ndim != 2 or y.shape != z.shape[:1] or not z.numel():
        raise UserError(
            "expected logits (N, C) and labels (N,) of at least one row, "
            f"found shapes {tuple(z.shape)} and {tuple(y.shape)}"
        )
    unsound = ~z.isfinite().all(-1) | (y < 0) | (y >= z.shape[1])
    if unsound.any():
        row = int(unsound.int().argmax())
        raise UserError(
            f"expected finite logits and labels 0 … {z.shape[1] - 1}, "
            f"found logits {z[row].tolist()} and label {int(y[row])} in row {row}"
        )
    return z, y


def _on_cpu(values: Tensor | ArrayLike, dtype: torch.dtype) -> Tensor:
    if isinstance(values, Tensor):
        return values.detach().to("cpu", dtype)
    return torch.tensor(np.asarray(values), dtype=dtype)  # a copy, because torch warns about read-only arrays
