"""SemiSupervisedTrainingArguments: `TrainingArguments` with our options as fields."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from sstext.config.old_options import MOVED
from sstext.config.option_groups import DataOptions, SemiSupervisedOptions, TrainingOptions
from sstext.config.options import checked, option, options
from sstext.config.run_config import RunConfig, checked_edits
from sstext.errors import UserError
from sstext.hub.publishing import refuse_whole_checkpoints
from sstext.inference.devices import resolve_device, resolve_precision
from sstext.methods.method import Stage
from sstext.training.loggers import in_one_run


def _same_help(group: type, name: str) -> str:
    return options(group)[name].metadata["help"]


@dataclass
class SemiSupervisedTrainingArguments(SemiSupervisedOptions, TrainingArguments):
    """`TrainingArguments` with the semi-supervised options as fields, so that hyper-parameter search reaches them.

    All defaults of `TrainingArguments` apply. With 20–500 labels, the new head needs a much larger rate than the encoder:
    `sstext train` uses `learning_rate=2e-4, head_learning_rate=1e-3`. Here, both have the same rate by default.

    >>> SemiSupervisedTrainingArguments("out", use_cpu=True).unlabeled_batch_ratio
    2.0
    """

    head_learning_rate: float | None = option(None, _same_help(TrainingOptions, "head_learning_rate"))
    max_length: int | None = option(None, _same_help(DataOptions, "max_length"))
    student_noise: bool = option(
        True, "Whether labeled and pseudo-labeled rows get token edits. It has no effect without pseudo-labels."
    )

    def __post_init__(self) -> None:
        for name, spec in OUR_FIELDS.items():
            setattr(self, name, checked(name, getattr(self, name), spec))
        if self.gold_share == 0:
            raise UserError("gold_share: expected more than 0, so that every batch has labeled rows, found 0")
        self.edits = checked_edits(self.edits)
        super().__post_init__()
        refuse_whole_checkpoints(self.hub_strategy)


#: Fields that are also options of a run, and have the same ranges.
OUR_FIELDS = options(SemiSupervisedOptions) | {
    "head_learning_rate": options(TrainingOptions)["head_learning_rate"],
    "max_length": options(DataOptions)["max_length"],
}


def _named_errors(generated: Callable[..., None]) -> Callable[..., None]:
    """The generated `__init__`, with an error that names the new argument for a former one."""
    fields = SemiSupervisedTrainingArguments.__dataclass_fields__

    @wraps(generated)
    def initialize(self: Any, *args: Any, **given: Any) -> None:
        for name in given.keys() - fields.keys():
            argument, key = MOVED.get(name, ("", ""))
            if argument in fields:
                raise UserError(f"argument {name!r} has been replaced; use {argument}={{{key!r}: …}}")
            if key in fields:
                raise UserError(f"argument {name!r} has been replaced; use {key}=…")
        generated(self, *args, **given)

    return initialize


SemiSupervisedTrainingArguments.__init__ = _named_errors(  # type: ignore[method-assign]
    SemiSupervisedTrainingArguments.__init__
)


#: Options that are fields of the trainer's arguments under the same name.
SAME_NAME = (
    "head_learning_rate", "unlabeled_batch_ratio", "gold_share", "logit_adjustment", "edits", "views",
)  # fmt: skip


#: Fields of TrainingArguments that one of our options sets.
HAVE_OPTIONS = {
    "output_dir": "--output", "max_steps": "--steps and --round-steps", "num_train_epochs": "--steps and --round-steps",
    "bf16": "--precision", "fp16": "--precision", "use_cpu": "--device",
    "data_seed": "--seed", "report_to": "--report-to",
} | {
    name: f"--{name.replace('_', '-')}"
    for name in (*SAME_NAME, "method", "method_args", "regularizers", "learning_rate", "seed", "max_length")
}  # fmt: skip


#: Our defaults of fields of TrainingArguments. A tenth of the steps is warm-up.
DEFAULTS = {"weight_decay": 0.01, "warmup_steps": 0.1, "save_steps": 50}
#: The only key of `training_args` that is not a field of TrainingArguments. Training stops after this number of evaluations
#: without a gain.
PATIENCE = "early_stopping_patience"


#: Fields of TrainingArguments that cannot be set.
OURS = frozenset(
    {
        "save_strategy", "eval_strategy", "save_only_model", "load_best_model_at_end",
        "metric_for_best_model", "greater_is_better", "restore_callback_states_from_checkpoint", "remove_unused_columns",
        "resume_from_checkpoint", "ignore_data_skip",
    }
)  # fmt: skip


def stage_arguments(
    config: RunConfig,
    stage: Stage,
    *,
    steps: int,
    seed: int,
    max_length: int,
    has_development_rows: bool,
    output: Path,
) -> SemiSupervisedTrainingArguments:
    """The arguments of the trainer of a stage. Its objective is given to the trainer itself.

    Args:
        config: the options of the run.
        stage: its batch size is divided by the number of processes.
        steps: optimizer steps.
        seed: seed of everything random in the training.
        max_length: maximum number of tokens that are read of a text.
        has_development_rows: whether the best step is chosen on them.
        output: folder of the checkpoints.

    Raises:
        UserError: `TrainingArguments` refuses one of the `training_args`, one of them is set by us, or the processes cannot
            share a batch.
    """
    _refuse_ours(config)
    _check_numbers(config)
    device = resolve_device(config.device)
    precision = resolve_precision(config.precision, device)
    given = {name: value for name, value in config.training_args.items() if name != PATIENCE}
    arguments: dict[str, Any] = (
        DEFAULTS
        | {name: getattr(config, name) for name in SAME_NAME}
        | {
            "output_dir": str(output),
            "max_steps": steps,
            "learning_rate": stage.schedule.learning_rate,
            "seed": seed,
            "bf16": precision == "bf16",
            "fp16": precision == "fp16",
            "use_cpu": device.type == "cpu",
            "max_length": max_length,
            "student_noise": stage.noise,
            "logging_steps": 10,
            "save_strategy": "steps",
            "save_total_limit": 2,  # at 1, Trainer would drop the newest one at the end for the best one
            "restore_callback_states_from_checkpoint": True,
            "report_to": [name for name in config.report_to if name not in in_one_run(config.report_to)] or "none",
            "log_level": "error",
            "log_level_replica": "error",
            "ddp_find_unused_parameters": False,
        }
    )
    if has_development_rows:
        every = min(steps, given.pop("eval_steps", None) or max(1, steps // 6))
        given.pop("save_steps", None)  # a checkpoint that may be the best one is written at every evaluation
        arguments |= {
            "eval_strategy": "steps", "eval_steps": every, "save_steps": every,
            "load_best_model_at_end": True, "metric_for_best_model": "choice", "greater_is_better": True,
        }  # fmt: skip
    try:
        made = SemiSupervisedTrainingArguments(**arguments | given)
    except (TypeError, ValueError) as error:
        raise UserError(f"training_args: {error}") from error
    if precision == "fp32":
        made.mixed_precision = "no"  # otherwise the launcher would decide
    if "per_device_train_batch_size" not in config.training_args:
        name = "method_args: round_batch_size" if stage.schedule.of_rounds else "batch_size"
        rows, parts = stage.schedule.batch_size, made.world_size * made.gradient_accumulation_steps
        if rows % parts:
            raise UserError(f"{name}: expected a multiple of {parts} (processes × accumulation steps), found {rows}")
        made.per_device_train_batch_size = rows // parts
    return made


def patience_of(config: RunConfig) -> int:
    """Number of evaluations on the development rows without a gain after which a training stops.

    Raises:
        UserError: it is not a whole number of at least 1.
    """
    patience = config.training_args.get(PATIENCE, 3)
    if type(patience) is not int or patience < 1:
        raise UserError(f"training_args: {PATIENCE}: expected a whole number of at least 1, found {patience!r}")
    return patience


def _check_numbers(config: RunConfig) -> None:
    """Refuse numbers in `training_args` that `TrainingArguments` accepts, but that make a training fail."""
    patience_of(config)
    for name in ("eval_steps", "save_steps"):
        steps = config.training_args.get(name, 1)
        if type(steps) is not int or steps < 1:
            raise UserError(f"training_args: {name}: expected a whole number of at least 1, found {steps!r}")
    decay = config.training_args.get("weight_decay", 0.0)
    if isinstance(decay, bool) or not isinstance(decay, int | float) or not decay >= 0:
        raise UserError(f"training_args: weight_decay: expected a number of at least 0, found {decay!r}")


def _refuse_ours(config: RunConfig) -> None:
    for name in sorted(config.training_args):
        if name in HAVE_OPTIONS:
            raise UserError(f"training_args: {name} is set by {HAVE_OPTIONS[name]}; give that instead")
        if name in OURS or name.startswith(("push_to_hub", "hub_")):
            raise UserError(
                f"training_args: {name} cannot be set: continuing a run, choosing its model and keeping its private files "
                "private depend on it; leave it out"
            )
