"""What the head of a run reads, chosen by its labels: the mean of all tokens, or the first token."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sstext.evaluation.calibration import fit_temperature, softmax
from sstext.modeling.reading import FIRST, MEAN
from sstext.pseudolabels.regression import HeldOut, balancing_weights, centered, out_of_fold

#: Standard errors by which the other reading must be better. For two encoders that were trained for the mean, in 240 draws of 3
#: to 20 labels per class, the first token seemed better by one standard error in 6, and by two in none
#: (recipes/benchmark/LOG.md). The folds share rows, so that the standard error is too small: of two made-up readings that are
#: equally good, the other one seemed better by two in 7 to 12 % of the draws with 20 and 40 labels, and by three in 4 to 5 %.
ERRORS = 3.0
#: The smallest difference that counts, in nats, and the smallest number of labels that may overrule what is usual.
LEAST_GAIN, LEAST_LABELS = 0.01, 20


@dataclass(frozen=True)
class ReadingChoice:
    """What the head reads, and on what evidence.

    Attributes:
        reading: one of `sstext.modeling.reading.READINGS`.
        log_loss: reading → mean log-loss of held-out labels in nats, of a calibrated regression.
        trained: what the encoder was trained for, or None if that is unknown.
        gain: by how much the log-loss of the other reading is below that of the usual one, in nats. It is negative if the usual
            one is better.
        standard_error: of the gain, over the rows.
        rows: number of labels.
        enough: whether there are enough labels to choose what is not usual.
    """

    reading: str
    log_loss: Mapping[str, float]
    trained: str | None
    gain: float
    standard_error: float
    rows: int
    enough: bool = True

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

        d = Σ_i v_i (a_i − b_i) / B > max(`ERRORS` · s, `LEAST_GAIN`),   s² = Σ_i v_i² (a_i − b_i − d)² / (B (B − 1))

    and there are at least `LEAST_LABELS` labels. The weights v are those of `balancing_weights`. The embeddings lose their mean
    over the features before, as the head that reads them does (`sstext.pseudolabels.probe.read_embeddings`).

    Args:
        embedded: reading → (B, D) embeddings of the labeled rows, by the encoder as it was pretrained.
        labels: (B,) their classes.
        classes: C.
        seed: of the folds.
        trained: what the encoder was trained for, or None if that is unknown.

    >>> rng, labels = np.random.default_rng(0), np.arange(40) % 2
    >>> tells, silent = rng.normal(size=(40, 4)) / 2 + np.eye(4)[labels], rng.normal(size=(40, 4))
    >>> [choose_reading({"mean": a, "first": b}, labels, 2).reading for a, b in ((tells, silent), (silent, tells))]
    ['mean', 'first']
    """
    losses = {
        reading: calibrated_losses(out_of_fold(centered(rows), labels, classes, seed=seed), labels)[0]
        for reading, rows in embedded.items()
    }
    usual = trained or MEAN
    other = FIRST if usual == MEAN else MEAN
    gains = losses[usual] - losses[other]
    rows, weights = len(gains), balancing_weights(labels)
    gain = float(np.average(gains, weights=weights))
    error = float(np.sqrt(np.square(weights * (gains - gain)).sum() / (rows * (rows - 1)))) if rows > 1 else 0.0
    enough = rows >= LEAST_LABELS
    better = enough and gain > max(ERRORS * error, LEAST_GAIN)
    means = {reading: float(np.average(values, weights=weights)) for reading, values in losses.items()}
    return ReadingChoice(other if better else usual, means, trained, gain, error, rows, enough)


def calibrated_losses(held_out: HeldOut, labels: NDArray) -> tuple[NDArray[np.float64], float]:
    """(B,) log-loss of held-out labels at the temperature that makes them most likely, and this temperature."""
    temperature = fit_temperature(held_out.logits, labels)
    right: NDArray[np.float64] = softmax(held_out.logits, temperature)[np.arange(len(labels)), labels]
    return -np.log(right.clip(1e-12)), temperature
