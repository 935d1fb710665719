"""Targets: rows of probabilities in, rows of probabilities out; alignment to the hand-derived digit."""

import math

import pytest
import torch
from torch import Tensor

from sstext.errors import UserError
from sstext.objective.part import Signals
from sstext.objective.targets import Align, AlignToLabeled, Chain, Hard, Sharpen, Soft, Target

FIRST, SECOND = [[0.9, 0.1], [0.7, 0.3]], [[0.3, 0.7], [0.1, 0.9]]


def align(prior: list[float] | None = None, momentum: float = 0.9, num_classes: int = 2) -> Align:
    part = Align(prior, momentum)
    part.bind(num_classes, 1)
    return part


def observe(part: Target, probs: list[list[float]]) -> None:
    part.observe(Signals(torch.tensor(probs)))


def aligned_by_loop(batches: Tensor, momentum: float, prior: list[float]) -> list[list[float]]:
    """Align after all batches (S, N, C), applied to the last one: plain Python, one number at a time."""
    classes = len(prior)
    mean = [1 / classes] * classes
    for batch in batches.tolist():
        for c in range(classes):
            batch_mean = sum(row[c] for row in batch) / len(batch)
            mean[c] = momentum * mean[c] + (1 - momentum) * batch_mean
    rows = []
    for row in batches[-1].tolist():
        scaled = [row[c] * prior[c] / sum(prior) / mean[c] for c in range(classes)]
        rows.append([value / sum(scaled) for value in scaled])
    return rows


def test_soft_is_the_identity() -> None:
    """Guards against a second softmax over probabilities."""
    probs = torch.tensor(FIRST)
    assert Soft()(probs) is probs


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_hard_is_one_hot_in_the_type_of_the_probabilities(dtype: torch.dtype) -> None:
    """Guards against an int64 target, which cross-entropy would take for class numbers; ties go to the first class."""
    target = Hard()(torch.tensor([[0.2, 0.5, 0.3], [0.5, 0.25, 0.25], [0.25, 0.375, 0.375]], dtype=dtype))
    assert target.dtype == dtype
    assert target.tolist() == [[0, 1, 0], [1, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize(
    ("temperature", "expected"), [(1.0, [0.8, 0.2]), (0.5, [0.941176, 0.058824]), (0.4, [0.969697, 0.030303])]
)
def test_sharpen_by_hand(temperature: float, expected: list[float]) -> None:
    """T = .5: .64 : .04. T = .4: .8^2.5 : .2^2.5 = 32 : 1. Guards against T for 1/T, and against T that is ignored."""
    torch.testing.assert_close(
        Sharpen(temperature)(torch.tensor([[0.8, 0.2]])), torch.tensor([expected]), atol=1e-6, rtol=0
    )


def test_sharpen_is_the_softmax_of_colder_logits() -> None:
    """UDA writes it as softmax(z/T): guards against a softmax of probabilities ÷ T."""
    torch.manual_seed(0)
    logits = 3 * torch.randn(32, 5)
    torch.testing.assert_close(Sharpen(0.4)(logits.softmax(-1)), (logits / 0.4).softmax(-1), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-6), (torch.bfloat16, 4e-3)])
@pytest.mark.parametrize("temperature", [0.1, 0.4, 2.0])
def test_sharpen_is_the_slow_loop(dtype: torch.dtype, tolerance: float, temperature: float) -> None:
    """Guards the vectorized form, in the type of the probabilities."""
    torch.manual_seed(0)
    probs = (3 * torch.randn(32, 4, dtype=torch.float64)).softmax(-1).to(dtype)
    sharp = Sharpen(temperature)(probs)
    powers = [[value ** (1 / temperature) for value in row] for row in probs.tolist()]
    expected = torch.tensor([[value / sum(row) for value in row] for row in powers], dtype=torch.float64)
    assert sharp.dtype == dtype
    torch.testing.assert_close(sharp.double(), expected, atol=tolerance, rtol=0)


def test_sharpen_limits() -> None:
    """T → 0 is the hard target, T → ∞ the uniform one."""
    q = torch.tensor([[0.5, 0.3, 0.2]])
    torch.testing.assert_close(Sharpen(0.001)(q), Hard()(q))
    torch.testing.assert_close(Sharpen(1000)(q), torch.full((1, 3), 1 / 3), atol=1e-3, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("temperature", [0.001, 0.4, 1000])
def test_sharpen_survives_extreme_rows(dtype: torch.dtype, temperature: float) -> None:
    """100 equal classes have powers that all underflow (.01^1000), one-hot rows have zeros: guards against 0/0."""
    equal, certain, unlikely = torch.full((100,), 0.01), torch.zeros(100), torch.full((100,), 1e-38)
    certain[3] = unlikely[3] = 1
    sharp = Sharpen(temperature)(torch.stack([equal, certain, unlikely]).to(dtype))
    torch.testing.assert_close(sharp.float().sum(-1), torch.ones(3), atol=0.02, rtol=0)
    torch.testing.assert_close(sharp[0].float(), equal, atol=1e-4, rtol=0)
    assert sharp[1].tolist() == certain.tolist()


def test_a_row_that_is_unknown_stays_unknown() -> None:
    """A history answers zeros for a row that it has not seen: guards against 0/0, whose weight of 0 would not help."""
    zeros = torch.zeros(1, 2)
    for part in (Sharpen(0.5), align(), Chain(align(), Sharpen(0.5))):
        assert part(zeros).tolist() == [[0, 0]]


@pytest.mark.parametrize("temperature", [0, -1, float("inf"), float("nan")])
def test_sharpen_refuses_temperatures_that_are_none(temperature: float) -> None:
    """Guards against a division by 0, and against a typo that makes every label uniform."""
    with pytest.raises(UserError, match=r"temperature: expected a number between 0\.001 and 1000"):
        Sharpen(temperature)


def test_chain_applies_its_targets_from_left_to_right() -> None:
    """E = [.8, .2] aligns [.8, .2] to [.5, .5] and [.6, .4] to .75 : 2 = [.272727, .727273], whose squares are 9 : 64.

    The other order gives squares .36 : .16, aligned .45 : .8 = [.36, .64]: guards the order. Without any it is `Soft`.
    """
    first, second = align(momentum=0.0), align(momentum=0.0)
    for part in (first, second):
        observe(part, [[0.8, 0.2]])
    q = torch.tensor([[0.6, 0.4]])
    torch.testing.assert_close(Chain(first, Sharpen(0.5))(q), torch.tensor([[9 / 73, 64 / 73]]))
    torch.testing.assert_close(Chain(Sharpen(0.5), second)(q), torch.tensor([[0.36, 0.64]]))
    assert Chain()(q) is q


def test_chain_keeps_the_state_of_its_targets() -> None:
    """Guards against averages that neither an objective nor a checkpoint finds."""
    part = align()
    chain = Chain(part, Sharpen(0.5))
    observe(part, FIRST)
    assert part in list(chain.modules())
    assert [value.tolist() for value in chain.state_dict().values()] == [part.mean_probs.tolist(), [0.5, 0.5]]


def test_align_after_one_step_and_after_two() -> None:
    """Guards against a dropped or doubled update, and against dividing by the batch's own mean.

    m = .9, E₀ = [.5, .5]. Batch mean [.8, .2]: E = [.53, .47]; [.6, .4] → [.6/.53, .4/.47] ∝ [.282, .212],
    normalized [.570850, .429150]. Batch mean [.2, .8]: E = [.477 + .02, .423 + .08] = [.497, .503];
    [.6, .4] → [.6/.497, .4/.503] ∝ [.3018, .1988], normalized [.602877, .397123].
    """
    part, q = align(), torch.tensor([[0.6, 0.4]])
    observe(part, FIRST)
    torch.testing.assert_close(part.mean_probs, torch.tensor([0.53, 0.47]))
    torch.testing.assert_close(part(q), torch.tensor([[0.570850, 0.429150]]), atol=1e-6, rtol=0)
    observe(part, SECOND)
    torch.testing.assert_close(part.mean_probs, torch.tensor([0.497, 0.503]))
    torch.testing.assert_close(part(q), torch.tensor([[0.602877, 0.397123]]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("prior", [[0.75, 0.25], [3, 1]])
def test_align_follows_a_given_prior(prior: list[float]) -> None:
    """E = [.53, .47], u = [.75, .25]: [.6, .4] → [.849057, .212766], normalized [.799622, .200378].

    Guards against a prior that is ignored, and against counts taken for shares.
    """
    part = align(prior)
    observe(part, FIRST)
    torch.testing.assert_close(
        part(torch.tensor([[0.6, 0.4]])), torch.tensor([[0.799622, 0.200378]]), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-6), (torch.bfloat16, 4e-3)])
def test_align_is_the_slow_loop(dtype: torch.dtype, tolerance: float) -> None:
    """Guards the vectorized form; the state is float32 for any input, so that 1 − .999 does not vanish in bfloat16."""
    torch.manual_seed(0)
    batches = torch.randn(4, 6, 3, dtype=torch.float64).softmax(-1).to(dtype)
    part = align([0.5, 0.3, 0.2], momentum=0.999, num_classes=3)
    for batch in batches:
        part.observe(Signals(batch))
    target = part(batches[-1])
    assert (part.mean_probs.dtype, target.dtype) == (torch.float32, dtype)
    expected = torch.tensor(aligned_by_loop(batches, 0.999, [0.5, 0.3, 0.2]), dtype=torch.float64)
    torch.testing.assert_close(target.double(), expected, atol=tolerance, rtol=0)


def test_align_undoes_a_bias_that_lasts() -> None:
    """Limit: E[q] = q̄ of one batch seen forever; a row like the mean is then told the prior, here uniform."""
    part = align(momentum=0.0)
    observe(part, [[0.8, 0.2]])
    torch.testing.assert_close(part(torch.tensor([[0.8, 0.2]])), torch.tensor([[0.5, 0.5]]))


def test_align_survives_a_class_that_is_never_predicted() -> None:
    """Guards against 0 / 0: NaN in one target turns the whole model into NaN."""
    part = align(momentum=0.0)
    observe(part, [[1.0, 0.0]])
    torch.testing.assert_close(part(torch.tensor([[1.0, 0.0]])), torch.tensor([[1.0, 0.0]]))
    assert part(torch.tensor([[0.9, 0.1]])).isfinite().all()


def test_align_without_an_observation_changes_nothing() -> None:
    """A uniform start and a uniform prior cancel."""
    q = torch.tensor(FIRST)
    torch.testing.assert_close(align()(q), q)


def test_calling_a_target_changes_no_state() -> None:
    """Guards against state that moves twice a step: only `observe` may move it."""
    part = align()
    observe(part, FIRST)
    before = part.mean_probs.clone()
    part(torch.tensor(SECOND))
    assert part.mean_probs.equal(before)


def test_align_continues_from_its_saved_state() -> None:
    """Guards against a resumed run whose E[q] starts at uniform again."""
    one, other = align([0.7, 0.3]), align([0.7, 0.3])
    observe(one, FIRST)
    other.load_state_dict(one.state_dict())
    for part in (one, other):
        observe(part, SECOND)
    assert other.mean_probs.equal(one.mean_probs)
    assert not other.mean_probs.equal(align().mean_probs)


def test_align_refuses_a_prior_of_another_number_of_classes() -> None:
    """Guards against broadcasting one share over all classes."""
    with pytest.raises(UserError, match="Align: expected a prior of 3 class shares, found 2"):
        align([0.5, 0.5], num_classes=3)


def to_labeled(momentum: float = 0.9, num_classes: int = 2) -> AlignToLabeled:
    part = AlignToLabeled(momentum)
    part.bind(num_classes, 1)
    return part


def test_align_to_labeled_after_one_step_and_after_two() -> None:
    """Guards both averages, and which of them divides; m = .9, both start at [.5, .5].

    q̄ = [.8, .2], p̄ = [.6, .4]: E[q] = [.53, .47], E[p] = [.51, .49]; [.6, .4] → [.577358, .417021], normalized
    [.580622, .419378]. q̄ = [.2, .8], p̄ = [.3, .7]: E[q] = [.497, .503], E[p] = [.489, .511]; [.6, .4] → [.590342, .406362],
    normalized [.592294, .407706].
    """
    part, q = to_labeled(), torch.tensor([[0.6, 0.4]])
    part.observe(Signals(torch.tensor(FIRST), labeled_logits=torch.tensor([[0.5, 0.5], [0.7, 0.3]]).log()))
    torch.testing.assert_close(part.mean_probs, torch.tensor([0.53, 0.47]))
    torch.testing.assert_close(part.target_prior, torch.tensor([0.51, 0.49]))
    torch.testing.assert_close(part(q), torch.tensor([[0.580622, 0.419378]]), atol=1e-6, rtol=0)
    part.observe(Signals(torch.tensor(SECOND), labeled_logits=torch.tensor([[0.3, 0.7]]).log()))
    torch.testing.assert_close(part.mean_probs, torch.tensor([0.497, 0.503]))
    torch.testing.assert_close(part.target_prior, torch.tensor([0.489, 0.511]))
    torch.testing.assert_close(part(q), torch.tensor([[0.592294, 0.407706]]), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-6), (torch.bfloat16, 4e-3)])
def test_align_to_labeled_is_the_slow_loop(dtype: torch.dtype, tolerance: float) -> None:
    """It is Align with the labeled rows' moving average for a prior; float32 state for any input."""
    torch.manual_seed(0)
    batches = torch.randn(4, 6, 3, dtype=torch.float64).softmax(-1).to(dtype)
    labeled = torch.randn(4, 5, 3, dtype=torch.float64).to(dtype)
    part = to_labeled(0.8, num_classes=3)
    prior = [1 / 3] * 3
    for batch, logits in zip(batches, labeled, strict=True):
        part.observe(Signals(batch, labeled_logits=logits))
        rows = [[math.exp(z) / sum(map(math.exp, row)) for z in row] for row in logits.tolist()]
        prior = [0.8 * prior[c] + 0.2 * sum(row[c] for row in rows) / len(rows) for c in range(3)]
    target = part(batches[-1])
    assert {state.dtype for state in part.state_dict().values()} == {torch.float32}
    assert target.dtype == dtype
    expected = torch.tensor(aligned_by_loop(batches, 0.8, prior), dtype=torch.float64)
    torch.testing.assert_close(target.double(), expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize(("momentum", "expected"), [(1.0, [0.6, 0.4]), (0.0, [0.04, 0.96])])
def test_align_to_labeled_limits(momentum: float, expected: list[float]) -> None:
    """m = 1: both averages stay uniform and cancel. m = 0: E[q] = [.8, .2], E[p] = [.1, .9], .6/8 : .4 · 4.5 = 1 : 24."""
    part = to_labeled(momentum)
    part.observe(Signals(torch.tensor([[0.8, 0.2]]), labeled_logits=torch.tensor([[0.1, 0.9]]).log()))
    torch.testing.assert_close(part(torch.tensor([[0.6, 0.4]])), torch.tensor([expected]))


def test_align_to_labeled_survives_classes_that_nobody_names() -> None:
    """Labeled rows surely of the first class, unlabeled ones surely of the second: guards against 0/0."""
    part = to_labeled(momentum=0.0)
    part.observe(Signals(torch.tensor([[0.0, 1.0]]), labeled_logits=torch.tensor([[1e4, -1e4]])))
    for q in ([[0.0, 1.0]], [[1.0, 0.0]], [[0.5, 0.5]]):
        aligned = part(torch.tensor(q))
        torch.testing.assert_close(aligned.sum(-1), torch.ones(1))
        assert (aligned >= 0).all()


def test_align_to_labeled_continues_from_its_saved_state_and_asking_changes_nothing() -> None:
    """Guards against a resumed run whose averages start anew, and against state that moves twice a step."""
    one, other = to_labeled(), to_labeled()
    rows = Signals(torch.tensor(FIRST), labeled_logits=torch.tensor([[0.2, 0.8]]).log())
    one.observe(rows)
    one(rows.probs)
    other.load_state_dict(one.state_dict())
    for part in (one, other):
        part.observe(rows)
    assert all(value.equal(other.state_dict()[name]) for name, value in one.state_dict().items())
    torch.testing.assert_close(one.target_prior, torch.tensor([0.443, 0.557]))  # .9 · (.45 + .02) + .02
