"""Collating: labels in types that a loss takes, and all rows of a batch padded to one length, on either side."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sstext.data.batching import Relabeled, TrainingRows
from sstext.data.collating import PairedCollator, stack_labels

CLS, SEP, PAD = 2, 3, 0


def corpus(n: int, first: int, **more: Any) -> list[dict[str, Any]]:
    """n tokenized texts of 1 … 4 ordinary tokens; the one at position i reads first + i."""
    return [{"input_ids": [CLS, *[first + i] * (1 + i % 4), SEP], "labels": i % 2, **more} for i in range(n)]


def noise(ids: Any, rng: np.random.Generator) -> list[int]:
    """An edit that leaves one token in place and writes a random one: what it was given can be told from what it made."""
    return [ids[0], int(rng.integers(10**6, 10**9))]


def training_rows(**settings: Any) -> TrainingRows:
    """Four gold rows (100 …), nine pseudo-labeled ones (200 …), seven unlabeled ones (300 …)."""
    defaults: dict[str, Any] = {
        "length": 24, "seed": 1, "pseudo_labeled": corpus(9, 200, weight=0.5), "gold_share": 0.25,
        "unlabeled": corpus(7, 300), "ratio": 1.5,
    }  # fmt: skip
    return TrainingRows(corpus(4, 100), **(defaults | settings))


def first_token(item: dict[str, Any]) -> int:
    return item["inputs"]["input_ids"][1]


def is_gold(item: dict[str, Any]) -> bool:
    return first_token(item) < 200


def test_stack_labels() -> None:
    """Guards the mixed batch, gold classes beside soft pseudo-labels, in types that cross_entropy takes."""
    classes = stack_labels([2, np.int64(0), 1])
    assert (classes.tolist(), classes.dtype) == ([2, 0, 1], torch.int64)
    mixed = stack_labels([np.int64(1), np.array([0.25, 0.75]), 0])
    assert (mixed.tolist(), mixed.dtype) == ([[0, 1], [0.25, 0.75], [1, 0]], torch.float32)


# Batches


def collator(tiny_encoder: Path, side: str = "right") -> PairedCollator:
    from transformers import AutoTokenizer, DataCollatorWithPadding

    return PairedCollator(DataCollatorWithPadding(AutoTokenizer.from_pretrained(tiny_encoder, padding_side=side)))


def padded(ids: list[int], length: int, side: str) -> list[int]:
    blank = [PAD] * (length - len(ids))
    return blank + ids if side == "left" else ids + blank


@pytest.mark.parametrize("side", ["right", "left"])
def test_labeled_rows_and_strong_views_are_padded_together(tiny_encoder: Path, side: str) -> None:
    """One T for the joint pass, one of its own for the weak pass; also where a tokenizer pads on the left.

    Guards against strong views cut at the labeled rows' length, and against an attention mask of the other half.
    """
    items = [training_rows(strong=lambda ids, rng: [*ids, 7, 8])[i] for i in range(4)]
    batch = collator(tiny_encoder, side)(items)
    views = [view for item in items for view in item["unlabeled"]]
    assert len(views) == 6
    joint = max(
        len(ids["input_ids"]) for ids in [item["inputs"] for item in items] + [view["strong"] for view in views]
    )
    weak = max(len(view["weak"]["input_ids"]) for view in views)
    assert weak < joint
    for got, rows, length in (
        (batch, [item["inputs"] for item in items], joint),
        (batch["unlabeled"]["strong"], [view["strong"] for view in views], joint),
        (batch["unlabeled"]["weak"], [view["weak"] for view in views], weak),
    ):
        assert got["input_ids"].tolist() == [padded(row["input_ids"], length, side) for row in rows]
        assert got["attention_mask"].equal((got["input_ids"] != PAD).long())
    assert batch["unlabeled"]["ids"].tolist() == [view["id"] for view in views]
    assert batch["labels"].tolist() == [item["labels"] for item in items]
    assert batch["weight"].tolist() == [item["weight"] for item in items]


def test_a_strong_view_that_is_the_weak_one_is_padded_once(tiny_encoder: Path) -> None:
    """Without edits the two are one tensor: guards against a second padding, and against views that differ in T."""
    unlabeled = collator(tiny_encoder)([training_rows()[i] for i in range(4)])["unlabeled"]
    assert unlabeled["weak"] is unlabeled["strong"]


def test_batches_without_unlabeled_rows_have_no_unlabeled_part(tiny_encoder: Path) -> None:
    """Guards against an empty tensor that the student would be asked to read."""
    for items in ([training_rows(unlabeled=None)[i] for i in range(4)], [training_rows(ratio=0.3)[0]]):
        assert "unlabeled" not in collator(tiny_encoder)(items)


def test_soft_pseudo_labels_beside_gold_ones(tiny_encoder: Path) -> None:
    """A round on probabilities: guards against gold classes left as numbers in a float batch."""
    soft = Relabeled(corpus(7, 300), np.arange(7), np.full((7, 2), 0.5, dtype=np.float32), np.ones(7))
    items = [training_rows(pseudo_labeled=soft, gold_share=0.5)[i] for i in range(4)]
    labels = collator(tiny_encoder)(items)["labels"]
    assert labels.dtype == torch.float32
    for row, item in zip(labels.tolist(), items, strict=True):
        assert row == ([1.0 - item["labels"], float(item["labels"])] if is_gold(item) else [0.5, 0.5])


def test_plain_rows_are_left_to_the_padding(tiny_encoder: Path) -> None:
    """Evaluation rows come without pairs: guards against a collator that only training can use."""
    rows = [{name: row[name] for name in ("input_ids", "labels")} for row in corpus(4, 5)]
    batch = collator(tiny_encoder)(rows)
    assert batch["input_ids"].shape == (4, 6)
    assert batch["labels"].tolist() == [0, 1, 0, 1]
    assert set(batch) == {"input_ids", "attention_mask", "labels"}


def test_token_types_reach_the_model(tiny_encoder: Path) -> None:
    """Guards against pair models that see one segment: token_type_ids are kept and padded like the ids."""
    gold = [{"input_ids": [CLS, 9, SEP], "token_type_ids": [0, 1, 1], "labels": 0},
            {"input_ids": [CLS, 9, 9, 9, SEP], "token_type_ids": [0, 0, 1, 1, 1], "labels": 1}]  # fmt: skip
    items = TrainingRows(gold, length=2, seed=0)
    batch = collator(tiny_encoder)(sorted((items[0], items[1]), key=lambda item: item["labels"]))
    assert batch["token_type_ids"].tolist() == [[0, 1, 1, 0, 0], [0, 0, 1, 1, 1]]
