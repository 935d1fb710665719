"""File formats and reading rows from them. No value is guessed, changed or dropped.

Rows are read in batches, so a file may be larger than memory. Every error message names the file and the line.
"""

import csv
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path, PurePath
from typing import IO, TypeAlias

from sstext.data.column_names import TEXT_NAMES
from sstext.data.containers import PACKED, Content, damage_explained, unpacked
from sstext.data.decoding import Text
from sstext.data.parsers import (
    Rows,
    array_items,
    delimited,
    delimiter_of,
    json_lines,
    plain,
    records,
    tells_separator,
)  # fmt: skip
from sstext.data.tables import arrow, parquet, workbook
from sstext.errors import UserError

Place: TypeAlias = str | Path | IO[bytes]


#: Formats that are read and written.
FORMATS = ("csv", "tsv", "jsonl", "json", "parquet", "txt")
#: Formats that are only read.
READ_ONLY = ("xlsx", "arrow")


_SUFFIXES = {**{f".{name}": name for name in FORMATS}, ".ndjson": "jsonl"}
_READ_SUFFIXES = _SUFFIXES | {
    ".xlsx": "xlsx", ".xlsm": "xlsx", ".xls": "xlsx", ".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow",
    ".tab": "tsv", ".text": "txt",
}  # fmt: skip
#: Endings of the names of tables and texts → their format.
READABLE = _READ_SUFFIXES
#: Endings of names that mean a file, even if there is none: no name on the Hub ends so.
FILE_ENDINGS = frozenset({*_READ_SUFFIXES, *PACKED, ".ods", ".pdf", ".doc", ".docx", ".html", ".xml", ".yaml", ".yml"})
_TABLES = {"parquet": parquet, "arrow": arrow, "xlsx": workbook}


def format_of(path: str | Path) -> str:
    """The format in which a file is written, by the ending of its name.

    >>> format_of("tickets.ndjson")
    'jsonl'

    Raises:
        UserError: if the ending is missing or unknown, or means a format that is only read.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _SUFFIXES:
        found = f"the ending {suffix!r}" if suffix else "no ending"
        raise UserError(f"{path}: expected a file name that ends in {', '.join(_SUFFIXES)}; found {found}")
    return _SUFFIXES[suffix]


def read_rows(
    source: Place,
    *,
    format: str | None = None,
    encoding: str = "utf-8",
    batch_size: int = 1000,
    text_column: str | None = None,
) -> Iterator[Rows]:
    """Yield the rows of a file or a byte stream, batch by batch.

    csv and tsv cells stay strings (even "01", "NA" and ""), and blank lines between rows are skipped. A JSON key that
    is missing in a row is None. A key that first appears in a later batch is a column from that batch on, so no value
    is lost. txt holds one text per line, in the column "text", and its blank lines are empty texts.

    The first bytes tell parquet, Arrow, Excel workbooks (their first sheet with rows), and files that are packed by gzip,
    bzip2, xz, zstd or zip (with one file in it), whatever they are called. The ending of the name tells the other formats.

    The format of a stream without `format` is recognized by its first line. It is jsonl if the line begins with `{`, a
    json array if it begins with `[`, and tsv if it contains a tab. It is csv if a cell is `text_column` or one of
    `TEXT_NAMES` (ignoring case). Everything else is txt.

    >>> import io
    >>> [rows.columns for rows in read_rows(io.BytesIO(b"text,label\\nhello,01\\n"))]
    [{'text': ['hello'], 'label': ['01']}]

    Args:
        source: a path, or an open byte stream, which is left open. A parquet stream that cannot seek is read into
            memory.
        format: one of `FORMATS` or `READ_ONLY`. Default: recognized by the ending of the name, or by the first line of a
            stream.
        encoding: encoding of text formats that do not tell their own, see `sstext.data.decoding.encoding_of`.
        batch_size: rows per batch.
        text_column: name of the text column; only used to recognize the format of a stream.

    Raises:
        UserError: if the file is missing, empty or unreadable, a row has the wrong number of cells, a header is
            doubtful, a line is not valid JSON, or a byte cannot be decoded.
    """
    check_format(format, (*FORMATS, *READ_ONLY))
    with ExitStack() as opened:
        if isinstance(source, str | Path):
            name = str(source)
            stream = opened.enter_context(_open_file(Path(source)))
        else:
            stream, name = source, str(getattr(source, "name", "the input"))
        with damage_explained(name):
            content = unpacked(stream, name, opened)
            if content.format is None and format is None and isinstance(source, str | Path):
                format = _format_by_name(content)
            elif content.format is not None:
                format = content.format
            empty = True
            for rows in _read(content, format, encoding, batch_size, text_column):
                empty = False
                yield rows
        if empty:
            raise UserError(f"{name}: expected at least one row, found none; it is empty or holds only a header")


def check_format(format: str | None, known: tuple[str, ...] = FORMATS) -> None:
    if format is not None and format not in known:
        raise UserError(f"format: expected one of {', '.join(known)}; found {format!r}")


def _format_by_name(content: Content) -> str | None:
    """The format that the name of a file tells. None if it was packed without one: then its first line tells it."""
    suffix = PurePath(content.inner).suffix.lower()
    format = _READ_SUFFIXES.get(suffix)
    if format in _TABLES and content.head():  # the first bytes of such a file would have told it
        text = b"\0" not in content.head()
        remedy = "it looks like text; rename it to .csv or .tsv" if text else "it is damaged, or something else"
        raise UserError(f"{content.name}: not a readable {format} file, although its name ends in {suffix}; {remedy}")
    if format is None and content.inner == content.name:
        found = f"the ending {suffix!r}" if suffix else "no ending"
        known = f"{', '.join(_READ_SUFFIXES)} or {', '.join(PACKED[:-1])}"
        raise UserError(f"{content.name}: expected a file name that ends in {known}; found {found}")
    return format


def _open_file(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise UserError(f"no such file: {path} (looked for {path.absolute()})") from None
    except IsADirectoryError:
        raise UserError(f"{path}: expected a file, found a folder; name one file in it") from None
    except (OSError, ValueError) as error:  # a name with a character 0 is a ValueError
        raise UserError(f"{path}: cannot be read ({getattr(error, 'strerror', error)})") from None


def _read(
    content: Content, format: str | None, encoding: str, batch_size: int, text_column: str | None
) -> Iterator[Rows]:
    if format in _TABLES:
        for rows in _TABLES[format](content.stream, content.name, batch_size):
            yield replace(rows, format=format)
        return
    text = Text(content.stream, content.name, encoding)
    try:
        format = format or _recognize_format(text.peek(), text_column)
        if format in ("csv", "tsv"):
            batches = delimited(text, "," if format == "csv" else "\t", batch_size)
        elif format == "txt":
            batches = plain(text, batch_size)
        elif format == "json" and text.first_character() == "[":
            batches = records(array_items(text), "row", batch_size)
        else:
            batches = records(json_lines(text), "line", batch_size)
        for rows in batches:
            yield replace(rows, format=format)
    finally:
        text.release()


def _recognize_format(first_line: str, text_column: str | None) -> str:
    if first_line.lstrip()[:1] in ("{", "["):
        return "jsonl" if first_line.lstrip()[0] == "{" else "json"
    if "\t" in first_line:
        return "tsv"
    if tells_separator(first_line):
        return "csv"
    cells = [
        cell.strip() for cell in next(csv.reader([first_line.strip()], delimiter=delimiter_of(first_line, ",")), [])
    ]
    return "csv" if any(cell == text_column or cell.lower() in TEXT_NAMES for cell in cells) else "txt"
