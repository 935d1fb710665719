"""Embeddings that are computed once per encoder and texts."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from sstext.inference.scoring import score
from sstext.modeling.embedder import Embedder
from sstext.modeling.reading import make_read
from sstext.pseudolabels import embeddings
from sstext.pseudolabels.embeddings import NOT_KEPT, Embeddings, key_of
from sstext.run.train import open_run, train
from sstext.run.verifying import differences, forget, verify


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of rows of each call that embeds."""
    counted: list[int] = []

    def counting(model: Any, rows: Any, *args: Any, **how: Any) -> Any:
        counted.append(len(rows))
        return score(model, rows, *args, **how)

    monkeypatch.setattr(embeddings, "score", counting)
    return counted


@pytest.fixture
def tokenizer(tiny_encoder: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_encoder)


def _rows(tokenizer: Any, *texts: str) -> Dataset:
    return Dataset.from_dict({"input_ids": tokenizer(list(texts))["input_ids"]})


def test_the_same_texts_are_embedded_once(
    tiny_encoder: Path, tokenizer: Any, passes: list[int], tmp_path: Path
) -> None:
    """Guards the bits: what was kept is what is computed, whatever head a model has."""
    encoder, rows = (
        AutoModel.from_pretrained(tiny_encoder),
        _rows(tokenizer, "money back", "a parcel that is late", "no"),
    )
    expected = score(Embedder(encoder.eval()), rows, tokenizer)
    kept = Embeddings(tmp_path / "kept")
    np.testing.assert_array_equal(kept.of(encoder, rows, tokenizer), expected)
    for seed in range(2):  # heads are drawn
        classifier = AutoModelForSequenceClassification.from_pretrained(tiny_encoder, num_labels=2 + seed).eval()
        np.testing.assert_array_equal(score(Embedder(classifier), rows, tokenizer), expected)
        np.testing.assert_array_equal(kept.of(classifier, rows, tokenizer), expected)
        assert make_read(classifier, "mean")
        np.testing.assert_array_equal(score(Embedder(classifier), rows, tokenizer), expected)
        np.testing.assert_array_equal(kept.of(classifier, rows, tokenizer), expected)
    assert passes == [3], "one pass for four models"
    first = score(Embedder(encoder, reading="first"), rows, tokenizer)
    assert not np.allclose(first, expected)
    assert make_read(classifier, "first")
    for given in ({"reading": "first"}, {}):
        np.testing.assert_array_equal(kept.of(classifier, rows, tokenizer, **given), first)
    np.testing.assert_array_equal(kept.of(encoder, rows, tokenizer, reading="first"), first)
    passes.remove(3)
    Embeddings().of(encoder, rows, tokenizer)
    assert passes == [3, 3], "without a folder, nothing is kept"


def test_whatever_changes_embeddings_changes_the_key(tiny_encoder: Path, tokenizer: Any) -> None:
    """Guards against embeddings of other texts, another order, another encoder or another precision."""
    encoder = AutoModel.from_pretrained(tiny_encoder)
    keys = [
        key_of(encoder, _rows(tokenizer, *texts), tokenizer, "fp32", "mean")
        for texts in (("a", "b"), ("b", "a"), ("a b",))
    ]
    keys.append(key_of(encoder, _rows(tokenizer, "a", "b"), tokenizer, "bf16", "mean"))
    encoder.encoder.layer[1].output.dense.bias.data[3] += 1e-6
    keys.append(key_of(encoder, _rows(tokenizer, "a", "b"), tokenizer, "fp32", "mean"))
    keys.append(key_of(encoder, _rows(tokenizer, "a", "b"), tokenizer, "fp32", "first"))
    assert len(set(keys)) == 6
    keys.pop()
    encoder.pooler.dense.bias.data += 1
    assert key_of(encoder, _rows(tokenizer, "a", "b"), tokenizer, "fp32", "mean") == keys[-1], (
        "no embedding reads the pooler"
    )


def test_the_oldest_go_first(tiny_encoder: Path, tokenizer: Any, passes: list[int], tmp_path: Path) -> None:
    """Guards the disk: the folder never has more than its bytes, and what does not fit is computed all the same."""
    encoder = AutoModel.from_pretrained(tiny_encoder)
    texts = [_rows(tokenizer, f"text {number}", "another") for number in range(3)]
    kept = Embeddings(tmp_path, most=2 * (2 * 16 * 4 + 128))  # two of them
    for number, rows in enumerate(texts):
        kept.of(encoder, rows, tokenizer)
        for file in tmp_path.glob("*.npy"):
            if file.stat().st_mtime > 1_000:  # the new one
                os.utime(file, (number, number))
    assert sum(file.stat().st_size for file in tmp_path.glob("*.npy")) <= kept.most
    before = len(passes)
    kept.of(encoder, texts[2], tokenizer)
    assert len(passes) == before, "the newest is there"
    kept.of(encoder, texts[0], tokenizer)
    assert len(passes) == before + 1, "the oldest has gone"
    assert kept.of(encoder, _rows(tokenizer, *"abcdefghi"), tokenizer).shape == (9, 16)
    assert all(file.stat().st_size <= kept.most for file in tmp_path.glob("*.npy"))


def test_an_earlier_folder_is_read_and_stays_as_it_is(
    tiny_encoder: Path, tokenizer: Any, passes: list[int], tmp_path: Path
) -> None:
    """Guards `train out --more`, which would embed the corpus of the finished run again, or write to its folder."""
    encoder, rows = AutoModel.from_pretrained(tiny_encoder).eval(), _rows(tokenizer, "money back", "no")
    expected = Embeddings(tmp_path / "earlier").of(encoder, rows, tokenizer)
    now = Embeddings(tmp_path / "now", also=tmp_path / "earlier")
    np.testing.assert_array_equal(now.of(encoder, rows, tokenizer), expected)
    assert passes == [2]
    now.of(encoder, _rows(tokenizer, "another"), tokenizer)
    assert [len(list((tmp_path / name).iterdir())) for name in ("earlier", "now")] == [1, 1]
    now.of(encoder, _rows(tokenizer, "another"), tokenizer)
    assert passes == [2, 1]


def test_parts_of_a_corpus_that_does_not_fit_are_not_kept() -> None:
    """Guards a folder in which every part of a large corpus pushes out one that was not read yet."""
    kept = Embeddings(Path("somewhere"), most=1_000 * 16 * 4)
    assert kept.for_parts_of(1_000, 16) is kept
    assert kept.for_parts_of(1_001, 16) is NOT_KEPT


@pytest.mark.slow
def test_a_run_is_the_same_with_and_without_and_computes_less(
    tiny_run: Callable[..., Any], passes: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards the promise of a cache: the same files, fewer passes. What is kept is recorded, and goes with the texts."""
    options: dict[str, Any] = {"method": "auto", "folds": 2, "method_args": {}}
    options |= {"steps": 2, "round_steps": 2, "descriptions": "names"}

    def run(folder: Path) -> int:
        config = tiny_run(folder, **options)
        config.method_args = {}
        train(config, report=False)
        rows = sum(passes)
        passes.clear()
        return rows

    with_it = run(tmp_path / "with")
    monkeypatch.setattr(Embeddings, "of", lambda self, *rows, **how: own(Embeddings(), *rows, **how))
    without = run(tmp_path / "without")
    assert 0 < with_it < 0.6 * without
    found = [line for line in differences(tmp_path / "with", tmp_path / "without") if "data/embeddings" not in line]
    assert [line for line in found if not line.startswith("config.yaml")] == []
    monkeypatch.setattr(Embeddings, "of", own)
    passes.clear()
    changed = replace(tiny_run(tmp_path / "changed", **options), method_args={}, round_steps=3)
    train(changed, before=tmp_path / "with", report=False)
    assert max(passes, default=0) < len(open_run(changed).whole.tokens.corpus), "the corpus was embedded before"
    kept = list((tmp_path / "with" / "data" / "embeddings").glob("*.npy"))
    assert kept
    assert verify(tmp_path / "with").problems == []
    forget(tmp_path / "with")
    assert not any(file.exists() for file in kept)


own = Embeddings.of


def test_what_is_kept_is_private_and_computed_again_if_it_cannot_be_read(
    tiny_encoder: Path, tokenizer: Any, passes: list[int], tmp_path: Path
) -> None:
    """Guards vectors of texts that others may read, and a run that ends because a file of this folder is damaged."""
    encoder, rows = AutoModel.from_pretrained(tiny_encoder).eval(), _rows(tokenizer, "money back", "no")
    kept = Embeddings(tmp_path / "kept")
    expected = kept.of(encoder, rows, tokenizer)
    (file,) = (tmp_path / "kept").iterdir()
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    file.write_bytes(b"half")
    np.testing.assert_array_equal(kept.of(encoder, rows, tokenizer), expected)
    assert passes == [2, 2], "once, and once more after the damage"


def test_an_encoder_with_a_number_has_a_key(tiny_encoder: Path, tokenizer: Any) -> None:
    """Guards weights without dimensions, such as a scale of logits."""
    encoder, rows = AutoModel.from_pretrained(tiny_encoder), _rows(tokenizer, "no")
    encoder.register_parameter("scale", torch.nn.Parameter(torch.tensor(2.0)))
    first = key_of(encoder, rows, tokenizer, "fp32", "mean")
    encoder.scale.data.fill_(3.0)
    assert key_of(encoder, rows, tokenizer, "fp32", "mean") != first
