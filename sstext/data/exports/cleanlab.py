"""cleanlab: a table with the given label of every row, whether it looks wrong, and its correction."""

from collections import Counter
from typing import Any

from sstext.data.columns import is_missing
from sstext.data.exports.export import Converted, is_on
from sstext.data.parsers import Rows

_GIVEN = ("given_label", "cleanlab_given_label")
_FLAGS = ("is_label_issue", "cleanlab_is_label_issue", "cleanlab_label_issue")
_CORRECTED = ("corrected_label", "cleanlab_corrected_label", "cleanlab_clean_label")
_ACTIONS = ("action", "cleanlab_action")
_OTHERS = ("label_quality", "label_score", "predicted_label", "suggested_label", "label_issue_score", "cleanlab_row_ID")


class Cleanlab:
    """cleanlab. A correction replaces the label. A row whose label looks wrong and was not corrected is left out."""

    name = "cleanlab"

    def recognizes(self, rows: Rows) -> bool:
        names = set(rows.columns)
        marks = names & {*_FLAGS, *_CORRECTED, *_GIVEN, *_OTHERS} | {
            name for name in names if name.startswith("cleanlab_")
        }
        return bool(names & {*_FLAGS, *_CORRECTED, "cleanlab_action"}) and len(marks) >= 2

    def to_rows(self, rows: Rows) -> Converted:
        given = next((name for name in (*_GIVEN, "label") if name in rows.columns), None)
        found: list[tuple[dict[str, Any], int]] = []
        left_out = Counter[str]()
        for record, line in rows.records():
            corrected = next((record[name] for name in _CORRECTED if not _is_empty(record.get(name))), None)
            action = next(
                (str(record[name]).strip().lower() for name in _ACTIONS if not _is_empty(record.get(name))), ""
            )
            if action in ("exclude", "delete", "drop"):
                left_out["excluded"] += 1
            elif (
                corrected is None
                and action not in ("keep", "relabel")
                and any(is_on(record.get(name)) for name in _FLAGS)
            ):
                left_out["flagged as label issues and not corrected"] += 1
            else:
                if corrected is not None and given is not None:
                    record[given] = corrected
                found.append((record, line))
        return Converted(rows.of(found), label=given, left_out=left_out)


def _is_empty(value: Any) -> bool:
    return is_missing(value) or str(value).strip().lower() in ("", "nan", "none", "null")
