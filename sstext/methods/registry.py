"""Published methods as compositions: one documented function per paper.

Each returns an `Objective`; those of the round loop an `Objective` for the steps and an `Admission` between two rounds.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from sstext.errors import UserError, nearest
from sstext.methods.auto import auto
from sstext.methods.confidence import adamatch, dash, fixmatch, flexmatch, freematch, pseudo_label, softmatch, uda
from sstext.methods.consistency import mean_teacher, pi_model, r_drop, temporal_ensembling, vat
from sstext.methods.rounds import margin_history, noisy_student, self_training, ust
from sstext.objective.objective import Objective
from sstext.objective.part import in_range
from sstext.objective.regularizers import REGULARIZERS
from sstext.pseudolabels.admission import Admission


def supervised() -> Objective:
    """Fine-tuning on the labeled (and, between rounds, pseudo-labeled) rows alone.

    L = mean H(label, p). Unlabeled rows play no part inside a step; the round loop may still use them.

    When: there is no unlabeled text, or to see what every other method must beat.
    """
    return Objective()


#: Name on the command line → the function that composes the method.
METHODS: dict[str, Callable[..., Objective | tuple[Objective, Admission]]] = {
    "auto": auto,
    "supervised": supervised,
    "pseudo-label": pseudo_label,
    "pi-model": pi_model,
    "temporal-ensembling": temporal_ensembling,
    "mean-teacher": mean_teacher,
    "vat": vat,
    "uda": uda,
    "fixmatch": fixmatch,
    "flexmatch": flexmatch,
    "dash": dash,
    "adamatch": adamatch,
    "softmatch": softmatch,
    "freematch": freematch,
    "r-drop": r_drop,
    "self-training": self_training,
    "margin-history": margin_history,
    "noisy-student": noisy_student,
    "ust": ust,
}


#: Methods of the round loop; the others work inside a step, and `auto` does both.
BETWEEN_ROUNDS = frozenset({"self-training", "margin-history", "noisy-student", "ust"})


def build(
    name: str,
    arguments: Mapping[str, Any] | None = None,
    regularizers: Mapping[str, Any] | None = None,
    strength: float | None = None,
) -> Objective:
    """The objective of a named method, its arguments checked against the signature first.

    Args:
        name: of the method.
        arguments: of the method's function.
        regularizers: name → strength of further losses.
        strength: λ, in the place of the method's own.

    Raises:
        UserError: no such method, argument or regularizer (the nearest names are given), or a value out of range.

    >>> build("fixmatch", {"threshold": .9}).weight.threshold
    0.9
    """
    objective, _ = _composed(name, arguments)
    for further, number in (regularizers or {}).items():
        if further not in REGULARIZERS:
            raise UserError(f"regularizers: no regularizer {further!r}; {nearest(further, REGULARIZERS)}")
        try:
            added = REGULARIZERS[further](number)
        except (TypeError, UserError) as error:
            raise UserError(f"regularizers: {further}: {error}") from None
        if any(type(added) is type(there) for there in objective.regularizers):
            raise UserError(f"regularizers: {name} has {further} already; give its strength by --method-args")
        objective.regularizers.append(added)
    if strength is not None:
        if objective.teacher is None:
            raise UserError(f"unsupervised_strength: {name} has no loss of a teacher's labels to weigh; leave it out")
        objective.strength = in_range("unsupervised_strength", strength, 0)
    return objective


def admission_of(name: str, arguments: Mapping[str, Any] | None = None) -> Admission | None:
    """What a method of the round loop decides between two rounds; None for a method that works inside a step.

    Args:
        name, arguments: as of `build`, with its errors.

    >>> admission_of("self-training", {"threshold": .9}).weight.threshold
    0.9
    """
    return _composed(name, arguments)[1]


def _composed(name: str, arguments: Mapping[str, Any] | None) -> tuple[Objective, Admission | None]:
    if not isinstance(name, str):
        raise UserError(
            f"method: expected a name, found {type(name).__name__}; a composition of the round loop is given by its name and "
            "arguments (method='ust', method_args={…}), one for a step as an Objective to SemiSupervisedTrainer"
        )
    method = METHODS.get(name)
    if method is None:
        raise UserError(f"method: no method {name!r}; {nearest(name, METHODS)}")
    known = inspect.signature(method).parameters
    for argument in arguments or {}:
        if argument not in known:
            raise UserError(f"method_args: {name} has no argument {argument!r}; {nearest(argument, known)}")
    try:
        composed = method(**(arguments or {}))
    except (TypeError, UserError) as error:
        raise UserError(f"method_args of {name}: {error}") from None
    return composed if isinstance(composed, tuple) else (composed, None)
