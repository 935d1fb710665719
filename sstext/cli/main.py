"""The command line: `sstext train | predict | evaluate | report | check | suggest | label | push | verify |
reproduce | forget | methods`.

Flags are made from the options of `sstext.config`. Slow imports are inside the handlers, so that
`sstext --help` answers at once.
"""

import argparse
import difflib
import os
import shlex
import sys
from collections.abc import Sequence
from typing import NoReturn

from sstext.cli.check import add_check
from sstext.cli.forget import add_forget
from sstext.cli.label import add_label
from sstext.cli.methods import add_methods
from sstext.cli.predict import add_evaluate, add_predict
from sstext.cli.push import add_push
from sstext.cli.report import add_report
from sstext.cli.reproduce import add_reproduce
from sstext.cli.suggest import add_suggest
from sstext.cli.train import add_train
from sstext.cli.verify import add_verify
from sstext.config.old_options import replacement
from sstext.config.spelling import spelled_as
from sstext.errors import MachineError, MissingOptionsError, UserError, is_out_of_memory
from sstext.interrupts import interruptible
from sstext.plain import plain, plain_message

INTERRUPTED = 130  # the shell's code for a program that Ctrl-C has stopped; SIGTERM is taken for one
#: Commands that go on where an interrupted one has stopped.
CONTINUED = ("train", "reproduce")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0, 2 for an error that the user can correct, 1 if the machine failed, for example because memory ran out,
        or if the model of a training cannot be used, or 130 after Ctrl-C or SIGTERM.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parsed, unknown = parser().parse_known_args(arguments)
    if unknown:
        _say(_unrecognized(unknown[0], parsed.command))
        raise SystemExit(2)  # as argparse itself does
    try:
        with interruptible(), spelled_as("flags"):
            return parsed.handler(parsed) or 0
    except MissingOptionsError as error:
        _say(f"{error}; for example:\n  {_completed(arguments, error.names)}")
        return 2
    except UserError as error:
        _say(error)
        return 1 if isinstance(error, MachineError) else 2
    except KeyboardInterrupt:
        remedy = "; the same command continues the run" if parsed.command in CONTINUED else ""
        if parsed.command == "predict" and os.path.isdir(parsed.output):
            remedy = "; the same command labels the shards that are missing"
        print(f"\nsstext: interrupted{remedy}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of stdout, for example `head`, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # of a file that vanished, or of the temporary folder: whatever has no message of its own
        from sstext.storage.disk import OF_MACHINE, said

        _say(said(error))
        return 1 if error.errno in OF_MACHINE else 2
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        _say(f"memory ran out ({' '.join(str(error).split())[:200]})")
        return 1


def _say(message: object) -> None:
    print(f"sstext: error: {plain_message(message)}", file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    """A parser that reports an error in one line, without the usage. The parsers of the commands do so, too."""

    def error(self, message: str) -> NoReturn:
        every = "--help-all" if "--help-all" in self._option_string_actions else "--help"
        self.exit(2, f"sstext: error: {plain(message)}; `{self.prog} {every}` lists the arguments\n")


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
    add_check(commands)
    add_suggest(commands)
    add_label(commands)
    add_push(commands)
    add_verify(commands)
    add_reproduce(commands)
    add_forget(commands)
    add_methods(commands)
    return top


#: Values of options in an example.
EXAMPLES = {"labeled": "my.csv", "unlabeled": "corpus.jsonl", "encoder": "demo", "output": "out"}


def _completed(arguments: Sequence[str], missing: Sequence[str]) -> str:
    """The command line with the options that it lacks.

    >>> _completed(["train", "--labeled", "my own.csv"], ["encoder", "output"])
    "sstext train --labeled 'my own.csv' --encoder demo --output out"
    """
    return shlex.join(["sstext", *arguments, *(part for name in missing for part in (f"--{name}", EXAMPLES[name]))])


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
