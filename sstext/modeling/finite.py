"""Numbers that are not finite (NaN or infinite) are refused: in the weights of a model, and in what a model computes."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from sstext.errors import UserError


def refuse_bad_weights(model: nn.Module, name: str, weights: Mapping[str, Tensor] | None = None) -> None:
    """Refuse a model with weights that are not finite. Each weight is read once, and nothing is copied.

    A buffer may be infinite, because some are masks, but not NaN.

    Args:
        model: any model. Weights that are not in memory are not read.
        name: what the model is called in the message.
        weights: all of its weights, if the model itself has only a part of them.

    Raises:
        UserError: names the first tensor with such a number, and says how many it has.
    """
    for key, tensor, may_be_infinite in _tensors(model, weights):
        ends = torch.stack(tensor.aminmax())  # both are NaN if any number is
        if bool((ends.isnan() if may_be_infinite else ~ends.isfinite()).any()):
            count = int((~torch.isfinite(tensor)).sum())
            half = tensor.dtype == torch.float16
            remedy = "load it with dtype float32, or " if half else ""
            raise UserError(
                f"{name}: expected finite weights, found {count:,} of {tensor.numel():,} numbers in {key!r} that are NaN or "
                f"infinite; {remedy}fetch or train the model again"
            )


def _tensors(model: nn.Module, weights: Mapping[str, Tensor] | None = None) -> Iterator[tuple[str, Tensor, bool]]:
    """Floating-point weights that are in memory: name, numbers, and whether these may be infinite."""
    parameters = model.named_parameters() if weights is None else weights.items()
    for named, may_be_infinite in ((parameters, False), (model.named_buffers(), True)):
        for key, tensor in named:
            own = tensor.to_local() if hasattr(tensor, "to_local") else tensor  # of those that are sharded over devices
            if own.is_floating_point() and own.numel() and not own.is_meta and own.element_size() > 1:
                yield key, own.detach(), may_be_infinite


def refuse_bad_outputs(outputs: np.ndarray, precision: str = "fp32", remedy: str = "") -> None:
    """Refuse outputs of a model, (N, …), that are not finite.

    Args:
        outputs: logits or embeddings.
        precision: in which they were computed.
        remedy: what to do about it. Default: what helps with a model that was loaded.

    Raises:
        UserError: names the first row with such a number.
    """
    finite = np.isfinite(outputs)
    if finite.all():
        return
    rows = ~finite.reshape(len(outputs), -1).all(-1)
    if not remedy:
        other = "" if precision == "fp32" else f"compute in precision fp32 instead of {precision}, or "
        remedy = f"{other}take a model that was trained with a lower learning rate"
    raise UserError(
        f"expected finite outputs of the model, found NaN or infinite ones for {int(rows.sum()):,} of {len(rows):,} rows, the "
        f"first of which is row {int(rows.argmax())}; {remedy}"
    )
