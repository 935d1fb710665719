"""Which texts should be labeled next."""

import numpy as np
import pytest

from sstext.pseudolabels.texts_to_label import AT_RANDOM, TYPICAL, UNSURE, texts_to_label, uncertainty


def corpus(rows: int = 200, width: int = 8, seed: int = 0) -> np.ndarray:
    embedded = np.random.default_rng(seed).normal(size=(rows, width))
    return embedded / np.linalg.norm(embedded, axis=1, keepdims=True)


def slow_cover(rows: np.ndarray, count: int, drawn: list[int], weights: np.ndarray) -> list[int]:
    """The greedy search with every gain computed in every step, as the formula says."""
    squared = ((rows[:, None] - rows[None]) ** 2).sum(-1)
    similar = np.exp(-2 * squared / np.median(squared[squared > 1e-4]))
    covered, found = similar[drawn].max(0) if drawn else np.zeros(len(rows)), list[int]()
    for _ in range(count):
        gains = (np.maximum(0, similar - covered) * weights).sum(1)
        gains[[*drawn, *found]] = -1
        found.append(int(gains.argmax()))
        covered = np.maximum(covered, similar[found[-1]])
    return found


@pytest.mark.parametrize("weighted", [False, True])
def test_the_search_is_the_slow_one(weighted: bool) -> None:
    """Guards the lazy search, its bounds and the weights. In float32, gains that are nearly equal may change places."""
    rows = corpus(150)
    weights = np.random.default_rng(1).random(150) ** 4 if weighted else np.ones(150)
    chosen = texts_to_label(rows, 40, uncertain=weights if weighted else None)
    drawn = [text.row for text in chosen if text.reason == AT_RANDOM]
    found = [text.row for text in chosen if text.reason != AT_RANDOM]
    assert len(drawn) == 10
    slow = slow_cover(rows, 30, drawn, weights)
    assert found[:15] == slow[:15]
    assert len(set(found) & set(slow)) >= 27
    assert {text.reason for text in chosen} == {AT_RANDOM, UNSURE if weighted else TYPICAL}


def test_the_random_part_does_not_depend_on_the_others_and_is_spread() -> None:
    """Guards the honesty of figures on the random texts, and a list whose first texts are all of one kind."""
    rows, sure = corpus(), np.linspace(0, 1, 200)
    plain, weighted = texts_to_label(rows, 40, 3), texts_to_label(rows, 40, 3, uncertain=sure)
    drawn = [[text.row for text in chosen if text.reason == AT_RANDOM] for chosen in (plain, weighted)]
    assert drawn[0] == drawn[1]
    for start in range(0, 40, 8):
        assert sum(text.reason == AT_RANDOM for text in plain[start : start + 8]) == 2
    many = [
        row
        for seed in range(200)
        for row in (t.row for t in texts_to_label(rows[:20], 4, seed) if t.reason == AT_RANDOM)
    ]
    counts = np.bincount(many, minlength=20)
    assert len(many) == 200
    assert counts.max() < 25, "each of 20 texts is drawn 10 times on average"


def test_every_group_of_texts_is_represented() -> None:
    """Guards the coverage: a group of 2 % of the corpus has a text, which a random draw of 8 mostly misses."""
    rng = np.random.default_rng(0)
    centers = np.repeat(np.eye(4), [100, 60, 36, 4], axis=0)
    rows = centers + rng.normal(size=centers.shape) / 50
    chosen = texts_to_label(rows / np.linalg.norm(rows, axis=1, keepdims=True), 8)
    assert {int(centers[text.row].argmax()) for text in chosen if text.reason == TYPICAL} == {0, 1, 2, 3}


def test_labeled_groups_and_certain_texts_are_left_alone() -> None:
    """Guards `labeled` and `uncertain`: what is covered or known already tells nothing more."""
    rng = np.random.default_rng(0)
    centers = np.repeat(np.eye(4), 30, axis=0)
    rows = centers + rng.normal(size=centers.shape) / 50
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    of = centers.argmax(1)
    chosen = texts_to_label(rows, 4, labeled=np.eye(4)[:2])
    first = next(text for text in chosen if text.reason == TYPICAL)
    assert of[first.row] in {2, 3}
    assert {2, 3} <= {of[text.row] for text in chosen}
    chosen = texts_to_label(rows, 20, uncertain=(of == 1).astype(float))
    assert {of[text.row] for text in chosen if text.reason == UNSURE} == {1}


def test_uncertainty_by_hand() -> None:
    """Guards margin and agreement: u = 1 − a m, and 1 at a tie."""
    probabilities = np.array([[0.7, 0.2, 0.1], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    np.testing.assert_allclose(uncertainty(probabilities), [0.5, 1, 0])
    chains = [np.array([0, 0, 0]), np.array([1, 0, 0]), np.array([0, 2, 1]), np.array([0, 1, 0])]
    np.testing.assert_allclose(uncertainty(probabilities, chains), [1 - 0.75 * 0.5, 1, 0.25])


@pytest.mark.parametrize(("rows", "count", "found"), [(5, 10, 5), (5, 5, 5), (3, 1, 1), (0, 4, 0), (6, 0, 0)])
def test_small_corpora_and_counts(rows: int, count: int, found: int) -> None:
    """Guards a corpus that is smaller than what is asked for."""
    chosen = texts_to_label(corpus(max(rows, 1))[:rows], count)
    assert len({text.row for text in chosen}) == len(chosen) == found


def test_copies_of_a_text_are_chosen_once_and_a_seed_decides() -> None:
    """Guards people's time: a text that occurs fifty times, or is labeled, needs no second label."""
    rows = np.concatenate([np.repeat(corpus(1), 50, axis=0), corpus(30, seed=1)])
    chosen = [text.row for text in texts_to_label(rows, 31)]
    assert sum(row < 50 for row in chosen) == 1
    assert len(chosen) == 31
    assert all(text.row >= 50 for text in texts_to_label(rows, 31, labeled=corpus(1)))
    assert texts_to_label(corpus(), 20, seed=3) == texts_to_label(corpus(), 20, seed=3)
    assert texts_to_label(corpus(), 20, seed=3) != texts_to_label(corpus(), 20, seed=4)
