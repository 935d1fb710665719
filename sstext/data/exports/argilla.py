"""Argilla: records as JSON or as a flat table, and the tables of its first version.

- JSON: `fields`, `responses` and `suggestions` are mappings; a question has a list of answers;
- flat: columns `label.responses`, `label.responses.users`, `label.responses.status`, `label.suggestion`;
- feedback data sets: a question is a list of `{"user_id", "value", "status"}`, beside a column `label-suggestion`;
- the first version: `annotation`, `annotation_agent`, `status`, and the text in `text` or `inputs`.

A suggestion is what a model says, not a label. Answers that were not submitted do not count, if the status is told: the JSON
of `rg.Record.to_dict` leaves it out.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sstext.data.column_names import TEXT_NAMES
from sstext.data.exports.export import ANNOTATOR, REASON, Converted, all_of, by_answer, values_of
from sstext.data.parsers import Rows

_RESPONSES, _SUGGESTION = ".responses", "-suggestion"
_SUBMITTED = ("submitted", "", "none")

#: Question → (answer, person, status) of one row.
_Answers = dict[str, list[tuple[Any, Any, str]]]


class Argilla:
    """Argilla."""

    name = "Argilla"

    def recognizes(self, rows: Rows) -> bool:
        names = set(rows.columns)
        if "fields" in names and names & {"responses", "suggestions"}:
            return all_of(values_of(rows, "fields"), Mapping)
        if any(name.endswith(_RESPONSES) for name in names) or {"annotation", "annotation_agent"} <= names:
            return True
        return any(name.removesuffix(_SUGGESTION) in names for name in names if name.endswith(_SUGGESTION))

    def to_rows(self, rows: Rows) -> Converted:
        found: list[tuple[dict[str, Any], int]] = []
        questions, left_out = dict[str, None](), Counter[str]()
        for record, line in rows.records():
            plain, answers = _read(record)
            questions.update(dict.fromkeys(answers))
            discarded = any(status == "discarded" for given in answers.values() for *_, status in given)
            kept = {
                name: [(value, who) for value, who, status in given if status in _SUBMITTED and value is not None]
                for name, given in answers.items()
            }
            if str(record.get("status")).lower() == "discarded" or (discarded and not any(kept.values())):
                left_out["discarded"] += 1
                continue
            found += [({**plain, **one}, line) for one in _combined(kept)]
        label = next(iter(questions)) if len(questions) == 1 else None
        return Converted(rows.of(found), _text_in(found, questions), label, left_out)


def _read(record: Mapping[str, Any]) -> tuple[dict[str, Any], _Answers]:
    """The plain columns of a record, and its answers."""
    if isinstance(record.get("fields"), Mapping):
        responses, suggestions = record.get("responses") or {}, record.get("suggestions") or {}
        if isinstance(responses, Sequence):  # a list of people, each with all values
            answers = _by_question(responses)
        else:
            answers = {name: [_answer(one) for one in given or []] for name, given in responses.items()}
        for name in suggestions if isinstance(suggestions, Mapping) else ():
            answers.setdefault(name, [])
        kept = {name: record[name] for name in ("id", "external_id") if record.get(name) is not None}
        metadata = record.get("metadata")
        if isinstance(metadata, Mapping) and metadata.get(REASON) is not None:
            kept[REASON] = metadata[REASON]
        return {**kept, **record["fields"]}, answers
    flat = [name.removesuffix(_RESPONSES) for name in record if name.endswith(_RESPONSES)]
    if flat:
        answers = {name: list(_flat_answers(record, name)) for name in flat}
        own = {f"{name}{end}" for name in flat for end in (_RESPONSES, f"{_RESPONSES}.users", f"{_RESPONSES}.status")}
        return {name: value for name, value in record.items() if name not in own and ".suggestion" not in name}, answers
    if "annotation" in record and "annotation_agent" in record:
        inputs = record.get("inputs")
        texts = dict(inputs) if isinstance(inputs, Mapping) else {} if inputs is None else {"text": inputs}
        plain = {name: value for name, value in record.items() if name not in ("annotation", "inputs", "prediction")}
        plain = {name: value for name, value in plain.items() if name != "text" or value is not None}
        return {**texts, **plain}, {"label": [(record["annotation"], record["annotation_agent"], "")]}
    asked = [name.removesuffix(_SUGGESTION) for name in record if name.endswith(_SUGGESTION)]
    answers = {name: [_answer(one) for one in _as_list(record.get(name))] for name in asked if name in record}
    own = {f"{name}{end}" for name in asked for end in ("", _SUGGESTION, f"{_SUGGESTION}-metadata")}
    return {name: value for name, value in record.items() if name not in own}, answers


def _as_list(value: Any) -> list:
    if isinstance(value, Mapping):  # how `datasets` stores a list of mappings
        rows = zip(*value.values(), strict=True)
        return [dict(zip(value, row, strict=True)) for row in rows] if all_of(value.values(), list) else [value]
    return value if isinstance(value, list) else [] if value is None else [value]


def _answer(one: Any) -> tuple[Any, Any, str]:
    if not isinstance(one, Mapping):
        return one, None, ""
    return one.get("value"), one.get("user_id"), str(one.get("status") or "").lower()


def _by_question(responses: Sequence[Any]) -> _Answers:
    found: _Answers = {}
    for one in responses:
        if not isinstance(one, Mapping):
            continue
        who, status = one.get("user_id"), str(one.get("status") or "").lower()
        values = one.get("values")
        if isinstance(values, Mapping):
            for name, value in values.items():
                value = value.get("value") if isinstance(value, Mapping) else value
                found.setdefault(str(name), []).append((value, who, status))
        else:
            found.setdefault(str(one.get("question_name", "label")), []).append(_answer(one))
    return found


def _flat_answers(record: Mapping[str, Any], name: str) -> Iterator[tuple[Any, Any, str]]:
    values = _as_list(record[f"{name}{_RESPONSES}"])
    people = _as_list(record.get(f"{name}{_RESPONSES}.users"))
    states = _as_list(record.get(f"{name}{_RESPONSES}.status"))
    for i, value in enumerate(values):
        state = states[i] if i < len(states) else ""
        yield value, people[i] if i < len(people) else None, str(state or "").lower()


def _combined(answers: Mapping[str, list[tuple[Any, Any]]]) -> list[dict[str, Any]]:
    """A row for each different answer if there is one question. Several questions are several columns."""
    if len(answers) == 1:
        [(name, given)] = answers.items()
        return [{name: value, ANNOTATOR: who} for value, who in by_answer(given)] or [{name: None}]
    first = {name: given[0] if given else (None, None) for name, given in answers.items()}
    return [{name: value for name, (value, _) in first.items()}]


def _text_in(found: Sequence[tuple[Mapping[str, Any], int]], questions: Mapping[str, None]) -> str | None:
    """The only column of texts, if its name is not a usual one."""
    names = {
        name for record, _ in found for name, value in record.items()
        if isinstance(value, str) and " " in value and name not in {*questions, ANNOTATOR, REASON}
    }  # fmt: skip
    return next(iter(names)) if len(names) == 1 and not any(name.lower() in TEXT_NAMES for name in names) else None
