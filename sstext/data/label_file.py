"""A file that a person labels, row by row. Every label is on disk before the next text is shown."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sstext.data.columns import NoSuchColumnError, find_column, text_of
from sstext.data.containers import damage_explained, unpacked
from sstext.data.decoding import codec_of, encoding_of
from sstext.data.exports.export import REASON
from sstext.data.formats import format_of, read_rows
from sstext.data.labels import similar_class
from sstext.data.writers import RowWriter
from sstext.errors import UserError


class MisspelledError(UserError):
    """A new name is much like that of a class."""


@dataclass(frozen=True)
class Shown:
    """The text that is to be labeled next.

    Attributes:
        row: its position in the file, from 0.
        guess: the class that a model predicts, or "".
        reason: why it was chosen, or "".
    """

    row: int
    text: str
    guess: str
    reason: str


class LabelFile:
    """The rows of a file with a column of labels, and what the person has done.

    Every change is written to the file at once, whole or not at all. Skipped texts come again at the end, and in the next
    session.

    Args:
        path: a csv, tsv, jsonl, json or parquet file with texts and a column of labels, which may be empty.
        classes: names of classes. Those that occur in the file are known in any case.
        text_column, label_column, encoding: see `sstext.RunConfig`. The file keeps the encoding that it has.

    Raises:
        UserError: the file cannot be read, has no text, or has no column of labels.
    """

    def __init__(
        self, path: str | Path, classes: Sequence[str] = (), *, text_column: str | None = None,
        label_column: str | None = None, encoding: str = "utf-8",
    ) -> None:  # fmt: skip
        self.path = Path(path)
        if not self.path.is_file():
            raise UserError(f"no such file: {path} (looked for {self.path.absolute()}); `sstext suggest` writes one")
        if format_of(self.path) == "txt":
            raise UserError(f"{path}: a txt file has no column for labels; `sstext suggest {path}` writes a csv file")
        self._encoding = _encoding_of(self.path, encoding)
        self._columns = _all_rows(self.path, self._encoding)
        names, where = list(self._columns), str(path)
        self._text = find_column(names, "text", text_column, where)
        try:
            self._label = find_column(names, "label", label_column, where)
        except NoSuchColumnError as error:
            raise UserError(f"{error}, add an empty column 'label', or let `sstext suggest` make the file") from None
        self._texts = [text_of(value, f"{where}: row {i}") for i, value in enumerate(self._columns[self._text], 1)]
        self.labels, self._guesses, self._reasons = (
            [
                _plain(value, f"{where}: row {i}")
                for i, value in enumerate(self._columns.get(name, [None] * len(self._texts)), 1)
            ]
            for name in (self._label, "predicted_label", REASON)
        )
        known = dict.fromkeys([*classes, *sorted({*self.labels, *self._guesses} - {""})])
        self._given = [name for name in (one.strip() for one in known) if name]
        self._added: list[str] = []
        if not any(text.strip() for text in self._texts):
            raise UserError(f"{path}: expected texts in column {self._text!r}, found only empty ones")
        self._skipped: list[int] = []
        self._done: list[tuple[int, str | None]] = []  # row and the label that it had before; None if it was skipped
        self._state = self._on_disk()

    @property
    def classes(self) -> list[str]:
        """Names of the classes: those that were known, and those that labels have added."""
        return [*self._given, *self._added]

    @property
    def total(self) -> int:
        """Number of texts."""
        return sum(bool(text.strip()) for text in self._texts)

    @property
    def done(self) -> int:
        """Number of texts that have a label."""
        return sum(bool(label) and bool(text.strip()) for label, text in zip(self.labels, self._texts, strict=True))

    def current(self) -> Shown | None:
        """The first text without a label; skipped texts come last. None if all are labeled."""
        open_rows = [row for row, label in enumerate(self.labels) if not label and self._texts[row].strip()]
        if not open_rows:
            return None
        later = {row: place for place, row in enumerate(self._skipped)}
        row = min(open_rows, key=lambda one: (later.get(one, -1), one))
        return Shown(row, self._texts[row], self._guesses[row], self._reasons[row])

    def resembled(self, name: str) -> str | None:
        """The class that a new name is much like, because it may be misspelled. None if the name is a class, or like none."""
        return None if name in self.classes else similar_class(name, self.classes)

    def give(self, row: int, label: str, *, new: bool = True) -> None:
        """Give a row a label, and write the file. A new name becomes a class.

        Args:
            new: whether a name that is much like that of a class is a new class, too.

        Raises:
            MisspelledError: a name that may be misspelled.
            UserError: no such row, an empty label, or another program has changed the file.
        """
        label = label.strip()
        if not new and (like := self.resembled(label)) is not None:
            raise MisspelledError(
                f"no class is named {label!r}; did you mean {like!r}? To add a new class, type {label!r} again"
            )
        if not label or "\n" in label or "\r" in label:
            raise UserError(f"label: expected the name of a class in one line, found {label!r}")
        self._check(row)
        before = self.labels[row]
        self._write(row, label)
        self._done.append((row, before))
        if label not in self.classes:
            self._added.append(label)

    def skip(self, row: int) -> None:
        """Leave a row for later.

        Raises:
            UserError: no such row.
        """
        self._check(row)
        self._skipped = [one for one in self._skipped if one != row] + [row]
        self._done.append((row, None))

    def undo(self) -> bool:
        """Take the last label or skip back, and write the file. Returns whether there was one."""
        if not self._done:
            return False
        row, before = self._done[-1]
        if before is not None:
            self._write(row, before)
            self._added = [name for name in self._added if name in self.labels]
        self._done.pop()
        self._skipped = [one for one in self._skipped if one != row]
        return True

    def _check(self, row: int) -> None:
        if not 0 <= row < len(self.labels):
            raise UserError(f"row: expected one of {len(self.labels)} rows, found {row}")

    def _write(self, row: int, label: str) -> None:
        """Write the file with another label of one row. In memory, it is changed only if that succeeds."""
        if self._on_disk() != self._state:
            raise UserError(f"{self.path}: another program has changed the file; start again, so that nothing is lost")
        values = list(self._columns[self._label])
        values[row] = label or None
        with RowWriter(self.path, encoding=self._encoding) as writer:
            writer.write(self._columns | {self._label: values})
        self._columns[self._label], self.labels[row] = values, label
        self._state = self._on_disk()

    def _on_disk(self) -> tuple[int, int] | None:
        if not self.path.exists():
            return None
        state = self.path.stat()
        return state.st_mtime_ns, state.st_size


def _encoding_of(path: Path, wanted: str) -> str:
    """The encoding in which a file is read and written back. All of its bytes tell it, not only the first ones."""
    codec_of(wanted)
    with path.open("rb") as stream, ExitStack() as opened, damage_explained(str(path)):
        content = unpacked(stream, str(path), opened)
        return wanted if content.format is not None else encoding_of(content.stream.read(), wanted)


def _all_rows(path: Path, encoding: str) -> dict[str, list]:
    columns: dict[str, list] = {}
    count = 0
    for rows in read_rows(path, encoding=encoding):
        for name, values in rows.columns.items():
            columns.setdefault(name, [None] * count).extend(values)
        count += len(rows)
        for values in columns.values():
            values.extend([None] * (count - len(values)))
    return columns


def _plain(value: Any, where: str) -> str:
    """A cell as the name of a class; "" if it is empty."""
    if isinstance(value, list | dict):
        raise UserError(f"{where}: expected one label per row, found {str(value)[:60]}; keep one label per row")
    return "" if value is None or value != value else str(value).strip()
