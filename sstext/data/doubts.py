"""Doubts about labeled rows: what is allowed, but often a mistake. Each is one line with its remedy."""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence

from sstext.config.spelling import spelled
from sstext.data.columns import two_texts
from sstext.data.parsers import Rows
from sstext.errors import UserError, listed

#: Classes that the line of classes shows.
SHOWN = 12
#: Different numbers above which a column looks like scores.
MANY_NUMBERS = 20
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)(?:[eE][+-]?[0-9]+)?(?: ?%)?")
_SEPARATORS = ("[SEP]", "</s></s>", "<sep>", "|||")


def classes_said(names: Sequence[str], counts: Mapping[str, int]) -> str:
    """The classes with their rows, the largest first. A long tail is cut.

    >>> classes_said(["ham", "spam"], {"ham": 3, "spam": 12})
    'classes: spam (12), ham (3)'
    """
    order = sorted(names, key=lambda name: -counts.get(name, 0))
    shown = order if len(order) <= SHOWN + 1 else order[:SHOWN]
    said = ", ".join(f"{name} ({counts.get(name, 0):,})" for name in shown)
    rest = [counts.get(name, 0) for name in order[len(shown) :]]
    if not rest:
        return f"classes: {said}"
    rows = f"{min(rest):,}" if min(rest) == max(rest) else f"{min(rest):,} to {max(rest):,}"
    return f"classes: {said} and {len(rest):,} more ({rows} row{'s' if max(rest) != 1 else ''} each)"


def near_twins(what: str, names: Sequence[str], where: str = "in all rows") -> list[str]:
    """Classes whose names differ only by case, by marks between words or by the width of letters.

    >>> near_twins("labeled", ["Billing", "billing", "refund"])
    ["labeled: 'Billing' and 'billing' are two classes, but their names are nearly the same; write one name in all rows"]
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        folded = unicodedata.normalize("NFKC", name).casefold()
        words = " ".join(re.sub(r"[\s_/.:;,-]+", " ", folded).split())
        key = name if not words or _NUMBER.fullmatch(name) else words
        groups.setdefault(key, []).append(name)
    twins = [" and ".join(map(repr, group)) for group in groups.values() if len(group) > 1]
    if not twins:
        return []
    more = f", also {', '.join(twins[1:3])}" if len(twins) > 1 else ""
    more += f" and {len(twins) - 3} more" if len(twins) > 3 else ""
    return [f"{what}: {twins[0]} are two classes, but their names are nearly the same; write one name {where}{more}"]


def small_classes(what: str, counts: Mapping[str, int], *, training: bool) -> list[str]:
    """Classes of the data set without a row, and with only one."""
    absent = [name for name, count in counts.items() if count == 0]
    single = [name for name, count in counts.items() if count == 1]
    notes = [f"{what}: no row of {listed(absent)}"] if absent else []
    remedy = "; label more texts of such a class, because a single one cannot be held out" if training else ""
    return notes + ([f"{what}: only one row of {listed(single)}{remedy}"] if single else [])


def scores(what: str, source: str, column: str, counts: Mapping[str, int]) -> list[str]:
    """Numbers that look like scores, not like classes.

    Raises:
        UserError: numbers with decimals, most of which occur once, or integers that occur once each.
    """
    if not counts or not all(_NUMBER.fullmatch(name) for name in counts):
        return []
    rows, different = sum(counts.values()), len(counts)
    decimals = any(not re.fullmatch(r"[+-]?[0-9]{1,18}", name) for name in counts)
    integers = sorted(int(name) for name in counts) if not decimals else []
    numbered = bool(integers) and integers[-1] - integers[0] < 1.25 * different and integers[0] in (0, 1)
    found = f"column {column!r} has {different:,} different numbers in {rows:,} rows"
    remedy = f"cut the scores into classes, or name another column with {spelled('label_column', 'COLUMN')}"
    mostly_once = 2 * different > rows if decimals else different == rows and different > 4 and not numbered
    if mostly_once and different > 2:
        raise UserError(
            f"{source}: expected classes, but {found}, such as {listed(sorted(counts)[:2])}: they look like scores, and "
            f"regression is not supported; {remedy}"
        )
    few = different <= (10 if decimals else MANY_NUMBERS) and 2 * different <= rows
    if few or numbered or different <= 4:
        return []
    return [f"{what}: {found}, which look like scores; {remedy}"]


def pairs(what: str, rows: Rows, text: str, read: Sequence[str], texts: Sequence[str]) -> list[str]:
    """Rows that look like pairs of texts, of which only one is read.

    Args:
        rows: the first rows.
        text: the column of texts.
        read: all columns that are read.
        texts: the first texts.
    """
    named = two_texts(list(rows.columns))
    other = next((name for name in named if name != text), None) if named and text in named else None
    if other is None:
        other = next(
            (name for name in rows.columns if name not in read and _holds_texts(rows.columns[name], texts)), None
        )
    remedy = "if the label depends on both, join them in one column"
    if other is not None:
        return [f"{what}: column {other!r} has texts, too, and is not read; {remedy}"]
    mark = next((mark for mark in _SEPARATORS if 2 * sum(mark in one for one in texts) > len(texts)), None)
    return [f"{what}: most texts have {mark!r} in them: pairs of texts? sstext reads each as one text"] if mark else []


def _holds_texts(values: Sequence[object], texts: Sequence[str]) -> bool:
    """Whether a column holds sentences of its own: many different ones, with several words."""
    own = [value for value in values if isinstance(value, str) and value.strip()]
    if len(own) < max(3, 0.5 * len(values)) or len(set(own)) < 0.7 * len(own) or own == list(texts):
        return False
    return sum(len(value.split()) >= 3 for value in own) > 0.7 * len(own)


def repeated_texts(
    what: str, texts: Sequence[str], labels: Sequence[str], lines: Sequence[int], unit: str = "line"
) -> list[str]:
    """Texts that occur more than once, and those of them with different labels.

    Args:
        texts, labels: the rows.
        lines: where each row is, in this unit.

    >>> repeated_texts("labeled", ["late", "late", "hi"], ["refund", "delivery", "other"], [2, 3, 4])
    ["labeled: 1 text occurs more than once, 1 of them with different labels (line 2: 'refund', line 3: 'delivery'); \
decide on one label"]
    """
    first: dict[str, int] = {}
    different: dict[str, tuple[int, int]] = {}
    again = Counter[str]()
    for row, text in enumerate(text.strip() for text in texts):
        before = first.setdefault(text, row)
        if before != row:
            again[text] += 1
            if labels[row] != labels[before]:
                different.setdefault(text, (before, row))
    if not again:
        return []
    said = f"{what}: {len(again):,} text{'s occur' if len(again) > 1 else ' occurs'} more than once"
    if different:
        one, other = min(different.values(), key=lambda rows: rows[1])
        said += (
            f", {len(different):,} of them with different labels ({unit} {lines[one]}: {labels[one]!r}, {unit} "
            f"{lines[other]}: {labels[other]!r}); decide on one label"
        )
    return [said]
