"""What the head of a run reads, chosen by its labels: the mean of all tokens, or the first token."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sstext.evaluation.calibration import fit_temperature, softmax
from sstext.modeling.reading import FIRST, MEAN
from sstext.pseudolabels.regression import HeldOut, out_of_fold

#: Standard errors by which the other reading must be better. For two encoders that were trained for the mean, in 240 draws of 3
#: to 20 labels per class, the first token seemed better by one standard error in 6, and by two in none
#: (recipes/benchmark/LOG.md).
ERRORS = 2.0


@dataclass(frozen=True)
class ReadingChoice:
    """What the head reads, and on what evidence.

    Attributes:
        reading: one of `sstext.modeling.reading.READINGS`.
        log_loss: reading → mean log-loss of held-out labels in nats, of a calibrated regression.
        trained: what the encoder was trained for, or None if that is unknown.
        gain: by how much the log-loss of the reading that is not the usual one is below that of the usual one.
        standard_error: of the gain, over the rows.
        rows: number of labels.
    """

    reading: str
    log_loss: Mapping[str, float]
    trained: str | None
    gain: float
    standard_error: float
    rows: int

    def record(self) -> dict[str, Any]:
        """The choice, as `results.json` has it."""
        return asdict(self)


def choose_reading(
    embedded: Mapping[str, NDArray], labels: NDArray, classes: int, seed: int = 0, *, trained: str | None = None
) -> ReadingChoice:
    """Choose what the head reads by the log-loss of held-out labels.

    The usual reading is the one that the encoder was trained for. If that is unknown, it is the mean, for which most sentence
    encoders were trained. With the loss a_i of row i for the usual reading and b_i for the other one, the other one is chosen
    if

        mean_i (a_i − b_i) > `ERRORS` · s / √B,   s: the standard deviation of a_i − b_i

    Args:
        embedded: reading → (B, D) embeddings of the labeled rows, by the encoder as it was pretrained.
        labels: (B,) their classes.
        classes: C.
        seed: of the folds.
        trained: what the encoder was trained for, or None if that is unknown.

    >>> rng, labels = np.random.default_rng(0), np.arange(24) % 2
    >>> tells, silent = rng.normal(size=(24, 4)) / 2 + np.eye(4)[labels], rng.normal(size=(24, 4))
    >>> [choose_reading({"mean": a, "first": b}, labels, 2).reading for a, b in ((tells, silent), (silent, tells))]
    ['mean', 'first']
    """
    losses = {
        reading: _losses(out_of_fold(rows, labels, classes, seed=seed), labels) for reading, rows in embedded.items()
    }
    usual = trained or MEAN
    other = FIRST if usual == MEAN else MEAN
    gains = losses[usual] - losses[other]
    error = float(gains.std(ddof=1) / np.sqrt(len(gains))) if len(gains) > 1 else 0.0
    gain = float(gains.mean())
    better = len(gains) > 1 and gain > ERRORS * error
    means = {reading: float(values.mean()) for reading, values in losses.items()}
    return ReadingChoice(other if better else usual, means, trained, gain, error, len(labels))


def _losses(held_out: HeldOut, labels: NDArray) -> NDArray[np.float64]:
    """(B,) log-loss of held-out labels at the temperature that makes them most likely."""
    probabilities = softmax(held_out.logits, fit_temperature(held_out.logits, labels))
    right: NDArray[np.float64] = probabilities[np.arange(len(labels)), labels]
    return -np.log(right.clip(1e-12))
