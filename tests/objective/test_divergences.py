"""Divergences: per row, in float32, right at the edges where a logarithm is not."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sstext.objective.divergences import cross_entropy, kl, squared_error

Divergence = Callable[[Tensor, Tensor], Tensor]
ALL = [cross_entropy, kl, squared_error]


def softmax_by_loop(row: list[float]) -> list[float]:
    powers = [math.exp(value - max(row)) for value in row]
    return [power / sum(powers) for power in powers]


def by_loop(divergence: Divergence, logits: Tensor, target: Tensor) -> list[float]:
    """The formulas of the docstrings in plain Python, one number at a time."""
    rows = []
    for row, wanted in zip(logits.tolist(), target.tolist(), strict=True):
        pairs = list(zip(softmax_by_loop(row), wanted, strict=True))
        if divergence is squared_error:
            rows.append(sum((p - q) ** 2 for p, q in pairs) / len(pairs))
            continue
        loss = -sum(q * math.log(p) for p, q in pairs)
        entropy = -sum(q * math.log(q) for _, q in pairs if q > 0)
        rows.append(loss - entropy if divergence is kl else loss)
    return rows


def batch(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Logits (16, 3) and targets with a hard row first."""
    torch.manual_seed(0)
    target = torch.randn(16, 3).softmax(-1)
    target[0] = torch.tensor([0.0, 1.0, 0.0])
    return (2 * torch.randn(16, 3)).to(dtype), target.to(dtype)


@pytest.mark.parametrize("divergence", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_it_is_the_slow_loop_in_float32(divergence: Divergence, dtype: torch.dtype) -> None:
    """Guards the vectorized form, and against a loss that is rounded to bfloat16."""
    logits, target = batch(dtype)
    loss = divergence(logits, target)
    assert (loss.shape, loss.dtype) == ((16,), torch.float32)
    torch.testing.assert_close(loss, torch.tensor(by_loop(divergence, logits, target)), atol=2e-6, rtol=2e-6)


def test_golden_values() -> None:
    """p = [.8, .2], q = [.5, .5]: H = −½(ln .8 + ln .2) = .916291; KL = H − ln 2 = .223144; MSE = .3² = .09."""
    logits, target = torch.tensor([[0.8, 0.2]]).log(), torch.tensor([[0.5, 0.5]])
    assert cross_entropy(logits, target).item() == pytest.approx(0.916291, abs=1e-6)
    assert kl(logits, target).item() == pytest.approx(0.223144, abs=1e-6)
    assert squared_error(logits, target).item() == pytest.approx(0.09, abs=1e-6)


def test_kl_is_not_symmetric_and_runs_from_the_target() -> None:
    """KL(q ‖ p) with q = [.9, .1], p = [.5, .5]: .9 ln 1.8 + .1 ln .2 = .368064; KL(p ‖ q) would be .510826."""
    assert kl(torch.zeros(1, 2), torch.tensor([[0.9, 0.1]])).item() == pytest.approx(0.368064, abs=1e-6)


def test_kl_is_cross_entropy_minus_the_targets_entropy() -> None:
    """Relations of the docstring; with hard targets the two are one."""
    logits, target = batch()
    entropy = torch.special.entr(target).sum(-1)
    torch.testing.assert_close(kl(logits, target), cross_entropy(logits, target) - entropy)
    assert kl(logits, target)[0] == cross_entropy(logits, target)[0]


@pytest.mark.parametrize("divergence", [kl, squared_error])
def test_no_disagreement_costs_nothing_and_any_costs_something(divergence: Divergence) -> None:
    """0 if and only if p = q: guards against a constant that hides whether the student agrees."""
    logits, target = batch()
    torch.testing.assert_close(divergence(logits, logits.softmax(-1)), torch.zeros(16), atol=5e-7, rtol=0)
    assert (divergence(logits, target) > 1e-3).all()


@pytest.mark.parametrize("divergence", ALL)
def test_zero_times_log_zero_is_zero(divergence: Divergence) -> None:
    """A hard target and a student sure to the last bit: finite, with a finite gradient."""
    logits = torch.tensor([[1000.0, -1000.0], [-1000.0, 1000.0]], requires_grad=True)
    loss = divergence(logits, torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    loss.sum().backward()
    assert loss[0].item() == 0.0
    assert loss[1].item() == (1.0 if divergence is squared_error else 2000.0)
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("divergence", [cross_entropy, kl])
def test_the_gradient_is_prediction_minus_target(divergence: Divergence) -> None:
    """∂/∂logits = p − q: guards sign and direction, and a softmax applied twice."""
    logits, target = batch()
    logits.requires_grad_()
    divergence(logits, target).sum().backward()
    torch.testing.assert_close(logits.grad, logits.detach().softmax(-1) - target, atol=1e-6, rtol=0)


@pytest.mark.parametrize("divergence", ALL)
@pytest.mark.parametrize("shape", [(2,), (2, 1), (1, 3), (3, 2)])
def test_a_target_of_another_shape_is_refused(divergence: Divergence, shape: tuple[int, ...]) -> None:
    """Guards against broadcasting class numbers or a transposed target into a number that looks like a loss."""
    with pytest.raises(ValueError, match=r"expected a target of the logits' shape \(2, 3\), found"):
        divergence(torch.zeros(2, 3), torch.zeros(shape))
