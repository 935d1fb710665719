"""Methods of the round loop: what each admits of a small corpus, worked out by hand, and that a step of theirs is plain."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sstext.errors import UserError
from sstext.inference.corpus_scores import summarize_passes
from sstext.methods.method import HEAD_AND_PROBE, Method
from sstext.methods.registry import METHODS, OF_ROUNDS, build, compose
from sstext.methods.rounds import class_balanced, margin_history, noisy_student, self_training, ust
from sstext.objective.targets import Hard, Soft
from sstext.objective.weights import Confidence, Everyone, InverseVariance, Threshold
from sstext.pseudolabels.admission import easy, hard, most_confident
from sstext.pseudolabels.selection import Scores, Selection, select
from sstext.pseudolabels.selection import margin_history as margins

# Class 0 is predicted five times, class 1 twice; class 2 nobody has labeled, and one row is predicted to be of it.
CORPUS = np.array(
    [[0.97, 0.02, 0.01], [0.2, 0.6, 0.2], [0.95, 0.03, 0.02], [0.5, 0.3, 0.2], [0.1, 0.7, 0.2],
     [0.6, 0.3, 0.1], [0.3, 0.29, 0.41], [0.94, 0.03, 0.03]]
)  # fmt: skip
PRIOR = np.array([0.75, 0.25, 0.0])


def selection_of(composed: Method, share: float = 0.5) -> Selection:
    return select(Scores(CORPUS), composed.selection, share=share, prior=PRIOR)


def test_self_training_takes_all_that_is_confident() -> None:
    """τ = .95 keeps .97 and .95 itself, both of class 0, hard, in full: no quota, no prior, no share has a say."""
    kept = selection_of(self_training(), share=0.01)
    assert kept.rows.tolist() == [0, 2]
    assert kept.labels.tolist() == [0, 0]
    assert kept.weight.tolist() == [1, 1]
    assert kept.targets is None
    assert len(selection_of(self_training(threshold=0.0), share=0.01)) == 8
    assert len(selection_of(self_training(threshold=1.01))) == 0


def test_class_balanced_follows_the_class_shares() -> None:
    """4 of 8 rows, so 3 of class 0 and 1 of class 1 (.75 : .25): the surest of each, hard, in full.

    Guards a quota of equal classes, a threshold that nobody set, and the order of the corpus in place of confidence.
    """
    kept = selection_of(class_balanced())
    assert kept.rows.tolist() == [0, 2, 4, 7]
    assert kept.labels.tolist() == [0, 0, 1, 0]
    assert kept.weight.tolist() == [1] * 4
    assert kept.targets is None
    np.testing.assert_allclose(selection_of(class_balanced(labels="soft")).targets, CORPUS[[0, 2, 4, 7]], rtol=1e-6)


def test_noisy_student_balances_the_classes() -> None:
    """6 of 8 rows, so 3 of each class that has a label: the surest three of class 0, and both of class 1, the surer one twice.

    Guards balance by the prior (.75 : .25), a class that nobody labeled, and labels that are not the teacher's shares.
    """
    kept = selection_of(noisy_student(), share=0.75)
    assert kept.rows.tolist() == [0, 1, 2, 4, 4, 7]
    assert kept.labels.tolist() == [0, 1, 0, 1, 1, 0]
    assert kept.weight.tolist() == [1] * 6
    np.testing.assert_allclose(kept.targets, CORPUS[kept.rows], rtol=1e-6)
    assert selection_of(noisy_student(labels="hard"), share=0.75).targets is None
    surer = selection_of(noisy_student(threshold=0.65), share=0.75)
    assert surer.rows.tolist() == [0, 2, 4, 4, 4, 7]


def test_ust_draws_as_many_of_every_class_and_weighs_them() -> None:
    """Two passes: rows 0–3 vary by ±.1 (Var .01, w = 4.61), rows 4–5 do not vary (w = 23.03, and B = 0).

    Class 0 has rows 0–2 and 4, class 1 rows 3 and 5; a quota of 2 each takes all of class 1. BALD of (.9, .1) and (.7, .3) is
    .5004 − .4679 = .0325: `hard` draws of class 0 the rows 0–2 only, and row 4, which has no odds, never.
    """
    passes = np.log(
        [
            [[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.8, 0.2], [0.2, 0.8]],
            [[0.7, 0.3], [0.7, 0.3], [0.7, 0.3], [0.3, 0.7], [0.8, 0.2], [0.2, 0.8]],
        ]
    )
    table = summarize_passes(passes)
    scores = Scores(np.exp(table[:, :2].astype(np.float64)), None, table[:, 2], table[:, 3])
    np.testing.assert_allclose(table[:4, 3], 0.0325, atol=1e-4)
    seen = set()
    for seed in range(50):
        kept = select(scores, ust(sampling="hard").selection, share=4 / 6, prior=np.array([0.9, 0.1]), seed=seed)
        assert np.bincount(kept.labels).tolist() == [2, 2]
        assert {3, 5} < set(kept.rows.tolist())
        expected = np.where(np.isin(kept.rows, [4, 5]), -np.log(1e-10), np.log(1 / 0.01))
        np.testing.assert_allclose(kept.weight, expected, rtol=1e-5)
        seen |= set(kept.rows.tolist())
    assert seen == {0, 1, 2, 3, 5}
    easily = [
        select(scores, ust().selection, share=4 / 6, prior=PRIOR[:2], seed=seed).rows.tolist() for seed in range(50)
    ]
    assert any(4 in rows for rows in easily)
    quarter = select(scores, ust(alpha=0.25).selection, share=1.0, prior=PRIOR[:2])
    assert set(quarter.weight.round(4)) == {round(0.25 * weight, 4) for weight in (np.log(100), -np.log(1e-10))}


def test_margin_history_takes_what_was_clear_in_every_round() -> None:
    """By hand, two rounds: row 0 is the surest now and was a coin's toss, row 1 was as sure before: (.98 + 0)/2 < (.8 + .8)/2.
    Row 2 flipped, though it is sure now. Weights are confidences; guards the order by the last round alone."""
    before = np.array([[0.5, 0.5], [0.9, 0.1], [0.1, 0.9], [0.2, 0.8]])
    now = np.array([[0.99, 0.01], [0.9, 0.1], [0.95, 0.05], [0.3, 0.7]])
    history = margins([before, now])
    np.testing.assert_allclose(history, [0.49, 0.8, -np.inf, 0.5], rtol=1e-6)
    np.testing.assert_allclose(margins([now]), [0.98, 0.8, 0.9, 0.4], rtol=1e-6)  # the first round has no history
    scores, admission = Scores(now, margin=history), margin_history().selection
    kept = select(scores, admission, share=0.5, prior=np.array([0.5, 0.5]))
    assert kept.rows.tolist() == [1, 3]
    np.testing.assert_allclose(kept.weight, [0.9, 0.7], rtol=1e-6)
    everyone = select(scores, admission, share=1.0, prior=np.array([0.5, 0.5]))
    assert everyone.rows.tolist() == [0, 1, 3]


@pytest.mark.parametrize(
    ("composed", "axes"),
    [
        (self_training, (Threshold, Hard, most_confident, "none", False, False, 0, None, False)),
        (class_balanced, (Everyone, Hard, most_confident, "prior", False, True, 0, None, True)),
        (margin_history, (Confidence, Hard, most_confident, "prior", False, True, 0, None, True)),
        (noisy_student, (Threshold, Soft, most_confident, "equal", True, False, 0, None, True)),
        (ust, (InverseVariance, Hard, easy, "equal", True, False, 30, 16_384, False)),
    ],
)
def test_the_axes_of_each_method(composed: Callable[..., Method], axes: tuple[Any, ...]) -> None:
    """Weight, target, order, quotas, refill, alignment, passes, subset, noise: guards against drift from the papers."""
    method = composed()
    admission = method.selection
    assert admission is not None
    rest = (admission.order, admission.quotas, admission.refill, admission.align)
    passes = (admission.passes, admission.subset, admission.noise)
    assert (type(admission.weight), type(admission.target), *rest, *passes) == axes
    with_history = composed is margin_history
    assert (method.teacher.labels_with == HEAD_AND_PROBE, admission.history) == (with_history, with_history)
    assert method.follows_shares == (composed in (class_balanced, margin_history))
    assert method.between_rounds  # inside a step there is nothing but the labels


def test_arguments_reach_their_parts() -> None:
    """Guards against an argument that is accepted and forgotten."""
    admission = compose("ust", {"passes": 3, "subset": None, "sampling": "hard", "alpha": 0.5}).selection
    assert admission is not None
    assert isinstance(admission.weight, InverseVariance)
    assert (admission.passes, admission.subset, admission.order, admission.weight.alpha) == (3, None, hard, 0.5)
    for name in ("self-training", "noisy-student"):
        admission = compose(name, {"threshold": 0.5}).selection
        assert admission is not None
        assert isinstance(admission.weight, Threshold)
        assert admission.weight.threshold == 0.5


def test_only_methods_of_the_round_loop_decide_between_rounds() -> None:
    """Guards `Method.between_rounds`, which the rest of the package asks, and `build`, which gives trainers an objective."""
    between = {name for name in METHODS if compose(name).between_rounds}
    assert between == set(OF_ROUNDS) - {"auto"}
    assert all(build(name).plain for name in between)
    assert {name for name in METHODS if compose(name).selection is None} == {"supervised"}
    assert compose("ust").selection is not compose("ust").selection  # state is never shared between two runs


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("self-training", {"threshold": -0.1}, "method_args of self-training: threshold: expected a number at least 0"),
        ("self-training", {"treshold": 0.5}, "self-training has no argument 'treshold'; did you mean threshold"),
        ("noisy-student", {"labels": "fuzzy"}, "labels: expected soft or hard, found 'fuzzy'"),
        ("ust", {"passes": 0}, "passes: expected a whole number of at least 2 dropout passes, found 0"),
        ("ust", {"passes": 1}, "passes: expected a whole number of at least 2 dropout passes, found 1"),
        ("ust", {"passes": 2.5}, "passes: expected a whole number of at least 2 dropout passes, found 2.5"),
        ("ust", {"passes": True}, "passes: expected a whole number of at least 2 dropout passes, found True"),
        ("ust", {"sampling": "both"}, "sampling: expected easy or hard, found 'both'"),
        ("ust", {"subset": 0}, "subset: expected a number of rows"),
        ("ust", {"alpha": -1}, "alpha: expected a number at least 0"),
    ],
)
def test_wrong_arguments_are_refused_by_name(name: str, arguments: dict[str, Any], message: str) -> None:
    """Guards against a typo, or a value that only fails after round 0."""
    for ask in (build, compose):
        with pytest.raises(UserError, match=message):
            ask(name, arguments)
