"""Confidence intervals of shares."""

import numpy as np
import pytest

from sstext.evaluation.intervals import effective_rows, paired_difference_interval, wilson_interval


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


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("rows", [20, 50, 100, 200, 400])
def test_intervals_of_95_percent_cover_the_share(share: float, rows: int) -> None:
    """Simulated data sets, seed 0: guards an interval that is too narrow near 1. Wilson's may cover a little less than 95 %
    there, because only few shares can occur. The percentiles of resamples would cover 18 % at .99 and 20 rows: four of five
    data sets have no error, and [100, 100]."""
    right = np.random.default_rng(0).binomial(rows, share, size=20_000)
    low, high = wilson_interval(right / rows, np.full(len(right), rows))
    covered = np.mean((low <= share) & (share <= high))
    assert 0.905 < covered < 0.99
    if share == 0.99 and rows == 20:
        assert np.mean(right == rows) == pytest.approx(0.818, abs=0.01), "canary"


def test_a_share_between_rows_of_unequal_weight_is_worth_fewer_rows() -> None:
    """Two classes of 40 and 10 rows that count alike: 2² / (1/40 + 1/10) = 32 rows; equal weights are worth all rows."""
    assert effective_rows([1 / 40] * 40 + [1 / 10] * 10) == pytest.approx(32)
    assert effective_rows([0.5] * 7) == pytest.approx(7)


def slow_score(gained: int, lost: int, rows: int, difference: float) -> float:
    """Tango's statistic with the share of lost rows q that maximizes the likelihood, found on a grid: gained rows have the
    share q + Δ, lost ones q, and the others 1 − 2q − Δ."""
    q = np.linspace(max(0.0, -difference), (1 - difference) / 2, 200_001)[1:-1]
    likelihood = (rows - gained - lost) * np.log(1 - 2 * q - difference)
    likelihood += (gained * np.log(q + difference) if gained else 0) + (lost * np.log(q) if lost else 0)
    best = q[likelihood.argmax()]
    return (gained - lost - rows * difference) / np.sqrt(rows * (2 * best + difference * (1 - difference)))


@pytest.mark.parametrize(("gained", "lost", "rows"), [(9, 2, 60), (1, 0, 60), (0, 3, 40), (5, 5, 30)])
def test_the_ends_of_a_paired_difference_have_the_score_of_the_level(gained: int, lost: int, rows: int) -> None:
    """Guards the closed form of the restricted estimate: at both ends, the statistic that a grid search finds is ∓1.96."""
    low, high = paired_difference_interval(gained, lost, rows)
    assert low < (gained - lost) / rows < high
    assert slow_score(gained, lost, rows, low) == pytest.approx(1.96, abs=0.005)
    assert slow_score(gained, lost, rows, high) == pytest.approx(-1.96, abs=0.005)
    assert paired_difference_interval(lost, gained, rows) == pytest.approx((-high, -low)), (
        "both models in the other order"
    )


def test_models_that_are_right_on_the_same_rows_may_still_differ() -> None:
    """Guards "0.0 [0.0, 0.0]": without a row that tells them apart, the ends are ± z²/(N + z²). If every row is gained, the
    interval ends at 1, and begins at Wilson's lower end of 60 of 60 on the scale from −1 to 1."""
    assert paired_difference_interval(0, 0, 60) == pytest.approx((-0.06017, 0.06017), abs=1e-5)
    assert paired_difference_interval(60, 0, 60) == pytest.approx((0.87966, 1), abs=1e-5)
    narrow, wide = (paired_difference_interval(4, 1, 60, level) for level in (0.5, 0.99))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
