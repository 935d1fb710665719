"""Options as the user writes them: a flag on the command line, a key in a recipe, an argument in Python.

A message that tells the user to set an option writes it with `spelled`. The command line declares once, with
`spelled_as`, how its user writes options. Everything else is Python.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

Interface = Literal["flags", "recipe", "python"]

_INTERFACE: ContextVar[Interface] = ContextVar("interface", default="python")


@contextmanager
def spelled_as(interface: Interface) -> Iterator[None]:
    """Write options in messages as they are written in this interface, inside the block."""
    token = _INTERFACE.set(interface)
    try:
        yield
    finally:
        _INTERFACE.reset(token)


def spelled(name: str, value: Any = None) -> str:
    """An option, and optionally its value, in the words of the interface in use.

    >>> spelled("label_column", "topic"), spelled("allow_overlap", True), spelled("edits", {"mask": 0.1})
    ('label_column="topic"', 'allow_overlap=True', "edits={'mask': 0.1}")
    >>> with spelled_as("flags"):
    ...     spelled("label_column", "topic"), spelled("allow_overlap", True), spelled("edits", {"mask": 0.1})
    ('--label-column topic', '--allow-overlap', '--edits mask=0.1')
    >>> with spelled_as("recipe"):
    ...     spelled("label_column", "topic"), spelled("allow_overlap", True), spelled("edits", {"mask": 0.1})
    ('label_column: topic', 'allow_overlap: true', 'edits: {mask: 0.1}')

    Args:
        name: name of the field.
        value: what to set. Default: only the option is named.
    """
    interface = _INTERFACE.get()
    if interface == "flags":
        flag = "--" + name.replace("_", "-")
        return flag if value is None or value is True else f"{flag} {_on_the_command_line(value)}"
    if value is None:
        return name
    if interface == "recipe":
        return f"{name}: {_in_yaml(value)}"
    return f"{name}={json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)}"


def _on_the_command_line(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key}={item}" for key, item in value.items())
    return str(value) if value != "" else "''"


def _in_yaml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {item}" for key, item in value.items()) + "}"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if value != "" else "''"
