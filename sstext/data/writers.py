"""Write rows to files, in every format that `formats.read_rows` can read."""

import codecs
import csv
import io
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from sstext.data.decoding import codec_of
from sstext.data.formats import FORMATS, Place, check_format, format_of
from sstext.data.formulas import Formulas
from sstext.errors import UserError, listed
from sstext.storage.disk import writing
from sstext.storage.whole import remove_partials_of, written_whole


class RowWriter:
    """Write rows to a file or a byte stream, batch by batch. A file is written whole or not at all.

    If the block raises, no partial file is left, and an older file of the same name is kept. In csv and tsv, None is an
    empty cell and a list is written as JSON. Rows that `read_rows` read from a csv file are written back unchanged.

    >>> out = io.BytesIO()
    >>> with RowWriter(out, "csv") as writer:
    ...     writer.write({"text": ["late, again"], "label": [None]})
    >>> out.getvalue()
    b'text,label\\n"late, again",\\n'

    Args:
        target: a path, or an open byte stream. A stream is left open and needs a `format`.
        format: one of `FORMATS`. Default: recognized by the ending of the name.
        encoding: encoding of text formats.
        text_column: the one column that txt writes; required if there are several columns.
        private: whether only the owner may read the file. An existing file keeps its mode otherwise.
        formulas: counts or quotes the cells of csv and tsv that a spreadsheet may run. Default: they are written as they are.
        types: types of columns in parquet. Default: those of the values in the first batch.

    Raises:
        UserError: if the target cannot be written, a later batch has other columns (csv, tsv, parquet), or a value does
            not fit the format.
    """

    def __init__(
        self,
        target: Place,
        format: str | None = None,
        encoding: str = "utf-8",
        text_column: str | None = None,
        formulas: Formulas | None = None,
        *,
        private: bool = False,
        types: Mapping[str, pa.DataType] | None = None,
    ) -> None:
        self._path: Path | None = None
        if isinstance(target, str | Path):
            self._path, self.name = Path(target), str(target)
        else:
            self._stream, self.name = target, str(getattr(target, "name", "the output"))
            if format is None:
                raise UserError(f"{self.name}: expected a format, found none; name one of {listed(FORMATS)}")
        check_format(format)
        self.format = format or format_of(self.name)
        self._encoding, self._text_column = encoding, text_column
        self._formulas, self._private, self._types = formulas, private, types

    def __enter__(self) -> Self:
        self._closing = ExitStack()
        if self._path is not None:
            _refuse_no_file(self._path)
            remove_partials_of(self._path)
            # Not recorded in the manifest of a run: people edit these files.
            partial = self._closing.enter_context(written_whole(self._path, private=self._private, recorded=False))
            with writing(self._path):
                self._stream = partial.open("wb")
        self._closing.push(self._close)
        emit = _Encoder(self._stream, self._encoding, self.name)
        self._sink: _Sink
        if self.format == "parquet":
            self._sink = _Parquet(self._stream, self.name, self._types)
        elif self.format == "txt":
            self._sink = _PlainText(emit, self._text_column)
        elif self.format in ("csv", "tsv"):
            self._sink = _Delimited(emit, "," if self.format == "csv" else "\t", self._formulas)
        else:
            self._sink = _Json(emit, array=self.format == "json")
        return self

    def write(self, columns: dict[str, list]) -> None:
        """Append rows, given as column name → values, all of the same length."""
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"expected columns of one length, found {lengths}")
        self._sink.write(columns)

    @property
    def types(self) -> dict[str, pa.DataType]:
        """The types of the columns that are written, if the format is parquet."""
        schema = getattr(self._sink, "schema", None)
        return {} if schema is None else dict(zip(schema.names, schema.types, strict=True))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.__exit__(kind, error, trace)

    def _close(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._sink.close(whole=kind is None)
            self._stream.flush()
        finally:
            if self._path is not None:
                self._stream.close()


def _refuse_no_file(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: expected a file to write, found a folder or a device")
    if not path.parent.is_dir():
        raise UserError(f"{path}: no such folder: {path.parent}; create it first")


class _Sink:
    """Writes batches in one format. `close` writes what follows the last row, if all rows were written (`whole`)."""

    def write(self, columns: dict[str, list]) -> None:
        raise NotImplementedError

    def close(self, whole: bool) -> None:
        pass


class _Encoder:
    """Encodes text and writes it to a byte stream."""

    def __init__(self, stream: IO[bytes], encoding: str, name: str) -> None:
        self.name, self._stream, self._encoding = name, stream, encoding
        codec_of(encoding)
        self._encode = codecs.getincrementalencoder(encoding)().encode

    def __call__(self, text: str) -> None:
        try:
            self._stream.write(self._encode(text))
        except UnicodeEncodeError as error:
            character = error.object[error.start]
            raise UserError(f"{self.name}: {character!r} cannot be written in {self._encoding}; write utf-8") from None


class _Delimited(_Sink):
    def __init__(self, emit: _Encoder, delimiter: str, formulas: Formulas | None) -> None:
        self._emit, self._delimiter, self._header = emit, delimiter, list[str]()
        self._written = formulas.cell if formulas is not None else str

    def write(self, columns: dict[str, list]) -> None:
        block = io.StringIO()
        plain = csv.writer(block, delimiter=self._delimiter, lineterminator="\n")
        # Before Python 3.13, the writer does not quote a lone carriage return, and a reader would end the row there.
        quoted = csv.writer(block, delimiter=self._delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)
        if not self._header:
            self._header = list(columns)
            plain.writerow(map(self._written, self._header))
        check_columns(self._emit.name, self._header, columns)
        for row in zip(*columns.values(), strict=True):
            cells = [self._written(_cell(value)) for value in row]
            (quoted if any("\r" in cell for cell in cells) else plain).writerow(cells)
        self._emit(block.getvalue())


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=_as_text)
    return _as_text(value)


def _as_text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def check_columns(
    name: str, expected: list[str], columns: Mapping[str, Sequence], remedy: str = "write .jsonl instead"
) -> None:
    """Refuse rows with other columns than the rows before them.

    Raises:
        UserError: they have.
    """
    if list(columns) != expected:
        found = f"first {listed(expected)}, then {listed(list(columns))}"
        raise UserError(f"{name}: expected the same columns in all rows, found {found}; {remedy}")


class _Json(_Sink):
    """One JSON object per line, with `array` as a JSON array."""

    def __init__(self, emit: _Encoder, array: bool) -> None:
        self._emit, self._array, self._begun = emit, array, False

    def write(self, columns: dict[str, list]) -> None:
        rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
        lines = [json.dumps(row, ensure_ascii=False, default=_as_text) for row in rows]
        if not self._array:
            self._emit("".join(f"{line}\n" for line in lines))
        elif lines:
            self._emit((",\n" if self._begun else "[\n") + ",\n".join(lines))
            self._begun = True

    def close(self, whole: bool) -> None:
        if whole and self._array:
            self._emit("\n]\n" if self._begun else "[]\n")


class _PlainText(_Sink):
    def __init__(self, emit: _Encoder, column: str | None) -> None:
        self._emit, self._column = emit, column

    def write(self, columns: dict[str, list]) -> None:
        name = self._column or (next(iter(columns)) if len(columns) == 1 else None)
        if name not in columns:
            found = listed(list(columns))
            raise UserError(f"{self._emit.name}: txt holds one column, found {found}; name one of them, or write .csv")
        lines = [_cell(value) for value in columns[name]]
        if broken := [line for line in lines if "\n" in line or "\r" in line]:
            raise UserError(
                f"{self._emit.name}: txt holds one row per line, found {broken[0][:60]!r}; write .csv or .jsonl"
            )
        self._emit("".join(f"{line}\n" for line in lines))


class _Parquet(_Sink):
    """Column types are taken from the first batch, unless they are known. A column without values there holds strings."""

    def __init__(self, stream: IO[bytes], name: str, known: Mapping[str, pa.DataType] | None) -> None:
        self._stream, self._name, self._known = stream, name, known
        self._writer: pq.ParquetWriter | None = None

    def write(self, columns: dict[str, list]) -> None:
        if self._writer is None:
            self.schema = schema_of(columns, self._name, self._known)
            self._writer = pq.ParquetWriter(self._stream, self.schema, compression="zstd")
        self._writer.write_table(table_of(columns, self.schema, self._name))

    def close(self, whole: bool) -> None:
        if whole and self._writer is None:
            self.write({})
        if self._writer:
            self._writer.close()


def schema_of(
    columns: Mapping[str, Sequence],
    name: str,
    known: Mapping[str, pa.DataType] | None = None,
    remedy: str = "write .jsonl instead",
) -> pa.Schema:
    """The types of columns in parquet, by their first rows. A column without values there holds strings.

    >>> schema_of({"n": [1], "m": [None], "day": [3]}, "a.jsonl", {"day": pa.int8()}).types
    [DataType(int64), DataType(string), DataType(int8)]

    Args:
        columns: the first rows, as column name → values.
        name, remedy: where the rows are from or go to, and what helps, for messages.
        known: types of some columns.

    Raises:
        UserError: a column has values of several types, or a number of more than 64 bits.
    """
    types = dict(known or {})
    for column, values in columns.items():
        if column not in types:
            kind = _array(values, None, column, name, remedy).type
            types[column] = pa.string() if pa.types.is_null(kind) else kind
    return pa.schema([(column, types[column]) for column in columns])


def table_of(
    columns: Mapping[str, Sequence], schema: pa.Schema, name: str, remedy: str = "write .jsonl instead"
) -> pa.Table:
    """Rows as a table of a schema that `schema_of` made of earlier ones.

    Raises:
        UserError: the rows have other columns, or a value does not fit the type of its column.
    """
    check_columns(name, schema.names, columns, remedy)
    arrays = [_array(columns[field.name], field.type, field.name, name, remedy) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _array(values: Sequence, kind: pa.DataType | None, column: str, name: str, remedy: str) -> pa.Array:
    if kind in (None, pa.string(), pa.large_string(), pa.string_view()):
        values = [_as_text(value) if isinstance(value, bytes) else value for value in values]  # what was no UTF-8
    try:
        return pa.array(values, kind)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError) as error:  # a number of more than 64 bits overflows
        fixed = "" if kind is None else f", and {kind} is that of the first rows"
        raise UserError(
            f"{name}: parquet needs one type per column: column {column!r}{fixed}: {error}; {remedy}"
        ) from None
