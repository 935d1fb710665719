"""The parsers behind `formats.read_rows`. Each turns a stream into rows that know their line in the file.

No parser reads a whole text file into memory or guesses a value. Every error message names the file and the line.
"""

import codecs
import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from sstext.errors import UserError, listed

WINDOW = 1 << 16  # characters that are read at once


_LONGEST_CELL = 1 << 27  # characters; a longer cell means that a quote was never closed


_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")  # how errors="surrogateescape" represents a byte that cannot be decoded


_NOT_BLANK = re.compile(r"\S")


_DECODER = json.JSONDecoder()


_REMEDY = "give the encoding of the file, for example `--encoding cp1252` or `--encoding utf-16`"


_T = TypeVar("_T")


@dataclass
class Rows:
    """A batch of rows: column name → values, and the line where each row begins.

    >>> rows = Rows({"text": ["late", "broken"]}, lines=[2, 3])
    >>> len(rows), rows.where(1)
    (2, 'line 3')
    """

    columns: dict[str, list]
    lines: list[int]  # 1-based: the line where the row starts, or the number of the row if the format has no lines
    unit: str = "line"

    def __len__(self) -> int:
        return len(self.lines)

    def where(self, i: int) -> str:
        """The place of row `i` of the batch, for messages."""
        return f"{self.unit} {self.lines[i]}"


def codec_of(encoding: str) -> codecs.CodecInfo:
    """The text codec of this name.

    Raises:
        UserError: if there is no such codec.
    """
    try:
        "".encode(encoding)
        return codecs.lookup(encoding)
    except LookupError:
        raise UserError(f"--encoding: expected a known encoding such as utf-8 or cp1252, found {encoding!r}") from None


class Text:
    """The decoded and checked lines of a byte stream, with their line ends. `line` numbers the current line."""

    def __init__(self, stream: IO[bytes], name: str, encoding: str) -> None:
        self.name, self.line = name, 0
        self._encoding = encoding
        self._ahead = ""
        # newline="" keeps the line ends inside quoted cells; with surrogateescape, the message can name the bad byte.
        codec = codec_of(encoding).name
        codec = "utf-8-sig" if codec == "utf-8" else codec
        self._file = io.TextIOWrapper(stream, codec, errors="surrogateescape", newline="")

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line, self._ahead = self._ahead, ""
        if not line.endswith(("\n", "\r")):
            line += self._decode(self._file.readline)
        if not line:
            raise StopIteration
        self._check(line)
        self.line += 1
        return line

    def peek(self) -> str:
        """The next line, or the beginning of a very long line, without consuming it."""
        self._ahead = self._ahead or self._decode(lambda: self._file.readline(WINDOW))
        return self._ahead

    def first_character(self) -> str:
        """The next character that is not blank, without consuming it ("" at the end). Skips blank lines before it."""
        while self.peek().isspace():
            next(self)
        return self.peek().lstrip()[:1]

    def read(self, size: int) -> str:
        """Read the text that was peeked at and about `size` more characters. `line` advances by its line ends."""
        part, self._ahead = self._ahead + self._decode(lambda: self._file.read(size)), ""
        self._check(part)
        self.line += part.count("\n")
        return part

    def release(self) -> None:
        """Detach the stream without closing it."""
        self._file.detach()

    def _decode(self, read: Callable[[], str]) -> str:
        try:
            return read()
        except UnicodeError as error:
            raise UserError(f"{self.name}: line {self.line + 1}: not {self._encoding} ({error}); {_REMEDY}") from None

    def _check(self, part: str) -> None:
        found = None if part.isascii() else _ESCAPED_BYTE.search(part)
        if found:
            line = self.line + 1 + part.count("\n", 0, found.start())
            byte = f"byte 0x{ord(found[0]) - 0xDC00:02x}"
            raise UserError(f"{self.name}: line {line}: expected {self._encoding}, found {byte}; {_REMEDY}")


def _chunks(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def plain(text: Text, batch_size: int) -> Iterator[Rows]:
    """Rows of a txt file: one text per line, including blank lines."""
    for lines in _chunks(text, batch_size):
        first = text.line - len(lines) + 1
        yield Rows({"text": [line.rstrip("\r\n") for line in lines]}, list(range(first, text.line + 1)))


def delimited(text: Text, delimiter: str, batch_size: int) -> Iterator[Rows]:
    """Rows of a csv or tsv file with a header. Every cell stays an unchanged string."""
    csv.field_size_limit(_LONGEST_CELL)
    rows = _delimited_rows(text, delimiter)
    header, line = next(rows, ([], 0))
    _check_header(header, f"{text.name}: line {line}", delimiter)
    for chunk in _chunks(rows, batch_size):
        for cells, line in chunk:
            if len(cells) != len(header):
                mark = "comma" if delimiter == "," else "tab"
                raise UserError(
                    f"{text.name}: line {line}: expected {len(header)} cells ({listed(header)}), found {len(cells)}; "
                    f'put cells that hold a {mark} or a line break in quotes ("), or rename the file to .txt if it holds one '
                    "text per line"
                )
        columns = zip(*(cells for cells, _ in chunk), strict=True)
        yield Rows(dict(zip(header, map(list, columns), strict=True)), [line for _, line in chunk])


def _delimited_rows(text: Text, delimiter: str) -> Iterator[tuple[list[str], int]]:
    # strict, because the lenient reader silently drops the quotes of `"so" they said`.
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    while True:
        line = text.line + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(
                f"{text.name}: line {line}: {error}; double the quotes inside a quoted cell, and close every quote"
            ) from None
        if cells:
            yield cells, line


def _check_header(header: list[str], where: str, delimiter: str | None = None) -> None:
    for i, name in enumerate(header):
        if not name.strip():
            raise UserError(f"{where}: column {i + 1} has no name; name it or leave it out (pandas: index=False)")
        if name in header[:i]:
            raise UserError(f"{where}: two columns are named {name!r}; rename one of them")
    other = next((mark for mark in (";", "\t", "|") if len(header) == 1 and mark in header[0]), None)
    if delimiter and other:
        raise UserError(
            f"{where}: expected columns separated by {delimiter!r}, found {header[0]!r}, which looks "
            f"{other!r}-separated; save it with commas as .csv or with tabs as .tsv"
        )


def records(items: Iterator[tuple[dict, int]], unit: str, batch_size: int) -> Iterator[Rows]:
    """Numbered JSON objects as columns. A key is a column from the first batch that contains it."""
    names: dict[str, None] = {}  # every key so far, in order of appearance
    for chunk in _chunks(items, batch_size):
        for record, _ in chunk:
            names.update(dict.fromkeys(record))
        columns = {name: [record.get(name) for record, _ in chunk] for name in names}
        yield Rows(columns, [line for _, line in chunk], unit)


def json_lines(text: Text) -> Iterator[tuple[dict, int]]:
    """The JSON objects of a file with one object per line, and the line of each. Blank lines are skipped."""
    for line in text:
        if line.isspace():
            continue
        where = f"{text.name}: line {text.line}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            problem, found = getattr(error, "msg", error), line[:60].strip()
            raise UserError(f"{where}: expected one JSON object per line, found {found!r} ({problem})") from None
        yield _record(record, where, line), text.line


class _Window:
    """A moving window over JSON text. Text that was read is dropped, so no array is ever held in memory as a whole."""

    def __init__(self, text: Text) -> None:
        self._text, self._part, self._at, self._line = text, "", 0, text.line + 1

    def next_character(self) -> str:
        """The next character that is not blank, without consuming it ("" at the end)."""
        while (found := _NOT_BLANK.search(self._part, self._at)) is None:
            self._at = len(self._part)
            if not self._refill():
                return ""
        self._at = found.start()
        return found[0]

    def take(self, expected: str) -> None:
        """Consume the one character that is allowed here."""
        found = self.next_character()
        if found != expected:
            raise self._problem(f"expected {expected!r}, found {repr(found) if found else 'the end'}", self._at)
        self._at += 1

    def value(self) -> tuple[Any, str]:
        """The next JSON value, and the text that it was decoded from."""
        self.next_character()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._part, self._at)
            except json.JSONDecodeError as error:
                # If the window cuts a value off, decoding fails near the window's end, or because a string has no end.
                cut_off = error.pos > len(self._part) - 16 or error.msg.startswith("Unterminated")
                if not (cut_off and self._refill()):
                    raise self._problem(error.msg, error.pos) from None
            else:
                raw, self._at = self._part[self._at : end], end
                return value, raw

    def _refill(self) -> bool:
        more = self._text.read(max(WINDOW, len(self._part) - self._at))
        self._line += self._part.count("\n", 0, self._at)
        self._part, self._at = self._part[self._at :] + more, 0
        return bool(more)

    def _problem(self, what: str, position: int) -> UserError:
        line = self._line + self._part.count("\n", 0, position)
        return UserError(f"{self._text.name}: line {line}: not a JSON array of objects: {what}")


def array_items(text: Text) -> Iterator[tuple[dict, int]]:
    """The objects of a JSON array, and the number of each."""
    window, row = _Window(text), 0
    window.take("[")
    while window.next_character() != "]":
        if row:
            window.take(",")
        value, raw = window.value()
        row += 1
        yield _record(value, f"{text.name}: row {row}", raw), row


def _record(record: Any, where: str, raw: str) -> dict:
    if not isinstance(record, dict):
        raise UserError(f'{where}: expected a JSON object such as {{"text": …}}, found {type(record).__name__}')
    if "\\ud" in raw or "\\uD" in raw:
        try:
            json.dumps(record, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise UserError(
                f"{where}: found an unpaired surrogate (\\ud8xx … \\udfxx); write \\ufffd instead"
            ) from None
    return record


def parquet(stream: IO[bytes], name: str, batch_size: int) -> Iterator[Rows]:
    """Rows of a parquet file as Python values."""
    whole = stream if stream.seekable() else io.BytesIO(stream.read())
    try:
        file = pq.ParquetFile(whole)
        _check_header(file.schema_arrow.names, name)
        first = 1
        for batch in file.iter_batches(batch_size):
            columns = dict(zip(batch.schema.names, (column.to_pylist() for column in batch.columns), strict=True))
            yield Rows(columns, list(range(first, first + batch.num_rows)), "row")
            first += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{name}: not a readable parquet file ({error})") from None
