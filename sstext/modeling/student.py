"""A student before its training: a pretrained encoder with a new classification head, or an earlier student."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, set_seed

from sstext.errors import UserError
from sstext.hub.access import ask_once
from sstext.modeling.pretrained import encoder_path, explained


def new_student(
    encoder: str,
    classes: Sequence[str],
    *,
    seed: int,
    revision: str | None = None,
    dropout: float | None = None,
    freeze_embeddings: bool = False,
    freeze_layers: int = 0,
    keep_head: bool = False,
) -> Any:
    """A sequence classifier whose head is new (drawn from `seed`) and whose everything else is the encoder's.

    Its weights are float32, whatever the encoder was stored in: AdamW's small steps are lost in 16 bits.

    An encoder that has no safetensors (many older ones) is read from its pickle with `torch.load(weights_only=True)`, which
    takes tensors alone and runs no code. Classifiers (`sstext.inference.classifier.Classifier`) are read as safetensors only.

    Args:
        encoder: directory or Hub name.
        classes: names of the C classes, in the order of the outputs.
        dropout: replaces every dropout probability of the encoder's configuration.
        freeze_embeddings, freeze_layers: what stays as it was pretrained: the embeddings, the first K layers.
        keep_head: `encoder` is an earlier student, whose head goes on.

    Raises:
        UserError: the encoder cannot be loaded, has fewer layers, or no dropout to set.
    """
    path = encoder_path(encoder)
    set_seed(seed)
    with explained(path):
        ask_once(path, revision)
        config = AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=False)
        if hasattr(config, "sstext"):
            del config.sstext  # what an earlier training found out of its own model
        config.num_labels = len(classes)
        config.id2label = dict(enumerate(classes))
        config.label2id = {name: number for number, name in enumerate(classes)}
        config.problem_type = "single_label_classification"
        if dropout is not None:
            _set_dropout(config, dropout)
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            path,
            revision=revision,
            trust_remote_code=False,
            config=config,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # the head of a classifier with other classes
            output_loading_info=True,
        )
    if not keep_head:
        _renew_head(model, new={*loading["missing_keys"], *(key for key, *_ in loading["mismatched_keys"])})
    if model.config.pad_token_id is None:
        model.config.pad_token_id = getattr(model.config, "eos_token_id", None)
    freeze(model, embeddings=freeze_embeddings, layers=freeze_layers)
    return model


def _set_dropout(config: Any, dropout: float) -> None:
    """Set every dropout probability of a configuration, whatever the architecture calls it."""
    names = [
        name
        for name, value in config.to_dict().items()
        if ("dropout" in name or "pdrop" in name) and (value is None or type(value) in (int, float))
    ]
    if not names:
        raise UserError(f"dropout: {config.model_type} has no dropout probability in its configuration; leave it out")
    for name in names:
        setattr(config, name, dropout)


def _renew_head(model: Any, new: set[str]) -> None:
    """Draw the head anew where the encoder came with one of its own: what it was trained for is not what is wanted."""
    prefix = f"{model.base_model_prefix}."
    head = {name for name in model.state_dict() if not name.startswith(prefix)}
    if head <= new:
        return  # as for every plain encoder: from_pretrained has just drawn it
    fresh = type(model)._from_config(model.config)
    model.load_state_dict({name: fresh.state_dict()[name] for name in head}, strict=False)


def has_dropout(model: nn.Module) -> bool:
    """Whether anything in a model is dropped in training, whatever the architecture calls its dropout."""
    layers = [part for part in model.modules() if "dropout" in type(part).__name__.lower()]
    return any(getattr(layer, "p", getattr(layer, "drop_prob", 0.0)) for layer in layers)


def freeze(model: Any, *, embeddings: bool = False, layers: int = 0) -> None:
    """Keep the embeddings and the first K transformer layers of a classifier as they are.

    Raises:
        UserError: there are fewer layers than K.
    """
    if embeddings:
        block = getattr(model.base_model, "embeddings", None) or model.get_input_embeddings()
        block.requires_grad_(False)
    if layers:
        stacks = [part for part in model.base_model.modules() if isinstance(part, nn.ModuleList)]
        stack = max(stacks, key=len, default=nn.ModuleList())
        if layers > len(stack):
            raise UserError(f"freeze: expected at most {len(stack)}, the encoder's layers, found {layers}")
        for layer in list(stack)[:layers]:
            layer.requires_grad_(False)
