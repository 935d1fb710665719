"""Options of a run and a stage → arguments of the trainer: the numbers that people get without asking."""

import re
from pathlib import Path
from typing import Any

import pytest
from transformers import HfArgumentParser

from sstext.config.option_groups import EDITS
from sstext.config.options import options
from sstext.config.run_config import RunConfig
from sstext.config.spelling import spelled_as
from sstext.errors import UserError
from sstext.methods.registry import compose
from sstext.training.arguments import OUR_FIELDS, SemiSupervisedTrainingArguments
from sstext.training.stage_arguments import HAVE_OPTIONS, option_of, patience_of, stage_arguments


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
    """Guards the remedy: an option that a message names must be there, as the user writes it."""
    for names in HAVE_OPTIONS.values():
        assert set(names) <= set(options(RunConfig)), names
    with spelled_as("flags"):
        assert option_of("max_steps") == "--steps and --round-steps"


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


@pytest.fixture(scope="module")
def parser() -> HfArgumentParser:
    return HfArgumentParser(SemiSupervisedTrainingArguments)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--method_args {\"threshold\":0.9,\"ramp\":0.5}", {"method_args": {"threshold": 0.9, "ramp": 0.5}}),
        ("--method_args threshold=0.9 prior=[.7,.3]", {"method_args": {"threshold": 0.9, "prior": [0.7, 0.3]}}),
        ("--method-args strength=1e-3", {"method_args": {"strength": 0.001}}),
        ("--regularizers entropy=.1 --edits drop=0.2", {"regularizers": {"entropy": 0.1}, "edits": EDITS | {"drop": 0.2}}),
        ("--views a b --head_learning_rate 1e-3", {"views": ["a", "b"], "head_learning_rate": 0.001}),
        ("--student_noise false", {"student_noise": False}),
        ("--no_student_noise", {"student_noise": False}),
        ("--class_weight balanced --save_teacher true", {"class_weight": "balanced", "save_teacher": True}),
        ("--class_weight a=2 b=.5 --eval_teacher", {"class_weight": {"a": 2.0, "b": 0.5}, "eval_teacher": True}),
        ("--model_init_kwargs attn_implementation=sdpa", {"model_init_kwargs": {"attn_implementation": "sdpa"}}),
        ("", {"method": None, "save_teacher": None, "class_weight": None, "method_args": {}, "student_noise": True}),
    ],
)  # fmt: skip
def test_the_parser_of_transformers_reads_our_arguments(
    parser: HfArgumentParser, words: str, expected: dict[str, Any]
) -> None:
    """Guards every example script: argparse gets the metadata of the fields, and mappings as words."""
    (made,) = parser.parse_args_into_dataclasses(["--output_dir", "out", "--use_cpu", *words.split()], False, False)
    assert {name: getattr(made, name) for name in expected} == expected


def test_the_parser_leaves_the_options_as_they_are(parser: HfArgumentParser) -> None:
    """Guards shared fields: the parser turns `float | None` into float, and then None would be refused everywhere."""
    assert SemiSupervisedTrainingArguments("out", use_cpu=True, head_learning_rate=None).head_learning_rate is None
    assert RunConfig(learning_rate=1e-3, head_learning_rate=None).head_learning_rate is None
    (again,) = HfArgumentParser(SemiSupervisedTrainingArguments).parse_args_into_dataclasses(
        ["--use_cpu"], False, False
    )
    assert (again.head_learning_rate, again.method_args, again.views) == (None, {}, [])


def test_every_option_is_a_flag_of_the_parser_with_its_help(parser: HfArgumentParser) -> None:
    """Guards a per cent sign in a help text, which argparse reads as a placeholder, and choices that are empty."""
    shown = " ".join(parser.format_help().split())
    for name, spec in OUR_FIELDS.items():
        assert f"--{name}" in shown
        assert " ".join(spec.metadata["help"].split()[:5]) in shown, name
    ours = [action for action in parser._actions if action.dest in OUR_FIELDS]
    assert len(ours) > len(OUR_FIELDS), "a switch that is on by default has a flag that turns it off"
    assert all(action.choices is None or len(action.choices) for action in ours)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("threshold", "method_args: expected JSON or KEY=VALUE …: expected KEY=VALUE, found 'threshold'"),
        ('{"threshold": }', "method_args: expected JSON or KEY=VALUE …: Expecting value"),
        (["threshold=1", "threshold=2"], "method_args: expected JSON or KEY=VALUE …: 'threshold' is given twice"),
    ],
)
def test_a_mapping_that_cannot_be_read_is_named(given: Any, message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        SemiSupervisedTrainingArguments("out", use_cpu=True, method_args=given)


def test_an_argument_is_checked_whenever_it_is_set() -> None:
    """Guards `setattr(trainer.args, …)`, as after a search over hyperparameters."""
    made = SemiSupervisedTrainingArguments("out", use_cpu=True, method_args={"threshold": 0.9})
    given = made.method_args
    for name, value in {"method_args.strength": 2, "edits.drop": 0.5}.items():
        setattr(made, name, value)
    assert (made.method_args, given) == ({"threshold": 0.9, "strength": 2}, {"threshold": 0.9}), (
        "the caller's is not changed"
    )
    assert made.edits["drop"] == 0.5
    for name, value in {"gold_share": 2, "edits.dorp": 0.1, "learning_rate.x": 1}.items():
        with pytest.raises(UserError, match=f"^{name.split('.')[0]}"):
            setattr(made, name, value)
