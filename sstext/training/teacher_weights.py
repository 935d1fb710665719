"""TeacherTrainer: the student's or the teacher's weights are evaluated and saved."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from transformers import Trainer

from sstext.errors import UserError
from sstext.objective.objective import Objective

STUDENT = "student."  # prefix of the student's weights in a checkpoint whose model is the teacher


class TeacherTrainer(Trainer):
    """A `Trainer` for methods whose teacher has weights of its own, an average of the student's.

    `args.eval_teacher` chooses which of the two `evaluate` and `predict` use, `args.save_teacher` which are saved: in
    checkpoints, as the best ones, by `save_model` and by `push_to_hub`. `model` always is the student.
    """

    args: Any
    model: Any
    training_objective: Objective

    @property
    def saves_teacher(self) -> bool:
        """Whether the teacher's weights are saved. Default: if they are evaluated."""
        return self.args.eval_teacher if self.args.save_teacher is None else self.args.save_teacher

    def check_teacher(self, objective: Objective, name: str) -> None:
        """Check that there are weights of a teacher if they are asked for.

        Raises:
            UserError: the method has no teacher with weights of its own, or weights are sharded over devices.
        """
        for option in ("eval_teacher", "save_teacher"):
            if not getattr(self.args, option):
                continue
            if objective.teacher is None or not objective.teacher.has_weights:
                raise UserError(
                    f"{option}: {name} has no teacher with weights of its own; leave it out, or use mean-teacher"
                )
            if self.is_fsdp_enabled or self.is_deepspeed_enabled:
                raise UserError(f"{option} needs whole weights on every device; leave FSDP and DeepSpeed out")

    def weights_in_words(self, objective: Objective, name: str) -> str:
        """Say which weights are evaluated and saved, or nothing if there are only the student's."""
        if objective.teacher is None or not objective.teacher.has_weights:
            return ""
        used = {True: "the teacher's (averaged) weights", False: "the student's weights"}
        evaluated, saved = used[self.args.eval_teacher], used[self.saves_teacher]
        return f"{name}: {evaluated} are evaluated (eval_teacher), and {saved} are saved (save_teacher)"

    @contextmanager
    def _teacher_weights(self, wanted: bool) -> Iterator[None]:
        """In this block, the model has the teacher's weights, if they are wanted. Before a training, there are none yet."""
        own = self._parameters()
        teacher = self._weights_of_teacher() if wanted else {}
        student = {name: own[name].data for name in teacher}
        try:
            for name, weight in teacher.items():
                own[name].data = weight.to(own[name])
            yield
        finally:
            for name, data in student.items():
                own[name].data = data

    def evaluation_loop(self, *arguments: Any, **keywords: Any) -> Any:
        with self._teacher_weights(self.args.eval_teacher):
            return super().evaluation_loop(*arguments, **keywords)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        with self._teacher_weights(self.saves_teacher):
            super()._save(output_dir, state_dict)

    def student_state(self) -> dict[str, Tensor]:
        """The trained weights of the student for a checkpoint whose model is the teacher. Otherwise empty."""
        own, names = self._parameters(), self._weights_of_teacher() if self.saves_teacher else {}
        return {STUDENT + name: own[name].data for name in names}

    def load_student(self, state: dict[str, Tensor]) -> None:
        """Restore the student from a checkpoint's state. The state may contain other entries, or no student."""
        own = self._parameters()
        for name, weight in state.items():
            if name.startswith(STUDENT):
                own[name.removeprefix(STUDENT)].data.copy_(weight)

    def _weights_of_teacher(self) -> dict[str, Tensor]:
        teacher = self.training_objective.teacher
        return {} if teacher is None else teacher.weights()

    def _parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.accelerator.unwrap_model(self.model).named_parameters())
