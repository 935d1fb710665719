"""`sstext train`."""

import argparse
import os
from typing import Any

from sstext.cli.flags import add_flag, add_quiet
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
from sstext.progress import Reporter

#: Groups of options, in the order in which people decide on them.
GROUPS = (DataOptions, EncoderOptions, SemiSupervisedOptions, SelfTrainingOptions, TrainingOptions, RunOptions)
EXAMPLE = """example:
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
        "recipe", nargs="?", help="YAML file with options. They have the names of the flags, with _ instead of -."
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
            report = group.add_argument
            report(
                "--report", action=argparse.BooleanOptionalAction, default=True, help="Write report.html. Default: yes."
            )
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


def run_train(parsed: argparse.Namespace) -> None:
    """`sstext train`."""
    from sstext.cli.console import is_first_process

    *_, last = encoders = getattr(parsed, "encoder", [""])
    if parsed.recipe is None and len(encoders) > 1 and last.endswith((".yaml", ".yml")):
        parsed.recipe = encoders.pop()  # in `--encoder demo recipe.yaml`, argparse takes it for one more encoder
    given = {name: value for name, value in vars(parsed).items() if name in options(RunConfig)}
    config = read_config(parsed.recipe, given)
    if config.device.startswith("cuda:"):  # before torch reads it, so that the run sees only this GPU
        os.environ["CUDA_VISIBLE_DEVICES"], config.device = config.device.removeprefix("cuda:"), "cuda"
    from sstext.cli import train_tables
    from sstext.inference.devices import calm_libraries
    from sstext.run import dry_run, train

    reporter = Reporter(parsed.quiet or not is_first_process())
    calm_libraries()
    if parsed.dry_run:
        train_tables.show_forecast(dry_run.forecast(config, reporter=reporter))
        return
    results = train.train(config, reporter=reporter, report=parsed.report)
    if is_first_process():
        train_tables.show_results(results, str(config.output), config.budget)
