"""`sstext suggest`."""

import argparse
import shlex
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

from sstext.cli.flags import add_excel_safe, add_quiet, add_same_flags, values_of_same_flags
from sstext.errors import UserError
from sstext.progress import Reporter

EXAMPLE = """examples:
  sstext suggest corpus.jsonl --encoder demo -n 40 -o to_label.csv
  sstext suggest --run out -n 40 -o to_label.csv"""
#: As in `sstext.data.labeling_tasks`, which takes a while to import.
TOOLS = ("csv", "label-studio", "argilla", "doccano")
NAMES = {"label-studio": "Label Studio", "argilla": "Argilla", "doccano": "doccano"}
#: Options that mean the same as in `train`.
COLUMNS = ("text_column", "label_column")
SAME = (*COLUMNS, "unlabeled_value", "encoding", "prefix", "max_length", "device", "seed")


def add_suggest(commands: Any) -> None:
    suggest = commands.add_parser(
        "suggest",
        help="choose the texts that should be labeled next",
        description="Writes the texts of a corpus that are most worth a label, each with the reason for its choice. A quarter "
        "is always drawn at random, so that figures on labeled texts stay honest.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    suggest.set_defaults(handler=run_suggest)
    suggest.add_argument(
        "corpus", nargs="?", help="File or Hub name with unlabeled texts, as for `train`. Default: the corpus of --run."
    )
    suggest.add_argument(
        "-n",
        "--count",
        type=int,
        metavar="N",
        help="Number of texts. Default: 10 for each class, or 40 without classes.",
    )
    suggest.add_argument(
        "-o", "--output", default="to_label.csv", metavar="FILE", help="File to write. Default: to_label.csv."
    )
    suggest.add_argument(
        "--to", default="csv", choices=TOOLS,
        help="What the file is for. The guesses of a model are pre-annotations. Default: csv, with an empty column `label` "
        "(the ending may also be tsv, jsonl, json or parquet).",
    )  # fmt: skip
    suggest.add_argument(
        "--run",
        metavar="FOLDER",
        help="Folder of a finished run. Its model says which texts are uncertain. Default: none.",
    )
    suggest.add_argument(
        "--labeled", metavar="FILE",
        help="Texts that are labeled already; they are not chosen again. Default: those of --run.",
    )  # fmt: skip
    suggest.add_argument(
        "--encoder", metavar="NAME", help="Pretrained encoder, as for `train`. It is needed without --run."
    )
    suggest.add_argument(
        "--candidates", type=_count_or_all, metavar="N|all",
        help="Number of texts that are embedded and chosen from, drawn at random. Default: 4096, or 4 for each text to choose. "
        "Raise it if a class is very rare and you can wait: embedding takes nearly all of the time.",
    )  # fmt: skip
    suggest.add_argument(
        "--cache", metavar="FOLDER",
        help="Folder in which the embeddings are kept, for further calls and for one that was interrupted. Default: they "
        "are not kept.",
    )  # fmt: skip
    add_excel_safe(suggest)
    add_same_flags(suggest, *SAME)
    add_quiet(suggest)


def _count_or_all(text: str) -> int:
    if text == "all":
        return sys.maxsize
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of texts or all, found {text!r}")
    return int(text)


def run_suggest(parsed: argparse.Namespace) -> None:
    """`sstext suggest`."""
    from pathlib import Path

    from sstext.data.formulas import Formulas
    from sstext.data.labeling_tasks import check_columns, check_ending, write_labeling_tasks
    from sstext.storage.whole import check_target

    columns = values_of_same_flags(parsed, *COLUMNS)
    _keep_labels(parsed)
    check_ending(parsed.output, parsed.to)  # before anything is embedded
    check_columns(parsed.to, **columns)
    check_target("output", Path(parsed.output))
    from sstext.cli.console import new_console
    from sstext.inference.devices import calm_libraries
    from sstext.pseudolabels.texts_to_label import REASONS_OF_SEVERAL
    from sstext.run.suggesting import suggest

    calm_libraries()
    found = suggest(
        parsed.corpus, count=parsed.count, encoder=parsed.encoder, labeled=parsed.labeled, run=parsed.run,
        candidates=parsed.candidates, cache=parsed.cache, reporter=Reporter(parsed.quiet),
        **values_of_same_flags(parsed, *SAME),
    )  # fmt: skip
    formulas = Formulas(parsed.excel_safe)
    write_labeling_tasks(
        parsed.output, found.tasks, parsed.to, found.model or "sstext", formulas=formulas, **columns
    )  # fmt: skip
    formulas.note(parsed.output, Reporter(parsed.quiet))
    reasons = Counter(task.reason for task in found.tasks)
    counted = ", ".join(f"{count:,} {REASONS_OF_SEVERAL[reason]}" for reason, count in reasons.items())
    lines = [f"{parsed.output}: {len(found.tasks):,} texts to label: {counted}.", *next_steps(parsed, columns, found)]
    console = new_console()
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _keep_labels(parsed: argparse.Namespace) -> None:
    """Refuse to write over a file that somebody has labeled.

    Raises:
        UserError: there are labels in it.
    """
    from pathlib import Path

    from sstext.data.label_file import LabelFile

    if parsed.to != "csv" or not Path(parsed.output).is_file():
        return
    try:
        done = LabelFile(parsed.output, **values_of_same_flags(parsed, *COLUMNS, "encoding")).done
    except UserError:  # no file of labels
        return
    if done:
        raise UserError(
            f"output: {parsed.output} has {done:,} label{'s' if done > 1 else ''} already; give another --output, or delete it"
        )


def next_steps(parsed: argparse.Namespace, columns: Mapping[str, Any], found: Any = None) -> list[str]:
    """How to label the texts, and how to train with the labels. `labels.csv` stands for what another tool exports.

    Args:
        found: the `Suggestions`. If a class is guessed for none of the texts, the classes are named for `sstext label`.

    >>> next_steps(argparse.Namespace(to="csv", output="a.csv", run="out"), {})
    ['Label them: sstext label a.csv', 'Then go on: sstext train out --more a.csv']
    """
    here = parsed.to == "csv"
    file = parsed.output if here else "labels.csv"
    flags = [word for name in COLUMNS if columns.get(name) for word in (f"--{name.replace('_', '-')}", columns[name])]
    named = []
    if found is not None and set(found.classes) - {task.guess for task in found.tasks}:
        named = ["--classes", *found.classes]
    label = f"Label them: {shlex.join(['sstext', 'label', file, *named, *flags])}"
    if not here:
        label = f"Label them in {NAMES[parsed.to]}, and export them, for example to {file}."
    if parsed.run is not None:
        return [label, f"Then go on: {shlex.join(['sstext', 'train', parsed.run, '--more', file])}"]
    if found is not None and found.one_file:
        train = shlex.join(["sstext", "train", parsed.corpus, "--encoder", parsed.encoder, *flags, "--output", "out"])
        return [label, f"Then write the labels into {parsed.corpus}, and train: {train}"]
    if parsed.labeled:
        return [label, f"Then add them to {parsed.labeled}, and train with --labeled {shlex.quote(parsed.labeled)}."]
    for name, usual in (("encoding", "utf-8"), ("prefix", None)):
        value = getattr(parsed, name, usual)
        flags += [f"--{name}", value] if isinstance(value, str) and value != usual else []
    words = ["sstext", "train", "--labeled", file, "--unlabeled", parsed.corpus, "--encoder", parsed.encoder, *flags]
    return [label, f"Then train: {shlex.join([*words, '--output', 'out'])}"]
