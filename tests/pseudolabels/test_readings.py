"""What the head reads: the first token only if held-out labels clearly prefer it."""

import numpy as np
import pytest
from numpy.typing import NDArray

from sstext.modeling.reading import FIRST, MEAN
from sstext.pseudolabels.readings import ERRORS, choose_reading


def made_up(seed: int, noise: float, labels: NDArray) -> NDArray:
    """Embeddings (B, D) around the centers of their classes, which are always the same."""
    rng = np.random.default_rng(seed)
    rows = np.random.default_rng(99).normal(size=(4, 24))[labels] + noise * rng.normal(size=(len(labels), 24))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


LABELS = np.repeat(np.arange(4), 10)


@pytest.mark.parametrize("better", [MEAN, FIRST])
def test_the_reading_that_tells_more_is_taken(better: str) -> None:
    """Guards a choice in the wrong direction, and figures under the wrong name."""
    worse = FIRST if better == MEAN else MEAN
    found = choose_reading({better: made_up(0, 0.8, LABELS), worse: made_up(1, 4.0, LABELS)}, LABELS, 4)
    assert found.reading == better
    assert found.log_loss[better] < found.log_loss[worse]
    assert found.gain == pytest.approx(found.log_loss[MEAN] - found.log_loss[FIRST])
    assert found.trained is None
    assert abs(found.gain) > ERRORS * found.standard_error > 0
    assert found.rows == 40


@pytest.mark.parametrize("trained", [MEAN, FIRST])
def test_what_the_encoder_was_trained_for_is_overruled_by_clear_evidence_alone(trained: str) -> None:
    """Guards a file that counts more than the labels, and labels that tell no difference and count more than the file."""
    other = FIRST if trained == MEAN else MEAN
    alike = choose_reading({MEAN: made_up(0, 2.0, LABELS), FIRST: made_up(1, 2.0, LABELS)}, LABELS, 4, trained=trained)
    assert abs(alike.gain) < ERRORS * alike.standard_error, "canary"
    assert alike.reading == trained
    clear = choose_reading(
        {trained: made_up(0, 4.0, LABELS), other: made_up(1, 0.8, LABELS)}, LABELS, 4, trained=trained
    )
    assert (clear.reading, clear.trained) == (other, trained)
    assert clear.gain == pytest.approx(clear.log_loss[trained] - clear.log_loss[other])


def test_chance_does_not_choose_the_first_token() -> None:
    """Guards a choice by noise: with two readings that are equally good, the first token would be taken in half of the draws
    if the lower log-loss were enough. Two standard errors let it through in a few of a hundred."""
    draws = [
        choose_reading({MEAN: made_up(2 * seed, 2.0, LABELS), FIRST: made_up(2 * seed + 1, 2.0, LABELS)}, LABELS, 4)
        for seed in range(40)
    ]
    assert 10 <= sum(found.gain > 0 for found in draws) <= 30, "canary"
    assert sum(found.reading == FIRST for found in draws) <= 4


def test_equal_embeddings_and_single_labels_keep_the_mean() -> None:
    """Guards a tie, one label, and one label per class, of which nothing can be held out."""
    same = made_up(0, 1.0, LABELS)
    assert choose_reading({MEAN: same, FIRST: same}, LABELS, 4).reading == MEAN
    for rows in (1, 4):
        labels = np.arange(rows)
        found = choose_reading({MEAN: same[:rows], FIRST: same[4 : 4 + rows]}, labels, 4)
        assert found.reading == MEAN
        assert np.isfinite([found.gain, found.standard_error]).all()
