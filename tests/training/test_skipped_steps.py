"""Losses and gradients that are not finite: their steps change nothing, are counted, and end a training if they are many."""

import math
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import torch
from contract import make_trainer, weights
from datasets import Dataset
from torch import Tensor
from transformers import TrainerCallback

from sstext.errors import UserError
from sstext.objective.part import Signals, known
from sstext.training import finite
from sstext.training.checkpoints import STATE_FILE
from sstext.training.trainer import SemiSupervisedTrainer

NAN = float("nan")


def disturb(trainer: SemiSupervisedTrainer, step: int, change: Callable[[Tensor], Tensor], pass_: int = 0) -> None:
    """Change the logits of a step, counted from 1, in all of its passes that train or only in one of them."""
    usual, done, before = trainer.model.forward, 0, 0

    @wraps(usual)  # `Trainer` reads its signature
    def forward(*arguments: Any, **inputs: Any) -> Any:
        nonlocal done, before
        outputs = usual(*arguments, **inputs)
        if torch.is_grad_enabled():
            now = trainer.state.global_step + 1
            done, before = (done + 1 if now == before else 1), now
            if now == step and pass_ in (0, done):
                outputs.logits = change(outputs.logits)
                if outputs.loss is not None:  # the model has computed it from the logits as they were
                    outputs.loss = change(outputs.loss)
        return outputs

    trainer.model.forward = forward


class Steps(TrainerCallback):
    """The weights and the state of the optimizer after each step, and before the first one."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def _look(self, model: Any, optimizer: Any) -> None:
        state = [value for each in optimizer.state.values() for value in each.values() if isinstance(value, Tensor)]
        parts = [*(part.detach() for part in model.parameters()), *state]
        self.seen.append(torch.cat([part.flatten().float() for part in parts]))

    def on_train_begin(self, args: Any, state: Any, control: Any, *, model: Any, optimizer: Any, **kwargs: Any) -> None:
        self._look(model, optimizer)

    def on_step_end(self, args: Any, state: Any, control: Any, *, model: Any, optimizer: Any, **kwargs: Any) -> None:
        self._look(model, optimizer)

    def unchanged(self) -> list[int]:
        """Steps, from 1, that changed nothing."""
        pairs = zip(self.seen, self.seen[1:], strict=False)
        return [step for step, (one, other) in enumerate(pairs, 1) if torch.equal(one, other)]


@pytest.mark.parametrize("method", ["supervised", "fixmatch", "mean-teacher"])
def test_a_training_without_such_numbers_has_the_same_bits(
    tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Guards against a check that rounds."""

    def train(name: str) -> tuple[Tensor, list]:
        trainer = make_trainer(tiny_encoder, tmp_path / name, method, max_steps=3, logging_steps=1)
        trainer.train()
        timed = ("_runtime", "_per_second")
        logs = [{k: v for k, v in log.items() if not k.endswith(timed)} for log in trainer.state.log_history]
        return weights(trainer), logs

    checked = train("checked")
    monkeypatch.setattr("sstext.training.trainer.seen_in_gradients", lambda loss: loss)
    monkeypatch.setattr("sstext.training.finite.seen_in_gradients", lambda loss: loss)
    monkeypatch.setattr("sstext.objective.objective.known", lambda signals: signals)
    monkeypatch.setattr(SemiSupervisedTrainer, "skip_if_not_finite", lambda self: None)
    unchecked = train("unchecked")
    assert torch.equal(checked[0], unchecked[0])
    assert checked[1] == unchecked[1]


@pytest.mark.parametrize(
    ("method", "optim", "more"),
    [
        ("supervised", "adamw_torch", {}),
        ("supervised", "adamw_torch_fused", {"max_grad_norm": 0.0}),
        ("supervised", "adafactor", {"bf16": True}),
        ("fixmatch", "adamw_torch", {"logging_nan_inf_filter": False}),
        ("fixmatch", "sgd", {"optim_args": "momentum=0.9"}),
    ],
)
def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(
    tiny_encoder: Path, tmp_path: Path, method: str, optim: str, more: dict[str, Any]
) -> None:
    """Guards weights of NaN, and moments or weight decay that go on in a step without gradients."""
    steps = Steps()
    trainer = make_trainer(
        tiny_encoder, tmp_path, method, dropout=0.0, max_steps=5, logging_steps=1, optim=optim, weight_decay=0.1,
        lr_scheduler_type="constant", **more,
    )  # fmt: skip
    trainer.add_callback(steps)
    disturb(trainer, 3, lambda values: values * NAN)
    trainer.train()
    assert steps.unchanged() == [3]
    assert trainer.skipped_steps.total == 1
    assert steps.seen[-1].isfinite().all()
    logged = [log for log in trainer.state.log_history if "loss" in log]
    assert [log.get("skipped_steps") for log in logged] == [None, None, 1, 1, 1]
    assert all(math.isfinite(value) for log in logged for value in log.values())


@pytest.mark.parametrize("optim", ["adamw_torch_fused", "sgd"])
def test_a_step_that_the_host_reads_later_changes_nothing(
    tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optim: str
) -> None:
    """As on a GPU: the optimizer is told on the device. Guards an optimizer that skips all steps after the training, too."""
    monkeypatch.setitem(finite.READ_AFTER, "cpu", 16)
    steps, fused = Steps(), {"optim_args": "fused=True"} if optim == "sgd" else {}
    trainer = make_trainer(tiny_encoder, tmp_path, "supervised", max_steps=3, optim=optim, weight_decay=0.1, **fused)
    trainer.add_callback(steps)
    for step in (2, 3):
        disturb(trainer, step, lambda values: values * NAN)
    trainer.train()
    assert steps.unchanged() == [2, 3]
    assert trainer.skipped_steps.total == 2
    assert not hasattr(trainer.optimizer.optimizer, "found_inf")


def test_an_infinite_loss_without_any_such_gradient_is_skipped(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards against a look at the gradients alone: +∞ has the gradient of what it was added to."""
    steps = Steps()
    trainer = make_trainer(tiny_encoder, tmp_path, "supervised", max_steps=3)
    trainer.add_callback(steps)
    disturb(trainer, 2, lambda values: values if values.dim() else values + math.inf)
    trainer.train()
    assert steps.unchanged() == [2]


def test_one_micro_batch_spoils_its_step_alone(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards accumulation: the gradients of a whole step are dropped, and none of them reaches the next one."""
    steps = Steps()
    trainer = make_trainer(
        tiny_encoder, tmp_path, "supervised", max_steps=3, gradient_accumulation_steps=2, per_device_train_batch_size=2
    )
    trainer.add_callback(steps)
    disturb(trainer, 2, lambda values: values * NAN, pass_=2)
    trainer.train()
    assert steps.unchanged() == [2]


def test_steps_that_are_read_later_count_the_same() -> None:
    """Guards ten skipped steps in a row that good ones follow before the host reads them."""
    one, other = finite.SkippedSteps(), finite.SkippedSteps()
    for skipped in [True] * 10 + [False] * 3 + [True]:
        one.count(skipped)
        other.count(torch.tensor(skipped))
    assert other.waiting == 14
    assert (other.total, other.in_a_row, other.longest, other.last) == (11, 1, 10, True)
    assert (one.total, one.in_a_row, one.longest, one.last) == (11, 1, 10, True)


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize(
    ("bad", "steps", "said"),
    [
        (range(2, 12), 200, "in 10 of 11 steps"),  # in a row
        (range(2, 20, 2), 60, "in 7 of 14 steps"),  # more than a tenth
        (range(2, 20), 4, "in 3 of 4 steps"),  # …
        (range(1, 3), 2, "in 2 of 2 steps"),  # all, of very few
    ],
)
def test_many_such_steps_end_the_training_with_advice(
    bad: range, steps: int, said: str, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards a training that goes on for hours without a step, and one of a few steps that has learned nothing."""

    class Counted(finite.FiniteTrainer):
        def __init__(self) -> None:
            from types import SimpleNamespace as Some

            self.args = Some(fp16=False, bf16=True, learning_rate=0.5)
            self.state, self.model = Some(global_step=0, max_steps=steps), torch.nn.Linear(1, 1)
            self.accelerator, self.counts = Some(scaler=None), finite.SkippedSteps()
            self.optimizer = torch.optim.AdamW(self.model.parameters(), fused=told)

        skipped_steps = property(lambda self: self.counts)

    trainer = Counted()

    def train(self: Any) -> None:
        for step in range(1, steps + 1):
            trainer._norm = torch.tensor(NAN if step in bad else 1.0)
            trainer.skip_if_not_finite()
            trainer.state.global_step += 1

    monkeypatch.setattr("transformers.Trainer.train", train)
    monkeypatch.setattr(finite.FiniteTrainer, "remove_callback", lambda self, kind: None)
    monkeypatch.setattr(finite.FiniteTrainer, "add_callback", lambda self, callback: None)
    if said == "in 3 of 4 steps":
        trainer.train()  # a few are not many: the first steps in fp16 often are not finite
        assert trainer.counts.total == 3
        return
    with pytest.raises(UserError, match=rf"{said}, .* lower learning_rate \(it was 0.5\), or in fp32 instead of bf16"):
        trainer.train()


def test_a_rate_that_blows_up_ends_with_advice(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards the whole way, in which the first bad loss comes from weights that are huge."""
    trainer = make_trainer(tiny_encoder, tmp_path, "supervised", learning_rate=1e38, max_steps=8)
    with pytest.raises(UserError, match=r"not finite .* in 4 of \d steps, .* lower learning_rate \(it was 1e\+38\)"):
        trainer.train()


def test_what_the_method_remembers_stays_finite(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards moving averages: one NaN would stay in a threshold, and no unlabeled row would count any more."""
    for method in ("freematch", "temporal-ensembling", "mean-teacher"):
        trainer = make_trainer(tiny_encoder, tmp_path / method, method, max_steps=4)
        disturb(trainer, 2, lambda values: values * NAN)
        trainer.train()
        assert trainer.skipped_steps.total == 1, method
        state = trainer.training_objective.state_dict()
        assert state, method
        assert all(value.isfinite().all() for value in state.values()), method
        if method == "mean-teacher":
            assert state["teacher.steps"] == 3, "a step that was skipped is none for the average"


def test_signals_that_are_finite_keep_their_bits() -> None:
    probs = torch.tensor([[0.1, 0.9], [math.inf, 0.0]])
    signals = known(Signals(probs, student_logits=torch.tensor([[NAN, 3.0]]), ids=torch.tensor([7])))
    assert torch.equal(signals.probs, torch.tensor([[0.1, 0.9], [0.5, 0.5]]))
    assert signals.student_logits.tolist() == [[0.0, 3.0]]
    assert signals.ids.tolist() == [7]


def test_counts_outlive_an_interruption(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards a run that is continued, which would forget what it has skipped."""
    settings = {
        "max_steps": 4,
        "save_strategy": "steps",
        "save_steps": 2,
        "restore_callback_states_from_checkpoint": True,
    }
    trainer = make_trainer(tiny_encoder, tmp_path, "supervised", **settings)
    disturb(trainer, 2, lambda values: values * NAN)
    trainer.train()
    trainer = make_trainer(tiny_encoder, tmp_path, "supervised", **settings)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert trainer.skipped_steps.total == 1


def test_a_training_that_had_ended_with_skipped_steps_alone_is_refused_again(
    tiny_encoder: Path, tmp_path: Path
) -> None:
    """Killed after its last checkpoint, and taken over. Guards an untrained model that is shipped."""
    trainer, counts = make_trainer(tiny_encoder, tmp_path, "supervised", max_steps=2), finite.SkippedSteps()
    trainer.add_callback(counts)
    trainer.state.max_steps = trainer.state.global_step = 2
    counts.total = 1
    trainer.refuse_if_nothing_was_learned()
    counts.total = 2
    with pytest.raises(UserError, match="in 2 of 2 steps, which were skipped"):
        trainer.refuse_if_nothing_was_learned()


def test_weights_that_are_not_finite_are_neither_saved_nor_continued_from_nor_evaluated(
    tiny_encoder: Path, tmp_path: Path
) -> None:
    """Guards what a trainer writes and says: transformers' own does all three, and finds NaN in every figure."""
    from safetensors.torch import load_file, save_file

    trainer = make_trainer(tiny_encoder, tmp_path, "fixmatch", max_steps=2, save_strategy="steps", save_steps=1)
    trainer.train()
    assert (tmp_path / "checkpoint-1" / STATE_FILE).is_file()
    file = tmp_path / "checkpoint-1" / "model.safetensors"
    tensors = {key: tensor.clone() for key, tensor in load_file(file).items()}
    tensors["classifier.bias"][1] = NAN
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"checkpoint-1: .* 1 of 3 numbers in 'classifier.bias'"):
        make_trainer(tiny_encoder, tmp_path, "fixmatch", max_steps=2).train(str(tmp_path / "checkpoint-1"))
    trainer.model.classifier.bias.data[1] = math.inf
    with pytest.raises(UserError, match=r"saved: expected finite weights, found 1 of 3 numbers in 'classifier.bias'"):
        trainer.save_model(str(tmp_path / "saved"))
    assert not (tmp_path / "saved" / "model.safetensors").exists()
    rows = Dataset.from_dict({"text": ["a", "refund"], "label": [0, 1]})
    with pytest.raises(UserError, match=r"a finite eval_loss, found (inf|nan); train with a lower learning_rate"):
        trainer.evaluate(rows)
    with pytest.raises(UserError, match=r"infinite ones for 2 of 2 rows.*; train with a lower learning_rate"):
        trainer.predict(rows)
