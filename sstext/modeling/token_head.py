"""A second head that predicts masked tokens, for masked language modeling. It exists only during training."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import SequenceClassifierOutput

from sstext.modeling.pooling import last_hidden_states

TOKEN_HEAD = "token_head."  # prefix of its weights in a checkpoint


@dataclass
class TokenOutput(SequenceClassifierOutput):
    """Outputs of a classifier, with `token_logits` (M, V) of the M masked tokens.

    `token_logits` is a field, because wrappers for several devices or for 16 bits keep fields but lose attributes.
    """

    token_logits: Tensor | None = None


class TokenHead(nn.Module):
    """Hidden states of masked tokens → logits of the vocabulary: LayerNorm(gelu(W h + b₁)) · Eᵀ + b₂, as in BERT.

    E are the encoder's token embeddings. They are an argument of every call, so no weight is stored twice.

    Source: Devlin et al. 2019 (BERT), released code; Clark et al. 2020 (ELECTRA) for embeddings narrower than D.

    Args:
        width: D of the hidden states.
        embeddings: (V, E) embeddings of the encoder. The head has their device and data type.
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
    """A classifier that also predicts masked tokens.

    It is one module, so that optimizer, DDP and checkpoints see both heads. A call without `masked` returns exactly the
    outputs of the classifier. All other attributes (config, base_model, get_input_embeddings, save_pretrained, …) are
    those of the classifier. Any encoder can therefore be used, and `save_pretrained` does not write the second head.

    Args:
        classifier: any sequence classifier of transformers.
    """

    def __init__(self, classifier: Any) -> None:
        super().__init__()
        self.classifier = classifier
        self.token_head = TokenHead(classifier.config.hidden_size, self._embeddings())
        self.train(classifier.training)

    def forward(self, *, masked: Tensor | None = None, head_only: bool = False, **inputs: Any) -> Any:
        """The outputs of the classifier. With `masked`, they include `token_logits`, in the order of the rows.

        Args:
            masked: (N, T), True at the tokens to predict.
            head_only: if True, `token_logits` give no gradient to the classifier, neither to its layers nor its
                embeddings.
            inputs: inputs of the classifier, (N, T) each.
        """
        if masked is None:
            return self.classifier(**inputs)
        wanted = inputs.pop("output_hidden_states", False)
        outputs = self.classifier(**inputs, output_hidden_states=True)
        hidden, embeddings = last_hidden_states(outputs, self.classifier)[masked], self._embeddings()
        if head_only:
            hidden, embeddings = hidden.detach(), embeddings.detach()
        return TokenOutput(
            loss=outputs.loss,
            logits=outputs.logits,
            hidden_states=outputs.hidden_states if wanted else None,
            token_logits=self.token_head(hidden, embeddings),
        )

    def _embeddings(self) -> Tensor:
        return self.classifier.get_input_embeddings().weight

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("classifier"), name)
