"""Predictions for large inputs, in a folder of shards."""

import datetime
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sstext.data.standard_input import Spooled
from sstext.errors import UserError
from sstext.inference import shards
from sstext.inference.classifier import Classifier
from sstext.inference.files import predict_file
from sstext.inference.shard_folder import JOB
from sstext.inference.shards import predict_shards


@pytest.fixture(scope="module")
def model(finished_run: Path) -> Path:
    return finished_run / "model"


@pytest.fixture
def classifier(model: Path) -> Classifier:
    return Classifier.from_pretrained(model, device="cpu")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """30 texts in three files."""
    made = []
    for part in range(3):
        made.append(tmp_path / f"in-{part}.jsonl")
        rows = [{"id": 10 * part + number, "text": f"money {'back ' * number}{part}"} for number in range(10)]
        made[-1].write_text("".join(json.dumps(row) + "\n" for row in rows))
    return made


def _rows(folder: Path) -> list[dict[str, Any]]:
    return [row for file in sorted(folder.glob("part-*")) for row in pq.read_table(file).to_pylist()]


def test_shards_are_the_rows_of_one_file_in_order(
    classifier: Classifier, model: Path, files: list[Path], tmp_path: Path
) -> None:
    """Guards order, labels and the size of the shards, which do not end where files end."""
    assert predict_shards(classifier, files, tmp_path / "out", model=str(model), rows_per_shard=8) == 30
    sizes = [pq.read_metadata(file).num_rows for file in sorted((tmp_path / "out").glob("part-*"))]
    assert sizes == [8, 8, 8, 6]
    whole = tmp_path / "whole.jsonl"
    whole.write_text("".join(file.read_text() for file in files))
    predict_file(classifier, whole, tmp_path / "one.parquet")
    one, found = pq.read_table(tmp_path / "one.parquet").to_pylist(), _rows(tmp_path / "out")
    assert [(row["id"], row["predicted_label"]) for row in found] == [
        (row["id"], row["predicted_label"]) for row in one
    ]
    np.testing.assert_allclose([row["confidence"] for row in found], [row["confidence"] for row in one], atol=1e-6)


def test_a_killed_call_goes_on_without_labeling_a_shard_again(
    classifier: Classifier, model: Path, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards hours of scoring: finished shards stay as they are, and what is begun leaves nothing."""
    labeled: list[int] = []
    own = Classifier.predict_proba

    def counted(self: Classifier, texts: Any, *rest: Any) -> Any:
        if sum(labeled) >= 16:
            raise KeyboardInterrupt
        labeled.append(len(texts))
        return own(self, texts, *rest)

    monkeypatch.setattr(Classifier, "predict_proba", counted)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        predict_shards(classifier, files, out, model=str(model), rows_per_shard=8)
    assert sorted(file.name for file in out.iterdir()) == [JOB, "part-00000000.parquet", "part-00000001.parquet"]
    before = [(out / name).stat().st_mtime_ns for name in ("part-00000000.parquet", "part-00000001.parquet")]
    labeled.clear()
    assert predict_shards(classifier, files, out, model=str(model), rows_per_shard=8) == 30
    assert sum(labeled) == 14
    assert [(out / name).stat().st_mtime_ns for name in ("part-00000000.parquet", "part-00000001.parquet")] == before
    assert [row["id"] for row in _rows(out)] == list(range(30))


def test_a_folder_has_predictions_of_one_job(
    classifier: Classifier, model: Path, files: list[Path], tmp_path: Path
) -> None:
    """Guards against a folder with shards of two models, two inputs or two sizes, which would miss or repeat rows."""
    out = tmp_path / "out"
    predict_shards(classifier, files, out, model=str(model), rows_per_shard=8)
    with pytest.raises(UserError, match="has predictions with other options"):
        predict_shards(classifier, files, out, model=str(model), rows_per_shard=9)
    with pytest.raises(UserError, match="has predictions with other files"):
        predict_shards(classifier, files[:2], out, model=str(model), rows_per_shard=8)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"expected an empty folder.*notes\.txt"):
        predict_shards(classifier, files, tmp_path / "mine", model=str(model))


def test_a_refused_input_leaves_the_folder_to_the_next_call(
    classifier: Classifier, model: Path, files: list[Path], tmp_path: Path
) -> None:
    """Guards a wrong column: the corrected command must not be refused as another job."""
    with pytest.raises(UserError, match="body"):
        predict_shards(classifier, files, tmp_path / "out", model=str(model), text_column="body")
    assert predict_shards(classifier, files, tmp_path / "out", model=str(model), text_column="text") == 30


def test_standard_input_is_labeled_in_shards(classifier: Classifier, model: Path, tmp_path: Path) -> None:
    """Guards a pipe into a folder, in another format."""
    raw = b"".join(json.dumps({"text": f"late {number}"}).encode() + b"\n" for number in range(5))
    found = predict_shards(
        classifier,
        Spooled(io.BytesIO(raw)),
        tmp_path / "out",
        model=str(model),
        rows_per_shard=3,
        output_format="jsonl",
    )
    lines = [line for file in sorted((tmp_path / "out").glob("part-*.jsonl")) for line in file.read_text().splitlines()]
    assert found == 5 == len(lines)
    assert json.loads(lines[4])["text"] == "late 4"


def test_shards_of_parquet_keep_the_types_of_the_input(classifier: Classifier, model: Path, tmp_path: Path) -> None:
    """Guards int32 and dates that become something else, and a column that is empty in a shard."""
    days = [datetime.date(2024, 1, 2), None, None, datetime.date(2024, 1, 3)]
    for part, kind in enumerate((pa.int16(), pa.int32())):
        columns = {"text": pa.array(["a", "b", "c", "d"], pa.large_string()), "n": pa.array([None, None, 7, 8], kind),
                   "day": pa.array(days, pa.date32()), "raw": pa.array([b"x", b"\xff"] * 2), "none": pa.nulls(4)}  # fmt: skip
        pq.write_table(pa.table(columns), tmp_path / f"{part}.parquet")
    files, out = sorted(tmp_path.glob("*.parquet")), tmp_path / "out"
    assert predict_shards(classifier, files, out, model=str(model), rows_per_shard=2) == 8
    one = pa.concat_tables(pq.read_table(file) for file in sorted(out.glob("part-*")))
    types = [pa.large_string(), pa.int32(), pa.date32(), pa.binary(), pa.string(), pa.string(), pa.float64()]
    assert one.schema.types == types
    assert one["n"].to_pylist() == [None, None, 7, 8] * 2
    assert one["day"].to_pylist() == days * 2
    assert one["raw"].to_pylist() == [b"x", b"\xff"] * 4
    pq.write_table(pa.table({"text": ["a"], "n": ["seven"]}), files[1])
    with pytest.raises(UserError, match=r"1\.parquet: expected the types of the files before it.* n .*int16 vs string"):
        predict_shards(classifier, files, tmp_path / "other", model=str(model))


def test_the_first_shard_decides_the_types_also_of_a_call_that_goes_on(
    classifier: Classifier, model: Path, tmp_path: Path
) -> None:
    """Guards a folder that no reader can put together: `n` has no values in the first shard, then texts, then a number."""
    file, out = tmp_path / "a.jsonl", tmp_path / "out"

    def write(*values: Any) -> None:
        file.write_text("".join(json.dumps({"text": "late", "n": value}) + "\n" for value in values))

    write(None, "x", None)
    assert predict_shards(classifier, [file], out, model=str(model), rows_per_shard=1) == 3
    (out / "part-00000001.parquet").unlink()
    assert predict_shards(classifier, [file], out, model=str(model), rows_per_shard=1) == 3
    assert {pq.read_schema(part).field("n").type for part in out.glob("part-*")} == {pa.string()}
    write(None, 7)
    for _ in range(2):  # the second call knows the type only from the shard that is there
        with pytest.raises(UserError, match="column 'n', and string is that of the first rows"):
            predict_shards(classifier, [file], tmp_path / "numbers", model=str(model), rows_per_shard=1)
    assert [part.name for part in (tmp_path / "numbers").glob("part-*")] == ["part-00000000.parquet"]


def test_shards_of_one_folder_have_the_same_columns(
    classifier: Classifier, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards a column that begins in a later shard: readers of the folder leave it out without a word."""
    monkeypatch.setattr(shards, "ROWS_AT_ONCE", 1)
    (tmp_path / "a.jsonl").write_text('{"text": "late"}\n{"text": "late", "n": 7}\n')
    for _ in range(2):
        with pytest.raises(UserError, match=r"a\.jsonl: expected the same columns in all rows"):
            predict_shards(classifier, [tmp_path / "a.jsonl"], tmp_path / "out", model=str(model), rows_per_shard=1)


def test_a_folder_has_predictions_of_one_commit(model: Path, files: list[Path], tmp_path: Path) -> None:
    """Guards a mixture of two versions of a model on the Hub, if its branch moves between two calls."""
    home, commits = tmp_path / "hub" / "models--ada--m", ["1" * 40, "2" * 40]
    for commit in commits:
        shutil.copytree(model, home / "snapshots" / commit)
    (home / "refs").mkdir()

    def call() -> int:
        loaded = Classifier.from_pretrained("ada/m", cache_dir=tmp_path / "hub", local_files_only=True, device="cpu")
        return predict_shards(loaded, files, tmp_path / "out", model="ada/m")

    (home / "refs" / "main").write_text(commits[0])
    assert call() == call() == 30
    assert json.loads((tmp_path / "out" / JOB).read_text())["model"] == {"name": "ada/m", "weights": [commits[0]]}
    (home / "refs" / "main").write_text(commits[1])
    with pytest.raises(UserError, match="has predictions with other model"):
        call()


def test_cells_are_read_as_texts_in_one_way(classifier: Classifier, model: Path, tmp_path: Path) -> None:
    """Guards a missing number that is read as the word `nan`, and a list that is read as a text."""
    pq.write_table(pa.table({"text": [float("nan"), None, 5.0]}), tmp_path / "a.parquet")
    predict_shards(classifier, [tmp_path / "a.parquet"], tmp_path / "out", model=str(model))
    predict_file(classifier, tmp_path / "a.parquet", tmp_path / "one.parquet")
    empty, number = classifier.predict_proba(["", "5.0"]).max(-1)
    for found in (_rows(tmp_path / "out"), pq.read_table(tmp_path / "one.parquet").to_pylist()):
        np.testing.assert_allclose([row["confidence"] for row in found], [empty, empty, number], atol=1e-6)
    lists = tmp_path / "lists.jsonl"
    lists.write_text('{"text": "late"}\n{"text": ["late"]}\n')
    for call in (
        lambda: predict_file(classifier, lists, tmp_path / "none.csv"),
        lambda: predict_shards(classifier, [lists], tmp_path / "none", model=str(model)),
    ):
        with pytest.raises(UserError, match=r"lists\.jsonl: line 2: expected a text, found list"):
            call()
