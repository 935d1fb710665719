"""What a cell's predictions are worth."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sstext.evaluation.metrics import count_classes, expected_calibration_error, negative_log_likelihood

DRAWS = 200


def figures(probabilities: np.ndarray, references: np.ndarray) -> dict[str, Any]:
    """Accuracy, macro-F1, NLL, calibration error, and the calibration error beyond `chance_calibration_error`.

    Args:
        probabilities: (N, C).
        references: (N,) classes.
    """
    counts = count_classes(probabilities, references)
    error = float(expected_calibration_error(probabilities, references))
    return {
        "rows": len(references),
        "accuracy": float(counts.accuracy),
        "macro_f1": float(counts.macro_f1),
        "nll": float(negative_log_likelihood(probabilities, references)),
        "calibration_error": error,
        "calibration_error_excess": error - chance_calibration_error(probabilities),
    }


def figures_by_name(probabilities: np.ndarray, classes: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    """`figures` of texts some of which may be of a class that the model does not know, because no labeled row is of it.

    Such a text is wrong whatever is predicted, in accuracy, F1 and calibration. Its log-loss would be infinite: the log-loss
    is that of the other texts. `rows_of_unknown_classes` counts such texts.

    Args:
        probabilities: (N, C).
        classes: C names, those that the model knows.
        names: (N,) true classes.
    """
    every = [*classes, *sorted(set(names) - set(classes))]
    references = np.array([every.index(name) for name in names])
    known = references < len(classes)
    wide = np.pad(probabilities, ((0, 0), (0, len(every) - len(classes))))
    found = figures(wide, references) | {"rows_of_unknown_classes": int((~known).sum())}
    if not known.all():
        found["nll"] = float(negative_log_likelihood(probabilities[known], references[known]))
    return found


def chance_calibration_error(probabilities: np.ndarray, *, draws: int = DRAWS, seed: int = 0) -> float:
    """The calibration error that these probabilities (N, C) would show if they were right, by chance alone.

    The mean over labels drawn from the probabilities themselves: at 1,000 rows it is far from 0.

    >>> round(chance_calibration_error(np.full((1_000, 2), .5)), 3)
    0.014
    """
    rng, cumulative = np.random.default_rng(seed), probabilities.cumsum(1)
    cumulative /= cumulative[:, -1:]  # so that a draw below 1 always meets a class
    errors = [
        expected_calibration_error(probabilities, (rng.random((len(cumulative), 1)) >= cumulative).sum(1))
        for _ in range(draws)
    ]
    return float(np.mean(errors))
