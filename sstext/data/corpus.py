"""Unlabeled sources → the corpus, an Arrow file of texts, and the true labels of the corpus for the audit."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from sstext.config.spelling import spelled
from sstext.data.column_names import LABEL_NAMES
from sstext.data.columns import VIEW_TEXTS, check_views, find_column, paraphrases, text_of
from sstext.data.labels import class_index, label_of
from sstext.data.parsers import Rows
from sstext.data.sources import Source, Table, open_table
from sstext.errors import UserError, listed
from sstext.progress import Tick
from sstext.storage.mapped import open_rows
from sstext.storage.whole import written_whole

if TYPE_CHECKING:
    import datasets  # the import takes half a second, so only the functions that build data sets import it


class AllLabeledError(UserError):
    """Every text of a corpus is labeled."""


@dataclass(frozen=True)
class WithoutLabel:
    """Texts of a labeled source that have no label. They belong to the corpus."""

    columns: dict[str, list]  #: text, row (0-based place in the source), optionally `VIEW_TEXTS`
    total: int  #: rows of the source
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.columns["row"])


@dataclass(frozen=True)
class Unlabeled:
    """Unlabeled texts, memory-mapped from an Arrow file."""

    texts: "datasets.Dataset"  #: columns text, row (0-based place in the source), optionally `VIEW_TEXTS`
    total: int  #: rows of the source, including rows without text
    notes: list[str]
    left: int = 0  #: texts of the source that were left out at random
    rows: dict[str, int] = field(default_factory=dict)  #: what became of the rows of the sources, see `accounted`


def accounted(rows: int, skipped: Mapping[str, int]) -> dict[str, int]:
    """What became of the rows of a source: their number, how many were kept, and how many were not, by reason.

    >>> accounted(10, {"without text": 2, "without label": 0})
    {'rows': 10, 'kept': 8, 'without text': 2}
    """
    return {"rows": rows, "kept": rows - sum(skipped.values())} | {
        why: count for why, count in skipped.items() if count
    }


def skipped_note(what: str, skipped: int) -> list[str]:
    """A note on rows without text, if there are any."""
    return [f"{what}: skipped {skipped:,} row{'s' if skipped > 1 else ''} without text"] if skipped else []


def load_unlabeled(
    source: "Source | None",
    *,
    arrow_file: Path,
    text_column: str | None = None,
    views: Sequence[str] = (),
    encoding: str = "utf-8",
    split: str = "train",
    at_most: int | None = None,
    why_at_most: str = "the training steps can use no more",
    seed: int = 0,
    tick: Tick | None = None,
    comparing: Callable[[int], AbstractContextManager[Tick]] | None = None,
    besides: WithoutLabel | None = None,
    labeled: Collection[str] = (),
) -> Unlabeled:
    """Stream the texts of a source into an Arrow file and map it. Rows without text are skipped. Labels are not read.

    Args:
        source: as in `load_labeled`; a txt file is also allowed. None: only the texts `besides` are in the corpus.
        arrow_file: the file to write. It is written whole or not at all.
        views: columns with paraphrases of the text.
        at_most: number of texts to keep, drawn at random with `seed`. Default: all.
        why_at_most: the reason, for the note.
        tick: called with the number of rows of each finished batch.
        comparing: begins the phase in which near duplicates among the texts that are kept are found and left out, and gets
            the number of these texts. Default: near duplicates stay.
        besides: texts of the labeled source that have no label. Their places follow those of `source`.
        labeled: texts that are labeled. They are left out, because a model needs no guess of their labels.

    Raises:
        UserError: if the source cannot be read or has no text, a column of `views` is missing, or all of them are
            empty.
        AllLabeledError: all texts are labeled.
    """
    from sstext.data.order import random_rows

    schema = pa.schema([("text", pa.string()), ("row", pa.int64())])
    if views:
        schema = schema.append(pa.field(VIEW_TEXTS, pa.list_(pa.string())))
    corpus = _Corpus(source, text_column, views, encoding, split) if source is not None else None
    own, kept, paraphrased, left = 0, 0, 0, 0  # `own` counts the texts of `source`, and `kept` those of the corpus
    known = {text.strip() for text in labeled}
    with written_whole(arrow_file, private=True) as partial:
        # One record batch per batch of rows: offsets within a batch have 32 bits, but the file may have any size.
        with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:

            def write(batch: dict[str, list]) -> None:
                nonlocal kept, paraphrased
                paraphrased += sum(map(bool, batch.get(VIEW_TEXTS, ())))
                batch = _without(batch, known)
                kept += len(batch["row"])
                writer.write_batch(pa.record_batch(list(batch.values()), schema=schema))

            for batch in _joined(corpus.batches(tick)) if corpus is not None else ():
                own += len(batch["row"])
                write(batch)
            total = corpus.total if corpus is not None else 0
            if corpus is not None:
                corpus.check(own, paraphrased)
            for batch in _batches_of(besides, first=total, views=bool(views)) if besides is not None else ():
                write(batch)
        read = own + (len(besides) if besides is not None else 0)
        if not kept:
            raise AllLabeledError(
                f"unlabeled: all {read:,} texts are labeled, too, so that they bring little; give other texts, or "
                f"{spelled('rounds', 0)} to train on the labels alone"
            )
        left = kept - min(kept, at_most if at_most is not None else kept)
        if left:
            _keep_part(partial, random_rows(kept, kept - left, seed))
        repeated = 0
        if comparing is not None:
            with comparing(kept - left) as compared:
                repeated = _drop_near_duplicates(partial, kept - left, compared)
    notes = (corpus.notes(own) if corpus is not None else []) + (besides.notes if besides is not None else [])
    if views:
        notes.append(f"unlabeled: {paraphrased:,} of {read:,} texts have a paraphrase in {listed(list(views))}")
    if read > kept:
        notes.append(f"unlabeled: {read - kept:,} of these texts are labeled, too, and left out of the corpus")
    if left:
        notes.append(f"unlabeled: {kept - left:,} of these texts are used, drawn at random; {why_at_most}")
    if comparing is not None:
        notes.append(f"unlabeled: {repeated:,} of {kept - left:,} texts are near duplicates of others and left out")
    skipped = {
        "without text": total - own, "labeled, too": read - kept, "left out at random": left, "near duplicates": repeated,
    }  # fmt: skip
    rows = accounted(total + read - own, skipped)
    total += besides.total if besides is not None else 0
    return Unlabeled(open_rows(arrow_file), total, notes, left, rows)


class _Corpus:
    """The texts of an unlabeled source, in batches, and what is noted about them."""

    def __init__(
        self, source: Source, text_column: str | None, views: Sequence[str], encoding: str, split: str
    ) -> None:
        self.table = open_table(source, encoding, split)
        self.total, self._column, self._views = 0, text_column, views
        self._found: str | None = None
        self._names = dict[str, None]()

    def batches(self, tick: Tick | None) -> Iterator[dict[str, list]]:
        """Columns text, row and optionally `VIEW_TEXTS`."""
        for rows in self.table.batches:
            if not len(rows):
                continue
            self._found = self._found or _text_column_of(list(rows.columns), self._column, self.table)
            self._names |= dict.fromkeys(rows.columns)
            if not self.table.grows:
                check_views(self._views, list(self._names), self.table.name)
            yield _corpus_rows(rows, self._found, self._views, self.table, first=self.total)
            self.total += len(rows)
            if tick:
                tick(len(rows))

    def check(self, kept: int, paraphrased: int) -> None:
        """Refuse a source without texts or without the paraphrases that were asked for."""
        name, views = self.table.name, list(self._views)
        if not kept:
            raise UserError(f"{name}: expected texts in column {self._found!r}, found only empty ones")
        check_views(views, list(self._names), name)
        if views and not paraphrased:
            raise UserError(f"{name}: expected paraphrases in {listed(views)}, found only empty ones")

    def notes(self, kept: int) -> list[str]:
        """What was read, and what was not."""
        notes = [f"unlabeled: {kept:,} texts from {self.table.name}, text column {self._found!r}"]
        notes += self.table.said("unlabeled")
        usual = [name for name in self._names if name.lower() in LABEL_NAMES[:2]]
        if labels := next((name for name in usual if name not in (self._found, *self._views)), None):
            notes.append(f"unlabeled: column {labels!r} is not read")
        return notes + skipped_note("unlabeled", self.total - kept)


#: Rows and characters of a batch in the Arrow file. To open the file, the beginning of every batch is read.
_ROWS, _CHARACTERS = 20_000, 1 << 22


def _joined(batches: Iterator[dict[str, list]]) -> Iterator[dict[str, list]]:
    """Larger batches of the same rows."""
    joined: dict[str, list] = {}
    characters = 0
    for batch in batches:
        characters += sum(map(len, batch["text"]))
        joined = {name: joined.get(name, []) + values for name, values in batch.items()}
        if len(joined["row"]) >= _ROWS or characters >= _CHARACTERS:
            yield joined
            joined, characters = {}, 0
    if joined:
        yield joined


def _batches_of(texts: WithoutLabel, first: int, views: bool, size: int = 1000) -> Iterator[dict[str, list]]:
    """Texts of the labeled source as batches of the corpus."""
    names = ["text", "row"] + [VIEW_TEXTS] * views
    for start in range(0, len(texts), size):
        batch = {name: texts.columns[name][start : start + size] for name in names}
        yield batch | {"row": [first + row for row in batch["row"]]}


def _without(batch: dict[str, list], known: set[str]) -> dict[str, list]:
    """A batch of the corpus without the texts that are known."""
    places = [place for place, text in enumerate(batch["text"]) if text.strip() not in known]
    if len(places) == len(batch["text"]):
        return batch
    return {name: [values[place] for place in places] for name, values in batch.items()}


def _keep_part(file: Path, rows: np.ndarray) -> None:
    """Rewrite an Arrow file, in batches, with only the given rows, which are in ascending order."""
    first = 0
    with (
        written_whole(file, recorded=False) as part,  # the file itself is a partial one
        pa.memory_map(str(file)) as source,
        pa.ipc.open_stream(source) as batches,
        pa.OSFile(str(part), "wb") as sink,
        pa.ipc.new_stream(sink, batches.schema) as writer,
    ):
        for batch in batches:
            begin, end = np.searchsorted(rows, (first, first + len(batch)))
            writer.write_batch(batch.take(pa.array(rows[begin:end] - first)))
            first += len(batch)


def _drop_near_duplicates(file: Path, count: int, tick: Tick | None) -> int:
    """Rewrite an Arrow file of `count` texts with one of each group of near duplicates. Returns how many are left out."""
    from sstext.data.near_duplicates import different_rows

    rows = different_rows(file, tick)
    if len(rows) < count:
        _keep_part(file, rows)
    return count - len(rows)


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
                if not (label := label_of(value, where)):
                    raise UserError(f"{where}: expected a label, found none; fill it in")
                answers[place] = class_index(label, classes, where)
            place += 1
    if place != total:
        raise UserError(f"{table.name}: expected {total:,} rows, one per unlabeled row in its order, found {place:,}")
    return answers[rows]
