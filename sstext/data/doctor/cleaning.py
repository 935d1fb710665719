"""Cleaned copies of sources: what can be decided without a person is changed, and every change is listed.

A text stays in one place: in the test rows before the development rows, in these before the labeled rows, and in these before
the corpus. So held-out rows stay comparable, and no training row is among them. Only equal texts are compared.

| fault | change |
|---|---|
| no text | the row is left out |
| a copy | all but the first one in the first of these places are left out |
| different labels for one text | labeled: it stays once, without a label; development and test: left out |
| wrong encoding | the text is repaired |
"""

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sstext.data.containers import PACKED
from sstext.data.doctor.duplicates import runs
from sstext.data.doctor.texts import DEV, LABELED, ROLES, TEST, UNLABELED, Part, Texts
from sstext.data.doctor.traits import Trait, repaired
from sstext.data.formats import FORMATS, format_of
from sstext.data.formulas import Formulas
from sstext.data.parsers import Rows
from sstext.data.sources import open_table
from sstext.data.writers import RowWriter
from sstext.errors import UserError
from sstext.storage.manifest import Manifest
from sstext.storage.whole import write_folder_whole

#: List of the changes in the folder of the copies.
CHANGES = "changes.csv"
_KEPT, _EMPTY, _REPEATED, _CONTRADICTED, _WITHOUT_LABEL = range(5)
_FIRST = (TEST, DEV, LABELED, UNLABELED)


@dataclass(frozen=True)
class Decisions:
    """What happens to each row.

    Attributes:
        change: (N,) one of the numbers above.
        other: (N,) another row that is the reason, or −1.
    """

    change: NDArray[np.int8]
    other: NDArray[np.int64]


def decide(texts: Texts) -> Decisions:
    """What can be decided without a person."""
    change, other = np.full(len(texts), _KEPT, dtype=np.int8), np.full(len(texts), -1, dtype=np.int64)
    change[texts.size == 0] = _EMPTY
    rows = np.flatnonzero(texts.size > 0)
    rank = np.argsort(_FIRST)[texts.role[rows]]
    rows = rows[np.lexsort((rows, rank, texts.exact[rows]))]
    new = np.concatenate([[True], texts.exact[rows][1:] != texts.exact[rows][:-1]]) if len(rows) else np.zeros(0, bool)
    first = rows[np.maximum.accumulate(np.where(new, np.arange(len(rows)), 0))] if len(rows) else rows
    change[rows[~new]], other[rows[~new]] = _REPEATED, first[~new]
    for role in (LABELED, DEV, TEST):
        own = np.flatnonzero((texts.role == role) & (texts.label >= 0) & (texts.size > 0))
        for run in runs(texts.exact, own):
            different = run[texts.label[run] != texts.label[run[0]]]
            if not len(different):
                continue
            if role != LABELED:
                change[run], other[run], other[run[0]] = _CONTRADICTED, run[0], different[0]
            elif change[run[0]] == _KEPT:
                change[run[0]], other[run[0]] = _WITHOUT_LABEL, different[0]
    return Decisions(change, other)


def write_cleaned(texts: Texts, folder: Path, encoding: str, formulas: Formulas) -> dict[str, int]:
    """Write a copy of every source, and `changes.csv`. The sources stay as they are.

    A copy has the format and the name of its source, in UTF-8. Formats that are only read become csv or jsonl.

    Args:
        folder: a new or empty folder. It is written whole or not at all.
        encoding: of the sources.
        formulas: see `RowWriter`.

    Returns:
        Kind of change → number of rows.

    Raises:
        UserError: the folder is not empty, or a row does not fit the format.
    """
    check_folder(folder)
    decisions, counts = decide(texts), dict[str, int]()
    names = _names(texts.parts)

    def write(target: Path) -> None:
        with (target / CHANGES).open("w", encoding="utf-8", newline="") as file:
            changes = csv.writer(file, lineterminator="\n")
            changes.writerow(["file", "place", "used_as", "change", "reason", "other_place", "text"])
            for part, name in zip(texts.parts, names, strict=True):
                _write_copy(texts, part, decisions, target / name, encoding, formulas)
                for row in part.rows:
                    for change, reason in _changes(texts, row, decisions):
                        counts[change] = counts.get(change, 0) + 1
                        other = int(decisions.other[row])
                        beside = texts.place(other) if other >= 0 and change != "repaired" else None
                        place, at = texts.place(row), f"{beside.file} {beside.at}" if beside else ""
                        cells = [place.file, place.at, ROLES[texts.role[row]], change, reason, at, place.text]
                        changes.writerow(map(formulas.cell, cells))

    write_folder_whole(folder, write)
    return counts


def check_folder(folder: Path) -> None:
    """Refuse a folder that has files in it, and a folder in that of a run, whose files are the run's own."""
    if (run := Manifest.around(folder.absolute())) is not None:
        raise UserError(
            f"fix: expected a folder outside of a run, found {folder} in the run {run.root}; name another one"
        )
    if folder.exists() and (not folder.is_dir() or any(os.scandir(folder))):
        raise UserError(f"fix: expected a new or empty folder, found {folder} with files in it; name another one")


def _changes(texts: Texts, row: int, decisions: Decisions) -> Iterator[tuple[str, str]]:
    """The changes of a row, and their reasons."""
    change, other = int(decisions.change[row]), int(decisions.other[row])
    if change == _EMPTY:
        yield "left out", "no text"
    elif change == _REPEATED:
        same = texts.role[row] == texts.role[other]
        yield "left out", "a copy of an earlier row" if same else f"also among the {ROLES[texts.role[other]]} rows"
    elif change in (_CONTRADICTED, _WITHOUT_LABEL):
        labels = " and ".join(repr(texts.classes[texts.label[one]]) for one in (row, other))
        reason = f"different labels for one text: {labels}"
        yield ("left out" if change == _CONTRADICTED else "label removed"), reason
    if change in (_KEPT, _WITHOUT_LABEL) and texts.traits[row] & Trait.MOJIBAKE:
        yield "repaired", "read in the wrong encoding"


def _write_copy(
    texts: Texts, part: Part, decisions: Decisions, target: Path, encoding: str, formulas: Formulas
) -> None:
    table = open_table(part.given.source, encoding, "test" if part.given.role == "test" else "train")
    row, written = part.rows.start, False
    with RowWriter(target, text_column=part.text, formulas=formulas) as writer:
        for rows in table.batches:
            numbers = range(row, row + len(rows))
            row += len(rows)
            columns = _cleaned(texts, part, decisions, rows, numbers)
            if columns[part.text] or not written:
                writer.write(columns)
                written = True


def _cleaned(texts: Texts, part: Part, decisions: Decisions, rows: Rows, numbers: range) -> dict[str, list[Any]]:
    """The rows of a batch that are kept."""
    kept = [i for i, row in enumerate(numbers) if decisions.change[row] in (_KEPT, _WITHOUT_LABEL)]
    columns = {name: [values[i] for i in kept] for name, values in rows.columns.items()}
    for place, i in enumerate(kept):
        if texts.traits[numbers[i]] & Trait.MOJIBAKE:
            columns[part.text][place] = repaired(columns[part.text][place])
        if decisions.change[numbers[i]] == _WITHOUT_LABEL and part.label in columns:
            columns[str(part.label)][place] = None
    return columns


def _names(parts: list[Part]) -> list[str]:
    """Names of the copies: those of the sources if they can be written, and all different."""
    found: list[str] = []
    for part in parts:
        name = Path(part.name.partition(" (")[0]).name.replace(":", "-") or "rows"
        while any(name.lower().endswith(ending) for ending in PACKED):
            name = name[: name.rindex(".")]
        try:
            format_of(name)
        except UserError:
            name = f"{Path(name).stem}.{'csv' if part.first.format == 'xlsx' else 'jsonl'}"
        if part.first.format in FORMATS and part.first.format != format_of(name):
            name = f"{Path(name).stem}.{part.first.format}"
        stem, number = Path(name).stem, 2
        while name in (*found, CHANGES):
            name, number = f"{stem}-{number}{Path(name).suffix}", number + 1
        found.append(name)
    return found
