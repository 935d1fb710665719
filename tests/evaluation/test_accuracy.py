"""The estimated accuracy of a model without test rows."""

import numpy as np
import pytest

from sstext.evaluation.accuracy import (
    WORTH_OF_HELD_OUT,
    estimate_accuracy,
    gain_over,
    weights_of_random_labels,
)


def test_rows_count_as_their_weights_say() -> None:
    """By hand: (3·1 + 1·0) / 4 = .75 with weights 3 and 1, and n = 4²/(9 + 1) = 1.6. Guards weights that change only one of
    the two."""
    found = estimate_accuracy([True, False], [3.0, 1.0])
    assert found.value == 0.75
    assert found.effective_rows == pytest.approx(1.6)
    assert found.rows == 2
    assert estimate_accuracy([True, False], [6.0, 2.0]) == found, "only their ratios matter"


def test_the_interval_is_wilsons_with_the_rows_that_count() -> None:
    """7 of 10 rows at 90 % (test_intervals has the formula), and 0.5 · 20 rows likewise. Guards a level or a worth that is not
    used."""
    for right, worth in (([True] * 7 + [False] * 3, 1.0), ([True] * 14 + [False] * 6, 0.5)):
        found = estimate_accuracy(right, worth=worth)
        assert (found.low, found.high) == pytest.approx((0.44170, 0.87312), abs=1e-4)
        assert found.level == 0.9


def test_a_gain_moves_the_estimate_but_not_beyond_a_share() -> None:
    """.5 + .25 = .75, with the interval of 3 in 4; and 1 + .25 is 1. Guards an interval around the figure without the gain."""
    moved, straight = estimate_accuracy([True, False] * 2, gain=0.25), estimate_accuracy([True, True, True, False])
    assert (moved.value, moved.low, moved.high) == (straight.value, straight.low, straight.high)
    assert moved.gain == 0.25
    assert estimate_accuracy([True], gain=0.25).value == 1


def test_the_gain_counts_only_rows_that_are_predicted_otherwise() -> None:
    """By hand: row 0 is agreed on; in row 1, one of two chains has the class with .2 instead of .6: (0 + (.6 - .4)) / 2 = .1.
    A model that does what the chains do has no gain."""
    q = np.array([[0.9, 0.1, 0.0], [0.2, 0.6, 0.2]])
    assert gain_over(q, np.array([0, 1]), np.array([[0, 1], [0, 2]])) == pytest.approx(0.1)
    assert gain_over(q, np.array([0, 1]), np.array([[0, 1], [0, 1]])) == 0
    assert gain_over(q, np.array([0, 0]), np.array([[0, 1], [0, 1]])) < 0, "a worse model loses"


def test_random_labels_do_not_prove_their_own_class_shares() -> None:
    """A teacher that always predicts the most frequent label knows nothing: on a balanced corpus it is right half of the time.
    Held-out rows of 10 random labels make it better than that (mean of max(k, 10 - k) / 10 = .623 by the binomial). Guards the
    weights against having no effect or the wrong sign; with many rows they disappear."""
    rng = np.random.default_rng(0)
    plain, weighted = [], []
    for labels in rng.integers(2, size=(2_000, 10)):
        right = labels == np.bincount(labels).argmax()
        plain.append(estimate_accuracy(right).value)
        weighted.append(estimate_accuracy(right, weights_of_random_labels(labels)).value)
    assert np.mean(plain) == pytest.approx(0.623, abs=0.01)
    assert 0.5 < np.mean(weighted) < np.mean(plain) - 0.01
    many = np.repeat([0, 1], [3_000, 7_000])
    assert estimate_accuracy(many == 1, weights_of_random_labels(many)).value == pytest.approx(0.7, abs=1e-3)


@pytest.mark.parametrize("accuracy", [0.5, 0.7, 0.9])
def test_the_interval_holds_its_promise(accuracy: float) -> None:
    """60 held-out rows in three folds. The accuracies of their students and of the model vary by .08 √(p(1 - p)): 3.7 points at
    70 %. Guards the worth of a held-out row: the interval must cover at least 90 %, and without the worth it does not."""
    rng, draws = np.random.default_rng(0), 2_000
    covered = {WORTH_OF_HELD_OUT: 0, 1.0: 0}
    for _ in range(draws):
        model, *folds = rng.normal(accuracy, 0.08 * (accuracy * (1 - accuracy)) ** 0.5, 4)
        right = np.concatenate([rng.random(20) < fold for fold in folds])
        for worth in covered:
            found = estimate_accuracy(right, worth=worth)
            covered[worth] += found.low <= model <= found.high
    assert covered[WORTH_OF_HELD_OUT] / draws >= 0.9
    assert covered[1.0] / draws < 0.9
