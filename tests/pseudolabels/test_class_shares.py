"""By how much a model that read no corpus is shifted to the class shares of the corpus."""

import numpy as np
import pytest

from sstext.pseudolabels import class_shares
from sstext.pseudolabels.class_shares import ClassShares, estimated_prior, skill_of, usual_prediction

LABELS = np.repeat([0, 1], 10)
#: What a good model predicts for held-out rows, and for a corpus of which nine of ten texts are of the first class.
HELD_OUT = np.where(LABELS[:, None] == [0, 1], 0.9, 0.1)
SKEWED = np.repeat([[0.9, 0.1], [0.1, 0.9]], [900, 100], axis=0)


def shares(spec: object = "auto", labels: np.ndarray = LABELS) -> ClassShares:
    return ClassShares.resolve(spec, labels, ["a", "b"])


def test_clear_evidence_of_a_skewed_corpus_shifts_the_model() -> None:
    """Guards a regression that takes a rare class for a frequent one: 77 % of hate_offensive are of one class."""
    weights = shares().weights_of_model(SKEWED, HELD_OUT, LABELS)
    assert weights is not None
    prior = np.array([0.5, 0.5])
    found = estimated_prior(prior, SKEWED, usual_prediction(prior, HELD_OUT, LABELS), skill_of(HELD_OUT, LABELS))
    np.testing.assert_allclose(weights, found / 0.5)
    assert weights[0] > 1 > weights[1]


def test_good_students_are_believed_more() -> None:
    """13 % of sms_spam are spam. The estimate was 25 % with a teacher that predicts all held-out rows, which cost two points.
    Guards also weak teachers, which believe in shares that are not there: for them, nothing changes."""
    prior, found = np.array([0.5, 0.5]), list[float]()
    for skill in (0.0, 0.3, 0.9):
        found.append(estimated_prior(prior, SKEWED, skill=skill)[0])
    assert found == sorted(found)
    assert found[1] == pytest.approx(found[0], abs=0.01)
    assert found[2] > found[0] + 0.04
    by_hand = estimated_prior(prior, SKEWED, skill=0.9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(class_shares, "SEEN_BEFORE", 0.2 * (1 - 0.81))
        patch.setattr(class_shares, "DOUBT", 0.2 * (1 - 0.81))
        assert by_hand == pytest.approx(estimated_prior(prior, SKEWED))
    right = np.array([[0.9, 0.1]] * 18 + [[0.1, 0.9]] * 2)
    assert skill_of(right, np.zeros(20, int)) == pytest.approx(((18 + 1) / 22 - 0.5) / 0.5)
    assert skill_of(1 - right, np.zeros(20, int)) == 0.0, "worse than guessing"


def test_a_balanced_corpus_and_few_labels_do_not() -> None:
    """Guards up to a point of accuracy on balanced corpora. With 20 labels, shares must explain more than 1/20 nats a row."""
    balanced = np.repeat([[0.9, 0.1], [0.1, 0.9]], 500, axis=0)
    assert shares().weights_of_model(balanced, HELD_OUT, LABELS) is None
    lightly = np.repeat([[0.9, 0.1], [0.1, 0.9]], [640, 360], axis=0)  # about .03 nats a row
    assert shares().weights_of_model(lightly, HELD_OUT, LABELS) is None
    many, seen = np.tile(LABELS, 10), np.tile(HELD_OUT, (10, 1))
    assert shares(labels=many).weights_of_model(lightly, seen, many) is not None, "200 labels: more than 1/200"


def test_given_shares_are_those_that_the_model_predicts_on_average() -> None:
    """Guards --prior, which everything that learns from the corpus follows."""
    weights = shares({"a": 0.7, "b": 0.3}).weights_of_model(SKEWED, HELD_OUT, LABELS)
    assert weights is not None
    shifted = SKEWED * weights
    shifted /= shifted.sum(1, keepdims=True)
    assert shifted.mean(0) == pytest.approx([0.7, 0.3], abs=1e-5)


@pytest.mark.parametrize("spec", ["labeled", "none", "auto"])
def test_labels_that_are_a_sample_of_the_corpus_need_no_shift(spec: str) -> None:
    """Guards shares that count twice: a regression has learned those of labels that are not balanced."""
    labels = np.repeat([0, 1], [15, 5])
    assert shares(spec, labels).weights_of_model(SKEWED, HELD_OUT, labels) is None
    assert shares("labeled").weights_of_model(SKEWED, HELD_OUT, LABELS) is None
