"""Callbacks of a training: the progress line, the loggers, Ctrl-C, and the updates of the objective."""

from contextlib import ExitStack
from types import FrameType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import IntervalStrategy

from sstext.interrupts import handle, restore
from sstext.progress import Reporter, Tick


class ProgressLine(TrainerCallback):
    """One line per training with steps, rate and time left. It replaces `Trainer`'s progress bar and printed dicts."""

    def __init__(self, reporter: Reporter, name: str) -> None:
        self.reporter, self.name = reporter, name
        self._stack = ExitStack()
        self._tick: Tick | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            phase = self.reporter.phase(self.name, state.max_steps, "step", done=state.global_step)
            self._tick = self._stack.enter_context(phase)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._tick is not None:
            self._tick(1)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._stack.close()


class SendFigures(TrainerCallback):
    """Sends the figures that a training logs to the loggers of the run."""

    #: The summary that `Trainer` logs at the end of a training. It has one value and no curve.
    SUMMARY = ("train_runtime", "train_samples_per_second", "train_steps_per_second", "train_loss", "total_flos")

    def __init__(self, reporter: Reporter, group: str) -> None:
        self.reporter, self.group = reporter, group

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any
    ) -> None:
        values = {f"{self.group}/{name}": value for name, value in (logs or {}).items() if name not in self.SUMMARY}
        self.reporter.figures(values, state.global_step)


class LogLastStep(TrainerCallback):
    """Logs the last step of a training, whatever `logging_steps` is. `Trainer` logs it only if it is a multiple of them.

    Nothing is logged twice, and nothing that the training computes depends on it.
    """

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        if state.global_step >= state.max_steps:
            control.should_log = args.logging_strategy == IntervalStrategy.STEPS or control.should_log
        return control

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        if control.should_training_stop:  # early stopping decides after the log of its step
            control.should_log = args.logging_strategy == IntervalStrategy.STEPS or control.should_log
        return control


class LogEvaluatedSteps(TrainerCallback):
    """Logs every step that is evaluated, so that the log is complete in the checkpoint with which early stopping ends."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        control.should_log = control.should_log or control.should_evaluate
        return control


class RestoreLoss(TrainerCallback):
    """Restores the loss since the last log, which `Trainer` forgets: the first log after a resume would miss steps."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.trainer.restore_loss()


class StopOnSignal(TrainerCallback):
    """On Ctrl-C (or SIGTERM), finish the step, write a checkpoint and stop. A second signal stops at once.

    With several processes, the signal reaches each process at a different step, so they cannot stop at the same step.
    The run then stops at once, and a restart continues from its last checkpoint.
    """

    def __init__(self) -> None:
        self.requested = False
        self._handlers: dict[int, object] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if args.world_size == 1:
            self._handlers |= handle(self._request)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        if self.requested:
            control.should_save = control.should_training_stop = True
        return control

    def restore(self) -> None:
        """Restore the previous signal handlers."""
        restore(self._handlers)


class TellObjective(TrainerCallback):
    """Updates the objective after every optimizer step (for example, a moving average of the weights)."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        trainer, objective = self.trainer, self.trainer.training_objective
        if not (trainer.paired and objective.follows_steps):
            return  # to ask whether the step was skipped waits for the device
        if not (trainer.accelerator.optimizer_step_was_skipped or trainer.skipped_steps.last):
            objective.after_step(trainer.accelerator.unwrap_model(trainer.model), trainer.progress())
