"""Pages of mapped files are given back."""

from pathlib import Path

import psutil
import pyarrow as pa
import pytest
from datasets import Dataset

from sstext.storage.mapped import give_back


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


def test_rows_in_memory_stay() -> None:
    """Guards data sets that are in no file: their pages cannot be read again."""
    rows = Dataset.from_dict({"text": ["hello"] * 100_000})
    give_back(rows)
    give_back([{"text": "a list"}])
    assert set(rows["text"][:]) == {"hello"}
