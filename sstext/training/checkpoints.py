"""CheckpointTrainer: checkpoints hold the state of the objective, and the method that made them."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from sstext.errors import UserError
from sstext.methods.catalog import described
from sstext.objective.objective import Objective
from sstext.training.component_log import ComponentLogTrainer
from sstext.training.heads import TokenHeadTrainer
from sstext.training.teacher_weights import TeacherTrainer

STATE_FILE = "semi_supervised_state.safetensors"
METHOD_FILE = "semi_supervised_method.json"
OBJECTIVE, TEACHER = "objective.", "objective.teacher."


class CheckpointTrainer(TeacherTrainer, TokenHeadTrainer, ComponentLogTrainer):
    """A `Trainer` whose checkpoints also hold the state of the objective, so that a resumed training ends in the same bits.

    A checkpoint can only be resumed with the method that made it.
    """

    args: Any
    training_objective: Objective

    @property
    def chosen_method(self) -> str | Objective:
        """The method of the training: a name, or an objective."""
        raise NotImplementedError

    @property
    def paired(self) -> bool:
        """Whether the objective computes the loss, and so has a state to save."""
        raise NotImplementedError

    def method_record(self) -> dict[str, Any]:
        """What a checkpoint records of the method. Of an `Objective`, these are the kinds of its parts."""
        method = self.chosen_method
        if isinstance(method, Objective):
            return {"objective": [type(part).__name__ for part in method.parts()]}
        record = {"method": method, "method_args": self.args.method_args, "regularizers": self.args.regularizers}
        return json.loads(json.dumps(record, default=str))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.args.should_save:
            text = json.dumps(self.method_record(), indent=2, ensure_ascii=False)
            Path(output_dir, METHOD_FILE).write_text(text + "\n", encoding="utf-8")
        if not self.paired:
            return
        state = {OBJECTIVE + name: value for name, value in self.training_objective.state_dict().items()}
        state |= self.token_head_state() | self.student_state() | self.sums_state()
        if self.args.should_save:
            # Cloned, because a shared part would be the same memory under two names, which safetensors refuses.
            save_file(
                {name: value.cpu().contiguous().clone() for name, value in state.items()}, Path(output_dir, STATE_FILE)
            )

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self._refuse_other_method(resume_from_checkpoint)
        super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _refuse_other_method(self, checkpoint: str) -> None:
        """Refuse a checkpoint of another method, before anything of it is loaded.

        Raises:
            UserError: its record, or the absence of a state, says so.
        """
        record, asked = Path(checkpoint, METHOD_FILE), self.method_record()
        if not record.is_file():  # of an earlier version, or of a plain `Trainer`
            if Path(checkpoint).is_dir() and Path(checkpoint, STATE_FILE).is_file() != self.paired:
                has = "no state of a method" if self.paired else "the state of a method"
                raise UserError(
                    f"resume_from_checkpoint: {checkpoint} has {has}, but this training uses {_said(asked)}; {_REMEDY}"
                )
            return
        made = json.loads(record.read_text(encoding="utf-8"))
        if made != asked:
            raise UserError(
                f"resume_from_checkpoint: {checkpoint} was made by {_said(made)}, but this training uses {_said(asked)}; "
                f"{_REMEDY}"
            )

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None or not self.paired:
            return
        state = self._state_of(checkpoint)
        own = {name.removeprefix(OBJECTIVE): value for name, value in state.items() if name.startswith(OBJECTIVE)}
        try:
            self.training_objective.load_state_dict(own)
        except RuntimeError as error:
            raise UserError(
                f"resume_from_checkpoint: the state of {checkpoint} does not fit {_said(self.method_record())} with these "
                f"rows; {_REMEDY} ({' '.join(str(error).split())[:200]})"
            ) from None
        self.load_token_head(state)
        self.load_student(state)
        self.load_sums(state)

    def _load_best_model(self) -> None:
        """Load the best model. A teacher with weights of its own is that of the same step."""
        super()._load_best_model()
        teacher = self.training_objective.teacher
        if teacher is None or not teacher.has_weights:
            return
        best = str(self.state.best_model_checkpoint)
        if not Path(best, STATE_FILE).is_file():  # `save_only_model`: what was saved is all that there is
            teacher.bind_student(self.accelerator.unwrap_model(self.model))
            teacher.to(self.args.device)
            return
        state = self._state_of(best)
        self.load_student(state)
        teacher.load_state_dict({k.removeprefix(TEACHER): v for k, v in state.items() if k.startswith(TEACHER)})

    def _state_of(self, checkpoint: str) -> dict[str, Tensor]:
        path = Path(checkpoint, STATE_FILE)
        if not path.is_file():
            raise UserError(
                f"resume_from_checkpoint: {checkpoint} has no {STATE_FILE}; it may have been saved with save_only_model, so "
                "train anew"
            )
        return load_file(path, device=str(self.args.device))


_REMEDY = "give the method of the checkpoint, or train anew in another output_dir, without resume_from_checkpoint"


def _said(record: dict[str, Any]) -> str:
    """A record of a method in words.

    >>> _said({"method": "fixmatch", "method_args": {"threshold": 0.9}, "regularizers": {}})
    'fixmatch (threshold=0.9)'
    """
    if "objective" in record:
        return f"an Objective of {', '.join(record['objective']) or 'labeled rows alone'}"
    return described(record["method"], record["method_args"], record["regularizers"])
