"""Pages of mapped files are given back."""

from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest
from datasets import Dataset

from sstext.storage import mapped
from sstext.storage.mapped import give_back, rows_at


def test_the_rows_can_be_read_as_before_and_take_no_memory(tmp_path: Path) -> None:
    """Guards the memory of a run on a large corpus, and the corpus itself: what is given back must not be lost."""
    file, count = tmp_path / "corpus.arrow", 200_000
    schema = pa.schema([("text", pa.string())])
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for start in range(0, count, 1_000):
            texts = pa.array([f"{number:100d}" for number in range(start, start + 1_000)])
            writer.write_batch(pa.record_batch([texts], schema=schema))
    rows = Dataset.from_file(str(file))
    assert rows["text"][count - 1].strip() == str(count - 1)
    for start in range(0, count, 10_000):
        rows[start : start + 10_000]
    process = psutil.Process()
    if not hasattr(before := process.memory_info(), "shared"):
        pytest.skip("this system does not tell mapped pages")
    give_back(rows)
    assert before.shared - process.memory_info().shared > 10_000_000  # of 20
    assert [rows["text"][row].strip() for row in (0, 77_777, count - 1)] == ["0", "77777", str(count - 1)]


def test_pages_of_arrays_are_given_back(tmp_path: Path) -> None:
    """Guards the scores of a corpus, which every round reads as a whole."""
    file, process = tmp_path / "scores.npy", psutil.Process()
    np.save(file, np.arange(5_000_000, dtype=np.float32))
    scores = np.load(file, mmap_mode="r")
    assert scores.sum(dtype=np.float64) == 5_000_000 * 4_999_999 / 2
    if not hasattr(before := process.memory_info(), "shared"):
        pytest.skip("this system does not tell mapped pages")
    give_back(scores)
    assert before.shared - process.memory_info().shared > 10_000_000  # of 20
    assert scores[-1] == 4_999_999


def test_rows_in_memory_stay() -> None:
    """Guards data sets that are in no file: their pages cannot be read again."""
    rows = Dataset.from_dict({"text": ["hello"] * 100_000})
    give_back(rows)
    give_back([{"text": "a list"}])
    give_back(np.zeros(3))
    assert set(rows["text"][:]) == {"hello"}


@pytest.mark.parametrize("places", [[], [0], [9], [3, 4], [0, 3, 3, 4, 9], list(range(10))])
def test_rows_at_places_are_those_of_select(places: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the borders of the slices in which rows are read, and rows that are repeated."""
    monkeypatch.setattr(mapped, "_SLICE", 4)
    rows = Dataset.from_dict({"input_ids": [[number] * number for number in range(10)], "row": list(range(10, 20))})
    found = rows_at(rows.with_format("arrow"), np.array(places, dtype=np.int64))
    assert found.to_pylist() == rows.select(places).to_list()
