"""Ramps: 0 or nearly so at the start, 1 from their length on, by the papers' formulas."""

import math

import pytest

from sstext.errors import UserError
from sstext.objective.ramps import Ramp, cosine_ramp, linear_ramp, sigmoid_ramp


def test_linear_ramp() -> None:
    """min(1, t/(.4 T)) (Lee 2013)."""
    ramp = linear_ramp(0.4)
    assert [ramp(progress) for progress in (0.0, 0.1, 0.2, 0.4, 1.0)] == pytest.approx([0, 0.25, 0.5, 1, 1])


def test_sigmoid_ramp() -> None:
    """exp(−5 (1 − x)²): .006738 at the start, exp(−1.25) half way (Laine & Aila 2017)."""
    ramp = sigmoid_ramp(0.4)
    assert [ramp(progress) for progress in (0.0, 0.2, 0.4, 1.0)] == pytest.approx([math.exp(-5), math.exp(-1.25), 1, 1])


def test_cosine_ramp() -> None:
    """½ (1 − cos(min(π, 2 π t/T))): 0, ½ at a quarter of the training, 1 from its middle on (AdaMatch)."""
    ramp = cosine_ramp(0.5)
    for progress in (0.0, 0.1, 0.25, 0.5, 0.8, 1.0):
        assert ramp(progress) == pytest.approx((1 - math.cos(min(math.pi, 2 * math.pi * progress))) / 2)
    assert ramp(0.1) == pytest.approx(0.095492, abs=1e-6)


@pytest.mark.parametrize("ramp", [linear_ramp, sigmoid_ramp, cosine_ramp])
def test_no_length_is_no_ramp(ramp: type[Ramp]) -> None:
    """Guards against a division by zero, and against a length that is no share."""
    assert ramp(0.0)(0.0) == 1.0
    with pytest.raises(UserError, match="ramp: expected a number between 0 and 1"):
        ramp(1.5)
