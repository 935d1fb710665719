"""Read texts from everything that people have them in: a string, a list, a column, a data frame, a generator."""

from collections.abc import Iterable, Mapping
from typing import Any

from sstext.data.columns import find_column
from sstext.errors import UserError, listed


def as_texts(given: Any) -> list[str]:
    """N texts as a list of strings.

    Args:
        given: an iterable of strings: a list, a generator, a column of `datasets`, a series or an array of numpy,
            pandas, polars or pyarrow. Or a table (a data frame, a `Dataset`), whose text column is found by its name.

    Raises:
        UserError: it is no such thing, or a value is no string. The message has the position of the value.

    >>> as_texts(text for text in ("late", "lost"))
    ['late', 'lost']
    >>> as_texts(["late", None])
    Traceback (most recent call last):
    ...
    sstext.errors.UserError: texts[1]: expected a string, found None; replace it or leave it out
    """
    names = getattr(given, "column_names", None)  # Dataset, pyarrow
    if names is None:
        names = getattr(given, "columns", None)  # pandas, polars
    column = given if names is None else given[_text_column([str(name) for name in names])]
    if isinstance(column, str | bytes | Mapping) or not isinstance(column, Iterable):
        raise UserError(f"expected a string or a list of strings, found {type(column).__name__}")
    values = column.to_pylist() if hasattr(column, "to_pylist") else list(column)
    for position, value in enumerate(values):
        if not isinstance(value, str):
            found = "None" if value is None else f"{type(value).__name__} {str(value)[:60]!r}"
            raise UserError(f"texts[{position}]: expected a string, found {found}; replace it or leave it out")
    return [str(value) for value in values]  # numpy has a string type of its own


def _text_column(names: list[str]) -> str:
    try:
        return find_column(names, "text", None, "the table")
    except UserError:
        raise UserError(
            f"expected texts, found a table with the columns {listed(names)}, of which none or several may be the text; give "
            f"one of them, for example rows[{names[0] if names else 'text'!r}]"
        ) from None
