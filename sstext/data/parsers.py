"""The parsers behind `formats.read_rows`. Each turns a stream into rows that know their line in the file.

No parser reads a whole text file into memory or guesses a value. Every error message names the file and the line.
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, TypeVar

from sstext.data.column_names import LABEL_NAMES, TEXT_NAMES
from sstext.data.decoding import WINDOW, Text
from sstext.errors import UserError, listed
from sstext.storage.csv_cells import allow_long_cells

_NOT_BLANK = re.compile(r"\S")


_DECODER = json.JSONDecoder()


#: What may separate cells, the usual first.
_DELIMITERS = (",", ";", "\t", "|")


_SEPARATOR = re.compile(r'"?sep=(\\t|[^"\r\n])"?\s*', re.IGNORECASE)


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
    class_labels: dict[str, list[str]] = field(default_factory=dict)  # class names of the ClassLabel columns
    format: str = ""  # of the file, see `sstext.data.formats.FORMATS`
    file: str = ""  # where the rows are from, if the source is several files

    def __len__(self) -> int:
        return len(self.lines)

    def where(self, i: int) -> str:
        """The place of row `i` of the batch, for messages."""
        return f"{f'{self.file}: ' if self.file else ''}{self.unit} {self.lines[i]}"

    def records(self) -> Iterator[tuple[dict[str, Any], int]]:
        """The rows as column name → value, and the line of each."""
        for i, line in enumerate(self.lines):
            yield {name: values[i] for name, values in self.columns.items()}, line

    def slice(self, begin: int, end: int) -> "Rows":
        """The rows `begin` … `end` − 1 of the batch."""
        columns = {name: values[begin:end] for name, values in self.columns.items()}
        return replace(self, columns=columns, lines=self.lines[begin:end])

    def of(self, records: Sequence[tuple[dict[str, Any], int]]) -> "Rows":
        """A batch of the same file with other rows. A key that a record lacks is None in it."""
        names = dict.fromkeys(name for record, _ in records for name in record) or dict.fromkeys(self.columns)
        columns = {name: [record.get(name) for record, _ in records] for name in names}
        return replace(self, columns=columns, lines=[line for _, line in records])


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
    """Rows of a csv or tsv file with a header. Every cell stays an unchanged string.

    Args:
        delimiter: the usual one of the format. A file that is separated by another one is recognized by its header, or by
            a first line `sep=;` as spreadsheets write it.
    """
    allow_long_cells()
    if told := tells_separator(text.peek()):
        next(text)
        delimiter = told
    else:
        delimiter = delimiter_of(text.peek(), delimiter)
    rows = _delimited_rows(text, delimiter)
    header, line = next(rows, ([], 0))
    check_header(header, f"{text.name}: line {line}")
    for chunk in _chunks(rows, batch_size):
        for cells, line in chunk:
            if len(cells) != len(header):
                mark = {",": "a comma", "\t": "a tab", ";": "a semicolon"}.get(delimiter, repr(delimiter))
                raise UserError(
                    f"{text.name}: line {line}: expected {len(header)} cells ({listed(header)}), found {len(cells)}; "
                    f'put cells that hold {mark} or a line break in quotes ("), or rename the file to .txt if it holds one '
                    "text per line"
                )
        columns = zip(*(cells for cells, _ in chunk), strict=True)
        yield Rows(dict(zip(header, map(list, columns), strict=True)), [line for _, line in chunk])


def tells_separator(line: str) -> str | None:
    """The delimiter that a first line `sep=;` tells, or None."""
    told = _SEPARATOR.fullmatch(line)
    return None if told is None else "\t" if told[1] == "\\t" else told[1]


def delimiter_of(header: str, usual: str) -> str:
    """What separates the cells of a header: the usual delimiter, unless another one finds more names of columns.

    >>> delimiter_of("text;label", ","), delimiter_of("id,text;label", ","), delimiter_of("text", ",")
    (';', ';', ',')
    """

    def fit(delimiter: str) -> tuple[int, bool, int]:
        try:
            cells = next(csv.reader([header.strip("\r\n")], delimiter=delimiter), [])
        except csv.Error:
            return 0, False, 0
        known = sum(cell.strip().lower() in (*TEXT_NAMES, *LABEL_NAMES) for cell in cells)
        return known, delimiter == usual and len(cells) > 1, len(cells)

    return max((usual, *_DELIMITERS), key=fit)


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


def check_header(header: list[str], where: str) -> None:
    """Check the names of columns.

    Raises:
        UserError: a column has no name, or two have the same name.
    """
    for i, name in enumerate(header):
        if not name.strip():
            raise UserError(f"{where}: column {i + 1} has no name; name it or leave it out (pandas: index=False)")
        if name in header[:i]:
            raise UserError(f"{where}: two columns are named {name!r}; rename one of them")


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
            except (RecursionError, ValueError) as error:  # nested too deeply, or a number of thousands of digits
                raise self._problem(str(error), self._at) from None
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
