"""SearchTrainer: a `Trainer` whose search over hyperparameters reaches the method, and whose trials are independent."""

from collections.abc import Mapping
from typing import Any

from transformers import Trainer
from transformers.trainer_utils import BestRun, number_of_arguments

from sstext.errors import UserError, nearest
from sstext.interrupts import handlers_kept
from sstext.objective.objective import Objective
from sstext.training.arguments import OUR_FIELDS

#: Options that are used once, when the trainer is made, and what to do instead of searching over them.
USED_ONCE = dict.fromkeys(
    ("max_length", "views"), "texts are tokenized when the trainer is made; make a trainer for each value"
)


class SearchTrainer(Trainer):
    """A `Trainer` that searches over training arguments, `method` and the keys of its mappings.

    Every trial starts from the arguments that the trainer had before the search, and they are restored after it. `Trainer`
    keeps the values of the last trial, also for arguments that a trial does not set.
    """

    args: Any
    model_init: Any
    method: Any

    def hyperparameter_search(
        self,
        hp_space: Any = None,
        compute_objective: Any = None,
        n_trials: int = 20,
        direction: str | list[str] = "minimize",
        backend: Any = None,
        hp_name: Any = None,
        **kwargs: Any,
    ) -> BestRun | list[BestRun]:
        """Search as `Trainer` does. A value may be named by a key, for example `method_args.threshold`.

        Args:
            hp_space: trial → name of an argument → value. `{"method_args": {…}}` replaces all arguments of the method, and
                `method_args.threshold` sets one.
            compute_objective, n_trials, direction, backend, hp_name, kwargs: as in `Trainer`.

        Raises:
            UserError: a name is not an argument, a value is refused, or trials would run at the same time in one trainer.
        """
        if kwargs.get("n_jobs", 1) != 1:
            raise UserError(
                f"n_jobs: expected 1, because all trials use this trainer, found {kwargs['n_jobs']!r}; to run several at a "
                "time, start several programs with the same storage and study_name"
            )
        self._before_search: dict[str, Any] = {}
        # Weak references to what an earlier training used. Ray cannot copy them, and every trial makes its own.
        self.accelerator.gradient_state.dataloader_references = [None]
        self.optimizer = self.lr_scheduler = None
        self.callback_handler.optimizer = self.callback_handler.lr_scheduler = None
        self.accelerator.free_memory()
        try:
            with handlers_kept():  # Ray leaves one of its own for Ctrl-C
                return super().hyperparameter_search(
                    hp_space, compute_objective, n_trials, direction, backend, hp_name, **kwargs
                )
        finally:
            self._restore_arguments()
            self._train_batch_size = self.args.train_batch_size
            self.hp_search_backend = None

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> Any:
        """Train as `Trainer` does. The values of a trial are set first, so that its seed also draws the new model."""
        if trial is not None and self.hp_search_backend is not None:
            self._restore_arguments()
            self._set_arguments(trial if isinstance(trial, dict) else self.hp_space(trial), trial)
        return super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)

    def _hp_search_setup(self, trial: Any) -> None:
        """Do what is left after `train` has set the arguments: the batch size, and a new accelerator."""
        space: Any = getattr(self, "hp_space", None)
        self.hp_space = lambda trial: {}
        try:
            super()._hp_search_setup({} if isinstance(trial, dict) else trial)
        finally:
            self.hp_space, self._trial = space, trial

    def _set_arguments(self, values: Mapping[str, Any], trial: Any) -> None:
        for name, value in sorted(values.items(), key=lambda item: "." in item[0]):  # a whole mapping before its keys
            field = name.partition(".")[0]
            self._refuse(field)
            if not hasattr(self.args, field):
                if isinstance(trial, dict) or number_of_arguments(self.model_init):
                    continue  # model_init reads it
                raise UserError(
                    f"hp_space: there is no argument {name!r}; {nearest(name, vars(self.args))} An argument of the method "
                    f"has its mapping before it, as in method_args.{name}"
                )
            before = getattr(self.args, field)
            self._before_search.setdefault(field, before)
            if field not in OUR_FIELDS and before is not None:
                value = type(before)(value)
            setattr(self.args, name, value)

    def _refuse(self, field: str) -> None:
        """Refuse an argument that has no effect in a trial."""
        if field in USED_ONCE:
            raise UserError(f"hp_space: {field} has no effect in a trial: {USED_ONCE[field]}")
        if field == "method" and self.method is not None:
            raise UserError(
                "hp_space: method has no effect in a trial, because the trainer was given one; give it to the arguments "
                "instead (SemiSupervisedTrainingArguments(…, method=…))"
            )
        if field in ("method_args", "regularizers") and isinstance(self.method, Objective):
            raise UserError(
                f"hp_space: {field} has no effect in a trial, because the trainer was given an Objective; give a method by name"
            )

    def _restore_arguments(self) -> None:
        for field, value in self._before_search.items():
            setattr(self.args, field, value)
        self._before_search = {}
