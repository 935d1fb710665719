"""Admission: the order in which rows of a class join, by hand and by counting, and what it refuses."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from sstext.errors import UserError
from sstext.objective.targets import Align, Soft
from sstext.objective.weights import Everyone, Gaussian, Threshold
from sstext.pseudolabels.admission import Admission, Order, easy, hard, most_confident

CONFIDENCE = np.array([0.9, 0.6, 0.8])
DISAGREEMENT = np.array([0.2, 0.5, 0.9])


def first_two(order: Order, disagreement: np.ndarray, draws: int = 20_000) -> Counter[tuple[int, ...]]:
    """How often which two of three rows came first, in their order."""
    rng = np.random.default_rng(0)
    return Counter(tuple(np.argsort(-order(CONFIDENCE, disagreement, rng))[:2].tolist()) for _ in range(draws))


@pytest.mark.parametrize(("order", "odds"), [(easy, [0.8, 0.5, 0.1]), (hard, [0.2, 0.5, 0.9])])
def test_rows_are_drawn_with_their_odds_and_not_twice(order: Order, odds: list[float]) -> None:
    """P(a, then b) = o_a/Σo · o_b/(Σo − o_a), as of an urn; guards the sign of BALD, and draws that are not proportional."""
    found = first_two(order, DISAGREEMENT)
    total = sum(odds)
    for a, b in ((a, b) for a in range(3) for b in range(3) if a != b):
        expected = odds[a] / total * odds[b] / (total - odds[a])
        assert found[a, b] / 20_000 == pytest.approx(expected, abs=4 * (expected * (1 - expected) / 20_000) ** 0.5)


def test_odds_of_nothing_come_last_and_all_alike() -> None:
    """BALD of more than a nat leaves no odds to `easy`; none at all, as without dropout, must not end in one fixed row."""
    found = first_two(easy, np.array([0.5, 1.0, 1.3]))
    assert {first for first, _ in found} == {0}
    assert found[0, 1] / 20_000 == pytest.approx(0.5, abs=0.02)
    firsts = Counter(first for first, _ in first_two(hard, np.zeros(3)).elements())
    assert all(count / 20_000 == pytest.approx(1 / 3, abs=0.02) for count in firsts.values())
    assert len(firsts) == 3


@pytest.mark.parametrize("order", [easy, hard])
def test_an_order_by_disagreement_needs_passes(order: Order) -> None:
    """Guards against draws from nothing where a composition forgets the dropout passes."""
    with pytest.raises(UserError, match=f"{order.__name__}: expected the disagreement of dropout passes"):
        order(CONFIDENCE, None, np.random.default_rng(0))


def test_most_confident_is_confidence() -> None:
    assert most_confident(CONFIDENCE) is CONFIDENCE


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"quotas": "labeled"}, "quotas: expected prior, equal or none, found 'labeled'"),
        ({"passes": 1}, "passes: expected a whole number of at least 2 dropout passes"),  # one pass has no variance
        ({"passes": -3}, "found -3"),
        ({"passes": 2.5}, "found 2.5"),
        ({"passes": True}, "found True"),
        ({"subset": 0}, "subset: expected a number of rows of at least 1, found 0"),
        ({"subset": "all"}, "found 'all'"),
        ({"subset": True}, "found True"),
    ],
)
def test_what_cannot_work_is_refused(wrong: dict[str, Any], message: str) -> None:
    """Guards against an error of Python's after round 0."""
    with pytest.raises(UserError, match=message):
        Admission(**wrong)


def test_how_many_rows_are_looked_at_and_can_join() -> None:
    """Guards the plan and the progress line: a subset counts with passes only, and is never more than the corpus."""
    assert Admission().scored_rows(100) == Admission(subset=10).scored_rows(100) == 100
    some = Admission(passes=2, subset=10)
    assert [some.scored_rows(rows) for rows in (100, 7)] == [10, 7]
    assert [some.at_most(100, share) for share in (0.5, 0.01)] == [5, 1]
    assert Admission(quotas="none").at_most(100, 0.5) == 100


def test_equal_shares_leave_out_a_class_without_labels() -> None:
    """Guards against a quota that is filled with guesses."""
    prior = np.array([0.7, 0.0, 0.3])
    np.testing.assert_array_equal(Admission(quotas="equal").class_shares(prior), [0.5, 0, 0.5])
    np.testing.assert_array_equal(Admission(quotas="prior").class_shares(prior), prior)


def test_a_part_that_two_others_share_is_one() -> None:
    """Guards against averages that are updated twice."""
    shared = Align()
    assert [type(part) for part in Admission(weight=Gaussian(of=shared), target=shared).parts()] == [Gaussian, Align]
    assert [type(part) for part in Admission(target=Soft()).parts()] == [Everyone, Soft]


def test_why_no_row_was_admitted() -> None:
    """Guards a sentence that names a threshold which nothing was held against."""
    sentence = "no text is predicted with a confidence of {} or more"
    assert Admission(min_confidence=1.0).refusal() == sentence.format(1.0)
    assert Admission(weight=Threshold(0.95)).refusal() == sentence.format(0.95)
    assert Admission(weight=Threshold(0.95), min_confidence=0.99).refusal() == sentence.format(0.99)
    assert Admission().refusal() == "no text is given a weight (Everyone)"
