"""Dash: the bound on the loss and the target that follows it, by hand and as slow loops."""

import math
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from sstext.objective.adaptive import LossThreshold, SoftThenHard
from sstext.objective.part import Signals

DTYPES = [torch.float32, torch.float64, torch.bfloat16]


def bound(part: Any, num_classes: int = 2, num_rows: int = 4) -> Any:
    """The part and those that it is made of, ready for a corpus."""
    for module in part.modules():
        module.bind(num_classes, num_rows)
    return part


def labeled(*correct: float, probs: list[list[float]] | None = None, progress: float = 0.0) -> Signals:
    """Labeled rows of two classes whose label has these probabilities, beside unlabeled ones."""
    p = torch.tensor([[value, 1 - value] for value in correct])
    q = torch.tensor(probs if probs is not None else [[0.5, 0.5]])
    return Signals(q, labeled_logits=p.log(), labels=torch.zeros(len(p), dtype=torch.long), progress=progress)


def test_dash_bound_by_hand() -> None:
    """ρ₀ = mean labeled loss from the warm-up's end to the first reduction; guards against ρ₀ of the warm-up, against a mean
    of means, against one that goes on moving, and against .15 − .1 < .05.

    t = .1: −ln .5 = .693147. t = .12: + −ln .8 − ln .9, ÷ 3 = .340551. t = .15: ρ = 1.0001 · .340551/1.27 = .268177.
    """
    part = bound(LossThreshold(warmup=0.1, interval=0.05))
    part.observe(labeled(0.01, progress=0.09))
    assert part.rows_seen.item() == 0
    for progress, correct, expected in (
        (0.1, [0.5], 1.0001 * 0.693147),
        (0.12, [0.8, 0.9], 1.0001 * 0.340551),
        (0.15, [0.01], 0.268177),
        (0.2, [0.01], 0.268177 / 1.27),
    ):
        part.observe(labeled(*correct, progress=progress))
        assert part.bound.item() == pytest.approx(expected, abs=1e-5)
    assert (part.rows_seen.item(), part.initial_loss.item()) == (3, pytest.approx(0.340551, abs=1e-6))


def test_dash_bound_is_at_its_floor_after_sixty_percent() -> None:
    """From ρ₀ = .5: 1.0001 · .5/1.27⁹ = .058178 at t = .55, and .045810 → .05 at t = .6; there it stays."""
    part = bound(LossThreshold())
    part.observe(labeled(math.exp(-0.5), progress=0.1))
    for progress, expected in ((0.55, 0.058178), (0.599, 0.058178), (0.6, 0.05), (1.0, 0.05)):
        part.observe(labeled(0.5, progress=progress))
        assert part.bound.item() == pytest.approx(expected, abs=1e-5)


def test_dash_keeps_no_row_during_the_warm_up() -> None:
    """Not even a certain one, whose loss is 0; right after it, all that lie below ρ."""
    part, q = bound(LossThreshold(warmup=0.1)), [[1.0, 0.0], [0.9, 0.1], [0.5, 0.5]]
    part.observe(rows := labeled(0.6, probs=q, progress=0.05))
    assert part(rows).tolist() == [0, 0, 0]
    part.observe(rows := labeled(0.6, probs=q, progress=0.1))  # ρ = .511; losses 0, .132, .693
    assert part(rows).tolist() == [1, 1, 0]


def test_dash_takes_the_first_loss_there_is() -> None:
    """A training of few steps may have none between the warm-up and the first reduction: guards against ρ₀ = 0 for ever."""
    part = bound(LossThreshold(warmup=0.1, interval=0.05))
    for correct in (0.5, 0.9):
        part.observe(labeled(correct, progress=0.3))
        assert part.bound.item() == pytest.approx(1.0001 * 0.693147 / 1.27**4, abs=1e-5)


def test_dash_target_is_soft_until_the_floor_and_hard_from_then_on() -> None:
    """Guards the switch, and a weight that measures another target than the student's.

    ρ = 1.0001 · −ln .6 = .510877: [.64, .36] becomes .4096 : .1296 = [.759644, .240356] and costs .584578; its hard target
    would cost .446287. At the floor, .05, [.9513, .0487] is [1, 0] and costs .049926; the soft one would cost .057695.
    """
    part = bound(LossThreshold(temperature=0.5))
    target, probs = SoftThenHard(part), [[0.64, 0.36], [0.7, 0.3], [0.9513, 0.0487]]
    part.observe(rows := labeled(0.6, probs=probs, progress=0.1))
    torch.testing.assert_close(target(rows.probs)[0], torch.tensor([0.759644, 0.240356]), atol=1e-6, rtol=0)
    assert part(rows).tolist() == [0, 1, 1]
    part.observe(rows := labeled(0.6, probs=probs, progress=1.0))
    assert target(rows.probs).tolist() == [[1, 0]] * 3
    assert part(rows).tolist() == [0, 0, 1]


def test_dash_temperature_has_an_effect() -> None:
    """.75 costs .422 at T = .5 ([.9, .1]), .562 at T = 1; ρ = .5: guards against a temperature that is ignored."""
    for temperature, expected in ((0.5, [1]), (1.0, [0])):
        part = bound(LossThreshold(warmup=0.0, temperature=temperature))
        part.observe(rows := labeled(math.exp(-0.5), probs=[[0.75, 0.25]]))
        assert part(rows).tolist() == expected


@pytest.mark.parametrize(("floor", "expected"), [(0.0, [0, 0, 1]), (100.0, [1, 1, 1])])
def test_dash_limits(floor: float, expected: list[int]) -> None:
    """A bound of 0 keeps certain rows alone, one that is out of sight all."""
    part = bound(LossThreshold(gamma=1e6, floor=floor, warmup=0.0))
    for progress in (0.0, 0.9):
        part.observe(rows := labeled(0.6, probs=[[0.5, 0.5], [0.9, 0.1], [0.0, 1.0]], progress=progress))
    assert part(rows).tolist() == expected


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("progress", "reductions"), [(0.1, 0), (0.3, 4), (0.9, 16)])
def test_dash_is_the_slow_loop(dtype: torch.dtype, progress: float, reductions: int) -> None:
    """Guards the vectorized loss, soft and hard."""
    torch.manual_seed(0)
    probs = (3 * torch.randn(128, 3, dtype=torch.float64)).softmax(-1).to(dtype)
    labels = torch.randint(3, (8,))
    logits = (torch.randn(8, 3, dtype=torch.float64) + 2 * F.one_hot(labels, 3)).to(dtype)  # mostly right
    part = bound(LossThreshold(), num_classes=3)
    for t in (0.1, progress):
        part.observe(rows := Signals(probs, labeled_logits=logits, labels=labels, progress=t))
    rows_of_labels = zip(logits.tolist(), labels.tolist(), strict=True)
    loss = sum(math.log(sum(map(math.exp, row))) - row[label] for row, label in rows_of_labels) / 8
    rho = max(1.0001 * 1.27**-reductions * loss, 0.05)
    assert (rho > 0.05) == (progress < 0.9)
    kept = []
    for row in probs.tolist():
        soft = [p**2 / sum(other**2 for other in row) for p in row]
        hard = [float(c == row.index(max(row))) for c in range(3)]
        target = soft if rho > 0.05 else hard
        kept.append(float(-sum(t * math.log(p) for t, p in zip(target, row, strict=True) if t) <= rho))
    assert part(rows).tolist() == kept
    assert 0 < sum(kept) < len(kept)
