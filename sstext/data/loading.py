"""Sources → data sets of texts. Every row is checked, and every choice is reported in a note."""

import difflib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from sstext.data.columns import LABEL_NAMES, VIEW_TEXTS, check_views, find_column, paraphrases, text_of
from sstext.data.parsers import Rows
from sstext.data.sources import Source, Table, fingerprint, open_table, source_kind
from sstext.errors import UserError, listed
from sstext.progress import Tick

if TYPE_CHECKING:
    import datasets  # the import takes half a second, so only the functions that build data sets import it

__all__ = [
    "Labeled", "Source", "Unlabeled", "class_names", "fingerprint", "load_audit", "load_labeled", "load_unlabeled",
    "source_kind",
]  # fmt: skip

_INTEGER = re.compile(r"[+-]?[0-9]+")


@dataclass(frozen=True)
class Labeled:
    """Labeled texts."""

    texts: "datasets.Dataset"  #: columns text (string) and label (ClassLabel of `classes`)
    classes: list[str]
    notes: list[str]  #: sentences for the user: columns read, rows skipped, classes with few rows


@dataclass(frozen=True)
class Unlabeled:
    """Unlabeled texts, memory-mapped from an Arrow file."""

    texts: "datasets.Dataset"  #: columns text, row (0-based place in the source), optionally `VIEW_TEXTS`
    total: int  #: rows of the source, including rows without text
    notes: list[str]
    left: int = 0  #: texts of the source that were left out at random


def class_names(values: Iterable[object]) -> list[str]:
    """The distinct labels as stripped strings, sorted, so that their order does not depend on the order of the rows.

    >>> class_names([10, 9, 9]), class_names(["spam ", "ham"]), class_names([True, False])
    (['9', '10'], ['ham', 'spam'], ['False', 'True'])
    """
    names = {str(value).strip() for value in values}
    if all(_INTEGER.fullmatch(name) for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def _label(value: Any, where: str, remedy: str = "fill it in, or delete all rows without a label") -> str:
    """A cell as a class name."""
    if isinstance(value, list | dict):
        raise UserError(
            f"{where}: expected one label per row, found {str(value)[:60]}; keep one label per row before training"
        )
    label = "" if value is None or value != value else str(value).strip()
    if not label:
        raise UserError(f"{where}: expected a label, found none; {remedy}")
    return label


def _class_index(label: str, classes: Sequence[str], where: str) -> int:
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
    """Read labeled texts. Rows without text are skipped and counted in a note.

    Args:
        source: a file, a folder written by `save_to_disk`, a Hub name, or a data set. `:split` may follow a name.
        what: role of the rows in the notes: "labeled", "dev" or "test".
        classes: the only allowed labels, in their order (for development and test rows). Default: the names of a
            ClassLabel column in its own order, or the labels that occur, in the order of `class_names`.
        split: split of a saved or a Hub data set, if the source does not name one.

    Raises:
        UserError: if a label is empty, unknown or multiple (with its file and line), if there is only one class, or if
            there is no text.
    """
    import datasets

    table = open_table(source, encoding, split)
    texts: list[str] = []
    labels: list[str] = []
    skipped, columns = 0, ("", "")
    for rows in table.batches:
        columns = columns if all(columns) else _find_columns(rows, text_column, label_column, table.name)
        for i, (value, label) in enumerate(zip(*(rows.columns[name] for name in columns), strict=True)):
            where = table.where(rows, i)
            text = text_of(value, where)
            if not text.strip():
                skipped += 1
                continue
            texts.append(text)
            labels.append(_label(label, where))
            if classes is not None:
                _class_index(labels[-1], classes, where)
    if not texts:
        raise UserError(f"{table.name}: expected texts in column {columns[0]!r}, found only empty ones")
    names = list(classes) if classes is not None else table.class_labels.get(columns[1]) or class_names(labels)
    if classes is None and len(set(labels)) < 2:
        raise UserError(
            f"{table.name}: expected at least two classes, found only {labels[0]!r} in column {columns[1]!r}"
        )
    notes = [f"{what}: {len(texts):,} texts from {table.name}, text column {columns[0]!r}, label column {columns[1]!r}"]
    notes += _skipped_note(what, skipped) + _notes_on_small_classes(what, names, labels)
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
    ids = {name: i for i, name in enumerate(names)}
    rows_by_column = {"text": texts, "label": [ids[label] for label in labels]}
    return Labeled(datasets.Dataset.from_dict(rows_by_column, features=features), names, notes)


def _find_columns(rows: Rows, text_column: str | None, label_column: str | None, source: str) -> tuple[str, str]:
    columns = list(rows.columns)
    text = find_column(columns, "text", text_column, source)
    label = find_column(columns, "label", label_column, source)
    if text == label:
        raise UserError(f"{source}: column {text!r} cannot be both the text and the label; found {listed(columns)}")
    return text, label


def _skipped_note(what: str, skipped: int) -> list[str]:
    return [f"{what}: skipped {skipped:,} row{'s' if skipped > 1 else ''} without text"] if skipped else []


def _notes_on_small_classes(what: str, names: list[str], labels: list[str]) -> list[str]:
    counts = dict.fromkeys(names, 0)
    for label in labels:
        counts[label] += 1
    absent = [name for name, count in counts.items() if count == 0]
    single = [name for name, count in counts.items() if count == 1]
    notes = [f"{what}: no row of {listed(absent)}"] if absent else []
    return notes + ([f"{what}: only one row of {listed(single)}"] if single else [])


def load_unlabeled(
    source: Source,
    *,
    arrow_file: Path,
    text_column: str | None = None,
    views: Sequence[str] = (),
    encoding: str = "utf-8",
    split: str = "train",
    at_most: int | None = None,
    seed: int = 0,
    tick: Tick | None = None,
) -> Unlabeled:
    """Stream the texts of a source into an Arrow file and map it. Rows without text are skipped. Labels are not read.

    Args:
        source: as in `load_labeled`; a txt file is also allowed.
        arrow_file: the file to write. It is written whole or not at all.
        views: columns with paraphrases of the text.
        at_most: number of texts to keep, drawn at random with `seed`. Default: all.
        tick: called with the number of rows of each finished batch.

    Raises:
        UserError: if the source cannot be read or has no text, a column of `views` is missing, or all of them are
            empty.
    """
    import datasets

    from sstext.data.order import random_rows

    table = open_table(source, encoding, split)
    schema = pa.schema([("text", pa.string()), ("row", pa.int64())])
    if views:
        schema = schema.append(pa.field(VIEW_TEXTS, pa.list_(pa.string())))
    partial = arrow_file.with_name(f".{arrow_file.name}.{os.getpid()}.partial")
    arrow_file.parent.mkdir(parents=True, exist_ok=True)
    total, kept, paraphrased, column, found = 0, 0, 0, "", dict[str, None]()
    try:
        # One record batch per batch of rows: offsets within a batch have 32 bits, but the file may have any size.
        with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            for rows in table.batches:
                column = column or _text_column_of(list(rows.columns), text_column, table)
                found |= dict.fromkeys(rows.columns)
                if not table.grows:
                    check_views(views, list(found), table.name)
                batch = _corpus_rows(rows, column, views, table, first=total)
                writer.write_batch(pa.record_batch(list(batch.values()), schema=schema))
                total, kept = total + len(rows), kept + len(batch["row"])
                paraphrased += sum(map(bool, batch.get(VIEW_TEXTS, ())))
                if tick:
                    tick(len(rows))
        if not kept:
            raise UserError(f"{table.name}: expected texts in column {column!r}, found only empty ones")
        check_views(views, list(found), table.name)
        if views and not paraphrased:
            raise UserError(f"{table.name}: expected paraphrases in {listed(list(views))}, found only empty ones")
        left = kept - min(kept, at_most if at_most is not None else kept)
        if left:
            _keep_part(partial, random_rows(kept, kept - left, seed))
        os.replace(partial, arrow_file)
    finally:
        partial.unlink(missing_ok=True)
    notes = [f"unlabeled: {kept:,} texts from {table.name}, text column {column!r}"]
    labels = next((name for name in found if name.lower() in LABEL_NAMES[:2] and name not in (column, *views)), None)
    if labels:
        notes.append(f"unlabeled: column {labels!r} is not read")
    if views:
        notes.append(f"unlabeled: {paraphrased:,} of {kept:,} texts have a paraphrase in {listed(list(views))}")
    notes += _skipped_note("unlabeled", total - kept)
    if left:
        notes.append(
            f"unlabeled: {kept - left:,} of these texts are used, drawn at random; the training steps can use no more"
        )
    return Unlabeled(datasets.Dataset.from_file(str(arrow_file)), total, notes, left)


def _keep_part(file: Path, rows: np.ndarray) -> None:
    """Rewrite an Arrow file, in batches, with only the given rows, which are in ascending order."""
    part, first = file.with_name(f"{file.name}.part"), 0
    try:
        with (
            pa.memory_map(str(file)) as source,
            pa.ipc.open_stream(source) as batches,
            pa.OSFile(str(part), "wb") as sink,
            pa.ipc.new_stream(sink, batches.schema) as writer,
        ):
            for batch in batches:
                begin, end = np.searchsorted(rows, (first, first + len(batch)))
                writer.write_batch(batch.take(pa.array(rows[begin:end] - first)))
                first += len(batch)
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)


def _corpus_rows(rows: Rows, column: str, views: Sequence[str], table: Table, first: int) -> dict[str, list]:
    """The rows that have a text, as columns of the corpus. `first` is the place of the first row in the source."""
    texts = [text_of(value, table.where(rows, i)) for i, value in enumerate(rows.columns[column])]
    places = [i for i, text in enumerate(texts) if text.strip()]
    columns: dict[str, list] = {"text": [texts[i] for i in places], "row": [first + i for i in places]}
    if views:
        others = paraphrases(rows.columns, views, lambda i: table.where(rows, i))
        columns[VIEW_TEXTS] = [others[i] for i in places]
    return columns


def _text_column_of(columns: Sequence[str], wanted: str | None, table: Table) -> str:
    """The text column of a corpus: `wanted`, or "text" if `wanted` is only a column of the labeled file."""
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
    """True classes of unlabeled texts. They are only used to measure pseudo-labels.

    Args:
        source: the same number of rows as the unlabeled source, in the same order. Its label column, or its only
            column, is read.
        classes: names of the C classes.
        rows: (N,) 0-based places in the unlabeled source, `Unlabeled.texts["row"]`. Other rows need no label.
        total: number of rows of the unlabeled source, `Unlabeled.total`.

    Returns:
        (N,) class indices in 0 … C − 1.

    Raises:
        UserError: if the number of rows differs, or a label among `rows` is missing or unknown.
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
                answers[place] = _class_index(_label(value, where, "fill it in"), classes, where)
            place += 1
    if place != total:
        raise UserError(f"{table.name}: expected {total:,} rows, one per unlabeled row in its order, found {place:,}")
    return answers[rows]
