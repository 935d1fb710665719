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
    with pytest.raises(UserError, match="'Text', 'TEXT' may all hold"):
        find_column(["Text", "TEXT"], "text", None, "f")
    with pytest.raises(UserError, match="--label-column"):
        find_column(["anything"], "label", None, "f")
