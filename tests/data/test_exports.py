"""Exports of annotation tools: the label that a person gave is read, what a person rejected is not."""

import json
from pathlib import Path
from typing import Any

import pytest

from sstext.data.exports.known import recognized
from sstext.data.loading import Labeled, load_labeled
from sstext.data.parsers import Rows
from sstext.errors import UserError

LATE, TWICE = "My parcel is late.", "I was charged twice."


def loaded(tmp_path: Path, records: list[dict[str, Any]], **options: Any) -> Labeled:
    """The rows of a jsonl file."""
    file = tmp_path / "export.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return load_labeled(str(file), **options)


def pairs(read: Labeled) -> list[tuple[str, str]]:
    """Texts and the names of their classes."""
    names = [read.classes[number] for number in read.texts["label"][:]]
    return list(zip(read.texts["text"][:], names, strict=True))


def task(text: str, *choices: list[str], cancelled: bool = False, **data: Any) -> dict[str, Any]:
    """A task of Label Studio with one annotation for each list of choices."""
    annotations = [
        {
            "completed_by": number, "was_cancelled": cancelled,
            "result": [{"from_name": "topic", "type": "choices", "value": {"choices": chosen}}] if chosen else [],
        }
        for number, chosen in enumerate(choices, 1)
    ]  # fmt: skip
    return {"id": 1, "data": {"text": text, **data}, "annotations": annotations, "predictions": []}


def test_label_studio_has_its_texts_and_labels_deep_inside(tmp_path: Path) -> None:
    """Guards skipped tasks that become rows, people who disagree, and tasks without an annotation."""
    read = loaded(tmp_path, [
        task(LATE, ["delivery"]), task(TWICE, ["refund"], ["refund"]), task("both", ["refund"], ["delivery"]),
        task("not yet"), task("skipped", [], cancelled=True),
    ])  # fmt: skip
    assert pairs(read) == [(LATE, "delivery"), (TWICE, "refund"), ("both", "refund"), ("both", "delivery")]
    assert read.without_label is not None
    assert read.without_label.columns["text"] == ["not yet"]
    assert any(note.endswith("is an export of Label Studio; 1 row is left out (1 skipped)") for note in read.notes)
    with pytest.raises(UserError, match=r"line 2: expected one label per row, found 2 \('refund', 'urgent'\)"):
        loaded(tmp_path, [task(LATE, ["delivery"]), task(TWICE, ["refund", "urgent"])])


def test_label_studio_csv_has_choices_in_its_cells(tmp_path: Path) -> None:
    """Guards a cell of JSON that becomes the name of a class."""
    file = tmp_path / "export.csv"
    rows = ["1,1,delivery,late", '2,1,"{""choices"": [""refund""]}",twice']
    file.write_text("id,annotator,mood,text\n" + "\n".join(rows) + "\n", encoding="utf-8")
    assert pairs(load_labeled(str(file))) == [("late", "delivery"), ("twice", "refund")]
    file.write_text(file.read_text().replace('""refund""', '""refund"", ""urgent""'), encoding="utf-8")
    with pytest.raises(UserError, match=r"export.csv: line 3: expected one label per row, found 2"):
        load_labeled(str(file))


def test_prodigy_says_which_labels_are_wrong(tmp_path: Path) -> None:
    """Guards rejected annotations that are trained on as if they were right."""
    rows = [
        {"text": "a", "label": "x", "answer": "accept"}, {"text": "b", "label": "x", "answer": "reject"},
        {"text": "c", "label": "y", "answer": "accept"}, {"text": "d", "label": "y", "answer": "ignore"},
    ]  # fmt: skip
    read = loaded(tmp_path, rows)
    assert pairs(read) == [("a", "x"), ("c", "y")]
    assert any("export of Prodigy; 2 rows are left out (1 rejected, 1 ignored)" in note for note in read.notes)
    chosen = [{"text": "a", "accept": ["x"], "answer": "accept"}, {"text": "b", "accept": ["y"], "answer": "accept"}]
    assert pairs(loaded(tmp_path, [*chosen, {"text": "c", "accept": [], "answer": "accept"}])) == [
        ("a", "x"),
        ("b", "y"),
    ]
    with pytest.raises(UserError, match=r"line 1: .*found 2 \('x', 'y'\)"):
        loaded(tmp_path, [{"text": "a", "accept": ["x", "y"], "answer": "accept"}, *chosen])


def test_doccano_writes_lists_and_joins_them_in_csv(tmp_path: Path) -> None:
    """Guards lists as class names, and names with a # that are no joined labels."""
    rows = [
        {"id": 1, "text": "a", "label": ["x"]},
        {"id": 2, "text": "b", "label": []},
        {"id": 3, "text": "c", "label": ["y"]},
    ]
    read = loaded(tmp_path, rows)
    assert pairs(read) == [("a", "x"), ("c", "y")]
    assert read.without_label is not None
    assert read.without_label.columns == {"text": ["b"], "row": [1]}
    file = tmp_path / "doccano.csv"
    file.write_text("id,text,label\n1,a,C#\n2,b,F#\n3,c,C#\n", encoding="utf-8")
    assert load_labeled(str(file)).classes == ["C#", "F#"]
    file.write_text("id,text,label\n1,a,x\n2,b,y#x\n3,c,y\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"line 3: expected one label per row, found 2 \('y', 'x'\)"):
        load_labeled(str(file))


ARGILLA: dict[str, list[dict[str, Any]]] = {
    "records": [
        {"fields": {"text": "a"}, "responses": {"label": [{"value": "x", "status": "submitted"}]}, "status": "completed"},
        {"fields": {"text": "b"}, "responses": {"label": [{"value": "y", "status": "submitted"}]}, "status": "completed"},
        {"fields": {"text": "c"}, "responses": {"label": [{"value": "y", "status": "discarded"}]}, "status": "completed"},
        {"fields": {"text": "d"}, "responses": {"label": [{"value": "y", "status": "draft"}]}, "status": "pending"},
        {"fields": {"text": "e"}, "responses": {}, "suggestions": {"label": {"value": "x"}}, "status": "pending"},
    ],
    "flat": [
        {"text": "a", "label.responses": ["x"], "label.responses.status": ["submitted"], "label.suggestion": "y"},
        {"text": "b", "label.responses": ["y"], "label.responses.status": ["submitted"], "label.suggestion": "y"},
        {"text": "c", "label.responses": ["y"], "label.responses.status": ["discarded"], "label.suggestion": "y"},
        {"text": "d", "label.responses": ["y"], "label.responses.status": ["draft"], "label.suggestion": "y"},
        {"text": "e", "label.responses": None, "label.responses.status": None, "label.suggestion": "y"},
    ],
    "feedback": [
        {"text": "a", "label": [{"value": "x", "status": "submitted"}], "label-suggestion": "y"},
        {"text": "b", "label": [{"value": "y", "status": "submitted"}], "label-suggestion": "y"},
        {"text": "c", "label": [{"value": "y", "status": "discarded"}], "label-suggestion": "y"},
        {"text": "d", "label": [{"value": "y", "status": "draft"}], "label-suggestion": "y"},
        {"text": "e", "label": [], "label-suggestion": "y"},
    ],
    "first version": [
        {"text": "a", "annotation": "x", "annotation_agent": "ada", "status": "Validated"},
        {"text": "b", "annotation": "y", "annotation_agent": "ada", "status": "Validated"},
        {"text": "c", "annotation": "y", "annotation_agent": "ada", "status": "Discarded"},
        {"text": None, "inputs": {"text": "d"}, "annotation": None, "annotation_agent": None, "status": "Default"},
        {"text": None, "inputs": {"text": "e"}, "annotation": None, "annotation_agent": None, "status": "Default"},
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", ARGILLA)
def test_argilla_counts_submitted_answers_alone(kind: str, tmp_path: Path) -> None:
    """Guards suggestions of a model, drafts and discarded answers that become labels."""
    read = loaded(tmp_path, ARGILLA[kind])
    assert pairs(read) == [("a", "x"), ("b", "y")]
    assert read.without_label is not None
    assert read.without_label.columns["text"] == ["d", "e"]
    assert any("export of Argilla; 1 row is left out (1 discarded)" in note for note in read.notes)


def test_cleanlab_corrects_labels_and_flags_others(tmp_path: Path) -> None:
    """Guards labels that were found wrong, and the label column among several."""
    read = loaded(tmp_path, [
        {"text": "a", "given_label": "x", "is_label_issue": False, "predicted_label": "y", "corrected_label": None},
        {"text": "b", "given_label": "x", "is_label_issue": True, "predicted_label": "y", "corrected_label": "y"},
        {"text": "c", "given_label": "x", "is_label_issue": True, "predicted_label": "y", "corrected_label": None},
    ])  # fmt: skip
    assert pairs(read) == [("a", "x"), ("b", "y")]
    assert any("1 row is left out (1 flagged as label issues and not corrected)" in note for note in read.notes)


@pytest.mark.parametrize(
    "columns",
    [
        {"text": ["a"], "label": ["x"]},
        {"id": [1], "text": ["a"], "label": ["C#"]},
        {"question": ["a"], "answer": ["yes, reject it"], "label": ["x"]},
        {"text": ["a"], "label": ["x"], "created_at": ["2020"], "updated_at": ["2021"], "status": ["Validated"]},
        {"fields": ["sports"], "text": ["a"], "label": ["x"]},
        {"data": ["a"], "label": ["x"], "annotations": ["none"]},
    ],
)
def test_plain_tables_are_no_exports(columns: dict[str, list]) -> None:
    """Guards a reader that is too eager: it would drop or rename columns of ordinary files."""
    assert recognized(Rows(columns, [1])) is None
