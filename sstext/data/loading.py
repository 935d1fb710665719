"""Sources → data sets of texts: each row checked, every choice told in a note."""

import difflib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from sstext.data.formats import TEXT_NAMES
from sstext.data.parsing import Rows
from sstext.data.sources import Source, Table, fingerprint, open_table, source_kind
from sstext.errors import UserError, listed
from sstext.progress import Tick

if TYPE_CHECKING:
    import datasets  # takes half a second to import: only the functions that build data sets do

__all__ = [
    "LABEL_NAMES", "TEXT_NAMES", "Labeled", "Source", "Unlabeled", "class_names", "find_column", "fingerprint",
    "load_audit", "load_labeled", "load_unlabeled", "source_kind",
]  # fmt: skip

#: Column names that mean "the label", the most telling first.
LABEL_NAMES = (
    "label", "labels", "category", "class", "target", "intent", "topic", "sentiment", "emotion", "tag",
    "label_text", "label_name", "class_name",
)  # fmt: skip
_INTEGER = re.compile(r"[+-]?[0-9]+")


@dataclass(frozen=True)
class Labeled:
    """Labeled texts."""

    texts: "datasets.Dataset"  #: columns text (string) and label (ClassLabel of `classes`)
    classes: list[str]
    notes: list[str]  #: sentences for the person: columns taken, rows skipped, classes that are thin


@dataclass(frozen=True)
class Unlabeled:
    """Unlabeled texts, memory-mapped from an Arrow file."""

    texts: "datasets.Dataset"  #: columns text (string) and row (int64, 0-based place among all rows of the source)
    total: int  #: rows of the source, those without text included
    notes: list[str]


def find_column(columns: Sequence[str], kind: Literal["text", "label"], wanted: str | None, source: str) -> str:
    """The column that holds the texts or the labels.

    `wanted` must be there as it is. Otherwise the name "text" or "label" wins, in any case; then the one column that is
    named in `TEXT_NAMES` or `LABEL_NAMES`; then, for texts, the only column there is.

    >>> find_column(["id", "Message"], "text", None, "my.csv")
    'Message'

    Raises:
        UserError: no column fits, or several do equally well.
    """
    found, flag = f"found {listed(list(columns))}", f"--{kind}-column"
    if wanted is not None:
        if wanted in columns:
            return wanted
        nearest = difflib.get_close_matches(wanted, columns, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"name one of them with {flag}"
        raise UserError(f"{source}: no column {wanted!r}; {found}; {hint}")
    if kind in columns:
        return kind
    names = TEXT_NAMES if kind == "text" else LABEL_NAMES
    for group in ((kind,), names):
        fitting = [column for column in columns if column.strip().lower() in group]
        if len(fitting) > 1:
            raise UserError(f"{source}: {listed(fitting)} may all hold the {kind}; choose one with {flag}")
        if fitting:
            return fitting[0]
    if kind == "text" and len(columns) == 1:
        return columns[0]
    raise UserError(f"{source}: no column is named like a {kind} ({listed(names, 6)}); {found}; name one with {flag}")


def class_names(values: Iterable[object]) -> list[str]:
    """The distinct labels as stripped strings, in an order that does not hang on the order of the rows.

    >>> class_names([10, 9, 9]), class_names(["spam ", "ham"]), class_names([True, False])
    (['9', '10'], ['ham', 'spam'], ['False', 'True'])
    """
    names = {str(value).strip() for value in values}
    if all(_INTEGER.fullmatch(name) for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def _text(value: Any, where: str) -> str:
    """A cell as a text; "" where there is none."""
    if isinstance(value, str):
        return value
    if value is None or value != value:
        return ""
    if isinstance(value, int | float):
        return str(value)
    raise UserError(f"{where}: expected a text, found {type(value).__name__} {str(value)[:60]!r}")


def _label(value: Any, where: str) -> str:
    """A cell as a class name."""
    if isinstance(value, list | dict):
        raise UserError(
            f"{where}: expected one label per row, found {str(value)[:60]}; split or choose before training"
        )
    label = "" if value is None or value != value else str(value).strip()
    if not label:
        raise UserError(f"{where}: expected a label, found none; fill it in, or move the row to the unlabeled texts")
    return label


def _known(label: str, classes: Sequence[str], where: str) -> int:
    if label not in classes:
        nearest = difflib.get_close_matches(label, classes, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else "correct the label, or label training rows with it"
        raise UserError(f"{where}: unknown label {label!r}; the classes are {listed(list(classes))}; {hint}")
    return classes.index(label)


def load_labeled(
    source: Source,
    *,
    what: str = "labeled",
    text_column: str | None = None,
    label_column: str | None = None,
    encoding: str = "utf-8",
    classes: Sequence[str] | None = None,
    split: str = "train",
) -> Labeled:
    """Read labeled texts; rows without text are skipped and counted in a note.

    Args:
        source: a file, a folder written by `save_to_disk`, a Hub name, or a data set; `:split` may follow a name.
        what: the rows' role, for the notes: "labeled", "dev", "test".
        classes: the only labels that may occur, in their order (development and test rows). By default those of a
            ClassLabel column in its own order, or those that occur, in the order of `class_names`.
        split: of a saved or a Hub data set that names none.

    Raises:
        UserError: an empty, unknown or multiple label, with its file and line; only one class; no text at all.
    """
    import datasets

    table = open_table(source, encoding, split)
    texts: list[str] = []
    labels: list[str] = []
    skipped, columns = 0, ("", "")
    for rows in table.batches:
        columns = columns if all(columns) else _both_columns(rows, text_column, label_column, table.name)
        for i, (value, label) in enumerate(zip(*(rows.columns[name] for name in columns), strict=True)):
            where = table.where(rows, i)
            text = _text(value, where)
            if not text.strip():
                skipped += 1
                continue
            texts.append(text)
            labels.append(_label(label, where))
            if classes is not None:
                _known(labels[-1], classes, where)
    if not texts:
        raise UserError(f"{table.name}: expected texts in column {columns[0]!r}, found only empty ones")
    names = list(classes) if classes is not None else table.class_labels.get(columns[1]) or class_names(labels)
    if classes is None and len(set(labels)) < 2:
        raise UserError(
            f"{table.name}: expected at least two classes, found only {labels[0]!r} in column {columns[1]!r}"
        )
    notes = [f"{what}: {len(texts):,} texts from {table.name}, text column {columns[0]!r}, label column {columns[1]!r}"]
    notes += _skipped_note(what, skipped) + _thin_classes(what, names, labels)
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
    ids = {name: i for i, name in enumerate(names)}
    rows_by_column = {"text": texts, "label": [ids[label] for label in labels]}
    return Labeled(datasets.Dataset.from_dict(rows_by_column, features=features), names, notes)


def _both_columns(rows: Rows, text_column: str | None, label_column: str | None, source: str) -> tuple[str, str]:
    columns = list(rows.columns)
    text = find_column(columns, "text", text_column, source)
    label = find_column(columns, "label", label_column, source)
    if text == label:
        raise UserError(f"{source}: column {text!r} cannot be both the text and the label; found {listed(columns)}")
    return text, label


def _skipped_note(what: str, skipped: int) -> list[str]:
    return [f"{what}: skipped {skipped:,} row{'s' if skipped > 1 else ''} without text"] if skipped else []


def _thin_classes(what: str, names: list[str], labels: list[str]) -> list[str]:
    counts = dict.fromkeys(names, 0)
    for label in labels:
        counts[label] += 1
    absent = [name for name, count in counts.items() if count == 0]
    single = [name for name, count in counts.items() if count == 1]
    notes = [f"{what}: no row of {listed(absent)}"] if absent else []
    return notes + ([f"{what}: only a single row of {listed(single)}"] if single else [])


def load_unlabeled(
    source: Source,
    *,
    arrow_file: Path,
    text_column: str | None = None,
    encoding: str = "utf-8",
    split: str = "train",
    tick: Tick | None = None,
) -> Unlabeled:
    """Stream the texts of a source into an Arrow file and map it; rows without text are skipped, labels are not read.

    Args:
        source: as in `load_labeled`; txt files too.
        arrow_file: where the texts go; written whole or not at all.
        tick: told the number of rows done, batch by batch.

    Raises:
        UserError: an unreadable source, or one without any text.
    """
    import datasets

    table = open_table(source, encoding, split)
    schema = pa.schema([("text", pa.string()), ("row", pa.int64())])
    partial = arrow_file.with_name(f".{arrow_file.name}.{os.getpid()}.partial")
    arrow_file.parent.mkdir(parents=True, exist_ok=True)
    total, kept, column, labels = 0, 0, "", ""
    try:
        # One record batch per batch of rows: offsets within a batch are 32-bit, the file may be of any size.
        with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            for rows in table.batches:
                column = column or _text_column_of(list(rows.columns), text_column, table)
                labels = labels or next((name for name in rows.columns if name.lower() in LABEL_NAMES[:2]), "")
                texts = [_text(value, table.where(rows, i)) for i, value in enumerate(rows.columns[column])]
                places = [i for i, text in enumerate(texts) if text.strip()]
                writer.write_batch(
                    pa.record_batch([[texts[i] for i in places], [total + i for i in places]], schema=schema)
                )
                total, kept = total + len(rows), kept + len(places)
                if tick:
                    tick(len(rows))
        if not kept:
            raise UserError(f"{table.name}: expected texts in column {column!r}, found only empty ones")
        os.replace(partial, arrow_file)
    finally:
        partial.unlink(missing_ok=True)
    notes = [f"unlabeled: {kept:,} texts from {table.name}, text column {column!r}"]
    if labels and labels != column:
        notes.append(f"unlabeled: column {labels!r} is not read")
    return Unlabeled(
        datasets.Dataset.from_file(str(arrow_file)), total, notes + _skipped_note("unlabeled", total - kept)
    )


def _text_column_of(columns: Sequence[str], wanted: str | None, table: Table) -> str:
    """The wanted column; a corpus without it but with a column "text" need not follow the labeled file's names."""
    elsewhere = not table.has_header or (wanted not in columns and "text" in columns)
    return find_column(columns, "text", None if elsewhere else wanted, table.name)


def load_audit(
    source: Source,
    *,
    classes: Sequence[str],
    rows: np.ndarray,
    total: int,
    label_column: str | None = None,
    encoding: str = "utf-8",
    split: str = "train",
) -> np.ndarray:
    """True classes of unlabeled texts, for measuring pseudo-labels and nothing else.

    Args:
        source: as many rows as the unlabeled source, in its order; the label column, or its only one, is read.
        classes: the class names, C of them.
        rows: (N,) 0-based places in the unlabeled source, `Unlabeled.texts["row"]`; other rows may lack a label.
        total: rows of the unlabeled source, `Unlabeled.total`.

    Returns:
        (N,) class indices in 0 … C − 1.

    Raises:
        UserError: another number of rows, or a label among `rows` that is missing or unknown.
    """
    table = open_table(source, encoding, split)
    needed = np.zeros(total, dtype=bool)
    needed[rows] = True
    answers = np.full(total, -1, dtype=np.int64)
    place, column = 0, ""
    for batch in table.batches:
        names = list(batch.columns)
        column = column or (names[0] if len(names) == 1 else find_column(names, "label", label_column, table.name))
        for i, value in enumerate(batch.columns[column]):
            if place < total and needed[place]:
                where = table.where(batch, i)
                answers[place] = _known(_label(value, where), classes, where)
            place += 1
    if place != total:
        raise UserError(f"{table.name}: expected {total:,} rows, one per unlabeled row in its order, found {place:,}")
    return answers[rows]
