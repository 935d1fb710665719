"""Selection: quotas that sum and follow the prior, the most confident rows first, and nothing in anyone's place."""

import re
from typing import Any

import numpy as np
import pytest

from sstext.errors import UserError
from sstext.selection import class_quotas, resolve_prior, select

UNIFORM = np.array([0.5, 0.5])


def scores(n: int = 200, classes: int = 3, seed: int = 0) -> np.ndarray:
    """(N, C) probabilities, every class predicted for some rows."""
    powers = np.exp(2 * np.random.default_rng(seed).normal(size=(n, classes)))
    return powers / powers.sum(-1, keepdims=True)


# Quotas


@pytest.mark.parametrize("total", [0, 1, 2, 7, 10, 999])
@pytest.mark.parametrize("prior", [[0.5, 0.25, 0.25], [1 / 3] * 3, [0.98, 0.01, 0.01], [0.123, 0.456, 0.421]])
def test_quotas_sum_to_the_total_and_follow_the_prior(total: int, prior: list[float]) -> None:
    """Each is within one of its exact share: guards against rounding each class on its own, which loses rows."""
    quotas = class_quotas(total, np.array(prior))
    assert quotas.sum() == total
    assert (np.abs(quotas - total * np.array(prior)) < 1).all()


def test_the_largest_remainders_get_the_rows_that_are_left() -> None:
    """7 · [.5, .3, .2] = [3.5, 2.1, 1.4]: the seventh row is the first class's. Equal remainders: the earlier class."""
    assert class_quotas(7, np.array([0.5, 0.3, 0.2])).tolist() == [4, 2, 1]
    assert class_quotas(4, np.full(3, 1 / 3)).tolist() == [2, 1, 1]


# Prior


@pytest.mark.parametrize(
    ("spec", "counts", "expected"),
    [
        ("uniform", [6, 2], [0.5, 0.5]),
        ("labeled", [6, 2], [0.75, 0.25]),
        ("auto", [6, 2], [0.75, 0.25]),
        ("auto", [4, 4], [0.5, 0.5]),  # balanced on purpose: they tell nothing of the corpus
        ("auto", [5, 4], [0.5, 0.5]),  # give or take one
        ("auto", [6, 4], [0.6, 0.4]),
        ("labeled", [5, 4], [5 / 9, 4 / 9]),  # asked for in words: taken at its word
        ("labeled", [4, 0], [1.0, 0.0]),
        ({"b": 3, "a": 1}, [4, 4], [0.25, 0.75]),  # by name, not by position, and counts are shares
    ],
)
def test_prior(spec: Any, counts: list[int], expected: list[float]) -> None:
    """Guards the rule of the issue, case by case."""
    labels = np.repeat(np.arange(2), counts)
    np.testing.assert_allclose(resolve_prior(spec, labels, ["a", "b"]), expected)


def test_prior_of_integer_classes() -> None:
    """YAML reads `1: 0.3` with a number for a key, but classes are strings."""
    np.testing.assert_allclose(resolve_prior({0: 0.7, 1: 0.3}, np.array([0, 1]), ["0", "1"]), [0.7, 0.3])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("balanced", "prior: expected auto, uniform, labeled or CLASS=SHARE …, found 'balanced'"),
        (None, "prior: expected auto, uniform, labeled"),
        ({"a": 0.5}, "prior: expected a share for each of 'a', 'b', found 'a'"),
        ({"a": 0.5, "c": 0.5}, "prior: expected a share for each of 'a', 'b', found 'a', 'c'"),
        ({"a": 1.0, "b": 0.0}, "prior: expected shares above 0"),
        ({"a": 1.0, "b": -1}, "prior: expected shares above 0"),
    ],
)
def test_a_prior_that_fits_no_task_is_refused(spec: Any, message: str) -> None:
    """Guards against a class that silently gets no quota."""
    with pytest.raises(UserError, match=re.escape(message)):
        resolve_prior(spec, np.array([0, 1]), ["a", "b"])


def test_a_share_that_is_no_number_is_a_users_error() -> None:
    """`--prior a=many b=few` should end in a message that names the prior."""
    with pytest.raises(UserError, match="prior"):
        resolve_prior({"a": "many", "b": "few"}, np.array([0, 1]), ["a", "b"])


# Selection


@pytest.mark.parametrize("share", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("prior", [[1 / 3] * 3, [0.6, 0.3, 0.1]])
def test_it_is_the_slow_loop(share: float, prior: list[float]) -> None:
    """Class by class, row by row: the most confident rows up to the quota, in the order of the corpus."""
    probabilities = scores()
    quotas = class_quotas(round(share * 200), np.array(prior))
    expected = []
    for number in range(3):
        mine = [row for row in range(200) if probabilities[row].argmax() == number]
        expected += sorted(mine, key=lambda row: -probabilities[row, number])[: quotas[number]]
    chosen = select(probabilities, share=share, prior=np.array(prior))
    assert chosen.rows.tolist() == sorted(expected)
    assert len(chosen) == len(expected) > 0
    assert (np.bincount(chosen.labels, minlength=3) <= quotas).all()
    np.testing.assert_array_equal(chosen.labels, probabilities[chosen.rows].argmax(-1))
    np.testing.assert_array_equal(chosen.confidence, probabilities[chosen.rows].max(-1))
    np.testing.assert_array_equal(chosen.weight, np.ones(len(chosen)))
    assert chosen.targets is None


def test_kept_rows_follow_the_prior_where_there_are_enough() -> None:
    """200 rows, a tenth kept, prior [.6, .3, .1]: 12, 6 and 2 rows. Guards against quotas by predicted shares."""
    chosen = select(scores(), share=0.1, prior=np.array([0.6, 0.3, 0.1]))
    assert np.bincount(chosen.labels).tolist() == [12, 6, 2]


def test_a_class_with_too_few_rows_is_not_refilled() -> None:
    """Class 1 is predicted once for a quota of two: guards against rows of another class in its place."""
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6]])
    chosen = select(probabilities, share=1.0, prior=UNIFORM)
    assert chosen.rows.tolist() == [0, 1, 3]
    assert chosen.labels.tolist() == [0, 0, 1]


def test_a_class_that_is_never_predicted_keeps_none() -> None:
    """Guards against a crash, or an invented label, where a class has no candidate."""
    chosen = select(np.array([[0.9, 0.1], [0.8, 0.2]]), share=1.0, prior=UNIFORM)
    assert chosen.rows.tolist() == [0]


def test_min_confidence_keeps_its_boundary() -> None:
    """≥: rows below it are never kept, whatever the quota; above every confidence none is, and that is no error."""
    probabilities = np.array([[0.9, 0.1], [0.75, 0.25], [0.7, 0.3], [0.25, 0.75], [0.3, 0.7]])
    assert select(probabilities, share=1.0, prior=UNIFORM, min_confidence=0.75).rows.tolist() == [0, 1, 3]
    nothing = select(probabilities, share=1.0, prior=UNIFORM, min_confidence=0.95, soft=True)
    assert len(nothing) == 0
    assert nothing.targets is not None
    assert nothing.targets.shape == (0, 2)


def test_ties_go_to_the_earlier_row() -> None:
    """Guards against an order that changes between numpy's sorts, and with it a resumed run's rows."""
    confidence = np.random.default_rng(0).choice([0.75, 0.875, 0.9375], 300)
    top = np.flatnonzero(confidence == 0.9375)
    chosen = select(np.stack([confidence, 1 - confidence], -1), share=0.1, prior=np.array([1.0, 0.0]))
    assert len(top) > 60
    assert chosen.rows.tolist() == top[:30].tolist()


def test_soft_targets_are_the_rows_own_probabilities() -> None:
    """Guards against targets in the order of confidence beside rows in the order of the corpus."""
    probabilities = scores()
    chosen = select(probabilities, share=0.3, prior=np.full(3, 1 / 3), soft=True)
    assert chosen.targets is not None
    assert chosen.targets.dtype == np.float32
    np.testing.assert_allclose(chosen.targets, probabilities[chosen.rows], rtol=1e-6)


def test_a_larger_share_keeps_what_a_smaller_one_kept() -> None:
    """Rounds grow: guards against a selection that is not nested for the same scores."""
    kept = [set(select(scores(), share=share, prior=np.full(3, 1 / 3)).rows) for share in (0.1, 0.3, 0.6)]
    assert kept[0] < kept[1] < kept[2]


def test_selection_leaves_the_scores_alone() -> None:
    """Guards against in-place work on scores that are audited and written afterwards."""
    probabilities = scores()
    select(probabilities, share=0.5, prior=np.full(3, 1 / 3), soft=True)
    np.testing.assert_array_equal(probabilities, scores())


def test_a_class_without_labels_gets_no_quota() -> None:
    """A ClassLabel column may name classes that nobody labeled: guards against quotas that are filled with guesses."""
    labels = np.array([0, 0, 2, 2])
    assert resolve_prior("auto", labels, ["a", "b", "c"]).tolist() == [0.5, 0.0, 0.5]
    assert resolve_prior("uniform", labels, ["a", "b", "c"]).tolist() == [0.5, 0.0, 0.5]


def test_the_smallest_corpus_gives_its_one_row() -> None:
    """Guards against round(.3 · 1) = 0 rows."""
    assert len(select(np.array([[0.9, 0.1]]), share=0.3, prior=np.array([0.5, 0.5]))) == 1


def test_slices_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the borders of slices: rows of 100 texts in slices of 7 are those of one look."""
    whole = select(scores(), share=0.5, prior=np.full(3, 1 / 3)).rows
    monkeypatch.setattr("sstext.selection.SLICE_ROWS", 7)
    assert np.array_equal(select(scores(), share=0.5, prior=np.full(3, 1 / 3)).rows, whole)
