"""Find the text, label and paraphrase columns, and read cells as texts."""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from sstext.config.spelling import spelled
from sstext.data.column_names import LABEL_NAMES, TEXT_NAMES
from sstext.errors import UserError, listed

_SURROGATE = re.compile("[\ud800-\udfff]")


#: Column that holds the paraphrases of a row as a list of texts.
VIEW_TEXTS = "view_texts"


class NoSuchColumnError(UserError):
    """No column of a source is recognized as that of the texts or of the labels."""


def find_column(
    columns: Sequence[str],
    kind: Literal["text", "label"],
    wanted: str | None,
    source: str,
    known: str | None = None,
) -> str:
    """Find the column that holds the texts or the labels.

    If `wanted` is given, a column of exactly this name must exist. Otherwise the column `known` is taken, then one named
    "text" or "label" (ignoring case), then the one column whose name is in `TEXT_NAMES` or `LABEL_NAMES`. A single column is
    taken as the text.

    >>> find_column(["id", "Message"], "text", None, "my.csv")
    'Message'

    Args:
        known: column of an annotation tool that holds it.

    Raises:
        UserError: if no column fits, or several fit equally well.
    """
    found, remedy = f"found {listed(list(columns))}", f"with {spelled(f'{kind}_column', 'COLUMN')}"
    if wanted is not None:
        if wanted in columns:
            return wanted
        raise _no_such_column(wanted, columns, source, f"name one of them {remedy}")
    if known in columns:
        return str(known)
    if kind in columns:
        return kind
    names = TEXT_NAMES if kind == "text" else LABEL_NAMES
    for group in ((kind,), names):
        fitting = [column for column in columns if column.strip().lower() in group]
        if len(fitting) > 1:
            raise UserError(f"{source}: several columns may hold the {kind}: {listed(fitting)}; choose one {remedy}")
        if fitting:
            return fitting[0]
    if kind == "text" and len(columns) == 1:
        return columns[0]
    pairs = two_texts(columns) if kind == "text" else None
    if pairs:
        raise UserError(
            f"{source}: {listed(pairs)} look like a pair of texts; sstext classifies single texts: join both in one column, "
            f"or name one of them {remedy}"
        )
    raise NoSuchColumnError(
        f"{source}: no {kind} column was recognized (usual names: {listed(names, 6)}); {found}; name one {remedy}"
    )


#: Pairs of column names that belong together.
_PAIRS = (
    ("premise", "hypothesis"), ("question", "answer"), ("question", "context"), ("question", "passage"), ("query", "passage"),
    ("query", "document"), ("anchor", "positive"), ("source", "target"), ("text", "text_pair"), ("claim", "evidence"),
)  # fmt: skip


def two_texts(columns: Sequence[str]) -> list[str] | None:
    """Two columns whose names mean a pair of texts, such as `sentence1` and `sentence2`. None if there are none.

    >>> two_texts(["id", "sentence1", "sentence2"]), two_texts(["text", "label"])
    (['sentence1', 'sentence2'], None)
    """
    lower = {column.strip().lower(): column for column in columns}
    for first, second in _PAIRS:
        if first in lower and second in lower:
            return [lower[first], lower[second]]
    for name in lower:
        for one, two in (("1", "2"), ("_a", "_b"), ("_1", "_2")):
            if name.endswith(one) and (second := name.removesuffix(one) + two) in lower:
                return [lower[name], lower[second]]
    return None


def is_missing(value: Any) -> bool:
    """Whether a cell is empty: None, NaN, or the missing values of pandas."""
    return (
        value is None or (isinstance(value, float) and value != value) or type(value).__name__ in ("NAType", "NaTType")
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
            raise _no_such_column(
                view, columns, source, f"name paraphrase columns with {spelled('views', 'COLUMN')}, or leave it out"
            )


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
    """A cell as a text, or "" if it is empty.

    Raises:
        UserError: a list, a mapping, or a text with half a character.
    """
    if isinstance(value, str):
        if not value.isascii() and (half := _SURROGATE.search(value)):
            raise UserError(f"{where}: expected a text, found half a character ({half[0]!a}); correct the text")
        return str(value)
    if is_missing(value):
        return ""
    if isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(part, str) for part in value):
        pair = f"{type(value).__name__} {str(value)[:60]}"
        raise UserError(f"{where}: expected a text, found {pair}; sstext classifies single texts: join a pair")
    if isinstance(value, list | tuple | dict | set):
        raise UserError(f"{where}: expected a text, found {type(value).__name__} {str(value)[:60]!r}")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
