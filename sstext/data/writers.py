"""Write rows to files, in every format that `formats.read_rows` can read."""

import codecs
import csv
import io
import json
import os
from pathlib import Path
from typing import IO, Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from sstext.data.formats import FORMATS, Place, check_format, format_of
from sstext.data.parsers import codec_of
from sstext.errors import UserError, listed


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

    Raises:
        UserError: if the target cannot be written, a later batch has other columns (csv, tsv, parquet), or a value does
            not fit the format.
    """

    def __init__(
        self, target: Place, format: str | None = None, encoding: str = "utf-8", text_column: str | None = None
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

    def __enter__(self) -> Self:
        if self._path is not None:
            self._stream = _open_beside(self._path)
        emit = _Encoder(self._stream, self._encoding, self.name)
        self._sink: _Sink
        if self.format == "parquet":
            self._sink = _Parquet(self._stream, self.name)
        elif self.format == "txt":
            self._sink = _PlainText(emit, self._text_column)
        elif self.format in ("csv", "tsv"):
            self._sink = _Delimited(emit, "," if self.format == "csv" else "\t")
        else:
            self._sink = _Json(emit, array=self.format == "json")
        return self

    def write(self, columns: dict[str, list]) -> None:
        """Append rows, given as column name → values, all of the same length."""
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"expected columns of one length, found {lengths}")
        self._sink.write(columns)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        whole = kind is None
        try:
            self._sink.close(whole)
            self._stream.flush()
            if self._path:
                self._stream.close()
            if self._path and whole:
                os.replace(_beside(self._path), self._path)
        finally:
            if self._path:
                _beside(self._path).unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def _open_beside(path: Path) -> IO[bytes]:
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: expected a file to write, found a folder or a device")
    if not path.parent.is_dir():
        raise UserError(f"{path}: no such folder: {path.parent}; create it first")
    try:
        return _beside(path).open("wb")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None


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
    def __init__(self, emit: _Encoder, delimiter: str) -> None:
        self._emit, self._delimiter, self._header = emit, delimiter, list[str]()

    def write(self, columns: dict[str, list]) -> None:
        block = io.StringIO()
        plain = csv.writer(block, delimiter=self._delimiter, lineterminator="\n")
        # Before Python 3.13, the writer does not quote a lone carriage return, and a reader would end the row there.
        quoted = csv.writer(block, delimiter=self._delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)
        if not self._header:
            self._header = list(columns)
            plain.writerow(self._header)
        _check_columns(self._emit.name, self._header, columns)
        for row in zip(*columns.values(), strict=True):
            cells = [_cell(value) for value in row]
            (quoted if any("\r" in cell for cell in cells) else plain).writerow(cells)
        self._emit(block.getvalue())


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict) else str(value)


def _check_columns(name: str, expected: list[str], columns: dict[str, list]) -> None:
    if list(columns) != expected:
        found = f"first {listed(expected)}, then {listed(list(columns))}"
        raise UserError(f"{name}: expected the same columns in all rows, found {found}; write .jsonl instead")


class _Json(_Sink):
    """One JSON object per line, with `array` as a JSON array."""

    def __init__(self, emit: _Encoder, array: bool) -> None:
        self._emit, self._array, self._begun = emit, array, False

    def write(self, columns: dict[str, list]) -> None:
        rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
        lines = [json.dumps(row, ensure_ascii=False, default=str) for row in rows]
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
    """Column types are taken from the first batch. A column without values there holds strings."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream, self._name = stream, name
        self._writer: pq.ParquetWriter | None = None

    def write(self, columns: dict[str, list]) -> None:
        try:
            if self._writer is None:
                table = pa.table(columns)
                types = [pa.string() if pa.types.is_null(kind) else kind for kind in table.schema.types]
                self._schema = pa.schema(list(zip(table.schema.names, types, strict=True)))
                self._writer = pq.ParquetWriter(self._stream, self._schema, compression="zstd")
            _check_columns(self._name, self._schema.names, columns)
            self._writer.write_table(pa.table(columns, schema=self._schema))
        except pa.ArrowException as error:
            raise UserError(f"{self._name}: parquet needs one type per column: {error}; write .jsonl instead") from None

    def close(self, whole: bool) -> None:
        if whole and self._writer is None:
            self.write({})
        if self._writer:
            self._writer.close()
