"""Prodigy: jsonl of `db-out`. `answer` says whether the label is right; a choice is in the list `accept`."""

from collections import Counter
from typing import Any

from sstext.data.exports.export import Converted, values_of
from sstext.data.parsers import Rows

_ANSWERS = {"accept", "reject", "ignore"}
_SAID = {"reject": "rejected", "ignore": "ignored"}


class Prodigy:
    """Prodigy."""

    name = "Prodigy"

    def recognizes(self, rows: Rows) -> bool:
        answers = {str(value).strip().lower() for value in values_of(rows, "answer")}
        return bool(answers) and answers <= _ANSWERS

    def to_rows(self, rows: Rows) -> Converted:
        found: list[tuple[dict[str, Any], int]] = []
        left_out = Counter[str]()
        choice = "accept" in rows.columns
        for record, line in rows.records():
            answer = str(record.get("answer") or "").strip().lower()
            if answer in _SAID:
                left_out[_SAID[answer]] += 1
                continue
            if choice and record.get("accept") is not None:
                record["label"] = record["accept"]
            if not answer:
                record["label"] = None  # nobody has seen this row
            record.setdefault("label", None)
            found.append((record, line))
        return Converted(rows.of(found), label="label", left_out=left_out)
