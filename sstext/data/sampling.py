"""Split the labeled rows: into a sample with few labels, or into folds for cross-fitting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sstext.config.options import checked, option, options
from sstext.config.spelling import spelled
from sstext.errors import UserError, listed


@dataclass(frozen=True)
class Sample:
    """The sizes of a sample of the labeled rows. The run sees few labels and is evaluated on the other rows.

    Attributes:
        labels_per_class: rows of each class that keep their label.
        unlabeled: rows whose label is hidden. Default: all other rows.
        test: number of test rows. They are drawn from the test data if there are any (default: all of them), otherwise
            from the labeled rows (default: none).
    """

    labels_per_class: int = option(None, "rows of each class that keep their label")
    unlabeled: int | None = option(None, "rows whose label is hidden")
    test: int | None = option(None, "number of test rows")

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "Sample":
        """The sample that the option `sample` describes.

        >>> Sample.of({"labels_per_class": 10, "test": 1000})
        Sample(labels_per_class=10, unlabeled=None, test=1000)

        Raises:
            UserError: if a key is unknown or missing, or a value is not a positive number.
        """
        known = options(cls)
        for key in given:
            if key not in known:
                raise UserError(f"sample: unknown key {key!r}; the keys are {', '.join(known)}")
        values = {key: checked(f"sample: {key}", value, known[key]) for key, value in given.items()}
        if values.get("labels_per_class") is None:
            raise UserError("sample: expected labels_per_class, found none; give labels_per_class=10, for example")
        if wrong := [f"{key}={value}" for key, value in values.items() if value is not None and value < 1]:
            raise UserError(f"sample: expected numbers of at least 1, found {listed(wrong)}; raise them")
        return cls(**values)


@dataclass(frozen=True)
class Drawn:
    """The drawn rows, as positions in the labeled data. The three parts do not overlap."""

    labeled: np.ndarray
    unlabeled: np.ndarray
    test: np.ndarray


def few_labels(labels: Sequence[Any] | np.ndarray, *, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the first `n` rows of each class in a random order, and positions of the other rows.

    If a class has fewer than `n` rows, all of them are in the first part. The order is p =
    default_rng(seed).permutation(N), and both parts keep it.

    Args:
        labels: (N,) classes.

    >>> labeled, others = few_labels(["a", "b", "b", "b"], n=1, seed=0)
    >>> sorted(labeled.tolist() + others.tolist()), len(labeled)
    ([0, 1, 2, 3], 2)
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    _, classes = np.unique(np.asarray(labels)[order], return_inverse=True)
    by_class = np.argsort(classes, kind="stable")
    counts = np.bincount(classes)
    rank = np.empty(len(order), dtype=np.int64)  # number of rows of the same class before this row
    rank[by_class] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    return order[rank < n], order[rank >= n]


def draw(sample: Sample, labels: np.ndarray, classes: Sequence[str], *, seed: int, test_apart: bool) -> Drawn:
    """Draw the labeled rows first, then the unlabeled rows, then the test rows.

    Args:
        labels: (N,) class indices in 0 … C − 1.
        classes: C names, for messages.
        test_apart: whether the test rows come from separate test data.

    Raises:
        UserError: if there are too few rows.
    """
    counts = np.bincount(labels, minlength=len(classes))
    if counts.min() < sample.labels_per_class:
        fewest = int(counts.argmin())
        raise UserError(
            f"sample: expected at least labels_per_class={sample.labels_per_class} rows of every class, "
            f"found {counts[fewest]} of {classes[fewest]!r}; lower labels_per_class"
        )
    labeled, others = few_labels(labels, n=sample.labels_per_class, seed=seed)
    test = 0 if test_apart else sample.test or 0
    unlabeled = sample.unlabeled if sample.unlabeled is not None else max(1, len(others) - test)
    if unlabeled + test > len(others):
        asked = f"{unlabeled:,} unlabeled" + (f" and {test:,} test rows" if test else " rows")
        raise UserError(
            f"sample: expected {asked} besides the {len(labeled):,} labeled ones, found {len(others):,} rows; "
            "lower the numbers"
        )
    return Drawn(labeled, others[:unlabeled], others[unlabeled : unlabeled + test])


def measured_rows(sample: Sample, total: int) -> np.ndarray:
    """Positions of the test rows among the `total` rows of the test data. They do not depend on the seed of a run.

    They are drawn at random, because many test files are sorted by class.

    Raises:
        UserError: if there are fewer rows than the sample needs.
    """
    asked = sample.test if sample.test is not None else total
    if asked > total:
        raise UserError(f"sample: expected {asked:,} test rows, found {total:,} in the test data; lower test")
    return np.random.default_rng(0).permutation(total)[:asked]


def stratified_folds(
    labels: np.ndarray, folds: int, seed: int, copies: Sequence[Sequence[int]] | None = None
) -> np.ndarray:
    """Assign B labeled rows to K folds, with each class spread evenly. Returns the fold of every row, (B,).

    All copies of a text are in the same fold, because a chain that was trained on one copy knows the others. The only
    text of a class is in no fold (−1), because a chain without it could not learn the class.

    Args:
        labels: (B,) classes.
        folds: K, at least 2.
        seed: seed of the order in which the rows of a class are assigned.
        copies: (B,) tokens of the rows, used to find copies of a text. Default: all texts are treated as different.

    Raises:
        UserError: if K is below 2, or there are fewer texts to assign than folds.

    >>> np.bincount(stratified_folds(np.arange(40) % 4, folds=3, seed=0))
    array([14, 13, 13])
    """
    if folds < 2:
        raise UserError(f"folds: expected at least 2, or 0 for no cross-fitting, found {folds}")
    texts = list(range(len(labels))) if copies is None else [tuple(tokens) for tokens in copies]
    rng, fold_of, shared_out = np.random.default_rng((seed, folds)), dict[Any, int](), 0
    for number in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == number))
        own = list(dict.fromkeys(texts[row] for row in rows))
        if len(own) > 1:
            for text in (text for text in own if text not in fold_of):
                fold_of[text] = shared_out % folds
                shared_out += 1
    if shared_out < folds:
        raise UserError(
            f"folds: expected at most {shared_out}, the number of labeled texts in classes with at least two texts, "
            f"found {folds}; give more labels, {spelled('folds', 0)}, or development rows ({spelled('dev')})"
        )
    return np.array([fold_of.get(text, -1) for text in texts])
