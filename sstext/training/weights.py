"""The type of the weights that are trained: 32 bits, because most steps of a training are lost in 16."""

from typing import Any

import torch
from torch import nn
from transformers.utils import logging

from sstext.errors import UserError

logger = logging.get_logger(__name__)


def check_weights(model: nn.Module, arguments: Any) -> None:
    """Refuse to train float16 weights, and warn about bfloat16 weights.

    A step of AdamW changes a weight by about the learning rate. bfloat16 has 8 significant bits, so a step below 1/512 of the
    weight rounds to no step at all: at a weight of 0.05, that is every rate below 1e-4. In float16, the ε of AdamW (1e-8) is 0,
    and a gradient of 0 becomes NaN.

    Args:
        model: the model to be trained. Frozen weights may have any type.
        arguments: its `TrainingArguments`.

    Raises:
        UserError: a trained weight is float16.
    """
    types = {part.dtype for part in model.parameters() if part.requires_grad}
    remedy = "load it with from_pretrained(…, dtype=torch.float32)"
    mixed = f"give {'fp16' if arguments.fp16 else 'bf16'}=True to compute in 16 bits"
    if torch.float16 in types:
        raise UserError(f"model: float16 weights become NaN in training; {remedy}, and {mixed}")
    if torch.bfloat16 in types:
        logger.warning(
            "The weights of the model are bfloat16: steps below about 0.2 % of a weight are lost, so it learns little; "
            f"{remedy}, and {mixed}"
        )
