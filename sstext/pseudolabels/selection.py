"""Select pseudo-labels from the scores of a corpus, by the rules of an `Admission`."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sstext.objective.part import Signals
from sstext.objective.targets import Hard, Target
from sstext.pseudolabels.admission import Admission
from sstext.pseudolabels.alignment import SLICE_ROWS, Probabilities, slices
from sstext.pseudolabels.class_shares import class_quotas


@dataclass(frozen=True)
class Scores:
    """Predictions of the teacher for N rows of a corpus, C classes.

    Attributes:
        probs: (N, C) calibrated and aligned probabilities: an array, or an object that is read in slices.
        rows: (N,) their positions in the corpus, ascending. None for all rows of the corpus.
        variance: (N,) variance of the predicted class's probability over dropout passes.
        disagreement: (N,) disagreement of the passes, BALD in nats.
        margin: (N,) margin of the predicted class over the rounds so far, see `margin_history`.
    """

    probs: Probabilities
    rows: np.ndarray | None = None
    variance: np.ndarray | None = None
    disagreement: np.ndarray | None = None
    margin: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.probs)

    def signals(self, some: Any) -> Signals:
        """The signals of some of the rows, as parts of an objective receive them."""

        def tensor(values: np.ndarray | None) -> torch.Tensor | None:
            return None if values is None else torch.from_numpy(np.array(values[some]))

        return Signals(
            torch.from_numpy(np.array(self.probs[some])),
            variance=tensor(self.variance),
        )


@dataclass(frozen=True)
class Selection:
    """The M selected rows of a corpus of N, C classes, in the order of the corpus.

    Attributes:
        rows: (M,) positions in the corpus; a repeated row is listed several times.
        labels: (M,) the pseudo-labels.
        confidence: (M,) probability of the pseudo-label (after alignment).
        weight: (M,) how much a row counts.
        targets: (M, C) probabilities to train on. None for hard pseudo-labels.
    """

    rows: np.ndarray
    labels: np.ndarray
    confidence: np.ndarray
    weight: np.ndarray
    targets: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def different(self) -> int:
        """Number of different rows."""
        return int(np.count_nonzero(self.rows[1:] != self.rows[:-1])) + (len(self) > 0)

    @property
    def taught(self) -> np.ndarray:
        """What a student learns: the probabilities (M, C) if there are any, or else the pseudo-labels (M,)."""
        return self.labels if self.targets is None else self.targets


def select(
    scores: Scores,
    admission: Admission | None = None,
    *,
    share: float,
    prior: np.ndarray,
    seed: int = 0,
) -> Selection:
    """Select rows by the rules of an `Admission`, at most round(share · N) of them if it has quotas.

    A class that is predicted less often than its quota gets fewer rows, or repeats them with `refill`. The other classes do
    not get more rows instead. Parts with statistics observe at most `SLICE_ROWS` rows, spread evenly.

    Args:
        scores: scores of N rows, C classes.
        admission: the rules. Default: the most confident rows by prior, with hard labels.
        share: share of the N rows that may be selected, in (0, 1].
        prior: (C,) class shares.
        seed: seed of random orders.

    >>> select(Scores(np.array([[.9, .1], [.6, .4], [.2, .8]])), share=.67, prior=np.array([.5, .5])).rows
    array([0, 2])
    """
    admission = deepcopy(admission) if admission is not None else Admission()  # its parts have state
    _observe(scores, admission, len(prior))
    predicted, confidence, weight = _judged(scores, admission)
    trusted = (confidence >= admission.min_confidence) & (weight > 0)
    if scores.margin is None:
        priority = admission.order(confidence, scores.disagreement, np.random.default_rng(seed))
    else:
        trusted, priority = trusted & np.isfinite(scores.margin), scores.margin
    quotas: Sequence[int | None] = [None] * len(prior)
    if admission.quotas != "none":
        quotas = class_quotas(admission.at_most(len(scores), share), admission.class_shares(prior)).tolist()
    rows = _best(predicted, trusted, priority, quotas, admission.refill)
    return Selection(
        rows=rows if scores.rows is None else scores.rows[rows],
        labels=predicted[rows].astype(np.int64),
        confidence=confidence[rows],
        weight=weight[rows].astype(np.float64),
        targets=None if isinstance(admission.target, Hard) else _targets(scores, rows, admission.target),
    )


def margin_history(rounds: Sequence[Probabilities]) -> np.ndarray:
    """Mean margin of the label of each row over all rounds, (N,) float32; −∞ if its label changed since the last round.

    M = mean over rounds r of q_r[y] − max over c ≠ y of q_r[c], y = argmax of the last q.

    Args:
        rounds: probabilities (N, C) of the same rows, in the order of the rounds.

    >>> margin_history([np.array([[.75, .25], [.25, .75]]), np.array([[1., 0.], [1., 0.]])])
    array([0.75, -inf], dtype=float32)
    """
    margins = np.empty(len(rounds[-1]), dtype=np.float32)
    for some in slices(len(margins)):
        label = rounds[-1][some].argmax(-1)
        clear, flipped = np.zeros(len(label)), np.zeros(len(label), dtype=bool)
        for number, probabilities in enumerate(rounds):
            probs = np.array(probabilities[some])  # a copy: the label's column is overwritten
            flipped |= (number == len(rounds) - 2) & (probs.argmax(-1) != label)
            clear += np.take_along_axis(probs, label[:, None], -1)[:, 0]
            np.put_along_axis(probs, label[:, None], -np.inf, -1)
            clear -= probs.max(-1)
        margins[some] = np.where(flipped, -np.inf, clear / len(rounds))
    return margins


def _observe(scores: Scores, admission: Admission, classes: int) -> None:
    """Let the parts with statistics see a sample of the rows."""
    for part in admission.parts():
        part.bind(classes, len(scores))
    sample = scores.signals(slice(None, None, -(-len(scores) // SLICE_ROWS)))
    for part in admission.parts():
        part.observe(sample)


def _best(
    predicted: np.ndarray, trusted: np.ndarray, priority: np.ndarray, quotas: Sequence[int | None], refill: bool
) -> np.ndarray:
    """The rows with the highest priorities of each class, ascending.

    Args:
        predicted: (N,) classes.
        trusted: (N,) whether a row may be selected.
        priority: (N,).
        quotas: number of rows per class. None: all of them.
        refill: whether a class repeats its rows up to its quota.
    """
    kept = []
    for number, quota in enumerate(quotas):
        rows = np.flatnonzero((predicted == number) & trusted)
        if quota is not None and len(rows) and (refill or quota < len(rows)):  # otherwise, no order is needed
            best = np.argsort(-priority[rows], kind="stable")[:quota]  # ties: the earlier row
            rows = rows[np.resize(best, quota)]  # from the first one on again, if there are too few
        kept.append(rows)
    rows = np.concatenate(kept)
    rows.sort()  # in place: no second copy
    return rows


def _judged(scores: Scores, admission: Admission) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label, its probability, and weight of every row, (N,) each."""
    size = len(scores)
    predicted, confidence, weight = np.empty(size, np.int32), np.empty(size), np.empty(size, np.float32)
    for some in slices(size):
        signals = scores.signals(some)
        labels = admission.target(signals.probs).argmax(-1)
        predicted[some] = labels.numpy()
        confidence[some] = signals.probs.gather(-1, labels[:, None])[:, 0].numpy()
        weight[some] = admission.weight(signals).numpy()
    return predicted, confidence, weight


def _targets(scores: Scores, rows: np.ndarray, target: Target) -> np.ndarray:
    """Targets (M, C) of M rows."""
    targets = np.empty((len(rows), scores.probs[:1].shape[-1]), dtype=np.float32)
    for some in slices(len(rows)):
        targets[some] = target(scores.signals(rows[some]).probs).numpy()
    return targets
