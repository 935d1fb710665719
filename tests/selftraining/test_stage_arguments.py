"""Options of a run → arguments of a round: the numbers that people get without asking."""

from pathlib import Path
from typing import Any

import pytest

from sstext.config.options import options
from sstext.config.run_config import RunConfig
from sstext.objective.targets import Hard, Soft
from sstext.objective.weights import Everyone, Threshold
from sstext.pseudolabels.admission import most_confident
from sstext.selftraining.plan import options_of_no_effect, reads_corpus, round_admission, round_steps, texts_wanted
from sstext.selftraining.stage_arguments import HAVE_OPTIONS, round_arguments


def arguments(index: int = 0, *, has_development_rows: bool = False, **options: Any) -> Any:
    config = RunConfig(device="cpu", precision="fp32", **options)
    return round_arguments(
        config, index, steps=60, seed=7, max_length=32, has_development_rows=has_development_rows, output=Path("out")
    )


@pytest.mark.parametrize(
    ("index", "labeled", "admitted", "expected"),
    [(0, 64, 0, 80), (1, 40, 0, 60), (1, 200, 0, 187), (2, 64, 341, 60), (2, 64, 4_000, 250)],
)
def test_steps_of_auto(index: int, labeled: int, admitted: int, expected: int) -> None:
    """30 · 200 / 32 = 187 on labels alone, 1.5 · 4,000 / 24 = 250 on pseudo-labels; trainings are half as long at least."""
    assert round_steps(RunConfig(method="auto"), index, labeled=labeled, admitted=admitted) == expected


def test_round_steps_never_make_the_start_longer() -> None:
    """Guards ten thousand steps on forty labels, where somebody wants to read more of the corpus."""
    for asked, expected in ((10, 10), (10_000, 60)):
        assert round_steps(RunConfig(method="auto", round_steps=asked), 1, labeled=40, admitted=0) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 48_000),  # 2,000 steps of 24
        ({"rounds": 3}, 144_000),
        ({"round_steps": 10_000}, 240_000),
        ({"round_steps": 5}, 4_096),  # class shares want more than 120 texts
        ({"method": "supervised", "pseudo_labels": "soft", "keep": [1.0], "rounds": 1}, 48_000),
        ({"min_confidence": 0.5}, None),
        ({"keep": [0.5]}, None),
        ({"method": "self-training"}, None),
        ({"method": "noisy-student"}, None),
        ({"method": "softmatch", "pseudo_labels": "soft", "keep": [1.0]}, None),
        ({"regularizers": {"entropy": 0.1}}, None),
    ],
)
def test_how_much_of_a_corpus_is_looked_at(options: dict[str, Any], expected: int | None) -> None:
    """All of it where rows are chosen, or read inside the steps; else what the steps of all rounds have room for."""
    assert texts_wanted(RunConfig(**options)) == expected


@pytest.mark.parametrize(
    ("index", "labeled", "admitted", "expected"),
    [
        (0, 20, 0, 60),
        (0, 200, 0, 250),
        (0, 500, 0, 500),
        (1, 64, 341, 120),
        (1, 64, 4_000, 500),
        (2, 64, 10**8, 2_000),
    ],
)
def test_steps_grow_with_the_rows_within_bounds(index: int, labeled: int, admitted: int, expected: int) -> None:
    """20 · 200 / 16 = 250; 3 · 4,000 / (32 · ¾) = 500. Guards budgets: neither 3 steps for 20 labels nor days for 10⁸ texts."""
    plain = RunConfig(method="supervised")
    assert round_steps(plain, index, labeled=labeled, admitted=admitted) == expected
    assert round_steps(
        RunConfig(method="supervised", steps=3, round_steps=4), index, labeled=labeled, admitted=admitted
    ) == 3 + min(index, 1)


@pytest.mark.parametrize(
    ("method", "folds", "expected"),
    [
        ("supervised", 0, [60]),
        ("auto", 3, [60, 60]),
        ("ust", 0, [60]),
        ("fixmatch", 0, [120]),
        ("fixmatch", 3, [60, 120]),
    ],
)
def test_plain_fine_tuning_is_short_and_the_same_by_every_method(method: str, folds: int, expected: list[int]) -> None:
    """20 labels. Guards a baseline that another method's round 0 beats, and a loss on unlabeled text that sees next to none."""
    config = RunConfig(method=method, folds=folds)
    assert [round_steps(config, index, labeled=20, admitted=0) for index in range(len(expected))] == expected


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


# What is admitted


@pytest.mark.parametrize("method", ["supervised", "fixmatch"])
def test_without_a_method_of_the_round_loop_the_options_decide(method: str) -> None:
    """Guards `--alignment` and `--pseudo-labels`, and the rule that every run had before there were such methods."""
    found = round_admission(RunConfig(method=method))
    axes = (type(found.weight), type(found.target), found.order, found.quotas, found.refill, found.align, found.passes)
    assert axes == (Everyone, Hard, most_confident, "prior", False, True, 0)
    other = round_admission(RunConfig(method=method, pseudo_labels="soft", alignment=False))
    assert (type(other.target), other.align) == (Soft, False)
    assert arguments(method=method).student_noise
    assert options_of_no_effect(RunConfig(method=method, keep=[0.1], prior="uniform", alignment=False)) == []


def test_a_method_of_the_round_loop_decides() -> None:
    """Guards against options that are obeyed half, and against options without effect of which nobody is told."""
    found = round_admission(RunConfig(method="self-training", method_args={"threshold": 0.8}, pseudo_labels="soft"))
    assert isinstance(found.weight, Threshold)
    assert (found.weight.threshold, type(found.target)) == (0.8, Hard)
    noise = [arguments(1, method=method).student_noise for method in ("self-training", "ust", "noisy-student")]
    assert noise == [False, False, True]
    given: dict[str, Any] = {"prior": "uniform", "alignment": False, "pseudo_labels": "soft", "keep": [0.25]}
    without_effect = ["prior", "alignment", "pseudo_labels"]
    assert options_of_no_effect(RunConfig(method="self-training", **given)) == [*without_effect, "keep"]
    assert options_of_no_effect(RunConfig(method="ust", **given)) == without_effect
    assert options_of_no_effect(RunConfig(method="ust", keep=[0.25], min_confidence=0.5)) == []


def test_auto_takes_every_row_with_its_doubts_unless_shares_or_hard_labels_are_asked_for() -> None:
    """Guards quotas that drop rows of which the label is soft, and a --keep or --pseudo-labels that auto does not hear."""
    admission = round_admission(RunConfig(method="auto"))
    assert (admission.quotas, str(admission.target), admission.align) == ("none", "Soft()", True)
    hard = round_admission(RunConfig(method="auto", pseudo_labels="hard", keep=[0.5]))
    assert (hard.quotas, str(hard.target)) == ("prior", "Hard()")
    assert round_admission(RunConfig(method="auto", keep=[0.5])).quotas == "prior"
    assert round_admission(RunConfig(method="auto", keep=[0.5, 1.0])).quotas == "prior"
    assert round_admission(RunConfig(method="supervised", pseudo_labels="soft", keep=[1.0])).quotas == "none"


def test_the_contrast_of_auto_is_for_the_start_alone() -> None:
    """Guards a contrast that pulls rows together because their pseudo-labels are wrong in the same way."""
    methods = [arguments(index, method="auto", method_args={"contrast": 0.5}).method for index in range(4)]
    assert methods == ["supervised", "auto", "supervised", "supervised"]
    kept = arguments(2, method="auto", regularizers={"entropy": 0.1})
    assert (kept.method_args, kept.regularizers) == ({}, {"entropy": 0.1}), "what a person adds goes on"


def test_who_reads_the_corpus_inside_its_steps() -> None:
    """Guards a card that says "fine-tuned on labeled texts" of a model that learned from others too."""
    asked = {"folds": 2, "rounds": 0}
    assert [reads_corpus(RunConfig(method="fixmatch", **asked), index) for index in (0, 1)] == [False, True]
    assert reads_corpus(RunConfig(method="fixmatch", folds=0), 0)
    assert not any(
        reads_corpus(RunConfig(method=name), index) for name in ("auto", "supervised", "ust") for index in range(3)
    )
