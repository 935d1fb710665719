"""Pseudo-labels as a data set: the rows that the model in `model/` learned from, each once, with its text."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import DatasetCard

from sstext.errors import UserError
from sstext.run.pseudo_label_data import pseudo_label_files


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished_run, tmp_path / "out")
    (tmp_path / "out" / "manifest.jsonl").unlink()  # which would know what is changed here
    return tmp_path / "out"


def rows_of(files: dict[str, bytes]) -> list[dict[str, Any]]:
    return pq.read_table(io.BytesIO(files["train.parquet"])).to_pylist()


def test_every_row_has_the_text_that_was_labeled(run: Path, finished_run: Path) -> None:
    """Guards against labels beside other rows' texts: positions in the corpus are not row numbers of the file."""
    kept = pq.read_table(run / "round_1" / "pseudo_labels.parquet").to_pylist()
    texts = [json.loads(line)["text"] for line in (finished_run.parent / "unlabeled.jsonl").read_text().splitlines()]
    rows = rows_of(pseudo_label_files(run, model="ada/tickets"))
    assert len(rows) == len(kept) > 0
    for row, expected in zip(rows, kept, strict=True):
        assert row.pop("text") == texts[expected["row"]]
        assert row == {name: expected[name] for name in ("label", "confidence", "weight", "round")}


def test_a_row_that_joined_several_times_is_one_row(run: Path) -> None:
    """Guards against a data set that repeats the texts of small classes."""
    file = run / "round_1" / "pseudo_labels.parquet"
    table = pq.read_table(file)
    pq.write_table(table.take([2, 0, 2, 1, 0]), file)
    rows = rows_of(pseudo_label_files(run, model="ada/tickets"))
    assert [row["confidence"] for row in rows] == table["confidence"].take([2, 0, 1]).to_pylist()


def test_with_folds_it_is_what_the_last_student_learned_from(run: Path) -> None:
    """Guards against the rows of a chain, which the model never saw."""
    before = rows_of(pseudo_label_files(run, model="ada/tickets"))
    shutil.move(run / "round_1", run / "all_labels" / "final")
    assert rows_of(pseudo_label_files(run, model="ada/tickets")) == before
    shutil.move(run / "all_labels" / "final", run / "all_labels" / "round_2")  # as version 0.1 called it
    assert rows_of(pseudo_label_files(run, model="ada/tickets")) == before
    shutil.rmtree(run / "all_labels" / "round_2")
    with pytest.raises(UserError, match="learned from no pseudo-labels"):
        pseudo_label_files(run, model="ada/tickets")


def test_what_is_not_there_is_said(run: Path) -> None:
    """Guards against an empty data set, and labels without texts."""
    file, results = run / "round_1" / "pseudo_labels.parquet", json.loads((run / "results.json").read_text())
    table = pq.read_table(file)
    pq.write_table(table.slice(0, 0), file)
    with pytest.raises(UserError, match="no pseudo-label was confident enough"):
        pseudo_label_files(run, model="ada/tickets")
    pq.write_table(table, file)
    for chosen, name in (
        ({"round": 0, "stage": "baseline"}, "baseline"),
        ({"round": 0}, "round 0"),
    ):  # now, version 0.1
        (run / "results.json").write_text(json.dumps(results | {"chosen": chosen}))
        with pytest.raises(UserError, match=f"the model of {name} learned from no pseudo-labels"):
            pseudo_label_files(run, model="ada/tickets")
    (run / "results.json").write_text(json.dumps(results))
    shutil.rmtree(run / "data")
    with pytest.raises(UserError, match=r"the texts of the pseudo-labels \(data/unlabeled.arrow\) were deleted"):
        pseudo_label_files(run, model="ada/tickets")
    with pytest.raises(UserError, match="only the folder of a finished run has pseudo-labels"):
        pseudo_label_files(run / "model", model="ada/tickets")


def test_the_card_says_whose_labels_these_are_and_shows_no_text(run: Path) -> None:
    """Guards people who would evaluate on guesses."""
    files = pseudo_label_files(run, model="ada/tickets")
    text, rows = files["README.md"].decode(), rows_of(files)
    data = DatasetCard(text).data
    assert data.task_categories == ["text-classification"]
    assert data.tags == ["sstext", "pseudo-labels"]
    assert "predictions of a model" in text
    assert len(rows) == 60
    assert "contains all texts of the corpus" in text
    assert "learned from exactly these labels" in text
    assert "ada/tickets" in text
    assert not any(row["text"] in text for row in rows)
    for name in {row["label"] for row in rows}:
        assert f"| {name} | {sum(row['label'] == name for row in rows)} |" in text


def test_the_card_says_that_the_corpus_is_a_part(run: Path) -> None:
    """Guards "no text is missing" where a random part of a corpus was read."""
    counts = run / "data" / "unlabeled.json"
    counts.write_text(json.dumps(json.loads(counts.read_text()) | {"left": 5_000}))
    said = pseudo_label_files(run, model="ada/tickets")["README.md"].decode()
    assert "The corpus is a random part of a larger one, whose other 5,000 texts were not read.\n" in said


def test_the_card_says_what_is_missing(run: Path) -> None:
    """Guards against a whole corpus that claims gaps, gaps that are not told, and one class instead of what was learned."""
    file = run / "round_1" / "pseudo_labels.parquet"
    table = pq.read_table(file)
    target = pa.FixedSizeListArray.from_arrays(pa.array([0.5, 0.3, 0.2] * 57), 3)
    pq.write_table(table.slice(0, 57).append_column("target", target), file)
    files = pseudo_label_files(run, model="ada/tickets")
    text = files["README.md"].decode()
    assert "3 of the 60 texts of the corpus were not used for training" in text
    assert "contains all texts of the corpus" not in text
    assert "learned from the probabilities of all classes. Only the most probable class is published" in text
    assert "exactly these labels" not in text
    assert set(rows_of(files)[0]) == {"text", "label", "confidence", "weight", "round"}
