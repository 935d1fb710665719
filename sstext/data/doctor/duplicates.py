"""Checks of equal and nearly equal texts: leaks into held-out rows, repeated texts, and contradicting labels."""

from collections.abc import Iterator
from itertools import islice
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sstext.data.doctor.content import rows_said, verb
from sstext.data.doctor.finding import PLACES, Finding
from sstext.data.doctor.minhash import Groups, group_similar, normalized
from sstext.data.doctor.texts import DEV, LABELED, ROLES, TEST, UNLABELED, Texts

#: Rows → rows that they should not be among, whether it is a leak, and the remedy.
_PAIRS = (
    (TEST, LABELED, "they make the figures look better; leave them out of the training"),
    (TEST, DEV, "they make the figures look better; leave them out of one of the two"),
    (DEV, LABELED, "they make the figures look better; leave them out of the training"),
    (TEST, UNLABELED, "training sees these texts, but not their labels; leave them out of the corpus to measure new texts"),
    (DEV, UNLABELED, "training sees these texts, but not their labels; leave them out of the corpus to measure new texts"),
    (UNLABELED, LABELED, "they teach nothing new; a training leaves out those that are equal"),
)  # fmt: skip


class Comparable(Protocol):
    """N texts that can be compared: arrays with a value a text, and the texts themselves. See `Texts`."""

    @property
    def size(self) -> NDArray: ...
    @property
    def loose(self) -> NDArray: ...
    @property
    def loose_size(self) -> NDArray: ...
    @property
    def bands(self) -> NDArray[np.uint64]: ...
    def text(self, row: int, /) -> str: ...
    def __len__(self) -> int: ...


def similar_groups(texts: Comparable) -> NDArray[np.int64]:
    """(N,) first row of the near duplicates of each row. Equal texts are near duplicates, too."""
    rows = np.flatnonzero(texts.size > 0)
    _, first, inverse = np.unique(texts.loose[rows], return_index=True, return_inverse=True)
    different = rows[first]
    groups = Groups(len(texts))
    group_similar(texts.bands, texts.loose_size, lambda row: normalized(texts.text(row)), groups, different)
    found = groups.all()
    found[rows] = found[different[inverse]]
    return found


def leaks(texts: Texts, groups: NDArray[np.int64]) -> Iterator[Finding]:
    """Texts that are used for two purposes."""
    for one, other, remedy in _PAIRS:
        own, there = texts.of(one), texts.of(other)
        if not len(own) or not len(there):
            continue
        kind = "leak" if other != UNLABELED and one != UNLABELED else "overlap"
        kinds = {LABELED: "labeled training texts", DEV: "development texts", UNLABELED: "texts of the corpus"}
        same = np.isin(texts.exact[own], texts.exact[there])
        near = ~same & np.isin(groups[own], groups[there])
        for rows, keys, nearly in ((own[same], texts.exact, False), (own[near], groups, True)):
            if not len(rows):
                continue
            among = (
                verb(len(rows), "is a near duplicate", "are near duplicates") + " of"
                if nearly
                else (verb(len(rows), "is", "are") + " also among")
            )
            said = f"{rows_said(len(rows), len(own))} {among} the {kinds[other]}"
            name = f"near {kind}" if nearly else kind
            yield Finding(name, ROLES[one], len(rows), said, remedy, _with_others(texts, rows, there, keys))


def _with_others(texts: Texts, rows: NDArray, there: NDArray, keys: NDArray) -> list[list]:
    """Examples of a row and of the first of the others with the same key."""
    values, first = np.unique(keys[there], return_index=True)
    found = []
    for row in rows[:PLACES]:
        other = there[first[np.searchsorted(values, keys[row])]]
        found.append([texts.place(int(row)), texts.place(int(other))])
    return found


def repeats(texts: Texts, groups: NDArray[np.int64]) -> Iterator[Finding]:
    """Texts that stand more than once in a role, equal or nearly so."""
    for role, name in enumerate(ROLES):
        own = texts.of(role)
        again = list(runs(texts.exact, own))
        if again:
            extra = sum(len(run) - 1 for run in again)
            said = f"{rows_said(extra, len(own), 'row')} {verb(extra, 'repeats', 'repeat')} an earlier text"
            remedy = "keep one of each, because a repeated text counts more than others"
            yield Finding("duplicate", name, extra, said, remedy, _examples(texts, again))
        once = np.sort(own[np.unique(texts.exact[own], return_index=True)[1]])
        near = list(runs(groups, once))
        if near:
            count = sum(len(run) - 1 for run in near)
            said = f"{rows_said(count, len(once), 'different text')} {verb(count, 'is', 'are')} nearly an earlier one"
            remedy = "keep one of each, if the difference means nothing"
            yield Finding("near duplicate", name, count, said, remedy, _examples(texts, near))


def contradictions(texts: Texts, groups: NDArray[np.int64]) -> Iterator[Finding]:
    """Equal and nearly equal texts with different labels, by the roles in which they stand."""
    rows = np.flatnonzero((texts.label >= 0) & (texts.size > 0) & (texts.role != UNLABELED))
    equal = [run for run in runs(texts.exact, rows) if (texts.label[run] != texts.label[run[0]]).any()]
    told = np.unique(groups[np.concatenate(equal)]) if equal else np.zeros(0, dtype=np.int64)
    others = rows[~np.isin(groups[rows], told)]
    near = [run for run in runs(groups, others) if (texts.label[run] != texts.label[run[0]]).any()]
    for kind, wrong, what, remedy in (
        ("contradiction", equal, "text", "decide on one label"),
        ("near contradiction", near, "group of near duplicates", "check which label is right"),
    ):
        of_roles: dict[str, list[NDArray]] = {}
        for run in wrong:
            of_roles.setdefault(" and ".join(ROLES[role] for role in np.unique(texts.role[run])), []).append(run)
        for where, some in sorted(of_roles.items()):
            several = f"{what}s" if what == "text" else "groups of near duplicates"
            said = f"{len(some):,} {verb(len(some), f'{what} has', f'{several} have')} different labels"
            yield Finding(kind, where, len(some), said, remedy, _examples(texts, some))


def runs(keys: NDArray, rows: NDArray) -> Iterator[NDArray]:
    """Rows whose key occurs more than once, by key and in their order. The runs are in the order of their first rows."""
    if not len(rows):
        return
    order = np.argsort(keys[rows], kind="stable")
    ordered = rows[order]
    values = keys[ordered]
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    ends = np.concatenate([starts[1:], [len(ordered)]])
    several = ends - starts > 1
    starts, ends = starts[several], ends[several]
    for number in np.argsort(ordered[starts], kind="stable"):
        yield ordered[starts[number] : ends[number]]


def _examples(texts: Texts, some: list[NDArray]) -> list[list]:
    """Places of the rows of each run: the first one, and then those with other labels before those with the same."""
    found = []
    for run in islice(some, PLACES):
        labels = texts.label[run]
        _, firsts = np.unique(labels, return_index=True)
        order = [*sorted(firsts.tolist()), *(i for i in range(len(run)) if i not in set(firsts.tolist()))]
        found.append([texts.place(int(run[i])) for i in order[:10]])
    return found
