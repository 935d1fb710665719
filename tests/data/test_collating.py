"""Collating: labels in types that a loss takes, and all rows of a batch padded to one length, on either side."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_batching import CLS, SEP, corpus, hide, is_labeled, training_rows

from sstext.data.batching import Relabeled, TrainingRows
from sstext.data.collating import PairedCollator, stack_labels

PAD, IGNORED = 0, -100


def test_stack_labels() -> None:
    """Guards the mixed batch, classes of labeled rows beside soft pseudo-labels, in types that cross_entropy takes."""
    classes = stack_labels([2, np.int64(0), 1])
    assert (classes.tolist(), classes.dtype) == ([2, 0, 1], torch.int64)
    mixed = stack_labels([np.int64(1), np.array([0.25, 0.75]), 0])
    assert (mixed.tolist(), mixed.dtype) == ([[0, 1], [0.25, 0.75], [1, 0]], torch.float32)


# Batches


def collator(tiny_encoder: Path, side: str = "right") -> PairedCollator:
    from transformers import AutoTokenizer, DataCollatorWithPadding

    return PairedCollator(DataCollatorWithPadding(AutoTokenizer.from_pretrained(tiny_encoder, padding_side=side)))


def padded(ids: list[int], length: int, side: str, value: int = PAD) -> list[int]:
    blank = [value] * (length - len(ids))
    return blank + ids if side == "left" else ids + blank


def row(first: int, length: int) -> dict[str, list[int]]:
    """Inputs of `length` tokens."""
    return {"input_ids": list(range(first, first + length))}


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("longest", ["labeled", "labeled strong", "weak", "strong", "masked"])
def test_all_rows_are_padded_to_one_length(tiny_encoder: Path, side: str, longest: str) -> None:
    """Any two blocks go through one joint pass: each has the T of the longest row of all, whichever block it is in.

    Guards blocks that cannot be joined, rows cut at another block's length, and a mask of another row.
    """
    lengths = {name: 9 if name == longest else 3 for name in ("labeled", "labeled strong", "weak", "strong", "masked")}
    views = [
        {"id": 7 - k, "key": 2**62 + k, "weak": row(20 + k, lengths["weak"] - k), "strong": row(40 + k, lengths["strong"]),
         "masked": row(60 + k, lengths["masked"] - k), "masked_targets": [IGNORED, *range(80, 79 + lengths["masked"] - k)]}
        for k in (0, 1)
    ]  # fmt: skip
    items = [
        {"inputs": row(10, lengths["labeled"]), "strong": row(10, lengths["labeled strong"]), "labels": 1, "weight": 0.5,
         "unlabeled": views},
        {"inputs": row(12, 2), "strong": row(14, 1), "labels": 0, "weight": 1.0, "unlabeled": []},
    ]  # fmt: skip
    batch = collator(tiny_encoder, side)(items)
    unlabeled = batch["unlabeled"]
    for got, rows in (
        (batch, [item["inputs"] for item in items]),
        (batch["strong"], [item["strong"] for item in items]),
        (unlabeled["weak"], [view["weak"] for view in views]),
        (unlabeled["strong"], [view["strong"] for view in views]),
        (unlabeled["masked"], [view["masked"] for view in views]),
    ):
        assert got["input_ids"].tolist() == [padded(row["input_ids"], 9, side) for row in rows]
        assert got["attention_mask"].equal((got["input_ids"] != PAD).long())
    targets = [padded(view["masked_targets"], 9, side, IGNORED) for view in views]
    assert unlabeled["masked_targets"].tolist() == targets
    assert (unlabeled["ids"].tolist(), unlabeled["keys"].tolist()) == ([7, 6], [2**62, 2**62 + 1])
    assert {values.dtype for values in (unlabeled["masked_targets"], unlabeled["keys"], unlabeled["ids"])} == {
        torch.int64
    }
    assert (batch["labels"].tolist(), batch["weight"].tolist()) == ([1, 0], [0.5, 1.0])


def test_one_call_pads_a_batch(tiny_encoder: Path) -> None:
    """Guards against blocks padded one by one, each to a length of its own; views that are the same are padded once."""
    calls: list[int] = []
    pad = collator(tiny_encoder).pad

    def counting(rows: list[dict[str, Any]]) -> Mapping[str, torch.Tensor]:
        calls.append(len(rows))
        return pad(rows)

    for settings in ({}, {"strong_labels": True, "masked": hide, "strong": lambda ids, rng: [*ids, 7]}):
        items = [training_rows(ratio=2.0, **settings)[i] for i in range(4)]
        PairedCollator(counting)(items)
    assert calls == [4 + 8, 4 + 4 + 8 + 8 + 8]


def test_what_nobody_asked_for_is_in_no_batch(tiny_encoder: Path) -> None:
    batch = collator(tiny_encoder)([training_rows()[i] for i in range(4)])
    assert set(batch) == {"input_ids", "attention_mask", "labels", "weight", "unlabeled"}
    assert set(batch["unlabeled"]) == {"weak", "strong", "ids", "keys"}


def test_a_strong_view_that_is_the_weak_one_is_padded_once(tiny_encoder: Path) -> None:
    """Without edits the two are one tensor: guards against a second padding, and against views that differ in T."""
    unlabeled = collator(tiny_encoder)([training_rows()[i] for i in range(4)])["unlabeled"]
    assert unlabeled["weak"] is unlabeled["strong"]


def test_batches_without_unlabeled_rows_have_no_unlabeled_part(tiny_encoder: Path) -> None:
    """Guards against an empty tensor that the student would be asked to read."""
    for items in ([training_rows(unlabeled=None)[i] for i in range(4)], [training_rows(ratio=0.3)[0]]):
        assert "unlabeled" not in collator(tiny_encoder)(items)


def test_soft_pseudo_labels_beside_labeled_ones(tiny_encoder: Path) -> None:
    """A round on probabilities: guards against classes of labeled rows left as numbers in a float batch."""
    soft = Relabeled(corpus(7, 300), np.arange(7), np.full((7, 2), 0.5, dtype=np.float32), np.ones(7))
    items = [training_rows(pseudo_labeled=soft, gold_share=0.5)[i] for i in range(4)]
    labels = collator(tiny_encoder)(items)["labels"]
    assert labels.dtype == torch.float32
    for row, item in zip(labels.tolist(), items, strict=True):
        assert row == ([1.0 - item["labels"], float(item["labels"])] if is_labeled(item) else [0.5, 0.5])


def test_plain_rows_are_left_to_the_padding(tiny_encoder: Path) -> None:
    """Evaluation rows come without pairs: guards against a collator that only training can use."""
    rows = [{name: row[name] for name in ("input_ids", "labels")} for row in corpus(4, 5)]
    batch = collator(tiny_encoder)(rows)
    assert batch["input_ids"].shape == (4, 6)
    assert batch["labels"].tolist() == [0, 1, 0, 1]
    assert set(batch) == {"input_ids", "attention_mask", "labels"}


def test_token_types_reach_the_model(tiny_encoder: Path) -> None:
    """Guards against pair models that see one segment: token_type_ids are kept and padded like the ids."""
    labeled = [{"input_ids": [CLS, 9, SEP], "token_type_ids": [0, 1, 1], "labels": 0},
            {"input_ids": [CLS, 9, 9, 9, SEP], "token_type_ids": [0, 0, 1, 1, 1], "labels": 1}]  # fmt: skip
    items = TrainingRows(labeled, length=2, seed=0)
    batch = collator(tiny_encoder)(sorted((items[0], items[1]), key=lambda item: item["labels"]))
    assert batch["token_type_ids"].tolist() == [[0, 1, 1, 0, 0], [0, 0, 1, 1, 1]]
