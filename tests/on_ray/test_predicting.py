"""Files that actors label: the rows and figures of `sstext predict`, shards whole or not at all, nothing lost by a kill."""

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import texts_of_words

from sstext.cli import main as cli
from sstext.errors import UserError
from sstext.inference.classifier import Classifier
from sstext.inference.files import predict_file
from sstext.ray import predict_shards, predicting
from sstext.ray.shards import ShardScorer

pytest.importorskip("ray", reason="ray is not installed; pip install 'sstext[ray]'")
pytestmark = pytest.mark.slow  # every actor imports torch


COLUMNS = ("text", "predicted_label", "confidence")


def close(expected: list[tuple]) -> list[tuple]:
    """Rows whose confidence may differ in the last digits: shards that are smaller than a batch are padded differently."""
    return [(text, label, pytest.approx(confidence, abs=1e-6)) for text, label, confidence in expected]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two parquet files of 70 rows, in row groups of 20, and a jsonl of 10."""
    folder = tmp_path_factory.mktemp("corpus")
    texts = texts_of_words(150)
    for number in range(2):
        table = pa.table({"id": pa.array(range(70), pa.int16()), "text": texts[70 * number :][:70]})
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=20)
    (folder / "9.jsonl").write_text("".join(f'{{"text": "{text}"}}\n' for text in texts[140:]), encoding="utf-8")
    return folder


def labels(folder: Path) -> list[tuple]:
    tables = [pq.read_table(file) for file in sorted(folder.glob("part-*.parquet"))]
    return [row for table in tables for row in zip(*(table[name].to_pylist() for name in COLUMNS), strict=True)]


@pytest.fixture(scope="module")
def expected(tiny_classifier: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple]:
    """The rows of `sstext predict`, file by file."""
    classifier, found = Classifier.from_pretrained(tiny_classifier), list[tuple]()
    for file in sorted(corpus.iterdir()):
        target = tmp_path_factory.mktemp("expected") / "out.parquet"
        predict_file(classifier, file, target)
        table = pq.read_table(target)
        found += zip(*(table[name].to_pylist() for name in COLUMNS), strict=True)
    return found


def test_the_command_labels_as_without_ray(
    local_ray: Any, tiny_classifier: Path, corpus: Path, expected: list[tuple], tmp_path: Path
) -> None:
    """Guards other labels or confidences, lost rows, and types of columns that change."""
    out = tmp_path / "scored"
    assert cli.main(["predict", str(tiny_classifier), str(corpus), "-o", str(out), "--engine", "ray", "--quiet"]) == 0
    assert [file.name for file in sorted(out.iterdir())] == [
        "_sstext.json", "part-00000000.parquet", "part-00000001.parquet", "part-00000002.parquet",
    ]  # fmt: skip
    assert labels(out) == expected
    table = pq.read_table(out / "part-00000000.parquet")
    assert table.schema.field("id").type == pa.int16()
    assert table["id"].to_pylist() == list(range(70))


def test_shards_have_the_types_of_those_without_ray(local_ray: Any, tiny_classifier: Path, tmp_path: Path) -> None:
    """Two files whose numbers have other types. Guards actors that do not know the types of all files."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for part, kind in enumerate((pa.null(), pa.int8())):
        columns = {"text": pa.array(["late", "money"], pa.large_string()), "n": pa.array([None, None], kind)}
        pq.write_table(pa.table(columns), corpus / f"{part}.parquet")
    tables = []
    for engine in ("local", "ray"):
        out = tmp_path / engine
        command = ["predict", str(tiny_classifier), str(corpus), "-o", str(out), "--engine", engine, "--quiet"]
        assert cli.main(command) == 0
        tables.append(pa.concat_tables(pq.read_table(file) for file in sorted(out.glob("part-*.parquet"))))
    assert tables[0].schema.types == [pa.large_string(), pa.int8(), pa.string(), pa.float64()]
    assert tables[1].schema == tables[0].schema
    assert tables[1].drop_columns("confidence").to_pydict() == tables[0].drop_columns("confidence").to_pydict()


class Doomed(ShardScorer):
    """Ends its process in the middle of a shard, once: when a part of its file is on disk."""

    def _write(self, shard: Any) -> int:
        if shard.number == 1 and not (marker := self.output.parent / "died").exists():
            marker.touch()
            (self.output / f".{shard.name}.1.partial").write_bytes(b"PAR1")
            os._exit(1)
        return super()._write(shard)


def test_a_killed_actor_loses_nothing(
    local_ray: Any,
    tiny_classifier: Path,
    corpus: Path,
    expected: list[tuple],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ray starts another actor, which labels the shard again. Guards lost or doubled rows, and files that are left."""
    monkeypatch.setattr(predicting, "ShardScorer", Doomed)
    out = tmp_path / "scored"
    assert predict_shards(str(tiny_classifier), [corpus], out, rows_per_shard=50) == 150
    assert (tmp_path / "died").exists()
    assert labels(out) == close(expected)
    assert len(list(out.iterdir())) == 1 + 5, "the job, and the shards of 50, 20, 50, 20 and 10 rows"


class Deadly(ShardScorer):
    """Ends its process in each shard."""

    attempts = 2

    def _write(self, shard: Any) -> int:
        self._count_attempt(shard)
        os._exit(1)


def test_a_shard_that_kills_every_actor_ends_the_job(
    local_ray: Any, tiny_classifier: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray tries again for ever. Guards a job that does so, and what is left of the attempts."""
    monkeypatch.setattr(predicting, "ShardScorer", Deadly)
    out = tmp_path / "scored"
    with pytest.raises(UserError, match=r"9\.jsonl: 2 processes ended while they labeled this, possibly"):
        predict_shards(str(tiny_classifier), [corpus / "9.jsonl"], out)
    assert [file.name for file in out.iterdir()] == ["_sstext.json"]


def test_what_is_there_is_not_labeled_again(
    local_ray: Any, tiny_classifier: Path, corpus: Path, expected: list[tuple], tmp_path: Path
) -> None:
    """As after a kill of the program. Guards finished shards that are written again, and missing ones that stay so."""
    out = tmp_path / "scored"
    arguments: dict[str, Any] = {"model": str(tiny_classifier), "inputs": [corpus], "output": out, "rows_per_shard": 50}
    predict_shards(**arguments)
    before = {file.name: file.stat().st_mtime_ns for file in out.glob("part-*")}
    (out / "part-00000003.parquet").unlink()
    (out / ".part-00000003.parquet.77.partial").write_bytes(b"half")
    assert predict_shards(**arguments) == 150
    after = {file.name: file.stat().st_mtime_ns for file in out.glob("part-*")}
    assert {name for name in after if after[name] != before[name]} == {"part-00000003.parquet"}
    assert labels(out) == close(expected)
    assert not list(out.glob(".part-*"))
    with pytest.raises(UserError, match="predictions with other options"):
        predict_shards(**arguments, probabilities=True)


def test_what_an_actor_raises_arrives_and_leaves_no_shard(
    local_ray: Any, tiny_classifier: Path, corpus: Path, tmp_path: Path
) -> None:
    """Guards pages of Ray's own words. The corrected command may use the same folder."""
    out = tmp_path / "scored"
    with pytest.raises(UserError, match=r"^\S+\.parquet: no column 'nope'; found 'id', 'text'; [^\n]*$"):
        predict_shards(str(tiny_classifier), [corpus / "0.parquet"], out, text_column="nope")
    with pytest.raises(UserError, match="target precision: this model has no estimate"):
        predict_shards(str(tiny_classifier), [corpus / "0.parquet"], out, target_precision=0.9)
    assert not list(out.glob("*part-*"))
    assert predict_shards(str(tiny_classifier), [corpus / "0.parquet"], out) == 70


def test_the_callable_in_a_pipeline_of_ones_own(
    local_ray: Any, tiny_classifier: Path, corpus: Path, expected: list[tuple]
) -> None:
    """`map_batches(sstext.ray.Classifier)`, as the guide shows it."""
    import ray.data

    import sstext.ray

    pool = sstext.ray.pool_for(local_ray.cluster_resources(), batch_size=32)
    rows = ray.data.read_parquet(str(corpus / "0.parquet")).map_batches(
        sstext.ray.Classifier, fn_constructor_args=[str(tiny_classifier)], **pool.arguments()
    )
    found = {row["id"]: (row["predicted_label"], row["confidence"]) for row in rows.take_all()}
    assert [found[number][0] for number in range(70)] == [label for _, label, _ in expected[:70]]
    assert [found[number][1] for number in range(70)] == pytest.approx([share for *_, share in expected[:70]], abs=1e-6)
