"""Data sets in Python as sources of rows: frames, tables, lists, mappings of columns, and iterables.

An iterable can be read only once and may not fit in memory. So its rows are spooled to a temporary Arrow file, which is
deleted with the object.
"""

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow as pa
import xxhash

from sstext.data.columns import is_missing
from sstext.data.parsers import Rows, check_header, records
from sstext.data.tables import arrow_table
from sstext.errors import UserError

_BATCH = 1000  # rows
#: Shapes of a row.
ROWS = 'a mapping such as {"text": …, "label": …}, a pair of text and label, or a text'
EXPECTED = (
    "a path, a Hub name, a data set of `datasets`, a pandas or polars frame, a pyarrow table, a mapping of columns, or "
    "rows"
)


@dataclass(frozen=True)
class InMemory:
    """A data set in Python.

    Attributes:
        name: what it is, for messages.
        read: returns its rows in batches, from the beginning at every call.
    """

    name: str
    read: Callable[[], Iterator[Rows]]

    def fingerprint(self) -> str:
        """A short name of its content."""
        digest = xxhash.xxh3_128()
        for rows in self.read():
            digest.update(json.dumps(rows.columns, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass"))
        return f"memory:{digest.hexdigest()}"


def in_memory(data: Any) -> InMemory:
    """A data set of any kind in Python, as batches of rows. Iterables are spooled at once.

    Raises:
        UserError: something else, or columns of different lengths.

    >>> next(in_memory([("late", "delivery"), ("twice", "refund")]).read()).columns
    {'text': ['late', 'twice'], 'label': ['delivery', 'refund']}
    """
    if isinstance(data, InMemory):
        return data
    import pandas as pd

    if isinstance(data, pd.DataFrame):
        return InMemory("the data frame", lambda: _of_frame(data))
    if isinstance(data, pd.Series):
        return in_memory(data.tolist())
    if isinstance(data, Mapping):
        return InMemory("the columns", lambda: _of_columns(data))
    if isinstance(data, list | tuple):
        return InMemory("the list", lambda: records(_numbered(data), "row", _BATCH))
    if hasattr(data, "__arrow_c_stream__"):  # polars, pyarrow, duckdb and others speak this protocol
        try:
            table = pa.table(data)
        except (TypeError, ValueError):  # a single column
            return _spooled(data)
        return InMemory("the table", lambda: arrow_table(table, "the table", _BATCH))
    if isinstance(data, str | bytes) or not isinstance(data, Iterable):
        raise UserError(f"expected {EXPECTED}; found {type(data).__name__}")
    return _spooled(data)


def _of_frame(frame: Any) -> Iterator[Rows]:
    names = [str(name) for name in frame.columns]
    check_header(names, "the data frame")
    for start in range(0, len(frame), _BATCH):
        part = frame.iloc[start : start + _BATCH]
        columns = {}
        for number, name in enumerate(names):
            values = part.iloc[:, number].astype(object)
            columns[name] = values.where(values.notna(), None).tolist()
        yield Rows(columns, list(range(start + 1, start + len(part) + 1)), "row")


def _of_columns(data: Mapping[Any, Any]) -> Iterator[Rows]:
    columns = {str(name): values for name, values in data.items()}
    sizes = {}
    for name, values in columns.items():
        if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__len__"):
            raise UserError(f"the columns: expected a list of values for {name!r}, found {type(values).__name__}")
        sizes[name] = len(values)
    if len(set(sizes.values())) > 1:
        raise UserError(f"the columns: expected columns of one length, found {sizes}")
    total = next(iter(sizes.values()), 0)
    for start in range(0, total, _BATCH):
        part = {name: _as_list(values[start : start + _BATCH]) for name, values in columns.items()}
        yield Rows(part, list(range(start + 1, min(start + _BATCH, total) + 1)), "row")


def _as_list(values: Any) -> list:
    return values.tolist() if hasattr(values, "tolist") else list(values)


def _numbered(items: Iterable[Any]) -> Iterator[tuple[dict[str, Any], int]]:
    """Rows of any shape as records, and the number of each."""
    for number, item in enumerate(items, 1):
        if hasattr(item, "tolist"):  # of numpy
            item = item.tolist()
        if isinstance(item, Mapping):
            yield {str(name): value for name, value in item.items()}, number
        elif isinstance(item, str) or is_missing(item):
            yield {"text": item}, number
        elif isinstance(item, Sequence) and len(item) == 2:
            yield dict(zip(("text", "label"), item, strict=True)), number
        else:
            raise UserError(f"row {number}: expected {ROWS}; found {type(item).__name__}")


def _spooled(items: Iterable[Any]) -> InMemory:
    """Write rows to a temporary Arrow file, each as a text of JSON: rows of one stream may have different types."""
    schema = pa.schema([("row", pa.large_string())])
    file = tempfile.TemporaryFile(prefix="sstext-", suffix=".arrow")  # noqa: SIM115 - it lives as long as the source
    rows = _numbered(items)
    with pa.ipc.new_stream(file, schema) as writer:
        while chunk := [json.dumps(record, default=_plain) for record, _ in islice(rows, _BATCH)]:
            writer.write_batch(pa.record_batch([pa.array(chunk, pa.large_string())], schema=schema))

    def read() -> Iterator[Rows]:
        file.seek(0)
        with pa.ipc.open_stream(file) as batches:
            decoded = (json.loads(row) for batch in batches for row in batch.column(0).to_pylist())
            yield from records(((record, number) for number, record in enumerate(decoded, 1)), "row", _BATCH)

    return InMemory("the streamed rows", read)


def _plain(value: Any) -> Any:
    """A value that JSON does not know."""
    if hasattr(value, "tolist"):  # of numpy
        return value.tolist()
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
