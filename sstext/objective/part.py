"""What every part of an objective is: it observes a step once, then answers without side effects."""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sstext.errors import UserError


@dataclass(frozen=True)
class Signals:
    """What one training step knows, detached; parts read it and never write it.

    N unlabeled rows, B labeled rows, C classes. Between rounds the whole corpus is one step: only `probs` is set.

    Attributes:
        probs: (N, C) the teacher's probabilities, float32.
        student_logits: (N, C) the student's logits on its own view.
        ids: (N,) rows of the corpus.
        labeled_logits: (B, C) the student's logits on the labeled rows.
        labels: (B,) their classes.
        progress: share of the training that is done, t/T in [0, 1].
    """

    probs: Tensor
    student_logits: Tensor | None = None
    ids: Tensor | None = None
    labeled_logits: Tensor | None = None
    labels: Tensor | None = None
    progress: float = 0.0

    def map(self, function: Any) -> "Signals":
        """The same signals with `function` applied to every tensor (for example a gather over processes)."""
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **{name: function(value) for name, value in tensors.items()})


def in_range(name: str, value: Any, low: float, high: float = math.inf) -> float:
    """A number of a method's argument, or an error that names it.

    >>> in_range("threshold", .95, 0)
    0.95
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        bounds = f"at least {low}" if high == math.inf else f"between {low} and {high}"
        raise UserError(f"{name}: expected a number {bounds}, found {value!r}")
    return value


class Part(nn.Module):
    """One axis of an objective: a module, so that its state moves and is saved with everything else.

    `bind` allocates state once sizes are known, `observe` updates it exactly once per micro-batch with the signals of all
    processes, and `forward` is pure. State is buffers in float32: 1 − .999 underflows in bfloat16.
    """

    def bind(self, num_classes: int, num_rows: int) -> None:
        """Allocate state for C classes and N corpus rows (default: there is none)."""

    def observe(self, signals: Signals) -> None:
        """Update state with one step (default: nothing to keep)."""

    def need(self, signals: Signals, name: str) -> Tensor:
        """A field of `signals`, or an error with the part's own name."""
        value = getattr(signals, name)
        if value is None:
            raise UserError(f"{type(self).__name__} needs {name!r}, which this step does not have")
        return value

    def add_state(self, name: str, value: Tensor) -> None:
        """Register a float32 buffer."""
        self.register_buffer(name, value.to(torch.float32))
