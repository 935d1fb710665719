"""Views: which of a row's two copies the student is given."""

from sstext.objective.views import Augmented, Same

UNLABELED = {"weak": {"input_ids": "weak"}, "strong": {"input_ids": "strong"}}


def test_same_is_what_the_teacher_saw() -> None:
    """Guards against a pseudo-label method that trains on edited text."""
    assert Same().prepare(None, UNLABELED) is UNLABELED["weak"]  # type: ignore[arg-type]


def test_augmented_is_the_strong_copy() -> None:
    """Guards against a consistency loss between a text and itself, which is almost zero."""
    assert Augmented().prepare(None, UNLABELED) is UNLABELED["strong"]  # type: ignore[arg-type]


def test_only_augmented_asks_for_edits() -> None:
    """Guards against a strong view that nobody edits: the trainer reads this flag."""
    assert (Same.strong, Augmented.strong) == (False, True)
