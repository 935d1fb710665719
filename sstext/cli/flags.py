"""Flags from options: each option of `sstext.config.run_config` becomes an argument of a command."""

import argparse
import typing
from dataclasses import Field
from typing import Any

from sstext.config.options import default_of, options, value_type
from sstext.config.run_config import RunConfig

#: Placeholders of a value in the help: for the first value, and for further values.
METAVARS: dict[str, str | tuple[str, ...]] = {
    "method": "NAME",
    "regularizers": "NAME=STRENGTH",
    "descriptions": ("names|none|FILE|CLASS=TEXT", "CLASS=TEXT"),
    "prior": ("auto|uniform|labeled|none|CLASS=SHARE", "CLASS=SHARE"),
    **dict.fromkeys(("labeled", "unlabeled", "dev", "test", "audit"), "FILE"),
    **dict.fromkeys(("steps", "round_steps", "rounds", "folds", "batch_size", "seed", "max_length", "workers"), "N"),
    "output": "FOLDER",
    "encoder": "NAME",
    "prefix": "TEXT",
    "budget": "TIME",
    "text_column": "COLUMN",
    "label_column": "COLUMN",
    "device": "NAME",
    "keep": "SHARE",
    "views": "COLUMN",
    "report_to": "LOGGER",
    "freeze": "PART",
}


def add_flag(group: Any, name: str, spec: Field, *, shown: bool = True) -> None:
    """Add the flag of an option. It has no default, because only given flags override the recipe.

    Args:
        shown: whether the help of the command shows it.
    """
    kind, _ = value_type(spec)
    default, text = default_of(spec), spec.metadata["help"].replace("%", "%%")
    if isinstance(default, str | int | float) and "Default: " not in text:
        text += f" Default: {default}."
    settings: dict[str, Any] = {
        "help": text if shown else argparse.SUPPRESS,
        "default": argparse.SUPPRESS,
        "dest": name,
    }
    flag = "--" + name.replace("_", "-")
    if kind is bool:
        group.add_argument(flag, action=argparse.BooleanOptionalAction, **settings)
    elif typing.get_origin(kind) is dict:
        group.add_argument(flag, nargs="+", metavar=METAVARS.get(name, "KEY=VALUE"), action=_KeyValues, **settings)
    elif name == "descriptions":
        group.add_argument(flag, nargs="+", metavar=METAVARS[name], action=_WordOrTexts, **settings)
    elif kind is Any:
        group.add_argument(flag, nargs="+", metavar=METAVARS.get(name), action=_WordOrKeyValues, **settings)
    elif typing.get_origin(kind) is list:
        group.add_argument(flag, nargs="+", metavar=METAVARS.get(name, "X"), **settings)
    else:
        choices = spec.metadata["choices"]
        group.add_argument(flag, choices=choices, metavar=None if choices else METAVARS.get(name, "X"), **settings)


class _KeyValues(argparse.Action):
    """KEY=VALUE … → a dict. Values are read as YAML scalars. A repeated flag adds to the dict."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        before = getattr(namespace, self.dest, None)
        found = dict(before) if isinstance(before, dict) else {}
        for pair in values:
            problem = self._add(pair, found)
            if problem:
                parser.error(f"argument {self.option_strings[0]}: {problem}")
        setattr(namespace, self.dest, found)

    def _add(self, pair: str, found: dict[str, Any]) -> str | None:
        """Read a pair into `found`, or report what is wrong with it."""
        import yaml

        key, equals, value = pair.partition("=")
        if not key or not equals:
            expected = self.metavar if isinstance(self.metavar, str) else (self.metavar or ("KEY=VALUE",))[-1]
            return f"expected {expected}, found {pair!r}"
        if not value.strip():
            return f"no value given in {pair!r}"
        if key in found:
            return f"{key!r} is given twice"
        try:
            found[key] = self._read(value)
        except yaml.YAMLError:
            return f"expected a YAML value, found {value!r} in {pair!r}"
        return None

    def _read(self, value: str) -> Any:
        import yaml

        return None if value.strip().lower() == "none" else yaml.safe_load(value)


class _WordOrKeyValues(_KeyValues):
    """One word, or KEY=VALUE …."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        if len(values) == 1 and "=" not in values[0]:
            setattr(namespace, self.dest, values[0])
        else:
            super().__call__(parser, namespace, values, option_string)


class _WordOrTexts(_WordOrKeyValues):
    """One word, or KEY=TEXT …. A text is taken as it is, because YAML would read a colon or a # in it."""

    def _read(self, value: str) -> str:
        return value


def add_quiet(command: Any) -> None:
    """Add the flag that turns notes and progress off."""
    command.add_argument("--quiet", action="store_true", help="Print no notes and no progress.")


def add_same_flags(command: Any, *names: str) -> None:
    """Add flags with the same meaning as in `train`, and with the defaults of the options."""
    known = options(RunConfig)
    for name in names:
        add_flag(command, name, known[name])
        command.set_defaults(**{name: default_of(known[name])})
