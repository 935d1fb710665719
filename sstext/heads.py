"""A vocabulary head beside the classifier's own, for as long as a training lasts: masked language modeling needs one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from transformers import Trainer

from sstext.errors import UserError
from sstext.modeling.token_head import TOKEN_HEAD, WithTokenHead


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
