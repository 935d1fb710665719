"""Confidence intervals of shares."""

import numpy as np
import pytest

from sstext.evaluation.intervals import wilson_interval


def test_an_interval_of_a_share_stays_a_share() -> None:
    """Guards against the normal interval, which is empty at 100 %; the values are Wilson's for 10 of 10 and 0 of 10."""
    low, high = wilson_interval(np.array([1.0, 0.0]), np.array([10, 10]))
    np.testing.assert_allclose([low[0], high[1]], [0.72246, 0.27754], atol=1e-4)
    np.testing.assert_allclose([high[0], low[1]], [1, 0], atol=1e-12)


def test_the_level_and_the_rows_set_the_width() -> None:
    """Wilson's interval of 7 of 10 at 90 % and at 95 %, from the formula with z = 1.6449 and z = 1.9600: guards a level that is
    not used. With more rows, it ends in the normal interval, .7 ± 1.96 √(.21/N)."""
    assert [float(end) for end in wilson_interval(0.7, 10, 0.9)] == pytest.approx([0.44170, 0.87312], abs=1e-4)
    assert [float(end) for end in wilson_interval(0.7, 10)] == pytest.approx([0.39677, 0.89221], abs=1e-4)
    half = 1.96 * (0.21 / 1e6) ** 0.5
    assert [float(end) for end in wilson_interval(0.7, 1_000_000)] == pytest.approx([0.7 - half, 0.7 + half], abs=1e-5)
