"""KEY=VALUE …: how people write a mapping on a command line."""

import re
from collections.abc import Callable, Iterable
from typing import Any

import yaml

from sstext.config.yaml_text import read_yaml
from sstext.errors import UserError


def yaml_value(text: str) -> Any:
    """A value as YAML reads it; `none` is None, and a number without a dot such as 1e-3 is a number.

    >>> yaml_value("1e-3"), yaml_value("[.7, .3]"), yaml_value("none")
    (0.001, [0.7, 0.3], None)
    """
    if text.strip().lower() == "none":
        return None
    return float(text) if re.fullmatch(r"\s*[-+]?\d+e[-+]?\d+\s*", text, re.IGNORECASE) else read_yaml(text)


def from_pairs(
    pairs: Iterable[str],
    *,
    read: Callable[[str], Any] = yaml_value,
    expected: str = "KEY=VALUE",
    given: Iterable[str] = (),
) -> dict[str, Any]:
    """KEY=VALUE … → a dict.

    Args:
        pairs: the pairs.
        read: what a value becomes.
        expected: what a pair looks like, for messages.
        given: keys that were given before.

    Raises:
        UserError: not a pair, no value, a value that YAML cannot read, or a key that is given twice.

    >>> from_pairs(["threshold=.9", "view=same"])
    {'threshold': 0.9, 'view': 'same'}
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise UserError(f"expected {expected}, found {pair!r}")
        if not value.strip():
            raise UserError(f"no value given in {pair!r}")
        if key in found or key in given:
            raise UserError(f"{key!r} is given twice")
        try:
            found[key] = read(value)
        except yaml.YAMLError:
            raise UserError(f"expected a YAML value, found {value!r} in {pair!r}") from None
    return found
