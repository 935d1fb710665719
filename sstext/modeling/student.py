"""A student before its training: a pretrained encoder with a new classification head, or an earlier student."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, set_seed

from sstext.errors import UserError, listed, nearest
from sstext.hub.access import ask_once
from sstext.hub.foreign import check_shards
from sstext.modeling.finite import refuse_bad_weights
from sstext.modeling.pretrained import encoder_path, explained
from sstext.modeling.reading import has_reading_layer, hold_reading, make_read, reading_of

#: How the attention is computed, in `model_args`. The others are values of a configuration.
ATTENTION = "attn_implementation"


#: Values of a configuration that belong to the run.
_OURS = ("architectures", "id2label", "label2id", "model_type", "num_labels", "problem_type", "sstext")


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
    reading: str | None = None,
    prefix: str = "",
    model_args: Mapping[str, Any] | None = None,
) -> Any:
    """Make a sequence classifier with a new head (drawn from `seed`) on a pretrained encoder.

    The weights are float32 for every encoder, because the small steps of AdamW are lost in 16 bits.

    Many older encoders have no safetensors. They are read from their pickle with `torch.load(weights_only=True)`, which
    loads only tensors and runs no code. Classifiers (`sstext.inference.classifier.Classifier`) are only read as
    safetensors.

    Args:
        encoder: directory or Hub name.
        classes: names of the C classes, in the order of the outputs.
        dropout: replaces every dropout probability of the encoder's configuration. Default: no change.
        freeze_embeddings, freeze_layers: whether the embeddings stay pretrained, and how many of the first layers do.
        keep_head: whether to keep the head of `encoder`, which is then an earlier student.
        reading: what a new head reads, one of `sstext.modeling.reading.READINGS`, if the architecture allows it. Default:
            what the head of the encoder reads, or that for which an earlier run has saved it.
        prefix: what is put before every text. The configuration keeps it (`sstext.modeling.pretrained.prefix_of`).
        model_args: `attn_implementation`, and values of the encoder's configuration. Default: no change.

    Raises:
        UserError: if the encoder cannot be loaded, has weights that are not finite or fewer layers, or has no dropout or no
            such value to set.
    """
    path = encoder_path(encoder)
    set_seed(seed)
    with explained(path):
        check_shards(path, ask_once(path, revision), revision=revision)
        config = AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=False)
        if hasattr(config, "sstext"):
            del config.sstext  # results of an earlier training, which do not hold for this model
        if prefix:
            config.sstext = {"prefix": prefix}
        config.num_labels = len(classes)
        config.id2label = dict(enumerate(classes))
        config.label2id = {name: number for number, name in enumerate(classes)}
        config.problem_type = "single_label_classification"
        if dropout is not None:
            _set_dropout(config, dropout)
        _set_values(config, model_args or {})
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            path,
            revision=revision,
            trust_remote_code=False,
            config=config,
            dtype=torch.float32,
            attn_implementation=(model_args or {}).get(ATTENTION),
            ignore_mismatched_sizes=True,  # for the head of a classifier with other classes
            output_loading_info=True,
        )
    unfit = [key for key, *_ in loading["mismatched_keys"] if key.startswith(f"{model.base_model_prefix}.")]
    if model_args and unfit:
        raise UserError(
            f"model_args: the weights of the encoder do not fit {listed(list(model_args))} ({unfit[0]} has another shape); "
            "leave out what changes its size"
        )
    refuse_bad_weights(model, f"encoder {encoder!r}")
    if not keep_head:
        _renew_head(model, new={*loading["missing_keys"], *(key for key, *_ in loading["mismatched_keys"])})
    if model.config.pad_token_id is None:
        model.config.pad_token_id = getattr(model.config, "eos_token_id", None)
    freeze(model, embeddings=freeze_embeddings, layers=freeze_layers)
    if not keep_head and (reading or has_reading_layer(model)):
        make_read(model, reading or reading_of(model))
    hold_reading(model)
    return model


def _set_dropout(config: Any, dropout: float) -> None:
    """Set every dropout probability of a configuration. Its name differs between architectures."""
    names = [
        name
        for name, value in config.to_dict().items()
        if ("dropout" in name or "pdrop" in name) and (value is None or type(value) in (int, float))
    ]
    if not names:
        raise UserError(f"dropout: {config.model_type} has no dropout probability in its configuration; leave it out")
    for name in names:
        setattr(config, name, dropout)


def _set_values(config: Any, given: Mapping[str, Any]) -> None:
    """Set values of a configuration. The type of the weights is no such value: training needs float32."""
    known = [name for name in config.to_dict() if name not in _OURS and "dtype" not in name]
    for name, value in given.items():
        if name in ("dtype", "torch_dtype"):
            if str(value).removeprefix("torch.") not in ("float32", "fp32"):
                raise UserError(
                    f"model_args: {name}: expected float32, found {value!r}; in 16 bits, most steps of a training are smaller "
                    "than the last digit of a weight and are lost; use precision bf16, which computes in 16 bits and keeps "
                    "weights of 32"
                )
        elif name != ATTENTION:
            if name not in known:
                raise UserError(
                    f"model_args: expected {ATTENTION} or a value of the configuration of {config.model_type}, found {name!r}; "
                    f"{nearest(name, [ATTENTION, *known])}"
                )
            setattr(config, name, value)


def _renew_head(model: Any, new: set[str]) -> None:
    """Draw a new head if the encoder has a head, because that head was trained for another task."""
    prefix = f"{model.base_model_prefix}."
    head = {name for name in model.state_dict() if not name.startswith(prefix)}
    if head <= new:
        return  # an encoder without a head: from_pretrained has just drawn it
    fresh = type(model)._from_config(model.config)
    model.load_state_dict({name: fresh.state_dict()[name] for name in head}, strict=False)


def has_dropout(model: nn.Module) -> bool:
    """Whether a model has a dropout layer with a probability above 0, under any name."""
    layers = [part for part in model.modules() if "dropout" in type(part).__name__.lower()]
    return any(getattr(layer, "p", getattr(layer, "drop_prob", 0.0)) for layer in layers)


def freeze(model: Any, *, embeddings: bool = False, layers: int = 0) -> None:
    """Freeze the embeddings and the first K transformer layers of a classifier.

    Raises:
        UserError: if there are fewer than K layers.
    """
    if embeddings:
        block = getattr(model.base_model, "embeddings", None) or model.get_input_embeddings()
        block.requires_grad_(False)
    if layers:
        stacks = [part for part in model.base_model.modules() if isinstance(part, nn.ModuleList)]
        stack = max(stacks, key=len, default=nn.ModuleList())
        if layers > len(stack):
            raise UserError(f"freeze: expected at most {len(stack)}, the number of layers, found {layers}")
        for layer in list(stack)[:layers]:
            layer.requires_grad_(False)
