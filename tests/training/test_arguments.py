"""Options of a run and a stage → arguments of the trainer: the numbers that people get without asking."""

import re
from pathlib import Path
from typing import Any

import pytest

from sstext.config.options import options
from sstext.config.run_config import RunConfig
from sstext.errors import UserError
from sstext.methods.registry import compose
from sstext.training.arguments import HAVE_OPTIONS, SemiSupervisedTrainingArguments, patience_of, stage_arguments


def arguments(
    position: int = 0, *, has_development_rows: bool = False, **options: Any
) -> SemiSupervisedTrainingArguments:
    """Of a stage of the method: position 0 is its first training, 1 a round of methods that start from the baseline."""
    config = RunConfig(device="cpu", precision="fp32", **{"method": "class-balanced"} | options)
    stage = compose(config.method, config.method_args).stages(rounds=1)[position]
    return stage_arguments(
        config, stage, steps=60, seed=7, max_length=32, has_development_rows=has_development_rows, output=Path("out")
    )


def test_rounds_have_a_rate_and_a_batch_of_their_own() -> None:
    """Guards a round that trains at the rate and with the batches of the first training."""
    first, later = arguments(0), arguments(1)
    assert (first.learning_rate, first.per_device_train_batch_size) == (2e-4, 16)
    assert (later.learning_rate, later.per_device_train_batch_size) == (1e-4, 32)
    assert first.head_learning_rate == later.head_learning_rate == 1e-3


def test_accumulation_keeps_the_batch_global() -> None:
    """Guards against a batch that grows with the accumulation steps."""
    made = arguments(training_args={"gradient_accumulation_steps": 4})
    assert made.per_device_train_batch_size * made.gradient_accumulation_steps == 16


@pytest.mark.parametrize(("position", "name"), [(0, "batch_size"), (1, "round_batch_size")])
def test_a_batch_that_cannot_be_shared_names_the_option_of_its_stage(position: int, name: str) -> None:
    """Guards a message that sends people to the batch size of another stage."""
    with pytest.raises(UserError, match=rf"{name}: expected a multiple of 5"):
        arguments(position, training_args={"gradient_accumulation_steps": 5})


def test_development_rows_switch_on_evaluation_and_the_best_step() -> None:
    assert str(arguments().eval_strategy.value) == "no"
    made = arguments(has_development_rows=True)
    assert (made.eval_strategy.value, made.eval_steps, made.save_steps) == ("steps", 10, 10)
    assert made.load_best_model_at_end


def test_what_had_an_option_in_version_0_1_is_given_in_training_args() -> None:
    """Guards a remedy that is refused: `eval_steps has been replaced; use training_args: {eval_steps: …}`, and then
    `training_args: eval_steps is set by --eval-steps`. Checkpoints lie where evaluations are, so that the best can be loaded.
    """
    assert arguments().save_steps == 50
    assert arguments(training_args={"save_steps": 2}).save_steps == 2
    given = {"eval_steps": 20, "save_steps": 7, "weight_decay": 0.5, "warmup_steps": 0.25}
    made = arguments(has_development_rows=True, training_args=given)
    assert (made.eval_steps, made.save_steps, made.weight_decay, made.warmup_steps) == (20, 20, 0.5, 0.25)
    asked = RunConfig(training_args={"early_stopping_patience": 7})
    assert (patience_of(RunConfig()), patience_of(asked)) == (3, 7)
    assert not hasattr(arguments(training_args=asked.training_args), "early_stopping_patience")
    with pytest.raises(UserError, match="early_stopping_patience: expected a whole number of at least 1, found 0"):
        patience_of(RunConfig(training_args={"early_stopping_patience": 0}))


def test_every_option_that_is_named_instead_exists() -> None:
    """Guards the remedy: a flag that a message names must be there."""
    flags = {f"--{name.replace('_', '-')}" for name in options(RunConfig)}
    for remedy in HAVE_OPTIONS.values():
        assert set(remedy.split(" and ")) <= flags, remedy


@pytest.mark.parametrize(
    ("method", "noise"),
    [
        ("class-balanced", True),
        ("fixmatch", True),
        ("auto", True),
        ("noisy-student", True),
        ("self-training", False),
        ("ust", False),
    ],
)
def test_the_method_says_whether_students_read_with_noise(method: str, noise: bool) -> None:
    """Guards classic self-training on noised texts, and a Noisy Student without noise: the first training is as the rounds."""
    assert [arguments(position, method=method).student_noise for position in (0, 1)] == [noise, noise]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("logit_adjustment", -1, "at least 0, found -1"),
        ("gold_share", 1.5, "a share between 0 and 1, found 1.5"),
        ("gold_share", 0, "more than 0, so that every batch has labeled rows, found 0"),
        ("unlabeled_batch_ratio", 0, "at least 1e-06, found 0"),
        ("unlabeled_batch_ratio", "many", "float, found 'many'"),
        ("head_learning_rate", -1e-3, "at least 0, found -0.001"),
        ("max_length", 3, "at least 4, found 3"),
        ("method_args", [0.9], r"dict\[str, typing.Any\], found \[0.9\]"),
    ],
)
def test_arguments_have_the_ranges_of_the_options(name: str, value: Any, expected: str) -> None:
    """Guards a range that only `RunConfig` checks: a negative adjustment would favor frequent classes, without a word."""
    with pytest.raises(UserError, match=f"^{name}: expected {expected}$"):
        SemiSupervisedTrainingArguments("out", use_cpu=True, **{name: value})


def test_arguments_in_range_are_taken_as_they_are() -> None:
    """Guards the limits themselves, which are allowed, and `None`, which has a meaning of its own."""
    made = SemiSupervisedTrainingArguments(
        "out", use_cpu=True, logit_adjustment=0, gold_share=1, max_length=None, head_learning_rate=None, views="a,b"
    )
    assert (made.logit_adjustment, made.gold_share, made.max_length, made.head_learning_rate) == (0, 1, None, None)
    assert made.views == ["a", "b"]


@pytest.mark.parametrize(
    ("former", "now"),
    [
        ("token_mask", "edits={'mask': …}"),
        ("unsupervised_strength", "method_args={'strength': …}"),
        ("pseudo_labels", "method_args={'labels': …}"),
        ("warmup", "warmup_steps=…"),
    ],
)
def test_a_former_argument_is_an_error_that_names_the_new_one(former: str, now: str) -> None:
    """Guards programs of version 0.1: "unexpected keyword argument" does not tell people what to write."""
    with pytest.raises(UserError, match=f"^argument {former!r} has been replaced; use {re.escape(now)}$"):
        SemiSupervisedTrainingArguments("out", use_cpu=True, **{former: 0.1})


def test_an_unknown_argument_and_a_positional_folder_are_as_in_transformers() -> None:
    """Guards what the check of former names wraps: the generated `__init__`."""
    with pytest.raises(TypeError, match="unexpected keyword argument 'no_such_argument'"):
        SemiSupervisedTrainingArguments("out", no_such_argument=1)
    assert SemiSupervisedTrainingArguments("out", use_cpu=True).output_dir == "out"
