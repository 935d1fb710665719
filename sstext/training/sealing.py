"""Checkpoints of a run are sealed with hashes: after a kill, a power failure or damage, only whole ones are continued from."""

import json
import shutil
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from sstext.storage.disk import writing
from sstext.storage.manifest import digest_of

STATE = "trainer_state.json"
SEAL = "seal.json"


class SealCheckpoints(TrainerCallback):
    """Writes length and hash of every file of a checkpoint beside them. With several processes, it writes none."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if args.world_size == 1:  # other processes may still be writing their random states
            seal(Path(str(args.output_dir), f"checkpoint-{state.global_step}"))


def seal(checkpoint: Path) -> None:
    """Seal a checkpoint that has just been written."""
    found = {file.relative_to(checkpoint).as_posix(): vars(digest_of(file)) for file in _files(checkpoint)}
    with writing(checkpoint):
        (checkpoint / SEAL).write_text(json.dumps(found, indent=1), encoding="utf-8")


def last_whole_checkpoint(directory: str | Path) -> str | None:
    """The newest complete checkpoint in `directory`, or None. Checkpoints that a kill cut short are removed.

    A sealed one is complete if all hashes are right. `Trainer` writes `trainer_state.json` last: among checkpoints without
    seals, one without it, or with half of it, is incomplete. If the checkpoint of the best step is damaged, all are
    removed, because the training must begin again to find it.
    """
    folder = Path(directory)
    if not folder.is_dir():
        return None
    sealed = any((checkpoint / SEAL).is_file() for checkpoint in folder.glob("checkpoint-*"))
    while checkpoint := get_last_checkpoint(str(folder)):
        if not _is_whole(Path(checkpoint), sealed):
            shutil.rmtree(checkpoint)
            continue
        best = read_state(checkpoint).get("best_model_checkpoint")
        if best is None or _is_whole(folder / Path(best).name, sealed):
            return checkpoint
        shutil.rmtree(folder)
        return None
    return None


def read_state(checkpoint: str | Path) -> dict[str, Any]:
    """The state of the trainer in a whole checkpoint."""
    return json.loads(Path(checkpoint, STATE).read_text(encoding="utf-8"))


def _is_whole(checkpoint: Path, sealed: bool) -> bool:
    try:
        state = read_state(checkpoint)
        if not sealed:
            return isinstance(state, dict)
        kept = json.loads((checkpoint / SEAL).read_text(encoding="utf-8"))
        return {name: vars(digest_of(checkpoint / name)) for name in kept} == kept
    except (OSError, ValueError, AttributeError, TypeError):
        return False


def _files(checkpoint: Path) -> list[Path]:
    return [file for file in sorted(checkpoint.rglob("*")) if file.is_file() and file.name != SEAL]
