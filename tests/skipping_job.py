"""A training of three steps. In the second one, the last process has an infinite loss without any such gradient.

`python tests/skipping_job.py ENCODER OUTPUT`, by itself or after a launcher such as `-m torch.distributed.run`.
"""

import json
import math
import os
import sys
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from contract import WHOLE_BATCH, make_trainer, weights


def train(encoder: Path, output: Path) -> None:
    """Train, and write what each process has skipped and come to."""
    state = PartialState()
    settings = WHOLE_BATCH | {"per_device_train_batch_size": 12 // state.num_processes}
    trainer = make_trainer(encoder, output, "supervised", **settings)
    usual = trainer.model.forward

    @wraps(usual)
    def forward(*arguments: Any, **inputs: Any) -> Any:
        outputs = usual(*arguments, **inputs)
        if trainer.state.global_step == 1 and state.is_last_process:
            outputs.loss = outputs.loss + math.inf
        return outputs

    trainer.model.forward = forward
    trainer.train()
    found = {"skipped": trainer.skipped_steps.total, "weights": weights(trainer).tolist()}
    (output / f"process-{state.process_index}.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    PartialState(cpu="ACCELERATE_USE_DEEPSPEED" not in os.environ)  # which says itself that it is on CPUs
    train(Path(sys.argv[1]), Path(sys.argv[2]))
