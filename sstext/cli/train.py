"""`sstext train`."""

import argparse
import os
from pathlib import PurePath
from typing import Any

from sstext.cli.flags import add_flag, add_profile, add_quiet
from sstext.config.option_groups import (
    DataOptions,
    EncoderOptions,
    RunOptions,
    SelfTrainingOptions,
    SemiSupervisedOptions,
    TrainingOptions,
)
from sstext.config.options import options
from sstext.config.recipe import read_config
from sstext.config.run_config import RunConfig
from sstext.config.spelling import spelled_as
from sstext.errors import UserError, listed
from sstext.progress import Reporter

RECIPES = (".yaml", ".yml")
#: Endings of files that are no encoders.
DATA = (
    ".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".xlsx", ".arrow", ".txt", ".gz", ".bz2", ".xz", ".zip",
)  # fmt: skip
#: Groups of options, in the order in which people decide on them.
GROUPS = (DataOptions, EncoderOptions, SemiSupervisedOptions, SelfTrainingOptions, TrainingOptions, RunOptions)
EXAMPLE = """examples:
  sstext train tickets.csv --encoder demo --output out
  sstext train --labeled my.csv --unlabeled corpus.jsonl --encoder demo --output out

`sstext train --help-all` shows all options."""


def add_train(commands: Any) -> None:
    """The command and its flags. `--help` shows the common ones, `--help-all` all of them."""
    command: dict[str, Any] = {
        "help": "train a classifier on labeled and unlabeled texts",
        "description": "Fine-tunes an encoder on labeled texts and self-trains it on unlabeled ones.\n"
        "Options come from the recipe; flags override it.",
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }
    train = commands.add_parser("train", epilog=EXAMPLE, **command)
    train.set_defaults(handler=run_train)
    _add_arguments(train, every=False)
    train.add_argument("--help-all", action=_HelpAll, command=command, nargs=0, help="Show all options and exit.")


def _add_arguments(train: Any, *, every: bool) -> None:
    train.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        help="A table of texts (as --data), or a recipe: a YAML file with options. They have the names of the flags, with _ "
        "instead of -. Or the folder of a finished run, to make a similar one: with --more labels, or with other options.",
    )
    known = options(RunConfig)
    for kind in GROUPS:
        group = train.add_argument_group((kind.__doc__ or "").split("\n")[0].rstrip(".").lower())
        for name in options(kind):
            add_flag(group, name, known[name], shown=every or known[name].metadata["common"])
        if kind is RunOptions:
            group.add_argument(
                "--dry-run", action="store_true", help="Print the plan with its expected time, and stop."
            )
            group.add_argument(
                "--more", metavar="FILE", action="append",
                help="Further labeled texts, to go on from a run, whose folder is given instead of the recipe. They join "
                "its labels in a new run. Its folder has the next number (out-2), unless --output names another one. "
                "For several files, repeat it.",
            )  # fmt: skip
            report = group.add_argument
            report(
                "--report", action=argparse.BooleanOptionalAction, default=True, help="Write report.html. Default: yes."
            )
            add_profile(group, shown=every)
            add_quiet(group)


class _HelpAll(argparse.Action):
    """Print the help with all options."""

    def __init__(self, *args: Any, command: dict[str, Any], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.command = command

    def __call__(self, parser: Any, *_: Any) -> None:
        full = argparse.ArgumentParser(parser.prog, **{k: v for k, v in self.command.items() if k != "help"})
        _add_arguments(full, every=True)
        full.print_help()
        parser.exit()


def run_train(parsed: argparse.Namespace) -> int:
    """`sstext train`. Returns the exit code: 1 if the model cannot be used."""
    from sstext.cli.console import is_first_process

    reporter = Reporter(parsed.quiet or not is_first_process())
    given = {name: value for name, value in vars(parsed).items() if name in options(RunConfig)}
    if parsed.more is not None or _is_run(parsed.files):
        return _run(parsed, *_go_on(parsed, given, reporter), reporter)
    recipe, data = _files(parsed)
    with spelled_as("flags" if recipe is None else "recipe"):
        return _run(parsed, read_config(recipe, given | data), None, reporter)


def _is_run(files: list[str]) -> bool:
    """Whether the only argument without a flag is the folder of a run."""
    from sstext.storage.run_folder import RunDirectory

    return len(files) == 1 and RunDirectory(files[0]).holds_run()


def _files(parsed: argparse.Namespace) -> tuple[str | None, dict[str, str]]:
    """The recipe, and the option `data`, among the arguments without a flag.

    Raises:
        UserError: two of one kind, or the folder of a run.
    """
    from sstext.storage.run_folder import RunDirectory

    files, encoders = list(parsed.files), getattr(parsed, "encoder", [])
    while len(encoders) > 1 and PurePath(encoders[-1]).suffix.lower() in (*RECIPES, *DATA):
        files.append(encoders.pop())  # in `--encoder demo my.csv`, argparse takes it for one more encoder
    recipes = [file for file in files if file.lower().endswith(RECIPES)]
    tables = [file for file in files if file not in recipes]
    for folder in tables:
        if RunDirectory(folder).holds_run():
            raise UserError(f"{folder}: this is the folder of a run; give it alone, without a recipe or a table")
    if len(recipes) > 1:
        raise UserError(f"train: expected one recipe, found {listed(recipes)}")
    if len(tables) > 1 or (tables and hasattr(parsed, "data")):
        found = listed([*tables, *([parsed.data] if hasattr(parsed, "data") else [])])
        raise UserError(f"train: expected one file with all texts, found {found}; give --labeled and --unlabeled")
    return recipes[0] if recipes else None, {"data": tables[0]} if tables else {}


def _run(parsed: argparse.Namespace, config: RunConfig, before: Any, reporter: Reporter) -> int:
    """Train, or only say what would be done. Returns the exit code.

    Args:
        before: the run from which this one goes on, or None.
    """
    if config.device.startswith("cuda:"):  # before torch reads it, so that the run sees only this GPU
        os.environ["CUDA_VISIBLE_DEVICES"], config.device = config.device.removeprefix("cuda:"), "cuda"
    from sstext.cli import profile, train_tables
    from sstext.cli.console import is_first_process
    from sstext.inference.devices import calm_libraries
    from sstext.run import dry_run, train

    calm_libraries()
    if parsed.dry_run:
        train_tables.show_forecast(dry_run.forecast(config, reporter=reporter))
        return 0
    if parsed.profile is not None:
        if config.workers is not None and config.workers > 1:
            raise UserError("--profile: only this process is measured; leave --workers out")
        if config.engine == "ray":
            raise UserError("--profile: only this process is measured; leave --engine ray out")
        config.workers = 1
    with profile.shown(parsed.profile):
        earlier, known = (before.path, before.read_results()) if before is not None else (None, None)
        results = train.train(config, reporter=reporter, report=parsed.report, before=earlier)
    if is_first_process():
        train_tables.show_results(results, str(config.output), config.budget, known)
    return 1 if results.get("unusable") else 0


def _go_on(parsed: argparse.Namespace, given: dict[str, Any], reporter: Reporter) -> tuple[RunConfig, Any]:
    """The options of a run that goes on from a finished one, and that one."""
    if len(parsed.files) != 1:
        raise UserError(
            f"more: expected the folder of one run, found {listed(parsed.files) or 'none'}; for example: "
            "sstext train out --more labels.csv"
        )
    folder = parsed.files[0]
    from sstext.run.continuing import finished_run, go_on

    before, file = finished_run(folder, "train"), None
    if parsed.dry_run and parsed.more is not None:  # which leaves nothing on disk
        import atexit
        import shutil
        from pathlib import Path
        from tempfile import mkdtemp

        file = Path(mkdtemp(prefix="sstext-"), "labeled.csv")
        atexit.register(shutil.rmtree, file.parent, ignore_errors=True)
        reporter.note("more: the labels are read from a temporary file, which --dry-run deletes at the end")
    return go_on(folder, parsed.more, given, reporter=reporter, file=file), before
