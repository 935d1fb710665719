"""Which texts of a corpus should be labeled next: a part at random, and texts that many others, not yet covered, are like."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sstext.data.labeling_tasks import AT_RANDOM

#: Texts that are chosen for each class. Our benchmark measured this number of labels.
PER_CLASS = 10
#: Texts of a corpus among which they are chosen, unless the user asks for another number. All of them are embedded.
CANDIDATES = 4_096
#: Share of the chosen texts that is drawn at random, so that they represent the corpus.
RANDOM = 0.25
#: Texts that must be covered, at most: a random part of the candidates.
TARGETS = 4_096
#: Reasons for a choice.
TYPICAL, UNSURE = "many texts are like it", "the model is unsure of it and of texts like it"
REASONS = (AT_RANDOM, TYPICAL, UNSURE)
#: A reason → how a count of texts is completed that were chosen for it.
REASONS_OF_SEVERAL = {
    AT_RANDOM: AT_RANDOM,
    TYPICAL: "because many texts are like them",
    UNSURE: "because the model is unsure of them and of texts like them",
}
#: Candidates whose gain is computed together.
_BLOCK, _AGAIN = 2_048, 32


@dataclass(frozen=True)
class TextToLabel:
    """A text that should be labeled.

    Attributes:
        row: its position in the corpus.
        reason: why it was chosen, one of `REASONS`.
    """

    row: int
    reason: str


def texts_to_label(
    embedded: NDArray,
    count: int,
    seed: int = 0,
    *,
    labeled: NDArray | None = None,
    uncertain: NDArray | None = None,
) -> list[TextToLabel]:
    """Choose the texts that are most worth a label.

    A quarter is drawn at random, so that these texts represent the corpus whatever the others are. The others are found one
    after another, each so that the corpus is covered best, where c_j is the similarity of the text j with the nearest text
    that is labeled or chosen already:

    argmax_i Σ_j u_j max(0, k(z_i, z_j) − c_j),  k(z, z') = exp(−2 ‖z − z'‖² / median ‖z_j − z_j'‖²).

    Without a model, every u_j is 1. With a model, u_j is its uncertainty, so that texts are chosen which tell most about those
    that it does not know. A text is chosen once, and its copies are not, nor are copies of labeled texts. The random texts are
    spread evenly over the list.

    With a random choice, a regression on the embeddings was right less often (recipes/benchmark/LOG.md).

    Args:
        embedded: (N, D) embeddings of the corpus, each of length 1.
        count: number of texts to choose. There are fewer if the corpus has fewer different texts.
        seed: of all draws.
        labeled: (B, D) embeddings of the texts that are labeled.
        uncertain: (N,) u ≥ 0, for example the result of `uncertainty`. Default: 1.

    Source: facility location with a uniform weight is MaxHerding (Bae et al. 2024, arXiv 2407.12212); with an uncertainty,
    Uncertainty Herding (Bae et al. 2025, arXiv 2412.20644). The random part: ours.

    >>> corpus = np.repeat(np.eye(3), 10, axis=0)  # three texts, ten times each
    >>> sorted(int(corpus[chosen.row].argmax()) for chosen in texts_to_label(corpus, 8))
    [0, 1, 2]
    """
    rng = np.random.default_rng(seed)
    embedded = np.asarray(embedded, dtype=np.float32)
    known = np.zeros((0, embedded.shape[-1]), np.float32) if labeled is None else np.asarray(labeled, dtype=np.float32)
    different = _different(embedded, known)
    rows = embedded[different]
    count = min(count, len(rows))
    if count < 1:
        return []
    drawn = rng.choice(len(rows), round(RANDOM * count), replace=False)
    targets = np.sort(rng.permutation(len(rows))[:TARGETS])
    weights = np.ones(len(rows)) if uncertain is None else np.asarray(uncertain)[different]
    found = _cover(rows, count - len(drawn), drawn, known, targets, weights[targets].astype(np.float32))
    reason = TYPICAL if uncertain is None else UNSURE
    chosen = _mixed([(row, AT_RANDOM) for row in drawn], [(row, reason) for row in found])
    return [TextToLabel(int(different[row]), why) for row, why in chosen]


def _mixed(drawn: list[tuple[int, str]], found: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Spread the drawn rows evenly: whoever labels only the first texts has as large a share of them."""
    places = [(number + 0.5) / len(rows) for rows in (found, drawn) for number in range(len(rows))]
    return [row for _, row in sorted(zip(places, [*found, *drawn], strict=True), key=lambda pair: pair[0])]


def uncertainty(probabilities: NDArray, predicted: Sequence[NDArray] = ()) -> NDArray[np.float64]:
    """How little a model knows of texts, (N,) from 0 to 1: u = 1 − a · m.

    m is the margin between the two most probable classes, and a the share of the chains that predict the same class as the
    model.

    Args:
        probabilities: (N, C) of the model.
        predicted: (N,) classes that each of the chains predicts.

    >>> sure = np.array([[0.9, 0.1], [0.9, 0.1], [0.5, 0.5]])
    >>> uncertainty(sure, [np.array([0, 0, 0]), np.array([0, 1, 1])]).round(2)
    array([0.2, 0.6, 1. ])
    """
    ordered = np.sort(np.asarray(probabilities, dtype=np.float64), axis=-1)
    margin = ordered[:, -1] - ordered[:, -2]
    if len(predicted):
        margin = margin * (np.stack(predicted) == np.argmax(probabilities, -1)).mean(0)
    return 1 - margin


def _different(embedded: NDArray, known: NDArray) -> NDArray[np.int64]:
    """The rows without copies of earlier rows, or of known ones."""
    seen = {row.tobytes() for row in known.round(5) + 0.0}  # + 0: −0 and 0 are the same
    rows = []
    for number, row in enumerate(embedded):
        key = (row.round(5) + 0.0).tobytes()
        if key not in seen:
            seen.add(key)
            rows.append(number)
    return np.array(rows, dtype=np.int64)


def _cover(rows: NDArray, count: int, drawn: NDArray, known: NDArray, targets: NDArray, weights: NDArray) -> list[int]:
    """Choose `count` rows one after another, each the one that covers the targets best beside what is drawn and known.

    The gain of a row never grows while others are chosen. So only those rows are computed again whose last gain is the largest
    (lazy greedy search, Minoux 1978).
    """
    of = rows[targets]
    squared = 2 - 2 * of[: _BLOCK // 4] @ of.T
    scale = 2 / max(1e-6, float(np.median(squared[squared > 1e-4]))) if (squared > 1e-4).any() else 1.0

    def similar(some: NDArray) -> NDArray:
        return np.exp(scale * np.minimum(0, 2 * some @ of.T - 2))

    covered = np.zeros(len(of), np.float32)
    for some in (rows[drawn], known):
        for start in range(0, len(some), _BLOCK):
            covered = np.maximum(covered, similar(some[start : start + _BLOCK]).max(0))

    def gains(some: NDArray) -> NDArray:
        return np.maximum(0, similar(rows[some]) - covered) @ weights

    every = np.arange(len(rows))
    bounds = np.concatenate([gains(every[start : start + _BLOCK]) for start in range(0, len(rows), _BLOCK)])
    bounds[drawn] = -1
    found: list[int] = []
    while len(found) < count:
        most = np.argpartition(-bounds, min(_AGAIN, len(bounds) - 1))[:_AGAIN]
        most = most[bounds[most] >= 0]
        bounds[most] = gains(most)
        best = int(most[bounds[most].argmax()])
        if bounds[best] >= bounds.max():
            found.append(best)
            covered = np.maximum(covered, similar(rows[[best]])[0])
            bounds[best] = -1
    return found
