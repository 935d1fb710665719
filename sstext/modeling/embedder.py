"""Embedder: an encoder whose outputs are the embeddings of texts."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from sstext.modeling.pooling import last_hidden_states, mean_pooled


class Embedder(nn.Module):
    """Returns normalized mean-pooled last hidden states (N, D) of an encoder or classifier as `logits`.

    Args:
        model: an encoder or a classifier.
        with_logits: put the classifier's C logits first, from the same pass: (N, C + D).
    """

    def __init__(self, model: Any, *, with_logits: bool = False) -> None:
        super().__init__()
        self.model, self.with_logits = model, with_logits
        columns = model.config.hidden_size + (model.config.num_labels if with_logits else 0)
        self.config = SimpleNamespace(num_labels=columns)  # the number of columns that `score` allocates
        self.train(model.training)  # `score` restores the mode of this module

    def forward(self, **inputs: Any) -> Any:
        outputs = self.model(**inputs, output_hidden_states=True)
        pooled = mean_pooled(last_hidden_states(outputs, self.model), inputs["attention_mask"])
        parts = [outputs.logits.float()] if self.with_logits else []
        return SimpleNamespace(logits=torch.cat([*parts, F.normalize(pooled.float(), dim=-1)], -1))
