"""Pseudo-labels come back from disk as they were."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from sstext.pseudolabels import table as pseudo_labels
from sstext.pseudolabels.selection import Selection
from sstext.pseudolabels.table import read_pseudo_labels, write_pseudo_labels


@pytest.mark.parametrize("soft", [False, True])
def test_what_is_written_is_read_to_the_bit(tmp_path: Path, soft: bool) -> None:
    """Guards resumed rounds: a pseudo-label, weight or target that changes on disk changes the training."""
    rng = np.random.default_rng(0)
    targets = rng.dirichlet([1, 1, 1], 4).astype(np.float32) if soft else None
    kept = Selection(np.array([1, 4, 5, 9]), np.array([2, 0, 0, 1]), rng.random(4), rng.random(4), targets)
    corpus = Dataset.from_dict({"row": [0, 2, 3, 4, 5, 6, 8, 9, 10, 11]})  # rows 1 and 7 of the file have no text
    write_pseudo_labels(tmp_path / "p.parquet", kept, corpus=corpus, classes=["b", "a", "ü"], index=3)
    back = read_pseudo_labels(tmp_path / "p.parquet", ["b", "a", "ü"])
    for name in ("rows", "labels", "confidence", "weight"):
        assert np.array_equal(getattr(back, name), getattr(kept, name)), name
    assert back.targets is None if targets is None else np.array_equal(back.targets, targets)
    table = pq.read_table(tmp_path / "p.parquet")
    assert table["label"].to_pylist() == ["ü", "b", "b", "a"]
    assert table["row"].to_pylist() == [2, 5, 6, 11]
    assert table["round"].to_pylist() == [3] * 4
    assert list(tmp_path.iterdir()) == [tmp_path / "p.parquet"]


def many(count: int, classes: int, soft: bool) -> Selection:
    """Random pseudo-labels of every third row of a corpus; the first row is repeated."""
    rng = np.random.default_rng(0)
    rows = 3 * np.arange(count)
    rows[1:2] = 0
    return Selection(
        rows=rows, labels=rng.integers(classes, size=count), confidence=rng.random(count), weight=rng.random(count),
        targets=rng.random((count, classes), dtype=np.float32) if soft else None,
    )  # fmt: skip


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("count", [0, 1, 4, 7, 8])
def test_parts_change_nothing(tmp_path: Path, soft: bool, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the borders of parts: of no part, of one, of a last one that is full, and of one that is not."""
    kept, classes = many(count, 3, soft), ["b", "a", "c"]
    corpus = Dataset.from_dict({"row": list(range(100, 130))})
    write_pseudo_labels(tmp_path / "whole.parquet", kept, corpus=corpus, classes=classes, index=1)
    monkeypatch.setattr(pseudo_labels, "TOGETHER", 4)
    write_pseudo_labels(tmp_path / "parts.parquet", kept, corpus=corpus, classes=classes, index=1)
    assert pq.read_metadata(tmp_path / "parts.parquet").num_row_groups == max(1, -(-count // 4))
    whole, parts = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("whole", "parts"))
    assert parts.equals(whole, check_metadata=True)
    assert parts["row"].to_pylist() == (100 + kept.rows).tolist()
    for name in ("whole", "parts"):  # an earlier version wrote all rows as one part
        back = read_pseudo_labels(tmp_path / f"{name}.parquet", classes)
        for field in ("rows", "labels", "confidence", "weight", "targets"):
            found, given = getattr(back, field), getattr(kept, field)
            assert (found is None) == (given is None), field
            if given is not None:
                assert found.dtype == given.dtype, field
                np.testing.assert_array_equal(found, given)


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """Guards a corpus of which nearly all rows are selected: beside the arrays themselves, only parts are in memory.

    With all rows in one part, Arrow needs 78 bytes per row to read them.
    """
    kept, corpus = many(50_000, 3, soft=False), Dataset.from_dict({"row": np.arange(150_000)})
    peaks, usual, together = [], pa.default_memory_pool(), pseudo_labels.TOGETHER
    try:
        for pseudo_labels.TOGETHER in (50_000, 5_000):
            pa.set_memory_pool(pool := pa.proxy_memory_pool(usual))
            write_pseudo_labels(tmp_path / "p.parquet", kept, corpus=corpus, classes=["a", "b", "c"], index=1)
            read_pseudo_labels(tmp_path / "p.parquet", ["a", "b", "c"])
            peaks.append(pool.max_memory())
            pa.set_memory_pool(usual)
    finally:
        pa.set_memory_pool(usual)
        pseudo_labels.TOGETHER = together
    assert peaks[1] < 0.3 * peaks[0]
