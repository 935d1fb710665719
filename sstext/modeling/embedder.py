"""Embedder: an encoder whose outputs are the embeddings of texts."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from sstext.modeling.pooling import embeddings_of


class Embedder(nn.Module):
    """Returns the normalized embeddings (N, D) of an encoder or classifier as `logits`, see `embeddings_of`.

    Args:
        model: an encoder or a classifier.
        with_logits: put the classifier's C logits first, from the same pass: (N, C + D).
        reading: mean or first token. Default: what belongs to the model.
    """

    def __init__(self, model: Any, *, with_logits: bool = False, reading: str | None = None) -> None:
        super().__init__()
        self.model, self.with_logits, self.reading = model, with_logits, reading
        columns = model.config.hidden_size + (model.config.num_labels if with_logits else 0)
        self.config = SimpleNamespace(num_labels=columns)  # the number of columns that `score` allocates
        self.train(model.training)  # `score` restores the mode of this module

    def forward(self, **inputs: Any) -> Any:
        outputs = self.model(**inputs, output_hidden_states=True)
        embedded = embeddings_of(outputs, self.model, inputs["attention_mask"], self.reading).float()
        parts = [outputs.logits.float()] if self.with_logits else []
        return SimpleNamespace(logits=torch.cat([*parts, F.normalize(embedded, dim=-1)], -1))
