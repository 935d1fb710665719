"""What holds for all thresholds that learn: state, purity, resuming, extreme rows, arguments."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sstext.errors import UserError
from sstext.objective.adaptive import Curriculum, LossThreshold, Relative, SelfAdaptive
from sstext.objective.part import Signals
from sstext.objective.targets import Align
from sstext.objective.weights import Weight

DTYPES = [torch.float32, torch.float64, torch.bfloat16]
Make = Callable[[], Weight]

PARTS: list[Make] = [
    lambda: Curriculum(0.7),
    lambda: Curriculum(0.7, warmup=False),
    lambda: SelfAdaptive(0.5),
    lambda: Relative(momentum=0.5),
    lambda: Relative(of=Align(momentum=0.5)),
    lambda: LossThreshold(warmup=0.0, interval=0.2),
]
EVERY_PART = pytest.mark.parametrize("make", PARTS)


def bound(part: Any, num_classes: int = 3, num_rows: int = 12) -> Any:
    """The part and those that it is made of, ready for a corpus."""
    for module in part.modules():
        module.bind(num_classes, num_rows)
    return part


def steps(dtype: torch.dtype = torch.float32) -> list[Signals]:
    """Three steps of 16 rows, of 12 in the corpus, and 4 labeled rows; 3 classes."""
    generator = torch.Generator().manual_seed(1)

    def logits(rows: int) -> Tensor:
        return 2 * torch.randn(rows, 3, generator=generator)

    seen = []
    for progress in (0.0, 0.3, 0.6):
        labels = torch.randint(3, (4,), generator=generator)
        mostly_right = (logits(4) + 4 * F.one_hot(labels, 3)).to(dtype)
        ids = torch.randint(12, (16,), generator=generator)
        seen.append(Signals(logits(16).softmax(-1).to(dtype), None, ids, mostly_right, labels, progress))
    return seen


def learn(part: Weight, seen: list[Signals]) -> Weight:
    for step in seen:
        for module in part.modules():
            module.observe(step)
    return part


@EVERY_PART
@pytest.mark.parametrize("dtype", DTYPES)
def test_state_is_float32_and_weights_are_zero_or_one(make: Make, dtype: torch.dtype) -> None:
    """Guards against averages in bfloat16, where 1 − .999 vanishes, and against weights in another type than the rows'."""
    part, seen = bound(make()), steps(dtype)
    weight = learn(part, seen)(seen[-1])
    assert (weight.shape, weight.dtype) == ((16,), dtype)
    assert set(weight.tolist()) == {0.0, 1.0}
    assert {state.dtype for state in part.state_dict().values() if state.is_floating_point()} == {torch.float32}


@EVERY_PART
def test_weighing_changes_no_state_and_needs_no_other_rows(make: Make) -> None:
    """Guards against state that moves twice a step, and against a process that weighs its rows without the others' rows."""
    part, seen = bound(make()), steps()
    learn(part, seen)
    before = copy.deepcopy(part.state_dict())
    whole = part(seen[-1])
    own = Signals(seen[-1].probs[4:9], ids=seen[-1].ids[4:9], progress=seen[-1].progress)
    assert part(own).equal(whole[4:9])
    assert part(seen[-1]).equal(whole)
    assert all(value.equal(before[name]) for name, value in part.state_dict().items())
    assert before


@EVERY_PART
def test_learning_goes_on_from_a_saved_state(make: Make) -> None:
    """Guards against a resumed run whose thresholds start anew."""
    seen = steps()
    saved, resumed = learn(bound(make()), seen[:2]).state_dict(), bound(make())
    resumed.load_state_dict(saved)
    whole, resumed = learn(bound(make()), seen), learn(resumed, seen[2:])
    anew = learn(bound(make()), seen[2:])
    assert same(resumed, whole)
    assert not same(anew, whole)


def same(one: Weight, other: Weight) -> bool:
    state = other.state_dict()
    return all(value.equal(state[name]) for name, value in one.state_dict().items())


@EVERY_PART
@pytest.mark.parametrize("dtype", DTYPES)
def test_extreme_rows_leave_everything_finite(make: Make, dtype: torch.dtype) -> None:
    """One-hot rows, rows of zeros, ties, labeled logits of ±10⁴ and a step without rows: guards against 0/0 and log 0."""
    part = bound(make())
    probs = torch.tensor([[1, 0, 0], [0, 0, 0], [0.5, 0.5, 0], [1 / 3] * 3, [1 - 1e-7, 1e-7, 0]], dtype=dtype)
    logits = torch.tensor([[1e4, -1e4, 0], [0, 0, 0], [-1e4, -1e4, 1e4]], dtype=dtype)
    for progress in (0.0, 0.5, 1.0):
        rows = Signals(probs, None, torch.arange(5), logits, torch.tensor([1, 0, 2]), progress)
        learn(part, [rows, rows.map(lambda tensor: tensor[:0])])
        weight = part(rows)
        assert ((weight == 0) | (weight == 1)).all()
        assert all(state.isfinite().all() for state in part.state_dict().values())


@pytest.mark.parametrize(
    ("part", "missing"),
    [(Curriculum(), "ids"), (Relative(), "labeled_logits"), (LossThreshold(warmup=0.0), "labeled_logits")],
)
def test_a_missing_signal_is_named(part: Weight, missing: str) -> None:
    """Guards against an error of Python's from deep inside a step."""
    with pytest.raises(UserError, match=f"{type(part).__name__} needs '{missing}'"):
        bound(part).observe(Signals(torch.tensor([[0.9, 0.1]])))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Curriculum(1.1), "threshold: expected a number between 0 and 1, found 1.1"),
        (lambda: SelfAdaptive(-0.1), "momentum: expected a number between 0 and 1, found -0.1"),
        (lambda: Relative(-1), "factor: expected a number at least 0, found -1"),
        (lambda: Relative(momentum=2), "momentum: expected"),
        (lambda: LossThreshold(c=-1), "c: expected"),
        (lambda: LossThreshold(gamma=0.9), "gamma: expected a number at least 1, found 0.9"),
        (lambda: LossThreshold(floor=-1), "floor: expected"),
        (lambda: LossThreshold(warmup=1.5), "warmup: expected"),
        (lambda: LossThreshold(interval=0), "interval: expected a number between 0.001 and 1, found 0"),
        (lambda: LossThreshold(temperature=0), "temperature: expected"),
    ],
)
def test_values_out_of_range_are_refused(make: Make, message: str) -> None:
    """Guards against a run that trains for an hour on a typo."""
    with pytest.raises(UserError, match=message):
        make()
