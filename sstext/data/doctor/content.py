"""Checks of the texts themselves: empty and constant ones, boilerplate, broken characters, scripts, and lengths."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from sstext.config.spelling import spelled
from sstext.data.doctor.finding import PLACES, Finding
from sstext.data.doctor.texts import ROLES, Texts
from sstext.data.doctor.traits import Trait

#: A text is constant if this share of the rows has it, and at least so many.
CONSTANT, CONSTANT_ROWS = 0.05, 5
#: Texts share a beginning or an end if this share of the different ones has it, and at least so many.
SHARED, SHARED_ROWS = 0.05, 8
#: Rows whose common beginning or end is measured.
_MEASURED = 200
#: Number of words that are usually more than 512 tokens, which is the limit of many encoders.
MANY_WORDS = 380


def rows_said(count: int, total: int, what: str = "text") -> str:
    """The number of rows and their verb-less subject.

    >>> rows_said(1, 20), rows_said(3, 1200)
    ('1 of 20 texts', '3 of 1,200 texts')
    """
    return f"{count:,} of {total:,} {what}{'s' if total != 1 else ''}"


def verb(count: int, one: str, many: str) -> str:
    return one if count == 1 else many


def alone(texts: Texts, rows: Iterable[int]) -> list[list]:
    """Examples of one row each."""
    return [[texts.place(int(row))] for _, row in zip(range(PLACES), rows, strict=False)]


#: Trait → kind, what is said of one and of several texts, and the remedy.
_TRAITS = {
    Trait.WORDLESS: (
        "wordless", "has no words", "have no words", "leave them out, or find out what has happened to their texts",
    ),
    Trait.MOJIBAKE: (
        "mojibake", "was read in the wrong encoding", "were read in the wrong encoding",
        "read the source again in its own encoding, or let --fix repair them",
    ),
    Trait.LOST: (
        "lost characters", "has characters that could not be read", "have characters that could not be read",
        "take these texts from their source again, in its own encoding",
    ),
    Trait.ENTITIES: (
        "HTML entities", "has HTML entities such as &amp;", "have HTML entities such as &amp;",
        "unescape them if the texts to predict have none",
    ),
}  # fmt: skip


def empty(texts: Texts) -> Iterator[Finding]:
    """Rows without a text."""
    for number, part in enumerate(texts.parts):
        rows = np.flatnonzero((texts.source == number) & (texts.size == 0))
        if len(rows):
            said = f"{rows_said(len(rows), len(part.rows), 'row')} {verb(len(rows), 'has', 'have')} no text"
            yield Finding(
                "empty",
                part.name,
                len(rows),
                said,
                "they are skipped; fill them in, or delete them",
                alone(texts, rows),
            )


def traits(texts: Texts) -> Iterator[Finding]:
    """Texts without words, and with broken characters."""
    for role, name in enumerate(ROLES):
        own = texts.of(role)
        for trait, (kind, one, many, remedy) in _TRAITS.items():
            rows = own[(texts.traits[own] & trait) > 0]
            if len(rows):
                said = f"{rows_said(len(rows), len(own))} {verb(len(rows), one, many)}"
                yield Finding(kind, name, len(rows), said, remedy, alone(texts, rows))


def constant(texts: Texts) -> Iterator[Finding]:
    """Texts that stand in many rows of a role."""
    for role, name in enumerate(ROLES):
        own = texts.of(role)
        values, first, counts = np.unique(texts.loose[own], return_index=True, return_counts=True)
        often = counts >= max(CONSTANT_ROWS, CONSTANT * len(own))
        if not often.any() or len(values) == 0:
            continue
        most = np.argsort(-counts[often], kind="stable")
        total, examples = int(counts[often].sum()), alone(texts, own[first[often][most]])
        which = "have the same text" if often.sum() == 1 else f"have one of {int(often.sum())} texts that occur often"
        yield Finding(
            "constant", name, total, f"{rows_said(total, len(own), 'row')} {which}",
            "keep one of each, if it tells nothing about the class", examples,
        )  # fmt: skip


def boilerplate(texts: Texts) -> Iterator[Finding]:
    """Long beginnings and ends that many different texts share."""
    for role, name in enumerate(ROLES):
        own = texts.of(role)
        own = own[np.unique(texts.loose[own], return_index=True)[1]]  # a repeated text is another fault
        for kind, hashes in (("begin", texts.begin), ("end", texts.end)):
            yield from _shared(texts, own, name, kind, hashes)


def _shared(texts: Texts, own: NDArray, name: str, kind: str, hashes: NDArray) -> Iterator[Finding]:
    long = own[hashes[own] != 0]
    values, counts = np.unique(hashes[long], return_counts=True)
    often = counts >= max(SHARED_ROWS, SHARED * len(own))
    for value in values[often][np.argsort(-counts[often], kind="stable")][:3]:
        rows = np.sort(long[hashes[long] == value])
        some = [texts.text(int(row)).strip() for row in rows[:_MEASURED]]
        shared = common_prefix(some) if kind == "begin" else common_prefix([text[::-1] for text in some])[::-1]
        shown = shared if len(shared) <= 60 else shared[:60] + "…" if kind == "begin" else "…" + shared[-60:]
        said = f"{rows_said(len(rows), len(own), 'different text')} {kind} with the same {len(shared):,} characters, {shown!r}"
        remedy = "remove what all texts share, because it uses up tokens and tells nothing about the class"
        yield Finding("boilerplate", name, len(rows), said, remedy, alone(texts, rows))


def common_prefix(texts: list[str]) -> str:
    """The longest beginning that all texts share.

    >>> common_prefix(["Dear team, help", "Dear team, hi"])
    'Dear team, h'
    """
    low, high = min(texts), max(texts)
    size = next((i for i, (one, other) in enumerate(zip(low, high, strict=False)) if one != other), len(low))
    return low[:size]


def scripts(texts: Texts) -> Iterator[Finding]:
    """Texts in another script than most."""
    everything = np.flatnonzero(texts.script > 0)
    if not len(everything):
        return
    usual = int(np.bincount(texts.script[everything]).argmax())
    for role, name in enumerate(ROLES):
        own = texts.of(role)
        rows = own[(texts.script[own] != usual) & (texts.script[own] > 0)]
        if not len(rows):
            continue
        counts = np.bincount(texts.script[rows], minlength=len(texts.scripts))
        order = [number for number in np.argsort(-counts, kind="stable") if counts[number]]
        shown = ", ".join(f"{texts.scripts[number]} {counts[number]:,}" for number in order[:4])
        said = (
            f"{rows_said(len(rows), len(own))} {verb(len(rows), 'is', 'are')} not in the {texts.scripts[usual]} script "
            f"of most ({shown})"
        )
        remedy = "take a multilingual encoder, or leave them out"
        yield Finding("script", name, len(rows), said, remedy, alone(texts, rows))


def lengths(texts: Texts) -> Iterator[Finding]:
    """Texts that are longer than usual encoders read. With an encoder, its own limit is checked instead."""
    for role, name in enumerate(ROLES):
        own = texts.of(role)
        rows = own[texts.words[own] > MANY_WORDS]
        if not len(rows):
            continue
        middle = int(np.median(texts.words[own]))
        said = (
            f"{rows_said(len(rows), len(own))} {verb(len(rows), 'has', 'have')} more than {MANY_WORDS} words, which are "
            f"about 512 tokens (the median is {middle:,}, the longest {int(texts.words[rows].max()):,})"
        )
        remedy = f"most encoders do not read their ends; {spelled('encoder')} checks the limit of yours"
        yield Finding("length", name, len(rows), said, remedy, alone(texts, rows[np.argsort(-texts.words[rows])]))


#: All of them, in the order of the output.
CHECKS: tuple[Callable[[Texts], Iterator[Finding]], ...] = (empty, traits, constant, boilerplate, scripts)
