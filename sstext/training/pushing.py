"""HubTrainer: a `Trainer` that pushes only the model to the Hub, and no files of the training."""

import shutil
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

from huggingface_hub import CommitInfo, HfApi
from transformers import Trainer
from transformers.trainer_utils import HubStrategy
from transformers.utils import logging
from transformers.utils.hub import PushInProgress

from sstext.hub.foreign import drop_code
from sstext.hub.metadata import OneOrSeveral, several
from sstext.hub.publishing import (
    CARD,
    model_files,
    prepare_repository,
    push_files,
    refuse_whole_checkpoints,
    with_names,
)
from sstext.modeling.pretrained import tell_limit
from sstext.training.card import card_of

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
        self._given_to_cards: dict[str, Any] = {}
        self._model_folder = Path(str(args.output_dir))
        super().__init__(model, args, *arguments, **kwargs)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        tokenizer: Any = self.processing_class
        if getattr(tokenizer, "model_max_length", None) is not None:
            tell_limit(tokenizer, self.model.config)
        super()._save(output_dir, state_dict)
        if not self.args.should_save:
            return  # all processes come here, but only the first one writes files, and it may still be writing them
        folder = Path(output_dir or str(self.args.output_dir))
        if type(self.model).__module__.startswith("transformers."):  # it needs no code of its encoder's authors
            drop_code(folder)
        # Nothing reads this pickle again, so it should not lie beside weights that are published.
        (folder / "training_args.bin").unlink(missing_ok=True)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model, as `Trainer` does. The next card names this folder."""
        if output_dir is None or not _internal_call:  # the others are checkpoints
            self._model_folder = Path(output_dir or str(self.args.output_dir))
        super().save_model(output_dir, _internal_call)

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
        **kwargs: Any,
    ) -> Any:
        """Save the model and its card in the output folder, and push them.

        Args:
            commit_message, blocking, token, private: as in `Trainer`.
            revision: a branch, made if it does not exist. Default: `args.hub_revision`.
            **kwargs: see `create_model_card`.

        Returns:
            The `CommitInfo` of the commit, or a `Future` of it if `blocking` is false, as in `Trainer`. If nothing has
            changed, it is the last commit. None on all processes except the first.

        Raises:
            UserError: the Hub refuses the push or a value of the card, or the network fails. The output folder is
                complete.
        """
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        self.save_model(_internal_call=True)
        if not self.is_world_process_zero():
            return None
        self.create_model_card(**kwargs)
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

    def create_model_card(
        self,
        language: OneOrSeveral = None,
        license: str | None = None,
        tags: OneOrSeveral = None,
        model_name: str | None = None,
        finetuned_from: str | None = None,
        tasks: OneOrSeveral = None,
        dataset_tags: OneOrSeveral = None,
        dataset: OneOrSeveral = None,
        dataset_args: OneOrSeveral = None,
    ) -> None:
        """Write the model's card to the output folder: classes, rows, method, and figures of the last evaluation.

        What is given once holds for later cards of this trainer, too, for example that of `push_to_hub`. Nothing is
        looked up: without `license` and `dataset`, the card names none.

        Args:
            language: codes of ISO 639, for example "en".
            license: the Hub's identifier, for example "apache-2.0".
            tags: further tags.
            model_name: the title. Default: the number of classes.
            finetuned_from: Hub name of the encoder. Default: that of the model's configuration, if it is one.
            tasks: tasks of the Hub. Default: text-classification.
            dataset_tags: Hub names of the training data. Default: those of `dataset` that are names such as user/name.
            dataset: titles of the training data.
            dataset_args: configurations of the data sets.

        Raises:
            UserError: a value that the Hub would refuse.
        """
        if not self.is_world_process_zero():
            return
        values = {
            "language": language, "license": license, "model_name": model_name, "finetuned_from": finetuned_from,
            "tasks": tasks, "dataset_tags": dataset_tags, "dataset": dataset, "dataset_args": dataset_args,
        }  # fmt: skip
        given = self._given_to_cards | {name: value for name, value in values.items() if value is not None}
        own_tags = getattr(self.model, "model_tags", None)
        given["tags"] = [*several(given.get("tags")), *several(own_tags), *several(tags)]
        text = card_of(self, {"name": self._model_folder.absolute().name, **given})
        Path(str(self.args.output_dir), CARD).write_text(text, encoding="utf-8")
        self._given_to_cards = given

    def _publish(self, folder: Path, *, token: str | None, revision: str | None, message: str) -> CommitInfo:
        name, revision = str(self.hub_model_id), revision or self.args.hub_revision
        files = with_names(model_files(folder), name, revision)
        done = push_files(files, name, revision=revision, message=message, token=token or self.args.hub_token)
        if done.deleted:
            logger.warning(f"{name}: deleted files of an earlier push: {', '.join(done.deleted)}")
        return done.info

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
