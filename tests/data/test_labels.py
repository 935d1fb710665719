"""Cells as labels: what is one label, what is none, and which spellings are one class."""

import unicodedata

import pandas as pd
import pytest

from sstext.config.spelling import spelled_as
from sstext.data import doubts
from sstext.data.labels import NoLabel, as_class, label_of, one_spelling
from sstext.data.loading import load_labeled
from sstext.data.parsers import Rows
from sstext.errors import UserError


@pytest.mark.parametrize(
    ("cell", "label"),
    [
        (" x ", "x"), (["x"], "x"), ('["x"]', "x"), ("['x']", "x"), ([[]], ""), ({"choices": ["x"]}, "x"), ({"name": "x"}, "x"),
        (None, ""), (float("nan"), ""), (pd.NA, ""), (pd.NaT, ""), ([], ""), ("[]", ""), ([None], ""),
        (b"x", "x"), (True, "True"),
        (1.0, "1.0"), ("[urgent]", "[urgent]"), ("{x}", "{x}"), ("none", "none"), (0, "0"),
    ],
)  # fmt: skip
def test_a_cell_holds_one_label_or_none(cell: object, label: str) -> None:
    """Guards lists, JSON and missing values that become names of classes."""
    assert label_of(cell, "here") == label


@pytest.mark.parametrize("cell", [["x", "y"], '{"choices": ["x", "y"]}', "['x', 'y']", {"start": 1}, [[0, 5, "PER"]]])
def test_several_labels_are_refused(cell: object) -> None:
    """Guards multi-label data that are trained on as one class each."""
    with pytest.raises(UserError, match=r"^here: expected "):
        label_of(cell, "here")


@pytest.mark.parametrize(
    ("labels", "given", "none"),
    [
        (["0", "1", "-1", ""], None, ["", "-1"]),
        (["0.0", "1.0", "-1.0"], None, ["-1.0"]),
        (["-1", "1"], None, []),  # two classes
        (["-2", "-1", "0"], None, []),
        (["a", "b", "-1"], None, []),
        (["a", "NaN", "NULL", "<NA>", "none"], None, ["<NA>", "NULL", "NaN"]),
        (["a", "NaN", "?", ""], "?", ["", "?"]),
        (["0", "1", "-1", ""], "", [""]),
        (["a", "b", "c"], ["a", "b"], ["a", "b"]),
    ],
)
def test_what_means_no_label(labels: list[str], given: object, none: list[str]) -> None:
    """Guards −1 as a class beside class numbers, and as no label where it is a class."""
    assert NoLabel.of(given).among(labels) == none  # type: ignore[arg-type]


def test_spellings_of_one_class_are_merged() -> None:
    """Guards two classes that nobody can tell apart, and names that only look like numbers."""
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    assert one_spelling({composed: 2, decomposed: 1, "tea": 1}) == {decomposed: composed}
    assert one_spelling({"a\u00a0b": 1, "a b": 2, "a\u200b b": 1}) == {"a\u00a0b": "a b", "a\u200b b": "a b"}
    assert one_spelling({"0": 2, "0.0": 1, "1.0": 1}) == {"0.0": "0", "1.0": "1"}
    assert (
        one_spelling({"1.0": 1, "1.5": 1})
        == one_spelling({"01": 1, "1": 1})
        == one_spelling({"v1.0": 1, "v1": 1})
        == {}
    )
    assert as_class("0", ["0.0", "1.0"]) == "0.0"
    assert as_class(decomposed, [composed, "tea"]) == composed
    assert as_class("Tea", ["tea", "coffee"]) is None


def test_labels_of_a_file_are_read_by_their_meaning() -> None:
    """Guards a test file with 0 for the 0.0 of a training file, and classes in two spellings."""
    rows = {"text": ["a", "b", "c", "d"], "label": ["0.0", "1.0", "0.0", "-1.0"]}
    read = load_labeled(rows)
    assert (read.classes, read.texts["label"][:]) == (["0", "1"], [0, 1, 0])
    assert read.without_label is not None
    assert read.without_label.columns == {"text": ["d"], "row": [3]}
    assert "classes: 0 (2), 1 (1)" in read.notes
    assert "labeled: the same class in two spellings: read '0.0' as '0', '1.0' as '1'" in read.notes
    assert load_labeled({"text": ["x"], "label": [1]}, classes=["0.0", "1.0"]).texts["label"][:] == [1]
    with pytest.raises(UserError, match="row 1: expected a label, found 'nan', which means none"):
        load_labeled({"text": ["x"], "label": ["nan"]}, classes=["0", "1"])


def test_scores_are_no_classes() -> None:
    """Guards a regression that is trained as fifteen classes; ratings and class numbers stay."""
    with pytest.raises(UserError, match=r"15 different numbers in 15 rows.*label_column=\"COLUMN\""):
        doubts.scores("labeled", "f", "label", {f"{i / 7:.2f}": 1 for i in range(15)})
    with spelled_as("flags"), pytest.raises(UserError, match="--label-column COLUMN"):
        doubts.scores("labeled", "f", "label", {"0,5": 1, "0,7": 1, "1,25": 1})
    with pytest.raises(UserError, match="10 different numbers in 10 rows"):
        doubts.scores("labeled", "f", "label", {str(i): 1 for i in range(3, 100, 10)})
    assert doubts.scores("labeled", "f", "label", {str(i): 1 for i in range(10)}) == []
    assert doubts.scores("labeled", "f", "label", {"0.5": 9, "1.0": 9, "1.5": 9}) == []
    assert doubts.scores("labeled", "f", "label", {str(i): 2 for i in range(77)}) == []
    assert "look like scores" in doubts.scores("labeled", "f", "label", {str(i): 2 for i in range(0, 400, 7)})[0]


def test_doubts_have_a_line_each() -> None:
    """Guards near twins, a long tail of classes, and texts with two labels."""
    counts = {f"intent {i:03}": 200 - i for i in range(100)}
    assert doubts.classes_said(list(counts), counts).endswith("intent 011 (189) and 88 more (101 to 188 rows each)")
    assert doubts.near_twins("labeled", ["C", "C++", "C#", "-1", "1", "1.5", "15"]) == []
    assert "'log in' and 'Log-in' are two classes" in doubts.near_twins("labeled", ["log in", "x", "Log-in"])[0]
    said = doubts.repeated_texts("labeled", ["a", "b", "a", "b "], ["x", "x", "x", "y"], [2, 3, 4, 5])
    assert said == [
        "labeled: 2 texts occur more than once, 1 of them with different labels (line 3: 'x', line 5: 'y'); decide on one label"
    ]
    assert doubts.repeated_texts("labeled", ["a", "b"], ["x", "y"], [1, 2]) == []


def test_pairs_of_texts_are_noticed() -> None:
    """Guards labels that depend on a text that nobody reads."""
    second = ["k l m", "n o p", "q r s"]
    rows = Rows({"text": ["a b c", "d e f", "g h i"], "second": second, "label": ["x", "y", "x"]}, [1, 2, 3])
    texts = rows.columns["text"]
    assert doubts.pairs("labeled", rows, "text", ["text", "label"], texts)[0].startswith(
        "labeled: column 'second' has texts"
    )
    assert doubts.pairs("labeled", rows, "text", ["text", "label", "second"], texts) == []
    assert (
        "'[SEP]'"
        in doubts.pairs("labeled", Rows({"text": texts}, [1]), "text", ["text"], ["a [SEP] b", "c [SEP] d"])[0]
    )
    with pytest.raises(UserError, match="'sentence1', 'sentence2' look like a pair of texts"):
        load_labeled({"sentence1": ["a", "b"], "sentence2": ["c", "d"], "label": ["x", "y"]})
