"""Hashes of rows do not depend on how the rows are read."""

import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from datasets import Dataset, concatenate_datasets

from sstext.modeling.digests import add_rows


def digest(rows: Dataset, places: np.ndarray | None = None) -> str:
    found = xxhash.xxh3_128()
    add_rows(found, rows, places)
    return found.hexdigest()


@pytest.fixture(scope="module")
def corpus() -> Dataset:
    """50,000 rows in two tables, with an empty row now and then."""
    lengths = np.arange(50_000) % 7
    tokens = pa.ListArray.from_arrays(np.append(0, lengths.cumsum()), np.arange(lengths.sum()) % 1_000)
    rows = Dataset(pa.table({"input_ids": tokens, "row": np.arange(50_000)}))
    return concatenate_datasets([rows.select(range(33_333)), rows.select(range(33_333, 50_000))])


@pytest.mark.parametrize("step", [1, 2, 101])
def test_places_are_selected_rows(corpus: Dataset, step: int) -> None:
    """Guards `sstext train out --keep …`: with another hash, nothing would be taken from an earlier run."""
    places = np.delete(np.arange(0, 50_000, step), 7)
    assert digest(corpus, places) == digest(corpus.select(places))
    assert digest(corpus, places) != digest(corpus, places[1:])


def test_places_take_no_memory(corpus: Dataset) -> None:
    """Guards a round that selects nearly all rows: `select` made a Python number of each, 40 bytes per row."""
    places = np.delete(np.arange(50_000), 7)
    tracemalloc.start()
    try:
        digest(corpus, places)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 25 * 50_000
