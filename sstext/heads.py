"""A vocabulary head beside the classifier's own, for as long as a training lasts: masked language modeling needs one."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Trainer
from transformers.modeling_outputs import SequenceClassifierOutput

from sstext.errors import UserError

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


def last_hidden_states(said: Any, student: nn.Module) -> Tensor:
    """The encoder's last hidden states (N, T, D) in what a student said.

    Raises:
        UserError: a student that has none (an encoder with a decoder).
    """
    states = getattr(said, "hidden_states", None)
    if not states:
        raise UserError(
            f"{type(student).__name__} gives no hidden states, which reconstruction and supervised contrast read; choose "
            "another encoder, or leave them out"
        )
    return states[-1]


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


class TokenHeadTrainer(Trainer):
    """`Trainer` whose model may carry a token head for a while: what it writes and reads as a model is the plain classifier.

    The head is put on when a training begins: only then is it known whether the objective wants one (a search over
    hyper-parameters changes that), and until then `Trainer` has looked at an ordinary model. In checkpoints the head lies
    beside the model, with the state of the objective.
    """

    model: Any

    @property
    def student(self) -> Any:
        """The classifier that is trained, without a token head: what is saved, and what is worth keeping."""
        return self.model.classifier if isinstance(self.model, WithTokenHead) else self.model

    def add_token_head(self) -> None:
        """Put a new token head on the model, unless it has one.

        Raises:
            UserError: the caller's own optimizer does not know of it, or weights are sharded over devices.
        """
        if isinstance(self.model, WithTokenHead):
            return
        if self.optimizer is not None:
            raise UserError(
                "optimizers: reconstruction trains a new head that yours does not know; leave optimizers out"
            )
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise UserError("reconstruction wants whole weights on every device; leave FSDP and DeepSpeed out")
        self.model = self.model_wrapped = WithTokenHead(self.model)

    def token_head_state(self) -> dict[str, Tensor]:
        """The token head's weights for a checkpoint; empty without one."""
        if not isinstance(self.model, WithTokenHead):
            return {}
        return {TOKEN_HEAD + name: weight for name, weight in self.model.token_head.state_dict().items()}

    def load_token_head(self, state: dict[str, Tensor]) -> None:
        """Restore the token head from a checkpoint's state, in which other things may lie beside it."""
        if isinstance(self.model, WithTokenHead):
            own = {k.removeprefix(TOKEN_HEAD): weight for k, weight in state.items() if k.startswith(TOKEN_HEAD)}
            self.model.token_head.load_state_dict(own)

    # `Trainer` hard-codes `self.model` where it writes, reads and inspects a model.

    @contextmanager
    def _plain_model(self) -> Iterator[None]:
        model, self.model = self.model, self.student
        try:
            yield
        finally:
            self.model = model

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        with self._plain_model():
            super()._save(output_dir, state_dict)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        with self._plain_model():
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        with self._plain_model():
            super()._load_best_model()

    def _set_signature_columns_if_needed(self) -> None:
        with self._plain_model():
            super()._set_signature_columns_if_needed()
