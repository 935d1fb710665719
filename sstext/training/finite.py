"""FiniteTrainer: steps whose loss or gradients are not finite are skipped and counted, and no such number is kept."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import ExportableState

from sstext.config.spelling import spelled
from sstext.errors import UserError
from sstext.modeling.finite import refuse_bad_outputs, refuse_bad_weights

#: A training stops after this number of skipped steps in a row …
IN_A_ROW = 10
#: … or if more than this share of all its steps, and more than a few, are skipped. The first steps in fp16 often are, until its
#: loss scale fits.
SHARE, FEW = 0.1, 3
#: Steps after which the host reads which of them were skipped, by the type of the device. Each read waits for a GPU.
READ_AFTER = {"cpu": 1, "cuda": 16}


class SkippedSteps(TrainerCallback, ExportableState):
    """Counts the skipped steps of a training. Checkpoints keep the counts.

    A step may be counted by a number on the device, which is read only when somebody asks for the counts.

    >>> steps = SkippedSteps()
    >>> steps.count(True), steps.count(torch.tensor(True)), steps.waiting
    (None, None, 1)
    >>> steps.total, steps.in_a_row, steps.last, steps.waiting
    (2, 2, True, 0)
    """

    def __init__(self) -> None:
        self._total = self._in_a_row = 0
        #: The largest number of steps in a row that were skipped.
        self.longest = 0
        self._waiting: list[Tensor] = []

    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": {"total": self.total, "in_a_row": self.in_a_row}}

    def count(self, skipped: bool | Tensor) -> None:
        """Count a step."""
        if isinstance(skipped, Tensor):
            self._waiting.append(skipped)
        else:
            self._read()
            self._add(skipped)

    @property
    def waiting(self) -> int:
        """Number of counted steps that were not read yet."""
        return len(self._waiting)

    @property
    def total(self) -> int:
        """Number of skipped steps."""
        self._read()
        return self._total

    @total.setter
    def total(self, number: int) -> None:
        self._total = number

    @property
    def in_a_row(self) -> int:
        """Number of the last steps that were all skipped."""
        self._read()
        return self._in_a_row

    @in_a_row.setter
    def in_a_row(self, number: int) -> None:
        self._in_a_row = number

    @property
    def last(self) -> bool:
        """Whether the last step was skipped."""
        return self.in_a_row > 0

    def _read(self) -> None:
        waiting, self._waiting = self._waiting, []
        for skipped in torch.stack(waiting).tolist() if waiting else ():
            self._add(skipped)

    def _add(self, skipped: bool) -> None:
        self._in_a_row = (self._in_a_row + 1) * skipped
        self.longest = max(self.longest, self._in_a_row)
        self._total += skipped


class FiniteTrainer(Trainer):
    """A `Trainer` that skips and counts steps whose loss or gradients are not finite (NaN or infinite).

    A skipped step changes no weight and no state of the optimizer. It is found by the norm of the gradients, which `Trainer`
    computes anyway, and which is the same in all processes. A loss that is not finite makes the gradients NaN. A fused
    optimizer (the default of `Trainer`) is told on the device, so that no step waits for a GPU; with another one, each step
    waits once. With `logging_nan_inf_filter=False`, the two reads of `Trainer` per micro-batch, which are not needed, are left
    out, too. If all is finite, the training has the same bits as with `Trainer`.

    Raises:
        UserError: too many steps were skipped, or outputs of an evaluation, weights to be saved or those of a checkpoint are
            not finite.
    """

    args: Any
    model: Any
    _norm: Tensor | float | None = None

    def train(self, *arguments: Any, **keywords: Any) -> Any:
        """Train as `Trainer` does.

        Raises:
            UserError: too many steps were skipped, see `FiniteTrainer`.
        """
        for kind in (SkippedSteps, _SkipBadSteps):
            self.remove_callback(kind)
        self.add_callback(SkippedSteps())
        self.add_callback(_SkipBadSteps(self))
        result = super().train(*arguments, **keywords)
        self.refuse_if_nothing_was_learned()
        return result

    def refuse_if_nothing_was_learned(self) -> None:
        """Refuse the model of a training that has ended, if all its steps were skipped.

        Raises:
            UserError: they were. Only a short training ends with that, others are stopped before.
        """
        if self.state.global_step and self.skipped_steps.total >= self.state.global_step:
            self._stop()

    @property
    def skipped_steps(self) -> SkippedSteps:
        """The counts of the current training."""
        found = (each for each in self.callback_handler.callbacks if isinstance(each, SkippedSteps))
        return next(found, SkippedSteps())

    def compute_loss(
        self, model: nn.Module, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Compute the loss as `Trainer` does."""
        found = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if not model.training:
            return found
        return (seen_in_gradients(found[0]), *found[1:]) if isinstance(found, tuple) else seen_in_gradients(found)

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Make a forward and a backward pass. A loss that is not finite is not part of the mean that is logged."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        return loss if self.args.logging_nan_inf_filter else torch.where(loss.isfinite(), loss, 0.0)

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        self._norm = super()._clip_grad_norm(model)
        return self._norm

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        self._norm = super()._get_grad_norm(model, grad_norm)
        return self._norm

    def skip_if_not_finite(self) -> None:
        """Skip the step of the optimizer that follows if its gradients are not finite."""
        norm, self._norm = self._norm, None
        counts, optimizer = self.skipped_steps, _told_on_device(self.optimizer)
        if optimizer is not None and type(norm) is Tensor:  # that of sharded weights is a DTensor
            skipped = norm.isfinite().logical_not()
            if self.accelerator.scaler is None:  # that of fp16 tells it the same
                optimizer.found_inf = skipped.float()
            counts.count(skipped)
            if counts.waiting < READ_AFTER.get(norm.device.type, 1):
                return
        else:
            if norm is None:  # older versions of transformers have no such methods
                norm = nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
            counts.count(not math.isfinite(float(norm)))
            if (
                counts.last and self.accelerator.scaler is None
            ):  # that of fp16 skips the step itself, and wants to see why
                self.model.zero_grad()  # without gradients, the optimizer does nothing
        if counts.total > max(FEW, SHARE * self.state.max_steps) or counts.longest >= IN_A_ROW:
            self._stop()

    def _stop(self) -> None:
        done = min(self.state.global_step + 1, self.state.max_steps)
        computed = "fp16" if self.args.fp16 else "bf16" if self.args.bf16 else "fp32"
        precision = "" if computed == "fp32" else f", or in fp32 instead of {computed}"
        raise UserError(
            "the training was stopped, because the loss or its gradients were not finite (NaN or infinite) in "
            f"{self.skipped_steps.total:,} of {done:,} steps, which were skipped; train again with a lower "
            f"{self._rate_option} (it was {self.args.learning_rate:g}){precision}"
        )

    @property
    def _rate_option(self) -> str:
        """What sets the learning rate, in the words of the interface in use."""
        return getattr(self.args, "rate_option", "") or spelled("learning_rate")

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the finite numbers, and the number of skipped steps if there are any."""
        kept = {name: value for name, value in logs.items() if not isinstance(value, float) or math.isfinite(value)}
        if "loss" in kept and self.skipped_steps.total:
            kept["skipped_steps"] = self.skipped_steps.total
        super().log(kept, start_time)

    def evaluation_loop(self, *arguments: Any, **keywords: Any) -> Any:
        """Evaluate or predict as `Trainer` does.

        Raises:
            UserError: an output or the loss is not finite.
        """
        output = super().evaluation_loop(*arguments, **keywords)
        logits = output.predictions[0] if isinstance(output.predictions, tuple) else output.predictions
        if isinstance(logits, np.ndarray) and logits.dtype.kind == "f":
            refuse_bad_outputs(logits, remedy=f"train with a lower {self._rate_option}")
        for name, value in (output.metrics or {}).items():  # without metrics of the caller, there are no logits
            if name.endswith("_loss") and not math.isfinite(value):
                raise UserError(f"expected a finite {name}, found {value}; train with a lower {self._rate_option}")
        return output

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        refuse_bad_weights(self.model, str(output_dir or self.args.output_dir))
        super()._save(output_dir, state_dict)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        refuse_bad_weights(self.model, f"resume_from_checkpoint: {resume_from_checkpoint}")


class _SkipBadSteps(TrainerCallback):
    """Looks at the gradients before every step of the optimizer."""

    def __init__(self, trainer: FiniteTrainer) -> None:
        self.trainer = trainer

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.skip_if_not_finite()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        optimizer = _told_on_device(self.trainer.optimizer)
        if hasattr(optimizer, "found_inf"):
            del optimizer.found_inf  # whoever uses the optimizer next must not find its steps skipped


def _told_on_device(optimizer: Any) -> Any:
    """The optimizer, if it skips a step when the number `found_inf` on the device is 1, as fused ones do; otherwise None."""
    inner = getattr(optimizer, "optimizer", optimizer)  # accelerate wraps it
    return inner if getattr(inner, "_step_supports_amp_scaling", False) else None


def seen_in_gradients(loss: Tensor) -> Tensor:
    """The same loss, bit for bit. If it is not finite, all its gradients are NaN, in all processes after their exchange.

    A loss can be infinite or NaN without any gradient that is, for example in rows that a mask leaves out.

    >>> weight = torch.ones(1, requires_grad=True)
    >>> seen_in_gradients(weight.sum() + float("inf")).backward()
    >>> weight.grad
    tensor([nan])
    """
    return loss * torch.where(loss.detach().isfinite(), torch.ones_like(loss), torch.full_like(loss, math.nan))
