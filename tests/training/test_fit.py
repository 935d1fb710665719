"""Checkpoints: half-written ones are passed over, and a training that was over is not continued."""

import json
from pathlib import Path

from sstext.training.fit import last_whole_checkpoint, out_of_patience


def checkpoint(folder: Path, step: int, patience: int = 0, cut: int | None = None) -> Path:
    """A checkpoint's folder with the one file that `Trainer` writes last, perhaps cut short."""
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    attributes = {"early_stopping_patience_counter": patience}
    state = json.dumps({"stateful_callbacks": {"EarlyStoppingCallback": {"attributes": attributes}}})
    (path / "trainer_state.json").write_text(state[:cut])
    return path


def test_half_written_checkpoints_are_passed_over(tmp_path: Path) -> None:
    """Guards against a resume from a checkpoint that a kill cut short: it is removed, the one before is taken."""
    whole = checkpoint(tmp_path, 4)
    checkpoint(tmp_path, 6, cut=20)
    (tmp_path / "checkpoint-8").mkdir()
    assert last_whole_checkpoint(tmp_path) == str(whole)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-4"]
    assert last_whole_checkpoint(tmp_path / "nowhere") is None


def test_patience_is_read_from_the_checkpoint(tmp_path: Path) -> None:
    """Guards against training on after early stopping had ended it; without early stopping, there is no end to find."""
    assert out_of_patience(str(checkpoint(tmp_path, 1, patience=3)), 3)
    assert not out_of_patience(str(checkpoint(tmp_path, 2, patience=2)), 3)
    (tmp_path / "checkpoint-1" / "trainer_state.json").write_text("{}")
    assert not out_of_patience(str(tmp_path / "checkpoint-1"), 3)
