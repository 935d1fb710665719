"""`sstext train`."""

import argparse
import os
from typing import Any

from sstext.cli.flags import add_flag
from sstext.config.options import options
from sstext.config.recipe import read_config
from sstext.config.run_config import RunConfig
from sstext.progress import Reporter

GROUPS = (
    "DataOptions",
    "EncoderOptions",
    "TrainingOptions",
    "SemiSupervisedOptions",
    "SelfTrainingOptions",
    "RunOptions",
)


def add_train(commands: Any) -> None:
    train = commands.add_parser(
        "train",
        help="self-train a classifier",
        description="Fine-tune an encoder on labeled texts and self-train it over unlabeled ones. Options come from the "
        "recipe, flags override it.",
    )
    train.set_defaults(handler=run_train)
    train.add_argument("recipe", nargs="?", help="YAML file with options (names as the flags, with _ for -)")
    known = options(RunConfig)
    by_name = {kind.__name__: kind for kind in RunConfig.__mro__}
    for group_name in GROUPS:
        kind = by_name[group_name]
        group = train.add_argument_group((kind.__doc__ or "").split("\n")[0].rstrip(".").lower())
        for name in options(kind):
            add_flag(group, name, known[name])


def run_train(parsed: argparse.Namespace) -> None:
    """`sstext train`."""
    from sstext.cli.console import is_first_process

    given = {name: value for name, value in vars(parsed).items() if name in options(RunConfig)}
    config = read_config(parsed.recipe, given)
    if config.device.startswith("cuda:"):  # before torch looks: the run then sees this GPU alone
        os.environ["CUDA_VISIBLE_DEVICES"], config.device = config.device.removeprefix("cuda:"), "cuda"
    from sstext.cli import train_tables
    from sstext.inference.devices import calm_libraries
    from sstext.run import dry_run, train

    reporter = Reporter(config.quiet or not is_first_process())
    calm_libraries()
    if config.dry_run:
        train_tables.show_forecast(dry_run.forecast(config, reporter=reporter))
        return
    results = train.train(config, reporter=reporter)
    if is_first_process():
        train_tables.show_results(results, str(config.output), config.budget)
