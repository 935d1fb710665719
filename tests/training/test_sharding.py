"""Weights that FSDP has divided over devices. `tests/test_accelerate.py` has a whole run."""

from pathlib import Path
from types import SimpleNamespace

import torch
from torch.distributed.checkpoint import save

from sstext.training.sharding import SHARDS, ShardedTrainer


def test_shards_are_loaded_into_a_whole_model(tmp_path: Path) -> None:
    """Guards a training that had ended when it was killed: its last checkpoint is all that there is of its student."""
    made, model = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    trainer = SimpleNamespace(model=model)
    assert not ShardedTrainer.load_shards(trainer, str(tmp_path))  # type: ignore[arg-type]
    save({"model": made.state_dict()}, checkpoint_id=tmp_path / SHARDS, no_dist=True)
    assert not torch.equal(model.weight, made.weight)
    assert ShardedTrainer.load_shards(trainer, str(tmp_path))  # type: ignore[arg-type]
    assert torch.equal(model.weight, made.weight)
    assert torch.equal(model.bias, made.bias)
