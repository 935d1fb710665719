"""Which rows are labeled in a draw that chooses them: as `sstext suggest` does, or by the centers of k-means."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from cells import MEDOIDS, SUGGESTED, TWO_STEPS
from embedding import embed
from sklearn.cluster import KMeans

from sstext.pseudolabels.regression import fit_regression
from sstext.pseudolabels.texts_to_label import texts_to_label, uncertainty


def chooser(
    draw: str, rows: pd.DataFrame, seed: int, encoder: str, max_length: int
) -> Callable[[np.ndarray, int], np.ndarray] | None:
    """The function of a draw for `cells.split_rows`, or None where nothing is chosen.

    Args:
        rows: the training file, columns text and label. Labels are read only of rows that are chosen.
        encoder, max_length: see `embedding.embed`.
    """
    if draw not in (MEDOIDS, SUGGESTED, TWO_STEPS):
        return None

    def choose(candidates: np.ndarray, count: int) -> np.ndarray:
        embedded = embed(rows["text"].iloc[candidates].tolist(), encoder, max_length)
        if draw == MEDOIDS:
            return candidates[medoids(embedded, count, seed)]
        labels = rows["label"].iloc[candidates].to_numpy()
        return candidates[suggested(embedded, labels, count, seed, steps=2 if draw == TWO_STEPS else 1)]

    return choose


def suggested(embedded: np.ndarray, labels: np.ndarray, count: int, seed: int, *, steps: int) -> np.ndarray:
    """The rows that `sstext suggest` chooses, in one or two steps of about the same size.

    Args:
        embedded: (N, D) candidates.
        labels: (N,) their classes, of which the second step reads those of the first.
    """
    first = np.array([text.row for text in texts_to_label(embedded, count // steps, seed)])
    if steps == 1:
        return first
    names, numbers = np.unique(labels[first], return_inverse=True)
    uncertain = None
    if len(names) > 1:
        regression = fit_regression(embedded[first], numbers, len(names))
        uncertain = uncertainty(regression.probabilities(embedded))
    more = texts_to_label(embedded, count - len(first), seed + 1, labeled=embedded[first], uncertain=uncertain)
    return np.concatenate([first, [text.row for text in more]])


def medoids(embedded: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The rows nearest to the centers of k-means. Where two centers have the same one, random rows fill up."""
    fitted = KMeans(count, n_init=1, random_state=seed).fit(embedded)
    found = np.unique(fitted.transform(embedded).argmin(0))
    others = np.setdiff1d(np.random.default_rng(seed).permutation(len(embedded)), found, assume_unique=True)
    return np.concatenate([found, others[: count - len(found)]])
