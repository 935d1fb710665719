"""Which scored rows join the training set, with which target and weight: an `Admission`, carried out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from sstext.errors import UserError, listed
from sstext.objective.admission import Admission
from sstext.objective.part import Signals
from sstext.objective.targets import Hard, Target

#: Rows of a corpus that are looked at together.
SLICE_ROWS = 100_000
#: Of `estimated_prior`: α; nats a row that a miscalibrated student of a balanced corpus may seem to explain; steps at most.
SEEN_BEFORE, DOUBT, EM_STEPS = 0.2, 0.02, 500


class Probabilities(Protocol):
    """Probabilities (N, C) of which any rows can be had as an array."""

    def __len__(self) -> int: ...
    def __getitem__(self, rows: Any, /) -> np.ndarray: ...


@dataclass(frozen=True)
class Scores:
    """What the last student says of N rows of a corpus, C classes.

    Attributes:
        probs: (N, C) calibrated and aligned; an array, or whatever gives rows as one, which is read in slices.
        rows: (N,) their positions in the corpus, ascending; None: they are the corpus.
        variance: (N,) of the predicted class's probability over dropout passes.
        disagreement: (N,) of the passes, BALD in nats.
        margin: (N,) of the predicted class over the rounds so far, see `margin_history`.
    """

    probs: Probabilities
    rows: np.ndarray | None = None
    variance: np.ndarray | None = None
    disagreement: np.ndarray | None = None
    margin: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.probs)

    def signals(self, some: Any) -> Signals:
        """What parts of an objective are told of some of the rows."""

        def tensor(values: np.ndarray | None) -> torch.Tensor | None:
            return None if values is None else torch.from_numpy(np.array(values[some]))

        return Signals(
            torch.from_numpy(np.array(self.probs[some])),
            variance=tensor(self.variance),
        )


@dataclass(frozen=True)
class Selection:
    """The M kept rows of a corpus of N, C classes, in the order of the corpus.

    Attributes:
        rows: (M,) positions in the corpus; a row that joins several times stands there several times.
        labels: (M,) the pseudo-labels.
        confidence: (M,) probability of the pseudo-label (after alignment).
        weight: (M,) how much a row counts.
        targets: (M, C) probabilities to train on, None for hard pseudo-labels.
    """

    rows: np.ndarray
    labels: np.ndarray
    confidence: np.ndarray
    weight: np.ndarray
    targets: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.rows)


def resolve_prior(spec: Any, labels: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """The class shares that the quotas follow, (C,), summing to 1.

    Args:
        spec: `uniform`; `labeled`: the shares among the labels; `auto`: these, but uniform where the labels are `balanced`
            (predictions may then say more, see `estimated_prior`); or a mapping class → share.
        labels: (N,) the labels that were given.
        classes: C names.

    >>> resolve_prior("auto", np.array([0, 0, 0, 1]), ["a", "b"])
    array([0.75, 0.25])
    """
    counts = np.bincount(labels, minlength=len(classes)).astype(float)
    if isinstance(spec, Mapping):
        if set(map(str, spec)) != set(classes):
            raise UserError(f"prior: expected a share for each of {listed(list(classes))}, found {listed(list(spec))}")
        by_name = {str(name): share for name, share in spec.items()}
        try:
            shares = np.array([float(by_name[name]) for name in classes])
        except (TypeError, ValueError):
            shares = np.zeros(len(classes))
        if not (np.isfinite(shares) & (shares > 0)).all():
            raise UserError(f"prior: expected shares above 0, found {dict(spec)}")
        return shares / shares.sum()
    if spec not in ("auto", "uniform", "labeled"):
        raise UserError(f"prior: expected auto, uniform, labeled or CLASS=SHARE …, found {spec!r}")
    if spec == "uniform" or (spec == "auto" and balanced(labels)):
        present = (counts > 0).astype(
            float
        )  # a class without any label cannot be learned: no quota is filled with guesses
        return present / present.sum()
    return counts / counts.sum()


def balanced(labels: np.ndarray) -> bool:
    """Whether every class that has labels has as many, give or take one: somebody chose them, they tell nothing of the corpus.

    >>> balanced(np.array([0, 0, 1])), balanced(np.array([0, 0, 0, 1]))
    (True, False)
    """
    counts = np.unique(labels, return_counts=True)[1]
    return bool(counts.max() - counts.min() <= 1)


def half_way_prior(prior: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Class shares half way from the prior to the mean prediction of the corpus, (C,).

    Of a corpus that is as balanced as the labels, the prior is right and predictions err; of one that is not, predictions know
    something of it. A class that the prior rules out stays out.

    >>> half_way_prior(np.array([.5, .5]), np.array([.9, .1]))
    array([0.7, 0.3])
    """
    shares = np.where(prior > 0, (prior + predicted) / 2, 0.0)
    return shares / shares.sum()


def estimated_prior(prior: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The class shares of a corpus, from what a student of balanced labels says of it, (C,).

    π = (1 − w) π_half + w π_EM. π_half is half way from the prior to the mean prediction. π_EM is most probable where α N rows
    of the prior have been seen beforehand, by EM: π ← (Σ_i q_i + α N · prior) / (N (1 + α)), q_i = Norm(p_i · π / prior). How
    much it counts, w = g / (g + `DOUBT`), hangs on what it explains, g = mean log Σ_c p_ic π_c / prior_c in nats a row: of a
    balanced corpus next to nothing, of a skewed one a multiple of the doubt (recipes/benchmark/LOG.md). Without α, the EM
    runs away where predictions mean little.

    Args:
        prior: (C,) class shares of the labels that the student learned from; a class that it rules out stays out.
        probabilities: (N, C) p, calibrated.

    Source: Saerens, Latinne and Decaestecker 2002, "Adjusting the Outputs of a Classifier to New a Priori Probabilities",
    section 2.2 (EM); α and w: ours.

    >>> skewed = np.repeat([[.95, .05], [.05, .95]], [90, 10], axis=0)
    >>> estimated_prior(np.array([.5, .5]), skewed).round(2)  # half way: .68, .32
    array([0.84, 0.16])
    """
    there = prior > 0
    start, probs = prior[there], np.asarray(probabilities, dtype=np.float64)[:, there]
    probs = probs / probs.sum(1, keepdims=True).clip(1e-30)
    shares = start
    for _ in range(EM_STEPS):
        explained = probs * (shares / start)
        mean = (explained / explained.sum(1, keepdims=True).clip(1e-30)).mean(0)
        before, shares = shares, (mean + SEEN_BEFORE * start) / (1 + SEEN_BEFORE)
        if np.abs(shares - before).max() < 1e-6:
            break
    gain = max(0.0, float(np.log((probs * (shares / start)).sum(1).clip(1e-30)).mean()))
    weight = gain / (gain + DOUBT)
    found = half_way_prior(prior, np.asarray(probabilities, dtype=np.float64).mean(0))
    found[there] = (1 - weight) * found[there] + weight * shares
    return found / found.sum()


def class_quotas(total: int, prior: np.ndarray) -> np.ndarray:
    """`total` rows shared out over classes by `prior`, (C,), by largest remainders: the quotas sum to `total`.

    >>> class_quotas(10, np.array([.5, .25, .25]))
    array([5, 3, 2])
    """
    exact = total * prior
    quotas = np.floor(exact).astype(int)
    order = np.argsort(-(exact - quotas), kind="stable")
    quotas[order[: total - quotas.sum()]] += 1
    return quotas


def select(
    scores: Scores,
    admission: Admission | None = None,
    *,
    share: float,
    prior: np.ndarray,
    min_confidence: float = 0.0,
    seed: int = 0,
) -> Selection:
    """The rows that an `Admission` admits, at most round(share · N) of them where it has quotas.

    A class that is predicted less often than its quota fills what it can (or, with `refill`, repeats): others do not take
    its place. Statistics of parts that have any are those of at most `SLICE_ROWS` rows, spread evenly.

    Args:
        scores: of N rows, C classes.
        admission: default: the most confident rows by prior, with hard labels.
        share: of the N rows that is kept, in (0, 1].
        prior: (C,) class shares.
        min_confidence: rows below it are never kept.
        seed: of what an order draws.

    >>> select(Scores(np.array([[.9, .1], [.6, .4], [.2, .8]])), share=.67, prior=np.array([.5, .5])).rows
    array([0, 2])
    """
    admission = admission if admission is not None else Admission()
    for part in admission.parts():
        part.bind(len(prior), len(scores))
    sample = scores.signals(slice(None, None, -(-len(scores) // SLICE_ROWS)))
    for part in admission.parts():
        part.observe(sample)
    predicted, confidence, weight = _judged(scores, admission)
    trusted = (confidence >= min_confidence) & (weight > 0)
    if scores.margin is None:
        priority = admission.order(confidence, scores.disagreement, np.random.default_rng(seed))
    else:
        trusted, priority = trusted & np.isfinite(scores.margin), scores.margin
    quotas: Sequence[int | None] = [None] * len(prior)
    if admission.quotas != "none":
        quotas = class_quotas(admission.at_most(len(scores), share), admission.class_shares(prior)).tolist()
    kept = []
    for number, quota in enumerate(quotas):
        candidates = np.flatnonzero((predicted == number) & trusted)
        best = np.argsort(-priority[candidates], kind="stable")[:quota]  # ties: the earlier row
        if admission.refill and quota is not None and len(best):
            best = np.resize(best, quota)  # from the first one on again
        kept.append(candidates[best])
    rows = np.sort(np.concatenate(kept))
    return Selection(
        rows=rows if scores.rows is None else scores.rows[rows],
        labels=predicted[rows].astype(np.int64),
        confidence=confidence[rows],
        weight=weight[rows].astype(np.float64),
        targets=None if isinstance(admission.target, Hard) else _targets(scores, rows, admission.target),
    )


def margin_history(rounds: Sequence[Probabilities]) -> np.ndarray:
    """How clear the label of each row has been in all rounds, (N,) float32; −∞ where it is not that of the round before.

    M = mean over rounds r of q_r[y] − max over c ≠ y of q_r[c], y = argmax of the last q.

    Args:
        rounds: probabilities (N, C) of the same rows, the last student's last.

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


class Mean:
    """The mean of several students' probabilities (N, C) of the same rows, read in slices as each of them is.

    >>> Mean([np.array([[1., 0.]]), np.array([[.5, .5]])])[:1]
    array([[0.75, 0.25]])
    """

    def __init__(self, students: Sequence[Probabilities]) -> None:
        self.students = students

    def __len__(self) -> int:
        return len(self.students[0])

    def __getitem__(self, rows: Any) -> np.ndarray:
        return np.asarray(np.mean([student[rows] for student in self.students], axis=0))


def slices(rows: int) -> Iterator[slice]:
    """Consecutive slices of `SLICE_ROWS` rows that together are all of them."""
    return (slice(start, min(rows, start + SLICE_ROWS)) for start in range(0, rows, SLICE_ROWS))


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
