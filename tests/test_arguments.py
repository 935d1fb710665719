"""Options of a run → arguments of a round: the numbers that people get without asking."""

from pathlib import Path
from typing import Any

import pytest

from sstext.arguments import HAVE_OPTIONS, round_arguments, round_steps
from sstext.config import RunConfig, options


def arguments(index: int = 0, *, has_development_rows: bool = False, **options: Any) -> Any:
    config = RunConfig(device="cpu", precision="fp32", **options)
    return round_arguments(
        config, index, steps=60, seed=7, max_length=32, has_development_rows=has_development_rows, output=Path("out")
    )


@pytest.mark.parametrize(
    ("index", "labeled", "admitted", "expected"),
    [
        (0, 20, 0, 120),
        (0, 200, 0, 250),
        (0, 500, 0, 500),
        (1, 64, 341, 120),
        (1, 64, 4_000, 500),
        (2, 64, 10**8, 2_000),
    ],
)
def test_steps_grow_with_the_rows_within_bounds(index: int, labeled: int, admitted: int, expected: int) -> None:
    """20 · 200 / 16 = 250; 3 · 4,000 / (32 · ¾) = 500. Guards budgets: neither 3 steps for 20 labels nor days for 10⁸ texts."""
    assert round_steps(RunConfig(), index, labeled=labeled, admitted=admitted) == expected
    assert round_steps(RunConfig(steps=3, round_steps=4), index, labeled=labeled, admitted=admitted) == 3 + min(
        index, 1
    )


def test_rounds_have_a_rate_and_a_batch_of_their_own() -> None:
    first, later = arguments(0), arguments(1)
    assert (first.learning_rate, first.per_device_train_batch_size) == (2e-4, 16)
    assert (later.learning_rate, later.per_device_train_batch_size) == (1e-4, 32)
    assert first.head_learning_rate == later.head_learning_rate == 1e-3


def test_accumulation_keeps_the_batch_global() -> None:
    """Guards against a batch that grows with the accumulation steps."""
    made = arguments(training_args={"gradient_accumulation_steps": 4})
    assert made.per_device_train_batch_size * made.gradient_accumulation_steps == 16


def test_development_rows_switch_on_evaluation_and_the_best_step() -> None:
    assert str(arguments().eval_strategy.value) == "no"
    made = arguments(has_development_rows=True)
    assert (made.eval_strategy.value, made.eval_steps, made.save_steps) == ("steps", 10, 10)
    assert made.load_best_model_at_end


def test_every_option_that_is_named_instead_exists() -> None:
    """Guards the remedy: a flag that a message names must be there."""
    flags = {f"--{name.replace('_', '-')}" for name in options(RunConfig)}
    for remedy in HAVE_OPTIONS.values():
        assert set(remedy.split(" and ")) <= flags, remedy
