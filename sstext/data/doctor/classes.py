"""Checks of the labels: classes that differ between sources, rare ones, near twins, and columns that are something else."""

from collections.abc import Iterator

import numpy as np

from sstext.config.spelling import spelled
from sstext.data import doubts
from sstext.data.doctor.content import alone, verb
from sstext.data.doctor.finding import Finding
from sstext.data.doctor.texts import DEV, LABELED, ROLES, TEST, Part, Texts
from sstext.errors import UserError, listed

#: Rows of the largest class for one of the smallest, from which on the classes are called imbalanced.
IMBALANCED = 10


def described(texts: Texts) -> list[str]:
    """What was read: sources, and classes with their rows."""
    said = []
    for part in texts.parts:
        rows = slice(part.rows.start, part.rows.stop)
        filled = texts.size[rows] > 0
        labeled = int((filled & (texts.label[rows] >= 0)).sum())
        label = (
            f", label column {part.label!r}" if part.label else ", no label column" if part.given.role == "data" else ""
        )
        labels = f" ({labeled:,} with a label)" if part.label else ""
        count = int(filled.sum())
        said.append(f"{part.name}: {count:,} text{'s' if count != 1 else ''}{labels}, text column {part.text!r}{label}")
        said += part.notes
    for role in (LABELED, DEV, TEST):
        counts = texts.counts(_labeled(texts, role))
        if counts:
            said.append(f"{ROLES[role]}: {doubts.classes_said(list(counts), counts)}")
    return said


def _labeled(texts: Texts, role: int) -> np.ndarray:
    own = texts.of(role)
    return own[texts.label[own] >= 0]


def _of_note(kind: str, where: str, note: str, count: int) -> Finding:
    """A doubt of `sstext.data.doubts` as a finding."""
    said, _, remedy = note.removeprefix(f"{where}: ").partition("; ")
    return Finding(kind, where, count, said, remedy or "check whether this is meant")


def columns(texts: Texts) -> Iterator[Finding]:
    """Columns that are not what they seem: scores for labels, and pairs of texts."""
    for part in texts.parts:
        own = np.arange(part.rows.start, part.rows.stop)
        counts = texts.counts(own[(texts.size[own] > 0) & (texts.label[own] >= 0)])
        if counts and part.label is not None:
            try:
                notes = doubts.scores(part.name, part.name, part.label, counts)
            except UserError as error:
                notes = [str(error)]
            for note in notes:
                yield _of_note("scores", part.name, note, len(counts))
        first = [texts.text(row) for row in range(part.rows.start, part.rows.start + len(part.first))]
        read = [name for name in (part.text, part.label) if name]
        for note in doubts.pairs(part.name, part.first, part.text, read, first):
            yield _of_note("pairs", part.name, note, len(part.rows))


def names(texts: Texts) -> Iterator[Finding]:
    """Names of classes that are nearly the same, over all sources."""
    rows = np.flatnonzero((texts.label >= 0) & (texts.size > 0))
    counts = texts.counts(rows)
    for note in doubts.near_twins("labels", list(counts)):
        yield _of_note("near-twin classes", "labels", note, 1)


def sets(texts: Texts) -> Iterator[Finding]:
    """Classes that one source has and another one has not."""
    known = texts.counts(_labeled(texts, LABELED))
    for role in (DEV, TEST):
        rows = _labeled(texts, role)
        counts, name = texts.counts(rows), ROLES[role]
        if unlabeled := len(texts.of(role)) - len(rows):
            none = texts.of(role)[texts.label[texts.of(role)] < 0]
            said = f"{unlabeled:,} {verb(unlabeled, 'row has', 'rows have')} no label"
            yield Finding(
                "no label", name, unlabeled, said, "fill it in, or delete all rows without a label", alone(texts, none)
            )
        if not known or not counts:
            continue
        if new := [label for label in counts if label not in known]:
            where = rows[np.isin(texts.label[rows], [texts.classes.index(label) for label in new])]
            said = (
                f"{len(new):,} {verb(len(new), 'class is', 'classes are')} not among the labeled texts: {listed(new)}"
            )
            remedy = (
                "correct the labels, or label training texts with them; until then, `sstext train` refuses this file"
            )
            yield Finding("class sets", name, len(new), said, remedy, alone(texts, where))
        if absent := [label for label in known if label not in counts]:
            said = f"no row of {listed(absent)}, which the labeled texts have"
            yield Finding("class sets", name, len(absent), said, "add rows of them, because nothing measures them now")
    parts = [(part, _classes_of(texts, part)) for part in texts.parts if part.given.role == "data"]
    parts = [(part, own) for part, own in parts if own]
    for part, own in parts if len(parts) > 1 else ():
        if absent := [label for label in known if label not in own]:
            said = f"no row of {listed(absent)}, which other files have"
            remedy = "check whether both files were labeled with the same classes"
            yield Finding("class sets", part.name, len(absent), said, remedy)


def _classes_of(texts: Texts, part: Part) -> dict[str, int]:
    own = np.arange(part.rows.start, part.rows.stop)
    return texts.counts(own[(texts.size[own] > 0) & (texts.label[own] >= 0)])


def balance(texts: Texts) -> Iterator[Finding]:
    """Classes that are much rarer than others, or have a single row."""
    rows = _labeled(texts, LABELED)
    counts = texts.counts(rows)
    if len(counts) == 1:
        yield Finding(
            "one class", "labeled", 1, f"all labels are {next(iter(counts))!r}", "label texts of at least two classes"
        )
    for note in doubts.small_classes("labeled", counts, training=True):
        single = [label for label, count in counts.items() if count == 1]
        where = rows[np.isin(texts.label[rows], [texts.classes.index(label) for label in single])]
        found = _of_note("single row", "labeled", note, len(single))
        yield Finding(found.kind, found.where, found.count, found.said, found.remedy, alone(texts, where))
    if len(counts) < 2:
        return
    largest, smallest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    ratio = counts[largest] / counts[smallest]
    if ratio >= IMBALANCED:
        rare = [label for label, count in counts.items() if counts[largest] >= IMBALANCED * count]
        said = (
            f"{largest!r} has {ratio:,.0f} times as many rows ({counts[largest]:,}) as {smallest!r} ({counts[smallest]:,}); "
            f"{len(rare):,} of {len(counts):,} classes {verb(len(rare), 'is', 'are')} at least {IMBALANCED} times rarer"
        )
        remedy = f"label more texts of the rare classes, or try {spelled('logit_adjustment', 1.0)}, and read macro-F1"
        yield Finding("imbalance", "labeled", len(rare), said, remedy)
