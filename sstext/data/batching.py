"""Tokenized rows → training items: the order of the rows, and their views.

Every random choice is a pure function of (seed, item). A run that is killed and resumed therefore sees the same batches
without any saved iterator state. Several processes that share one order do so too.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from sstext.data.edits import view_rng
from sstext.data.order import ClassRuns, RowStream, mixed
from sstext.data.tokens import VIEW_INPUTS

Edit = Callable[[Sequence[int], np.random.Generator], list[int]]


Masking = Callable[[Sequence[int], np.random.Generator], tuple[list[int], list[int]]]


#: Columns of a row that are inputs of a text encoder; the model reads no other column.
INPUTS = ("input_ids", "token_type_ids")  # padding adds the attention mask


@dataclass(frozen=True)
class Relabeled:
    """M rows of a corpus with new labels and weights; no row is copied.

    Attributes:
        corpus: tokenized rows.
        rows: (M,) positions in the corpus.
        labels: (M,) classes, or (M, C) probabilities.
        weight: (M,) weight of each row.
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
    """Class shares (C,) of n labels, which are classes or probabilities. A class without labels counts as half a label.

    >>> label_shares([0, 0, 0, 1], 2)
    array([0.75, 0.25])
    """
    found = np.asarray(labels)
    counts = found.sum(0) if found.ndim == 2 else np.bincount(found, minlength=classes)
    counts = np.maximum(counts, 0.5)
    return counts / counts.sum()


LABELED, PSEUDO_LABELED, UNLABELED = 0, 1, 2  # numbers of the row streams, and of their views with token edits


_STRONG_LABELED = 3  # + stream: the second view of a labeled row


_MASKED, _ON_DEVICE = 6, 7  # views of unlabeled rows with masked tokens; random numbers that the device draws for them


class TrainingRows(Dataset):
    """The rows of one epoch in training order. Item i belongs to optimizer step i // (global batch).

    `Trainer` calls `set_epoch` before every epoch. Item i of epoch e is item e · length + i of one endless sequence.

    Any k consecutive items contain ⌊k · gold_share⌋ labeled rows or one more. The labeled rows are evenly spread, so
    each batch of each process gets its share. Item i also carries the unlabeled rows ⌊i · ratio⌋ … ⌊(i+1) · ratio⌋ − 1
    of their stream.

    If a row has paraphrases (`VIEW_INPUTS`), one of them is drawn before tokens are edited.

    Args:
        labeled: tokenized labeled rows (`input_ids`, `labels`).
        length: items per epoch, a multiple of the global batch.
        seed: seed of the order and of the edits.
        pseudo_labeled: tokenized rows with `labels` (class or probabilities) and optionally `weight`. Default: none.
        gold_share: share of labeled rows among the items, above 0. It is 1 if there are no pseudo-labeled rows.
        class_runs: number of consecutive labeled rows of the same class (see `ClassRuns`). 1 means a random order.
        edit: token edits for the labeled rows. Default: no edits.
        unlabeled: tokenized rows. Default: none.
        ratio: unlabeled rows per item.
        strong: token edits for the strong view. Default: the strong view equals the weak view.
        strong_labels: whether an item also holds a strong view of its labeled row.
        masked: function that masks tokens of an unlabeled row, for a further view. Default: no such view.
    """

    def __init__(
        self,
        labeled: Any,
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
        self.sources = {LABELED: labeled, PSEUDO_LABELED: pseudo_labeled, UNLABELED: unlabeled}
        self.streams: dict[int, RowStream | ClassRuns] = {
            name: RowStream(len(rows), seed=seed, stream=name)
            for name, rows in self.sources.items()
            if rows is not None
        }
        if class_runs > 1:
            column = labeled["labels"][:] if hasattr(labeled, "column_names") else [row["labels"] for row in labeled]
            labels = np.asarray(column)
            labels = labels.argmax(1) if labels.ndim == 2 else labels
            self.streams[LABELED] = ClassRuns(labels, run=class_runs, seed=seed, stream=LABELED)
        self.length, self.seed = length, seed
        # An exact fraction: with floats, ⌊i · .7⌋ is sometimes one row short, and all processes need the same number.
        self.ratio = Fraction(ratio).limit_denominator(10**6)
        self.gold_share = 1.0 if pseudo_labeled is None else gold_share
        self.edit, self.strong, self.strong_labels, self.masked = edit, strong, strong_labels, masked
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Move to an epoch of the sequence."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, item: int) -> dict[str, Any]:
        item += self.epoch * self.length
        before, after = math.floor(item * self.gold_share), math.floor((item + 1) * self.gold_share)
        name, index = (LABELED, before) if after > before else (PSEUDO_LABELED, item - before)
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
        key = mixed(self.seed, row, draw, _ON_DEVICE) >> 1  # 63 bits, because a tensor's integers are signed
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
