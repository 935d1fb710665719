"""What every method must keep when SemiSupervisedTrainer trains with it: one test per promise over METHODS."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from contract import (
    BATCH_STATISTICS,
    BETWEEN_ROUNDS,
    IN_STEP,
    SETTINGS,
    TAUGHT,
    WHOLE_BATCH,
    components,
    labeled_texts,
    make_trainer,
    tiny_student,
    unlabeled_texts,
    weights,
)
from transformers import TrainerCallback

from sstext.errors import UserError
from sstext.methods.registry import METHODS, build
from sstext.objective.objective import Objective
from sstext.objective.teachers import Self
from sstext.objective.weights import Everyone, Gaussian, Known
from sstext.training.arguments import SemiSupervisedTrainingArguments
from sstext.training.checkpoints import STATE_FILE
from sstext.training.trainer import SemiSupervisedTrainer

EVERY_IN_STEP = pytest.mark.parametrize("name", IN_STEP)
#: Run → (method, arguments): every method at its setting, and views that change embeddings.
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, SETTINGS[name]) for name in IN_STEP},
    **{
        f"fixmatch-view-{view}": ("fixmatch", SETTINGS["fixmatch"] | {"view": view})
        for view in ("noise", "adversarial")
    },
}
SAVED = (1, 3, 5)  # 3 is an epoch's end, 1 and 5 lie within; logs are pending at all of them


def run_of(encoder: Path, output: Path, name: str) -> SemiSupervisedTrainer:
    method, arguments = RUNS[name]
    return make_trainer(encoder, output, method, method_args=arguments)


class SaveAt(TrainerCallback):
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_save = state.global_step in SAVED


@pytest.fixture(scope="module")
def whole(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], SemiSupervisedTrainer]:
    """`whole(name)` was trained for six steps without a stop, and left checkpoints behind; it is trained once."""
    trained: dict[str, SemiSupervisedTrainer] = {}

    def train(name: str) -> SemiSupervisedTrainer:
        if name not in trained:
            trainer = run_of(tiny_encoder, tmp_path_factory.mktemp(name), name)
            trainer.add_callback(SaveAt())
            trainer.train()
            trained[name] = trainer
        return trained[name]

    return train


def assert_same_bits(one: SemiSupervisedTrainer, other: SemiSupervisedTrainer) -> None:
    assert torch.equal(weights(one), weights(other))
    state = other.training_objective.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in one.training_objective.state_dict().items())


@pytest.mark.parametrize("name", [name for name in RUNS if RUNS[name][0] in TAUGHT])
def test_some_rows_are_kept_and_others_not(whole: Any, name: str) -> None:
    """Canary: where every row counts in full, or none does, what follows would hold of itself."""
    log = components(whole(name))
    if isinstance(whole(name).training_objective.weight, Everyone | Known | Gaussian):
        assert 0 < log["mean_weight"] <= 1
    else:
        assert 0 < log["kept_share"] < 1
    assert log["loss_unlabeled"] > 0


@pytest.mark.parametrize("name", RUNS)
def test_resuming_equals_not_stopping_to_the_bit(tiny_encoder: Path, tmp_path: Path, whole: Any, name: str) -> None:
    """Guards against state (order, edits, dropout, moving averages, pending logs) that a checkpoint forgets."""
    checkpoints = Path(whole(name).args.output_dir)
    for step in SAVED:
        resumed = run_of(tiny_encoder, tmp_path / str(step), name)
        resumed.train(resume_from_checkpoint=str(checkpoints / f"checkpoint-{step}"))
        assert_same_bits(whole(name), resumed)
        assert components(resumed) == pytest.approx(components(whole(name)), abs=1e-6), step
    assert (checkpoints / "checkpoint-3" / STATE_FILE).exists() == (name != "supervised")


@EVERY_IN_STEP
def test_labels_of_unlabeled_rows_are_not_read(tiny_encoder: Path, tmp_path: Path, whole: Any, name: str) -> None:
    """A second run with the same seed ends in the same bits, though its unlabeled rows carry labels that nothing knows."""
    poisoned = unlabeled_texts().add_column("label", ["no class"] * 24)
    again = make_trainer(tiny_encoder, tmp_path, name, unlabeled=poisoned)
    again.train()
    assert_same_bits(whole(name), again)
    assert components(again) == components(whole(name))


@EVERY_IN_STEP
def test_evaluating_changes_no_state(tiny_encoder: Path, whole: Any, name: str) -> None:
    """Guards against thresholds and averages that have seen the evaluation set."""
    trainer = whole(name)
    before = {key: value.clone() for key, value in trainer.training_objective.state_dict().items()}
    trainer.evaluate(labeled_texts())
    assert all(torch.equal(value, before[key]) for key, value in trainer.training_objective.state_dict().items())


@EVERY_IN_STEP
def test_accumulation_equals_one_batch_unless_rows_are_compared(tiny_encoder: Path, tmp_path: Path, name: str) -> None:
    """Guards against a loss that grows with the accumulation steps; each method that differs is listed with its reason."""
    trained = []
    for accumulated in (1, 2):
        size = {"per_device_train_batch_size": 12 // accumulated, "gradient_accumulation_steps": accumulated}
        trainer = make_trainer(tiny_encoder, tmp_path / str(accumulated), name, **(WHOLE_BATCH | size))
        trainer.train()
        trained.append(trainer)
    apart = (weights(trained[0]) - weights(trained[1])).abs().max()
    if name in BATCH_STATISTICS:
        assert apart > 1e-5, f"{name} does not differ any more: {BATCH_STATISTICS[name]}"
    else:
        assert apart < 1e-5
        assert trained[0].state.log_history[-1]["train_loss"] == pytest.approx(
            trained[1].state.log_history[-1]["train_loss"], abs=1e-5
        )


@pytest.mark.parametrize("name", METHODS)
def test_multi_label_models_are_refused_by_the_methods_name(tiny_encoder: Path, tmp_path: Path, name: str) -> None:
    """Guards against softmax losses on classes that do not exclude each other."""
    model = tiny_student(tiny_encoder, dropout=0.0)
    model.config.problem_type = "multi_label_classification"
    args = SemiSupervisedTrainingArguments(str(tmp_path), use_cpu=True, method_args=SETTINGS[name])
    with pytest.raises(UserError, match=f"^{name} supports single-label tasks"):
        SemiSupervisedTrainer(model, args, unlabeled_dataset=unlabeled_texts(), method=name)


# Limits

#: Methods with a threshold → the arguments at which no row reaches it, and at which every row does.
REACH = {
    "pseudo-label": ({"threshold": 1.1}, {"threshold": 0.0}),
    "uda": ({"threshold": 1.1, "annealing": "none"}, {"threshold": 0.0, "annealing": "none"}),
    "fixmatch": ({"threshold": 1.1}, {"threshold": 0.0}),
    "dash": ({"warmup": 1.0}, {"warmup": 0.0, "floor": 100.0}),
}


def test_every_threshold_has_its_limit_tested() -> None:
    """FlexMatch has none: as long as no row is above τ, the thresholds of all classes are 0, and every row counts."""
    with_threshold = {name for name, method in METHODS.items() if "threshold" in inspect.signature(method).parameters}
    assert with_threshold - set(BETWEEN_ROUNDS) == {*REACH, "flexmatch"} - {"dash"}  # its bound is of another kind


def test_flexmatch_counts_every_row_while_none_is_above_its_threshold(tiny_encoder: Path, tmp_path: Path) -> None:
    trainer = make_trainer(tiny_encoder, tmp_path, "flexmatch", method_args={"threshold": 1.0})
    trainer.train()
    assert components(trainer)["kept_share"] == 1.0


@pytest.fixture(scope="module")
def supervised(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> SemiSupervisedTrainer:
    """Trained on all labels at once, without any unlabeled row."""
    trainer = make_trainer(tiny_encoder, tmp_path_factory.mktemp("supervised"), "supervised", **WHOLE_BATCH)
    trainer.train()
    return trainer


@pytest.mark.parametrize("name", REACH)
def test_out_of_reach_is_supervised_and_within_everyones_reach_is_not(
    tiny_encoder: Path, tmp_path: Path, supervised: SemiSupervisedTrainer, name: str
) -> None:
    """Guards against an unlabeled loss that leaks at weight 0, and against one that never acts."""
    out, within = (
        make_trainer(tiny_encoder, tmp_path / str(number), name, **WHOLE_BATCH, method_args=arguments)
        for number, arguments in enumerate(REACH[name])
    )
    for trainer in (out, within):
        trainer.train()
    assert (weights(out) - weights(supervised)).abs().max() < 1e-6
    assert (weights(within) - weights(supervised)).abs().max() > 1e-4


def test_adamatch_out_of_reach_is_supervised_on_both_copies_of_the_labels(tiny_encoder: Path, tmp_path: Path) -> None:
    """Ten times the labeled confidence is asked for: what is left are labels on the plain and on the changed copy."""
    copies = make_trainer(
        tiny_encoder, tmp_path / "copies", "supervised", **WHOLE_BATCH, regularizers={"strong-labels": 1.0}
    )
    out, within = (
        make_trainer(
            tiny_encoder, tmp_path / str(factor), "adamatch", **WHOLE_BATCH, method_args={"factor": factor, "ramp": 0.0}
        )
        for factor in (10.0, 0.0)
    )
    for trainer in (copies, out, within):
        trainer.train()
    assert (weights(out) - weights(copies)).abs().max() < 1e-6
    assert (weights(within) - weights(copies)).abs().max() > 1e-4


@pytest.mark.parametrize("name", BETWEEN_ROUNDS)
def test_a_method_of_the_round_loop_is_refused_inside_a_step(tiny_encoder: Path, tmp_path: Path, name: str) -> None:
    """It would train on the labels alone, and the unlabeled rows would never be read."""
    with pytest.raises(UserError, match=f"^{name} works between rounds"):
        make_trainer(tiny_encoder, tmp_path, name)


def test_the_composition_of_a_round_loop_is_refused_by_what_it_is(tiny_encoder: Path, tmp_path: Path) -> None:
    """`ust()` returns the stages of a run, which a trainer cannot use."""
    with pytest.raises(UserError, match="method: expected a name, found Method"):
        make_trainer(tiny_encoder, tmp_path, METHODS["ust"](passes=2))


def test_a_teacher_that_forgets_everything_is_the_student(tiny_encoder: Path, tmp_path: Path) -> None:
    """θ′ ← 0 θ′ + θ: Mean Teacher with decay 0 is the same composition with `Self`, to the bit; with decay .5 it is not."""
    trained = []
    for decay in (0.0, 0.5, None):
        objective: Objective = build("mean-teacher", {"decay": decay or 0.0, "ramp_decay": decay or 0.0})
        if decay is None:
            objective.teacher = Self()
        trained.append(make_trainer(tiny_encoder, tmp_path / str(decay), objective))
        trained[-1].train()
    forgetful, remembering, itself = map(weights, trained)
    assert torch.equal(forgetful, itself)
    assert not torch.equal(remembering, itself)
