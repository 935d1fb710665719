"""Methods by name: `build` makes what a student minimizes inside a step, `compose` the stages of a whole run."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

from sstext.errors import UserError, nearest
from sstext.methods.auto import auto
from sstext.methods.confidence import adamatch, dash, fixmatch, flexmatch, freematch, pseudo_label, softmatch, uda
from sstext.methods.consistency import mean_teacher, pi_model, r_drop, temporal_ensembling, vat
from sstext.methods.method import UNPROVEN, Method, Stage
from sstext.methods.rounds import (
    class_balanced,
    in_step,
    kind_of_label,
    labels_alone,
    margin_history,
    noisy_student,
    regression,
    self_training,
    ust,
)
from sstext.objective.objective import Objective
from sstext.objective.part import in_range
from sstext.objective.regularizers import REGULARIZERS
from sstext.objective.targets import Soft


def supervised() -> Objective:
    """Fine-tunes on the labeled rows alone.

    L = mean H(label, p). Unlabeled rows are not used.

    When: there is no unlabeled text, or to see what every other method must beat.
    """
    return Objective()


#: Methods inside a step: name → the function that composes their objective.
IN_STEP: dict[str, Callable[..., Objective]] = {
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
}

#: Methods of the round loop: name → the function that composes their stages. `auto` works inside a step, too.
OF_ROUNDS: dict[str, Callable[..., Method]] = {
    "auto": auto,
    "self-training": self_training,
    "class-balanced": class_balanced,
    "margin-history": margin_history,
    "noisy-student": noisy_student,
    "ust": ust,
}

#: All methods by name.
METHODS: dict[str, Callable[..., Objective] | Callable[..., Method]] = {
    "auto": auto, **IN_STEP, **{name: method for name, method in OF_ROUNDS.items() if name != "auto"},
}  # fmt: skip


@dataclass(frozen=True)
class LoopArguments:
    """Arguments that methods take beside their own.

    Attributes:
        strength: λ, the weight of the unlabeled loss inside a step (default: the method's own).
        labels: soft or hard pseudo-labels between rounds. Methods of the round loop have their own default, others use hard.
        min_confidence: probability below which a pseudo-label is never selected.
        start: what the student of a round starts from: `previous` (the student before) or `pretrained` (the encoder).
        stop_agreement: stop if at least this share of the corpus keeps its predicted class (above 1: never; default: .999).
        round_batch_size: labeled and pseudo-labeled rows per step of a round, of the final model and of the start of
            `auto`, over all devices (default: 32).
        round_learning_rate: peak learning rate of the encoder in these trainings (default: 1e-4).
    """

    strength: float | None = None
    labels: str = "hard"
    min_confidence: float = 0.0
    start: str = "previous"
    stop_agreement: float | None = None
    round_batch_size: int | None = None
    round_learning_rate: float | None = None

    def __post_init__(self) -> None:
        kind_of_label(self.labels)
        in_range("min_confidence", self.min_confidence, 0, 1)
        for name in ("stop_agreement", "round_learning_rate"):
            if getattr(self, name) is not None:
                in_range(name, getattr(self, name), 0)
        size = self.round_batch_size
        if size is not None and (type(size) is not int or size < 1):
            raise UserError(f"round_batch_size: expected a whole number of at least 1, found {self.round_batch_size!r}")
        if self.start not in ("previous", "pretrained"):
            raise UserError(f"start: expected previous or pretrained, found {self.start!r}")


def build(
    name: str, arguments: Mapping[str, Any] | None = None, regularizers: Mapping[str, Any] | None = None
) -> Objective:
    """The objective of a named method inside a step.

    Args:
        name: name of the method.
        arguments: arguments of the method's function, and those of `LoopArguments`.
        regularizers: name → strength of further losses.

    Raises:
        UserError: no such method, argument or regularizer (the nearest names are given), or a value out of range.

    >>> build("fixmatch", {"threshold": .9}).weight.threshold
    0.9
    """
    own, loop = _split(name, arguments)
    composed = _called(name, own)
    objective = composed.teacher.objective() if isinstance(composed, Method) else composed
    if loop.strength is not None:
        if objective.teacher is None:
            raise UserError(f"method_args of {name}: it has no pseudo-label loss, so strength has no effect; remove it")
        objective.strength = in_range("strength", loop.strength, 0)
    return with_regularizers(objective, name, regularizers or {})


def check_name(name: str) -> None:
    """Refuse a name that no method has.

    Raises:
        UserError: with the nearest names.
    """
    if name not in METHODS:
        raise UserError(f"method: no method {name!r}; {nearest(name, METHODS)}")


def works_between_rounds_only(name: str, arguments: Mapping[str, Any] | None = None) -> bool:
    """Whether a method uses unlabeled texts between rounds, but not inside a step. A trainer without rounds cannot run it.

    >>> works_between_rounds_only("ust"), works_between_rounds_only("fixmatch"), works_between_rounds_only("supervised")
    (True, False, False)
    """
    return name in OF_ROUNDS and build(name, arguments).plain


def refuse_loop_arguments(name: str, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments of the round loop, for a trainer that has no rounds.

    Raises:
        UserError: an argument that has an effect between rounds only.
    """
    own, _ = _split(name, arguments)
    for argument in arguments:
        if argument not in own and argument != "strength":
            raise UserError(
                f"method_args: {argument} has an effect between rounds only; remove it, or use `sstext train`"
            )


def with_regularizers(objective: Objective, name: str, regularizers: Mapping[str, Any]) -> Objective:
    """Add further losses to the objective of a method.

    Raises:
        UserError: no such regularizer, one that the method has already, or a strength out of range.
    """
    for further, strength in regularizers.items():
        if further not in REGULARIZERS:
            raise UserError(f"regularizers: no regularizer {further!r}; {nearest(further, REGULARIZERS)}")
        try:
            added = REGULARIZERS[further](strength)
        except (TypeError, UserError) as error:
            raise UserError(f"regularizers: {further}: {error}") from None
        if any(type(added) is type(there) for there in objective.regularizers):
            raise UserError(f"regularizers: {name} has {further} already; give its strength by --method-args")
        objective.regularizers.append(added)
    return objective


def compose(
    name: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    regularizers: Mapping[str, Any] | None = None,
    keep: Sequence[float] | None = None,
    align: bool = True,
    compared: bool = False,
    changed: bool = False,
) -> Method:
    """The stages of a run by a named method.

    Args:
        name, arguments, regularizers: as of `build`. A baseline that others are compared with has no regularizers.
        keep: share of the corpus that each round may select (default: the method's own).
        align: whether the mean prediction is aligned to the class shares first, by methods that follow them.
        compared: whether a method inside a step, or `class-balanced` with regularizers, gets a plain baseline that it is
            compared with.
        changed: whether other options change the loss or the texts, so that its expected gain has not been measured.

    Raises:
        UserError: as `build`.

    >>> [stage.name for stage in compose("auto").stages(rounds=2)]
    ['regression', 'start', 'round 1', 'round 2']
    """
    own, loop = _split(name, arguments)
    regularizers = dict(regularizers or {})
    build(name, arguments, regularizers)  # raises the errors
    composed = _called(name, own)
    if isinstance(composed, Method):
        method = composed
        if name == "class-balanced" and compared and regularizers:  # they are compared with a baseline without them
            method = replace(method, first=in_step(Objective, compared=True).first)
    else:
        strength = {"strength": loop.strength} if loop.strength is not None else {}
        objective = partial(build, name, {**own, **strength})
        # A regularizer makes a method of plain fine-tuning, which is compared with a baseline without it.
        compared = compared and not (objective().plain and not regularizers)
        method = labels_alone(compared) if name == "supervised" else in_step(objective, loop.labels, compared)
    changed = changed or not align or bool(regularizers) or tuple(keep or method.keep) != method.keep
    if changed or _changes_composition(name, own, loop):
        method = replace(method, expected_gain=UNPROVEN)  # another composition was measured
    first = tuple(
        _set(stage, loop, {} if stage.name in _without_further_losses(method) else regularizers, name)
        for stage in method.first
    )
    method = replace(
        method, first=first, goes_on=loop.start == "previous",
        stop_agreement=method.stop_agreement if loop.stop_agreement is None else loop.stop_agreement,
        keep=tuple(keep) if keep is not None else method.keep,
        regression=None if method.first[0].frozen else regression(),
    )  # fmt: skip
    return method if method.round is None else _with_round(method, loop, align, regularizers, name)


def _without_further_losses(method: Method) -> set[str]:
    """Names of the stages that the others are compared with. Regularizers do not change them."""
    first = [method.first[0]] if len(method.first) > 1 else []
    return {stage.name for stage in (*first, method.plain) if stage is not None}


def _changes_composition(name: str, own: Mapping[str, Any], loop: LoopArguments) -> bool:
    """Whether arguments change the training rows or the loss. Batch sizes and learning rates do not."""
    known = inspect.signature(METHODS[name]).parameters
    usual = LoopArguments()
    changed = (loop.labels, loop.min_confidence, loop.start) != (usual.labels, usual.min_confidence, usual.start)
    return changed or any(value != known[argument].default for argument, value in own.items())


def _with_round(method: Method, loop: LoopArguments, align: bool, regularizers: Mapping[str, Any], name: str) -> Method:
    """The method with the selection that the arguments of the loop and the shares ask for."""
    assert method.round is not None
    assert method.round.selection is not None
    selection = replace(method.round.selection, min_confidence=loop.min_confidence)
    if method.follows_shares:
        # Soft labels of every row need no quotas: the alignment balances them, and a doubtful row has a doubtful label.
        every_row = isinstance(selection.target, Soft) and min(method.keep) == 1
        selection = replace(selection, align=align, quotas="none" if every_row else "prior")
    stage = replace(_set(method.round, loop, regularizers, name), selection=selection)
    first = tuple(replace(stage, noise=selection.noise) for stage in method.first)
    return replace(method, first=first, round=replace(stage, noise=selection.noise))


def _set(stage: Stage, loop: LoopArguments, regularizers: Mapping[str, Any], name: str) -> Stage:
    """A stage with further losses. A round also gets the batch size and learning rate of rounds."""
    if regularizers:
        stage = replace(stage, objective=partial(_regularized, stage.objective, name, dict(regularizers)))
    if not stage.schedule.of_rounds:
        return stage
    usual = stage.schedule
    schedule = replace(
        usual,
        batch_size=usual.batch_size if loop.round_batch_size is None else loop.round_batch_size,
        learning_rate=usual.learning_rate if loop.round_learning_rate is None else loop.round_learning_rate,
    )
    return replace(stage, schedule=schedule)


def _regularized(objective: Callable[[], Objective], name: str, regularizers: Mapping[str, Any]) -> Objective:
    return with_regularizers(objective(), name, regularizers)


def _split(name: str, arguments: Mapping[str, Any] | None) -> tuple[dict[str, Any], LoopArguments]:
    """Split arguments into those of the method's own function and those that every method takes."""
    if not isinstance(name, str):
        raise UserError(
            f"method: expected a name, found {type(name).__name__}; pass a method of the round loop by its name and arguments "
            "(method='ust', method_args={…}), and a method inside a step as an Objective to SemiSupervisedTrainer"
        )
    check_name(name)
    known = inspect.signature(METHODS[name]).parameters
    common = {field.name for field in fields(LoopArguments)} - ({"labels"} if name in OF_ROUNDS else set())
    own, loop = dict[str, Any](), dict[str, Any]()
    for argument, value in (arguments or {}).items():
        if argument in known:
            own[argument] = value
        elif argument in common:
            loop[argument] = value
        else:
            raise UserError(
                f"method_args: {name} has no argument {argument!r}; {nearest(argument, [*known, *sorted(common)])}"
            )
    try:
        return own, LoopArguments(**loop)
    except (TypeError, UserError) as error:
        raise UserError(f"method_args of {name}: {error}") from None


def _called(name: str, arguments: Mapping[str, Any]) -> Objective | Method:
    try:
        return METHODS[name](**arguments)
    except (TypeError, UserError) as error:
        raise UserError(f"method_args of {name}: {error}") from None
