"""What the classes mean: their names as words, or descriptions. Both become class texts: labeled rows that nobody labeled.

A class name often says what the texts of the class are about. How much class texts count is decided by the labels
(`sstext.pseudolabels.class_texts`). Without labels, descriptions take their place: they also name the classes.

Source: Gao et al. 2023, "The Benefits of Label-Description Training for Zero-Shot Text Classification" (arXiv 2305.02239).
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from sstext.config.yaml_text import read_words
from sstext.data.doubts import near_twins
from sstext.data.loading import Labeled, load_labeled
from sstext.errors import UserError, listed

#: Sentences that are made of a class name.
TEMPLATES = ("{}", "This text is {}.")
#: Words that mean "class" or "one of many". Beside a number or a letter, they say nothing about the class.
_CLASS = frozenset({
    "bucket", "cat", "category", "class", "cls", "cluster", "code", "entry", "group", "id", "idx", "index", "intent", "item",
    "label", "lbl", "node", "option", "segment", "tag", "target", "topic", "type",
})  # fmt: skip
#: Why names of classes are not used.
CODES = "some are numbers or codes"
_ROMAN = re.compile(r"[ivx]+", re.IGNORECASE)
#: Where a word begins in camel case: after a small letter, or after capitals if two small letters follow ("ITSupport").
_HUMPS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z]{2})")
#: A hash or an identifier: at least eight hexadecimal digits, with letters between decimal ones, also in groups.
_HASH = re.compile(r"(?=.*\d-?[a-f]+-?\d)[\da-f]{8,}(-[\da-f]{4,})*", re.IGNORECASE)


def readable_name(name: str) -> str | None:
    """A class name as words. Returns None for a number or a code, which says nothing about the texts of the class.

    Underscores, slashes, dots, colons, hyphens and plus signs become spaces. Words in camel case are separated. They
    become lower case, unless they are abbreviations.

    >>> readable_name("wrong_or_missing_item"), readable_name("Sci/Tech"), readable_name("deliveryDelay")
    ('wrong or missing item', 'Sci Tech', 'delivery delay')
    >>> readable_name("ITSupport"), readable_name("brokenURLLink"), readable_name("FAQs")
    ('IT support', 'broken URL link', 'FAQs')
    >>> [readable_name(name) for name in ("3", "LABEL_3", "class_a", "B12", "TKT-204", "E11.9", "IV", "a", "lbl_1", "3fa85f64")]
    [None, None, None, None, None, None, None, None, None, None]
    >>> readable_name("covid19"), readable_name("5 stars"), readable_name("target group"), readable_name("猫")
    ('covid19', '5 stars', 'target group', '猫')
    """
    if _HASH.fullmatch(name):
        return None
    humped = not name.isupper() and _HUMPS.search(name) is not None
    words = re.sub(r"[\s_/\\.:|+-]+", " ", _HUMPS.sub(" ", name) if humped else name).strip()
    if humped:
        words = " ".join(word if len(word) > 1 and word.isupper() else word.lower() for word in words.split())
    return words if _says_something(words) else None


def _says_something(words: str) -> bool:
    """Whether a name has a word. Numbers and single letters are none, nor are a few letters beside a number."""
    parts = re.findall(r"[^\W\d_]+|\d+", words)
    numbered = any(part.isdigit() for part in parts)
    counted = numbered or any(len(part) == 1 or _ROMAN.fullmatch(part) for part in parts)

    def is_word(part: str) -> bool:
        least = (5 if part.isupper() else 3) if numbered else 2
        if part.isdigit() or _ROMAN.fullmatch(part) or (part.lower() in _CLASS and counted):
            return False
        return len(part) >= least or not part.isascii()

    return any(map(is_word, parts))


def kind_of(descriptions: Any) -> str:
    """What the class texts of an option `descriptions` are: "names" or "descriptions"."""
    return "names" if descriptions == "names" else "descriptions"


def texts_of_names(classes: Sequence[str]) -> dict[str, list[str]]:
    """Class texts made of the class names. Empty if a name is a number or a code.

    A class without a text would be at a disadvantage. Therefore either all classes have texts, or none has any.

    >>> texts_of_names(["damaged_item", "refund"])["damaged_item"]
    ['damaged item', 'This text is damaged item.']
    >>> texts_of_names(["refund", "2"])
    {}
    """
    names = {name: readable_name(name) for name in classes}
    if None in names.values():
        return {}
    return {name: [template.format(words) for template in TEMPLATES] for name, words in names.items()}


def class_texts(descriptions: Any, classes: Sequence[str], encoding: str = "utf-8") -> Labeled | None:
    """The texts of all classes as labeled rows, or None if there are none.

    Descriptions of other classes are left out, with a note: nothing is labeled with them, so that the model cannot know them.

    Args:
        descriptions: "names" (the default of the option), "none" or None, or a source that `read_descriptions` reads.
        classes: C names.

    Raises:
        UserError: see `read_descriptions`.
    """
    if descriptions in (None, "none"):
        return None
    if descriptions == "names":
        found = texts_of_names(classes)
        return _as_rows(found) if found else None
    given, where = _given(descriptions, encoding)
    rows = _as_rows(_checked(given, classes, where))
    return replace(rows, notes=_note_on_other_classes(given, classes))


def described_classes(descriptions: Any, encoding: str = "utf-8") -> Labeled:
    """The descriptions as labeled rows, for a run without labels. The classes and their order are those of the descriptions.

    Args:
        descriptions: a source that `read_descriptions` reads.

    Raises:
        UserError: see `read_descriptions`; or fewer than two classes are described.

    >>> described_classes({"spam": "an advertisement", "ham": ["a message", "an answer"]}).classes
    ['spam', 'ham']
    """
    rows = _as_rows(read_descriptions(descriptions, None, encoding))
    if len(rows.classes) < 2:
        raise UserError(f"descriptions: expected at least two classes, found {listed(rows.classes)}")
    return replace(rows, notes=near_twins("descriptions", rows.classes, "for both"))


def _as_rows(found: Mapping[str, list[str]]) -> Labeled:
    """Texts by class as labeled rows."""
    import datasets

    classes = list(found)
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=classes)})
    rows = {
        "text": [text for texts in found.values() for text in texts],
        "label": [number for number, texts in enumerate(found.values()) for _ in texts],
    }
    return Labeled(datasets.Dataset.from_dict(rows, features=features), classes, [])


def descriptions_file(descriptions: Any) -> Path | None:
    """The file that an option `descriptions` names. Returns None for a word or a mapping.

    Raises:
        UserError: it is neither of these, or there is no such file.
    """
    if isinstance(descriptions, Mapping) or descriptions in (None, "names", "none"):
        return None
    expected = "names, none, a file, or CLASS=TEXT … for every class"
    if not isinstance(descriptions, str | Path):
        raise UserError(f"descriptions: expected {expected}, found {descriptions!r}")
    path = Path(descriptions)
    if not os.path.isfile(path):
        raise UserError(f"descriptions: no such file: {path} (looked for {path.absolute()}); expected {expected}")
    return path


def read_descriptions(source: Any, classes: Sequence[str] | None, encoding: str = "utf-8") -> dict[str, list[str]]:
    """The descriptions of all classes, in the order of the classes: class → its texts.

    Args:
        source: a mapping, a YAML or JSON file with such a mapping, or a table (csv, tsv, json, jsonl, parquet) with a column of
            texts and a column of classes.
        classes: C names. Descriptions of other classes are left out. None: all that are described, in the order of the
            source.

    Raises:
        UserError: the file is missing or cannot be read, a class has no description, or a text is empty. The message names
            file and class.
    """
    given, where = _given(source, encoding)
    return _checked(given, classes, where)


def _given(source: Any, encoding: str) -> tuple[dict[str, Any], str]:
    """The texts of a source by class, in its order and not yet checked, and the name of the source for messages."""
    path = descriptions_file(source)
    if path is None:
        return {str(name): texts for name, texts in source.items()}, "descriptions"
    mapping = _json_mapping(path, encoding) if path.suffix.lower() == ".json" else None
    if mapping is not None:
        return mapping, str(source)
    if path.suffix.lower() not in (".yaml", ".yml"):
        rows = load_labeled(path, what="descriptions", encoding=encoding)
        if rows.without_label is not None:
            raise UserError(
                f"{path}: expected a class for every description, found {len(rows.without_label)} without one"
            )
        found: dict[str, list[str]] = {}
        for text, label in zip(rows.texts["text"][:], rows.texts["label"][:], strict=True):
            found.setdefault(rows.classes[label], []).append(text)
        return found, str(source)
    try:
        content = read_words(path.read_text(encoding=encoding))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"descriptions: {path} cannot be read: {error}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, Mapping):
        found_instead = "nothing" if content is None else f"a {type(content).__name__}"
        raise UserError(f"{path}: expected `class: description` lines, found {found_instead}")
    return dict(content), str(path)


def _json_mapping(path: Path, encoding: str) -> dict[str, Any] | None:
    """The mapping of a JSON file: class → a text or a list of texts. None if the file is a table.

    Raises:
        UserError: a class is given twice.
    """
    twice: list[str] = []

    def noting_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        twice.extend(name for name in dict.fromkeys(names) if names.count(name) > 1)
        return dict(pairs)

    try:
        content = json.loads(path.read_text(encoding=encoding), object_pairs_hook=noting_repeats)
    except (OSError, ValueError, RecursionError):  # JSON lines, or what the reader of tables explains
        return None
    if twice:
        raise UserError(f"{path}: {twice[0]!r} is given twice")
    if not isinstance(content, dict):
        return None
    texts = [text for value in content.values() for text in (value if isinstance(value, list) else [value])]
    return content if texts and all(isinstance(text, str) for text in texts) else None


def _checked(given: Mapping[str, Any], classes: Sequence[str] | None, where: str) -> dict[str, list[str]]:
    """A list of texts for every class, in the order of the classes. Other classes are left out."""
    if classes is None:
        if not all(map(str.strip, given)):
            raise UserError(f"{where}: expected a name for every class, found an empty one")
        classes = list(given)
    if missing := [name for name in classes if name not in given]:
        # A misspelled class is missing under its right name.
        others = [name for name in given if name not in classes]
        also = f"; no text is labeled with {listed(others)}, which is described" if others else ""
        quotes = "; put yes, no, true and false in quotes" if {"True", "False"} & set(others) else ""
        raise UserError(
            f"{where}: expected a description of every class, found none of {listed(missing)}{also}{quotes}"
        )
    found = {}
    for name in classes:
        texts = given[name] if isinstance(given[name], list | tuple) else [given[name]]
        if not texts or any(not isinstance(text, str) or not text.strip() for text in texts):
            raise UserError(f"{where}: expected one text or several for the class {name!r}, found {given[name]!r}")
        found[name] = [text.strip() for text in texts]
    return found


def _note_on_other_classes(given: Mapping[str, Any], classes: Sequence[str]) -> list[str]:
    """A note on described classes that no text is labeled with, if there are any."""
    others = [name for name in given if name not in classes]
    these = "this class" if len(others) == 1 else "these classes"
    return (
        [f"descriptions: no text is labeled with {listed(others)}; the model will not know {these}"] if others else []
    )
