"""File formats and reading rows from them. No value is guessed, changed or dropped.

Rows are read in batches, so a file may be larger than memory. Every error message names the file and the line.
"""

import csv
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TypeAlias

from sstext.data.parsers import Rows, Text, array_items, delimited, json_lines, parquet, plain, records
from sstext.errors import UserError

Place: TypeAlias = str | Path | IO[bytes]


FORMATS = ("csv", "tsv", "jsonl", "json", "parquet", "txt")


#: Column names that mean "the text", the most specific first. They also tell a csv header from a sentence with commas.
TEXT_NAMES = (
    "text", "sentence", "content", "message", "body", "review", "utterance", "document",
    "comment", "tweet", "post", "description", "question", "query", "ticket", "email", "input", "texts",
)  # fmt: skip


_SUFFIXES = {**{f".{name}": name for name in FORMATS}, ".ndjson": "jsonl"}


_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")


def format_of(path: str | Path) -> str:
    """The format of a file, by the ending of its name.

    >>> format_of("tickets.ndjson")
    'jsonl'

    Raises:
        UserError: if the ending is missing or unknown, or the file is compressed.
    """
    suffix = Path(path).suffix.lower()
    if suffix in _COMPRESSED:
        raise UserError(f"{path}: expected a plain file, found a compressed one ({suffix}); unpack it first")
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

    The format of a stream without `format` is recognized by its first line. It is jsonl if the line begins with `{`, a
    json array if it begins with `[`, and tsv if it contains a tab. It is csv if a cell is `text_column` or one of
    `TEXT_NAMES` (ignoring case). Everything else is txt.

    >>> import io
    >>> [rows.columns for rows in read_rows(io.BytesIO(b"text,label\\nhello,01\\n"))]
    [{'text': ['hello'], 'label': ['01']}]

    Args:
        source: a path, or an open byte stream, which is left open. A parquet stream that cannot seek is read into
            memory.
        format: one of `FORMATS`. Default: recognized by the ending of the name, or by the first line of a stream.
        encoding: encoding of text formats. A byte-order mark is dropped.
        batch_size: rows per batch.
        text_column: name of the text column; only used to recognize the format of a stream.

    Raises:
        UserError: if the file is missing, empty or unreadable, a row has the wrong number of cells, a header is
            doubtful, a line is not valid JSON, or a byte cannot be decoded.
    """
    check_format(format)
    with ExitStack() as opened:
        if isinstance(source, str | Path):
            format, name = format or format_of(source), str(source)
            stream = opened.enter_context(_open_file(Path(source)))
        else:
            stream, name = source, str(getattr(source, "name", "the input"))
        empty = True
        for rows in _read(stream, name, format, encoding, batch_size, text_column):
            empty = False
            yield rows
        if empty:
            raise UserError(f"{name}: expected at least one row, found none; the file is empty or holds only a header")


def check_format(format: str | None) -> None:
    if format is not None and format not in FORMATS:
        raise UserError(f"format: expected one of {', '.join(FORMATS)}; found {format!r}")


def _open_file(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise UserError(f"no such file: {path} (looked for {path.absolute()})") from None
    except IsADirectoryError:
        raise UserError(f"{path}: expected a file, found a folder; name one file in it") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def _read(
    stream: IO[bytes], name: str, format: str | None, encoding: str, batch_size: int, text_column: str | None
) -> Iterator[Rows]:
    if format == "parquet":
        yield from parquet(stream, name, batch_size)
        return
    text = Text(stream, name, encoding)
    try:
        format = format or _recognize_format(text.peek(), text_column)
        if format in ("csv", "tsv"):
            yield from delimited(text, "," if format == "csv" else "\t", batch_size)
        elif format == "txt":
            yield from plain(text, batch_size)
        elif format == "json" and text.first_character() == "[":
            yield from records(array_items(text), "row", batch_size)
        else:
            yield from records(json_lines(text), "line", batch_size)
    finally:
        text.release()


def _recognize_format(first_line: str, text_column: str | None) -> str:
    if first_line.lstrip()[:1] in ("{", "["):
        return "jsonl" if first_line.lstrip()[0] == "{" else "json"
    if "\t" in first_line:
        return "tsv"
    cells = [cell.strip() for cell in next(csv.reader([first_line.strip()]), [])]
    return "csv" if any(cell == text_column or cell.lower() in TEXT_NAMES for cell in cells) else "txt"
