"""The catalog of methods and regularizers, read from the code that composes them.

`sstext methods` and the table in recipes/guide/methods.md are both made from it, so they always match the code.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sstext.errors import UserError, nearest
from sstext.methods.registry import METHODS, OF_ROUNDS, build, compose
from sstext.objective.objective import Objective
from sstext.objective.regularizers import REGULARIZERS
from sstext.pseudolabels.admission import Admission

#: Stage of a regularizer.
BESIDE = "beside any method"


@dataclass(frozen=True)
class Argument:
    """One argument of a method or regularizer: its default, its effect and the paper's value."""

    name: str
    default: Any
    help: str


@dataclass(frozen=True)
class Entry:
    """A method, or a regularizer that any method can add, as shown to users.

    Attributes:
        idea: its effect in one line.
        formula: the loss, and its differences from the paper.
        when: when to use it.
        source: paper and equations. Empty without a paper.
        composition: its parts, by axis.
        tasks: the tasks that it supports.
        stage: where it acts: inside a step, between rounds, both, or beside any method.
    """

    name: str
    idea: str
    formula: str
    when: str
    source: str
    arguments: list[Argument]
    composition: str
    tasks: str
    stage: str

    @property
    def paper(self) -> str:
        """Authors and year of the source."""
        return self.source.partition(",")[0]


def pages(name: str) -> list[Entry]:
    """The entries with this name: a method, a regularizer, or both.

    Raises:
        UserError: no method or regularizer has this name.

    >>> [page.stage for page in pages("r-drop")]
    ['inside a step', 'beside any method']
    """
    if name not in METHODS and name not in REGULARIZERS:
        known = dict.fromkeys([*METHODS, *REGULARIZERS])
        raise UserError(f"no method or regularizer {name!r}; {nearest(name, known)}")
    method = [entry(name)] if name in METHODS else []
    return method + ([regularizer_entry(name)] if name in REGULARIZERS else [])


def entry(name: str) -> Entry:
    """The entry of a method.

    >>> entry("fixmatch").composition
    'Self · Hard · Threshold · Augmented · cross_entropy'
    """
    objective = build(name)
    method = compose(name) if name in OF_ROUNDS else None
    where = "inside a step" if method is None else "between rounds" if method.between_rounds else "both"
    return Entry(
        name=name,
        arguments=_arguments(METHODS[name]),
        composition=_composition_of(objective, method.selection if method is not None else None),
        tasks=", ".join(objective.tasks),
        stage=where,
        **_sections(METHODS[name]),
    )


def _composition_of(objective: Objective, admission: Admission | None) -> str:
    if admission is None:
        return composition(objective)
    added = [type(part).__name__ for part in objective.regularizers]
    return " + ".join([composition_between_rounds(admission), *added])


def regularizer_entry(name: str) -> Entry:
    """The entry of a regularizer.

    >>> [(argument.name, argument.default) for argument in regularizer_entry("clustering").arguments]
    [('strength', 0.1), ('balance', 1.0), ('prior', None)]
    """
    loss = REGULARIZERS[name]
    return Entry(
        name=name,
        arguments=_arguments(loss),
        composition="",
        tasks=", ".join(Objective.tasks),
        stage=BESIDE,
        **_sections(loss),
    )


def composition(objective: Objective) -> str:
    """The parts of an objective in the order teacher, target, weight, view, divergence, additional losses."""
    parts = []
    if objective.teacher is not None:
        axes = (objective.teacher, objective.target, objective.weight, objective.view)
        parts = [*(type(part).__name__ for part in axes), objective.divergence.__name__]
    elif not objective.supervised:
        parts = [type(objective.view).__name__]
    added = [type(part).__name__ for part in objective.regularizers]
    if objective.label_weight is not None:
        added.append(f"{type(objective.label_weight).__name__} of the labels")
    return " + ".join([" · ".join(parts) or "labels alone", *added])


def composition_between_rounds(admission: Admission) -> str:
    """The parts of an admission in the order teacher, target, weight, view, and then the selection of rows."""
    teacher = "teacher, dropout on" if admission.passes else "teacher"
    view = "Augmented" if admission.noise else "Same"
    order = "largest mean margin over rounds" if admission.history else admission.order.__name__
    rows = {"prior": f"{order} by prior", "equal": f"{order}, the same number of each class", "none": "all of them"}
    parts = (type(part).__name__ for part in (admission.target, admission.weight))
    return " · ".join([teacher, *parts, view, rows[admission.quotas]])


def described(method: str, method_args: Mapping[str, Any], regularizers: Mapping[str, Any]) -> str:
    """Describe a method with its arguments and further losses.

    >>> described("fixmatch", {"threshold": 0.9}, {"entropy": 0.1})
    'fixmatch (threshold=0.9) + entropy 0.1'
    """
    arguments = ", ".join(f"{name}={value}" for name, value in method_args.items())
    named = [f"{method} ({arguments})" if arguments else method]
    return " + ".join(named + [f"{name} {strength}" for name, strength in regularizers.items()])


def named(method: str, regularizers: Iterable[str]) -> str:
    """The name of a method with those of its further losses, for messages.

    >>> named("supervised", {"entropy": 0.1})
    'supervised with entropy'
    """
    return " with ".join([method, *filter(None, [", ".join(regularizers)])])


def markdown_table() -> str:
    """The table of methods in recipes/guide/methods.md."""
    lines = ["| method | paper | composition | when to use |", "|---|---|---|---|"]
    for name in METHODS:
        found = entry(name)
        lines.append(f"| `{name}` | {found.paper or '–'} | {found.composition} | {found.when} |")
    return "\n".join(lines)


def _sections(function: Callable[..., Any]) -> dict[str, str]:
    """Split a docstring into idea, formula, when and source."""
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    joined = [" ".join(line.strip() for line in paragraph.splitlines()) for paragraph in paragraphs]
    found = {"idea": joined[0], "formula": "", "when": "", "source": ""}
    for paragraph in joined[1:]:
        label, _, text = paragraph.partition(": ")
        if label in ("When", "Source"):
            found[label.lower()] = text
        elif label not in ("Args", "*Relations*") and not paragraph.startswith(">>>") and not found["formula"]:
            found["formula"] = paragraph
    return found


def _arguments(function: Callable[..., Any]) -> list[Argument]:
    helps: dict[str, str] = {}
    for documented in reversed(inspect.getmro(function)) if inspect.isclass(function) else [function]:
        text = inspect.cleandoc(documented.__doc__ or "").partition("\nArgs:\n")[2].partition("\n\n")[0]
        found = re.findall(r"^ {4}(\w+): (.*?)(?=^ {4}\w+: |\Z)", text, re.MULTILINE | re.DOTALL)
        helps |= {name: " ".join(meaning.split()) for name, meaning in found}
    return [
        Argument(name, parameter.default, helps.get(name, ""))
        for name, parameter in inspect.signature(function).parameters.items()
    ]
