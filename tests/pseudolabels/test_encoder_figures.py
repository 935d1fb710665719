"""Figures of an encoder: what its embeddings tell counts, and not how far they lie apart."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sstext.pseudolabels import encoders
from sstext.pseudolabels.encoders import EncoderFigures, encoder_figures
from sstext.pseudolabels.regression import out_of_fold


@pytest.fixture(autouse=True)
def _embedded_already(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows bring their embeddings."""
    monkeypatch.setattr(encoders, "Embedder", lambda encoder, reading: reading)
    monkeypatch.setattr(
        encoders, "score", lambda reading, rows, tokenizer, tick=None: rows.get(reading, rows["embedded"])
    )


def unit(embedded: NDArray) -> NDArray:
    return embedded / np.linalg.norm(embedded, axis=1, keepdims=True)


def made_up(seed: int, classes: int = 4, noise: float = 1.5) -> tuple[NDArray, NDArray]:
    """Embeddings (B, D) around the centers of their classes, and the classes (B,)."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), 8)
    return unit(rng.normal(size=(classes, 24))[labels] + noise * rng.normal(size=(len(labels), 24))), labels


def figures(embedded: NDArray, labels: NDArray, texts: Any = None) -> EncoderFigures:
    return encoder_figures(None, {"embedded": embedded, "labels": labels}, texts, None, classes=4)


@pytest.mark.parametrize("seed", range(3))
def test_embeddings_that_lie_close_together_are_not_at_a_disadvantage(seed: int) -> None:
    """Guards a choice by scale: E5 tells the classes apart, but all its embeddings are similar. The same embeddings beside one
    large common coordinate have nearly the same log-loss, though that of the bare regression is far higher."""
    apart, labels = made_up(seed)
    close = unit(np.concatenate([apart, np.full((len(apart), 1), 3.0)], 1))
    bare = [out_of_fold(embedded, labels, 4).losses.mean() for embedded in (apart, close)]
    assert bare[1] > bare[0] + 0.2, "canary"
    wide, narrow = figures(apart, labels), figures(close, labels)
    assert narrow.log_loss == pytest.approx(wide.log_loss, abs=0.06)
    assert narrow.temperature < wide.temperature


def test_embeddings_that_tell_more_have_the_lower_log_loss() -> None:
    """Guards a log-loss and an accuracy that do not follow what the embeddings know; without knowledge, it is log C at best."""
    found = [figures(*made_up(0, noise=noise)) for noise in (0.5, 1.5, 50.0)]
    assert found[0].log_loss < found[1].log_loss < found[2].log_loss
    assert found[0].accuracy > found[1].accuracy > found[2].accuracy
    assert found[2].log_loss == pytest.approx(np.log(4), abs=0.1)


def test_class_texts_count_as_much_as_they_help() -> None:
    """Guards a comparison that does not read what the run will read, or reads it where it misleads."""
    embedded, labels = made_up(0, noise=1.5)
    centers = unit(np.stack([embedded[labels == label].mean(0) for label in range(4)]))
    right, wrong = ({"embedded": centers, "labels": np.roll(np.arange(4), shift)} for shift in (0, 1))
    alone, told, misled = figures(embedded, labels), figures(embedded, labels, right), figures(embedded, labels, wrong)
    assert told.weight > 0
    assert told.log_loss < alone.log_loss
    assert misled == alone


def test_the_reading_that_labels_prefer_is_compared() -> None:
    """Guards an encoder that was trained for its first token, and is refused because its mean says little."""
    (tells, labels), (silent, _) = made_up(0, noise=0.5), made_up(1, noise=50.0)
    rows = {"mean": silent, "first": tells, "embedded": silent, "labels": labels}
    chosen, by_mean = (
        encoder_figures(None, rows, None, None, classes=4, reading=reading) for reading in (None, "mean")
    )
    assert (chosen.reading, by_mean.reading) == ("first", "mean")
    assert chosen.log_loss < by_mean.log_loss - 0.5
    assert chosen == replace(encoder_figures(None, {**rows, "mean": tells}, None, None, classes=4), reading="first")
