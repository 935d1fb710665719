"""Which scored rows join the training set, and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from sstext.errors import UserError, listed

#: Rows of a corpus that are looked at together.
SLICE_ROWS = 100_000


class Probabilities(Protocol):
    """Probabilities (N, C) of which any rows can be had as an array."""

    def __len__(self) -> int: ...
    def __getitem__(self, rows: Any, /) -> np.ndarray: ...


@dataclass(frozen=True)
class Selection:
    """The M kept rows of a corpus of N, C classes, in the order of the corpus.

    Attributes:
        rows: (M,) positions in the corpus.
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
        spec: `uniform`; `labeled`: the shares among the labels; `auto`: these, but uniform where every class has the same
            number of labels, give or take one (somebody balanced them on purpose, so that they tell nothing of the corpus);
            or a mapping class → share.
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
    given = counts[counts > 0]
    balanced = given.max() - given.min() <= 1
    if spec == "uniform" or (spec == "auto" and balanced):
        present = (counts > 0).astype(
            float
        )  # a class without any label cannot be learned: no quota is filled with guesses
        return present / present.sum()
    return counts / counts.sum()


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
    probabilities: Probabilities,
    *,
    share: float,
    prior: np.ndarray,
    min_confidence: float = 0.0,
    soft: bool = False,
) -> Selection:
    """The most confident rows of every class, up to its quota: round(share · N) rows shared out by `prior`.

    A class that is predicted less often than its quota fills what it can: others do not take its place.

    Args:
        probabilities: (N, C) calibrated and aligned; an array, or whatever gives rows as one, which is read in slices.
        share: of the corpus that is kept, in (0, 1].
        prior: (C,) class shares.
        min_confidence: rows below it are never kept.
        soft: keep the probabilities as targets, not the class alone.

    >>> select(np.array([[.9, .1], [.6, .4], [.2, .8]]), share=.67, prior=np.array([.5, .5])).rows
    array([0, 2])
    """
    predicted, confidence = np.empty(len(probabilities), dtype=np.int64), np.empty(len(probabilities))
    for start in range(0, len(probabilities), SLICE_ROWS):
        some = probabilities[start : start + SLICE_ROWS]
        predicted[start : start + len(some)], confidence[start : start + len(some)] = some.argmax(-1), some.max(-1)
    quotas = class_quotas(max(1, round(share * len(probabilities))), prior)
    kept = []
    for number, quota in enumerate(quotas):
        candidates = np.flatnonzero((predicted == number) & (confidence >= min_confidence))
        best = np.argsort(-confidence[candidates], kind="stable")[:quota]  # ties: the earlier row
        kept.append(candidates[best])
    rows = np.sort(np.concatenate(kept))
    targets = np.asarray(probabilities[rows], dtype=np.float32) if soft else None
    return Selection(rows, predicted[rows], np.asarray(confidence[rows]), np.ones(len(rows)), targets)
