"""Checkpoints: the method that made one is recorded, and another one cannot resume it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from contract import make_trainer

from sstext.errors import UserError
from sstext.methods.confidence import fixmatch
from sstext.methods.consistency import mean_teacher
from sstext.training.checkpoints import METHOD_FILE, STATE_FILE
from sstext.training.trainer import SemiSupervisedTrainer

ONE_STEP: dict[str, Any] = {"max_steps": 1, "save_strategy": "steps", "save_steps": 1}


@pytest.fixture(scope="module")
def checkpoints(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Method → its checkpoint after one step."""
    folder, found = tmp_path_factory.mktemp("checkpoints"), {}
    for name in ("mean-teacher", "supervised"):
        make_trainer(tiny_encoder, folder / name, name, **ONE_STEP).train()
        found[name] = folder / name / "checkpoint-1"
    make_trainer(tiny_encoder, folder / "own", mean_teacher(), **ONE_STEP).train()
    return found | {"objective": folder / "own" / "checkpoint-1"}


def trainer_of(encoder: Path, output: Path, method: Any, **arguments: Any) -> SemiSupervisedTrainer:
    return make_trainer(encoder, output, method, **{"max_steps": 2} | arguments)


def test_the_method_is_recorded(checkpoints: dict[str, Path]) -> None:
    """Guards a record that cannot be read by a person, or has no arguments."""
    assert json.loads((checkpoints["mean-teacher"] / METHOD_FILE).read_text()) == {
        "method": "mean-teacher",
        "method_args": {"decay": 0.9, "ramp_decay": 0.5, "strength": 10.0},
        "regularizers": {},
    }
    assert json.loads((checkpoints["objective"] / METHOD_FILE).read_text())["objective"][0] == "EMA"


@pytest.mark.parametrize(
    ("made", "asked", "arguments", "message"),
    [
        ("mean-teacher", "fixmatch", {}, r"was made by mean-teacher \(.*\), but .* uses fixmatch \(threshold=0.4\)"),
        ("mean-teacher", "mean-teacher", {"method_args": {"decay": 0.5}}, r"but this training uses mean-teacher \(decay=0.5\)"),
        ("mean-teacher", "supervised", {}, "but this training uses supervised; give the method of the checkpoint, or train"),
        ("supervised", "fixmatch", {}, "was made by supervised, but this training uses fixmatch"),
        ("objective", fixmatch(), {}, "was made by an Objective of EMA, .*, but this training uses an Objective of Self, "),
    ],
)  # fmt: skip
def test_another_method_cannot_resume(
    made: str, asked: Any, arguments: dict[str, Any], message: str, checkpoints: dict[str, Path], tiny_encoder: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    """Guards a raw error about keys of a state, and a training that silently goes on with another loss."""
    trainer = trainer_of(tiny_encoder, tmp_path, asked, **arguments)
    with pytest.raises(UserError, match=message):
        trainer.train(resume_from_checkpoint=str(checkpoints[made]))


def test_checkpoints_without_a_record_load_if_their_state_fits(
    checkpoints: dict[str, Path], tiny_encoder: Path, tmp_path: Path
) -> None:
    """Those of earlier versions: the same method goes on, another one is refused before or by its state."""
    old = {}
    for name in ("mean-teacher", "supervised"):
        old[name] = str(tmp_path / name / "checkpoint-1")
        shutil.copytree(checkpoints[name], old[name])
        Path(old[name], METHOD_FILE).unlink()
        trainer = trainer_of(tiny_encoder, tmp_path / "same", name)
        assert trainer.train(resume_from_checkpoint=old[name]).global_step == 2
    for made, asked, message in (
        ("supervised", "fixmatch", "has no state of a method, but this training uses fixmatch"),
        ("mean-teacher", "supervised", "has the state of a method, but this training uses supervised"),
        ("mean-teacher", "softmatch", r"the state of .* does not fit softmatch \(momentum=0.5\)"),
    ):
        with pytest.raises(UserError, match=message):
            trainer_of(tiny_encoder, tmp_path / "other", asked).train(resume_from_checkpoint=old[made])


def test_a_checkpoint_without_its_state_is_named(
    checkpoints: dict[str, Path], tiny_encoder: Path, tmp_path: Path
) -> None:
    """Guards a missing file that ends in a raw error."""
    shutil.copytree(checkpoints["mean-teacher"], tmp_path / "checkpoint-1")
    (tmp_path / "checkpoint-1" / STATE_FILE).unlink()
    with pytest.raises(UserError, match=f"has no {STATE_FILE}; it may have been saved with save_only_model"):
        trainer_of(tiny_encoder, tmp_path, "mean-teacher").train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
