"""Selection: quotas that sum and follow the prior, the most confident rows first, and nothing in anyone's place."""

import hashlib
import re
import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from sstext.errors import UserError
from sstext.objective.targets import Align, Hard, Sharpen, Soft
from sstext.objective.weights import Everyone, Gaussian, InverseVariance, Threshold
from sstext.pseudolabels.admission import Admission, easy, hard, most_confident
from sstext.pseudolabels.alignment import CorpusScores
from sstext.pseudolabels.class_shares import (
    ClassShares,
    class_quotas,
    estimated_prior,
    half_way_prior,
    resolve_prior,
    usual_prediction,
)
from sstext.pseudolabels.selection import Scores, Selection, select

UNIFORM = np.array([0.5, 0.5])
SOFT = Admission(target=Soft())


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
        ("balanced", "prior: expected auto, none, uniform, labeled or CLASS=SHARE …, found 'balanced'"),
        (None, "prior: expected auto, none, uniform, labeled"),
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
    chosen = select(Scores(probabilities), share=share, prior=np.array(prior))
    assert chosen.rows.tolist() == sorted(expected)
    assert len(chosen) == len(expected) > 0
    assert (np.bincount(chosen.labels, minlength=3) <= quotas).all()
    np.testing.assert_array_equal(chosen.labels, probabilities[chosen.rows].argmax(-1))
    np.testing.assert_array_equal(chosen.confidence, probabilities[chosen.rows].max(-1))
    np.testing.assert_array_equal(chosen.weight, np.ones(len(chosen)))
    assert chosen.targets is None


def test_kept_rows_follow_the_prior_where_there_are_enough() -> None:
    """200 rows, a tenth kept, prior [.6, .3, .1]: 12, 6 and 2 rows. Guards against quotas by predicted shares."""
    chosen = select(Scores(scores()), share=0.1, prior=np.array([0.6, 0.3, 0.1]))
    assert np.bincount(chosen.labels).tolist() == [12, 6, 2]


def test_a_class_with_too_few_rows_is_not_refilled() -> None:
    """Class 1 is predicted once for a quota of two: guards against rows of another class in its place."""
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6]])
    chosen = select(Scores(probabilities), share=1.0, prior=UNIFORM)
    assert chosen.rows.tolist() == [0, 1, 3]
    assert chosen.labels.tolist() == [0, 0, 1]


def test_a_class_that_is_never_predicted_keeps_none() -> None:
    """Guards against a crash, or an invented label, where a class has no candidate."""
    chosen = select(Scores(np.array([[0.9, 0.1], [0.8, 0.2]])), share=1.0, prior=UNIFORM)
    assert chosen.rows.tolist() == [0]


def test_min_confidence_keeps_its_boundary() -> None:
    """≥: rows below it are never kept, whatever the quota; above every confidence none is, and that is no error."""
    probabilities = np.array([[0.9, 0.1], [0.75, 0.25], [0.7, 0.3], [0.25, 0.75], [0.3, 0.7]])
    sure = Admission(min_confidence=0.75)
    assert select(Scores(probabilities), sure, share=1.0, prior=UNIFORM).rows.tolist() == [0, 1, 3]
    nothing = select(Scores(probabilities), replace(SOFT, min_confidence=0.95), share=1.0, prior=UNIFORM)
    assert len(nothing) == 0
    assert nothing.targets is not None
    assert nothing.targets.shape == (0, 2)


def test_ties_go_to_the_earlier_row() -> None:
    """Guards against an order that changes between numpy's sorts, and with it a resumed run's rows."""
    confidence = np.random.default_rng(0).choice([0.75, 0.875, 0.9375], 300)
    top = np.flatnonzero(confidence == 0.9375)
    chosen = select(Scores(np.stack([confidence, 1 - confidence], -1)), share=0.1, prior=np.array([1.0, 0.0]))
    assert len(top) > 60
    assert chosen.rows.tolist() == top[:30].tolist()


def test_soft_targets_are_the_rows_own_probabilities() -> None:
    """Guards against targets in the order of confidence beside rows in the order of the corpus."""
    probabilities = scores()
    chosen = select(Scores(probabilities), SOFT, share=0.3, prior=np.full(3, 1 / 3))
    assert chosen.targets is not None
    assert chosen.targets.dtype == np.float32
    np.testing.assert_allclose(chosen.targets, probabilities[chosen.rows], rtol=1e-6)


def test_a_larger_share_keeps_what_a_smaller_one_kept() -> None:
    """Rounds grow: guards against a selection that is not nested for the same scores."""
    kept = [set(select(Scores(scores()), share=share, prior=np.full(3, 1 / 3)).rows) for share in (0.1, 0.3, 0.6)]
    assert kept[0] < kept[1] < kept[2]


def test_selection_leaves_the_scores_alone() -> None:
    """Guards against in-place work on scores that are audited and written afterwards."""
    probabilities = scores()
    select(Scores(probabilities), SOFT, share=0.5, prior=np.full(3, 1 / 3))
    np.testing.assert_array_equal(probabilities, scores())


def test_a_class_without_labels_gets_no_quota() -> None:
    """A ClassLabel column may name classes that nobody labeled: guards against quotas that are filled with guesses."""
    labels = np.array([0, 0, 2, 2])
    assert resolve_prior("auto", labels, ["a", "b", "c"]).tolist() == [0.5, 0.0, 0.5]
    assert resolve_prior("uniform", labels, ["a", "b", "c"]).tolist() == [0.5, 0.0, 0.5]


def test_the_smallest_corpus_gives_its_one_row() -> None:
    """Guards against round(.3 · 1) = 0 rows."""
    assert len(select(Scores(np.array([[0.9, 0.1]])), share=0.3, prior=np.array([0.5, 0.5]))) == 1


def test_slices_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the borders of slices: rows of 100 texts in slices of 7 are those of one look."""
    whole = select(Scores(scores()), share=0.5, prior=np.full(3, 1 / 3)).rows
    monkeypatch.setattr("sstext.pseudolabels.alignment.TOGETHER", 7)
    assert np.array_equal(select(Scores(scores()), share=0.5, prior=np.full(3, 1 / 3)).rows, whole)


@pytest.mark.parametrize("options", [{"quotas": "none"}, {}, {"refill": True}], ids=["all", "quotas", "refill"])
def test_a_large_selection_takes_little_memory(options: dict[str, Any]) -> None:
    """Guards a corpus of which nearly all rows are selected. 32 bytes per row are returned; the peak was 72."""
    probabilities = scores(100_000).astype(np.float32)
    tracemalloc.start()
    try:
        chosen = select(Scores(probabilities), Admission(**options), share=1.0, prior=np.array([0.6, 0.2, 0.2]))
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(chosen) > 70_000
    assert held < 33 * 100_000
    assert peak < 60 * 100_000


def test_different_rows_are_counted_once() -> None:
    """Guards the coverage of a corpus whose rare classes are repeated."""
    for rows, count in (([], 0), ([3], 1), ([0, 0, 2, 5, 5, 5], 3)):
        one = np.zeros(len(rows))
        assert Selection(np.array(rows, dtype=np.int64), one.astype(np.int64), one, one).different == count


# Admissions


def written(chosen: Selection) -> str:
    """All that a selection holds, to the bit."""
    fields = (chosen.rows, chosen.labels, chosen.confidence, chosen.weight, chosen.targets)
    return hashlib.sha256(b"".join(field.tobytes() for field in fields if field is not None)).hexdigest()[:16]


def test_the_options_of_a_run_admit_what_they_always_did() -> None:
    """Rows, and a digest of all the rest, from the code before there were admissions; 13 of the 60 rows have two best classes.

    Guards runs that are continued, and every published figure, against a composition that is almost the same.
    """
    i, j = np.arange(60)[:, None], np.arange(3)
    powers = ((7 * i * i + 5 * j * j + 3 * i * j + i // 11) % 13 + 1.0) ** 2
    probabilities = powers / powers.sum(-1, keepdims=True)
    asked: dict[str, Any] = {"share": 0.6, "prior": np.array([0.2, 0.5, 0.3])}
    kept = select(Scores(probabilities), Admission(min_confidence=0.5), **asked)
    assert kept.rows.tolist() == [
        0, 2, 4, 6, 9, 10, 11, 15, 17, 19, 23, 24, 28, 29, 30, 36, 41, 42, 43, 45, 47, 49, 54, 55
    ]  # fmt: skip
    assert "".join(map(str, kept.labels)) == "221200220212220121000121"
    assert written(kept) == "55f3dfb70db325af"
    assert written(select(Scores(probabilities), replace(SOFT, min_confidence=0.5), **asked)) == "c26841cb3cdecf88"


@pytest.mark.parametrize(("threshold", "kept"), [(0.0, 200), (0.7, None), (1.01, 0)])
def test_without_quotas_all_rows_with_a_weight_join(threshold: float, kept: int | None) -> None:
    """Guards classic self-training: neither the share nor the prior may cut what the threshold lets through."""
    admission = Admission(weight=Threshold(threshold), quotas="none")
    chosen = select(Scores(scores()), admission, share=0.01, prior=np.array([0.98, 0.01, 0.01]))
    assert chosen.rows.tolist() == [row for row in range(200) if scores()[row].max() >= threshold]
    assert len(chosen) == kept if kept is not None else 0 < len(chosen) < 200


def test_equal_quotas_and_refilled_classes() -> None:
    """Class 0 is predicted for four rows, class 1 for two, class 2 (no label, prior 0) for one; a quota of three each.

    Class 1 joins as its best, its second, its best again. Guards class balance, and a copy of the worst row instead.
    """
    probabilities = np.array(
        [[0.9, 0.1, 0], [0.4, 0.6, 0], [0.8, 0.2, 0], [0.7, 0.3, 0], [0.3, 0.7, 0], [0.6, 0.4, 0], [0, 0.1, 0.9]]
    )
    asked: dict[str, Any] = {"share": 6 / 7, "prior": np.array([0.8, 0.2, 0.0])}
    refilled = select(Scores(probabilities), Admission(quotas="equal", refill=True, target=Soft()), **asked)
    assert refilled.rows.tolist() == [0, 1, 2, 3, 4, 4]
    assert refilled.labels.tolist() == [0, 1, 0, 0, 1, 1]
    assert refilled.targets is not None
    np.testing.assert_allclose(refilled.targets, probabilities[refilled.rows], rtol=1e-6)
    once = select(Scores(probabilities), Admission(quotas="equal"), **asked)
    assert once.rows.tolist() == [0, 1, 2, 3, 4]
    by_prior = select(Scores(probabilities), Admission(refill=True), **asked)
    assert by_prior.rows.tolist() == [0, 0, 2, 3, 4, 5]  # 4.8 and 1.2 rows: 5 and 1


def test_a_class_without_a_candidate_is_not_refilled() -> None:
    """Guards against copies of nothing."""
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]])
    admission = Admission(weight=Threshold(0.7), quotas="equal", refill=True)
    assert select(Scores(probabilities), admission, share=1.0, prior=UNIFORM).rows.tolist() == [0, 1]


def test_rows_keep_the_weight_that_the_part_gives_them() -> None:
    """log(1/.01) = 4.61, log(1/.25) = 1.39; a variance of 0, as without dropout, is finite. Guards UST's weights."""
    scored = Scores(np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]), variance=np.array([0.01, 0.25, 0.0]))
    chosen = select(scored, Admission(weight=InverseVariance(), quotas="none"), share=1.0, prior=UNIFORM)
    np.testing.assert_allclose(chosen.weight, [4.60517, 1.386294, 23.02585], rtol=1e-5)
    with pytest.raises(UserError, match="InverseVariance needs 'variance'"):
        select(Scores(scores()), Admission(weight=InverseVariance()), share=1.0, prior=np.full(3, 1 / 3))


@pytest.mark.parametrize("order", [easy, hard])
def test_drawn_rows_are_the_slow_loops_and_balanced(order: Any) -> None:
    """Class by class the quota of rows with the highest priorities, positions those of the subset, other seeds others."""
    probabilities, rng = scores(), np.random.default_rng(5)
    positions, disagreement = np.sort(rng.permutation(1_000)[:200]), rng.random(200) * 0.9
    scored = Scores(probabilities, rows=positions, disagreement=disagreement)
    admission = Admission(order=order, quotas="equal", passes=2)
    chosen = select(scored, admission, share=0.15, prior=np.array([0.5, 0.3, 0.2]), seed=3)
    odds = 1 - disagreement if order is easy else disagreement
    clocks = np.random.default_rng(3).exponential(size=200) / odds
    expected = []
    for number in range(3):
        mine = [row for row in range(200) if probabilities[row].argmax() == number]
        expected += [positions[row] for row in sorted(mine, key=lambda row: clocks[row])[:10]]
    assert chosen.rows.tolist() == sorted(expected)
    assert np.bincount(chosen.labels).tolist() == [10, 10, 10]
    again = [select(scored, admission, share=0.15, prior=np.full(3, 1 / 3), seed=seed).rows.tolist() for seed in (3, 4)]
    assert again[0] == chosen.rows.tolist() != again[1]


def test_labels_are_those_of_the_target() -> None:
    """Guards a target that changes which class is the most probable one; confidence stays the prediction's own."""
    probabilities = np.array([[0.6, 0.4], [0.9, 0.1], [0.9, 0.1], [0.8, 0.2]])
    chosen = select(
        Scores(probabilities), Admission(target=Align(momentum=0.0), quotas="none"), share=1.0, prior=UNIFORM
    )
    assert chosen.labels.tolist() == [1, 0, 0, 0]  # E[q] = .8, .2: .6/.8 < .4/.2
    np.testing.assert_allclose(chosen.confidence, [0.4, 0.9, 0.9, 0.8])
    assert chosen.targets is not None
    np.testing.assert_allclose(chosen.targets[0], [0.75 / 2.75, 2 / 2.75], rtol=1e-6)
    sharper = select(Scores(probabilities), Admission(target=Sharpen(0.5), quotas="none"), share=1.0, prior=UNIFORM)
    assert sharper.targets is not None
    np.testing.assert_allclose(sharper.targets[0], [0.36 / 0.52, 0.16 / 0.52], rtol=1e-6)


def test_the_whole_corpus_is_one_step_of_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Statistics of all rows at once, anew in every round: guards against those of the last slice, and of the round before.

    max q: .9, .6, .7, .8 → μ = .75, σ² = .016667: w(.6) = exp(−.0225/.033333) = .509156.
    """
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.8, 0.2]])
    weight = Gaussian(momentum=0.0)
    admission = Admission(weight=weight, quotas="none")
    for _ in range(2):
        chosen = select(Scores(probabilities), admission, share=1.0, prior=UNIFORM)
        np.testing.assert_allclose(chosen.weight, [1, 0.509156, np.exp(-0.0025 / 0.0333333), 1], rtol=1e-5)
    monkeypatch.setattr("sstext.pseudolabels.selection.SLICE_ROWS", 3)  # every second row then stands for the corpus
    # .9, .7 → μ = .8, σ² = .02
    chosen = select(Scores(probabilities), admission, share=1.0, prior=UNIFORM)
    np.testing.assert_allclose(chosen.weight, [1, np.exp(-1), np.exp(-0.25), 1], rtol=1e-5)


def test_admissions_in_slices_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the borders of slices for labels, weights and targets together."""
    rng = np.random.default_rng(1)
    scored = Scores(scores(), variance=rng.random(200) / 4, disagreement=rng.random(200))
    admission = Admission(weight=InverseVariance(), target=Soft(), order=easy, quotas="equal", refill=True, passes=2)
    asked: dict[str, Any] = {"share": 1.0, "prior": np.array([0.5, 0.3, 0.2])}
    whole = select(scored, admission, **asked)
    assert len(np.unique(whole.rows)) < len(whole)  # canary: rows join several times
    monkeypatch.setattr("sstext.pseudolabels.alignment.TOGETHER", 7)
    assert written(select(scored, admission, **asked)) == written(whole)


def test_parts_are_told_what_the_scoring_found() -> None:
    """Guards against signals of other rows than the probabilities."""
    scored = Scores(scores(), variance=np.arange(200.0), disagreement=-np.arange(200.0))
    signals = scored.signals(np.array([5, 3]))
    assert signals.variance is not None
    assert signals.variance.tolist() == [5, 3]
    assert torch.equal(signals.probs, torch.from_numpy(scores()[[5, 3]]))
    assert Scores(scores()).signals(slice(2)).variance is None
    assert isinstance(Admission().weight, Everyone)
    assert isinstance(Admission().target, Hard)
    assert Admission().order is most_confident


# The prior of a corpus that nobody knows


def test_the_estimated_prior_by_hand() -> None:
    """Certain predictions, 9 of 10 for one class: EM's shares are (.9 + .2 · .5)/1.2 = .8333; they explain
    g = .9 log(.8333/.5) + .1 log(.1667/.5) = .34989, w = g/(g + .2) = .63629; the mean is .9: .9 - w · .0667 = .85758."""
    certain = np.eye(2)[[0] * 9 + [1]]
    np.testing.assert_allclose(estimated_prior(np.array([0.5, 0.5]), certain), [0.85758, 0.14242], atol=1e-5)


def test_a_balanced_corpus_has_the_prior_of_balanced_labels() -> None:
    """Nothing is explained by other shares, whatever the predictions' confidence."""
    for sure in (0.4, 0.7, 0.99):
        probs = np.full((30, 3), (1 - sure) / 2)
        probs[np.arange(30), np.arange(30) % 3] = sure
        np.testing.assert_allclose(estimated_prior(np.full(3, 1 / 3), probs), np.full(3, 1 / 3), atol=1e-9)


def test_predictions_that_mean_little_do_not_run_away() -> None:
    """The EM of the paper finds a single class here: predictions that lean to one by a tenth, all alike, have the mean .55."""
    leaning = np.tile([0.55, 0.45], (400, 1))
    first = estimated_prior(np.array([0.5, 0.5]), leaning)[0]
    assert 0.55 <= first < 0.65


def test_what_a_student_always_prefers_says_nothing_about_the_corpus() -> None:
    """Guards a teacher that says "negative" too often, and makes its student say so for all texts.

    Held-out rows with the shares of the prior get the same mean prediction, .7. So nothing is skewed, and predictions stay as
    they are. A preference beyond that is still seen.
    """
    prior, labels = np.array([0.5, 0.5]), np.array([0, 1] * 200)
    leaning = np.tile([[0.9, 0.1], [0.5, 0.5]], (200, 1))
    usual = usual_prediction(prior, leaning, labels)
    np.testing.assert_allclose(usual, [(400 * 0.7 + 1) / 402, (400 * 0.3 + 1) / 402], atol=1e-9)
    assert estimated_prior(prior, leaning)[0] > 0.72
    assert abs(estimated_prior(prior, leaning, usual)[0] - 0.7) < 0.01
    assert estimated_prior(prior, leaning[::2], usual)[0] > estimated_prior(prior, leaning, usual)[0] + 0.1
    np.testing.assert_array_equal(estimated_prior(prior, leaning, prior), estimated_prior(prior, leaning))


def test_the_usual_prediction_is_that_of_rows_with_the_shares_of_the_prior() -> None:
    """By hand: rows of class 0 (three) and 1 (one) count 2/3 and 2 each; (2/3 · 3 · .8 + 2 · .2 + 2 · .5) / 6 = .5."""
    rows = np.array([[0.8, 0.2]] * 3 + [[0.2, 0.8]])
    np.testing.assert_allclose(
        usual_prediction(np.array([0.5, 0.5]), rows, np.array([0, 0, 0, 1])), [0.5, 0.5], atol=1e-12
    )


@pytest.mark.parametrize("skew", [0.5, 0.7, 0.9])
def test_a_skewed_corpus_is_found_out(skew: float) -> None:
    """Calibrated predictions of balanced labels, 80 % right, of a corpus with other shares: nearer to the truth than half way
    wherever there is something to find."""
    rng = np.random.default_rng(0)
    truth = rng.random(4_000) >= skew  # class 1
    said = np.where(rng.random(4_000) < 0.8, truth, ~truth).astype(int)
    probs = np.where(np.eye(2)[said] > 0, 0.8, 0.2)
    uniform = np.array([0.5, 0.5])
    off = abs(estimated_prior(uniform, probs)[0] - skew)
    half_way = abs(half_way_prior(uniform, probs.mean(0))[0] - skew)
    assert off < {0.5: 0.02, 0.7: 0.95 * half_way, 0.9: 0.75 * half_way}[skew]


def test_a_class_that_is_ruled_out_stays_out_and_the_order_of_classes_does_not_matter() -> None:
    probs = np.random.default_rng(1).dirichlet([2.0, 1.0, 0.5], size=50)
    prior = np.array([0.5, 0.0, 0.5])
    found = estimated_prior(prior, probs)
    assert found[1] == 0
    assert found.sum() == pytest.approx(1)
    np.testing.assert_allclose(estimated_prior(prior[::-1], probs[:, ::-1]), found[::-1], atol=1e-9)


def test_few_labels_hardly_decide_the_class_shares_and_many_do() -> None:
    """Labels that are not balanced: the mean prediction if there are few, the shares of the labels if there are many, and
    half of each at 600. Guards a corpus that is labeled as 16 of 20 chosen texts were. Without a probe, the labels decide as
    before."""
    predicted = np.log(np.tile([0.25, 0.75], (10, 1)))
    for times, expected in ((1, 0.25), (150, 0.5), (100_000, 0.75)):
        shares = ClassShares.resolve("auto", np.tile([0, 0, 0, 1], times), ["a", "b"])
        found = shares.of_corpus(CorpusScores(predicted, with_probe=True))
        assert found[0] == pytest.approx(expected, abs=0.004)
        assert found.sum() == pytest.approx(1)
        np.testing.assert_allclose(shares.of_corpus(CorpusScores(predicted)), [0.75, 0.25])
    told = ClassShares.resolve("labeled", np.array([0, 0, 0, 1]), ["a", "b"])
    np.testing.assert_allclose(told.of_corpus(CorpusScores(predicted, with_probe=True)), [0.75, 0.25])


def test_a_class_without_labels_has_no_share_in_the_corpus() -> None:
    """No student can learn it: guards an estimate that gives it the texts for which nothing is known."""
    predicted = CorpusScores(np.log(np.tile([0.4, 0.3, 0.3], (10, 1))), with_probe=True)
    for labels in ([0, 0, 0, 1], [0, 0, 1, 1]):
        found = ClassShares.resolve("auto", np.array(labels), ["a", "b", "c"]).of_corpus(predicted)
        assert found[2] == 0
        assert found.sum() == pytest.approx(1)


def test_a_fold_of_the_labels_knows_how_many_they_are() -> None:
    """Guards chains that trust the shares of the labels of all."""
    whole = ClassShares.resolve("auto", np.repeat([0, 1], [60, 30]), ["a", "b"])
    assert (whole.labels, whole.for_labels(np.repeat([0, 1], [40, 20])).labels) == (90, 60)
