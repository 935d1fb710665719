"""Cells → class names: which cells hold a label, which mean "no label", and which spellings mean the same class."""

import ast
import difflib
import json
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sstext.config.spelling import spelled
from sstext.data.columns import is_missing
from sstext.errors import UserError, listed

#: Words that programs write for an empty cell, in lower case. "none" is not among them: it is a class of many data sets.
EMPTY_WORDS = frozenset({"nan", "null", "<na>", "nat", "#n/a", "\\n"})

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_WHOLE_FLOAT = re.compile(r"[+-]?(?:0|[1-9][0-9]*)\.0*")
_MINUS_ONE = re.compile(r"-1(?:\.0*)?")
_ENCODED = {"[": "]", "{": "}"}
_INVISIBLE = {ord(mark): None for mark in "\u200b\u200c\u200d\ufeff\u2060"}


def similar_class(name: str, classes: Iterable[str]) -> str | None:
    """The class that a name is much like, because it may be misspelled. None if there is none.

    >>> similar_class("refnud", ["delivery", "Refund"]), similar_class("login", ["delivery", "Refund"])
    ('Refund', None)
    """
    lower = {one.lower(): one for one in reversed(list(classes))}
    found = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.75)
    return lower[found[0]] if found else None


def label_of(value: Any, where: str) -> str:
    """A cell as a class name, or "" if it is empty.

    A list of one label is this label, and an empty list is no label: annotation tools write labels so, also as JSON in a cell
    of a csv file.

    >>> label_of(["spam"], ""), label_of('{"choices": ["spam"]}', ""), label_of([], ""), label_of(float("nan"), "")
    ('spam', 'spam', '', '')

    Raises:
        UserError: several labels, or something else that is no label.
    """
    if is_missing(value):
        return ""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        text = str(value).strip()
        decoded = _decoded(text)
        return text if decoded is None else label_of(decoded, where)
    if hasattr(value, "tolist"):  # of numpy
        return label_of(value.tolist(), where)
    if isinstance(value, Mapping):
        inner = next((name for name in ("choices", "labels", "label", "value", "name") if name in value), None)
        if inner is None:
            raise UserError(f"{where}: expected a label, found {str(dict(value))[:60]}; keep one label per row")
        return label_of(value[inner], where)
    if isinstance(value, list | tuple | set):
        labels = [one for one in value if not is_missing(one) and one != ""]
        if len(labels) > 1:
            raise UserError(
                f"{where}: expected one label per row, found {len(labels)} ({listed([str(one) for one in labels], 3)}); "
                "multi-label classification is not supported: keep one label per row"
            )
        return label_of(labels[0], where) if labels else ""
    return str(value).strip()


def _decoded(text: str) -> Any:
    """The list or mapping that a text encodes, as JSON or as Python prints it. None for every other text."""
    if _ENCODED.get(text[:1]) != text[-1:] or not text:
        return None
    for decode in (json.loads, ast.literal_eval):
        try:
            found = decode(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        return found if isinstance(found, list | dict) else None
    return None


@dataclass(frozen=True)
class NoLabel:
    """Which labels mean "no label". The empty label always does.

    Attributes:
        values: the values that the user named, and no others. None: the words in `EMPTY_WORDS`, and −1 if there are at least
            two other labels and all of them are integers from 0 on.
    """

    values: frozenset[str] | None = None

    @classmethod
    def of(cls, option: str | Sequence[str] | None) -> "NoLabel":
        """From the option `unlabeled_value`."""
        if option is None:
            return cls()
        return cls(frozenset([option] if isinstance(option, str) else option))

    def among(self, labels: Collection[str]) -> list[str]:
        """Those of the labels that mean "no label".

        >>> NoLabel().among({"0", "1", "-1", ""}), NoLabel().among({"spam", "ham", "-1"}), NoLabel.of("?").among({"?", "-1"})
        (['', '-1'], [], ['?'])
        """
        if self.values is not None:
            return sorted(label for label in labels if not label or label in self.values)
        empty = {label for label in labels if not label or label.lower() in EMPTY_WORDS}
        minus = {label for label in labels if _MINUS_ONE.fullmatch(label)}
        others = set(labels) - empty - minus
        counts = all(_INTEGER.fullmatch(_without_zeros(label)) and label[0] != "-" for label in others)
        return sorted(empty | minus if len(others) > 1 and counts else empty)


def _without_zeros(label: str) -> str:
    return label.partition(".")[0] if _WHOLE_FLOAT.fullmatch(label) else label


def class_names(values: Iterable[object]) -> list[str]:
    """The distinct labels as stripped strings, sorted, so that their order does not depend on the order of the rows.

    >>> class_names([10, 9, 9]), class_names(["spam ", "ham"]), class_names([True, False])
    (['9', '10'], ['ham', 'spam'], ['False', 'True'])
    """
    names = {str(value).strip() for value in values}
    if all(_INTEGER.fullmatch(name) for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def one_spelling(counts: Mapping[str, int]) -> dict[str, str]:
    """Labels that certainly mean the same class → one spelling. Labels that stay as they are, are not in it.

    The same class are: equal numbers, if all labels are integers (`0.0` becomes `0`); spellings of true and false; and texts
    that look the same, with other blanks or other bytes (Unicode NFC). The spelling of most rows is kept.

    >>> one_spelling({"0.0": 5, "1.0": 5}), one_spelling({"TRUE": 3, "True": 1, "FALSE": 4})
    ({'0.0': '0', '1.0': '1'}, {'True': 'TRUE'})
    """
    if counts and all(_INTEGER.fullmatch(_without_zeros(name)) for name in counts):
        return {name: _without_zeros(name) for name in counts if _without_zeros(name) != name}
    truth = {name.lower() for name in counts} <= {"true", "false"}
    kept: dict[str, str] = {}
    for name in sorted(counts, key=lambda name: (-counts[name], name)):
        kept.setdefault(name.lower() if truth else _look(name), name)
    found = {name: kept[name.lower() if truth else _look(name)] for name in counts}
    return {name: one for name, one in found.items() if one != name}


def _look(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name.translate(_INVISIBLE)).split())


def as_class(label: str, classes: Collection[str]) -> str | None:
    """The class that a label certainly means, or None.

    >>> as_class("0.0", ["0", "1"]), as_class("0", ["0.0", "1.0"]), as_class("TRUE", ["False", "True"])
    ('0', '0.0', 'True')
    >>> as_class("A", ["a", "b"]) is None
    True
    """
    if label in classes:
        return label
    keys = [_without_zeros, _look] + ([str.lower] if {name.lower() for name in classes} <= {"true", "false"} else [])
    for key in keys:
        same = [name for name in classes if key(name) == key(label)]
        if len(same) == 1:
            return same[0]
    return None


def class_index(label: str, classes: Sequence[str], where: str) -> int:
    """The number of the class that a label means.

    Raises:
        UserError: it means none of the classes.
    """
    found = as_class(label, classes)
    if found is None:
        nearest = difflib.get_close_matches(label, classes, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else "correct the label, or label training rows with it"
        raise UserError(f"{where}: unknown label {label!r}; the classes are {listed(list(classes))}; {hint}")
    return classes.index(found)


def spelling_note(what: str, merged: Mapping[str, str]) -> list[str]:
    """A note on labels that were read as another spelling of the same class."""
    if not merged:
        return []
    pairs = [f"{name!r} as {one!r}" for name, one in merged.items()]
    shown = ", ".join(pairs[:3]) + (f" and {len(pairs) - 3} more" if len(pairs) > 3 else "")
    return [f"{what}: the same class in two spellings: read {shown}"]


def unlabeled_note(what: str, source: str, counts: Mapping[str, int], doubtful: bool) -> list[str]:
    """A note on rows without a label, which are read as unlabeled texts.

    Args:
        counts: what meant "no label" → number of texts.
        doubtful: whether nobody has told what means "no label".
    """
    total = sum(counts.values())
    if not total:
        return []
    told = [label for label in counts if label]
    which = f" (no label: {', '.join(map(repr, told))}{' or empty' if '' in counts else ''})" if told else " (no label)"
    doubt = f"; if this is a class, give {spelled('unlabeled_value', '')}" if told and doubtful else ""
    return [f"{what}: {total:,} text{'s' if total > 1 else ''} from {source}{which}{doubt}"]
