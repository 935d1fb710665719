"""AdapterTrainer: a `Trainer` of models with an adapter of peft, which is saved as it is or merged."""

from typing import Any

from transformers import Trainer

from sstext.errors import UserError
from sstext.training.models import is_adapted, merged


def check_adapter(adapted: bool, args: Any, pushed: bool) -> None:
    """Check that the arguments fit a model with or without an adapter.

    Args:
        pushed: whether the model is pushed to the Hub.

    Raises:
        UserError: there is no adapter to merge, or an adapter without its encoder would be pushed.
    """
    if args.merge_adapter and not adapted:
        raise UserError("merge_adapter: the model has no adapter; give peft_config=LoraConfig(…), or leave it out")
    if pushed and adapted and not args.merge_adapter:
        raise UserError(
            "push_to_hub: an adapter alone has no configuration and no class names, so pipelines cannot read it; set "
            "merge_adapter=True to push a whole model"
        )


class AdapterTrainer(Trainer):
    """A `Trainer` that saves either the adapter of a model alone, as peft does, or with `args.merge_adapter` a plain model.

    Checkpoints always have the adapter, because a merged model cannot be trained on.
    """

    args: Any
    model: Any
    student: Any
    _in_checkpoint = False

    def push_to_hub(self, *arguments: Any, **keywords: Any) -> Any:
        check_adapter(is_adapted(self.student), self.args, pushed=True)
        return super().push_to_hub(*arguments, **keywords)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self._in_checkpoint = True
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self._in_checkpoint = False

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        if not self.args.merge_adapter or self._in_checkpoint:
            return super()._save(output_dir, state_dict)
        model, self.model = self.model, merged(self.student)
        try:
            super()._save(output_dir)
        finally:
            self.model = model
