"""Which texts of a corpus should be labeled first: typical ones, random ones, and ones that are unlike those."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

#: Texts that are chosen for each class. Our benchmark measured this number of labels.
PER_CLASS = 10
#: Texts of a corpus among which they are chosen. All of them are embedded.
CANDIDATES = 4_096
#: Shares of the chosen texts that are typical and random. The rest is unlike them.
TYPICAL, RANDOM = 0.5, 0.25
#: Reasons for a choice, in the order in which texts are chosen.
REASONS = ("typical of a group of similar texts", "drawn at random", "unlike the texts above")


@dataclass(frozen=True)
class TextToLabel:
    """A text that should be labeled.

    Attributes:
        row: its position in the corpus.
        reason: why it was chosen, one of `REASONS`.
    """

    row: int
    reason: str


def texts_to_label(embedded: NDArray, count: int, seed: int = 0) -> list[TextToLabel]:
    """Choose texts that are worth a label, before anything is known of their classes.

    Half of them are the texts nearest to the centers of k-means, so that all kinds of texts occur. A quarter is drawn at
    random, so that some of them represent the corpus. The rest is drawn one after another, with a probability
    ∝ min_j |z − z_j|² over the texts j that are chosen already. A text is chosen once, and its copies are not.

    With a random choice of 10 labels per class, a regression on the embeddings was right less often (recipes/benchmark/LOG.md).

    Args:
        embedded: (N, D) embeddings of the corpus, each of length 1.
        count: number of texts to choose. There are fewer if the corpus has fewer different texts.
        seed: of all draws.

    Source: k-means++ for the last part (Arthur and Vassilvitskii 2007).

    >>> corpus = np.repeat(np.eye(3), 10, axis=0)  # three texts, ten times each
    >>> sorted(int(corpus[chosen.row].argmax()) for chosen in texts_to_label(corpus, 8))
    [0, 1, 2]
    """
    rng = np.random.default_rng(seed)
    _, different = np.unique(np.asarray(embedded, dtype=np.float32).round(5), axis=0, return_index=True)
    different.sort()
    rows = np.asarray(embedded, dtype=np.float64)[different]
    count = min(count, len(rows))
    if count < 1:
        return []
    typical = _medoids(rows, max(1, round(TYPICAL * count)), seed)
    others = np.setdiff1d(np.arange(len(rows)), typical)
    drawn = rng.choice(others, min(round(RANDOM * count), count - len(typical)), replace=False).tolist()
    unlike = _unlike(rows, [*typical, *drawn], count - len(typical) - len(drawn), rng)
    parts = zip((typical, drawn, unlike), REASONS, strict=True)
    return [TextToLabel(int(different[row]), reason) for chosen, reason in parts for row in chosen]


def _medoids(rows: NDArray, clusters: int, seed: int) -> list[int]:
    """The rows nearest to the centers of k-means. Two centers may have the same one."""
    fitted = KMeans(clusters, n_init=1, random_state=seed).fit(rows)
    return np.unique(fitted.transform(rows).argmin(0)).tolist()


def _unlike(rows: NDArray, chosen: Sequence[int], count: int, rng: np.random.Generator) -> list[int]:
    """Draw `count` rows one after another, each with a probability ∝ its squared distance from the nearest chosen one."""
    distance = np.min([((rows - rows[row]) ** 2).sum(1) for row in chosen], axis=0)
    found: list[int] = []
    for _ in range(count):
        distance[[*chosen, *found]] = 0
        row = int(rng.choice(len(rows), p=distance / distance.sum()))
        found.append(row)
        distance = np.minimum(distance, ((rows - rows[row]) ** 2).sum(1))
    return found
