"""A sample of rows that are all labeled: which rows it takes, and what it cannot do."""

import re
from typing import Any

import numpy as np
import pytest

from sstext.data.sampling import Sample, draw, few_labels, measured_rows
from sstext.errors import UserError

LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 1])


def test_rows_by_hand() -> None:
    """default_rng(0).permutation(10) = 4 6 2 7 3 5 9 0 8 1; rows 0–3 are class 0, 4–9 are class 1.

    In that order: 1 1 0 1 0 1 1 0 1 0. First of each class: 4 and 2; then 6 7 3 5 unlabeled, and 9 0 to test on.
    """
    assert np.random.default_rng(0).permutation(10).tolist() == [4, 6, 2, 7, 3, 5, 9, 0, 8, 1], "numpy draws otherwise"
    drawn = draw(Sample(1, unlabeled=4, test=2), LABELS, ["a", "b"], seed=0, test_apart=False)
    assert (drawn.labeled.tolist(), drawn.unlabeled.tolist(), drawn.test.tolist()) == ([4, 2], [6, 7, 3, 5], [9, 0])


@pytest.mark.parametrize("seed", range(5))
def test_the_first_of_each_class_against_a_slow_loop(seed: int) -> None:
    """Guards the counting within classes, for names that are no numbers, and a class with fewer rows than asked."""
    labels = np.random.default_rng(99).choice(["x", "yy", "z"], size=200, p=[0.7, 0.28, 0.02]).tolist()
    counts, expected = dict.fromkeys(labels, 0), []
    for row in np.random.default_rng(seed).permutation(200):
        expected += [row] if counts[labels[row]] < 5 else []
        counts[labels[row]] += 1
    labeled, others = few_labels(labels, n=5, seed=seed)
    assert labeled.tolist() == expected
    assert sorted([*labeled, *others]) == list(range(200))
    assert counts["z"] < 5, "canary: a thin class is among them"


def test_what_is_not_said_takes_all_there_is() -> None:
    """No `unlabeled`: all other rows, but those of the test; a test file of its own takes none of them."""
    alone = draw(Sample(2, test=3), LABELS, ["a", "b"], seed=1, test_apart=False)
    assert [len(part) for part in (alone.labeled, alone.unlabeled, alone.test)] == [4, 3, 3]
    apart = draw(Sample(2, test=3), LABELS, ["a", "b"], seed=1, test_apart=True)
    assert [len(part) for part in (apart.labeled, apart.unlabeled, apart.test)] == [4, 6, 0]
    assert sorted(measured_rows(Sample(2), 4)) == [0, 1, 2, 3]


def test_test_rows_are_drawn_but_the_same_at_every_seed() -> None:
    """Guards a test file that is sorted by class, of which the first rows are one class alone."""
    rows = measured_rows(Sample(1, test=100), 1000)
    assert len(set(rows)) == 100
    assert (rows < 500).sum() == pytest.approx(50, abs=15)
    assert measured_rows(Sample(1, test=100), 1000).tolist() == rows.tolist()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"labels": 10}, "sample: unknown key 'labels'; the keys are labels_per_class, unlabeled, test"),
        ({"unlabeled": 10}, "sample: expected labels_per_class, found none"),
        ({"labels_per_class": "ten"}, "sample: labels_per_class: expected int, found 'ten'"),
        ({"labels_per_class": 10, "test": 1.5}, "sample: test: expected int, found 1.5"),
        ({"labels_per_class": 10, "unlabeled": 0}, "at least 1, found 'unlabeled=0'"),
    ],
)
def test_samples_that_are_none(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        Sample.of(given)


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (Sample(5), "at least labels_per_class=5 rows of every class, found 4 of 'a'"),
        (Sample(2, unlabeled=7), "expected 7 unlabeled rows besides the 4 labeled ones, found 6 rows"),
        (
            Sample(2, unlabeled=4, test=3),
            "expected 4 unlabeled and 3 test rows besides the 4 labeled ones, found 6 rows",
        ),
        (Sample(2, test=6), "expected 1 unlabeled and 6 test rows"),
    ],
)
def test_too_few_rows_are_said(sample: Sample, message: str) -> None:
    """Guards a claim on fewer rows than the recipe names."""
    with pytest.raises(UserError, match=re.escape(message)):
        draw(sample, LABELS, ["a", "b"], seed=0, test_apart=False)


def test_too_few_test_rows_are_said() -> None:
    with pytest.raises(UserError, match="expected 1,000 test rows, found 30 in the test data"):
        measured_rows(Sample(1, test=1000), 30)
