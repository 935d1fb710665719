"""HeadRateTrainer and TokenHeadTrainer: a separate learning rate for the new head, and a temporary token head."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer

from sstext.errors import UserError
from sstext.modeling.reading import has_reading_layer, head_rate_factor, hold_reading
from sstext.modeling.token_head import TOKEN_HEAD, WithTokenHead
from sstext.training.models import without_adapter


class HeadRateTrainer(Trainer):
    """A `Trainer` with a separate learning rate for the new head: `args.head_learning_rate`, if it is set.

    The layer that was appended to a model for its head to read (`sstext.modeling.reading`) is never trained, and the
    head has rates that fit to the size of what it reads.
    """

    args: Any

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Make `Trainer`'s optimizer. If `head_learning_rate` is set, the head gets this learning rate."""
        trained: Any = self.model if model is None else model
        plain = without_adapter(trained.classifier if isinstance(trained, WithTokenHead) else trained)
        hold_reading(plain)  # a model that was just loaded does not know it
        own_rate = self.args.head_learning_rate is not None or has_reading_layer(trained)
        if not own_rate or self.optimizer is not None:
            return super().create_optimizer(model)
        if self.optimizer_cls_and_kwargs is not None:
            raise UserError("head_learning_rate cannot be combined with optimizer_cls_and_kwargs")
        kind, arguments = self.get_optimizer_cls_and_kwargs(self.args, trained)
        if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)) or "optimizer_dict" in arguments:
            raise UserError(f"head_learning_rate is not supported with optim={self.args.optim!r}; use adamw_torch")
        body = {id(parameter) for parameter in plain.base_model.parameters()}
        decayed = set(self.get_decay_parameter_names(trained))
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, parameter in trained.named_parameters():
            if parameter.requires_grad:
                groups.setdefault((id(parameter) in body, name in decayed), []).append(parameter)
        rate, decay, factor = self.args.learning_rate, self.args.weight_decay, head_rate_factor(plain)
        head_rate = self.args.head_learning_rate if self.args.head_learning_rate is not None else rate
        settings = {  # weights lose rate × decay of themselves per step: the same share, whatever the factor
            (True, True): {"lr": rate, "weight_decay": decay},
            (True, False): {"lr": rate, "weight_decay": 0.0},
            (False, True): {"lr": head_rate * factor, "weight_decay": decay / factor},
            (False, False): {"lr": head_rate, "weight_decay": 0.0},  # a bias does not depend on what is read
        }
        self.optimizer = kind(
            [{"params": params, **settings[group]} for group, params in groups.items()],
            **arguments,
        )
        return self.optimizer


class TokenHeadTrainer(Trainer):
    """A `Trainer` whose model may have a token head during training. It saves and loads only the classifier.

    The head is added when a training begins, because a search over hyperparameters can change the objective until then,
    and because `Trainer` expects an ordinary model in its constructor. In checkpoints, the head is saved with the state
    of the objective.
    """

    model: Any

    @property
    def student(self) -> Any:
        """The trained classifier, without a token head. Only it is saved."""
        return self.model.classifier if isinstance(self.model, WithTokenHead) else self.model

    def add_token_head(self) -> None:
        """Add a new token head to the model, unless it has one.

        Raises:
            UserError: the optimizer is the caller's and lacks the new weights, or weights are sharded over devices.
        """
        if isinstance(self.model, WithTokenHead):
            return
        if self.optimizer is not None:
            raise UserError(
                "optimizers: reconstruction trains a new head, which your optimizer lacks; leave optimizers out"
            )
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise UserError("reconstruction needs whole weights on every device; leave FSDP and DeepSpeed out")
        self.model = self.model_wrapped = WithTokenHead(self.model)

    def token_head_state(self) -> dict[str, Tensor]:
        """The token head's weights for a checkpoint. Empty without a token head."""
        if not isinstance(self.model, WithTokenHead):
            return {}
        return {TOKEN_HEAD + name: weight for name, weight in self.model.token_head.state_dict().items()}

    def load_token_head(self, state: dict[str, Tensor]) -> None:
        """Restore the token head from a checkpoint's state. The state may contain other entries."""
        if isinstance(self.model, WithTokenHead):
            own = {k.removeprefix(TOKEN_HEAD): weight for k, weight in state.items() if k.startswith(TOKEN_HEAD)}
            self.model.token_head.load_state_dict(own)

    # `Trainer` hard-codes `self.model` when it writes, reads and inspects a model.

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
