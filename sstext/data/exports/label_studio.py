"""Label Studio: JSON, JSON-MIN, and csv or tsv.

JSON has the texts below `data` and the labels deep in `annotations`; a task may have several annotations or skipped ones.
JSON-MIN, csv and tsv have a row per annotation. Their columns are those of the data and one for every question, in which a
single choice is a text and several choices are `{"choices": […]}`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sstext.data.column_names import LABEL_NAMES, TEXT_NAMES
from sstext.data.exports.export import ANNOTATOR, REASON, Converted, all_of, by_answer, is_on, values_of
from sstext.data.parsers import Rows

_OF_MINIMAL = {"annotation_id", "annotator", "lead_time"}
_NO_QUESTION = _OF_MINIMAL | {"id", "agreement", "inner_id", "file_upload", "project", "created_at", "updated_at"}
_CHOICES = '{"choices"'


class LabelStudio:
    """Label Studio."""

    name = "Label Studio"

    def recognizes(self, rows: Rows) -> bool:
        names = set(rows.columns)
        if _annotations_in(names) and "data" in names:
            return all_of(values_of(rows, "data"), Mapping)
        choices = any(_is_choices(value) for values in rows.columns.values() for value in values)
        return len(names & _OF_MINIMAL) >= (1 if choices else 2)

    def to_rows(self, rows: Rows) -> Converted:
        if "data" not in rows.columns:
            question = next((name for name, values in rows.columns.items() if any(map(_is_choices, values))), None)
            named = [name for name in rows.columns if name.lower() in LABEL_NAMES]
            left = [
                name for name in rows.columns
                if name not in _NO_QUESTION and name.lower() not in TEXT_NAMES and name not in named
            ]  # fmt: skip
            only = left[0] if not named and len(left) == 1 else None
            return Converted(rows, label=question or only)
        found: list[tuple[dict[str, Any], int]] = []
        questions, left_out = dict[str, None](), Counter[str]()
        annotations = _annotations_in(set(rows.columns))
        for record, line in rows.records():
            given = [one for one in record.get(str(annotations)) or [] if isinstance(one, Mapping)]
            kept = [one for one in given if not is_on(one.get("was_cancelled"))]
            if given and not kept:
                left_out["skipped"] += 1
                continue
            data = dict(record.get("data") or {})
            answers = [(_answers(one), one.get("completed_by")) for one in kept]
            questions.update(dict.fromkeys(name for answer, _ in answers for name in answer))
            found += [({**data, **answer, ANNOTATOR: who}, line) for answer, who in by_answer(answers) or [({}, "")]]
        for record, _ in found:
            for name in questions:
                record.setdefault(name, None)
        text = _text_of([record for record, _ in found], set(questions))
        label = next(iter(questions)) if len(questions) == 1 else None if questions else "label"
        if not questions:
            for record, _ in found:
                record.setdefault("label", None)
        return Converted(rows.of(found), text, label, left_out)


def _annotations_in(names: set[str]) -> str | None:
    return next((name for name in ("annotations", "completions") if name in names), None)


def _is_choices(value: Any) -> bool:
    if isinstance(value, Mapping):
        return "choices" in value
    return isinstance(value, str) and value.startswith(_CHOICES)


def _answers(annotation: Mapping[str, Any]) -> dict[str, Any]:
    """Question → choices of one annotation. A rating counts as a choice."""
    found: dict[str, Any] = {}
    for result in annotation.get("result") or []:
        value = result.get("value") or {}
        kind = str(result.get("type") or "choices")
        chosen = value.get("choices", value.get(kind))
        if chosen is None or kind.endswith("labels") or kind == "textarea":
            continue  # spans and free texts
        chosen = [chosen] if not isinstance(chosen, list) else chosen
        found[str(result.get("from_name") or "label")] = found.get(str(result.get("from_name") or "label"), []) + chosen
    return found


def _text_of(records: Sequence[Mapping[str, Any]], questions: set[str]) -> str | None:
    """The only key of the data that holds texts, if its name is not a usual one."""
    names = {name for record in records for name, value in record.items() if isinstance(value, str) and value}
    names -= questions | {ANNOTATOR, REASON}
    usual = [name for name in names if name.lower() in TEXT_NAMES]
    return next(iter(names)) if not usual and len(names) == 1 else None
