"""One training: continued after an interruption, stopped early, and shown in progress lines and loggers."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import EarlyStoppingCallback, PrinterCallback, ProgressCallback, TrainerState

from sstext.data.preparing import Tokens
from sstext.errors import UserError
from sstext.evaluation.metrics import checkpoint_metrics
from sstext.objective.objective import Objective
from sstext.processes import from_main_process, is_main_process
from sstext.progress import Reporter
from sstext.reporting.words import skipped_said
from sstext.storage.disk import writing
from sstext.training.arguments import SemiSupervisedTrainingArguments
from sstext.training.callbacks import LogEvaluatedSteps, ProgressLine, SendFigures, StopOnSignal
from sstext.training.finite import SkippedSteps
from sstext.training.sealing import STATE, SealCheckpoints, last_whole_checkpoint, read_state
from sstext.training.trainer import SemiSupervisedTrainer


def train_student(
    student: Any,
    arguments: SemiSupervisedTrainingArguments,
    tokens: Tokens,
    tokenizer: Any,
    *,
    objective: Objective,
    pseudo_labeled: Any,
    patience: int,
    reporter: Reporter,
    name: str,
    group: str,
) -> SemiSupervisedTrainer:
    """Train a student to the end. It continues from the newest whole checkpoint in `arguments.output_dir`, if there is one.

    Args:
        tokens: labeled rows, development rows, and the corpus for methods that learn from it inside a step.
        objective: what the student minimizes.
        pseudo_labeled: pseudo-labeled rows. None in a stage without any.
        patience: number of evaluations on the development rows without a gain after which the training ends.
        name, group: name of the training in the progress line, and in loggers.

    Raises:
        KeyboardInterrupt: it was stopped by a signal, after writing a checkpoint.
        UserError: too many steps were not finite, memory ran out, or a checkpoint could not be written (for example, on a full
            disk).
    """
    stop = StopOnSignal()
    callbacks = [ProgressLine(reporter, name), SendFigures(reporter, group), stop, SealCheckpoints()]
    if tokens.dev is not None:
        # Only macro-F1 counts as a gain: a log-loss that still falls (see `checkpoint_metrics`) does not prolong a training.
        callbacks += [EarlyStoppingCallback(patience, early_stopping_threshold=1e-3), LogEvaluatedSteps()]
    trainer = SemiSupervisedTrainer(
        student,
        arguments,
        train_dataset=tokens.labeled,
        eval_dataset=tokens.dev,
        processing_class=tokenizer,
        unlabeled_dataset=tokens.corpus,
        pseudo_labeled_dataset=pseudo_labeled,
        method=objective,
        compute_metrics=lambda prediction: checkpoint_metrics(*prediction),
        callbacks=callbacks,
    )
    for chatty in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(chatty)
    # It removes those that are not whole, which only one process may do.
    checkpoint = from_main_process(last_whole_checkpoint(str(arguments.output_dir)) if is_main_process() else None)
    what = name.removesuffix(": training")
    if checkpoint is not None:
        step = int(checkpoint.rpartition("-")[2])
        reporter.note(f"{name}: continuing from step {step}")
        if has_ended(checkpoint, arguments.max_steps, patience):
            with named_errors(what):
                take_over(trainer, checkpoint)
                trainer.refuse_if_nothing_was_learned()
            return trainer
    trainer.say = lambda message: reporter.note(f"{what}: {message}")
    try:
        with writing(str(arguments.output_dir)), named_errors(what):
            trainer.train(resume_from_checkpoint=checkpoint)
    finally:
        stop.restore()
    if stop.requested:
        raise KeyboardInterrupt
    if skipped := trainer.skipped_steps.total:
        reporter.note(f"{what}: {skipped_said(skipped, trainer.state.global_step)}")
    return trainer


@contextmanager
def named_errors(what: str) -> Iterator[None]:
    """Begin the message of a `UserError` in this block with the name of the training."""
    try:
        yield
    except UserError as error:
        raise type(error)(f"{what}: {error}") from error


def has_ended(checkpoint: str, steps: int, patience: int) -> bool:
    """Whether the training that wrote a checkpoint had ended: all steps were done, or early stopping had ended it.

    Args:
        steps: optimizer steps of the training.
        patience: see `train_student`.
    """
    return read_state(checkpoint).get("global_step", 0) >= steps or out_of_patience(checkpoint, patience)


def take_over(trainer: SemiSupervisedTrainer, checkpoint: str) -> None:
    """Load the weights, the log and the counts of a training that had ended. `Trainer` would train a step more."""
    state = TrainerState.load_from_json(str(Path(checkpoint, STATE)))
    best = state.best_model_checkpoint if trainer.args.load_best_model_at_end else None
    chosen = checkpoint if best is None else str(Path(checkpoint).with_name(Path(best).name))
    if not trainer.load_shards(chosen):
        trainer._load_from_checkpoint(chosen)
    trainer.state = state
    if SkippedSteps.__name__ in state.stateful_callbacks:
        trainer.add_callback(SkippedSteps.from_state(state.stateful_callbacks[SkippedSteps.__name__]))


def without_times(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The log of a training without times, so that it is the same in every run.

    >>> without_times([{"loss": 1.5, "step": 10}, {"eval_loss": 1.0, "eval_runtime": 0.2}, {"train_runtime": 9.0}])
    [{'loss': 1.5, 'step': 10}, {'eval_loss': 1.0}]
    """
    timed = ("_runtime", "_per_second")
    return [
        {name: value for name, value in entry.items() if not name.endswith(timed)}
        for entry in history
        if "train_runtime" not in entry  # the summary of a call, which may have done a part of the steps
    ]


def out_of_patience(checkpoint: str, patience: int) -> bool:
    """Whether early stopping had ended the training that wrote a checkpoint."""
    callback = read_state(checkpoint).get("stateful_callbacks", {}).get("EarlyStoppingCallback", {})
    return callback.get("attributes", {}).get("early_stopping_patience_counter", 0) >= patience
