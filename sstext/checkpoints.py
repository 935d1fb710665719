"""Checkpoints of an interrupted training: which one is whole, and whether the training was over."""

import json
import shutil
from pathlib import Path

from transformers.trainer_utils import get_last_checkpoint


def last_whole_checkpoint(directory: str | Path) -> str | None:
    """The newest checkpoint in `directory` that was written to its end; those that a kill cut short are removed.

    `Trainer` writes `trainer_state.json` last: a checkpoint without it, or with half of it, is not whole.
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
