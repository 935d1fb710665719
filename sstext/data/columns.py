"""Find the text, label and paraphrase columns, and read cells as texts."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from sstext.data.formats import TEXT_NAMES
from sstext.errors import UserError, listed

#: Column names that mean "the label", the most specific first.
LABEL_NAMES = (
    "label", "labels", "category", "class", "target", "intent", "topic", "sentiment", "emotion", "tag",
    "label_text", "label_name", "class_name",
)  # fmt: skip
#: Column that holds the paraphrases of a row as a list of texts.
VIEW_TEXTS = "view_texts"


def find_column(columns: Sequence[str], kind: Literal["text", "label"], wanted: str | None, source: str) -> str:
    """Find the column that holds the texts or the labels.

    If `wanted` is given, a column of exactly this name must exist. Otherwise a column named "text" or "label" (ignoring
    case) is taken, then the one column whose name is in `TEXT_NAMES` or `LABEL_NAMES`. A single column is taken as the
    text.

    >>> find_column(["id", "Message"], "text", None, "my.csv")
    'Message'

    Raises:
        UserError: if no column fits, or several fit equally well.
    """
    found, flag = f"found {listed(list(columns))}", f"--{kind}-column"
    if wanted is not None:
        if wanted in columns:
            return wanted
        raise _no_such_column(wanted, columns, source, f"name one of them with {flag}")
    if kind in columns:
        return kind
    names = TEXT_NAMES if kind == "text" else LABEL_NAMES
    for group in ((kind,), names):
        fitting = [column for column in columns if column.strip().lower() in group]
        if len(fitting) > 1:
            raise UserError(f"{source}: several columns may hold the {kind}: {listed(fitting)}; choose one with {flag}")
        if fitting:
            return fitting[0]
    if kind == "text" and len(columns) == 1:
        return columns[0]
    raise UserError(
        f"{source}: no {kind} column was recognized (usual names: {listed(names, 6)}); {found}; name one with {flag}"
    )


def _no_such_column(wanted: str, columns: Sequence[str], source: str, remedy: str) -> UserError:
    nearest = difflib.get_close_matches(wanted, columns, n=1)
    hint = f"did you mean {nearest[0]!r}?" if nearest else remedy
    return UserError(f"{source}: no column {wanted!r}; found {listed(list(columns))}; {hint}")


def check_views(views: Sequence[str], columns: Sequence[str], source: str) -> None:
    """Check that all paraphrase columns exist.

    Raises:
        UserError: if a column is missing.
    """
    for view in views:
        if view not in columns:
            raise _no_such_column(view, columns, source, "name paraphrase columns with --views, or leave it out")


def paraphrases(columns: Mapping[str, Sequence], views: Sequence[str], where: Callable[[int], str]) -> list[list[str]]:
    """The paraphrases of each row. Empty cells are dropped, and missing columns count as empty.

    >>> paraphrases({"back": ["late", None], "reworded": ["not here", "  "]}, ["back", "reworded"], str)
    [['late', 'not here'], []]

    Args:
        columns: rows as column name → values.
        views: names of the paraphrase columns.
        where: function from a row number to its place, for messages.

    Raises:
        UserError: if a cell does not hold a text.
    """
    nothing = [None] * len(next(iter(columns.values())))
    rows = zip(*(columns.get(view, nothing) for view in views), strict=True)
    return [[text for cell in cells if (text := text_of(cell, where(i))).strip()] for i, cells in enumerate(rows)]


def text_of(value: Any, where: str) -> str:
    """A cell as a text, or "" if it is empty."""
    if isinstance(value, str):
        return value
    if value is None or value != value:
        return ""
    if isinstance(value, int | float):
        return str(value)
    raise UserError(f"{where}: expected a text, found {type(value).__name__} {str(value)[:60]!r}")
