"""The names or descriptions of the classes, with the weight that the labels of a chain give them."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sstext.data.order import random_rows
from sstext.pseudolabels.embeddings import NOT_KEPT, Embeddings
from sstext.pseudolabels.regression import ClassTexts, WeightChoice, choose_weight

#: Number of labeled rows that choose the weight. With more labels, class texts hardly matter.
ROWS = 500


def rows_of_choice(rows: int, seed: int) -> NDArray[np.int64]:
    """Positions (M,) of the labeled rows that choose the weight, or an encoder: all of them, or `ROWS` drawn at random."""
    return random_rows(rows, min(rows, ROWS), seed)


@dataclass(frozen=True)
class WeighedClassTexts:
    """Texts of the classes, and how much they count beside the labeled rows of a chain.

    Attributes:
        kind: "names" or "descriptions".
        tokens: A tokenized texts with `labels`.
        embedded: the same texts, embedded by the encoder as it was pretrained.
        rows: (M,) positions of the labeled rows that choose the weight.
        labeled: (M, D) embeddings of these rows, by the same encoder.
        labels: (M,) their classes.
        classes: C.
        seed: seed of the rows and of the folds in which the weight is chosen.
    """

    kind: str
    tokens: Any
    embedded: ClassTexts
    rows: NDArray[np.int64]
    labeled: NDArray
    labels: NDArray[np.int64]
    classes: int
    seed: int = 0

    @classmethod
    def weigh(
        cls, encoder: Any, tokens: Any, labeled: Any, tokenizer: Any, *, kind: str, classes: int, seed: int = 0,
        kept: Embeddings = NOT_KEPT, reading: str | None = None,
    ) -> "WeighedClassTexts":  # fmt: skip
        """Embed the texts and the labeled rows. If there are more than `ROWS` labeled rows, some are drawn at random.

        Args:
            encoder: an encoder as it was pretrained, on its device.
            tokens: A tokenized texts of the classes, with `labels`.
            labeled: B tokenized labeled rows.
            tokenizer: of the encoder.
            kind, classes, seed: see the attributes.
            kept: where embeddings are kept. Default: nowhere.
            reading: mean or first token. Default: what belongs to the encoder.
        """
        rows = rows_of_choice(len(labeled), seed)
        some = labeled.select(rows)
        texts = ClassTexts(kept.of(encoder, tokens, tokenizer, reading=reading), np.asarray(tokens["labels"][:]))
        embedded, labels = kept.of(encoder, some, tokenizer, reading=reading), np.asarray(some["labels"][:])
        return cls(kind, tokens, texts, rows, embedded, labels, classes, seed)

    def for_rows(self, rows: NDArray[np.int64]) -> "WeighedClassTexts":
        """The same texts beside a part of the labeled rows. Only these rows choose the weight.

        Args:
            rows: (n,) positions of the labeled rows.
        """
        own = np.isin(self.rows, rows)
        return replace(self, rows=self.rows[own], labeled=self.labeled[own], labels=self.labels[own])

    @cached_property
    def choice(self) -> WeightChoice:
        """The weight, and the evidence for it."""
        return choose_weight(self.labeled, self.labels, self.classes, self.embedded, self.seed)

    @property
    def weight(self) -> float:
        """Number of labeled rows that the texts of a class count like together. 0 means that they are not used."""
        return self.choice.weight

    def as_rows(self, labeled: int) -> Any:
        """The tokenized texts as labeled rows of a training, repeated so that the texts of a class are about `weight` rows.

        A text of class c is there max(1, round(min(w, B / C) / A_c)) times, with A_c texts of the class. Texts of a class are
        thus hardly more rows than its labeled ones: copies of a text teach less than as many texts.

        Args:
            labeled: B, number of labeled rows that are trained on.
        """
        labels = np.asarray(self.tokens["labels"][:])
        rows_of_class = min(self.weight, labeled / self.classes)
        times = np.maximum(1, np.rint(rows_of_class / np.bincount(labels)[labels])).astype(int)
        return self.tokens.select(np.repeat(np.arange(len(labels)), times))

    def record(self) -> dict[str, Any]:
        """The weight and the evidence for it, as `results.json` has them."""
        losses = {f"{weight:g}": loss for weight, loss in self.choice.losses.items()}
        return {"kind": self.kind, "weight": self.weight, "log_loss": losses}
