"""The axes of an objective: what each of them takes, and errors for everything else."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from sstext.errors import UserError
from sstext.objective.regularizers import Regularizer
from sstext.objective.targets import Target
from sstext.objective.teachers import Teacher
from sstext.objective.views import View
from sstext.objective.weights import Weight

#: Axis → the type that it needs, and its description in error messages.
AXES: dict[str, tuple[Any, str]] = {
    "teacher": (Teacher, "a Teacher, such as teachers.EMA()"),
    "target": (Target, "a Target, such as targets.Hard()"),
    "weight": (Weight, "a Weight, such as weights.Threshold(0.95)"),
    "view": (View, "a View, such as views.Augmented()"),
    "divergence": (Callable, "a function of logits and target, such as divergences.kl"),
    "ramp": (Callable, "a function of progress, such as ramps.linear_ramp(0.4)"),
    "label_weight": (Weight, "a Weight, such as weights.TrainingSignalAnnealing()"),
}


def check_axes(**given: Any) -> None:
    """Raise an error if an argument is not a part of its axis. None sets the default, except for the divergence."""
    for axis, found in given.items():
        kind, expected = AXES[axis]
        fits = isinstance(found, kind) and not isinstance(found, type)  # a class is callable, but is not a part
        if not fits and (found is not None or axis == "divergence"):
            raise UserError(f"{axis}: expected {expected}, found {shown(found)}")


def check_regularizers(given: Any) -> None:
    several = isinstance(given, Sequence | nn.ModuleList) and not isinstance(given, str)
    wrong = [found for found in given if not isinstance(found, Regularizer)] if several else [given]
    if wrong:
        raise UserError(
            "regularizers: expected a list of Regularizers, such as [regularizers.Entropy(0.1)], found "
            f"{shown(wrong[0])}"
        )


def shown(found: Any) -> str:
    """A value as an error message shows it.

    >>> from sstext.objective.targets import Hard
    >>> shown("EMA"), shown(Hard()), shown(Hard)
    ("'EMA'", 'Hard()', 'the class Hard: call it')
    """
    if isinstance(found, type):
        return f"the class {found.__name__}: call it"
    return f"{type(found).__name__}()" if isinstance(found, nn.Module) else repr(found)
