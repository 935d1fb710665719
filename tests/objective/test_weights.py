"""Weights: golden values of the papers, in [0, 1], pure, and the same vectorized as in a slow loop."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sstext.errors import UserError
from sstext.objective.part import Signals
from sstext.objective.targets import Align
from sstext.objective.weights import (
    Everyone,
    Gaussian,
    InverseVariance,
    Known,
    Threshold,
    TrainingSignalAnnealing,
    Weight,
)

DTYPES = [torch.float32, torch.float64, torch.bfloat16]


def signals(*confidences: float) -> Signals:
    """Rows of two classes with these max q."""
    return Signals(torch.tensor([[value, 1 - value] for value in confidences]))


def gaussian(momentum: float = 0.9, n_sigma: float = 1.0, num_classes: int = 2) -> Gaussian:
    part = Gaussian(momentum, n_sigma)
    part.bind(num_classes, 1)
    return part


def gaussian_by_loop(batches: Tensor, momentum: float, n_sigma: float) -> list[float]:
    """Truncated Gaussian after all batches (S, N, C), for the last one: plain Python, one number at a time."""
    mean, variance = 1 / batches.shape[-1], 1.0
    for batch in batches.tolist():
        tops = [max(row) for row in batch]
        batch_mean = sum(tops) / len(tops)
        batch_variance = sum((top - batch_mean) ** 2 for top in tops) / (len(tops) - 1)
        mean = momentum * mean + (1 - momentum) * batch_mean
        variance = momentum * variance + (1 - momentum) * batch_variance
    variance /= n_sigma**2
    tops = [max(row) for row in batches[-1].tolist()]
    return [1.0 if top >= mean else math.exp(-((top - mean) ** 2) / (2 * variance)) for top in tops]


@pytest.mark.parametrize("dtype", DTYPES)
def test_everyone_counts_in_full(dtype: torch.dtype) -> None:
    """Guards against a weight per class instead of per row."""
    weight = Everyone()(Signals(torch.tensor([[0.5, 0.5], [0.0, 1.0], [1.0, 0.0]], dtype=dtype)))
    assert (weight.tolist(), weight.dtype) == ([1, 1, 1], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_known_rows_are_those_of_which_anything_is_said(dtype: torch.dtype) -> None:
    """Zeros are a row that no teacher has seen: guards against a target of zeros that is taught."""
    weight = Known()(Signals(torch.tensor([[0.5, 0.5], [0.0, 0.0], [0.0, 1e-6]], dtype=dtype)))
    assert (weight.tolist(), weight.dtype) == ([1, 0, 1], dtype)


def test_threshold_keeps_the_boundary() -> None:
    """max q ≥ τ, as FixMatch writes it: guards against >, and against the first class's probability for the maximum."""
    assert Threshold(0.75)(signals(0.75, 0.7499, 0.25, 0.26)).tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_threshold_is_the_slow_loop(dtype: torch.dtype) -> None:
    """Guards against a comparison in a type other than the probabilities' own."""
    torch.manual_seed(0)
    probs = (3 * torch.randn(200, 4, dtype=torch.float64)).softmax(-1).to(dtype)
    weight = Threshold(0.95)(Signals(probs))
    bound = torch.tensor(0.95, dtype=dtype).item()
    assert weight.tolist() == [float(max(row) >= bound) for row in probs.tolist()]
    assert weight.dtype == dtype
    assert 20 < weight.sum() < 180  # both kinds of rows are there


def test_threshold_limits() -> None:
    """τ = 0 keeps every row, τ > 1 keeps none: without the first, a weight stuck at 0 would pass the second."""
    rows = signals(0.5, 0.8, 1.0)
    assert Threshold(0.0)(rows).tolist() == [1, 1, 1]
    assert Threshold(1.0)(rows).tolist() == [0, 0, 1]
    assert Threshold(1.01)(rows).tolist() == [0, 0, 0]


def test_softmatch_golden_values_of_two_steps() -> None:
    """Guards μ, σ² and w against the paper (eqs. 5–8), against a biased variance, and against a doubled update.

    C = 2, m = .9: μ₀ = .5, σ²₀ = 1. Batch max q {.9, .6}: mean .75, unbiased variance 2 · .15² = .045;
    μ = .45 + .075 = .525, σ² = .9 + .0045 = .9045; w(.51) = exp(−.015²/1.809) = .999876.
    Batch {.8, .7, .6}: mean .7, variance .01; μ = .4725 + .07 = .5425, σ² = .81405 + .001 = .81505;
    w(.5) = exp(−.0425²/1.6301) = .998893.
    """
    part = gaussian()
    part.observe(signals(0.9, 0.6))
    assert part.mean.item() == pytest.approx(0.525, abs=1e-6)
    assert part.variance.item() == pytest.approx(0.9045, abs=1e-6)
    assert part(signals(0.51)).item() == pytest.approx(0.999876, abs=1e-6)
    part.observe(signals(0.8, 0.7, 0.6))
    assert part.mean.item() == pytest.approx(0.5425, abs=1e-6)
    assert part.variance.item() == pytest.approx(0.81505, abs=1e-6)
    assert part(signals(0.5)).item() == pytest.approx(0.998893, abs=1e-6)


def test_two_sigma_are_the_released_code() -> None:
    """σ²/4 = .226125: w(.51) = exp(−.015²/.45225) = .999503; guards against n_sigma for n_sigma²."""
    part = gaussian(n_sigma=2.0)
    part.observe(signals(0.9, 0.6))
    assert part(signals(0.51)).item() == pytest.approx(0.999503, abs=1e-6)


@pytest.mark.parametrize("n_sigma", [1.0, 2.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-5), (torch.bfloat16, 4e-3)])
def test_gaussian_is_the_slow_loop(dtype: torch.dtype, tolerance: float, n_sigma: float) -> None:
    """Guards the vectorized form; the state is float32 for any input."""
    torch.manual_seed(0)
    batches = (2 * torch.randn(8, 32, 4, dtype=torch.float64)).softmax(-1).to(dtype)
    part = gaussian(0.5, n_sigma, num_classes=4)
    for batch in batches:
        part.observe(Signals(batch))
    weight = part(Signals(batches[-1]))
    assert (part.mean.dtype, part.variance.dtype, weight.dtype) == (torch.float32, torch.float32, dtype)
    expected = torch.tensor(gaussian_by_loop(batches, 0.5, n_sigma), dtype=torch.float64)
    torch.testing.assert_close(weight.double(), expected, atol=tolerance, rtol=0)
    assert (expected < 0.9).any()  # the Gaussian's flank is exercised


def test_state_moves_at_the_papers_momentum_with_bfloat16_probabilities() -> None:
    """1 − .999 underflows next to .5 in bfloat16: guards against a mean that never moves there."""
    part = gaussian(momentum=0.999)
    for _ in range(100):
        part.observe(Signals(torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.bfloat16)))
    assert part.mean.item() == pytest.approx(1 - 0.5 * 0.999**100, abs=1e-5)
    assert part.variance.item() == pytest.approx(0.999**100, abs=1e-5)


def test_gaussian_weights_rise_to_one_at_the_mean_and_stay() -> None:
    """Truncation: 1 from μ on, above 0 and rising below; guards against a two-sided Gaussian."""
    part = gaussian(momentum=0.0)
    part.observe(signals(0.6, 0.8))  # μ = .7, σ² = .02
    weight = part(signals(0.5, 0.6, 0.7, 0.701, 0.9, 1.0))
    assert weight[3:].tolist() == [1, 1, 1]
    assert weight[2].item() == pytest.approx(1.0)
    assert weight[1].item() == pytest.approx(math.exp(-0.25), abs=1e-5)
    assert weight[0].item() == pytest.approx(math.exp(-1.0), abs=1e-5)


def test_a_batch_of_one_row_moves_the_mean_alone() -> None:
    """One row has no unbiased variance: guards against a NaN that no later batch mends."""
    part = gaussian()
    part.observe(signals(0.9))
    assert part.mean.item() == pytest.approx(0.54)
    assert part.variance.item() == 1.0


def test_gaussian_without_any_spread_is_a_threshold() -> None:
    """Limit σ² → 0: rows below μ count nothing, and none is NaN."""
    part = gaussian(momentum=0.0)
    part.observe(signals(0.75, 0.75))
    assert part(signals(0.75, 0.7, 0.9)).tolist() == [1, 0, 1]


def test_gaussian_weighs_the_aligned_confidence_but_measures_the_plain_one() -> None:
    """μ and σ² are of q, w of q′: guards against statistics of aligned confidences.

    m = 0, q = [[.9, .1], [.7, .3]]: μ = .8, σ² = .02, E[q] = [.8, .2]; q′ of [.9, .1] = Norm([1.125, .5]) = [.692308, …],
    w = exp(−(.692308 − .8)²/.04) = .748316; the plain confidence, .9, would weigh 1.
    """
    part = Gaussian(momentum=0.0, of=Align(momentum=0.0))
    for module in (part, part.of):
        module.bind(2, 1)
        module.observe(signals(0.9, 0.7))
    assert part.mean.item() == pytest.approx(0.8)
    assert part(signals(0.9)).item() == pytest.approx(0.748316, abs=1e-5)


@pytest.mark.parametrize("part", [Everyone(), Known(), Threshold(0.4), gaussian(num_classes=3)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_lie_between_zero_and_one(part: Weight, dtype: torch.dtype) -> None:
    """A weight outside [0, 1] would turn a row against its own label, or drown the others."""
    torch.manual_seed(0)
    probs = (5 * torch.randn(64, 3)).softmax(-1).to(dtype)
    part.observe(Signals(probs))
    weight = part(Signals(probs))
    assert weight.shape == (64,)
    assert 0 <= weight.min() <= weight.max() <= 1


def test_calling_a_weight_changes_no_state() -> None:
    """Guards against state that moves twice a step: only `observe` may move it."""
    part = gaussian()
    part.observe(signals(0.9, 0.6))
    before = {name: value.clone() for name, value in part.state_dict().items()}
    assert set(before) == {"mean", "variance"}
    part(signals(0.5, 0.99))
    assert all(value.equal(before[name]) for name, value in part.state_dict().items())


def test_gaussian_continues_from_its_saved_state() -> None:
    """Guards against a resumed run that starts at μ = 1/C again."""
    one, other = gaussian(), gaussian()
    one.observe(signals(0.9, 0.6))
    other.load_state_dict(one.state_dict())
    for part in (one, other):
        part.observe(signals(0.8, 0.7, 0.6))
    assert (other.mean.item(), other.variance.item()) == (one.mean.item(), one.variance.item())
    assert one.mean.item() == pytest.approx(0.5425, abs=1e-6)


def varying(*variances: float, dtype: torch.dtype = torch.float32) -> Signals:
    return Signals(torch.full((len(variances), 2), 0.5, dtype=dtype), variance=torch.tensor(variances, dtype=dtype))


@pytest.mark.parametrize(("alpha", "expected"), [(1.0, [1.386294, 4.605170]), (0.1, [0.138629, 0.460517])])
def test_inverse_variance_by_hand(alpha: float, expected: list[float]) -> None:
    """log(1/.25) = log 4 and log(1/.01) = log 100; guards against 1/Var, log Var, and α that is ignored."""
    assert InverseVariance(alpha)(varying(0.25, 0.01)).tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-5), (torch.bfloat16, 0.1)])
def test_inverse_variance_is_the_slow_loop(dtype: torch.dtype, tolerance: float) -> None:
    """Guards the vectorized form; bfloat16 keeps 8 bits of a weight up to 16."""
    torch.manual_seed(0)
    rows = varying(*(torch.rand(64, dtype=torch.float64) ** 8 / 4).clamp_min(1e-6).tolist(), dtype=dtype)
    weight = InverseVariance()(rows)
    assert weight.dtype == dtype
    assert weight.tolist() == pytest.approx([math.log(1 / value) for value in rows.variance.tolist()], abs=tolerance)


def test_inverse_variance_stays_finite_and_is_never_negative() -> None:
    """Passes that agree to the bit have variance 0: 10 log 10 = 23.025851. Guards against infinite and negative weights."""
    assert InverseVariance()(varying(0.0, 1e-12, 1.0, 2.0)).tolist() == pytest.approx([23.025851, 23.025851, 0, 0])


def test_inverse_variance_wants_a_variance() -> None:
    """Guards against a part of the round loop inside a step."""
    with pytest.raises(UserError, match="InverseVariance needs 'variance'"):
        InverseVariance()(signals(0.9))


def of_labels(*correct: float, progress: float, num_classes: int = 4) -> Signals:
    """Labeled rows whose label (the last class) has these probabilities, and the first class almost all of the rest."""
    rest = [[1 - value - 1e-9, *[1e-9 / (num_classes - 2)] * (num_classes - 2), value] for value in correct]
    labels = torch.full((len(correct),), num_classes - 1)
    return Signals(
        torch.ones(1, num_classes), labeled_logits=torch.tensor(rest).log(), labels=labels, progress=progress
    )


@pytest.mark.parametrize(("schedule", "eta"), [("linear", 0.625), ("exp", 0.311564), ("log", 0.938436)])
def test_annealing_golden_bounds(schedule: str, eta: float) -> None:
    """C = 4, t/T = .5: a = .5, e^−2.5 = .082085 and 1 − e^−2.5 = .917915; η = .75 a + .25. A row right below it counts."""
    part = TrainingSignalAnnealing(schedule)
    assert part.bound(0.5, 4) == pytest.approx(eta, abs=1e-6)
    assert part(of_labels(eta - 1e-4, eta + 1e-4, progress=0.5)).tolist() == [1, 0]


def test_annealing_looks_at_the_probability_of_the_label() -> None:
    """The maximal one is a known bug: the first row, sure of a wrong class (.9), would never be corrected. η = .625."""
    assert TrainingSignalAnnealing()(of_labels(0.1, 0.9, 0.5, progress=0.5)).tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("schedule", "start", "end"), [("linear", 0.25, 1.0), ("exp", 0.255053, 1.0), ("log", 0.25, 0.994947)]
)
def test_annealing_lets_the_labels_out_from_chance_to_all(schedule: str, start: float, end: float) -> None:
    """η rises from about 1/C to about 1; a = e^−5 = .006738 at exp's start, 1 − e^−5 at log's end."""
    part = TrainingSignalAnnealing(schedule)
    bounds = [part.bound(step / 10, 4) for step in range(11)]
    assert (bounds[0], bounds[-1]) == (pytest.approx(start, abs=1e-6), pytest.approx(end, abs=1e-6))
    assert bounds == sorted(set(bounds))


def test_annealing_none_keeps_every_row() -> None:
    """Limit: even a row of probability 1 at the end, when the other schedules drop it; and any row at the start."""
    logits, labels = torch.tensor([[1e4, -1e4], [0.0, 0.0]]), torch.tensor([0, 0])
    for progress, others in ((0.0, [0, 0]), (1.0, [0, 1])):
        rows = Signals(torch.ones(1, 2), labeled_logits=logits, labels=labels, progress=progress)
        assert TrainingSignalAnnealing("none")(rows).tolist() == [1, 1]
        assert TrainingSignalAnnealing("linear")(rows).tolist() == others


@pytest.mark.parametrize("schedule", ["linear", "exp", "log"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_annealing_is_the_slow_loop(dtype: torch.dtype, schedule: str) -> None:
    """Guards the vectorized form, and its type: a mask, float32."""
    torch.manual_seed(0)
    logits, labels = (2 * torch.randn(64, 3, dtype=torch.float64)).to(dtype), torch.randint(3, (64,))
    part = TrainingSignalAnnealing(schedule)
    weight = part(Signals(torch.ones(1, 3), labeled_logits=logits, labels=labels, progress=0.4))
    rows = zip(logits.tolist(), labels.tolist(), strict=True)
    correct = [math.exp(row[label]) / sum(map(math.exp, row)) for row, label in rows]
    a = {"linear": 0.4, "exp": math.exp(-3), "log": 1 - math.exp(-2)}[schedule]
    assert weight.tolist() == [float(p < a * 2 / 3 + 1 / 3) for p in correct]
    assert weight.dtype == torch.float32
    assert 0 < weight.mean() < 1


def test_annealing_survives_extreme_logits() -> None:
    """±10⁴, right and wrong: guards against NaN, which no comparison keeps or drops on purpose."""
    logits = torch.tensor([[1e4, -1e4], [-1e4, 1e4], [0.0, 0.0]])
    rows = Signals(torch.ones(1, 2), labeled_logits=logits, labels=torch.zeros(3, dtype=torch.long), progress=0.5)
    assert TrainingSignalAnnealing()(rows).tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Threshold(-0.1), "threshold: expected a number at least 0, found -0.1"),
        (lambda: Gaussian(n_sigma=0), "n_sigma: expected a number at least 0.001, found 0"),
        (lambda: InverseVariance(-1), "alpha: expected a number at least 0, found -1"),
        (lambda: TrainingSignalAnnealing("liner"), "annealing: no schedule 'liner'; did you mean linear?"),
    ],
)
def test_values_out_of_range_are_refused(make: Callable[[], Weight], message: str) -> None:
    """Guards against a run that trains for an hour on a typo."""
    with pytest.raises(UserError, match=message):
        make()
