"""Pseudo-labels come back from disk as they were."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sstext.pseudolabels.selection import Selection
from sstext.pseudolabels.table import read_pseudo_labels, write_pseudo_labels


@pytest.mark.parametrize("soft", [False, True])
def test_what_is_written_is_read_to_the_bit(tmp_path: Path, soft: bool) -> None:
    """Guards resumed rounds: a pseudo-label, weight or target that changes on disk changes the training."""
    rng = np.random.default_rng(0)
    targets = rng.dirichlet([1, 1, 1], 4).astype(np.float32) if soft else None
    kept = Selection(np.array([1, 4, 5, 9]), np.array([2, 0, 0, 1]), rng.random(4), rng.random(4), targets)
    ids = pa.array([2, 5, 6, 11])
    write_pseudo_labels(tmp_path / "p.parquet", kept, ids=ids, classes=["b", "a", "ü"], index=3)
    back = read_pseudo_labels(tmp_path / "p.parquet", ["b", "a", "ü"])
    for name in ("rows", "labels", "confidence", "weight"):
        assert np.array_equal(getattr(back, name), getattr(kept, name)), name
    assert back.targets is None if targets is None else np.array_equal(back.targets, targets)
    table = pq.read_table(tmp_path / "p.parquet")
    assert table["label"].to_pylist() == ["ü", "b", "b", "a"]
    assert table["row"].to_pylist() == [2, 5, 6, 11]
    assert table["round"].to_pylist() == [3] * 4
    assert list(tmp_path.iterdir()) == [tmp_path / "p.parquet"]
