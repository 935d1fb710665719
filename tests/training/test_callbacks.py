"""What watches a training: the progress line, and a Ctrl-C that loses no step."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoTokenizer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sstext.modeling.student import new_student
from sstext.progress import Reporter
from sstext.training.arguments import SemiSupervisedTrainingArguments
from sstext.training.callbacks import LogLastStep, ProgressLine, StopOnSignal
from sstext.training.trainer import SemiSupervisedTrainer


class Recorded(Reporter):
    """Keeps what a progress line was told."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[tuple[str, int | None, str, int]] = []
        self.ticks, self.closed = 0, 0

    @contextmanager
    def phase(self, name: str, total: int | None, unit: str, done: int = 0) -> Iterator[Any]:
        self.opened.append((name, total, unit, done))
        yield self._tick
        self.closed += 1

    def _tick(self, n: int = 1) -> None:
        self.ticks += n


@pytest.fixture
def arguments(tmp_path: Path) -> TrainingArguments:
    return TrainingArguments(str(tmp_path), use_cpu=True)


@pytest.fixture
def stop() -> Iterator[StopOnSignal]:
    stop = StopOnSignal()
    yield stop
    stop.restore()


def trainer(tiny_encoder: Path, output: Path, callbacks: list[Any]) -> SemiSupervisedTrainer:
    rows = Dataset.from_dict({"text": ["refund my money", "parcel is late", "login"], "label": [0, 1, 2]})
    settings = SemiSupervisedTrainingArguments(
        str(output), use_cpu=True, max_steps=4, save_strategy="no", disable_tqdm=True, seed=1
    )
    return SemiSupervisedTrainer(
        new_student(str(tiny_encoder), ["a", "b", "c"], seed=0), settings, train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(tiny_encoder), callbacks=callbacks,
    )  # fmt: skip


def test_one_line_with_a_tick_per_step(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards the time left that people see: all steps, each counted once, the line closed at the end."""
    reporter = Recorded()
    trainer(tiny_encoder, tmp_path, [ProgressLine(reporter, "round 1: training")]).train()
    assert reporter.opened == [("round 1: training", 4, "step", 0)]
    assert (reporter.ticks, reporter.closed) == (4, 1)


def test_a_continued_training_starts_where_it_was(arguments: TrainingArguments) -> None:
    """Guards the rate after a resume, and the silence of every process but the first."""
    reporter, control = Recorded(), TrainerControl()
    line = ProgressLine(reporter, "round 0: training")
    line.on_train_begin(arguments, TrainerState(global_step=30, max_steps=40, is_world_process_zero=True), control)
    assert reporter.opened == [("round 0: training", 40, "step", 30)]
    other = ProgressLine(reporter, "round 0: training")
    other.on_train_begin(arguments, TrainerState(max_steps=40, is_world_process_zero=False), control)
    other.on_step_end(arguments, TrainerState(), control)
    assert (len(reporter.opened), reporter.ticks) == (1, 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_and_writes_a_checkpoint(number: int, tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards the work since the last checkpoint, also where a cluster's scheduler asks."""

    class Sender(ProgressLine):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 2:
                os.kill(os.getpid(), number)

    former, stop = signal.getsignal(number), StopOnSignal()
    run = trainer(tiny_encoder, tmp_path, [Sender(Recorded(), ""), stop])
    run.train()
    assert stop.requested
    assert run.state.global_step == 2
    assert (tmp_path / "checkpoint-2" / "trainer_state.json").is_file()
    assert signal.getsignal(number) is not former
    stop.restore()
    assert signal.getsignal(number) is former


def test_a_second_signal_stops_at_once(arguments: TrainingArguments, stop: StopOnSignal) -> None:
    """Guards against a program that cannot be stopped where a step hangs."""
    stop.on_train_begin(arguments, TrainerState(), TrainerControl())
    os.kill(os.getpid(), signal.SIGINT)
    assert stop.requested
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_without_a_signal_nothing_is_stopped(arguments: TrainingArguments, stop: StopOnSignal) -> None:
    """Guards against a callback that saves or stops on its own."""
    stop.on_train_begin(arguments, TrainerState(), TrainerControl())
    control = stop.on_step_end(arguments, TrainerState(), TrainerControl())
    assert not control.should_save
    assert not control.should_training_stop


def test_threads_and_several_processes_keep_the_signals_of_the_program(
    arguments: TrainingArguments, stop: StopOnSignal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards notebooks' threads (Python forbids handlers there) and ranks that would stop at different steps."""
    former, failures = signal.getsignal(signal.SIGINT), []

    def begin() -> None:
        try:
            stop.on_train_begin(arguments, TrainerState(), TrainerControl())
        except ValueError as error:
            failures.append(error)

    thread = threading.Thread(target=begin)
    thread.start()
    thread.join()
    monkeypatch.setattr(TrainingArguments, "world_size", 2)
    begin()
    assert failures == []
    assert signal.getsignal(signal.SIGINT) is former


def test_a_job_in_the_background_goes_on_ignoring_ctrl_c(arguments: TrainingArguments, stop: StopOnSignal) -> None:
    """Guards `sstext train … &` in a script: Ctrl-C is meant for what runs in front."""
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        stop.on_train_begin(arguments, TrainerState(), TrainerControl())
        os.kill(os.getpid(), signal.SIGINT)
        assert not stop.requested
    finally:
        stop.restore()
        signal.signal(signal.SIGINT, former)


@pytest.mark.parametrize(("more", "logged"), [({}, [3, 4]), ({"logging_strategy": "no"}, [])])
def test_the_last_step_is_logged_once_and_changes_nothing(
    more: dict[str, Any], logged: list[int], tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards a loss curve that ends before the training: four steps, logged every three. Weights are the same bit for bit, and
    a training that logs nothing logs nothing."""
    trained = {}
    for name in ("with", "without"):
        if name == "without":
            monkeypatch.setattr("sstext.training.trainer.LogLastStep", TrainerCallback)
        one = trainer(tiny_encoder, tmp_path / name, [])
        one.args.logging_strategy = more.get("logging_strategy", one.args.logging_strategy)
        one.args.logging_steps = 3
        one.train()
        losses = [entry["step"] for entry in one.state.log_history if "loss" in entry]
        assert losses == (logged if name == "with" else logged[:1])
        trained[name] = one.model.state_dict()
    assert all(torch.equal(value, trained["without"][key]) for key, value in trained["with"].items())


def test_a_step_at_which_early_stopping_ends_a_training_is_logged(arguments: TrainingArguments) -> None:
    """Early stopping decides in an evaluation, after the log of the step; the end of the epoch comes next."""
    state, control = TrainerState(global_step=7, max_steps=40), TrainerControl()
    assert not LogLastStep().on_step_end(arguments, state, control).should_log
    assert not LogLastStep().on_epoch_end(arguments, state, control).should_log, "an epoch in the middle"
    control.should_training_stop = True
    assert LogLastStep().on_epoch_end(arguments, state, control).should_log
