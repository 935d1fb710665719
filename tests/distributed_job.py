"""Every method for a few steps, in as many processes as it is started in; what comes out is the same for any number.

`python tests/distributed_job.py ENCODER OUTPUT`, by itself or after `-m torch.distributed.run --nproc_per_node 2`.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from contract import IN_STEP, SETTINGS, WHOLE_BATCH, components, make_trainer
from safetensors.torch import save_file

from sstext.objective.regularizers import REGULARIZERS

#: Name → (method, regularizers, arguments of the method beside its setting).
RUNS: dict[str, tuple[str, dict[str, float], dict[str, Any]]] = {
    **{name: (name, {}, {}) for name in IN_STEP},
    **{f"supervised-{name}": ("supervised", {name: 1.0}, {}) for name in REGULARIZERS},
    **{f"fixmatch-{name}": ("fixmatch", {name: 1.0}, {}) for name in REGULARIZERS},
    **{f"fixmatch-view-{view}": ("fixmatch", {}, {"view": view}) for view in ("noise", "adversarial")},
}


def train_all(encoder: Path, output: Path) -> None:
    """Train every run on all labeled and unlabeled rows at once; write weights, state of the objective and what was logged."""
    processes = PartialState().num_processes
    for name, (method, regularizers, arguments) in RUNS.items():
        settings: dict[str, Any] = WHOLE_BATCH | {"regularizers": regularizers, "logging_steps": 3}
        settings["method_args"] = SETTINGS[method] | arguments
        settings["per_device_train_batch_size"] //= processes
        trainer = make_trainer(encoder, output / name, method, **settings)
        trainer.train()
        state = {f"student.{key}": value.detach().clone() for key, value in trainer.model.state_dict().items()}
        state |= {f"objective.{key}": value.clone() for key, value in trainer.training_objective.state_dict().items()}
        state |= {f"logged.{key}": torch.tensor(value) for key, value in components(trainer).items()}
        if PartialState().is_main_process:
            save_file(state, output / f"{name}.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    PartialState(cpu=True)
    train_all(Path(sys.argv[1]), Path(sys.argv[2]))
    PartialState().wait_for_everyone()
    PartialState().destroy_process_group()  # a process that ends with open connections may be aborted
