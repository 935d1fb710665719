"""Fold a temperature into the last linear layer of a classifier."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from sstext.errors import UserError


def fold_temperature(model: nn.Module, temperature: float, probe: Mapping[str, Any]) -> None:
    """Divide the model's logits by a temperature, in place, by dividing weight and bias of its last linear layer.

    (W/T) h + b/T = (W h + b) / T: whoever loads the model then gets calibrated probabilities without knowing of T. The
    layer is the last `nn.Linear` with `model.config.num_labels` outputs; the probe shows whether it makes the logits.

    Args:
        model: a sequence classifier in float32; its mode, training or evaluation, is left as it was.
        temperature: T, above 0.
        probe: a batch of model inputs.

    Raises:
        UserError: T is not above 0 and finite, there is no such layer, or the probe's logits are not divided by T (to a
            relative 1e-4); the model is then left as it was.
    """
    if not 0 < temperature < float("inf"):
        raise UserError(f"temperature: expected a finite number above 0, found {temperature}")
    name, head = _last_linear(model)
    original = [parameter.detach().clone() for parameter in head.parameters()]
    folded = False
    with _evaluation_mode(model), torch.no_grad():
        try:
            expected = model(**probe).logits.double() / temperature
            for parameter in head.parameters():
                parameter.div_(temperature)
            deviation = float((model(**probe).logits.double() - expected).abs().max())
            folded = deviation <= 1e-4 * float(expected.abs().max())  # False for NaN too
        finally:
            if not folded:
                for parameter, value in zip(head.parameters(), original, strict=True):
                    parameter.copy_(value)
    if not folded:
        raise UserError(
            f"{type(model).__name__}: expected layer {name!r} to make the logits, in float32; found that dividing its "
            f"weight and bias by {temperature:g} does not divide them. The model is unchanged: use one whose last "
            "linear layer makes the logits, or leave the temperature at 1"
        )


def _last_linear(model: Any) -> tuple[str, nn.Linear]:
    """Name and layer of the last `nn.Linear` with as many outputs as the model has labels."""
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
    """Dropout off inside the block; afterwards every module is in the mode that it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
