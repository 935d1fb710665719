"""What an option is: its help, its type, and the values that become it."""

from dataclasses import dataclass
from typing import Any

import pytest

from sstext.config.options import checked, default_of, option, options, value_type
from sstext.config.run_config import RunConfig

SPECS = options(RunConfig)


@dataclass
class Small:
    """Two options and a field that is none."""

    rows: int | None = option(None, "how many")
    names: list[str] = option(["a"], "which")
    told: bool = False


def test_only_fields_with_help_are_options() -> None:
    """Guards `sstext train --help` against internal fields, and one list of names shared by all runs."""
    assert list(options(Small)) == ["rows", "names"]
    assert default_of(options(Small)["names"]) == ["a"]
    Small().names.append("b")
    assert Small().names == ["a"]


def test_a_type_with_none_is_optional() -> None:
    """Guards `--steps none` from being refused, and `--batch-size none` from being taken."""
    assert value_type(options(Small)["rows"]) == (int, True)
    assert value_type(options(Small)["names"]) == (list[str], False)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("learning_rate", "1e-4", 1e-4),  # YAML reads 1e-4 as a string
        ("learning_rate", 1, 1.0),
        ("steps", "1e3", 1000),
        ("steps", 20.0, 20),
        ("steps", None, None),
        ("keep", 0.5, [0.5]),
        ("keep", ["0.3", 1], [0.3, 1.0]),
        ("labeled", 5, "5"),
        ("views", "a,b", ["a", "b"]),
        ("views", ["a", "b"], ["a", "b"]),
        ("views", ["a, b", "c", "a,"], ["a", "b", "c"]),
        ("views", "", []),
        ("prior", {"a": 1}, {"a": 1}),
        ("prior", "labeled", "labeled"),
        ("method_args", {}, {}),
        ("precision", "bf16", "bf16"),
        ("freeze_embeddings", True, True),
    ],
)
def test_values_become_their_options_type(name: str, value: Any, expected: Any) -> None:
    """Guards against a learning rate that is a string, and against 20.0 steps."""
    got = checked(name, value, SPECS[name])
    assert got == expected
    assert type(got) is type(expected)
