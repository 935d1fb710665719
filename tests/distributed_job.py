"""Every method for a few steps, in as many processes as it is started in; what comes out is the same for any number.

    python tests/distributed_job.py ENCODER OUTPUT
    python -m torch.distributed.run --nproc_per_node 2 tests/distributed_job.py ENCODER OUTPUT
"""

import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from contract import IN_STEP, SETTINGS, WHOLE_BATCH, make_trainer
from safetensors.torch import save_file

from sstext.objective.regularizers import REGULARIZERS

#: Name → (method, regularizers).
RUNS: dict[str, tuple[str, dict[str, float]]] = {
    **{name: (name, {}) for name in IN_STEP},
    **{f"supervised-{name}": ("supervised", {name: 1.0}) for name in REGULARIZERS},
    **{f"fixmatch-{name}": ("fixmatch", {name: 1.0}) for name in REGULARIZERS},
}


def train_all(encoder: Path, output: Path) -> None:
    """Train every run on all labeled and unlabeled rows at once, and write weights and state of the objective."""
    torch.set_num_threads(1)
    for name, (method, regularizers) in RUNS.items():
        settings: dict[str, Any] = WHOLE_BATCH | {"method_args": SETTINGS[method], "regularizers": regularizers}
        processes = PartialState().num_processes
        settings["per_device_train_batch_size"] = settings["per_device_train_batch_size"] // processes
        trainer = make_trainer(encoder, output / name, method, **settings)
        trainer.train()
        state = {f"student.{key}": value for key, value in trainer.model.state_dict().items()}
        state |= {f"objective.{key}": value for key, value in trainer.objective.state_dict().items()}
        if PartialState().is_main_process:
            save_file({key: value.detach().clone() for key, value in state.items()}, output / f"{name}.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    PartialState(cpu=True)
    train_all(Path(sys.argv[1]), Path(sys.argv[2]))
