"""What the trainer does for an objective: tells it of every step, keeps its state, gathers with gradient."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from test_trainer import labeled, make, unlabeled, weights
from torch import nn

from sstext.errors import UserError
from sstext.objective.divergences import squared_error
from sstext.objective.objective import Objective
from sstext.objective.targets import Soft
from sstext.objective.teachers import EMA, Self
from sstext.objective.weights import Everyone
from sstext.training.checkpoints import STATE_FILE


class Follower(Everyone):
    """A part that counts what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.progress: list[float] = []
        self.observed = 0

    def observe(self, signals: Any) -> None:
        self.observed += 1

    def after_step(self, student: nn.Module, progress: float) -> None:
        self.progress.append(progress)


def mean_teacher(decay: float) -> Objective:
    return Objective(teacher=EMA(decay, ramp_decay=decay), target=Soft(), divergence=squared_error, strength=10.0)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_parts_hear_of_every_step_once(tiny_encoder: Path, tmp_path: Path, accumulation: int) -> None:
    """`after_step` once per optimizer step, `observe` once per micro-batch: guards a teacher that moves twice as fast."""
    follower = Follower()
    trainer = make(
        tiny_encoder, tmp_path, method=Objective(teacher=Self(), weight=follower), unlabeled_dataset=unlabeled(),
        per_device_train_batch_size=4 // accumulation, gradient_accumulation_steps=accumulation, max_steps=4,
    )  # fmt: skip
    trainer.train()
    assert follower.progress == [0.0, 0.25, 0.5, 0.75]
    assert follower.observed == 4 * accumulation


def test_the_moving_average_is_of_the_students_steps(tiny_encoder: Path, tmp_path: Path) -> None:
    """θ′ after three steps at m = .5 is θ₀/8 + θ₁/8 + θ₂/4 + θ₃/2, from the checkpoints of the student."""
    trainer = make(
        tiny_encoder, tmp_path, method=mean_teacher(0.5), unlabeled_dataset=unlabeled(), max_steps=3, save_strategy="steps",
        save_steps=1,
    )  # fmt: skip
    name = "classifier.weight"
    first = trainer.model.state_dict()[name].clone()
    trainer.train()
    students = [load_file(tmp_path / f"checkpoint-{step}" / "model.safetensors")[name] for step in (1, 2, 3)]
    expected = first / 8 + students[0] / 8 + students[1] / 4 + students[2] / 2
    torch.testing.assert_close(trainer.training_objective.teacher.get_buffer("weight classifier/weight"), expected)
    assert not students[0].equal(students[2])


def test_the_moving_average_is_saved_and_restored(tiny_encoder: Path, tmp_path: Path) -> None:
    """Resuming with the EMA of the checkpoint equals not stopping, to the bit; without it, it does not."""
    settings = {"unlabeled_dataset": unlabeled(), "save_strategy": "steps", "save_steps": 2, "max_steps": 6}
    whole = make(tiny_encoder, tmp_path / "whole", method=mean_teacher(0.9), **settings)
    whole.train()
    checkpoint = tmp_path / "whole" / "checkpoint-4"
    saved = load_file(checkpoint / STATE_FILE)
    assert "objective.teacher.weight classifier/weight" in saved
    assert {value.dtype for value in saved.values()} == {torch.float32}
    for forgets in (False, True):
        resumed = make(tiny_encoder, tmp_path / f"resumed-{forgets}", method=mean_teacher(0.9), **settings)
        if forgets:  # the canary: the average matters for the bits
            resumed.training_objective.load_state_dict = lambda state, **kwargs: None
        resumed.train(resume_from_checkpoint=str(checkpoint))
        assert torch.equal(weights(whole), weights(resumed)) != forgets


def test_the_average_is_no_weight_of_the_model(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards against a teacher that the optimizer trains, or that is published with the student."""
    trainer = make(tiny_encoder, tmp_path, method=mean_teacher(0.5), unlabeled_dataset=unlabeled(), max_steps=1)
    trainer.train()
    trained = {id(parameter) for group in trainer.optimizer.param_groups for parameter in group["params"]}
    assert trained == {id(parameter) for parameter in trainer.model.parameters()}
    trainer.save_model(str(tmp_path / "model"))
    assert not [name for name in load_file(tmp_path / "model" / "model.safetensors") if "weight " in name]


def test_regularizers_are_options(tiny_encoder: Path, tmp_path: Path) -> None:
    """`regularizers={"entropy": …}` acts beside a method and beside none, and needs unlabeled rows."""
    settings = {"unlabeled_dataset": unlabeled(), "logging_steps": 6}
    plain = make(tiny_encoder, tmp_path / "plain")
    plain.train()
    for method in ("supervised", "fixmatch"):
        results = {}
        for strength in (0.0, 5.0):
            trainer = make(tiny_encoder, tmp_path, method=method, regularizers={"entropy": strength}, **settings)
            trainer.train()
            results[strength] = weights(trainer)
            assert trainer.state.log_history[0]["loss_entropy"] > 0
        assert not torch.equal(results[0.0], results[5.0])
    with pytest.raises(UserError, match="supervised with entropy learns from unlabeled text"):
        make(tiny_encoder, tmp_path, method="supervised", regularizers={"entropy": 1.0})
    with pytest.raises(UserError, match="no regularizer 'entropi'; did you mean entropy"):
        make(tiny_encoder, tmp_path, regularizers={"entropi": 1.0}, **settings)


def test_gathered_rows_keep_the_gradient_of_the_own_ones(tiny_encoder: Path, tmp_path: Path) -> None:
    """Two processes: the values of both, the gradient of the own rows twice, so that the average of both is right."""
    trainer = make(tiny_encoder, tmp_path, train_dataset=labeled(4))

    class Two:
        num_processes, process_index = 2, 1

        @staticmethod
        def gather(rows: torch.Tensor) -> torch.Tensor:
            return torch.cat([rows + 10, rows])

    trainer.accelerator = Two()
    own = torch.tensor([1.0, 2.0], requires_grad=True)
    everyone = trainer._gather(own)
    assert everyone.tolist() == [11.0, 12.0, 1.0, 2.0]
    (everyone * torch.tensor([5.0, 6.0, 7.0, 8.0])).sum().backward()
    assert own.grad is not None
    assert own.grad.tolist() == [14.0, 16.0]
    assert not trainer._gather(own.detach()).requires_grad
    Two.num_processes = 1
    assert trainer._gather(own) is own


def test_losses_of_labeled_rows_need_no_unlabeled_ones(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards nested batches that only a trainer with unlabeled rows could put together."""
    trainer = make(tiny_encoder, tmp_path, regularizers={"supervised-contrast": 1.0})
    trainer.train()
    assert trainer.state.log_history[0]["loss_supervised_contrast"] > 0


def test_the_adversary_is_found_in_float32_under_mixed_precision(tiny_encoder: Path, tmp_path: Path) -> None:
    """Accelerate wraps the forward of the model in autocast: guards a direction that is lost among bfloat16's three digits."""
    seen: list[torch.dtype] = []
    trainer = make(tiny_encoder, tmp_path, method="vat", unlabeled_dataset=unlabeled(), max_steps=1, bf16=True)

    def keep(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        seen.append(output.dtype)

    prepare = trainer.get_train_dataloader  # the objective is built there
    trainer.get_train_dataloader = lambda: _recorded(prepare(), trainer, keep)
    trainer.train()
    assert set(seen) == {torch.float32}


def _recorded(loader: Any, trainer: Any, keep: Any) -> Any:
    """The same batches, with `keep` on a layer of the student while the view is prepared."""
    view = trainer.training_objective.view
    prepare = view.prepare

    def recorded(student: Any, rows: Any) -> Any:
        handle = student.bert.encoder.layer[0].output.dense.register_forward_hook(keep)
        try:
            return prepare(student, rows)
        finally:
            handle.remove()

    view.prepare = recorded
    return loader


def test_r_drop_keeps_its_labeled_part_where_a_batch_has_no_unlabeled_row(tiny_encoder: Path, tmp_path: Path) -> None:
    """At ⅛ unlabeled row per labeled one every other batch of 4 has none: guards a labeled loss that halves there."""
    trainer = make(
        tiny_encoder, tmp_path, method="r-drop", unlabeled_dataset=unlabeled(), unlabeled_batch_ratio=0.125,
        max_steps=4, logging_steps=1,
    )  # fmt: skip
    trainer.train()
    assert all("loss_rdrop" in log for log in trainer.state.log_history if "loss" in log)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": Objective(), "method_args": {"threshold": 1}}, "method_args: an Objective has its own"),
        ({"method": Objective(), "regularizers": {"entropy": 1}}, "regularizers: an Objective has its own"),
        (
            {"method": Objective(teacher=Self()), "method_args": {"strength": 7}},
            "method_args: an Objective has its own",
        ),
        (
            {"method": "r-drop", "method_args": {"strength": 7.0}},
            "method_args of r-drop: it has no pseudo-label loss, so strength has no effect; remove it",
        ),
        (
            {"method": "fixmatch", "method_args": {"min_confidence": 0.5}},
            "method_args: min_confidence has an effect between rounds only",
        ),
        (
            {"method": "fixmatch", "method_args": {"strength": -1.0}},
            "method_args of fixmatch: strength: expected a number at least 0",
        ),
        (
            {"method": "fixmatch", "label_smoothing_factor": 0.5},
            "label_smoothing_factor is supported only for plain fine-tuning",
        ),
        ({"method": "vat", "regularizers": {"entropy": 1}}, "regularizers: vat has entropy already"),
        ({"method": "adamatch", "regularizers": {"strong-labels": 1}}, "adamatch has strong-labels already"),
    ],
)
def test_options_without_an_effect_are_refused(
    tiny_encoder: Path, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    """Guards against an option that is taken and does nothing, or a loss that counts twice."""
    with pytest.raises(UserError, match=message):
        make(tiny_encoder, tmp_path, unlabeled_dataset=unlabeled(), **settings)


def test_label_smoothing_is_plain_trainers(tiny_encoder: Path, tmp_path: Path) -> None:
    """Canary of the refusal above: in plain fine-tuning the option acts."""
    losses = []
    for factor in (0.0, 0.5):
        trainer = make(tiny_encoder, tmp_path, label_smoothing_factor=factor, logging_steps=6)
        trainer.train()
        losses.append(trainer.state.log_history[0]["loss"])
    assert losses[0] != losses[1]
