"""SemiSupervisedTrainingArguments: `TrainingArguments` with our options as fields."""

import copy
import difflib
import json
import typing
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass
from functools import wraps
from types import MappingProxyType, UnionType
from typing import Any

from transformers import TrainingArguments

from sstext.config.old_options import MOVED
from sstext.config.option_groups import DataOptions, SemiSupervisedOptions, TrainingOptions
from sstext.config.options import checked, default_of, option, options
from sstext.config.pairs import from_pairs
from sstext.config.run_config import checked_class_weight, checked_edits
from sstext.errors import UserError
from sstext.hub.publishing import refuse_whole_checkpoints
from sstext.methods.registry import check_name


def _same_help(group: type, name: str) -> str:
    return options(group)[name].metadata["help"]


@dataclass
class SemiSupervisedTrainingArguments(SemiSupervisedOptions, TrainingArguments):
    """`TrainingArguments` with the semi-supervised options as fields, so that hyper-parameter search reaches them.

    All defaults of `TrainingArguments` apply. With 20–500 labels, the new head needs a much larger rate than the encoder. In
    `sstext train`, the head has 1e-3. The encoder has 1e-4 in the stages of `auto` and in rounds, and 2e-4 in all other
    trainings. Here, both have the same rate by default.

    Our options are checked whenever they are set. A mapping is a dict, JSON or KEY=VALUE …, as `HfArgumentParser` reads it,
    and one of its keys is set by a name with a dot.

    Raises:
        UserError: an option has another type or is out of range, or a name with a dot is not a key of a mapping.

    >>> arguments = SemiSupervisedTrainingArguments("out", use_cpu=True, method_args='{"threshold": 0.9}')
    >>> setattr(arguments, "method_args.strength", 0.5)
    >>> arguments.method_args, arguments.unlabeled_batch_ratio
    ({'threshold': 0.9, 'strength': 0.5}, 2.0)
    """

    class_weight: dict[str, float] | str | None = option(None, _same_help(SemiSupervisedOptions, "class_weight"))
    head_learning_rate: float | None = option(None, _same_help(TrainingOptions, "head_learning_rate"))
    max_length: int | None = option(None, _same_help(DataOptions, "max_length"))
    student_noise: bool = option(
        True, "Whether labeled and pseudo-labeled rows get token edits. It has no effect without pseudo-labels."
    )
    eval_teacher: bool = option(
        False,
        "Whether the teacher's averaged weights are evaluated instead of the student's, for methods such as mean-teacher. "
        "Default: false. Try it in long trainings; in short ones, the average still holds much of the untrained start.",
    )
    save_teacher: bool | None = option(
        None,
        "Whether the teacher's averaged weights are saved instead of the student's, also as the best ones. Default: as "
        "eval_teacher, so that what is evaluated is saved.",
    )
    merge_adapter: bool = option(
        False,
        "Whether a model with an adapter (peft_config) is saved as an ordinary model, with the adapter merged. Default: false, "
        "which saves the adapter alone. Checkpoints always have the adapter.",
    )
    model_init_kwargs: dict[str, Any] = option(
        {},
        "Arguments of from_pretrained if the trainer gets a model by name, for example attn_implementation=sdpa. Default: "
        "none. The number and the names of the classes are those of the labels.",
    )

    #: What sets the learning rate, for messages, if it is an option of a run. It is no field.
    rate_option = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_whole_checkpoints(self.hub_strategy)

    def __setattr__(self, name: str, value: Any) -> None:
        field, dot, key = name.partition(".")
        if dot:
            if field not in MAPPINGS:
                raise UserError(f"{name}: expected a key of {' or '.join(MAPPINGS)}, such as method_args.threshold")
            value = {**getattr(self, field), key: value}
        super().__setattr__(field, _checked_argument(field, value) if field in OUR_FIELDS else value)


#: Our options among the arguments. Most are also options of a run, and have the same ranges.
OUR_FIELDS = options(SemiSupervisedTrainingArguments) | {
    "head_learning_rate": options(TrainingOptions)["head_learning_rate"],
    "max_length": options(DataOptions)["max_length"],
}


def _types(spec: Field) -> tuple[Any, ...]:
    """The types that the value of an option may have."""
    return typing.get_args(spec.type) if isinstance(spec.type, UnionType) else (spec.type,)


#: Options that may be mappings.
MAPPINGS = tuple(
    name for name, spec in OUR_FIELDS.items() if any(typing.get_origin(kind) is dict for kind in _types(spec))
)


def _not_zero(share: float) -> float:
    if share == 0:
        raise UserError("gold_share: expected more than 0, so that every batch has labeled rows, found 0")
    return share


def _known_method(name: str | None) -> str | None:
    if name is not None:
        check_name(name)
    return name


#: What is checked of a value beside its type and range.
FURTHER_CHECKS: dict[str, Callable[[Any], Any]] = {
    "edits": checked_edits, "gold_share": _not_zero, "method": _known_method, "class_weight": checked_class_weight,
}  # fmt: skip


def _checked_argument(name: str, value: Any) -> Any:
    words = [value] if isinstance(value, str) else value
    if name in MAPPINGS and isinstance(words, list) and all(isinstance(word, str) for word in words):
        is_word = str in _types(OUR_FIELDS[name]) and len(words) == 1 and not any(sign in words[0] for sign in "={")
        value = words[0] if is_word else _mapping(name, words)
    return FURTHER_CHECKS.get(name, lambda found: found)(checked(name, value, OUR_FIELDS[name]))


def _mapping(name: str, words: list[str]) -> dict[str, Any]:
    """A mapping as people write it on a command line: JSON or KEY=VALUE …."""
    try:
        if len(words) != 1 or not words[0].lstrip().startswith("{"):
            return from_pairs(words)
        return json.loads(words[0])
    except (UserError, json.JSONDecodeError) as problem:
        raise UserError(f"{name}: expected JSON or KEY=VALUE …: {problem}") from None


def _for_argparse(arguments: type) -> None:
    """Give a class of arguments fields of its own, which `HfArgumentParser` can read.

    The parser passes all metadata of a field to argparse, which knows only some keys. It also changes the types of the
    fields that it reads, so they cannot be those of the options.
    """
    for name, spec in options(arguments).items():
        kept: dict[str, Any] = {"help": spec.metadata["help"].replace("%", "%%")}
        if spec.metadata["choices"]:
            kept["choices"] = spec.metadata["choices"]
        if name in MAPPINGS:
            kept["nargs"] = "+"
            arguments.__annotations__[name] = Mapping | str | None  # the parser then reads words
        own = copy.copy(spec)
        own.metadata = MappingProxyType(kept)
        arguments.__dataclass_fields__[name] = own  # type: ignore[attr-defined]


_for_argparse(SemiSupervisedTrainingArguments)


def our_arguments(args: Any) -> SemiSupervisedTrainingArguments:
    """The arguments of a trainer as ours. Plain `TrainingArguments` keep all their values; our fields get their defaults.

    Raises:
        UserError: they are no `TrainingArguments`.
    """
    if args is None:
        return SemiSupervisedTrainingArguments("tmp_trainer")
    if isinstance(args, SemiSupervisedTrainingArguments):
        return args
    if not isinstance(args, TrainingArguments):
        raise UserError(f"args: expected SemiSupervisedTrainingArguments, found {type(args).__name__}")
    # Copied, not constructed: a second construction would set up devices again, and does not take all resolved values.
    ours = object.__new__(SemiSupervisedTrainingArguments)
    for name, spec in SemiSupervisedTrainingArguments.__dataclass_fields__.items():
        if name not in vars(args):
            object.__setattr__(ours, name, default_of(spec))
    vars(ours).update(vars(args))
    return ours


def _named_errors(generated: Callable[..., None]) -> Callable[..., None]:
    """The generated `__init__`, with an error that names the new argument for a former one."""
    fields = SemiSupervisedTrainingArguments.__dataclass_fields__

    @wraps(generated)
    def initialize(self: Any, *args: Any, **given: Any) -> None:
        for name in given.keys() - fields.keys():
            argument, key = MOVED.get(name, ("", ""))
            if argument in fields:
                raise UserError(f"argument {name!r} has been replaced; use {argument}={{{key!r}: …}}")
            if key in fields:
                raise UserError(f"argument {name!r} has been replaced; use {key}=…")
            close = difflib.get_close_matches(name, fields, n=3, cutoff=0.6)
            if close:
                raise UserError(f"no argument {name!r}; did you mean {', '.join(close)}?")
        generated(self, *args, **given)

    return initialize


SemiSupervisedTrainingArguments.__init__ = _named_errors(  # type: ignore[method-assign]
    SemiSupervisedTrainingArguments.__init__
)
