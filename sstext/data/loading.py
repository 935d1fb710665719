"""Labeled sources → data sets of texts. Every row is checked, and every choice is reported in a note."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sstext.config.spelling import spelled
from sstext.data import doubts
from sstext.data.columns import VIEW_TEXTS, NoSuchColumnError, find_column, paraphrases, text_of
from sstext.data.corpus import Unlabeled, WithoutLabel, accounted, load_audit, load_unlabeled, skipped_note
from sstext.data.labels import (
    NoLabel,
    class_index,
    class_names,
    label_of,
    one_spelling,
    spelling_note,
    unlabeled_note,
)  # fmt: skip
from sstext.data.parsers import Rows
from sstext.data.sources import Source, Table, open_table, source_kind
from sstext.errors import UserError, listed

if TYPE_CHECKING:
    import datasets  # the import takes half a second, so only the functions that build data sets import it

__all__ = [
    "Labeled", "Source", "Unlabeled", "WithoutLabel", "class_names", "load_audit", "load_labeled",
    "load_unlabeled", "source_kind",
]  # fmt: skip


@dataclass(frozen=True)
class Labeled:
    """Labeled texts."""

    texts: "datasets.Dataset"  #: columns text (string) and label (ClassLabel of `classes`)
    classes: list[str]
    notes: list[str]  #: sentences for the user: columns read, rows skipped, classes, doubts
    without_label: WithoutLabel | None = None  #: rows of the same source that have a text, but no label
    rows: Mapping[str, int] = field(default_factory=dict)  #: what became of the rows of the source, see `accounted`


def load_labeled(
    source: Source,
    *,
    what: str = "labeled",
    text_column: str | None = None,
    label_column: str | None = None,
    encoding: str = "utf-8",
    classes: Sequence[str] | None = None,
    split: str = "train",
    unlabeled_value: str | Sequence[str] | None = None,
    views: Sequence[str] = (),
    least_classes: int = 2,
) -> Labeled:
    """Read labeled texts. Rows without text are skipped and counted in a note.

    Training rows without a label become `Labeled.without_label`. Development and test rows (`classes` is given) need one.

    Args:
        source: a file, a folder written by `save_to_disk`, a Hub name, or a data set in Python. `:split` may follow a name.
        what: role of the rows in the notes: "labeled", "dev" or "test".
        classes: the only allowed labels, in their order (for development and test rows). Default: the names of a
            ClassLabel column in its own order, or the labels that occur, in the order of `class_names`.
        split: split of a saved or a Hub data set, if the source does not name one.
        unlabeled_value: labels that mean "no label", see `sstext.data.labels.NoLabel`.
        views: columns with paraphrases, for the rows without a label.
        least_classes: number of classes that must occur, 1 or 2. It is 1 if the rows join others.

    Raises:
        UserError: if a label is unknown or multiple (with its file and line), if there are fewer classes, if the labels are
            scores, or if there is no text.
    """
    table = open_table(source, encoding, split)
    read = _LabeledRows(table, text_column, label_column, views)
    try:
        for rows in table.batches:
            read.add(rows)
        if not read.columns[1] and read.no_label_column is not None:
            raise read.no_label_column
    except NoSuchColumnError as error:
        if what != "labeled" or not read.columns[0]:
            raise
        raise UserError(
            f"{error}. If nothing is labeled yet, `sstext suggest` chooses texts to label, and with "
            f"{spelled('descriptions', 'classes.yaml')} no label is needed"
        ) from None
    if not read.texts:
        raise UserError(f"{table.name}: expected texts in column {read.columns[0]!r}, found only empty ones")
    named = read.columns[1] in table.class_labels and unlabeled_value is None  # then −1 and None are empty already
    no_label = NoLabel.of("" if named else unlabeled_value).among(set(read.labels))
    if classes is not None:
        return _held_out(read, what, classes, {label for label in no_label if label not in classes})
    apart = read.take_out(no_label, doubtful=unlabeled_value is None)
    if not read.texts:
        without = f"{spelled('descriptions', 'classes.yaml')} and {spelled('unlabeled', 'corpus.jsonl')}"
        raise UserError(
            f"{table.name}: expected labels in column {read.columns[1]!r}, found none; label some of the rows, for "
            "example with `sstext label`" + (f", or start without labels, with {without}" if what == "labeled" else "")
        )
    merged = one_spelling(Counter(read.labels)) if read.columns[1] not in table.class_labels else {}
    labels = [merged.get(label, label) for label in read.labels]
    names = table.class_labels.get(read.columns[1]) or class_names(labels)
    if len(set(labels)) < least_classes:
        raise UserError(
            f"{table.name}: expected at least two classes, found only {labels[0]!r} in column {read.columns[1]!r}"
        )
    counts = dict.fromkeys(names, 0) | Counter(labels)
    notes = read.notes(what) + spelling_note(what, merged)
    notes += (
        [f"{what}: {doubts.classes_said(names, counts)}"] if what != "labeled" else [doubts.classes_said(names, counts)]
    )
    notes += doubts.scores(what, table.name, read.columns[1], counts) + doubts.near_twins(what, names)
    notes += doubts.small_classes(what, counts, training=True)
    notes += doubts.pairs(what, read.first, read.columns[0], [*read.columns, *views], read.texts[: len(read.first)])
    notes += doubts.repeated_texts(what, read.texts, labels, read.lines, read.first.unit)
    numbers = {name: number for number, name in enumerate(names)}
    if unknown := next((label for label in labels if label not in numbers), None):
        raise UserError(f"{table.name}: expected one of the {len(names)} classes of its ClassLabel, found {unknown!r}")
    texts = _labeled_rows(read.texts, [numbers[label] for label in labels], names)
    return Labeled(texts, list(names), notes, apart, read.accounted(len(apart) if apart is not None else 0))


class _LabeledRows:
    """The rows of a source that have a text, and its columns."""

    def __init__(self, table: Table, text_column: str | None, label_column: str | None, views: Sequence[str]) -> None:
        self.table, self._wanted, self._views = table, (text_column, label_column), views
        self.columns, self.first = ("", ""), Rows({}, [])
        self.texts: list[str] = []
        self.labels: list[str] = []
        self.lines: list[int] = []
        self._rows: list[int] = []  # place of each text in the source
        self._paraphrases: list[list[str]] = []  # of each text, if there are columns of views
        self.total = self._skipped = 0
        self.no_label_column: UserError | None = None

    def add(self, rows: Rows) -> None:
        """Read a batch."""
        if len(rows) and not all(self.columns):
            self.columns, self.first = self._find_columns(rows), rows if not len(self.first) else self.first
        values = zip(*(rows.columns.get(name, [None] * len(rows)) for name in self.columns), strict=True)
        others = paraphrases(rows.columns, self._views, lambda i: self.table.where(rows, i)) if self._views else None
        for i, (value, label) in enumerate(values):
            where = self.table.where(rows, i)
            text = text_of(value, where)
            if not text.strip():
                self._skipped += 1
                continue
            self.texts.append(text)
            self.labels.append(label_of(label, where))
            self.lines.append(rows.lines[i])
            self._rows.append(self.total + i)
            self._paraphrases += [others[i]] if others is not None else []
        self.total += len(rows)

    def _find_columns(self, rows: Rows) -> tuple[str, str]:
        columns, name = list(rows.columns), self.table.name
        text = find_column(columns, "text", self._wanted[0], name, self.table.text)
        self.columns = text, ""
        try:
            label = find_column(columns, "label", self._wanted[1], name, self.table.label)
        except UserError as error:
            if not self.table.grows:
                raise
            self.no_label_column = error  # a later row may have it
            return text, ""
        if text == label:
            raise UserError(f"{name}: column {text!r} cannot be both the text and the label; found {listed(columns)}")
        return text, label

    def take_out(self, no_label: Sequence[str], *, doubtful: bool) -> WithoutLabel | None:
        """Take the rows out that have no label. `doubtful` says that nobody has told what means "no label"."""
        gone = [row for row, label in enumerate(self.labels) if label in set(no_label)]
        if not gone:
            return None
        counts = Counter(self.labels[row] for row in gone)
        columns: dict[str, list] = {"text": [self.texts[row] for row in gone], "row": [self._rows[row] for row in gone]}
        if self._views:
            columns[VIEW_TEXTS] = [self._paraphrases[row] for row in gone]
        out = set(gone)
        for name in ("texts", "labels", "lines", "_rows"):
            setattr(self, name, [value for row, value in enumerate(getattr(self, name)) if row not in out])
        return WithoutLabel(columns, self.total, unlabeled_note("unlabeled", self.table.name, counts, doubtful))

    def accounted(self, without_label: int = 0) -> dict[str, int]:
        """What became of all rows of the source, for `data.json`."""
        return accounted(self.total, {"without text": self._skipped, "without label": without_label})

    def notes(self, what: str) -> list[str]:
        """What was read, and what was left out."""
        text, label = self.columns
        read = f"{what}: {len(self.texts):,} texts from {self.table.name}, text column {text!r}, label column {label!r}"
        return [read, *self.table.said(what), *skipped_note(what, self._skipped)]


def _held_out(read: _LabeledRows, what: str, classes: Sequence[str], no_label: set[str]) -> Labeled:
    """Development or test rows, which only have known labels."""
    numbers, known = [], dict[str, int]()
    for label, line in zip(read.labels, read.lines, strict=True):
        where = f"{read.table.name}: {read.first.unit} {line}"
        if label in no_label:
            found = f"{label!r}, which means none" if label else "none"
            raise UserError(f"{where}: expected a label, found {found}; fill it in, or delete all rows without a label")
        if label not in known:
            known[label] = class_index(label, classes, where)
        numbers.append(known[label])
    counts = dict.fromkeys(classes, 0) | Counter(classes[number] for number in numbers)
    notes = read.notes(what) + doubts.small_classes(what, counts, training=False)
    return Labeled(_labeled_rows(read.texts, numbers, classes), list(classes), notes, rows=read.accounted())


def _labeled_rows(texts: list[str], labels: list[int], names: Sequence[str]) -> "datasets.Dataset":
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=list(names))})
    return datasets.Dataset.from_dict({"text": texts, "label": labels}, features=features)
