"""What the head reads: the first token only if held-out labels clearly prefer it."""

import numpy as np
import pytest
from numpy.typing import NDArray

from sstext.modeling.reading import FIRST, MEAN
from sstext.pseudolabels.reading_choice import ERRORS, LEAST_GAIN, LEAST_LABELS, calibrated_losses, choose_reading
from sstext.pseudolabels.regression import balancing_weights, centered, out_of_fold


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


@pytest.mark.parametrize(("classes", "noise"), [(4, 2.0), (2, 2.0), (2, 0.3)])
def test_chance_does_not_choose_the_first_token(classes: int, noise: float) -> None:
    """Guards a choice by noise, also where both readings are nearly perfect: with two that are equally good, the first token
    would be taken in half of the draws if the lower log-loss were enough."""
    labels = np.repeat(np.arange(classes), 10)
    draws = [
        choose_reading(
            {MEAN: made_up(2 * seed, noise, labels), FIRST: made_up(2 * seed + 1, noise, labels)}, labels, classes
        )
        for seed in range(40)
    ]
    assert 10 <= sum(found.gain > 0 for found in draws) <= 30, "canary"
    assert sum(found.reading == FIRST for found in draws) <= 4
    assert all(found.gain > LEAST_GAIN for found in draws if found.reading == FIRST)


def test_rare_classes_count_as_much_as_frequent_ones() -> None:
    """Guards a choice that 16 of 20 labels of one class make alone: the weighted means by hand."""
    labels = np.repeat([0, 1], [16, 4])
    found = choose_reading({MEAN: made_up(0, 1.0, labels), FIRST: made_up(1, 1.0, labels)}, labels, 2)
    weights = balancing_weights(labels)
    for reading, seed in ((MEAN, 0), (FIRST, 1)):
        losses, _ = calibrated_losses(out_of_fold(centered(made_up(seed, 1.0, labels)), labels, 2), labels)
        assert found.log_loss[reading] == pytest.approx((weights * losses).sum() / 20)
        assert found.log_loss[reading] != pytest.approx(losses.mean()), "canary"


def test_equal_embeddings_and_single_labels_keep_the_mean() -> None:
    """Guards a tie, one label, one label per class, of which nothing can be held out, and too few labels."""
    same, clear = made_up(0, 1.0, LABELS), made_up(1, 0.5, LABELS)
    silent = made_up(2, 9.0, LABELS)
    assert choose_reading({MEAN: same, FIRST: same}, LABELS, 4).reading == MEAN
    for count in (LEAST_LABELS - 1, LEAST_LABELS):
        rows = np.arange(40).reshape(4, 10).T.ravel()[:count]
        found = choose_reading({MEAN: silent[rows], FIRST: clear[rows]}, LABELS[rows], 4)
        assert found.gain > ERRORS * found.standard_error
        assert (found.reading == FIRST) == (count == LEAST_LABELS)
    for rows in (1, 4):
        labels = np.arange(rows)
        found = choose_reading({MEAN: same[:rows], FIRST: same[4 : 4 + rows]}, labels, 4)
        assert found.reading == MEAN
        assert np.isfinite([found.gain, found.standard_error]).all()
