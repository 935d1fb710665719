"""The error of a user, and how its messages list names."""

from sstext.errors import UserError, listed


def test_it_is_an_ordinary_value_error_in_python() -> None:
    """Guards callers that catch ValueError, and a message with anything around it."""
    assert issubclass(UserError, ValueError)
    assert str(UserError("no such file: my.csv")) == "no such file: my.csv"


def test_long_lists_are_cut() -> None:
    """Guards against a message of 10,000 labels; a list that just fits is whole."""
    assert listed([str(i) for i in range(8)]).count("'") == 16
    assert listed([str(i) for i in range(10_000)]) == "'0', '1', '2', '3', '4', '5', '6', '7' and 9992 more"
    assert listed(("a",)) == "'a'"
    assert listed([]) == ""
