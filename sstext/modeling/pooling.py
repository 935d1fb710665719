"""One vector per text from the hidden states of its tokens."""

from typing import Any

from torch import Tensor, nn

from sstext.errors import UserError
from sstext.modeling.reading import FIRST, has_reading_layer, reading_of


def last_hidden_states(outputs: Any, student: nn.Module) -> Tensor:
    """The encoder's last hidden states (N, T, D) from the outputs of a student.

    A last layer that was appended for the head to read (`sstext.modeling.reading`) is not the encoder's.

    Args:
        outputs: outputs of the student.
        student: the model, without a wrapper for several devices.

    Raises:
        UserError: if the student returns no hidden states, as its architecture decides.
    """
    # An encoder-decoder has no `hidden_states`. Its encoder's states belong to the tokens of the text.
    states = getattr(outputs, "hidden_states", None) or getattr(outputs, "encoder_hidden_states", None)
    if not states:
        raise UserError(
            f"{type(student).__name__} returns no hidden states, but embeddings, reconstruction and supervised contrast "
            "need them; choose another encoder, or leave these losses out"
        )
    return states[-2] if has_reading_layer(student) else states[-1]


def embeddings_of(outputs: Any, student: nn.Module, mask: Tensor, reading: str | None = None) -> Tensor:
    """The embeddings (N, D) of texts: the mean of the last hidden states, or the state of the first token.

    Args:
        outputs, student: see `last_hidden_states`.
        mask: (N, T), 1 for tokens and 0 for padding.
        reading: which of the two. Default: what belongs to the student (`sstext.modeling.reading.reading_of`).

    Raises:
        UserError: see `last_hidden_states` and `mean_pooled`.
    """
    states = last_hidden_states(outputs, student)
    return states[:, 0] if (reading or reading_of(student)) == FIRST else mean_pooled(states, mask)


def mean_pooled(hidden: Tensor, mask: Tensor) -> Tensor:
    """Mean (N, D) of the hidden states (N, T, D) over the tokens in `mask` (N, T), without padding.

    Raises:
        UserError: there is not one state for every token, because the encoder shortens the sequence.
    """
    if hidden.shape[:2] != mask.shape:
        raise UserError(
            f"encoder: returns {hidden.shape[1]} states for {mask.shape[1]} tokens, but embeddings need one state for every "
            "token; choose another encoder, for example one of the kinds bert, roberta or deberta-v2"
        )
    kept = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * kept).sum(1) / kept.sum(1).clamp_min(1)
