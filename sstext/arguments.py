"""The options of a run → the arguments of one round's trainer, and what is admitted between two rounds."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from sstext.config.options import default_of, options
from sstext.config.run_config import BY_METHOD, RunConfig
from sstext.errors import UserError
from sstext.inference.devices import resolve_device, resolve_precision
from sstext.methods.registry import BETWEEN_ROUNDS, admission_of, build
from sstext.objective.objective import Objective
from sstext.objective.targets import Hard, Soft
from sstext.objective.weights import Everyone
from sstext.pseudolabels.admission import Admission
from sstext.training.arguments import SemiSupervisedTrainingArguments
from sstext.training.loggers import in_one_run

#: Optimizer steps of a round, at most, where nobody says how many.
MOST_STEPS = 2_000
#: Texts of a corpus that are looked at in any case.
LEAST_TEXTS = 4_096

#: Options that are handed on under their own name.
SAME_NAME = (
    "head_learning_rate", "weight_decay", "method", "method_args", "regularizers", "unlabeled_batch_ratio",
    "unsupervised_strength", "gold_share", "class_runs", "logit_adjustment",
    "token_mask", "token_drop", "token_swap", "token_cutoff", "views",
)  # fmt: skip

#: Fields of TrainingArguments that follow from an option of ours.
HAVE_OPTIONS = {
    "output_dir": "--output", "max_steps": "--steps and --round-steps", "num_train_epochs": "--steps and --round-steps",
    "warmup_steps": "--warmup", "bf16": "--precision", "fp16": "--precision", "use_cpu": "--device",
    "data_seed": "--seed", "report_to": "--report-to",
} | {
    name: f"--{name.replace('_', '-')}"
    for name in (*SAME_NAME, "learning_rate", "seed", "max_length", "eval_steps", "save_steps")
}  # fmt: skip

#: Fields of TrainingArguments that nobody may change.
OURS = frozenset(
    {
        "save_strategy", "eval_strategy", "save_only_model", "load_best_model_at_end",
        "metric_for_best_model", "greater_is_better", "restore_callback_states_from_checkpoint", "remove_unused_columns",
        "resume_from_checkpoint", "ignore_data_skip",
    }
)  # fmt: skip


def round_steps(config: RunConfig, index: int, *, labeled: int, admitted: int) -> int:
    """Optimizer steps of a round: 20 passes over the labeled rows, or 3 over the admitted ones, within bounds.

    `auto` makes more trainings, and each of them half as long at least; its start takes 30 passes, its rounds 1.5.
    `round_steps` may make the start shorter, but not longer: a hundred labels are soon known by heart.

    Plain fine-tuning takes 60 steps at least: with 40 labels, 120 were worse (recipes/benchmark/LOG.md).

    >>> config = RunConfig(method="supervised")
    >>> round_steps(config, 0, labeled=64, admitted=0), round_steps(config, 1, labeled=64, admitted=10_000)
    (80, 1250)
    """
    admission = round_admission(config)
    plain = index == 0 and round_objective(config, index)["method"] == "supervised"
    least = 60 if config.method == "auto" or plain else 120
    if is_first(config, index):
        return config.steps or min(500, max(least, 20 * labeled // config.batch_size))
    if index < admission.label_rounds:
        usual = min(500, max(least, 30 * labeled // config.round_batch_size))
        return min(usual, config.round_steps or usual)
    passes = 1.5 if config.method == "auto" else 3
    return config.round_steps or min(MOST_STEPS, max(least, int(passes * admitted / kept_per_step(config))))


def kept_per_step(config: RunConfig) -> float:
    """Pseudo-labeled rows of a step."""
    return max(1.0, config.round_batch_size * (1 - config.gold_share))


def texts_wanted(config: RunConfig) -> int | None:
    """How many texts of the corpus the rounds of a run can read; None: all of it is looked at.

    Where every text joins, a round reads what its steps have room for, drawn at random; a corpus of as many as all rounds have
    room for, drawn at random itself, teaches as much, and the rest need not be scored. `LEAST_TEXTS` tell the class shares and
    a collapse well enough. Where rows are chosen by what was predicted, the best ones may be anywhere.

    >>> texts_wanted(RunConfig()), texts_wanted(RunConfig(method="self-training"))
    (48000, None)
    """
    admission = round_admission(config)
    everyone = admission.quotas == "none" and isinstance(admission.weight, Everyone) and not config.min_confidence
    if not everyone or any(reads_corpus(config, index) for index in range(admission.label_rounds + 1)):
        return None
    room = (config.round_steps or MOST_STEPS) * kept_per_step(config)
    return max(LEAST_TEXTS, int(max(1, config.rounds) * room))


def is_first(config: RunConfig, index: int) -> bool:
    """Whether a round trains as a first one does: the method's own training, and the plain one that it is compared with."""
    return index == 0 or (config.method != "auto" and index < round_admission(config).label_rounds)


def round_arguments(
    config: RunConfig, index: int, *, steps: int, seed: int, max_length: int, has_development_rows: bool, output: Path
) -> SemiSupervisedTrainingArguments:
    """The arguments of a round's `SemiSupervisedTrainer`; batch sizes are shared out over the processes.

    Raises:
        UserError: `training_args` that `TrainingArguments` refuses or that are ours to set, or batches that cannot be shared.
    """
    _refuse_ours(config)
    device = resolve_device(config.device)
    precision = resolve_precision(config.precision, device)
    admission = round_admission(config)
    arguments: dict[str, Any] = {name: getattr(config, name) for name in SAME_NAME} | {
        **round_objective(config, index),
        "output_dir": str(output),
        "max_steps": steps,
        "learning_rate": config.learning_rate if is_first(config, index) else config.round_learning_rate,
        "warmup_steps": config.warmup if config.warmup < 1 else steps,
        "seed": seed,
        "bf16": precision == "bf16",
        "fp16": precision == "fp16",
        "use_cpu": device.type == "cpu",
        "max_length": max_length,
        "student_noise": admission.noise,
        "logging_steps": 10,
        "save_strategy": "steps",
        "save_steps": config.save_steps,
        "save_total_limit": 2,  # at 1, Trainer would drop the newest one at the end for the best one
        "restore_callback_states_from_checkpoint": True,
        "report_to": [name for name in config.report_to if name not in in_one_run(config.report_to)] or "none",
        "log_level": "error",
        "log_level_replica": "error",
        "ddp_find_unused_parameters": False,
    }
    if has_development_rows:
        every = min(steps, config.eval_steps or max(1, steps // 6))
        arguments |= {
            "eval_strategy": "steps", "eval_steps": every, "save_steps": every,
            "load_best_model_at_end": True, "metric_for_best_model": "choice", "greater_is_better": True,
        }  # fmt: skip
    try:
        made = SemiSupervisedTrainingArguments(**arguments | config.training_args)
    except (TypeError, ValueError) as error:
        raise UserError(f"training_args: {error}") from error
    if precision == "fp32":
        made.mixed_precision = "no"  # else the launcher's word would count where neither bf16 nor fp16 is asked for
    if "per_device_train_batch_size" not in config.training_args:
        name = "batch_size" if is_first(config, index) else "round_batch_size"
        rows, parts = getattr(config, name), made.world_size * made.gradient_accumulation_steps
        if rows % parts:
            raise UserError(f"{name}: expected a multiple of {parts} (processes × accumulation steps), found {rows}")
        made.per_device_train_batch_size = rows // parts
    return made


def round_objective(config: RunConfig, index: int) -> dict[str, Any]:
    """`method`, `method_args` and `regularizers` of a round's trainer.

    >>> round_objective(RunConfig(method="ust", regularizers={"entropy": .1}), 1)
    {'method': 'supervised', 'method_args': {}, 'regularizers': {'entropy': 0.1}}
    """
    admission = round_admission(config)
    # Round 0 of a method that has a start of its own is what it is compared with: plain fine-tuning.
    baseline = admission.labels_first and index == 0
    start_is_over = admission.start_only and index >= admission.label_rounds
    plain = config.method in BETWEEN_ROUNDS or baseline or start_is_over
    return {
        "method": "supervised" if plain else config.method,
        "method_args": {} if plain else config.method_args,
        "regularizers": {} if baseline else config.regularizers,
    }


def built_objective(config: RunConfig, index: int) -> Objective:
    """The objective of a round's trainer."""
    asked = round_objective(config, index)
    return build(asked["method"], asked["method_args"], asked["regularizers"])


def reads_corpus(config: RunConfig, index: int) -> bool:
    """Whether the student of a round learns from unlabeled text inside its steps.

    >>> reads_corpus(RunConfig(method="fixmatch"), 0), reads_corpus(RunConfig(method="auto"), 2)
    (True, False)
    """
    return not built_objective(config, index).supervised


def round_admission(config: RunConfig) -> Admission:
    """What is admitted between two rounds: as the method says if it is one of the round loop, else as the options say.

    With folds, a method inside a step has a round of its own after the plain one that it is compared with.

    >>> round_admission(RunConfig(pseudo_labels="soft")).target
    Soft()
    """
    own = admission_of(config.method, config.method_args)
    if own is None:
        compared = bool(config.folds) and not build(config.method, config.method_args, config.regularizers).plain
        own = Admission(follows_options=True, labels_first=compared)
    if not own.follows_options:
        return own
    soft = config.pseudo_labels == "soft"
    every_row = soft and min(config.keep) == 1  # the alignment balances them, and a doubtful row says so itself
    return replace(
        own, target=Soft() if soft else Hard(), align=config.alignment, quotas="none" if every_row else "prior"
    )


def options_of_no_effect(config: RunConfig) -> list[str]:
    """Options that were given, and that the method of the round loop decides in another way.

    >>> options_of_no_effect(RunConfig(method="ust", keep=[.25], prior="uniform"))
    ['prior']
    """
    own = admission_of(config.method, config.method_args)
    if own is None or own.follows_options:
        return []
    decided = ["prior", "alignment", "pseudo_labels"] + (["keep"] if own.quotas == "none" else [])
    known = options(RunConfig)
    return [name for name in decided if getattr(config, name) != BY_METHOD.get(name, ("", default_of(known[name])))[1]]


def _refuse_ours(config: RunConfig) -> None:
    for name in sorted(config.training_args):
        if name in HAVE_OPTIONS:
            raise UserError(f"training_args: {name} is set by {HAVE_OPTIONS[name]}; give that instead")
        if name in OURS or name.startswith(("push_to_hub", "hub_")):
            raise UserError(
                f"training_args: {name} cannot be set: continuing a run, choosing its model and keeping its private files "
                "private depend on it; leave it out"
            )
