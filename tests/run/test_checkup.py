"""The quick check of the data before a training."""

import json
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, Features, Value
from notes import Notes

from sstext.data.corpus import Unlabeled
from sstext.data.loading import Labeled
from sstext.data.preparing import Texts
from sstext.run import checkup
from sstext.run.checkup import check_texts

CLASSES = ["delivery", "refund"]


def labeled(*rows: tuple[str, int]) -> Labeled:
    features = Features({"text": Value("string"), "label": ClassLabel(names=CLASSES)})
    columns = {"text": [text for text, _ in rows], "label": [label for _, label in rows]}
    return Labeled(Dataset.from_dict(columns, features=features), CLASSES, [])


def corpus(*texts: str) -> Unlabeled:
    rows = Dataset.from_dict({"text": list(texts), "row": list(range(len(texts)))})
    return Unlabeled(rows, len(texts), [])


ROWS = labeled(("my parcel is late", 0), ("i was charged twice", 1), ("my parcel is late", 1))


def test_leaks_contradictions_and_classes_are_found_and_said_in_a_line(tmp_path: Path) -> None:
    """Guards a leak that the report does not show, and a class that is counted under another name."""
    notes, file = Notes(), tmp_path / "check.json"
    texts = Texts(ROWS, CLASSES, corpus("where is it", "refund me"), test=labeled(("i was charged twice", 1)))
    check_texts(texts, file, reporter=notes)
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["classes"] == {"labeled": {"delivery": 1, "refund": 2}, "test": {"delivery": 0, "refund": 1}}
    assert found["rows"]["unlabeled"] == {"all": 2, "checked": 2}
    kinds = {(one["kind"], one["where"]) for one in found["findings"]}
    assert {("leak", "test"), ("contradiction", "labeled")} <= kinds
    leak = next(one for one in found["findings"] if one["kind"] == "leak")
    assert [place["file"] for place in leak["examples"][0]] == ["test", "labeled"]
    assert notes.said == [], "all of it is named when the data are read"


def test_a_large_corpus_is_checked_in_part_and_descriptions_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards a check that takes longer than a training, and descriptions that are called labeled texts."""
    monkeypatch.setattr(checkup, "CHECKED", 3)
    file = tmp_path / "check.json"
    check_texts(Texts(ROWS, CLASSES, corpus(*map(str, range(9))), zero_shot=True), file)
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["rows"] == {"unlabeled": {"all": 9, "checked": 3}}
    assert found["classes"] == {}
    assert check_texts(Texts(ROWS, CLASSES, zero_shot=True), tmp_path / "none.json") == []
    assert not (tmp_path / "none.json").exists()


def test_only_what_was_not_named_before_is_said(tmp_path: Path) -> None:
    """Guards a line that repeats others, and one that promises a report which a run without one does not have."""
    notes = Notes()
    check_texts(Texts(ROWS, CLASSES, corpus("where is it", "where is it", "refund me")), tmp_path / "a", reporter=notes)
    (note,) = notes.said
    assert note.startswith("check: 1 more finding in the data (duplicate); `sstext report` shows them, and ")
