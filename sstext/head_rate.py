"""HeadRateTrainer: `Trainer` with a learning rate of its own for the classification head, which starts from nothing."""

from typing import Any

import torch
from torch import nn
from transformers import Trainer

from sstext.errors import UserError


class HeadRateTrainer(Trainer):
    """`Trainer` whose head learns at `args.head_learning_rate` where that is given, and all else at `args.learning_rate`."""

    args: Any

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """`Trainer`'s optimizer, with a learning rate of its own for the head where `head_learning_rate` is given."""
        if self.args.head_learning_rate is None or self.optimizer is not None:
            return super().create_optimizer(model)
        if self.optimizer_cls_and_kwargs is not None:
            raise UserError("head_learning_rate cannot be combined with optimizer_cls_and_kwargs")
        trained: Any = self.model if model is None else model
        kind, arguments = self.get_optimizer_cls_and_kwargs(self.args, trained)
        if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)) or "optimizer_dict" in arguments:
            raise UserError(f"head_learning_rate is not supported with optim={self.args.optim!r}; use adamw_torch")
        body = {id(parameter) for parameter in trained.base_model.parameters()}
        decayed = set(self.get_decay_parameter_names(trained))
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, parameter in trained.named_parameters():
            if parameter.requires_grad:
                groups.setdefault((id(parameter) in body, name in decayed), []).append(parameter)
        rate, head_rate, decay = self.args.learning_rate, self.args.head_learning_rate, self.args.weight_decay
        self.optimizer = kind(
            [
                {"params": params, "lr": rate if in_body else head_rate, "weight_decay": decay if decays else 0.0}
                for (in_body, decays), params in groups.items()
            ],
            **arguments,
        )
        return self.optimizer
