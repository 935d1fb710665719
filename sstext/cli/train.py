"""TODO cli.train."""

import argparse
import os
from typing import Any

from sstext.cli.console import _is_first_process
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


def _add_train(commands: Any) -> None:
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
    given = {name: value for name, value in vars(parsed).items() if name in options(RunConfig)}
    config = read_config(parsed.recipe, given)
    if config.device.startswith("cuda:"):  # before torch looks: the run then sees this GPU alone
        os.environ["CUDA_VISIBLE_DEVICES"], config.device = config.device.removeprefix("cuda:"), "cuda"
    from sstext.cli import console as tables
    from sstext.inference.devices import calm_libraries
    from sstext.run import train as run
    from sstext.selftraining import budget as planning

    reporter = Reporter(config.quiet or not _is_first_process())
    calm_libraries()
    if config.dry_run:
        tables.show_plan(planning.plan(config, reporter=reporter))
        return
    results = run.train(config, reporter=reporter)
    if _is_first_process():
        tables.show_results(results, str(config.output), config.budget)
