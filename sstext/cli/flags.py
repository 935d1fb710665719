"""Flags from options: each option of `sstext.config.run_config` becomes an argument of a command."""

import argparse
import typing
from collections.abc import Callable
from dataclasses import Field
from typing import Any

from sstext.config.options import checked, default_of, options, value_type
from sstext.config.pairs import from_pairs, yaml_value
from sstext.config.run_config import RunConfig
from sstext.errors import UserError

#: Short forms of flags, as other commands have them.
SHORT = {"output": "-o"}
#: Help of options in commands that do not train.
WITHOUT_TRAINING = {
    "max_length": "Maximum number of tokens per text that the encoder reads; the rest is ignored. Default: as many as in "
    "training. Raise it if the end of your texts matters.",
    "prefix": "Text that is put before every text, for example 'query: '. Default: that of the encoder if an earlier run made "
    "it, otherwise none. Set it if the encoder was trained with one, as E5 was; '' means none.",
}
#: Placeholders of a value in the help: for the first value, and for further values.
METAVARS: dict[str, str | tuple[str, ...]] = {
    "method": "NAME",
    "regularizers": "NAME=STRENGTH",
    "descriptions": ("names|none|FILE|CLASS=TEXT", "CLASS=TEXT"),
    "prior": ("auto|uniform|labeled|none|CLASS=SHARE", "CLASS=SHARE"),
    "class_weight": ("balanced|none|CLASS=WEIGHT", "CLASS=WEIGHT"),
    **dict.fromkeys(("data", "labeled", "unlabeled", "dev", "test", "audit"), "FILE"),
    **dict.fromkeys(
        ("steps", "round_steps", "rounds", "folds", "batch_size", "seed", "max_length", "workers", "corpus_size"), "N"
    ),
    "output": "FOLDER",
    "encoder": "NAME",
    "prefix": "TEXT",
    "budget": "TIME",
    "text_column": "COLUMN",
    "label_column": "COLUMN",
    "unlabeled_value": "LABEL",
    "device": "NAME",
    "keep": "SHARE",
    "views": "COLUMN",
    "report_to": "LOGGER",
    "freeze": "PART",
}


def add_flag(group: Any, name: str, spec: Field, *, shown: bool = True, text: str | None = None) -> None:
    """Add the flag of an option. It has no default, because only given flags override the recipe.

    Args:
        shown: whether the help of the command shows it.
        text: help for it. Default: that of the option.
    """
    kind, _ = value_type(spec)
    default, text = default_of(spec), (text or spec.metadata["help"]).replace("%", "%%")
    if isinstance(default, str | int | float) and "Default: " not in text:
        text += f" Default: {default}."
    settings: dict[str, Any] = {
        "help": text if shown else argparse.SUPPRESS,
        "default": argparse.SUPPRESS,
        "dest": name,
    }
    flag = "--" + name.replace("_", "-")
    flags = [flag, SHORT[name]] if name in SHORT else [flag]
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
        group.add_argument(*flags, choices=choices, metavar=None if choices else METAVARS.get(name, "X"), **settings)


class _KeyValues(argparse.Action):
    """KEY=VALUE … → a dict. Values are read as YAML scalars. A repeated flag adds to the dict."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        before = getattr(namespace, self.dest, None)
        before = before if isinstance(before, dict) else {}
        expected = self.metavar if isinstance(self.metavar, str) else (self.metavar or ("KEY=VALUE",))[-1]
        try:
            found = from_pairs(values, read=self._read, expected=expected, given=before)
        except UserError as problem:
            parser.error(f"argument {self.option_strings[0]}: {problem}")
        setattr(namespace, self.dest, before | found)

    def _read(self, value: str) -> Any:
        return None if value.strip().lower() == "none" else yaml_value(value)


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


def add_run_command(
    commands: Any, name: str, handler: Callable[[argparse.Namespace], object], *, finished: bool = False, **texts: str
) -> Any:
    """Add a command that takes the folder of a run, and return its parser.

    Args:
        name, handler: of the command.
        finished: whether only finished runs will do.
        **texts: `help`, a line in the list of the commands, and `description`, what the command does.
    """
    command = commands.add_parser(name, **texts)
    command.set_defaults(handler=handler)
    which = "a finished run (--output of train)" if finished else "a run (--output of train), finished or not"
    command.add_argument("folder", help=f"Folder of {which}.")
    return command


def add_quiet(command: Any) -> None:
    """Add the flag that turns notes and progress off."""
    command.add_argument("--quiet", action="store_true", help="Print no notes and no progress.")


def add_profile(command: Any, *, shown: bool = True) -> None:
    """Add the flag that measures where the time goes. Unless it is shown, `--help` is silent about it."""
    command.add_argument(
        "--profile",
        metavar="FOLDER",
        help=(
            "Show where the time goes: print a table of shares and write it to times.csv in this folder, with torch traces of "
            "a few steps (chrome://tracing and Perfetto show them). Measuring takes some time itself."
            if shown
            else argparse.SUPPRESS
        ),
    )


def add_excel_safe(command: Any) -> None:
    """Add the flag for csv files that people open in a spreadsheet."""
    command.add_argument(
        "--excel-safe",
        action="store_true",
        help="Put a ' before cells of csv and tsv that a spreadsheet would run as formulas: those that begin with =, +, -, @, "
        "a tab or a line break. Default: they are written as they are, and one line says so.",
    )


def add_same_flags(command: Any, *names: str) -> None:
    """Add flags with the same meaning as in `train`, and with the defaults of the options, to a command that does not train."""
    known = options(RunConfig)
    for name in names:
        add_flag(command, name, known[name], text=WITHOUT_TRAINING.get(name))
        command.set_defaults(**{name: default_of(known[name])})


def values_of_same_flags(parsed: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The values of flags that `add_same_flags` has added, by option.

    Raises:
        UserError: a value has another type, or is out of range.
    """
    known = options(RunConfig)
    return {name: checked(name, getattr(parsed, name), known[name]) for name in names}
