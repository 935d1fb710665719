"""Probabilities that mean what they say: a temperature, folded into the model's head, and distribution alignment."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from sstext.errors import UserError

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
#: What log T is believed to be before any row is seen, where nothing else tells: its mean, exp'ed, and standard deviation. A
#: classifier that has been fine-tuned on few labels is too sure of itself, see recipes/benchmark/LOG.md.
USUAL_TEMPERATURE, TEMPERATURE_SPREAD = 2.0, 0.5


def fit_temperature(
    logits: Tensor | ArrayLike,
    labels: Tensor | ArrayLike,
    *,
    believed: float | None = None,
    weights: ArrayLike | None = None,
) -> float:
    """Find the temperature that makes held-out labels most likely.

    T = argmin_T −Σ_i w_i log softmax(z_i / T)[y_i], within [0.05, 20]. The loss is convex in 1/T; the root of its slope,
    Σ_i w_i (E[z_i] − z_i[y_i]) with the expectation over softmax(z_i / T), is found by bisection. Where every row is right,
    sharper is always better: the lower bound; where the labels contradict the logits, the upper one; where the logits of
    each row are all equal, no temperature matters: 1.

    With `believed`, T is the most probable one where log T ~ N(log T₀, σ²) is believed beforehand: what a few rows cannot say
    is taken from elsewhere, and rows that are all right do not make the model infinitely sure.

    Args:
        logits: (N, C) z, of rows that the model was not trained on.
        labels: (N,) classes y.
        believed: T₀, see above; σ is `TEMPERATURE_SPREAD`.
        weights: (N,) w, how often each row counts (default: once each).

    Raises:
        UserError: no rows, shapes that do not fit, a logit that is not finite, or a label outside 0 … C − 1.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", eq. 9.

    >>> z = 3 * torch.tensor([[.75, .25]]).log().expand(4, 2)  # three times too sure of what is right 3 times in 4
    >>> round(fit_temperature(z, [0, 0, 0, 1]), 6)
    3.0
    """
    z, y = _checked_logits(logits, labels)
    z = z - z.amax(-1, keepdim=True)  # equal logits become 0, so that their slope is exactly 0
    counted = torch.ones(len(y), dtype=z.dtype) if weights is None else _on_cpu(weights, torch.float64)
    if counted.shape != y.shape:
        raise UserError(f"expected a weight for each of {len(y)} rows, found the shape {tuple(counted.shape)}")

    def slope(inverse_temperature: float) -> float:
        """Derivative of the mean negative log-likelihood by 1/T: never falls."""
        expected = ((z * inverse_temperature).softmax(-1) * z).sum(-1)
        return float((counted * (expected - z.gather(-1, y[:, None])[:, 0])).mean())

    if believed is None:
        return _temperature_where(slope)
    usual = believed

    def pull(inverse_temperature: float) -> float:
        """The slope with the belief's own: d/d(1/T) of (log T − log T₀)²/2σ², divided by N as the likelihood is."""
        away = math.log(inverse_temperature * usual) / (TEMPERATURE_SPREAD**2 * inverse_temperature)
        return slope(inverse_temperature) + away / len(y)

    return _temperature_where(pull)


def matching_temperature(logits: ArrayLike, probabilities: ArrayLike) -> float:
    """Find the temperature at which a model agrees best with given probabilities of the same rows.

    T = argmin_T −Σ_i Σ_c q_ic log softmax(z_i / T)_c within [0.05, 20], by bisection of its slope, Σ_i Σ_c (p_ic − q_ic) z_ic.

    *Relations*: where each row of q is one class, it is `fit_temperature`.

    Args:
        logits: (N, C) z.
        probabilities: (N, C) q, rows that sum to 1.

    >>> round(matching_temperature([[6., 0.]], [[.731058579, .268941421]]), 6)
    6.0
    """
    z, q = torch.as_tensor(np.asarray(logits, dtype=np.float64)), torch.as_tensor(np.asarray(probabilities, np.float64))
    z = z - z.amax(-1, keepdim=True)
    return _temperature_where(lambda inverse: float((((z * inverse).softmax(-1) - q) * z).sum(-1).mean()))


def _temperature_where(falling: Callable[[float], float]) -> float:
    """T where a slope by 1/T, which never falls, is 0; a bound where it is not; 1 where it is 0 everywhere."""
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


def fold_temperature(model: nn.Module, temperature: float, probe: Mapping[str, Any]) -> None:
    """Divide the model's logits by a temperature, in place, by dividing weight and bias of its last linear layer.

    (W/T) h + b/T = (W h + b) / T: whoever loads the model then gets calibrated probabilities without knowing of T. The
    layer is the last `nn.Linear` with `model.config.num_labels` outputs; the probe shows whether it makes the logits.

    Args:
        model: a sequence classifier in float32; its mode, training or evaluation, is left as it was.
        temperature: T, above 0.
        probe: a batch of model inputs.

    Raises:
        UserError: T is not above 0 and finite, there is no such layer, or the probe's logits are not divided by T (to a
            relative 1e-4); the model is then left as it was.
    """
    if not 0 < temperature < float("inf"):
        raise UserError(f"temperature: expected a finite number above 0, found {temperature}")
    name, head = _last_linear(model)
    original = [parameter.detach().clone() for parameter in head.parameters()]
    folded = False
    with _evaluation_mode(model), torch.no_grad():
        try:
            expected = model(**probe).logits.double() / temperature
            for parameter in head.parameters():
                parameter.div_(temperature)
            deviation = float((model(**probe).logits.double() - expected).abs().max())
            folded = deviation <= 1e-4 * float(expected.abs().max())  # False for NaN too
        finally:
            if not folded:
                for parameter, value in zip(head.parameters(), original, strict=True):
                    parameter.copy_(value)
    if not folded:
        raise UserError(
            f"{type(model).__name__}: expected layer {name!r} to make the logits, in float32; found that dividing its "
            f"weight and bias by {temperature:g} does not divide them. The model is unchanged: use one whose last "
            "linear layer makes the logits, or leave the temperature at 1"
        )


def align(probabilities: ArrayLike, prior: ArrayLike, *, iterations: int = 100) -> NDArray[np.float64]:
    """Align the mean prediction of a whole corpus to known class shares.

    q′ = Norm(q · u / E[q]), repeated until E[q′] is within 1e-6 of u. One iteration is what `objective.targets.Align`
    does with a moving average; the fixed point is q′_i ∝ q_i · w with the w (C,) that makes the mean equal u.

    Args:
        probabilities: (N, C) q, rows summing to 1.
        prior: (C,) class shares u, scaled to sum to 1. A class with share 0 gets no mass; a row that had mass nowhere
            else becomes u. A class without any mass in q cannot get any.
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
    """The class weights w, (C,), of which `align` is q′_i ∝ q_i · w; arguments and errors as there."""
    probabilities, shares = _checked_shares(probabilities, prior)
    weights, aligned = np.ones_like(shares), probabilities
    for _ in range(iterations):
        mean = aligned.mean(0)
        if np.abs(mean - shares).max() <= 1e-6:
            break
        weights *= np.divide(shares, mean, out=np.zeros_like(mean), where=mean > 0)
        weights /= weights.max()  # only ratios count: kept far from overflow
        aligned = reweight(probabilities, weights, shares)
    return weights


def reweight(probabilities: NDArray[Any], weights: NDArray[Any], prior: NDArray[Any]) -> NDArray[np.float64]:
    """q′ = Norm(q · w), rows of (N, C); a row without mass where w has any becomes the prior."""
    if (weights == 1).all():
        return probabilities  # to the bit: dividing by sums that are 1 but for rounding would drift
    weighted = probabilities * weights
    mass = weighted.sum(1, keepdims=True)
    return np.where(mass > 0, weighted / np.where(mass > 0, mass, 1), prior)


def precision_curve(confidence: ArrayLike, *, points: int = 50) -> list[list[float]]:
    """What share of the rows above a confidence is right, if confidence means what it says.

    Of the rows sorted by confidence, the first n have the precision mean(confidence of them): expected, not counted, so that a
    corpus without labels serves.

    Args:
        confidence: (N,) calibrated probability of the predicted class.

    Returns:
        [confidence of the last row, precision, share of the rows] for `points` shares of the rows, the surest rows first.

    >>> precision_curve([.9, .5, .7, .5], points=2)
    [[0.7, 0.8, 0.5], [0.5, 0.65, 1.0]]
    """
    best = np.sort(np.asarray(confidence, dtype=np.float64))[::-1]
    if not len(best):
        return []
    precision = best.cumsum() / np.arange(1, len(best) + 1)
    ends = np.unique(np.ceil(len(best) * np.arange(1, points + 1) / points).astype(int)) - 1
    # Rounded down: a threshold above all confidences would let nobody pass.
    return [
        [math.floor(float(v) * 1e6) / 1e6 for v in (best[end], precision[end], (end + 1) / len(best))] for end in ends
    ]


def confidence_for(curve: Iterable[Sequence[float]], precision: float) -> float | None:
    """The least confidence above which rows are right as often as wanted; None: none is sure enough.

    >>> confidence_for([[.7, .8, .5], [.5, .65, 1.]], .75), confidence_for([[.7, .8, .5]], .9)
    (0.7, None)
    """
    sure = [threshold for threshold, found, _ in curve if found >= precision]
    return min(sure, default=None)


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """softmax(logits / T) along the last axis, (N, C).

    >>> softmax(np.array([[0., 0.]]))
    array([[0.5, 0.5]])
    """
    scaled = logits / temperature
    scaled = scaled - scaled.max(-1, keepdims=True)
    exponentials = np.exp(scaled)
    return exponentials / exponentials.sum(-1, keepdims=True)


class CalibratedScores:
    """Logits of a corpus (N, C), perhaps on disk, read as calibrated and aligned probabilities of whatever rows are asked for.

    Nothing of size N is computed before it is asked for: a corpus of any size is read in slices.

    Args:
        logits: (N, C).
        temperature: T of softmax(logits / T).
        prior: (C,) class shares that the mean prediction is aligned to (see `align`), None: it is left as it is. Beyond
            a million rows, the class weights are found on a million that are spread evenly.

    >>> CalibratedScores(np.zeros((4, 2)), 1.0, prior=np.array([.25, .75]))[:1]
    array([[0.25, 0.75]])
    """

    SAMPLE = 1_000_000

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


def _checked_logits(logits: Tensor | ArrayLike, labels: Tensor | ArrayLike) -> tuple[Tensor, Tensor]:
    """Logits (N, C) in float64 and labels (N,), on the CPU, checked."""
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
    return torch.tensor(np.asarray(values), dtype=dtype)  # a copy: torch warns of arrays that it may not write to


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


def _last_linear(model: Any) -> tuple[str, nn.Linear]:
    """Name and layer of the last `nn.Linear` with as many outputs as the model has labels."""
    num_labels = model.config.num_labels
    heads = [
        (name, layer)
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and layer.out_features == num_labels
    ]
    if not heads:
        raise UserError(
            f"{type(model).__name__}: expected an nn.Linear layer with {num_labels} outputs, one per label, "
            "to fold the temperature into; found none"
        )
    return heads[-1]


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Dropout off inside the block; afterwards every module is in the mode that it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
