"""Base class of the parts of an objective. A part observes each step once, and its `forward` has no side effects."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sstext.errors import UserError


@dataclass(frozen=True)
class Signals:
    """The tensors of one training step, detached. Parts read them and never change them.

    N unlabeled rows, B labeled rows, C classes. Between rounds the whole corpus is one step. Then only `probs` is set,
    and `variance` if the scoring has computed it.

    Attributes:
        probs: (N, C) the teacher's probabilities, float32.
        student_logits: (N, C) the student's logits on its own view.
        ids: (N,) rows of the corpus.
        labeled_logits: (B, C) the student's logits on the labeled rows.
        labels: (B,) classes of the labeled rows.
        progress: share of the training that is done, t/T in [0, 1].
        variance: (N,) variance of the predicted class's probability over dropout passes (between rounds only).
    """

    probs: Tensor
    student_logits: Tensor | None = None
    ids: Tensor | None = None
    labeled_logits: Tensor | None = None
    labels: Tensor | None = None
    progress: float = 0.0
    variance: Tensor | None = None

    def map(self, function: Any) -> "Signals":
        """Apply `function` to every tensor (for example, gather it over processes)."""
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **{name: function(value) for name, value in tensors.items()})


def known(signals: Signals) -> Signals:
    """The signals without numbers that are not finite, on the device. What is finite keeps its bits.

    A row of probabilities with such a number becomes uniform, and a logit 0. The state of a part outlives the step, which is
    skipped in the end (`sstext.training.finite`).

    >>> known(Signals(torch.tensor([[0.75, 0.25], [float("nan"), 1.0]]))).probs
    tensor([[0.7500, 0.2500],
            [0.5000, 0.5000]])
    """
    sound = signals.probs.isfinite().all(-1, keepdim=True)
    cleaned = signals.map(
        lambda values: torch.nan_to_num(values, 0.0, 0.0, 0.0) if values.is_floating_point() else values
    )
    return replace(cleaned, probs=torch.where(sound, signals.probs, 1 / signals.probs.shape[-1]))


@contextmanager
def dropout_off(student: nn.Module, off: bool = True) -> Iterator[None]:
    """Set evaluation mode (training mode if `off=False`) inside the block, and restore the mode afterwards."""
    training = student.training
    student.train(not off)
    try:
        yield
    finally:
        student.train(training)


def last_of_each(ids: Tensor) -> Tensor:
    """Positions of the last occurrence of every distinct id, in ascending order.

    If a step visits a row twice, its last visit counts, on every device.

    >>> last_of_each(torch.tensor([7, 5, 7, 9]))
    tensor([1, 2, 3])
    """
    _, distinct = ids.unique(return_inverse=True)
    positions = torch.arange(len(ids), device=ids.device)
    last = torch.zeros(int(distinct.max()) + 1 if len(ids) else 0, dtype=torch.long, device=ids.device)
    return last.scatter_reduce(0, distinct, positions, "amax").sort().values


def in_range(name: str, value: Any, low: float, high: float = math.inf) -> float:
    """Return the number given for a method's argument, or raise an error that names the argument.

    >>> in_range("threshold", .95, 0)
    0.95
    """
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not low <= value <= high:
        bounds = f"at least {low}" if high == math.inf else f"between {low} and {high}"
        raise UserError(f"{name}: expected a number {bounds}, found {value!r}")
    return value


def yes_or_no(name: str, value: Any) -> bool:
    """Return the truth value given for a method's argument, or raise an error that names the argument.

    >>> yes_or_no("warmup", False)
    False
    """
    if not isinstance(value, bool):
        raise UserError(f"{name}: expected true or false, found {value!r}")
    return value


def class_shares(name: str, value: Any) -> list[float]:
    """Return the class shares given for a method's argument, each above 0, or raise an error that names the argument.

    >>> class_shares("prior", [3, 1])
    [3, 1]
    """
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise UserError(f"{name}: expected a share for every class, such as [.7, .3], found {value!r}")
    return [in_range(name, share, 1e-12) for share in value]


class Part(nn.Module):
    """One axis of an objective. It is a module, so its state is moved and saved together with the rest.

    `bind` allocates state once the sizes are known. `observe` updates it exactly once per micro-batch, with the signals
    of all processes. `after_step` updates it once per optimizer step. `forward` is pure. State consists of float32
    buffers, because 1 − .999 underflows in bfloat16.

    Attributes:
        early: whether `observe` and `forward` read only `probs`, `ids` and `progress`, so that they can be called before the
            student has read its rows. A subclass says it anew, because it may read more.
    """

    early = False

    def bind(self, num_classes: int, num_rows: int) -> None:
        """Allocate state for C classes and N corpus rows. Default: no state."""

    def bind_student(self, student: nn.Module) -> None:
        """Allocate state that has the shape of the student's weights. Default: no state."""

    def after_step(self, student: nn.Module, progress: float) -> None:
        """Update state with the student's new weights. Default: no state."""

    def observe(self, signals: Signals) -> None:
        """Update state with one step. Default: no state."""

    def extra_repr(self) -> str:
        """The part's numbers, strings and flags, as `print` shows them."""
        own = {name: value for name, value in vars(self).items() if not name.startswith("_") and name != "training"}
        return ", ".join(
            f"{name}={value!r}" for name, value in own.items() if isinstance(value, bool | int | float | str)
        )

    def need(self, signals: Signals, name: str) -> Tensor:
        """Return a field of `signals`, or raise an error that names this part."""
        value = getattr(signals, name)
        if value is None:
            raise UserError(f"{type(self).__name__} needs {name!r}, which this step does not have")
        return value

    def add_state(self, name: str, value: Tensor) -> None:
        """Register a float32 buffer."""
        self.register_buffer(name, value.to(torch.float32))
