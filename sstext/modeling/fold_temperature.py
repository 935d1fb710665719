"""Fold a temperature, and a shift of the logits, into the last linear layer of a classifier."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sstext.errors import UserError


def fold_temperature(
    model: nn.Module, temperature: float, probe: Mapping[str, Any], shift: Tensor | None = None
) -> None:
    """Divide the model's logits by a temperature and add a shift, in place, in weight and bias of its last linear layer.

    (W/T) h + (b/T + s) = (W h + b) / T + s, so the saved model predicts calibrated probabilities, and T need not be known. The
    layer is the last `nn.Linear` with `model.config.num_labels` outputs. A test batch checks that this layer makes the
    logits.

    Args:
        model: a sequence classifier in float32. Its mode, training or evaluation, does not change.
        temperature: T, above 0.
        probe: a batch of model inputs for the check.
        shift: (C,) s. Default: 0.

    Raises:
        UserError: if T is not above 0 and finite, there is no such layer, or the logits of the test batch are not
            divided by T (relative tolerance 1e-4). The model is then unchanged.
    """
    if not 0 < temperature < float("inf"):
        raise UserError(f"temperature: expected a finite number above 0, found {temperature}")
    name, head = _last_linear(model)
    if shift is not None and head.bias is None:
        raise UserError(f"{type(model).__name__}: layer {name!r} has no bias, which a shift of the logits needs")
    original = [parameter.detach().clone() for parameter in head.parameters()]
    folded = False
    with _evaluation_mode(model), torch.no_grad():
        try:
            expected = model(**probe).logits.double() / temperature
            for parameter in head.parameters():
                parameter.div_(temperature)
            if shift is not None:
                expected += shift.to(expected)
                head.bias.add_(shift.to(head.bias))
            deviation = float((model(**probe).logits.double() - expected).abs().max())
            folded = deviation <= 1e-4 * float(expected.abs().max())  # False for NaN too
        finally:
            if not folded:
                for parameter, value in zip(head.parameters(), original, strict=True):
                    parameter.copy_(value)
    if not folded:
        raise UserError(
            f"{type(model).__name__}: layer {name!r} is not the float32 output layer: scaling it by 1/{temperature:g} does "
            "not scale the logits; use a model whose last linear layer makes the logits, or leave the temperature at 1 "
            "(the model is unchanged)"
        )


def _last_linear(model: Any) -> tuple[str, nn.Linear]:
    """Name and module of the last `nn.Linear` with one output per label."""
    num_labels = model.config.num_labels
    heads = [
        (name, layer)
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and layer.out_features == num_labels
    ]
    if not heads:
        raise UserError(
            f"{type(model).__name__}: expected an nn.Linear layer with {num_labels} outputs, one per label, "
            "to fold the temperature into; found none"
        )
    return heads[-1]


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Turn dropout off inside the block. Afterwards, every module is in its previous mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
