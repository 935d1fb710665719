"""One vector per text from the hidden states of its tokens."""

from typing import Any

from torch import Tensor, nn

from sstext.errors import UserError


def last_hidden_states(said: Any, student: nn.Module) -> Tensor:
    """The encoder's last hidden states (N, T, D) in what a student said.

    Raises:
        UserError: a student that has none (an encoder with a decoder).
    """
    states = getattr(said, "hidden_states", None)
    if not states:
        raise UserError(
            f"{type(student).__name__} gives no hidden states, which reconstruction and supervised contrast read; choose "
            "another encoder, or leave them out"
        )
    return states[-1]


def mean_pooled(hidden: Tensor, mask: Tensor) -> Tensor:
    """Mean of the hidden states (N, T, D) over the tokens that `mask` (N, T) marks: padding plays no part, (N, D)."""
    kept = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * kept).sum(1) / kept.sum(1).clamp_min(1)
