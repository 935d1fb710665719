"""A classifier that reads the embedding of a sentence encoder, in a checkpoint that plain transformers loads.

BERT's head reads the first token through a pooler that sentence encoders never trained. Their embedding is the mean of all
tokens, or the first token alone. transformers has no such head for BERT (huggingface/transformers#16651), but a last layer
with these weights makes the embedding of the first token, and of every other one:

    query = key = 0        every token attends equally to all tokens but the padding
    value = I, output = F · I        F m + h
    LayerNorms: weight 1, bias 0; feed-forward: 0        LN(F m + h)
    dense = s · I, before tanh or gelu        a · LN(F m + h) with a = s · activation'(0), if s is so small that both are linear

m is the mean (D,) of the hidden states, and h the state of the token itself. With F = 1024, this is a · LN(m), nearly exactly:
the head reads the mean. With F = 0, it is a · LN(h): the head reads the first token. So the logits are linear in LN(m) or
LN(h), which is √D long: LN(m) / √D is the normalized embedding m / |m|, apart from the mean over the features, which is
nearly 0 there.

The layer and the dense layer are frozen, have no dropout, and stay what they are, see `hold_reading`. Such a model is
recognized by `sstext_pooling` in its configuration, which transformers keeps and does not read.

ModernBERT and its like can read both themselves, by `classifier_pooling`, which is used instead.
"""

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from sstext.errors import UserError

#: What a head can read: the mean of all tokens, or the first token.
MEAN, FIRST = READINGS = ("mean", "first")
#: The entry of a configuration that says which of them the head reads.
MARK = "sstext_pooling"
#: How much more the mean counts than the token's own state. In float16, hidden states below 64 do not overflow.
FACTOR = 1024.0
#: What `classifier_pooling` calls the first token, where it is not "cls".
_FIRST_TOKEN = {"eurobert": "bos"}


@dataclass(frozen=True)
class Family:
    """Where the weights of an architecture are.

    Attributes:
        projections: query, key and value inside `attention.self` of a layer.
        dense: the head's layer that reads the first token, from the classifier.
        output: the last linear layer, which makes the logits, from the classifier.
        activation: the name of the activation after `dense`, or of the configuration's entry with its name.
    """

    projections: tuple[str, str, str]
    dense: str
    output: str
    activation: str


_BERT = Family(("query", "key", "value"), "bert.pooler.dense", "classifier", "tanh")
_ROBERTA = Family(("query", "key", "value"), "classifier.dense", "classifier.out_proj", "tanh")
FAMILIES: dict[str, Family] = {
    "bert": _BERT,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "electra": Family(("query", "key", "value"), "classifier.dense", "classifier.out_proj", "gelu"),
    "deberta-v2": Family(("query_proj", "key_proj", "value_proj"), "pooler.dense", "classifier", "pooler_hidden_act"),
}
#: Activation → s, and its slope at 0. tanh(x) = x - x³/3 + … and gelu(x) = x/2 + .4 x² + …: the largest of the features,
#: which is √D long at most and 10 to 15 long in RoBERTa, must be small too.
NEARLY_LINEAR: dict[str, tuple[float, float]] = {"tanh": (1 / 64, 1.0), "gelu": (1 / 1024, 0.5)}
#: Size of the features that learning rates of a head are made for. A BERT's pooler is about as large.
USUAL_SIZE = 0.25


def make_read(model: Any, reading: str) -> bool:
    """Let the head of a classifier read the mean of the tokens or the first token, in place. Return whether it does.

    Where transformers has a choice, it is made in the configuration. Otherwise a layer is appended, the head's dense
    layer is set, and the weights of its last layer are made larger by as much as the features become smaller. A
    model that has the layer already gets no second one.

    Args:
        model: a sequence classifier, before its training.
        reading: one of `READINGS`.

    Returns:
        False for an architecture for which it would not be exact. The model is then unchanged; `why_not` says why.

    >>> from transformers import BertConfig, BertForSequenceClassification as Classifier
    >>> sizes = dict(vocab_size=9, hidden_size=4, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8)
    >>> model = Classifier(BertConfig(**sizes))
    >>> make_read(model, MEAN), model.config.num_hidden_layers, model.bert.pooler.dense.weight.requires_grad
    (True, 3, False)
    """
    if why_not(model):
        return False
    config = model.config
    has_layer = has_reading_layer(model)
    setattr(config, MARK, reading)
    if hasattr(config, "classifier_pooling"):
        config.classifier_pooling = "mean" if reading == MEAN else _FIRST_TOKEN.get(config.model_type, "cls")
        if hasattr(model, "classifier_pooling"):  # EuroBERT keeps a copy
            model.classifier_pooling = config.classifier_pooling
        return True
    family, layers = FAMILIES[config.model_type], model.base_model.encoder.layer
    if not has_layer:
        layer = copy.deepcopy(layers[-1])
        if hasattr(layer.attention.self, "layer_idx"):
            layer.attention.self.layer_idx = len(layers)
        layers.append(layer)
        config.num_hidden_layers += 1
    _set_layer(layers[-1], family, reading)
    scale, _ = NEARLY_LINEAR[_activation(config)]
    with torch.no_grad():
        _set_diagonal(model.get_submodule(family.dense), scale)
        model.get_submodule(family.output).weight.mul_(head_rate_factor(model))
    hold_reading(model)
    return True


def why_not(model: Any) -> str:
    """Why the head of a classifier can only read what it reads, as the end of a sentence; empty if it can read embeddings.

    >>> from transformers import DistilBertConfig, DistilBertForSequenceClassification as Classifier
    >>> why_not(Classifier(DistilBertConfig(vocab_size=9, dim=4, n_layers=1, n_heads=2, hidden_dim=8)))
    'the head of distilbert can only read what it was built for'
    """
    config = model.config
    kind = config.model_type
    if hasattr(config, "classifier_pooling"):
        return ""
    if kind not in FAMILIES:
        return f"the head of {kind} can only read what it was built for"
    if _activation(config) not in NEARLY_LINEAR:
        return f"the head of this {kind} has the activation {_activation(config)}, which is not linear near 0"
    if getattr(config, "is_decoder", False):
        return f"this {kind} is a decoder: its first token reads no others"
    value = model.base_model.encoder.layer[-1].attention.self.get_submodule(FAMILIES[kind].projections[2])
    if {value.out_features, model.get_submodule(FAMILIES[kind].dense).in_features} != {config.hidden_size}:
        return f"this {kind} has attention heads or a head of another width than its hidden states"
    return ""


def has_linear_head(config: Any) -> bool:
    """Whether the head of an architecture can become a linear classifier of embeddings, see `write_linear`.

    Args:
        config: of an encoder. No weights are read.
    """
    if hasattr(config, "classifier_pooling"):
        return False  # its head has a layer of its own between the embedding and the logits
    with torch.device("meta"):
        return not why_not(AutoModelForSequenceClassification.from_config(config))


def reading_of(model: Any) -> str:
    """Which embedding of a text belongs to a model: the one that its head was made to read, otherwise the mean."""
    found = getattr(getattr(model, "config", None), MARK, MEAN)
    return found if found in READINGS else MEAN


def has_reading_layer(model: Any) -> bool:
    """Whether the last layer of a model was appended for its head to read. It is read from the configuration."""
    config = getattr(model, "config", None)
    return getattr(config, MARK, None) in READINGS and getattr(config, "model_type", None) in FAMILIES


def hold_reading(model: Any) -> None:
    """Freeze the layer that the head reads, turn its dropout off, and compute it in a shorter way with the same bits.

    Other models do not change.

    Frozen parameters have no gradient and are in no group of the optimizer, so that no weight decay moves them either;
    DDP leaves them out. Dropout of this layer would be noise on top of that of the head. On a CPU, the layer
    then costs much less than another one. This must be called after every load, because a checkpoint stores only the weights.
    """
    if not has_reading_layer(model):
        return
    layer = model.base_model.encoder.layer[-1]
    for part in (layer, model.get_submodule(FAMILIES[model.config.model_type].dense)):
        part.requires_grad_(False)
    for part in layer.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    for linear, size in _diagonals(layer, FAMILIES[model.config.model_type], reading_of(model)).items():
        if type(linear) in (nn.Linear, Diagonal):  # not one that is quantized or has an adapter
            linear.__class__, linear.size = Diagonal, size  # type: ignore[assignment]


def reading_scale(model: Any) -> float:
    """a: the last layer of the model's head reads a · LN(m) or a · LN(h), see the module.

    Raises:
        UserError: the model has no layer for its head to read.
    """
    if not has_reading_layer(model):
        raise UserError(
            f"{type(model).__name__}: expected a classifier that reads embeddings through a layer of its own; "
            "use make_read first"
        )
    scale, slope = NEARLY_LINEAR[_activation(model.config)]
    return scale * slope


def head_rate_factor(model: Any) -> float:
    """By how much the learning rate of the head is multiplied because it reads small features; 1 for other models.

    The steps of AdamW do not depend on the size of the gradient. With features a times as large, weights must be 1/a
    times as large, and so must the steps. It is then the same training, whatever a is. The rate of the head's bias stays.
    """
    return USUAL_SIZE / reading_scale(model) if has_reading_layer(model) else 1.0


def write_linear(model: Any, weight: Tensor, bias: Tensor) -> None:
    """Write a linear classifier of normalized embeddings into the head of a model that reads them, in place.

        logits = W z + b,   z = LN(m) / √D, or LN(h) / √D

    z is the embedding m / |m| or h / |h| without its mean over the features, at length 1 again.

    Args:
        model: a classifier with C classes, after `make_read`.
        weight, bias: W (C, D) and b (C,), for example of a logistic regression.

    Raises:
        UserError: the model has no layer for its head to read, or another number of classes or features.
    """
    scale = reading_scale(model)
    output = model.get_submodule(FAMILIES[model.config.model_type].output)
    if weight.shape != output.weight.shape or bias.shape != output.bias.shape:
        raise UserError(
            f"write_linear: expected weights {tuple(output.weight.shape)} and a bias {tuple(output.bias.shape)}, found "
            f"{tuple(weight.shape)} and {tuple(bias.shape)}"
        )
    with torch.no_grad():
        output.weight.copy_(weight / (scale * math.sqrt(weight.shape[1])))
        output.bias.copy_(bias)


def read_linear(model: Any) -> tuple[Tensor, Tensor]:
    """The weights W (C, D) and b (C,) that `write_linear` has written into a head, on the device of the model.

    Raises:
        UserError: the model has no layer for its head to read.
    """
    scale = reading_scale(model)
    output = model.get_submodule(FAMILIES[model.config.model_type].output)
    weight = output.weight.detach()
    return weight * (scale * math.sqrt(weight.shape[1])), output.bias.detach()


class Diagonal(nn.Linear):
    """A linear layer whose weight is s · I, computed as s · x: the same bits without the product of two matrices.

    Its weight is looked at in every pass, which is cheap on a CPU: merging an adapter, or loading weights, may have changed
    it. On other devices, where a look would wait, in exports and in compiled models, it is an ordinary linear layer.

    Attributes:
        size: s.
    """

    size: float

    def forward(self, input: Tensor) -> Tensor:
        plain = input.device.type != "cpu" or torch.compiler.is_compiling() or torch.jit.is_tracing()
        if plain or not self.is_diagonal():
            return super().forward(input)
        x = input.to(torch.get_autocast_dtype("cpu")) if torch.is_autocast_enabled("cpu") else input
        return x.new_zeros(*x.shape[:-1], self.out_features) if self.size == 0 else x * self.size

    @torch.no_grad()
    def is_diagonal(self) -> bool:
        """Whether weight and bias are what they should be."""
        weight, bias, size = self.weight, self.bias, self.size
        entries = int(weight.count_nonzero()) == (len(weight) if size else 0)
        return entries and bool((weight.diagonal() == size).all()) and not bool(bias.any())


def _activation(config: Any) -> str:
    name = FAMILIES[config.model_type].activation
    return str(getattr(config, name, name))


def _diagonals(layer: Any, family: Family, reading: str) -> dict[nn.Linear, float]:
    """The linear parts of the layer that the head reads, and the number on the diagonal of each, see the module."""
    attention = layer.attention
    query, key, value = (attention.self.get_submodule(name) for name in family.projections)
    sizes = {query: 0.0, key: 0.0, value: 1.0, attention.output.dense: FACTOR if reading == MEAN else 0.0}
    return sizes | {layer.intermediate.dense: 0.0, layer.output.dense: 0.0}


@torch.no_grad()
def _set_layer(layer: Any, family: Family, reading: str) -> None:
    """The weights of the layer that the head reads."""
    for part, size in _diagonals(layer, family, reading).items():
        _set_diagonal(part, size)
    for norm in (layer.attention.output.LayerNorm, layer.output.LayerNorm):
        norm.weight.fill_(1.0)
        norm.bias.zero_()


def _set_diagonal(part: nn.Linear, size: float) -> None:
    part.weight.zero_()
    part.weight.fill_diagonal_(size)
    part.bias.zero_()
