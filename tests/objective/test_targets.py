"""Targets: rows of probabilities in, rows of probabilities out; alignment to the hand-derived digit."""

import pytest
import torch
from torch import Tensor

from sstext.errors import UserError
from sstext.objective.part import Signals
from sstext.objective.targets import Align, Hard, Soft, Target

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
