"""Shards: every row in exactly one, in the order of the input, with its types."""

import datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import texts_of_words

from sstext.data.tables import types_of
from sstext.errors import MachineError, UserError
from sstext.inference.classifier import Classifier as Model
from sstext.inference.files import predict_file
from sstext.inference.shards import predict_shards as predict_local_shards
from sstext.ray import shards as module
from sstext.ray.predicting import _commit_of
from sstext.ray.shards import Shard, ShardScorer, shards_of, tables_of


@pytest.fixture(scope="module")
def classifier(tiny_classifier: Path) -> Model:
    return Model.from_pretrained(tiny_classifier, device="cpu")


@pytest.fixture(scope="module")
def scorer(tiny_classifier: Path) -> ShardScorer:
    return ShardScorer("", "utf-8", model=str(tiny_classifier), device="cpu")


@pytest.mark.parametrize("groups", [1, 7, 20, 100])
@pytest.mark.parametrize("size", [1, 9, 20, 33, 1000])
def test_every_row_is_in_one_shard(groups: int, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of any size over row groups of any size, read in small batches. Guards rows at the edges."""
    monkeypatch.setattr(module, "ROWS_PER_BATCH", 6)
    table = pa.table({"text": [str(number) for number in range(50)], "id": pa.array(range(50), pa.uint8())})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=groups)
    found = shards_of([tmp_path / "a.parquet"], size)
    assert [shard.rows for shard in found] == [min(size, 50 - begin) for begin in range(0, 50, size)]
    read = [pa.concat_tables(tables_of(shard)) for shard in found]
    assert [len(part) for part in read] == [shard.rows for shard in found]
    assert pa.concat_tables(read).equals(table)


#: Half past two in Berlin, which comes a second time an hour later.
TWICE = datetime.datetime(2026, 10, 25, 0, 30, tzinfo=datetime.UTC)
AGAIN = TWICE + datetime.timedelta(hours=1)
TYPES = {
    "large strings": pa.array(["a", None, "", "b"], pa.large_string()),
    "string views": pa.array(["a", None, "", "b"], pa.string_view()),
    "a dictionary": pa.array(["a", None, "b", "a"]).dictionary_encode(),
    "lists": pa.array([["a", None], None, [], ["b"]], pa.large_list(pa.string())),
    "structs": pa.array([{"n": 1, "tags": ["a"]}, None, {"n": None, "tags": []}, {"n": 2, "tags": None}]),
    "lists of structs": pa.array([[{"n": 1}], None, [], [{"n": None}, None]]),
    "maps": pa.array([[("a", 1)], None, [], [("b", None)]], pa.map_(pa.string(), pa.int64())),
    "a time zone": pa.array([TWICE, AGAIN, None, TWICE], pa.timestamp("ms", "Europe/Berlin")),
    "nanoseconds": pa.array([1, None, 1_700_000_000_000_000_001, 3], pa.timestamp("ns", "UTC")),
    "decimals": pa.array([Decimal("1.10"), None, Decimal("-3.00"), Decimal(4)], pa.decimal128(20, 2)),
    "small numbers": pa.array([None, None, None, 4], pa.int8()),
    "large numbers": pa.array([2**64 - 1, None, 0, 1], pa.uint64()),
    "short floats": pa.array([0.1, None, -0.0, float("inf")], pa.float32()),
    "bytes": pa.array([b"\xff\x00", None, b"", b"late"]),
    "bytes of one length": pa.array([b"\xff\x00", None, b"ab", b"cd"], pa.binary(2)),
}


@pytest.mark.parametrize("name", TYPES)
def test_columns_beside_the_text_stay_as_they_are(
    name: str, tiny_classifier: Path, classifier: Model, scorer: ShardScorer, tmp_path: Path
) -> None:
    """With Ray, without it, and in one file. Guards other types, values that pass through Python, and bytes as broken texts."""
    source, scorer.output = tmp_path / "a.parquet", tmp_path
    try:
        pq.write_table(pa.table({"text": texts_of_words(4), "other": TYPES[name]}), source, row_group_size=2)
    except pa.ArrowNotImplementedError:
        pytest.skip("this version of pyarrow does not write such a column")
    scorer._write(*shards_of([source]))
    predict_file(classifier, source, tmp_path / "one.parquet")
    predict_local_shards(classifier, [source], tmp_path / "local", model=str(tiny_classifier))
    for file in (tmp_path / Shard(0, "").name, tmp_path / "one.parquet", tmp_path / "local" / Shard(0, "").name):
        found = pq.read_table(file)
        assert found.column_names == ["text", "other", "predicted_label", "confidence"]
        assert found.schema.field("other").type == pq.read_schema(source).field("other").type, file
        assert found["other"].to_pylist() == TYPES[name].to_pylist(), file


def test_files_with_other_types_become_one_table(tmp_path: Path) -> None:
    """Guards shards that no reader can put together, and the index of pandas, which `sstext predict` leaves out."""
    for part, kind in enumerate((pa.null(), pa.int8(), pa.int16())):
        columns = {"text": ["late"], "n": pa.array([None], kind), "none": pa.nulls(1), "__index_level_0__": [7]}
        pq.write_table(pa.table(columns), tmp_path / f"{part}.parquet")
    files = sorted(tmp_path.glob("*.parquet"))
    types = types_of(files)
    for shard in shards_of(files):
        (table,) = tables_of(shard, types=types)
        assert table.schema == pa.schema({"text": pa.string(), "n": pa.int16(), "none": pa.string()})
        assert table.to_pylist() == [{"text": "late", "n": None, "none": None}]
    pq.write_table(pa.table({"text": ["late"], "n": ["seven"]}), files[2])
    with pytest.raises(UserError, match=r"2\.parquet: expected the types of the files before it.*; drop it"):
        types_of(files, "drop it")


def test_long_texts_make_small_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards an actor whose memory is full. 100 texts of 1,000 bytes, and 10,000 bytes per shard: about ten rows."""
    monkeypatch.setattr(module, "BYTES_PER_SHARD", 10_000)
    table = pa.table({"text": [f"{number:01000}" for number in range(100)]})
    pq.write_table(table, tmp_path / "a.parquet", compression="none", use_dictionary=False)
    assert 9 <= shards_of([tmp_path / "a.parquet"])[0].rows <= 10  # type: ignore[operator]


def test_other_formats_are_one_shard_with_one_type_per_column(tmp_path: Path) -> None:
    """Guards shards of one command that no reader can put together: a column without values is one of strings."""
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "a", "n": 1, "m": null}\n{"text": "b", "n": 2, "m": null}\n', encoding="utf-8")
    (shard,) = shards_of([file])
    (table,) = tables_of(shard)
    assert table.schema.types == [pa.string(), pa.int64(), pa.string()]
    file.write_text('{"text": "a", "n": 1}\n{"text": "b", "n": "x"}\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.jsonl: parquet needs one type per column: column 'n'"):
        list(tables_of(shard))


def test_later_rows_with_other_columns_or_larger_numbers_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards a column that is dropped without a word, because the first batch does not have it, and a traceback."""
    monkeypatch.setattr(module, "ROWS_PER_BATCH", 1)
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "a"}\n{"text": "b", "n": 1}\n')
    (shard,) = shards_of([file])
    with pytest.raises(UserError, match=r"a\.jsonl: expected the same columns in all rows.*; correct the rows"):
        list(tables_of(shard))
    for first in ("1", str(2**70)):
        file.write_text(f'{{"text": "a", "n": {first}}}\n{{"text": "b", "n": {2**70}}}\n')
        with pytest.raises(UserError, match=r"a\.jsonl: parquet needs one type per column: column 'n'"):
            list(tables_of(shard))


def test_what_cannot_be_divided(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(UserError, match=r"a\.parquet: not a readable parquet file"):
        shards_of([tmp_path / "a.parquet"])
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "none.parquet")
    with pytest.raises(UserError, match="expected at least one row, found none"):
        shards_of([tmp_path / "none.parquet"])


def test_a_shard_appears_whole_or_not_at_all(tiny_classifier: Path, tmp_path: Path) -> None:
    """The second batch of a shard fails. Guards half a shard, which a later call would take for a whole one."""
    pq.write_table(pa.table({"text": texts_of_words(9)}), tmp_path / "a.parquet")
    scorer = ShardScorer(str(tmp_path), "utf-8", model=str(tiny_classifier), device="cpu")
    (shard,) = shards_of([tmp_path / "a.parquet"])
    label, calls = scorer.classifier, []

    def failing(table: pa.Table) -> pa.Table:
        calls.append(len(table))
        if len(calls) == 2:
            raise MachineError("memory ran out")
        return label(table)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROWS_PER_BATCH", 5)
        scorer.classifier = failing  # type: ignore[assignment]
        with pytest.raises(UserError, match="memory ran out"):
            scorer._write(shard)
    assert calls == [5, 4]
    assert not list(tmp_path.glob("part-*"))
    assert not list(tmp_path.glob(".part-*.partial"))
    scorer.classifier = label
    assert scorer._write(shard) == 9
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.parquet", Shard(0, "").name]


def test_actors_load_the_commit_that_the_call_has_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards actors with two versions of a model on the Hub, whose branch moves while they start."""
    home = tmp_path / "models--ada--m"
    for folder in (home / "refs", home / "snapshots" / ("1" * 40)):
        folder.mkdir(parents=True)
    (home / "refs" / "main").write_text("1" * 40)
    (home / "snapshots" / ("1" * 40) / "config.json").write_text("{}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert _commit_of("ada/m", None) == _commit_of("ada/m", "main") == "1" * 40
    assert _commit_of(str(tmp_path), None) is None
    with pytest.raises(UserError, match="cannot load 'ada/m'"):
        _commit_of("ada/m", "other")
