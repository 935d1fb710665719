"""Tokenized rows → the items of training: which row comes when, in which views.

Everything drawn is a pure function of (seed, item): a run that is killed and continued sees the same batches without any
iterator state, and so do several processes that share one order.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from sstext.augment.edits import view_rng
from sstext.data.tokens import VIEW_INPUTS

Edit = Callable[[Sequence[int], np.random.Generator], list[int]]
Masking = Callable[[Sequence[int], np.random.Generator], tuple[list[int], list[int]]]
#: Columns of a row that are inputs of a text encoder; whatever else a row has is not the model's.
INPUTS = ("input_ids", "token_type_ids")  # padding makes the attention mask
_MASK64 = (1 << 64) - 1


def _mix(value: int) -> int:
    """SplitMix64's finalizer: 64 bits in, 64 well-mixed bits out."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK64
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK64
    return value ^ (value >> 31)


def _mixed(*parts: int) -> int:
    """One well-mixed number of 64 bits for a tuple of them; their order counts."""
    state = 0
    for part in parts:
        state = _mix(state ^ (part & _MASK64))
    return state


class KeyedPermutation:
    """A permutation of 0 … n−1 that is computed, not stored: O(1) time and memory for any n.

    A six-round Feistel network over the next even power of two, walked until it lands below n (Black & Rogaway 2002).

    >>> sorted(KeyedPermutation(5, 7)(i) for i in range(5))
    [0, 1, 2, 3, 4]
    """

    def __init__(self, n: int, *key: int) -> None:
        if n < 1:
            raise ValueError(f"expected at least one row to permute, found {n}")
        self.n = n
        self._half = max(1, math.ceil((n - 1).bit_length() / 2))
        state = _mixed(*key)
        self._keys = tuple(_mix(state + turn) for turn in range(1, 7))

    def __call__(self, index: int) -> int:
        if not 0 <= index < self.n:
            raise IndexError(f"expected an index below {self.n}, found {index}")
        low = (1 << self._half) - 1
        while True:
            left, right = index >> self._half, index & low
            for key in self._keys:
                left, right = right, left ^ (_mix(right ^ key) & low)
            index = (left << self._half) | right
            if index < self.n:
                return index


def random_rows(count: int, size: int, seed: int) -> np.ndarray:
    """`size` of `count` rows, ascending, each set of them alike; nothing of size `count` is made.

    >>> random_rows(3, 3, seed=0)
    array([0, 1, 2])
    """
    if size == count:
        return np.arange(count)
    place = KeyedPermutation(count, seed)
    return np.sort(np.fromiter((place(number) for number in range(size)), dtype=np.int64, count=size))


class RowStream:
    """An endless stream over n rows: every pass visits each row once, in an order of its own.

    >>> rows = RowStream(3, seed=0, stream=0)
    >>> sorted(rows(i)[0] for i in range(3)), rows(4)[1]
    ([0, 1, 2], 1)
    """

    def __init__(self, n: int, *, seed: int, stream: int) -> None:
        self.n, self.key = n, (seed, stream)

    def __call__(self, index: int) -> tuple[int, int]:
        """Row at `index`, and how many times it was drawn before."""
        draw, position = divmod(index, self.n)
        return KeyedPermutation(self.n, *self.key, draw)(position), draw


class ClassRuns:
    """An endless stream over n labeled rows in which rows of a class follow each other, a few at a time.

    Every pass visits each row once. Each class is cut into runs as equal as can be, none longer than `run` (5 rows in runs of
    4: 3 + 2), drawn anew for every pass, and the runs come in random order. A batch then has several rows of every class that
    it has any of, also where there are more classes than rows in a batch.

    Args:
        labels: (n,) classes.
        run: rows of a class that follow each other, at most.
        seed, stream: as of `RowStream`.

    >>> rows = ClassRuns(np.array([0, 1, 0, 1]), run=2, seed=0, stream=0)
    >>> {tuple(sorted(rows(i)[0] for i in pair)) for pair in ((0, 1), (2, 3))} == {(0, 2), (1, 3)}
    True
    """

    def __init__(self, labels: np.ndarray, *, run: int, seed: int, stream: int) -> None:
        self.labels, self.run, self.key = np.asarray(labels), run, (seed, stream)
        self._pass: tuple[int, np.ndarray] = (-1, np.zeros(0, dtype=np.int64))

    def __call__(self, index: int) -> tuple[int, int]:
        """Row at `index`, and how many times it was drawn before."""
        draw, position = divmod(index, len(self.labels))
        if self._pass[0] != draw:
            self._pass = (draw, self._order(draw))
        return int(self._pass[1][position]), draw

    def _order(self, draw: int) -> np.ndarray:
        rng = np.random.default_rng((*self.key, draw))
        runs = []
        for number in np.unique(self.labels):
            rows = rng.permutation(np.flatnonzero(self.labels == number))
            runs += np.array_split(rows, math.ceil(len(rows) / self.run))
        return np.concatenate([runs[place] for place in rng.permutation(len(runs))])


@dataclass(frozen=True)
class Relabeled:
    """M rows of a corpus with labels and weights of their own; nothing is copied.

    Attributes:
        corpus: tokenized rows.
        rows: (M,) positions in it.
        labels: (M,) classes, or (M, C) probabilities.
        weight: (M,).
    """

    corpus: Any
    rows: np.ndarray
    labels: np.ndarray
    weight: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.corpus[int(self.rows[index])] | {"labels": self.labels[index], "weight": self.weight[index]}


def label_shares(labels: Any, classes: int) -> np.ndarray:
    """Class shares of n labels, classes or probabilities, (C,); a class without any counts as half a label.

    >>> label_shares([0, 0, 0, 1], 2)
    array([0.75, 0.25])
    """
    found = np.asarray(labels)
    counts = found.sum(0) if found.ndim == 2 else np.bincount(found, minlength=classes)
    counts = np.maximum(counts, 0.5)
    return counts / counts.sum()


GOLD, PSEUDO_LABELED, UNLABELED = 0, 1, 2  # streams of rows, and their views with token edits
_STRONG_LABELED = 3  # + stream: the second view of a labeled row
_MASKED, _ON_DEVICE = 6, 7  # the views of unlabeled rows with hidden tokens, and what a device draws for them


class TrainingRows(Dataset):
    """The rows of one epoch in the order of training: item i belongs to optimizer step i // (global batch).

    `Trainer` announces every epoch through `set_epoch`; item i of epoch e is item e · length + i of one endless plan.

    Of any k consecutive items ⌊k · gold_share⌋ or one more are gold rows, evenly spread, so that each batch of each process
    has its share. Item i carries the unlabeled rows ⌊i · ratio⌋ … ⌊(i+1) · ratio⌋ − 1 of the stream.

    Where token edits are made, one of the row's paraphrases (`VIEW_INPUTS`) is drawn first, if it has any.

    Args:
        gold: tokenized labeled rows (`input_ids`, `labels`).
        length: items per epoch, a multiple of the global batch.
        seed: of order and edits.
        pseudo_labeled: tokenized rows with `labels` (class or probabilities) and perhaps `weight`; None: gold rows alone.
        gold_share: share of gold rows among the items, above 0.
        class_runs: gold rows of a class that follow each other (see `ClassRuns`); 1: in any order.
        edit: token edits for the labeled rows; None: as they are.
        unlabeled: tokenized rows; None: none.
        ratio: unlabeled rows per item.
        strong: token edits for the strong view; None: the strong view is the weak one.
        strong_labels: whether an item also holds a strong view of its labeled row.
        masked: hides tokens of the unlabeled rows and says what stood there, in a view of its own; None: no such view.
    """

    def __init__(
        self,
        gold: Any,
        *,
        length: int,
        seed: int,
        pseudo_labeled: Any = None,
        gold_share: float = 1.0,
        class_runs: int = 1,
        edit: Edit | None = None,
        unlabeled: Any = None,
        ratio: float = 0.0,
        strong: Edit | None = None,
        strong_labels: bool = False,
        masked: Masking | None = None,
    ) -> None:
        self.sources = {GOLD: gold, PSEUDO_LABELED: pseudo_labeled, UNLABELED: unlabeled}
        self.streams: dict[int, RowStream | ClassRuns] = {
            name: RowStream(len(rows), seed=seed, stream=name)
            for name, rows in self.sources.items()
            if rows is not None
        }
        if class_runs > 1:
            column = gold["labels"][:] if hasattr(gold, "column_names") else [row["labels"] for row in gold]
            labels = np.asarray(column)
            labels = labels.argmax(1) if labels.ndim == 2 else labels
            self.streams[GOLD] = ClassRuns(labels, run=class_runs, seed=seed, stream=GOLD)
        self.length, self.seed = length, seed
        # As people write it: in floats, ⌊i · .7⌋ is now and then one row short, and processes must have equally many.
        self.ratio = Fraction(ratio).limit_denominator(10**6)
        self.gold_share = 1.0 if pseudo_labeled is None else gold_share
        self.edit, self.strong, self.strong_labels, self.masked = edit, strong, strong_labels, masked
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch of the plan."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, item: int) -> dict[str, Any]:
        item += self.epoch * self.length
        before, after = math.floor(item * self.gold_share), math.floor((item + 1) * self.gold_share)
        name, index = (GOLD, before) if after > before else (PSEUDO_LABELED, item - before)
        row, draw, values = self._row(name, index)
        features = {"labels": values["labels"], "weight": float(values.get("weight", 1.0))}
        features["inputs"] = self._inputs(values, self.edit, row, draw, name)
        if self.strong_labels:
            features["strong"] = self._inputs(values, self.strong, row, draw, _STRONG_LABELED + name)
        if UNLABELED in self.streams:
            first, last = math.floor(item * self.ratio), math.floor((item + 1) * self.ratio)
            features["unlabeled"] = [self._views(index) for index in range(first, last)]
        return features

    def _row(self, name: int, index: int) -> tuple[int, int, Mapping[str, Any]]:
        row, draw = self.streams[name](index)
        return row, draw, self.sources[name][row]

    def _views(self, index: int) -> dict[str, Any]:
        row, draw, values = self._row(UNLABELED, index)
        weak = self._inputs(values, None, row, draw, UNLABELED)
        strong = weak if self.strong is None else self._inputs(values, self.strong, row, draw, UNLABELED)
        key = _mixed(self.seed, row, draw, _ON_DEVICE) >> 1  # 63 bits: a tensor's integers have a sign
        views = {"id": row, "key": key, "weak": weak, "strong": strong}
        if self.masked is not None:
            ids, targets = self.masked(weak["input_ids"], view_rng(self.seed, row, draw, _MASKED))
            views |= {"masked": weak | {"input_ids": ids}, "masked_targets": targets}
        return views

    def _inputs(self, values: Mapping[str, Any], edit: Edit | None, row: int, draw: int, view: int) -> dict[str, list]:
        if edit is None:
            return _inputs_of(values)
        rng = view_rng(self.seed, row, draw, view)
        paraphrases = values.get(VIEW_INPUTS)
        inputs = _inputs_of(paraphrases[rng.integers(len(paraphrases))] if paraphrases else values)
        ids = edit(inputs["input_ids"], rng)
        return {name: value[: len(ids)] for name, value in inputs.items()} | {"input_ids": ids}


def _inputs_of(values: Mapping[str, Any]) -> dict[str, list]:
    return {name: values[name] for name in INPUTS if name in values}
