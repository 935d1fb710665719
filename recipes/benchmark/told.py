"""What a method is told of the classes beside the labeled rows: nothing, their names, or a description of each.

sstext takes it as its option `descriptions` and decides itself what the texts are worth. A peer has no such option: SetFit gets
rows of its own template (`template_rows`), the others get the texts that sstext gets, as labeled rows (`class_rows`).
"""

from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import yaml

from sstext.data.descriptions import class_texts, read_descriptions, readable_name
from sstext.errors import UserError

NOTHING, NAMES, DESCRIPTIONS = TOLD = ("none", "names", "descriptions")
#: In the place of these: a line from before methods were told anything. `auto` was another method then.
FIRST = "first generation"

ROOT = Path(__file__).parents[2]
#: Files of sets that do not have their own in data/.
FOLDER = ROOT / "recipes" / "descriptions"
#: SetFit's `get_templated_dataset`: its template, and the rows of a class that its documentation makes with it.
TEMPLATE, TEMPLATE_ROWS = "This sentence is {}", 8


def description_file(name: str) -> Path:
    """The file that says what the classes of a set mean.

    Raises:
        UserError: the set has none.
    """
    own, shared = ROOT / "data" / name / "descriptions.yaml", FOLDER / f"{name}.yaml"
    for file in (own, shared):
        if file.is_file():
            return file
    raise UserError(
        f"{name}: expected descriptions of its classes in {shared}; write them, or leave out --told descriptions"
    )


def knowledge(told: str, name: str, classes: Sequence[str]) -> Any:
    """What the option `descriptions` of `sstext.RunConfig` is set to.

    Args:
        told: one of `TOLD`, or `FIRST`, which is nothing.
        name: of the set.
        classes: those of the labeled rows. A random draw may miss some; nobody is told of these.

    Returns:
        "none", "names", or class → its texts.
    """
    if told != DESCRIPTIONS:
        return NAMES if told == NAMES else NOTHING
    file = description_file(name)
    every = {str(key): texts for key, texts in yaml.safe_load(file.read_text(encoding="utf-8")).items()}
    return read_descriptions({key: texts for key, texts in every.items() if key in classes}, classes)


def class_rows(known: Any, classes: Sequence[str]) -> tuple[list[str], list[str]]:
    """The texts that sstext makes of the same knowledge, and their classes.

    Args:
        known: see `knowledge`.

    >>> class_rows("names", ["refund"])
    (['refund', 'This text is refund.'], ['refund', 'refund'])
    """
    rows = class_texts(known, classes)
    if rows is None:
        return [], []
    return list(rows.texts["text"][:]), [rows.classes[number] for number in rows.texts["label"][:]]


def template_rows(known: Any, classes: Sequence[str]) -> tuple[list[str], list[str]]:
    """SetFit's rows of the classes, `TEMPLATE_ROWS` of each: its template with the name; descriptions as they are, in turn.

    Names are read as sstext reads them: underscores are spaces, and if a name is a code, there are no rows.

    >>> texts, classes = template_rows("names", ["damaged_item"])
    >>> len(texts), set(texts)
    (8, {'This sentence is damaged item'})
    """
    if isinstance(known, Mapping):
        texts = {name: list(known[name]) for name in classes}
    else:
        names = {name: readable_name(name) for name in classes} if known == NAMES else {}
        texts = {} if None in names.values() else {name: [TEMPLATE.format(words)] for name, words in names.items()}
    rows = [(text, name) for name, own in texts.items() for text in islice(cycle(own), TEMPLATE_ROWS)]
    return [text for text, _ in rows], [name for _, name in rows]
