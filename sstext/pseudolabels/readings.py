"""What the head of a run reads, chosen by its labels: the mean of all tokens, or the first token."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sstext.evaluation.calibration import fit_temperature, softmax
from sstext.modeling.reading import FIRST, MEAN
from sstext.pseudolabels.regression import HeldOut, out_of_fold

#: Standard errors by which the first token must be better. The mean is better for the two encoders that were measured. In 240
#: draws of 3 to 20 labels per class, the first token seemed better by one standard error in 6, and by two in none
#: (recipes/benchmark/LOG.md).
ERRORS = 2.0


@dataclass(frozen=True)
class ReadingChoice:
    """What the head reads, and on what evidence.

    Attributes:
        reading: one of `sstext.modeling.reading.READINGS`.
        log_loss: reading → mean log-loss of held-out labels in nats, of a calibrated regression.
        gain: by how much the log-loss of the first token is below that of the mean.
        standard_error: of the gain, over the rows.
        rows: number of labels.
    """

    reading: str
    log_loss: Mapping[str, float]
    gain: float
    standard_error: float
    rows: int

    def record(self) -> dict[str, Any]:
        """The choice, as `results.json` has it."""
        return asdict(self)


def choose_reading(embedded: Mapping[str, NDArray], labels: NDArray, classes: int, seed: int = 0) -> ReadingChoice:
    """Choose what the head reads by the log-loss of held-out labels.

    With the loss a_i of row i for the mean and b_i for the first token, the first token is chosen if

        mean_i (a_i − b_i) > `ERRORS` · s / √B,   s: the standard deviation of a_i − b_i

    Otherwise it is the mean, which most sentence encoders were trained for. BGE and its like were trained for the first token.

    Args:
        embedded: reading → (B, D) embeddings of the labeled rows, by the encoder as it was pretrained.
        labels: (B,) their classes.
        classes: C.
        seed: of the folds.

    >>> rng, labels = np.random.default_rng(0), np.arange(24) % 2
    >>> tells, silent = rng.normal(size=(24, 4)) / 2 + np.eye(4)[labels], rng.normal(size=(24, 4))
    >>> [choose_reading({"mean": a, "first": b}, labels, 2).reading for a, b in ((tells, silent), (silent, tells))]
    ['mean', 'first']
    """
    losses = {
        reading: _losses(out_of_fold(rows, labels, classes, seed=seed), labels) for reading, rows in embedded.items()
    }
    gains = losses[MEAN] - losses[FIRST]
    error = float(gains.std(ddof=1) / np.sqrt(len(gains))) if len(gains) > 1 else 0.0
    gain = float(gains.mean())
    better = len(gains) > 1 and gain > ERRORS * error
    means = {reading: float(values.mean()) for reading, values in losses.items()}
    return ReadingChoice(FIRST if better else MEAN, means, gain, error, len(labels))


def _losses(held_out: HeldOut, labels: NDArray) -> NDArray[np.float64]:
    """(B,) log-loss of held-out labels at the temperature that makes them most likely."""
    probabilities = softmax(held_out.logits, fit_temperature(held_out.logits, labels))
    right: NDArray[np.float64] = probabilities[np.arange(len(labels)), labels]
    return -np.log(right.clip(1e-12))
