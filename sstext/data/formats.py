"""Rows in and out of files, exactly as they are: no value is guessed, changed or dropped.

Everything streams in batches, so a file may be larger than memory; every complaint names its file and line.
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


#: Column names that mean "the text", the most telling first; also how a csv header is told from a sentence with commas.
TEXT_NAMES = (
    "text", "sentence", "content", "message", "body", "review", "utterance", "document",
    "comment", "tweet", "post", "description", "question", "query", "ticket", "email", "input", "texts",
)  # fmt: skip


_SUFFIXES = {**{f".{name}": name for name in FORMATS}, ".ndjson": "jsonl"}


_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")


def format_of(path: str | Path) -> str:
    """The format that a file name's ending stands for.

    >>> format_of("tickets.ndjson")
    'jsonl'

    Raises:
        UserError: no ending, one that is not known, or a compressed file.
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

    csv and tsv cells stay strings ("01", "NA" and "" too); blank lines between rows are no rows. JSON keys that a row
    lacks are None; a key that first appears in a later batch is a column from that batch on, so nothing is lost.
    txt is one text a line, in the column "text"; its blank lines are empty texts.

    A stream without a `format` is told by its first line: `{` begins jsonl, `[` a json array, a tab makes it tsv, and a
    cell that is one of `TEXT_NAMES` (in any case) or `text_column` makes it csv; everything else is txt.

    >>> import io
    >>> [rows.columns for rows in read_rows(io.BytesIO(b"text,label\\nhello,01\\n"))]
    [{'text': ['hello'], 'label': ['01']}]

    Args:
        source: a path, or an open byte stream (left open; parquet needs all of a stream that cannot seek in memory).
        format: one of `FORMATS`; by default told by the name's ending, or by the first line of a stream.
        encoding: of text formats; a byte-order mark is dropped.
        batch_size: rows per batch.
        text_column: the name that the caller is going to ask for, only used to recognize a stream's format.

    Raises:
        UserError: missing, empty or unreadable file; ragged row, doubtful header, bad JSON, undecodable byte.
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
            raise UserError(f"{name}: expected at least one row, found none; it is empty or holds only a header")


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
        format = format or _sniffed(text.peek(), text_column)
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


def _sniffed(first_line: str, text_column: str | None) -> str:
    if first_line.lstrip()[:1] in ("{", "["):
        return "jsonl" if first_line.lstrip()[0] == "{" else "json"
    if "\t" in first_line:
        return "tsv"
    cells = [cell.strip() for cell in next(csv.reader([first_line.strip()]), [])]
    return "csv" if any(cell == text_column or cell.lower() in TEXT_NAMES for cell in cells) else "txt"
