"""HubTrainer: a `Trainer` that pushes only the model to the Hub, and no files of the training."""

import shutil
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

from huggingface_hub import HfApi
from transformers import Trainer
from transformers.trainer_utils import HubStrategy
from transformers.utils import logging
from transformers.utils.hub import PushInProgress

from sstext.hub.card import model_card
from sstext.hub.publishing import (
    CARD,
    Published,
    model_files,
    prepare_repository,
    push_files,
    refuse_whole_checkpoints,
    with_names,
)
from sstext.methods.catalog import entry
from sstext.modeling.pretrained import length_limit, prefix_of

logger = logging.get_logger(__name__)


class HubTrainer(Trainer):
    """A `Trainer` that pushes an allow-list (`sstext.hub.publishing`): weights, configuration, tokenizer and a card.

    `Trainer` itself uploads all files of its output folder, and its arguments as a pickle. Everything else is as in
    `Trainer`. `push_to_hub=True` makes the repository when the trainer is constructed. `save_model` and `push_to_hub`
    push. With `hub_strategy="every_save"`, the model of every checkpoint is pushed in the background, unless the last
    push is still running.
    """

    model: Any
    hub_model_id: Any
    push_in_progress: Any = None

    def __init__(self, model: Any, args: Any, *arguments: Any, **kwargs: Any) -> None:
        refuse_whole_checkpoints(args.hub_strategy)
        super().__init__(model, args, *arguments, **kwargs)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        super()._save(output_dir, state_dict)
        # Nothing reads this pickle again, so it should not lie beside weights that are published.
        Path(output_dir or str(self.args.output_dir), "training_args.bin").unlink(missing_ok=True)

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Make the repository `args.hub_model_id` (default: the output folder's name) and its `args.hub_revision`.

        Raises:
            UserError: see `prepare_repository`.
        """
        if not self.is_world_process_zero():
            return
        args = self.args
        self.hub_model_id = prepare_repository(
            args.hub_model_id or Path(str(args.output_dir)).absolute().name,
            private=private if private is not None else args.hub_private_repo,
            revision=args.hub_revision,
            token=token if token is not None else args.hub_token,
        )
        self.push_in_progress = None

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **card: Any,
    ) -> Any:
        """Save the model and its card in the output folder, and push them.

        Args:
            commit_message, blocking, token, private: as in `Trainer`.
            revision: a branch, made if it does not exist. Default: `args.hub_revision`.
            **card: values of the card to replace, for example `license`, see `sstext.hub.card.model_card`.

        Returns:
            The published files, or a `Future` of them if `blocking` is false. None on all processes except the first.

        Raises:
            UserError: the Hub refuses the push, or the network fails. The output folder is complete.
        """
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        self.save_model(_internal_call=True)
        if not self.is_world_process_zero():
            return None
        self.write_card(**card)
        if self.hub_model_id is None:
            self.init_hf_repo(token=token, private=private)
        self._finish_current_push()
        if revision is not None:
            prepare_repository(str(self.hub_model_id), revision=revision, token=token or self.args.hub_token)
        arguments: dict[str, Any] = {
            "token": token,
            "revision": revision,
            "message": commit_message or "End of training",
        }
        folder = Path(str(self.args.output_dir))
        if blocking:
            return self._publish(folder, **arguments)
        return HfApi().run_as_future(self._publish, folder, **arguments)

    def write_card(self, **changes: Any) -> None:
        """Write the model's card to the output folder: classes, rows, method, and figures of the last evaluation.

        Args:
            changes: see `sstext.hub.card.model_card`.
        """
        if self.is_world_process_zero():
            text = model_card(**{**self._known_of_the_model(), **changes})
            Path(str(self.args.output_dir), CARD).write_text(text, encoding="utf-8")

    def _known_of_the_model(self) -> dict[str, Any]:
        config, tokenizer = self.model.config, cast(Any, self.processing_class)
        rows = {
            kind: len(data)
            for kind in ("labeled", "unlabeled", "pseudo_labeled")
            if (data := getattr(self, "train_dataset" if kind == "labeled" else f"{kind}_dataset", None)) is not None
        }
        evaluations = [log for log in self.state.log_history if "eval_loss" in log]
        figures = {
            name.removeprefix("eval_"): {"score": float(value)}
            for name, value in (evaluations[-1] if evaluations else {}).items()
            if name.startswith("eval_") and not name.endswith(("_runtime", "_per_second"))
        }
        method = getattr(self, "method", None) or getattr(self.args, "method", None)
        return {
            "classes": [config.id2label[number] for number in range(config.num_labels)],
            "encoder": config._name_or_path or "",
            "max_length": length_limit(tokenizer, config) if tokenizer is not None else 512,
            "prefix": prefix_of(config),
            "rows": {kind.replace("_", "-"): count for kind, count in rows.items()},
            "rounds": [],
            "results": {"last evaluation": figures} if figures else None,
            "chosen": None,
            "of_this_model": "last evaluation",
            "measured_on": "evaluation rows",
            "self_trained": len(rows) > 1,
            "method": str(method) if method is not None else None,
            "citation": (entry(method).source or None) if isinstance(method, str) else None,
        }

    def _publish(self, folder: Path, *, token: str | None, revision: str | None, message: str) -> Published:
        name, revision = str(self.hub_model_id), revision or self.args.hub_revision
        files = with_names(model_files(folder), name, revision)
        done = push_files(files, name, revision=revision, message=message, token=token or self.args.hub_token)
        if done.deleted:
            logger.warning(f"{name}: deleted files of an earlier push: {', '.join(done.deleted)}")
        return done

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Push the model of a checkpoint in the background (`hub_strategy="every_save"`)."""
        if not self.is_world_process_zero() or self.args.hub_strategy == HubStrategy.END:
            return
        running = self.push_in_progress is not None and not self.push_in_progress.is_done()
        if running and not self.args.hub_always_push:
            return
        self._finish_current_push()
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        # A copy, because later checkpoints may delete this one while the push is still running.
        copied = Path(str(self.args.output_dir), "_pushed")
        shutil.rmtree(copied, ignore_errors=True)
        copied.mkdir(parents=True)
        for name, content in model_files(Path(checkpoint_folder)).items():
            if isinstance(content, Path):
                shutil.copy(content, copied / name)
            else:
                (copied / name).write_bytes(content)
        message = f"Training in progress, step {self.state.global_step}"
        job: Future = HfApi().run_as_future(self._publish, copied, token=None, revision=None, message=message)
        self.push_in_progress = PushInProgress(cast(Any, [job]))

    def _finish_current_push(self) -> None:
        """Wait for the push in progress. If it failed, log a warning and go on with the training."""
        super()._finish_current_push()
        if self.push_in_progress is None:
            return
        for job in self.push_in_progress.jobs:
            problem = job.exception()
            if problem is not None:
                logger.warning(f"{problem}; the training continues, and its model is in {self.args.output_dir}")
        self.push_in_progress = None
        shutil.rmtree(Path(str(self.args.output_dir), "_pushed"), ignore_errors=True)
