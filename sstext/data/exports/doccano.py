"""doccano: jsonl and json with lists of labels, csv with labels joined by `#`."""

from collections.abc import Mapping
from typing import Any

from sstext.data.exports.export import Converted, all_of, by_answer, values_of
from sstext.data.parsers import Rows

_JOINED = "#"


class Doccano:
    """doccano."""

    name = "doccano"

    def recognizes(self, rows: Rows) -> bool:
        names = set(rows.columns)
        if "annotations" in names:  # of its first versions
            given = [one for value in values_of(rows, "annotations") if isinstance(value, list) for one in value]
            return "text" in names and all_of(given, Mapping) and all("label" in one for one in given)
        column = _label_in(rows)
        if column is None:
            return False
        return "Comments" in names or (
            "id" in names and (all_of(values_of(rows, column), list) or bool(_joined(rows, column)))
        )

    def to_rows(self, rows: Rows) -> Converted:
        if "annotations" in rows.columns:
            found: list[tuple[dict[str, Any], int]] = []
            for record, line in rows.records():
                given = by_answer((one.get("label"), one.get("user")) for one in record["annotations"] or [])
                found.append(({**record, "label": [label for label, _ in given]}, line))
            return Converted(rows.of(found), label="label")
        column = str(_label_in(rows))
        joined = _joined(rows, column)
        labels = [
            [part.strip() for part in value.split(_JOINED)] if value in joined else value for value in rows.columns[column]
        ] if joined else rows.columns[column]  # fmt: skip
        text = "data" if "data" in rows.columns and "text" not in rows.columns else None
        plain = Rows({**rows.columns, column: labels}, rows.lines, rows.unit, rows.class_labels, rows.format)
        return Converted(plain, text, column)


def _label_in(rows: Rows) -> str | None:
    return next((name for name in ("label", "labels") if name in rows.columns), None)


def _joined(rows: Rows, column: str) -> set[str]:
    """The cells that join several labels. A `#` is also in names such as C#; so one part must stand alone elsewhere."""
    cells = {value for value in rows.columns[column] if isinstance(value, str)}
    alone = {cell.strip() for cell in cells if _JOINED not in cell}
    split = {cell: [part.strip() for part in cell.split(_JOINED)] for cell in cells if _JOINED in cell}
    return {cell for cell, parts in split.items() if all(parts) and any(part in alone for part in parts)}
