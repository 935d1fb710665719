"""Every row of every source is accounted for: kept, or not and why. And labels that users gave are never changed."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from sstext.data.corpus import load_unlabeled
from sstext.data.loading import load_labeled
from sstext.data.preparing import read_texts
from sstext.progress import SILENT
from sstext.storage.manifest import Manifest

#: 9 rows: 5 labeled, 2 without a label, 2 without a text.
LABELED = [
    ("late parcel", "Späti "),
    ("", "b"),
    ("no label", ""),
    ("money", "b"),
    ("  ", ""),
    ("x", "b"),
    ("y", "Späti"),
    ("n", ""),
    ("z", "b"),
]
CORPUS = ["one", "", "two", "three", " ", "four", "five"]


def sums_up(rows: dict[str, int]) -> bool:
    return rows["rows"] == sum(count for name, count in rows.items() if name != "rows")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    with (tmp_path / "labeled.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *LABELED])
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in CORPUS))
    return tmp_path


def test_each_reason_is_counted_and_the_sums_are_those_of_the_files(files: Path) -> None:
    """Guards against rows that vanish: what was not kept has a reason, also what was drawn out at random."""
    labeled = load_labeled(files / "labeled.csv")
    assert labeled.rows == {"rows": 9, "kept": 5, "without text": 2, "without label": 2}
    corpus = load_unlabeled(
        files / "corpus.jsonl", arrow_file=files / "a.arrow", at_most=4, besides=labeled.without_label
    )
    assert corpus.rows == {"rows": 7 + 2, "kept": 4, "without text": 2, "left out at random": 3}
    assert len(corpus.texts) == 4
    held_out = load_labeled(_write(files / "t.csv", [r for r in LABELED if r[1]]), what="test", classes=labeled.classes)
    assert held_out.rows == {"rows": 6, "kept": 5, "without text": 1}
    assert all(map(sums_up, (labeled.rows, corpus.rows, held_out.rows)))


def test_a_part_of_a_corpus_is_one_file_of_the_manifest(files: Path) -> None:
    """Guards a folder that `sstext verify` calls damaged, because the file that the part was drawn from is missing."""
    manifest = Manifest(files)
    manifest.create()
    load_unlabeled(files / "corpus.jsonl", arrow_file=files / "a.arrow", at_most=4)
    assert list(manifest.entries()) == ["a.arrow"]


def test_rows_of_a_sample_are_accounted_for(files: Path, tiny_run: Any, tiny_files: Any) -> None:
    """Guards the rows that a sample draws, and those that it does not."""
    config = tiny_run(files / "out", unlabeled=None, sample={"labels_per_class": 1, "unlabeled": 4, "test": 9})
    named = {"labeled": str(tiny_files.labeled), "test": str(tiny_files.test)}
    texts = read_texts(config, named, files / "b.arrow", SILENT)
    told = texts.accounted()
    assert told["labeled"] == {"rows": 12, "kept": 3, "drawn as unlabeled rows": 4, "not drawn": 5}
    assert told["test"] == {"rows": 30, "kept": 9, "not drawn": 21}
    assert told["unlabeled"]["kept"] == 4
    assert all(map(sums_up, told.values()))
    again = read_texts(config, named, files / "b.arrow", SILENT)  # as a continued run does
    assert again.accounted() == told


def test_a_run_keeps_the_account_in_data_json(finished_run: Path) -> None:
    """Guards what people look for after a run."""
    told = json.loads((finished_run / "data.json").read_text())
    kept = {name: rows["kept"] for name, rows in told["rows"].items()}
    assert kept == {"labeled": 12, "unlabeled": 60, "test": 30}
    assert all(map(sums_up, told["rows"].values()))
    assert {"labeled", "unlabeled", "test"} <= told["fingerprints"].keys()


def test_labels_of_users_are_never_changed(finished_run: Path, files: Path) -> None:
    """Guards given labels: blanks around them do not count, and everything else is kept to the letter."""
    labeled = load_labeled(files / "labeled.csv")
    names = [labeled.classes[label] for label in labeled.texts["label"]]
    assert names == [label.strip() for text, label in LABELED if text.strip() and label]
    with (finished_run.parent / "test.csv").open(newline="") as file:
        given = {row["text"]: row["label"] for row in csv.DictReader(file)}
    classes = json.loads((finished_run / "results.json").read_text())["classes"]
    for file in (finished_run / "predictions").glob("test*.parquet"):
        rows = pq.read_table(file).to_pylist()
        assert len(rows) == 30
        for row in rows:
            shown = row["label"] if isinstance(row["label"], str) else classes[row["label"]]
            assert shown == given[row["text"]]
    taught = {row["text"] for row in csv.DictReader((finished_run.parent / "labeled.csv").open(newline=""))}
    pseudo = pq.read_table(finished_run / "round_1" / "pseudo_labels.parquet").to_pylist()
    corpus = [json.loads(line)["text"] for line in (finished_run.parent / "unlabeled.jsonl").read_text().splitlines()]
    positions = [row.get("row", row.get("position")) for row in pseudo]
    assert all(corpus[place] not in taught for place in positions if isinstance(place, int)), (
        "a given label was overwritten"
    )


def _write(path: Path, rows: list[tuple[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return path
