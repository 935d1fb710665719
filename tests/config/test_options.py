"""What an option is: its help, its type, and the values that become it."""

from dataclasses import dataclass
from typing import Any

import pytest

from sstext.config.options import checked, default_of, option, options, value_type
from sstext.config.run_config import RunConfig
from sstext.errors import UserError

SPECS = options(RunConfig)


@dataclass
class Small:
    """Three options and a field that is none."""

    rows: int | None = option(None, "how many", common=True, limits=(1, 9))
    names: list[str] = option(["a"], "which")
    shown: bool = option(False, "whether")
    told: bool = False


def test_only_fields_with_help_are_options() -> None:
    """Guards `sstext train --help` against internal fields, and one list of names shared by all runs."""
    assert list(options(Small)) == ["rows", "names", "shown"]
    assert default_of(options(Small)["names"]) == ["a"]
    Small().names.append("b")
    assert Small().names == ["a"]


def test_a_type_with_none_is_optional() -> None:
    """Guards `--steps none` from being refused, and `--batch-size none` from being taken."""
    assert value_type(options(Small)["rows"]) == (int, True)
    assert value_type(options(Small)["names"]) == (list[str], False)


def test_a_switch_takes_yes_or_no_alone() -> None:
    """Guards against "no" that is true: RunConfig has no switch at present, but a further one must not read words."""
    assert checked("shown", True, options(Small)["shown"]) is True
    for value in ("yes", "no", 1):
        with pytest.raises(UserError, match=f"shown: expected bool, found {value!r}"):
            checked("shown", value, options(Small)["shown"])


def test_a_number_keeps_to_the_limits_of_its_field() -> None:
    """Guards limits that stand in a field and are not heard; both ends belong to the range, and None has none."""
    rows = options(Small)["rows"]
    assert [checked("rows", value, rows) for value in (1, 9, None)] == [1, 9, None]
    for value in (0, 10):
        with pytest.raises(UserError, match=f"^rows: expected a number between 1 and 9, found {value}$"):
            checked("rows", value, rows)


def test_an_option_is_common_if_it_says_so() -> None:
    """Guards `--help` against all 39 options, and against none."""
    assert [spec.metadata["common"] for spec in options(Small).values()] == [True, False, False]


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
        ("freeze", 2, ["2"]),
        ("freeze", ["embeddings", 2], ["embeddings", "2"]),
        ("prior", "none", "none"),
        ("encoder", ["a"], "a"),
        ("encoder", ["a, b", "c"], ["a, b", "c"]),
        ("prefix", {"a": "query: "}, {"a": "query: "}),
        ("prefix", "query: ", "query: "),
    ],
)
def test_values_become_their_options_type(name: str, value: Any, expected: Any) -> None:
    """Guards against a learning rate that is a string, and against 20.0 steps."""
    got = checked(name, value, SPECS[name])
    assert got == expected
    assert type(got) is type(expected)
