"""Folders, patterns, standard input, packed files and streams as one source."""

import io
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sstext.data import fingerprints, sources
from sstext.data.corpus import load_unlabeled
from sstext.data.fingerprints import fingerprint
from sstext.data.formats import read_rows
from sstext.data.many_files import every_file, files_of, known_rows
from sstext.data.sources import open_table, source_kind
from sstext.data.standard_input import Spooled
from sstext.errors import UserError


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Three parquet files of two rows, one of them in a folder below, and what other programs leave beside them."""
    folder = tmp_path / "corpus"
    (folder / "more").mkdir(parents=True)
    for number, name in enumerate(("a.parquet", "b.parquet", "more/c.parquet")):
        pq.write_table(pa.table({"text": [f"text {number}", f"other {number}"], "n": [number, number]}), folder / name)
    (folder / "_SUCCESS.csv").write_text("")
    (folder / "README.md").write_text("about")
    return folder


def _texts(source: Any) -> list[str]:
    return [text for rows in open_table(source, "utf-8", "train").batches for text in rows.columns["text"]]


def test_a_folder_is_its_files_in_the_order_of_their_names(shards: Path) -> None:
    """Guards the order of the rows, on which the audit labels and the seed depend, and against reading foreign files."""
    assert _texts(shards) == ["text 0", "other 0", "text 1", "other 1", "text 2", "other 2"]
    assert _texts(f"{shards}/*.parquet") == ["text 0", "other 0", "text 1", "other 1"]
    assert source_kind(str(shards)) == source_kind(f"{shards}/*.parquet") == "files"
    assert known_rows(shards) == 6


def test_the_fingerprint_of_files_follows_their_content(shards: Path) -> None:
    """Guards a resumed run from going on with other data: a changed shard is another source, an untouched one is not."""
    before = fingerprint(shards)
    assert fingerprint(shards) == before == fingerprint(f"{shards}/**/*.parquet")
    pq.write_table(pa.table({"text": ["text 9", "other 9"], "n": [1, 1]}), shards / "b.parquet")
    assert fingerprint(shards) != before


def test_a_file_that_does_not_fit_is_named(shards: Path, tmp_path: Path) -> None:
    """Guards against a shard without texts that is skipped in silence, and against folders of everything."""
    pq.write_table(pa.table({"body": ["lost"], "n": [1]}), shards / "more/c.parquet")
    with pytest.raises(UserError, match=r"c\.parquet: expected the columns of a\.parquet, found none called 'text'"):
        _texts(shards)
    (shards / "d.csv").write_text("text\nhello\n")
    with pytest.raises(UserError, match=r"expected files of one format, found .*d\.csv"):
        _texts(shards)
    with pytest.raises(UserError, match=r"no such files: .*\*\.arrow"):
        source_kind(f"{shards}/*.arrow")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="expected a folder with files of texts, or one written by save_to_disk"):
        source_kind(tmp_path / "empty")


def test_messages_name_the_file_of_a_row(tmp_path: Path) -> None:
    """Guards the place in messages: a line alone says nothing among a thousand files."""
    for name, text in (("a.jsonl", '"fine"'), ("b.jsonl", "7")):
        (tmp_path / name).write_text(f'{{"text": {text}}}\n{{"text": {text}}}\n')
    table = open_table(f"{tmp_path}/*.jsonl", "utf-8", "train")
    places = [table.where(rows, 1) for rows in table.batches]
    assert [place.split("files): ")[1] for place in places] == [
        f"{tmp_path}/a.jsonl: line 2",
        f"{tmp_path}/b.jsonl: line 2",
    ]


def test_a_slice_of_a_split_is_no_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards names on the Hub with brackets, which `glob` would read as a pattern."""
    monkeypatch.delenv(sources.REPLACEMENTS, raising=False)
    assert files_of("stanfordnlp/imdb:train[:10%]") is None
    assert source_kind("stanfordnlp/imdb:train[:10%]") == "hub"


def test_zstd_is_unpacked_to_its_end() -> None:
    """Guards packed shards of several frames, and against a file that was cut off and looks whole."""
    raw = b'{"text": "hello there"}\n' * 5_000
    packed = pa.compress(raw, "zstd", asbytes=True)
    assert sum(map(len, read_rows(io.BytesIO(packed + packed)))) == 10_000
    with pytest.raises(UserError, match="damaged or cut off"):
        sum(map(len, read_rows(io.BytesIO(packed[:-3]))))


def test_standard_input_is_read_once_and_can_be_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a pipe, which has no beginning to go back to: the fingerprint and the rows are of the same bytes."""
    raw = b"".join(json.dumps({"text": f"text {number}"}).encode() + b"\n" for number in range(2_500))
    spooled = Spooled(io.BytesIO(raw))
    for module in (sources, fingerprints):
        monkeypatch.setattr(module, "standard_input", lambda: spooled)
    assert len(_texts("-")) == len(_texts("-")) == 2_500
    assert source_kind("-") == "stdin"
    assert fingerprint("-") == spooled.fingerprint == Spooled(io.BytesIO(raw)).fingerprint
    assert fingerprint("-") != Spooled(io.BytesIO(raw + b"\n{}")).fingerprint


def test_a_stream_of_the_hub_is_read_without_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the first rows of a stream (`train[:3]`), and the names of its classes."""
    import datasets

    def rows() -> Any:
        yield from ({"text": f"text {number}", "label": number % 2} for number in range(10))

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    asked: list[Any] = []

    def load(name: str, *, split: str, streaming: bool) -> Any:
        asked.append((name, split, streaming))
        return datasets.IterableDataset.from_generator(rows, features=features)

    monkeypatch.setattr(datasets, "load_dataset", load)
    table = open_table("stream:someone/large:train[:3]", "utf-8", "train")
    (batch,) = table.batches
    assert batch.columns == {"text": ["text 0", "text 1", "text 2"], "label": ["no", "yes", "no"]}
    assert asked == [("someone/large", "train", True)]
    assert fingerprint("stream:someone/large") == "hub:someone/large:train"
    assert source_kind("stream:someone/large") == "stream"


def test_an_interrupted_spool_leaves_nothing(shards: Path, tmp_path: Path) -> None:
    """Guards a corpus that would be half: the Arrow file appears whole or not at all."""

    def stop(n: int = 1) -> None:
        raise KeyboardInterrupt

    target = tmp_path / "run" / "corpus.arrow"
    with pytest.raises(KeyboardInterrupt):
        load_unlabeled(shards, arrow_file=target, tick=stop)
    assert os.listdir(target.parent) == []


def test_every_file_once_and_no_notes_of_engines(tmp_path: Path) -> None:
    """Guards notes of engines that are read as texts, files twice, and another order on another machine."""
    for name in ("b/1.parquet", "a.parquet", "_sstext.json", ".hidden.csv", "b/_temporary/x.csv", "readme"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    names = [str(file.relative_to(tmp_path)) for file in every_file([tmp_path])]
    assert names == ["a.parquet", "b/1.parquet"]
    assert every_file([tmp_path / "readme"]) == [tmp_path / "readme"], "a file that is named is taken"
    with pytest.raises(UserError, match=r"each file once, found '.*a\.parquet' several times"):
        every_file([tmp_path, tmp_path / "a.parquet"])
    with pytest.raises(UserError, match=r"no such file: .*nope"):
        every_file([tmp_path / "nope"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="expected a folder with files of texts"):
        every_file([tmp_path / "empty"])
