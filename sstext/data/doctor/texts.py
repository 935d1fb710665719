"""All rows of the checked sources: hashes and traits in arrays, and the texts in a temporary file.

The arrays take about 170 bytes a row, and the checks some hundred more, however long the texts are.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from sstext.config.spelling import spelled
from sstext.data.columns import find_column, text_of
from sstext.data.doctor.finding import WRITTEN, Place
from sstext.data.doctor.minhash import bands, normalized
from sstext.data.doctor.traits import script_of, traits_of
from sstext.data.exports.export import ANNOTATOR
from sstext.data.labels import NoLabel, as_class, label_of, one_spelling, unlabeled_note
from sstext.data.parsers import Rows
from sstext.data.sources import Source, Table, open_table
from sstext.errors import UserError
from sstext.progress import Tick

#: What rows are used for. A row of "data" is labeled or unlabeled.
ROLES = ("labeled", "unlabeled", "dev", "test")
LABELED, UNLABELED, DEV, TEST = range(len(ROLES))
#: Characters that begin or end several texts, and the shortest text that is looked at.
EDGE, EDGED = 32, 64

_TYPES = {
    "line": np.int64, "exact": np.uint64, "loose": np.uint64, "begin": np.uint64, "end": np.uint64, "size": np.int32,
    "loose_size": np.int32, "words": np.int32, "traits": np.uint8, "script": np.uint8, "label": np.int32, "by": np.int32,
}  # fmt: skip


@dataclass(frozen=True)
class Given:
    """A source and what it is used for: "data", "unlabeled", "dev" or "test".

    Attributes:
        name: for messages. Default: that of the source.
    """

    role: str
    source: Source
    name: str | None = None


@dataclass
class Part:
    """The rows of one source.

    Attributes:
        given: the source.
        name: for messages.
        unit: of the places of its rows, "line" or "row".
        text, label: its columns; the label is None if it has none.
        classes: names of a ClassLabel column.
        rows: their range among all rows.
        first: the first rows, for doubts about columns.
        notes: what was read.
    """

    given: Given
    name: str
    unit: str = "line"
    text: str = ""
    label: str | None = None
    classes: list[str] = field(default_factory=list)
    rows: range = range(0)
    first: Rows = field(default_factory=lambda: Rows({}, []))
    notes: list[str] = field(default_factory=list)


@dataclass
class Columns:
    """Which columns hold texts and labels, and what means "no label". See `sstext.RunConfig`."""

    text_column: str | None = None
    label_column: str | None = None
    encoding: str = "utf-8"
    unlabeled_value: Any = None


class Texts:
    """All rows. Attributes of `_TYPES` are arrays with a value a row.

    Attributes:
        parts: the sources.
        role: number in `ROLES` of each row.
        source: number of the source of each row.
        label: number in `classes` of each row, or −1.
        classes: names of all labels.
        people: names of annotators; `by` is a number in it, or −1.
        scripts: names of scripts; `script` is a number in it.
        bands: hashes of near duplicates, see `sstext.data.doctor.minhash`.
    """

    line: NDArray[np.int64]
    exact: NDArray[np.uint64]
    loose: NDArray[np.uint64]
    begin: NDArray[np.uint64]
    end: NDArray[np.uint64]
    size: NDArray[np.int32]
    loose_size: NDArray[np.int32]
    words: NDArray[np.int32]
    traits: NDArray[np.uint8]
    script: NDArray[np.uint8]
    label: NDArray[np.int32]
    by: NDArray[np.int32]
    bands: NDArray[np.uint64]

    def __init__(self, given: Sequence[Given], columns: Columns, folder: Path, tick: Tick | None = None) -> None:
        """Read all sources.

        Args:
            folder: for the file of texts.
            tick: called with the number of rows of each batch.

        Raises:
            UserError: a source that cannot be read, or no column of texts in it.
        """
        self.parts: list[Part] = []
        self._names, self._people, self._scripts = dict[str, int](), dict[str, int](), {"": 0}
        self._found: dict[str, list[np.ndarray]] = {name: [] for name in (*_TYPES, "bands")}
        self._starts = [0]
        file = folder / "texts.arrow"
        schema = pa.schema([("text", pa.large_string())])
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for one in given:
                self.parts.append(self._read(one, columns, writer, tick))
        wanted = columns.label_column
        if wanted is not None and not any(part.label for part in self.parts):
            raise UserError(f"label_column: no source has a column {wanted!r}; name another one, or leave it out")
        self._chunks = pa.ipc.open_file(pa.memory_map(str(file))).read_all()["text"].chunks
        for name in list(self._found):
            setattr(self, name, np.concatenate(self._found.pop(name)))
        self.people, self.scripts = list(self._people), list(self._scripts)
        self.source = np.repeat(np.arange(len(self.parts)), [len(part.rows) for part in self.parts])
        self.role = np.empty(len(self.source), dtype=np.int8)
        self.classes = self._label_rows(columns.unlabeled_value)

    def __len__(self) -> int:
        return len(self.line)

    def text(self, row: int) -> str:
        """The text of a row."""
        chunk = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._chunks[chunk][row - self._starts[chunk]].as_py()

    def place(self, row: int) -> Place:
        """Where a row is, with its text and label."""
        part, label, by = self.parts[self.source[row]], int(self.label[row]), int(self.by[row])
        return Place(
            part.name, f"{part.unit} {self.line[row]}", self.text(row)[:WRITTEN],
            self.classes[label] if label >= 0 else None, self.people[by] if by >= 0 else None,
        )  # fmt: skip

    def of(self, role: int) -> NDArray[np.int64]:
        """The rows of a role that have a text."""
        return np.flatnonzero((self.role == role) & (self.size > 0))

    def counts(self, rows: NDArray) -> Counter[str]:
        """Class → number of these rows, the classes in their order."""
        numbers = np.bincount(self.label[rows], minlength=len(self.classes))
        return Counter({self.classes[number]: int(count) for number, count in enumerate(numbers) if count})

    def _read(self, given: Given, columns: Columns, writer: Any, tick: Tick | None) -> Part:
        table = open_table(given.source, columns.encoding, "test" if given.role == "test" else "train")
        part, start = Part(given, given.name or table.name), self._starts[-1]
        for rows in table.batches:
            if not len(rows):
                continue
            if not part.text:
                _find_columns(part, rows, table, columns)
            if part.label is None and table.grows and given.role != "unlabeled":  # a later row may have it
                part.label = _label_column(list(rows.columns), part, table, columns)
            texts = [text_of(value, table.where(rows, i)) for i, value in enumerate(rows.columns[part.text])]
            writer.write_batch(pa.record_batch([pa.array(texts, pa.large_string())], names=["text"]))
            for name, values in self._measured(texts).items():
                self._found[name].append(values)
            self._found["line"].append(np.array(rows.lines, dtype=np.int64))
            self._add_labels(rows, part, table)
            self._starts.append(self._starts[-1] + len(rows))
            if tick:
                tick(len(rows))
        part.rows, part.notes = range(start, self._starts[-1]), table.said(given.role)
        if not len(part.rows):
            raise UserError(f"{table.name}: expected at least one row, found none")
        return part

    def _measured(self, texts: list[str]) -> dict[str, np.ndarray]:
        """Hashes and traits of a batch."""
        stripped = [text.strip() for text in texts]
        plain = [normalized(text) for text in texts]
        scripts = [self._scripts.setdefault(script_of(text), len(self._scripts)) for text in stripped]
        edged = [len(text) >= EDGED for text in stripped]
        found = {
            "exact": [hash_of(text) for text in stripped],
            "loose": [hash_of(text) for text in plain],
            "begin": [hash_of(text[:EDGE]) if long else 0 for text, long in zip(stripped, edged, strict=True)],
            "end": [hash_of(text[-EDGE:]) if long else 0 for text, long in zip(stripped, edged, strict=True)],
            "size": [len(text) for text in stripped],
            "loose_size": [len(text) for text in plain],
            "words": [len(text.split()) for text in stripped],
            "traits": [traits_of(text) for text in texts],
            "script": [min(script, 255) for script in scripts],
        }
        return {name: np.array(values, dtype=_TYPES[name]) for name, values in found.items()} | {"bands": bands(plain)}

    def _add_labels(self, rows: Rows, part: Part, table: Table) -> None:
        nothing = np.full(len(rows), -1, dtype=np.int32)
        labels, people = rows.columns.get(part.label or ""), rows.columns.get(ANNOTATOR)
        if labels is None:
            self._found["label"].append(nothing)
            self._found["by"].append(nothing)
            return
        found = [label_of(value, table.where(rows, i)) for i, value in enumerate(labels)]
        numbers = [self._names.setdefault(label, len(self._names)) for label in found]
        self._found["label"].append(np.array(numbers, dtype=np.int32))
        if people is None:
            self._found["by"].append(nothing)
            return
        by = [self._people.setdefault(str(who), len(self._people)) if who else -1 for who in people]
        self._found["by"].append(np.array(by, dtype=np.int32))

    def _label_rows(self, unlabeled_value: Any) -> list[str]:
        """Tell labeled rows from others, and read each class in one spelling. Returns the names of the classes."""
        names, given = list(self._names), [part.given.role for part in self.parts]
        counts = Counter[str]()
        for role in ("data", "dev", "test"):
            for part in (part for part, of in zip(self.parts, given, strict=True) if of == role):
                labels = self.label[part.rows.start : part.rows.stop]
                own = Counter(dict(_counted(labels, names)))
                no_label = NoLabel.of("" if part.classes and unlabeled_value is None else unlabeled_value).among(
                    set(own)
                )
                if role != "data":
                    no_label = [label for label in no_label if label not in counts]
                none = Counter({label: own.pop(label) for label in no_label})
                if part.label is not None and role == "data":
                    part.notes += unlabeled_note("unlabeled", part.name, none, unlabeled_value is None)
                merged = {} if part.classes else one_spelling(counts | own)
                same = {
                    label: merged.get(label, label) if role == "data" else as_class(label, counts) or label
                    for label in own
                }
                names += sorted({*same.values(), *merged.values()} - set(names))  # `1.0` is read as `1`
                new = np.array([-1 if name in none or name not in own else names.index(same[name]) for name in names])
                if len(names):
                    labels[:] = np.where(labels >= 0, new[labels], -1)
                for label, count in own.items():
                    counts[same[label]] += count
                if role == "data":
                    earlier = [label for label in counts if merged.get(label, label) != label]
                    for label in earlier:  # an earlier file had the rarer spelling
                        self.label[self.label == names.index(label)] = names.index(merged[label])
                        counts[merged[label]] += counts.pop(label)
        for part, of in zip(self.parts, given, strict=True):
            here = slice(part.rows.start, part.rows.stop)
            self.role[here] = np.where(self.label[here] >= 0, LABELED, UNLABELED) if of == "data" else ROLES.index(of)
        return names


def _counted(labels: NDArray, names: Sequence[str]) -> Iterator[tuple[str, int]]:
    numbers, counts = np.unique(labels[labels >= 0], return_counts=True)
    return ((names[number], int(count)) for number, count in zip(numbers, counts, strict=True))


def hash_of(text: str) -> int:
    """A hash of a text (XXH3, 64 bits), 0 for none."""
    return xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass")) if text else 0


def _find_columns(part: Part, rows: Rows, table: Table, columns: Columns) -> None:
    names = list(rows.columns)
    part.text = find_column(names, "text", columns.text_column if table.has_header else None, table.name, table.text)
    part.unit, part.first = rows.unit, rows
    if part.given.role != "unlabeled":
        part.label = _label_column(names, part, table, columns)
        part.classes = table.class_labels.get(part.label or "", [])


def _label_column(names: list[str], part: Part, table: Table, columns: Columns) -> str | None:
    """The column of labels. A source without one has unlabeled texts, unless it is for development or test."""
    try:
        found = find_column(names, "label", columns.label_column, table.name, table.label)
    except UserError as error:
        several = "several columns" in str(error) and columns.label_column is None
        if several or (part.given.role in ("dev", "test") and not table.grows):
            raise
        return None
    if found == part.text:
        raise UserError(
            f"{table.name}: column {found!r} cannot be both the text and the label; name another one with "
            f"{spelled('label_column', 'COLUMN')}"
        )
    return found
