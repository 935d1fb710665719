"""The model that a trainer is given (a name, a model, with or without an adapter) → the model that it trains."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, set_seed
from transformers.utils import is_peft_available

from sstext.errors import UserError, listed
from sstext.hub.access import ask_once
from sstext.hub.foreign import check_shards
from sstext.modeling.finite import refuse_bad_weights
from sstext.modeling.pretrained import encoder_path, explained, load_tokenizer, prefix_of, split_revision


def load_by_name(
    name: str, arguments: dict[str, Any], tokenizer: Any, *, names: Sequence[str] | None, number: int | None, seed: int
) -> tuple[Any, Any]:
    """Load a sequence classifier and its tokenizer by name. A new head is drawn from `seed`, and weights are float32.

    Args:
        name: folder, Hub name, Hub name@revision, or `demo`.
        arguments: further arguments of `from_pretrained`.
        tokenizer: the tokenizer, or None to load the one of the model.
        names: names of the classes, if the labels have any.
        number: number of classes C, if it is known from the labels.

    Raises:
        UserError: the model cannot be loaded, has weights that are not finite, or has classes of another task.
    """
    path, revision = split_revision(encoder_path(name))
    given = {"revision": revision, "trust_remote_code": False, "dtype": torch.float32} | arguments
    with explained(path):
        check_shards(path, ask_once(path, given["revision"]), revision=given["revision"])
        if not {"num_labels", "id2label", "config"} & set(given):
            config = AutoConfig.from_pretrained(path, revision=given["revision"], trust_remote_code=False)
            if names is not None and has_own_names(config):
                give_names(config, names, name)  # raises the error before any weights are read
            elif number is not None:
                given["num_labels"] = number
        set_seed(seed)
        model = AutoModelForSequenceClassification.from_pretrained(path, **given)
        refuse_bad_weights(model, name)
        if tokenizer is None:
            tokenizer = load_tokenizer(path, given["revision"])
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    if hasattr(model.config, "sstext"):  # results of an earlier training, which do not hold for this one
        model.config.sstext = {"prefix": prefix_of(model.config)}
    return model, tokenizer


def has_own_names(config: Any) -> bool:
    """Whether the classes of a model have names other than LABEL_0, LABEL_1, …, which transformers gives to nameless ones.

    >>> from transformers import BertConfig
    >>> has_own_names(BertConfig(num_labels=3)), has_own_names(BertConfig(id2label={0: "no", 1: "yes"}))
    (False, True)
    """
    return dict(config.id2label) != {number: f"LABEL_{number}" for number in range(config.num_labels)}


def give_names(config: Any, names: Sequence[str], model: str = "the model") -> None:
    """Name the classes of a model by those of its training data, unless it has names already.

    Args:
        names: names of the classes in the data, in the order of their numbers.
        model: what the model is called in messages.

    Raises:
        UserError: the data has classes that the model does not have, or another number of them.
    """
    if has_own_names(config):
        own = list(config.id2label.values())
        unknown = [name for name in names if name not in own]
        if unknown:
            raise UserError(
                f"train_dataset: classes {listed(unknown)} are not among those of {model} ({listed(own)}); "
                "rename them in the data, or give from_pretrained your own: "
                f"num_labels={len(names)}, id2label=…, label2id=…, ignore_mismatched_sizes=True"
            )
        return
    if len(names) != config.num_labels:
        raise UserError(
            f"train_dataset: has {len(names)} classes ({listed(list(names))}), but {model} has {config.num_labels}; give "
            f"num_labels={len(names)} to from_pretrained"
        )
    config.id2label = dict(enumerate(names))
    config.label2id = {name: number for number, name in enumerate(names)}


def is_adapted(model: Any) -> bool:
    """Whether a model has an adapter of peft."""
    if not is_peft_available():
        return False
    from peft import PeftModel

    return isinstance(model, PeftModel)


def without_adapter(model: Any) -> Any:
    """The model of transformers inside of a model with an adapter, or the model itself."""
    return model.get_base_model() if is_adapted(model) else model


def with_adapter(model: Any, peft_config: Any) -> Any:
    """Add an adapter to a sequence classifier. Only the adapter and the whole head are trained then.

    Args:
        peft_config: for example `peft.LoraConfig(r=8)`. It is not changed.

    Raises:
        UserError: peft is not installed, the model has an adapter already, or the adapter is of another task.
    """
    if not is_peft_available():
        raise UserError("peft_config: peft is not installed; pip install 'sstext[peft]'")
    from peft import TaskType, get_peft_model

    if is_adapted(model):
        raise UserError(
            "peft_config: the model has an adapter already; leave peft_config out, or give the model without it"
        )
    if peft_config.task_type not in (None, TaskType.SEQ_CLS):
        raise UserError(f"peft_config: expected task_type='SEQ_CLS', found {peft_config.task_type!r}")
    config = copy.deepcopy(peft_config)
    config.task_type = TaskType.SEQ_CLS
    # peft knows heads named `classifier` and `score`. Some have a second layer beside, which is new as well.
    body = model.base_model_prefix
    head = [name for name, part in model.named_children() if name != body and any(True for _ in part.parameters())]
    if hasattr(config, "modules_to_save"):
        config.modules_to_save = sorted({*(config.modules_to_save or []), *head} - {"classifier", "score"}) or None
    return get_peft_model(model, config)


def merged(model: Any) -> nn.Module:
    """A copy of a model with its adapter merged into its weights: an ordinary model of transformers."""
    return copy.deepcopy(model).merge_and_unload()
