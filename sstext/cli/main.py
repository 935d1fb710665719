"""The command line: `sstext train | predict | evaluate | report | push | methods`.

Flags are made from the options of `sstext.config`. Slow imports are inside the handlers, so that
`sstext --help` answers at once.
"""

import argparse
import difflib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from sstext.cli.methods import add_methods
from sstext.cli.predict import add_evaluate, add_predict
from sstext.cli.push import add_push
from sstext.cli.report import add_report
from sstext.cli.train import add_train
from sstext.config.old_options import replacement
from sstext.errors import UserError

INTERRUPTED = 130  # the shell's code for a program that Ctrl-C has stopped


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0, 2 for an error that the user can correct, or 130 after Ctrl-C."""
    parsed, unknown = parser().parse_known_args(arguments)
    if unknown:
        print(f"sstext: error: {_unrecognized(unknown[0], parsed.command)}", file=sys.stderr)
        raise SystemExit(2)  # as argparse itself does
    try:
        parsed.handler(parsed)
    except UserError as error:
        print(f"sstext: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        remedy = "; the same command continues the run" if parsed.command == "train" else ""
        print(f"\nsstext: interrupted{remedy}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of stdout, for example `head`, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0


class _Parser(argparse.ArgumentParser):
    """A parser that reports an error in one line, without the usage. The parsers of the commands do so, too."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"sstext: error: {message}; `{self.prog} --help` lists the arguments\n")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = _Parser(
        prog="sstext",
        description="Trains a text classifier from a few labeled texts and many unlabeled ones.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"sstext {_version()}")
    commands = top.add_subparsers(dest="command", required=True, metavar="command")
    add_train(commands)
    add_predict(commands)
    add_evaluate(commands)
    add_report(commands)
    add_push(commands)
    add_methods(commands)
    return top


def _unrecognized(argument: str, command: str) -> str:
    """The message for an argument that a command does not have."""
    subparsers = next(action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    flags = [flag for action in subparsers.choices[command]._actions for flag in action.option_strings]
    now = replacement(argument.split("=")[0].removeprefix("--").removeprefix("no-").replace("-", "_"), flag=True)
    if command == "train" and now is not None:
        return f"{argument.split('=')[0]} has been replaced; use {now}"
    nearest = difflib.get_close_matches(argument.split("=")[0], flags, n=2)
    hint = f"did you mean {' or '.join(nearest)}?" if nearest else f"`sstext {command} --help` lists the arguments"
    return f"{command} has no argument {argument!r}; {hint}"


def _version() -> str:
    from importlib.metadata import version

    return version("sstext")


if __name__ == "__main__":
    sys.exit(main())
