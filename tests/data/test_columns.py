"""Columns: found by name and never guessed between two; cells as texts."""

import pytest

from sstext.data.columns import check_views, find_column, paraphrases
from sstext.errors import UserError


def test_find_column_prefers_names_and_never_guesses_between_two():
    assert find_column(["id", "BODY"], "text", None, "f") == "BODY"
    assert find_column(["message", "Text"], "text", None, "f") == "Text"
    assert find_column(["Text", "text"], "text", None, "f") == "text"
    assert find_column(["label_text", "label"], "label", None, "f") == "label"
    assert find_column(["anything"], "text", None, "f") == "anything"
    assert find_column(["text", "mine"], "text", "mine", "f") == "mine"
    with pytest.raises(UserError, match=r"f: no column 'lable'; found 'text', 'label'; did you mean 'label'\?"):
        find_column(["text", "label"], "label", "lable", "f")
    with pytest.raises(UserError, match=r"several columns may hold the .*'Text', 'TEXT'"):
        find_column(["Text", "TEXT"], "text", None, "f")
    with pytest.raises(UserError, match="label_column="):
        find_column(["anything"], "label", None, "f")


def test_paraphrases_of_a_row_are_what_its_columns_hold():
    """Guards rows that move where one has fewer; empty, blank, missing and NaN cells are no paraphrases, numbers are texts."""
    columns = {"text": list("abcd"), "one": ["A", None, " \t", 7], "two": ["AA", float("nan"), "", "D"]}
    assert paraphrases(columns, ["one", "two"], str) == [["A", "AA"], [], [], ["7", "D"]]
    assert paraphrases(columns, ["two"], str) == [["AA"], [], [], ["D"]]
    assert paraphrases(columns, ["later", "one"], str) == [["A"], [], [], ["7"]]
    with pytest.raises(UserError, match=r"row 2: expected a text, found list"):
        paraphrases({"one": ["a", ["b"]]}, ["one"], lambda i: f"row {i + 1}")


def test_a_missing_column_of_paraphrases_is_named_with_what_there_is():
    check_views(["b", "a"], ["a", "b", "c"], "u.csv")
    with pytest.raises(UserError, match=r"u.csv: no column 'bakc'; found 'text', 'back'; did you mean 'back'\?"):
        check_views(["back", "bakc"], ["text", "back"], "u.csv")
    with pytest.raises(UserError, match=r"u.csv: no column 'zzz'; found 'text'; name paraphrase columns with views="):
        check_views(["zzz"], ["text"], "u.csv")
