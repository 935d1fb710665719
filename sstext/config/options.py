"""An option is a dataclass field with its help. Its value is checked against its type and limits."""

import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, field, fields
from typing import Any

from sstext.errors import UserError

#: Least and greatest value of a number.
SHARE, ANY_NUMBER, POSITIVE = (0.0, 1.0), (0.0, math.inf), (1.0, math.inf)


def option(
    default: Any,
    help: str,
    choices: tuple[str, ...] | None = None,
    *,
    common: bool = False,
    limits: tuple[float, float] | None = None,
    computed: bool = False,
) -> Any:
    """One option: a dataclass field that carries its own help.

    Args:
        default: its default.
        help: what it does, its default, and when to change it.
        choices: values of a word.
        common: whether `--help` shows it; `--help-all` shows all options.
        limits: least and greatest value of a number.
        computed: whether the run computes the value if none is given, for example from the number of rows.
    """
    metadata = {"help": help, "choices": choices, "common": common, "limits": limits, "computed": computed}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def options(config: type) -> dict[str, Field]:
    """Name → field of every option of a config class, in the order of its groups."""
    return {
        spec.name: spec for spec in fields(config) if "computed" in spec.metadata
    }  # transformers has fields with help


def default_of(spec: Field) -> Any:
    """The default of an option."""
    if spec.default_factory is not MISSING:
        return spec.default_factory()
    return spec.default


def checked(name: str, value: Any, spec: Field) -> Any:
    """Return `value` as the type of its option.

    Raises:
        UserError: the value has another type, is out of range, or is or holds a number that is not finite.

    >>> from sstext.config.run_config import RunConfig
    >>> checked("learning_rate", "1e-4", options(RunConfig)["learning_rate"])  # YAML reads 1e-4 as a string
    0.0001
    >>> checked("rounds", "many", options(RunConfig)["rounds"])
    Traceback (most recent call last):
    ...
    sstext.errors.UserError: rounds: expected int, found 'many'
    """
    found = _typed(name, value, spec)
    _refuse_infinite(name, found)
    low, high = spec.metadata.get("limits") or (-math.inf, math.inf)
    if isinstance(found, int | float) and not isinstance(found, bool) and not low <= found <= high:
        bounds = f"at least {low:g}" if high == math.inf else f"a share between {low:g} and {high:g}"
        if high > 1 and high != math.inf:
            bounds = f"a number between {low:g} and {high:.0f}"
        raise UserError(f"{name}: expected {bounds}, found {value}")
    return found


def _refuse_infinite(name: str, value: Any) -> None:
    """Refuse NaN and infinite numbers, also inside of mappings and lists."""
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{name}: expected a finite number, found {value}")
    if isinstance(value, Mapping):
        for key, item in value.items():
            _refuse_infinite(f"{name}: {key}", item)
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse_infinite(name, item)


def _typed(name: str, value: Any, spec: Field) -> Any:
    kind, optional = value_type(spec)
    if optional and isinstance(value, str) and value.lower() in ("none", "null"):
        return None  # how a flag takes back what a recipe sets
    if value is None and (optional or kind is Any):
        return None
    others = typing.get_args(spec.type)[1:] if isinstance(spec.type, types.UnionType) else ()
    choices = spec.metadata.get("choices")
    if choices and value not in choices:
        raise UserError(f"{name}: expected one of {', '.join(choices)}, found {value!r}")
    try:
        if kind is Any:
            return value
        if kind is bool:
            if not isinstance(value, bool):
                raise ValueError
            return value
        if kind is int:
            if isinstance(value, bool) or float(value) != int(float(value)):
                raise ValueError
            return int(float(value))
        if kind is float:
            return float(value)
        if kind is str and isinstance(value, Mapping) and dict[str, str] in others:
            return {str(key): str(text) for key, text in value.items()}
        if kind is str:
            return str(value)
        if typing.get_origin(kind) is list:
            items = value if isinstance(value, list | tuple) else [value]
            if str in others:
                return _one_or_several(items)
            return _names(items) if kind == list[str] else [typing.get_args(kind)[0](item) for item in items]
        if typing.get_origin(kind) is dict and isinstance(value, Mapping):
            return dict(value)
        if typing.get_origin(kind) is dict and isinstance(value, str) and str in others:
            return value
        raise ValueError
    except (TypeError, ValueError, OverflowError):
        label = getattr(kind, "__name__", str(kind)) if typing.get_origin(kind) is None else str(kind)
        raise UserError(f"{name}: expected {label}, found {value!r}") from None


def _one_or_several(items: Sequence[Any]) -> str | list[str]:
    """Several names as a list, and one name as itself. Unlike in `_names`, a name may have a comma: it may be a folder."""
    if not items or not all(isinstance(item, str | int | float) for item in items):
        raise TypeError
    names = [str(item) for item in items]
    return names[0] if len(names) == 1 else names


def _names(items: Sequence[Any]) -> list[str]:
    """Every name once. Names may be separated by commas."""
    if not all(isinstance(item, str | int | float) for item in items):
        raise TypeError
    parts = [part.strip() for item in items for part in str(item).split(",")]
    return list(dict.fromkeys(part for part in parts if part))


def value_type(spec: Field) -> tuple[Any, bool]:
    """The type of an option's value, and whether it may be None. Of several types, it is the one that a flag has.

    >>> from sstext.config.run_config import RunConfig
    >>> value_type(options(RunConfig)["steps"])
    (<class 'int'>, True)
    """
    kind: Any = spec.type
    if isinstance(kind, types.UnionType):
        members = [member for member in typing.get_args(kind) if member is not type(None)]
        return members[0], True
    return kind, False
