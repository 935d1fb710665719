"""One training: continued after an interruption, stopped early, and shown in progress lines and loggers."""

import json
import shutil
from pathlib import Path
from typing import Any

from transformers import EarlyStoppingCallback, PrinterCallback, ProgressCallback
from transformers.trainer_utils import get_last_checkpoint

from sstext.data.preparing import Tokens
from sstext.evaluation.metrics import checkpoint_metrics
from sstext.objective.objective import Objective
from sstext.progress import Reporter
from sstext.training.arguments import SemiSupervisedTrainingArguments
from sstext.training.callbacks import ProgressLine, SendFigures, StopOnSignal
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
    """
    stop = StopOnSignal()
    callbacks = [ProgressLine(reporter, name), SendFigures(reporter, group), stop]
    if tokens.dev is not None:
        # Only macro-F1 counts as a gain: a log-loss that still falls (see `checkpoint_metrics`) does not prolong a training.
        callbacks.append(EarlyStoppingCallback(patience, early_stopping_threshold=1e-3))
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
    checkpoint = last_whole_checkpoint(Path(str(arguments.output_dir)))
    if checkpoint is not None:
        step = int(checkpoint.rpartition("-")[2])
        reporter.note(f"{name}: continuing from step {step}")
        if out_of_patience(checkpoint, patience):
            trainer.args.max_steps = step  # it had ended: there is nothing left to train
    try:
        trainer.train(resume_from_checkpoint=checkpoint)
    finally:
        stop.restore()
    if stop.requested:
        raise KeyboardInterrupt
    return trainer


def last_whole_checkpoint(directory: str | Path) -> str | None:
    """The newest complete checkpoint in `directory`, or None. Checkpoints that a kill cut short are removed.

    `Trainer` writes `trainer_state.json` last: a checkpoint without it, or with half of it, is incomplete.
    """
    while Path(directory).is_dir() and (checkpoint := get_last_checkpoint(str(directory))):
        try:
            json.loads(Path(checkpoint, "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(checkpoint)
        else:
            return checkpoint
    return None


def out_of_patience(checkpoint: str, patience: int) -> bool:
    """Whether early stopping had ended the training that wrote a checkpoint."""
    state = json.loads(Path(checkpoint, "trainer_state.json").read_text(encoding="utf-8"))
    callback = state.get("stateful_callbacks", {}).get("EarlyStoppingCallback", {})
    return callback.get("attributes", {}).get("early_stopping_patience_counter", 0) >= patience
