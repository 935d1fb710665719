"""`sstext` that says how each model was trained, so that a test knows that DeepSpeed was at work."""

import sys
from typing import Any

from sstext.cli.main import main
from sstext.training.trainer import SemiSupervisedTrainer

as_it_is = SemiSupervisedTrainer.train


def train(trainer: SemiSupervisedTrainer, *arguments: Any, **keywords: Any) -> Any:
    found = as_it_is(trainer, *arguments, **keywords)
    engine = trainer.accelerator.deepspeed_engine_wrapped.engine
    kind, stage = type(engine.optimizer).__name__, engine.zero_optimization_stage()
    if trainer.is_world_process_zero():
        print(f"trained: {kind}, stage {stage}, {engine.dp_world_size} processes", file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    SemiSupervisedTrainer.train = train  # type: ignore[method-assign]
    sys.exit(main(sys.argv[1:]))
