"""Callbacks of a training: the progress line, the loggers, Ctrl-C, and the updates of the objective."""

import signal
import threading
from contextlib import ExitStack
from types import FrameType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

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


class StopOnSignal(TrainerCallback):
    """On Ctrl-C (or SIGTERM), finish the step, write a checkpoint and stop. A second signal stops at once.

    With several processes, the signal reaches each process at a different step, so they cannot stop at the same step.
    The run then stops at once, and a restart continues from its last checkpoint.
    """

    def __init__(self) -> None:
        self.requested = False
        self._handlers: dict[int, Any] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if args.world_size == 1 and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:  # background jobs ignore Ctrl-C
                    self._handlers[number] = signal.signal(number, self._request)

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
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}


class TellObjective(TrainerCallback):
    """Updates the objective after every optimizer step (for example, a moving average of the weights)."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        trainer = self.trainer
        if trainer.paired and not trainer.accelerator.optimizer_step_was_skipped:
            trainer.objective.after_step(trainer.accelerator.unwrap_model(trainer.model), trainer.progress())
