"""ProfiledTrainer: the sections of a training step, for `sstext.profiling`."""

from typing import Any

from torch import Tensor, nn
from transformers import Trainer, TrainerCallback

from sstext.profiling import (
    BACKWARD,
    DATA,
    OPTIMIZER,
    SAVING,
    enter_section,
    leave_section,
    section,
    step,
)

#: First steps that are not traced: they make the state of the optimizer.
WARM_UP = 2


class ProfiledTrainer(Trainer):
    """A `Trainer` whose steps have sections. Without a profile, nothing is measured."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.add_callback(_TimeOptimizer())

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Make a forward and a backward pass."""
        with step("training", WARM_UP), section(BACKWARD):  # `compute_loss` is a section of its own
            return super().training_step(model, inputs, num_items_in_batch)

    def get_batch_samples(self, *arguments: Any, **keywords: Any) -> Any:
        """Wait for the batches of a step."""
        with section(DATA):
            return super().get_batch_samples(*arguments, **keywords)

    def _save_checkpoint(self, *arguments: Any, **keywords: Any) -> None:
        with section(SAVING):
            super()._save_checkpoint(*arguments, **keywords)


class _TimeOptimizer(TrainerCallback):
    """The step of the optimizer lies between two events."""

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        enter_section(OPTIMIZER)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        leave_section()
