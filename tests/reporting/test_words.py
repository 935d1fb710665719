"""Sentences of the report and of the terminal."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from made_up_run import RECORDS, run_of

from sstext.evaluation.held_out import BUDGET, FEW_LABELS, METHOD, NOT_ASKED
from sstext.reporting.comparison import Comparison
from sstext.reporting.run_files import RunFiles
from sstext.reporting.words import (
    accuracy_said,
    columns_of,
    short_name,
    what_it_brought,
    what_overlaps,
    what_was_chosen,
    what_was_left_out,
)


def test_the_first_sentence_says_what_was_chosen_and_why() -> None:
    assert what_was_chosen(run_of(RECORDS, 2, "it is better.")) == (
        "The chosen model comes from the stage “round 2”, which was trained on labeled rows and 90 pseudo-labels. "
        "Reason: it is better."
    )
    baseline = "The chosen model is the baseline (fine-tuning on the labeled rows only). Reason: "
    supervised = run_of(RECORDS, 0, "supervised fine-tuning; round 1 was refused: it harms")
    assert what_was_chosen(supervised) == f"{baseline}round 1 was refused: it harms."
    assert what_was_chosen(run_of(RECORDS, 0, "supervised fine-tuning")) == f"{baseline}no later stage was accepted."
    last = run_of(RECORDS[:1], 0, "the last one; nothing was compared")
    assert what_was_chosen(last) == f"{baseline}it is the last stage; nothing was compared."
    assert what_was_chosen(run_of(RECORDS[:1], 0, "it is the only stage")) == f"{baseline}it is the only stage."
    start = run_of([RECORDS[0], RECORDS[1] | {"admitted": 0, "stage": "start"}], 1, "it is better")
    assert what_was_chosen(start).startswith(
        "The chosen model comes from the stage “start”, which was trained on labeled rows only."
    )


def test_the_second_sentence_compares_or_says_that_nothing_does() -> None:
    """Guards against a report that lets silence pass for success."""
    one = {"accuracy": {"score": 0.5, "confidence_interval": (0.4, 0.6)}}
    two = {"accuracy": {"score": 0.75, "confidence_interval": (0.7, 0.8)}}
    compared = Comparison("400 test rows", one, two, (0.25, 0.1, 0.4))
    assert what_it_brought(compared) == (
        "On 400 test rows, the chosen model has an accuracy of 75.0% [70.0, 80.0]. The baseline has 50.0% [40.0, 60.0]. "
        "On the same rows, this is a difference of +25.0 points [+10.0, +40.0]."
    )
    assert what_it_brought(replace(compared, same=True)) == (
        "On 400 test rows, the chosen model has an accuracy of 75.0% [70.0, 80.0]."
    )
    taught = replace(compared, names=("regression", "start that taught the chosen model"))
    assert what_it_brought(taught).startswith(
        "On 400 test rows, the start that taught the chosen model has an accuracy of 75.0% [70.0, 80.0]. The regression has "
    )
    assert "accuracy is unknown" in what_it_brought(None)


def test_the_estimated_accuracy_says_what_it_holds_for() -> None:
    """Guards an estimate for a corpus that there is not, one beside test rows, and development rows that pass for new ones."""
    estimate = {"value": 0.704, "low": 0.6, "high": 0.8, "level": 0.9, "rows": 1200, "source": "held-out"}
    results = {"test": {}, "rows": {"labeled": 1200}, "accuracy_estimate": estimate}
    figure = "70% (90% interval: 60% to 80%)"
    assert accuracy_said(results) == (
        f"Accuracy on texts like the labeled ones: about {figure}, estimated from 1,200 held-out labeled rows."
    )
    chosen = accuracy_said(results | {"accuracy_estimate": estimate | {"chosen": 900}})
    assert chosen.endswith("1,200 held-out labeled rows, 900 of which were chosen, not drawn at random.")
    assert accuracy_said(results | {"test": {"supervised": {}}}) == ""
    of_dev = accuracy_said(results | {"accuracy_estimate": estimate | {"source": "development"}})
    assert of_dev.startswith(f"Accuracy on 1,200 development rows: {figure}. The model was chosen on these rows")
    assert accuracy_said({"test": {}, "rows": {}}) == "", "a run of an earlier version"


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        (NOT_ASKED, "add --folds 3"),
        (BUDGET, "a larger --budget"),
        (FEW_LABELS, "label more texts"),
        (METHOD, "--method"),
    ],
)
def test_the_remedy_for_an_unknown_accuracy_can_be_followed(reason: str, remedy: str) -> None:
    """Guards "add --folds 3" where folds are refused, or where the budget cuts them again."""
    said = accuracy_said({"test": {}, "rows": {}, "accuracy_estimate": None, "nothing_held_out": reason})
    assert remedy in said
    assert ("--folds" in said) == (reason == NOT_ASKED)
    assert said.endswith("; to measure it, give --test.")


def test_what_a_budget_left_out_is_said(tmp_path: Path) -> None:
    """Guards figures of a cut run that look like those of a whole one; and runs of earlier versions, which do not know."""
    cut = RunFiles(tmp_path, {"left_out": ["1 of the chains"]}, True)
    (tmp_path / "config.yaml").write_text("budget: 9m\n")
    assert what_was_left_out(cut).startswith("Left out for --budget 9m: 1 of the chains; a larger --budget, or none,")
    (tmp_path / "config.yaml").unlink()
    without_config = RunFiles(tmp_path, cut.results, True)
    assert what_was_left_out(without_config).startswith("Left out for the budget: 1 of the chains;")
    assert [what_was_left_out(run_of(RECORDS, 2, "", **more)) for more in ({}, {"left_out": []})] == ["", ""]


@pytest.mark.parametrize("name", ["a" * 40, "退" * 30, "two\nlines of a name that is long"])
def test_short_names_keep_their_room(name: str) -> None:
    short = short_name(name, 12)
    assert columns_of(short) <= 12
    assert short.endswith("…")
    assert "\n" not in short


def test_held_out_texts_that_were_trained_on_are_said() -> None:
    """Guards a report that shows figures which mean nothing, and one of an earlier version."""
    said = [
        what_overlaps(cast(RunFiles, SimpleNamespace(results=of))) for of in ({"overlap": {"test": 15, "dev": 2}}, {})
    ]
    assert said[0].startswith("15 test texts and 2 development texts are labeled training texts, too: ")
    assert said[1] == ""
