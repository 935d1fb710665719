"""What an export format is: it recognizes its rows, and turns them into plain ones."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from sstext.data.parsers import Rows


@dataclass(frozen=True)
class Converted:
    """Plain rows.

    Attributes:
        rows: the rows that are left. A label may be a list: whether it holds one label is decided by the reader.
        text: the column of texts, if the tool tells.
        label: the column of labels, if the tool tells.
        left_out: reason → number of rows that a person rejected or skipped.
    """

    rows: Rows
    text: str | None = None
    label: str | None = None
    left_out: Counter[str] = field(default_factory=Counter)


class Export(Protocol):
    """The format of an annotation tool."""

    name: str

    def recognizes(self, rows: Rows) -> bool:
        """Whether the first rows of a file are of this format, by their content alone."""
        ...

    def to_rows(self, rows: Rows) -> Converted:
        """A batch as plain rows. It keeps columns that it does not know."""
        ...


def values_of(rows: Rows, column: str) -> list:
    """The values of a column that are there."""
    return [value for value in rows.columns.get(column, ()) if value is not None and value != ""]


def all_of(values: Iterable[Any], kind: type) -> bool:
    """Whether there are values, and all are of one type."""
    found = list(values)
    return bool(found) and all(isinstance(value, kind) for value in found)


def is_on(value: Any) -> bool:
    """Whether a cell says yes. Cells of a csv file are texts."""
    return value is True or str(value).strip().lower() in ("true", "1", "1.0", "yes")


#: Column with the people who gave the label of a row.
ANNOTATOR = "annotator"
#: Column with the reason for which `sstext suggest` chose a text.
REASON = "reason"


def by_answer(answers: Iterable[tuple[Any, Any]]) -> list[tuple[Any, str]]:
    """The different answers to one question in their order, each with the people who gave it.

    >>> by_answer([("spam", 1), ("ham", 2), ("spam", 3)])
    [('spam', '1, 3'), ('ham', '2')]
    """
    found: dict[str, tuple[Any, list[str]]] = {}
    for answer, who in answers:
        people = found.setdefault(repr(answer), (answer, []))[1]
        if who is not None:
            people.append(str(who.get("email", who.get("id", who)) if isinstance(who, Mapping) else who))
    return [(answer, ", ".join(people)) for answer, people in found.values()]
