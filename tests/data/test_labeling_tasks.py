"""Files that labeling tools read."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sstext.data.formats import read_rows
from sstext.data.label_file import LabelFile
from sstext.data.labeling_tasks import TOOLS, LabelingTask, reasons_in, write_labeling_tasks
from sstext.data.loading import load_labeled
from sstext.errors import UserError

TASKS = [
    LabelingTask("late, again\n<b>", "drawn at random", "delivery", 0.51234),
    LabelingTask("Geld zurück", "many texts are like it", "refund", 0.9),
]


def written(folder: Path, to: str, tasks: list[LabelingTask] = TASKS) -> Path:
    file = folder / f"tasks{TOOLS[to][0][0]}"
    write_labeling_tasks(file, tasks, to, "sstext, out")
    return file


def test_csv_has_an_empty_column_to_fill_in(tmp_path: Path) -> None:
    """Guards the columns, and a guess that passes as a label."""
    rows = list(csv.DictReader(written(tmp_path, "csv").open(encoding="utf-8", newline="")))
    assert list(rows[0]) == ["text", "label", "reason", "predicted_label", "probability"]
    assert rows[0]["text"] == "late, again\n<b>"
    assert [row["label"] for row in rows] == ["", ""]
    assert [row["probability"] for row in rows] == ["0.5123", "0.9"]
    without = [LabelingTask(task.text, task.reason) for task in TASKS]
    rows = list(csv.DictReader(written(tmp_path, "csv", without).open(encoding="utf-8", newline="")))
    assert list(rows[0]) == ["text", "label", "reason"]
    write_labeling_tasks(tmp_path / "named.csv", without, text_column="body", label_column="topic")
    assert (tmp_path / "named.csv").read_text(encoding="utf-8").startswith("body,topic,reason\n")


def test_label_studio_reads_tasks_with_predictions(tmp_path: Path) -> None:
    """Guards the keys that its documentation asks for: `data`, and in `predictions` the control and the object of a choice."""
    tasks = json.loads(written(tmp_path, "label-studio").read_text(encoding="utf-8"))
    assert [task["data"] for task in tasks] == [{"text": task.text, "reason": task.reason} for task in TASKS]
    (prediction,) = tasks[0]["predictions"]
    assert prediction["model_version"] == "sstext, out"
    assert prediction["score"] == 0.5123
    (result,) = prediction["result"]
    assert {name: result[name] for name in ("from_name", "to_name", "type", "value")} == {
        "from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": ["delivery"]},
    }  # fmt: skip
    tasks = json.loads(written(tmp_path, "label-studio", [LabelingTask("a", "b")]).read_text(encoding="utf-8"))
    assert tasks == [{"data": {"text": "a", "reason": "b"}, "predictions": []}]


def test_argilla_reads_records_with_suggestions(tmp_path: Path) -> None:
    """Guards the mapping that `rg.Record.from_dict` reads: a question has a suggestion with value, score and agent."""
    records = json.loads(written(tmp_path, "argilla").read_text(encoding="utf-8"))
    assert records[1] == {
        "fields": {"text": "Geld zurück"}, "metadata": {"reason": "many texts are like it"},
        "suggestions": {"label": {"value": "refund", "score": 0.9, "agent": "sstext, out"}},
    }  # fmt: skip
    write_labeling_tasks(tmp_path / "lines.jsonl", [LabelingTask("a", "b")], "argilla")
    (line,) = (tmp_path / "lines.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["suggestions"] == {}


def test_doccano_reads_lists_of_labels(tmp_path: Path) -> None:
    """Guards one-element lists, which doccano shows as labels that can be corrected."""
    lines = [json.loads(line) for line in written(tmp_path, "doccano").read_text(encoding="utf-8").splitlines()]
    assert [line["label"] for line in lines] == [["delivery"], ["refund"]]
    assert lines[0]["text"] == TASKS[0].text
    (line,) = written(tmp_path, "doccano", [LabelingTask("a", "b")]).read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["label"] == []


@pytest.mark.parametrize("to", TOOLS)
def test_every_file_can_be_read_as_rows_and_has_all_texts(to: str, tmp_path: Path) -> None:
    """Guards a file that is cut, or one whose second row has other columns."""
    (rows,) = read_rows(written(tmp_path, to))
    assert len(rows) == 2
    assert "Geld zurück" in json.dumps(rows.columns, ensure_ascii=False)


def test_wrong_tools_and_endings_are_refused_and_an_old_file_is_kept(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="to: no tool 'labelstudio'; did you mean label-studio"):
        write_labeling_tasks(tmp_path / "a.json", TASKS, "labelstudio")
    with pytest.raises(
        UserError, match=r"output: expected a file that ends in \.json for label-studio, found .*a\.csv"
    ):
        write_labeling_tasks(tmp_path / "a.csv", TASKS, "label-studio")
    for names in ({"text_column": "reason"}, {"label_column": "probability"}, {"text_column": "label"}):
        with pytest.raises(UserError, match="_column: the file to write has a column"):
            write_labeling_tasks(tmp_path / "a.csv", TASKS, **names)  # texts would be overwritten
    assert not list(tmp_path.iterdir())


#: What a person says of the tasks: the first guess is wrong, the second right, and the third text is left open.
GIVEN = ["refund", "refund", None]
OPEN = [*TASKS, LabelingTask("<b>?", "drawn at random", "delivery", 0.4)]


def as_jsonl(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def as_json(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text(json.dumps(rows), encoding="utf-8")
    return file


def as_csv(file: Path, rows: list[dict[str, Any]]) -> Path:
    with file.open("w", encoding="utf-8", newline="") as opened:
        table = csv.DictWriter(opened, rows[0].keys())
        table.writeheader()
        table.writerows(rows)
    return file


def by_sstext(tasks: Path) -> Path:
    file = LabelFile(tasks)
    for row, label in enumerate(GIVEN):
        if label is not None:
            file.give(row, label)
    return tasks


def label_studio(tasks: Path) -> Path:
    """Its JSON: the task as it was imported, with annotations. The prediction that was shown is kept beside them."""
    rows = json.loads(tasks.read_text(encoding="utf-8"))
    for number, (row, label) in enumerate(zip(rows, GIVEN, strict=True), 1):
        choice = {"id": "x1", "from_name": "label", "to_name": "text", "type": "choices", "origin": "manual"}
        annotation = {
            "id": number, "completed_by": 1, "was_cancelled": False, "ground_truth": False, "lead_time": 2.5,
            "result": [choice | {"value": {"choices": [label]}}], "task": number,
        }  # fmt: skip
        row |= {"id": number, "annotations": [annotation] if label else [], "drafts": [], "meta": {}, "project": 1}
    return as_json(tasks.with_name("project-1.json"), rows)


def label_studio_rows(tasks: Path) -> list[dict[str, Any]]:
    """Its flat formats, JSON-MIN and csv. They have a row for each annotation."""
    rows = json.loads(tasks.read_text(encoding="utf-8"))
    return [
        {**row["data"], "id": number, "label": label, "annotator": 1, "annotation_id": number, "lead_time": 2.5}
        for number, (row, label) in enumerate(zip(rows, GIVEN, strict=True), 1) if label
    ]  # fmt: skip


def argilla(tasks: Path) -> Path:
    """`dataset.records.to_json`: what `rg.Record.to_dict` gives."""
    rows = json.loads(tasks.read_text(encoding="utf-8"))
    for number, (row, label) in enumerate(zip(rows, GIVEN, strict=True)):
        answers = {"label": [{"value": label, "user_id": "a-b"}]} if label else {}
        row |= {"id": f"{number}", "responses": answers, "vectors": {}, "_server_id": f"s{number}"}
    return as_json(tasks.with_name("records-1.json"), rows)


def argilla_flat(tasks: Path) -> Path:
    """`dataset.records.to_datasets().to_json`: the keys of all are those of every record."""
    rows = []
    for row, label in zip(json.loads(tasks.read_text(encoding="utf-8")), GIVEN, strict=True):
        guess = row["suggestions"]["label"]
        flat = {"id": "1", "_server_id": "2", "status": "completed", **row["fields"], **row["metadata"]}
        flat |= {f"label.suggestion{end}": guess[key] for end, key in (("", "value"), (".score", "score"))}
        flat |= {"label.responses": [label] if label else None, "label.responses.users": ["a-b"] if label else None}
        rows.append(flat | {"label.responses.status": ["submitted"] if label else None})
    return as_jsonl(tasks.with_name("flat.jsonl"), rows)


def doccano_rows(tasks: Path, *, joined: bool) -> list[dict[str, Any]]:
    """Its export of the documents that a person has approved: other keys of the import are columns, too."""
    rows = [json.loads(line) for line in tasks.read_text(encoding="utf-8").splitlines()]
    return [
        {"id": number, "text": row["text"], "reason": row["reason"], "label": label if joined else [label],
         "Comments": "" if joined else []}
        for number, (row, label) in enumerate(zip(rows, GIVEN, strict=True), 7) if label
    ]  # fmt: skip


EXPORTED: dict[str, Callable[[Path], Path]] = {
    "csv": by_sstext,
    "label-studio": label_studio,
    "label-studio JSON-MIN": lambda tasks: as_json(tasks.with_name("min.json"), label_studio_rows(tasks)),
    "label-studio csv": lambda tasks: as_csv(tasks.with_name("min.csv"), label_studio_rows(tasks)),
    "argilla": argilla,
    "argilla flat": argilla_flat,
    "doccano": lambda tasks: as_jsonl(tasks.with_name("all.jsonl"), doccano_rows(tasks, joined=False)),
    "doccano csv": lambda tasks: as_csv(tasks.with_name("all.csv"), doccano_rows(tasks, joined=True)),
}


@pytest.mark.parametrize("format", EXPORTED)
def test_what_comes_back_from_a_tool_has_the_texts_the_labels_and_the_reasons(format: str, tmp_path: Path) -> None:
    """Guards a guess that becomes a label, an open text that becomes labeled, and reasons that are lost on the way."""
    back = EXPORTED[format](written(tmp_path, format.partition(" ")[0], OPEN))
    read = load_labeled(str(back), least_classes=1)
    assert list(zip(read.texts["text"][:], read.texts["label"][:], strict=True)) == [(t.text, 0) for t in TASKS]
    assert read.classes == ["refund"]
    found = reasons_in(back)
    assert {text: found[text] for text in read.texts["text"][:]} == {task.text: task.reason for task in TASKS}
