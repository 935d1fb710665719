"""What a trainer is made of: its keywords are checked, and its method and model are chosen, before anything is trained."""

import difflib
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from transformers import Trainer

from sstext.errors import UserError
from sstext.methods.registry import build
from sstext.training.models import give_names, load_by_name, with_adapter
from sstext.training.rows import class_names, number_of_classes

#: The method if there are unlabeled rows, but no method is named. Of the methods inside a step, it is the one that gained in
#: short trainings and harmed in none (recipes/benchmark/RESULTS.md), and it has no pseudo-labels that could be wrong.
DEFAULT_METHOD = "r-drop"
#: Keywords that `Trainer` had in earlier versions → what has replaced them.
FORMER = {"tokenizer": "processing_class"}
#: Arguments that order the rows of `Trainer`, with their defaults. Older versions of transformers have `group_by_length`.
ORDER_OF_ROWS = {"train_sampling_strategy": "random", "group_by_length": False, "length_column_name": "length"}


def check_keywords(given: Iterable[str], own: Iterable[str]) -> None:
    """Refuse keywords that a trainer does not have.

    Args:
        given: the keywords.
        own: keywords of the trainer itself, beside those of `Trainer`.

    Raises:
        UserError: with the nearest keyword.

    >>> check_keywords(["unlabelled_dataset"], ["unlabeled_dataset"])
    Traceback (most recent call last):
    ...
    sstext.errors.UserError: the trainer has no argument 'unlabelled_dataset'; did you mean unlabeled_dataset?
    """
    known = {*inspect.signature(Trainer.__init__).parameters, *own} - {"self", "kwargs"}
    for name in given:
        if name not in known:
            close = [FORMER[name]] if name in FORMER else difflib.get_close_matches(name, sorted(known), n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(known))}"
            raise UserError(f"the trainer has no argument {name!r}; {hint}")


def refuse_with_pairs(args: Any, compute_loss_func: Any) -> None:
    """Refuse arguments that have no effect if the objective computes the loss of paired batches.

    Raises:
        UserError: names the argument.
    """
    if compute_loss_func is not None:
        raise UserError("compute_loss_func: the objective computes the loss here; give method=Objective(…) instead")
    if args.dataloader_persistent_workers:
        raise UserError("dataloader_persistent_workers: persistent workers do not notice a new epoch; leave it off")
    for name, usual in ORDER_OF_ROWS.items():
        if getattr(args, name, usual) != usual:
            raise UserError(
                f"{name}: batches keep the share of labeled rows, so their order is not chosen; leave it at {usual!r}"
            )


def default_method(has_unlabeled_rows: bool, regularizers: Mapping[str, Any]) -> str:
    """The method of a trainer that is not told any.

    >>> default_method(False, {}), default_method(True, {}), default_method(True, {"entropy": 0.1})
    ('supervised', 'r-drop', 'supervised')
    """
    read = not build("supervised", {}, regularizers).supervised  # a further loss already learns from the unlabeled rows
    return DEFAULT_METHOD if has_unlabeled_rows and not read else "supervised"


def default_in_words() -> str:
    """Say which method was chosen, and how to choose another one."""
    return (
        f"unlabeled_dataset without a method: {DEFAULT_METHOD} is used; name one with method=…, for example "
        "method='supervised' to train on the labeled rows alone"
    )


@dataclass(frozen=True)
class Preparation:
    """What happens to a model before it is trained: its classes get names, and it gets an adapter.

    Attributes:
        names: names of the classes in the labeled rows. None if labels are numbers only.
        number: number of classes in the labeled rows, if it is known.
        peft_config: of the adapter. Default: none.
    """

    names: list[str] | None
    number: int | None
    peft_config: Any = None

    @classmethod
    def of(cls, labeled: Any, peft_config: Any) -> "Preparation":
        """The preparation for labeled rows, raw or tokenized."""
        return cls(class_names(labeled), number_of_classes(labeled), peft_config)

    def load(self, name: str, arguments: dict[str, Any], tokenizer: Any, seed: int) -> tuple[Any, Any]:
        """Load a model and its tokenizer by name, see `load_by_name`."""
        return load_by_name(name, arguments, tokenizer, names=self.names, number=self.number, seed=seed)

    def __call__(self, model: Any) -> Any:
        """Prepare a model, in place. With an adapter, another object is returned.

        Raises:
            UserError: see `give_names` and `with_adapter`.
        """
        if self.names is not None:
            give_names(model.config, self.names)
        return model if self.peft_config is None else with_adapter(model, self.peft_config)
