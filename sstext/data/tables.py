"""Rows of files that are no text: parquet, Arrow, and Excel workbooks."""

import datetime
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from sstext.data.parsers import Rows, check_header
from sstext.errors import UserError

#: How pandas names the column of its index.
_INDEX = "__index_level_"


def parquet(stream: IO[bytes], name: str, batch_size: int) -> Iterator[Rows]:
    """Rows of a parquet file as Python values."""
    whole = stream if stream.seekable() else io.BytesIO(stream.read())
    try:
        file = pq.ParquetFile(whole)
        yield from _arrow_rows(file.schema_arrow, file.iter_batches(batch_size), name, batch_size)
    except UserError:
        raise
    except (pa.ArrowException, ArithmeticError, OSError, ValueError) as error:  # ValueError: a text that is not UTF-8
        raise UserError(f"{name}: not a readable parquet file ({error})") from None


def parquet_batches(
    path: str, begin: int, rows: int, batch_size: int, types: Mapping[str, pa.DataType] | None = None
) -> Iterator[pa.Table]:
    """Rows `begin` … `begin + rows` of a parquet file, with the types of its columns. Other row groups are not read.

    Args:
        types: types that columns get instead, see `types_of`.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with pq.ParquetFile(path) as file:
            check_header(file.schema_arrow.names, path)
            kept = [field for field in file.schema_arrow if not field.name.startswith(_INDEX)]
            names = [field.name for field in kept]
            schema = pa.schema([field.with_type((types or {}).get(field.name, field.type)) for field in kept])
            groups, skipped, seen = list[int](), 0, 0
            for number in range(file.num_row_groups):
                size = file.metadata.row_group(number).num_rows
                if seen + size <= begin:
                    skipped += size
                elif seen < begin + rows:
                    groups.append(number)
                seen += size
            at = skipped  # the first row of the next batch
            for batch in file.iter_batches(batch_size, row_groups=groups):
                first, end = max(0, begin - at), min(batch.num_rows, begin + rows - at)
                at += batch.num_rows
                if first < end:
                    table = pa.Table.from_batches([batch.slice(first, end - first)], schema=file.schema_arrow)
                    yield table.select(names).cast(schema)
    except (pa.ArrowException, ArithmeticError, OSError) as error:
        raise UserError(f"{path}: not a readable parquet file ({error})") from None


def types_of(files: Sequence[str | Path], remedy: str = "convert the column") -> dict[str, pa.DataType]:
    """The types of the columns of parquet files whose rows become one table. A column without values holds strings.

    Columns of extension types are left out, because Arrow cannot make all of these from Python values.

    Args:
        remedy: what helps where types do not go together, for messages.

    Raises:
        UserError: a file cannot be read, or a column has types in two files that do not go together.
    """
    found = pa.schema([])
    for file in files:
        try:
            types = {field.name: field.type for field in pq.read_schema(file)}
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{file}: not a readable parquet file ({error})") from None
        try:
            found = pa.unify_schemas([found, pa.schema(types)], promote_options="permissive")
        except pa.ArrowException as error:
            raise UserError(
                f"{file}: expected the types of the files before it, because the shards are one table: {error}; {remedy}"
            ) from None
    return {
        field.name: pa.string() if pa.types.is_null(field.type) else field.type
        for field in found
        if not isinstance(field.type, pa.BaseExtensionType)
    }


def arrow(stream: IO[bytes], name: str, batch_size: int) -> Iterator[Rows]:
    """Rows of an Arrow file: the file format (also .feather), or the stream format in which `datasets` caches."""
    whole = stream if stream.seekable() else io.BytesIO(stream.read())
    try:
        begin = whole.read(6)
        whole.seek(0)
        if begin == b"ARROW1":
            file = pa.ipc.open_file(whole)
            batches: Iterator[pa.RecordBatch] = map(file.get_batch, range(file.num_record_batches))
            yield from _arrow_rows(file.schema, _validated(batches), name, batch_size)
        else:
            reader = pa.ipc.open_stream(whole)
            yield from _arrow_rows(reader.schema, _validated(iter(reader)), name, batch_size)
    except UserError:
        raise
    except (pa.ArrowException, ArithmeticError, OSError, ValueError) as error:  # ValueError: a text that is not UTF-8
        raise UserError(f"{name}: not a readable Arrow file ({error})") from None
    except MemoryError:  # a damaged file may ask for any size
        raise UserError(f"{name}: not a readable Arrow file, or a batch of it does not fit into memory") from None


def _validated(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Batches whose values are all inside of them. Readers do not check this, and a damaged file would end the process."""
    for batch in batches:
        batch.validate(full=True)
        yield batch


def arrow_table(table: pa.Table, name: str, batch_size: int) -> Iterator[Rows]:
    """Rows of an Arrow table in memory."""
    return _arrow_rows(table.schema, iter(table.to_batches(batch_size)), name, batch_size)


def _arrow_rows(schema: pa.Schema, batches: Iterator[pa.RecordBatch], name: str, batch_size: int) -> Iterator[Rows]:
    check_header(schema.names, name)
    names = [column for column in schema.names if not column.startswith(_INDEX)]
    class_labels, first = class_labels_of(schema), 1
    for batch in batches:
        for begin in range(0, batch.num_rows, batch_size):
            part = batch.slice(begin, batch_size)
            columns = {column: _values(part.column(column)) for column in names}
            yield Rows(columns, list(range(first, first + part.num_rows)), "row", class_labels)
            first += part.num_rows


def _values(column: pa.Array) -> list:
    """The values of a column. Texts may be stored as bytes; what is no UTF-8 stays as it is."""
    values = column.to_pylist()
    return [_decoded(value) for value in values] if any(isinstance(value, bytes) for value in values) else values


def _decoded(value: Any) -> Any:
    try:
        return value.decode("utf-8") if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        return value


def class_labels_of(schema: pa.Schema) -> dict[str, list[str]]:
    """Class names of the ClassLabel columns, which `datasets` writes beside the schema of its files."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        found = {name: kind["names"] for name, kind in features.items() if kind.get("_type") == "ClassLabel"}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
    return {name: [str(label).strip() for label in names] for name, names in found.items()}


def workbook(stream: IO[bytes], name: str, batch_size: int) -> Iterator[Rows]:
    """Rows of the first sheet with rows of an Excel workbook. The first row that is not empty is the header."""
    try:
        import openpyxl
    except ImportError:
        raise UserError(
            f"{name}: an Excel workbook, and openpyxl is not installed; run pip install openpyxl (or the extra `excel` of "
            "sstext), or save it as CSV UTF-8"
        ) from None
    whole = stream if stream.seekable() else io.BytesIO(stream.read())
    try:
        book = openpyxl.load_workbook(whole, read_only=True, data_only=True)
        for sheet in book.worksheets:
            sheet.reset_dimensions()  # some programs write wrong ones
            rows = (
                (cells, number)
                for number, cells in enumerate(sheet.iter_rows(values_only=True), 1)
                if any(map(_has, cells))
            )
            header = next(rows, None)
            if header is None:
                continue
            where = f"{name} (sheet {sheet.title!r})" if len(book.worksheets) > 1 else name
            yield from _sheet_rows(header, rows, where, batch_size)
            return
    except UserError:
        raise
    except Exception as error:  # a damaged workbook raises what its zip, its XML or its numbers raise
        raise UserError(f"{name}: not a readable Excel workbook ({error}); save it as CSV UTF-8") from None


def _has(cell: Any) -> bool:
    return cell is not None and str(cell).strip() != ""


def _sheet_rows(
    header: tuple[tuple, int], rows: Iterator[tuple[tuple, int]], name: str, batch_size: int
) -> Iterator[Rows]:
    names = [str(cell).strip() if _has(cell) else "" for cell in header[0]]
    while names and not names[-1]:
        names.pop()
    check_header(names, f"{name}: row {header[1]}")
    while chunk := list(islice(rows, batch_size)):
        width = len(names)
        cells = [[_value(cell) for cell in (*row[:width], *[None] * (width - len(row)))] for row, _ in chunk]
        columns = dict(zip(names, map(list, zip(*cells, strict=True)), strict=True))
        yield Rows(columns, [number for _, number in chunk], "row")


def _value(cell: Any) -> Any:
    return cell.isoformat() if isinstance(cell, datetime.date | datetime.time) else cell
