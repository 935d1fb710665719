"""The options of a run and a stage of its plan → arguments of the trainer."""

import difflib
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from sstext.config.run_config import RunConfig
from sstext.config.spelling import spelled
from sstext.errors import UserError
from sstext.inference.devices import resolve_device, resolve_precision
from sstext.methods.method import Stage
from sstext.training.arguments import SemiSupervisedTrainingArguments
from sstext.training.loggers import in_one_run

#: Options that are fields of the trainer's arguments under the same name.
SAME_NAME = (
    "head_learning_rate", "unlabeled_batch_ratio", "gold_share", "logit_adjustment", "class_weight", "edits", "views",
)  # fmt: skip


#: Fields of TrainingArguments that our options set, with these options.
HAVE_OPTIONS: dict[str, tuple[str, ...]] = {
    "output_dir": ("output",), "max_steps": ("steps", "round_steps"), "num_train_epochs": ("steps", "round_steps"),
    "bf16": ("precision",), "fp16": ("precision",), "use_cpu": ("device",), "data_seed": ("seed",),
} | {
    name: (name,)
    for name in (
        *SAME_NAME, "method", "method_args", "regularizers", "learning_rate", "seed", "max_length", "report_to",
    )
}  # fmt: skip


def option_of(field: str) -> str:
    """The options that set a field of TrainingArguments, in the words of the interface in use.

    >>> option_of("max_steps")
    'steps and round_steps'
    """
    return " and ".join(spelled(name) for name in HAVE_OPTIONS[field])


#: Our defaults of fields of TrainingArguments. A tenth of the steps is warm-up. What is not finite is found in another way
#: (`sstext.training.finite`), without waiting for the device after each micro-batch.
DEFAULTS = {"weight_decay": 0.01, "warmup_steps": 0.1, "save_steps": 50, "logging_nan_inf_filter": False}
#: The only key of `training_args` that is not a field of TrainingArguments. Training stops after this number of evaluations
#: without a gain.
PATIENCE = "early_stopping_patience"


#: Fields of TrainingArguments that cannot be set.
OURS = frozenset(
    {
        "save_strategy", "eval_strategy", "save_only_model", "load_best_model_at_end",
        "metric_for_best_model", "greater_is_better", "restore_callback_states_from_checkpoint", "remove_unused_columns",
        "resume_from_checkpoint", "ignore_data_skip", "eval_teacher", "save_teacher", "merge_adapter", "model_init_kwargs",
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
    check_training_args(config)
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
    made.rate_option = rate_option(stage)
    if precision == "fp32":
        made.mixed_precision = "no"  # otherwise the launcher would decide
    if "per_device_train_batch_size" not in config.training_args:
        name = "method_args: round_batch_size" if stage.schedule.of_rounds else "batch_size"
        rows, parts = stage.schedule.batch_size, made.world_size * made.gradient_accumulation_steps
        if rows % parts:
            raise UserError(f"{name}: expected a multiple of {parts} (processes × accumulation steps), found {rows}")
        made.per_device_train_batch_size = rows // parts
    return made


def rate_option(stage: Stage) -> str:
    """The option that sets the learning rate of a stage, in the words of the interface in use.

    >>> from sstext.methods.registry import compose
    >>> [rate_option(stage) for stage in compose("softmatch").stages(rounds=1)]
    ['learning_rate', 'round_learning_rate in method_args']
    """
    return f"round_learning_rate in {spelled('method_args')}" if stage.schedule.of_rounds else spelled("learning_rate")


def patience_of(config: RunConfig) -> int:
    """Number of evaluations on the development rows without a gain after which a training stops.

    Raises:
        UserError: it is not a whole number of at least 1.
    """
    patience = config.training_args.get(PATIENCE, 3)
    if type(patience) is not int or patience < 1:
        raise UserError(f"training_args: {PATIENCE}: expected a whole number of at least 1, found {patience!r}")
    return patience


def check_training_args(config: RunConfig) -> None:
    """Refuse `training_args` that do not exist, that cannot be set, or that make a training fail.

    Raises:
        UserError: see above.
    """
    _refuse_ours(config)
    fields = {name for name, spec in TrainingArguments.__dataclass_fields__.items() if spec.init}
    known = [*sorted(fields - OURS), PATIENCE]
    for name in config.training_args:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            remedy = f"did you mean {close[0]}?" if close else "they are the training arguments of transformers"
            if close and close[0] in HAVE_OPTIONS:
                remedy += f" (give {option_of(close[0])})"
            raise UserError(f"training_args: there is no training argument {name!r}; {remedy}")
    _check_numbers(config)


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
            raise UserError(f"training_args: {name} is set by {option_of(name)}; give that instead")
        if name in OURS or name.startswith(("push_to_hub", "hub_")):
            raise UserError(
                f"training_args: {name} cannot be set: continuing a run, choosing its model and keeping its private files "
                "private depend on it; leave it out"
            )
