"""One training of a round: continued where it was interrupted, watched, stopped early, and shown."""

from pathlib import Path
from typing import Any

from transformers import EarlyStoppingCallback, PrinterCallback, ProgressCallback

from sstext.callbacks import ProgressLine, SendFigures, StopOnSignal
from sstext.checkpoints import last_whole_checkpoint, out_of_patience
from sstext.data.preparing import Tokens
from sstext.evaluation.metrics import checkpoint_metrics
from sstext.progress import Reporter
from sstext.trainer import SemiSupervisedTrainer
from sstext.training_arguments import SemiSupervisedTrainingArguments


def trained(
    student: Any,
    arguments: SemiSupervisedTrainingArguments,
    tokens: Tokens,
    tokenizer: Any,
    *,
    pseudo_labeled: Any,
    patience: int,
    reporter: Reporter,
    name: str,
    group: str,
) -> SemiSupervisedTrainer:
    """Train a student to its end, from the newest whole checkpoint in `arguments.output_dir` where there is one.

    Args:
        tokens: labeled rows, the corpus (for methods that learn from it inside a step), development rows.
        pseudo_labeled: rows that join the labeled ones; None in a round that sees labels alone.
        patience: evaluations on the development rows without a gain after which it ends.
        name, group: what it is called in its progress line, and in loggers.

    Raises:
        KeyboardInterrupt: it was stopped by a signal, after writing a checkpoint.
    """
    stop = StopOnSignal()
    callbacks = [ProgressLine(reporter, name), SendFigures(reporter, group), stop]
    if tokens.dev is not None:
        # A gain is one of macro-F1: a log-loss that still falls (see `checkpoint_metrics`) does not prolong a training.
        callbacks.append(EarlyStoppingCallback(patience, early_stopping_threshold=1e-3))
    trainer = SemiSupervisedTrainer(
        student,
        arguments,
        train_dataset=tokens.labeled,
        eval_dataset=tokens.dev,
        processing_class=tokenizer,
        unlabeled_dataset=tokens.corpus,
        pseudo_labeled_dataset=pseudo_labeled,
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
            trainer.args.max_steps = step  # it was over: there is nothing to train any more
    try:
        trainer.train(resume_from_checkpoint=checkpoint)
    finally:
        stop.restore()
    if stop.requested:
        raise KeyboardInterrupt
    return trainer
