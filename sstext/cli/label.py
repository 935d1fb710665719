"""`sstext label`."""

import argparse
import shlex
from typing import Any

from sstext.cli.flags import add_same_flags, values_of_same_flags
from sstext.errors import UserError

#: Options that mean the same as in `train`.
SAME = ("text_column", "label_column", "encoding")


def add_label(commands: Any) -> None:
    label = commands.add_parser(
        "label",
        help="label texts in the terminal or in the browser",
        description="Shows the texts of a file one after another and writes their labels into it. Every label is on disk "
        "before the next text is shown. The same command goes on where you stopped.",
    )
    label.set_defaults(handler=run_label)
    label.add_argument("file", help="File with texts and a column of labels, as `sstext suggest` writes it.")
    label.add_argument(
        "--classes", nargs="+", metavar="NAME", default=[],
        help="Names of the classes. Those that occur in the file are known, and in the folder of a run, those of the run. You "
        "can also add classes while you label.",
    )  # fmt: skip
    label.add_argument(
        "--web", action="store_true",
        help="Label in the browser, on a page that only this machine can open. Default: in the terminal.",
    )  # fmt: skip
    label.add_argument("--port", type=int, default=0, metavar="N", help="Port of the page. Default: any that is free.")
    add_same_flags(label, *SAME)


def _classes_of_run(file: str) -> list[str]:
    """The classes of the run in whose folder a file is. A model guesses only some of them."""
    from pathlib import Path

    from sstext.storage.run_folder import RunDirectory

    run = RunDirectory(Path(file).absolute().parent)
    return list(run.read_results()["classes"]) if run.holds_run() and run.results.is_file() else []


def run_label(parsed: argparse.Namespace) -> None:
    """`sstext label`."""
    import sys

    from sstext.data.label_file import LabelFile

    file = LabelFile(
        parsed.file, [*parsed.classes, *_classes_of_run(parsed.file)], **values_of_same_flags(parsed, *SAME)
    )
    if parsed.web:
        from sstext.cli.label_page import serve

        serve(file, parsed.port)
    else:
        try:
            from sstext.cli.label_terminal import LabelApp
        except ModuleNotFoundError as error:
            raise UserError(
                f"label: the terminal needs the package {error.name}; pip install 'sstext[label]', or add --web"
            ) from None
        if not sys.stdin.isatty() or not sys.stdout.isatty():
            raise UserError("label: expected a terminal; run it in one, or add --web")
        LabelApp(file).run()
    left = file.total - file.done
    print(f"{parsed.file}: {file.done:,} of {file.total:,} texts are labeled{'' if left else '; all of them'}.")
    if file.done:
        given = {
            name: value for name, value in values_of_same_flags(parsed, *SAME).items() if value not in (None, "utf-8")
        }
        flags = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", value)]
        own = shlex.join([parsed.file, *flags])
        print(f"Train with them: sstext train --labeled {own} --unlabeled corpus.jsonl --encoder demo --output out")
        print(f"Or go on from a run: sstext train out --more {shlex.quote(parsed.file)}")
