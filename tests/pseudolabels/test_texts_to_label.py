"""Which texts should be labeled first."""

import numpy as np
import pytest

from sstext.pseudolabels.texts_to_label import RANDOM, REASONS, TYPICAL, texts_to_label


def corpus(rows: int = 200, width: int = 8, seed: int = 0) -> np.ndarray:
    embedded = np.random.default_rng(seed).normal(size=(rows, width))
    return embedded / np.linalg.norm(embedded, axis=1, keepdims=True)


def test_half_are_typical_a_quarter_is_random_and_the_rest_is_unlike_them() -> None:
    """Guards the shares, and a row that is chosen twice."""
    chosen = texts_to_label(corpus(), 40)
    assert len({text.row for text in chosen}) == 40
    counts = {reason: sum(text.reason == reason for text in chosen) for reason in REASONS}
    typical, drawn, unlike = counts.values()
    assert drawn == RANDOM * 40
    assert TYPICAL * 40 - 3 <= typical <= TYPICAL * 40, "two centers may share a text"
    assert unlike == 40 - typical - drawn


def test_every_group_of_texts_is_represented() -> None:
    """Guards the medoids: a group of 2 % of the corpus has a typical text, which a random draw of 8 mostly misses."""
    rng = np.random.default_rng(0)
    sizes = [100, 60, 36, 4]
    centers = np.repeat(np.eye(4), sizes, axis=0)
    rows = centers + rng.normal(size=centers.shape) / 50
    chosen = texts_to_label(rows / np.linalg.norm(rows, axis=1, keepdims=True), 8)
    typical = [text.row for text in chosen if text.reason == REASONS[0]]
    assert sorted(centers[typical].argmax(1)) == [0, 1, 2, 3]


def test_unlike_texts_are_far_from_those_chosen_before() -> None:
    """Guards the last quarter: drawn by the squared distance, it is farther away than a random draw is."""
    rows = corpus(400, width=3)
    chosen = texts_to_label(rows, 80)
    before = rows[[text.row for text in chosen if text.reason != REASONS[2]]]
    unlike = rows[[text.row for text in chosen if text.reason == REASONS[2]]]

    def distance(some: np.ndarray) -> float:
        return float(np.mean([((before - row) ** 2).sum(1).min() for row in some]))

    others = np.setdiff1d(np.arange(400), [text.row for text in chosen])
    assert distance(unlike) > 1.3 * distance(rows[others])


@pytest.mark.parametrize(("rows", "count", "found"), [(5, 10, 5), (5, 5, 5), (3, 1, 1), (0, 4, 0), (6, 0, 0)])
def test_small_corpora_and_counts(rows: int, count: int, found: int) -> None:
    """Guards a corpus that is smaller than what is asked for."""
    chosen = texts_to_label(corpus(max(rows, 1))[:rows], count)
    assert len({text.row for text in chosen}) == len(chosen) == found


def test_copies_of_a_text_are_chosen_once_and_a_seed_decides() -> None:
    """Guards people's time: a text that occurs fifty times needs one label."""
    rows = np.concatenate([np.repeat(corpus(1), 50, axis=0), corpus(30, seed=1)])
    chosen = [text.row for text in texts_to_label(rows, 31)]
    assert sum(row < 50 for row in chosen) == 1
    assert len(chosen) == 31
    assert texts_to_label(corpus(), 20, seed=3) == texts_to_label(corpus(), 20, seed=3)
    assert texts_to_label(corpus(), 20, seed=3) != texts_to_label(corpus(), 20, seed=4)
