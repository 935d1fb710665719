"""MemoryTrainer: if memory runs out, micro-batches are split, and the training goes on with the same batches."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from accelerate.utils.memory import clear_device_cache
from torch import Tensor, nn
from transformers.utils import logging

from sstext.config.spelling import spelled
from sstext.errors import MachineError, is_out_of_memory
from sstext.training.component_log import ComponentLogTrainer

logger = logging.get_logger(__name__)


class MemoryTrainer(ComponentLogTrainer):
    """A `Trainer` that splits micro-batches if memory runs out: in two parts, then in four, and so on.

    The step is begun again, with the same rows. They count once in what is logged. The loss of a part counts by its share of
    the rows, so that the mean over the rows is the same up to rounding. It is another loss if it compares the rows of a batch
    (contrastive losses, class weights), as with gradient accumulation. Moving averages of a method may see a batch twice if
    memory ran out.

    `auto_find_batch_size` of transformers makes batches smaller instead, and begins the training again.

    Attributes:
        parts: number of parts that each micro-batch is computed in.
        say: called with the message about it. Default: it is a warning of the log.

    Raises:
        MachineError: memory runs out for a single row, or with several processes, which would have to agree.
    """

    args: Any
    current_gradient_accumulation_steps: Any

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        self.parts, self._micro_batches = 1, list[tuple[Any, Any]]()
        self._logged_before = dict[str, Tensor]()
        self.say: Callable[[str], object] = logger.warning
        super().__init__(*arguments, **keywords)

    def train(self, *arguments: Any, **keywords: Any) -> Any:
        """Train as `Trainer` does, at first with whole micro-batches."""
        self.parts, self._micro_batches = 1, []
        return super().train(*arguments, **keywords)

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Make the forward and backward pass of a micro-batch, in parts if memory asks for it."""
        if not self._micro_batches:
            self._logged_before = self.components_so_far()
        self._micro_batches.append((inputs, num_items_in_batch))
        loss = self._fitting(model, inputs, num_items_in_batch)
        while loss is None:
            self._split_more(inputs)
            model.zero_grad()  # a backward pass may have ended half-way
            self.restore_components(self._logged_before)
            for one in self._micro_batches:  # those of this step, of which the last one is the current one
                loss = self._fitting(model, *one)
                if loss is None:
                    break
        if self.accelerator.sync_gradients:
            self._micro_batches = []
        return loss

    def _fitting(self, model: nn.Module, inputs: Any, num_items_in_batch: Any) -> Tensor | None:
        """The loss of a micro-batch, or None if memory ran out. The error, which holds on to tensors, is gone by then."""
        try:
            if self.parts == 1:
                return super().training_step(model, inputs, num_items_in_batch)
            return self._in_parts(model, inputs, num_items_in_batch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return None

    def _in_parts(self, model: nn.Module, inputs: Any, num_items_in_batch: Any) -> Tensor:
        steps = self.current_gradient_accumulation_steps
        rows, losses = _rows(inputs), list[Tensor]()
        number = min(self.parts, *rows)
        try:
            for part in range(number):
                some = split(inputs, part, number)
                self.current_gradient_accumulation_steps = steps * rows[0] / _rows(some)[0]  # the loss is divided by it
                losses.append(super().training_step(model, some, num_items_in_batch))
        finally:
            self.current_gradient_accumulation_steps = steps
        return sum(losses[1:], losses[0])

    def _split_more(self, inputs: Any) -> None:
        clear_device_cache(garbage_collection=True)
        rows, before = _rows(inputs), self.parts
        remedy = f"give a smaller {spelled('batch_size')} or {spelled('max_length')}, or a smaller encoder"
        if self.accelerator.num_processes > 1:
            raise MachineError(
                f"memory ran out in a training with several processes; {remedy}, or gradient_accumulation_steps="
                f"{2 * self.args.gradient_accumulation_steps}"
            )
        if before >= min(rows):
            raise MachineError(f"memory ran out for the smallest possible batch; {remedy}")
        self.parts = parts_of(rows, 2 * before)
        self.say(
            f"memory ran out for a batch of {rows[0]} labeled rows, so that each batch is now computed in {self.parts} parts; "
            "a step has the same rows as before"
        )


def parts_of(rows: tuple[int, ...], at_least: int) -> int:
    """The number of parts, so that every part has the same share of the labeled and of the unlabeled rows, if that is possible.

    Args:
        rows: number of labeled rows, and of unlabeled rows if there are any.
        at_least: least number of parts.

    >>> parts_of((16, 32), 2), parts_of((5, 10), 2), parts_of((7, 10), 2), parts_of((3,), 2)
    (2, 5, 2, 2)
    """
    common = math.gcd(*rows) if len(rows) > 1 else 0  # one kind of rows counts by its share in any case
    equal = (number for number in range(at_least, common + 1) if common % number == 0)
    return next(equal, min(at_least, *rows))


def split(inputs: Mapping[str, Any], part: int, parts: int) -> dict[str, Any]:
    """A part of a batch, from 0. Labeled and unlabeled rows are split each for themselves.

    >>> import torch
    >>> split({"labels": torch.arange(3), "unlabeled": {"ids": torch.arange(6)}}, part=0, parts=2)
    {'labels': tensor([0]), 'unlabeled': {'ids': tensor([0, 1, 2])}}
    """

    def of(value: Any) -> Any:
        if isinstance(value, Mapping):
            return split(value, part, parts)
        if isinstance(value, Tensor) and value.dim():
            return value[len(value) * part // parts : len(value) * (part + 1) // parts]
        return value

    return {name: of(value) for name, value in inputs.items()}


def _rows(inputs: Mapping[str, Any]) -> tuple[int, ...]:
    """Number of labeled rows of a batch, and of unlabeled rows if there are any."""
    labeled = next(len(value) for value in inputs.values() if isinstance(value, Tensor) and value.dim())
    unlabeled = inputs.get("unlabeled")
    return (labeled,) if unlabeled is None else (labeled, len(unlabeled["ids"]))
