"""A vocabulary head beside the classifier's own, for as long as a training lasts: masked language modeling needs one."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import SequenceClassifierOutput

from sstext.modeling.pooling import last_hidden_states

TOKEN_HEAD = "token_head."  # prefix of its weights among a checkpoint's state


@dataclass
class TokenOutput(SequenceClassifierOutput):
    """What a classifier says, and `token_logits` (M, V) of the M masked tokens.

    A field like the others: what wraps a model for several devices or for 16 bits finds it, where it would lose an attribute.
    """

    token_logits: Tensor | None = None


class TokenHead(nn.Module):
    """Hidden states of masked tokens → logits of the vocabulary: LayerNorm(gelu(W h + b₁)) · Eᵀ + b₂, as in BERT.

    E are the encoder's token embeddings, handed in at every call: no weight is stored twice.

    Source: Devlin et al. 2019 (BERT), released code; with embeddings narrower than D: Clark et al. 2020 (ELECTRA).

    Args:
        width: D of the hidden states.
        embeddings: (V, E) of the encoder; the head is made beside them, in their type.
    """

    def __init__(self, width: int, embeddings: Tensor) -> None:
        super().__init__()
        vocabulary, own_width = embeddings.shape
        self.dense = nn.Linear(width, own_width)
        self.norm = nn.LayerNorm(own_width)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.to(embeddings)

    def forward(self, hidden: Tensor, embeddings: Tensor) -> Tensor:
        return F.linear(self.norm(F.gelu(self.dense(hidden))), embeddings, self.bias)  # (M, D) → (M, V)


class WithTokenHead(nn.Module):
    """A classifier that can also say which tokens were masked: one module, so that optimizer, DDP and checkpoints see both.

    A call without `masked` is the classifier's, to the bit. So is every attribute that is not found here (config, base_model,
    get_input_embeddings, save_pretrained, …): any encoder serves, and what `save_pretrained` writes has no such head.

    Args:
        classifier: any sequence classifier of transformers.
    """

    def __init__(self, classifier: Any) -> None:
        super().__init__()
        self.classifier = classifier
        self.token_head = TokenHead(classifier.config.hidden_size, self._embeddings())
        self.train(classifier.training)

    def forward(self, *, masked: Tensor | None = None, head_only: bool = False, **inputs: Any) -> Any:
        """What the classifier says, with `token_logits` in the order of the rows where `masked` is given.

        Args:
            masked: (N, T), True at the tokens to predict.
            head_only: the classifier gets no gradient from `token_logits`, neither through hidden states nor embeddings.
            inputs: the classifier's, (N, T) each.
        """
        if masked is None:
            return self.classifier(**inputs)
        asked = inputs.pop("output_hidden_states", False)
        said = self.classifier(**inputs, output_hidden_states=True)
        hidden, embeddings = last_hidden_states(said, self.classifier)[masked], self._embeddings()
        if head_only:
            hidden, embeddings = hidden.detach(), embeddings.detach()
        return TokenOutput(
            loss=said.loss,
            logits=said.logits,
            hidden_states=said.hidden_states if asked else None,
            token_logits=self.token_head(hidden, embeddings),
        )

    def _embeddings(self) -> Tensor:
        return self.classifier.get_input_embeddings().weight

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("classifier"), name)
