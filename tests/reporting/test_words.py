"""Sentences and tables."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up_run import class_names, make_run, round_record

from sstext.config.old_options import FORMER_DEFAULTS
from sstext.config.run_config import RunConfig
from sstext.reporting.comparison import Comparison
from sstext.reporting.run_files import RunFiles
from sstext.reporting.words import (
    accuracy_said,
    changed_settings,
    columns_of,
    facts,
    how_selected,
    phases,
    plan_table,
    rounds_table,
    short_name,
    what_it_brought,
    what_was_chosen,
    what_was_left_out,
)
from sstext.selftraining.plan import make_plan


def run_of(records: list[dict[str, Any]], round: int, why: str, **results: Any) -> RunFiles:
    chosen = {"round": round, "why": why}
    return RunFiles(Path(), {"classes": class_names(2), "rounds": records, "chosen": chosen} | results, True)


RECORDS = [round_record(index, class_names(2), True) for index in range(3)]


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
    assert accuracy_said(results | {"test": {"supervised": {}}}) == ""
    of_dev = accuracy_said(results | {"accuracy_estimate": estimate | {"source": "development"}})
    assert of_dev.startswith(f"Accuracy on 1,200 development rows: {figure}. The model was chosen on these rows")
    assert accuracy_said({"test": {}, "rows": {}}) == "", "a run of an earlier version"


def test_what_a_budget_left_out_is_said(tmp_path: Path) -> None:
    """Guards figures of a cut run that look like those of a whole one; and runs of earlier versions, which do not know."""
    cut = RunFiles(tmp_path, {"left_out": ["1 of the chains"]}, True)
    (tmp_path / "config.yaml").write_text("budget: 9m\n")
    assert what_was_left_out(cut).startswith("Left out for --budget 9m: 1 of the chains; a larger --budget, or none,")
    (tmp_path / "config.yaml").unlink()
    without_config = RunFiles(tmp_path, cut.results, True)
    assert what_was_left_out(without_config).startswith("Left out for the budget: 1 of the chains;")
    assert [what_was_left_out(run_of(RECORDS, 2, "", **more)) for more in ({}, {"left_out": []})] == ["", ""]


def test_the_table_of_rounds_has_only_columns_that_a_round_fills() -> None:
    titles, lines = rounds_table(RECORDS)
    assert "accuracy, held-out" in titles
    assert "accuracy, development" not in titles
    assert [len(line) for line in lines] == [len(titles)] * 3
    assert lines[2][titles.index("correct (audit)")] == "80.0%"
    assert lines[0][titles.index("correct (audit)")] == ""


def test_records_of_older_runs_have_fewer_fields() -> None:
    """Guards against a KeyError on a folder that an earlier version wrote."""
    newer = ("estimated_precision", "out_of_fold", "gain", "refused", "class_shares", "chain_agreement")
    old = [{name: value for name, value in record.items() if name not in newer} for record in RECORDS]
    assert rounds_table(old)[0][:3] == ["stage", "pseudo-labels", "share of corpus"]


def test_rows_of_a_threshold_have_no_rank() -> None:
    """Guards a sentence on quotas under the figure of a run that has none, or that selects every row."""
    by_rank = "The selection also depends on the rank within the class."
    assert how_selected({"stages": [{"keep": None}, {"keep": 0.3}]}, every=False) == by_rank
    assert how_selected({"steps": [80], "rounds": 0}, every=False) == by_rank
    assert how_selected({"stages": [{"keep": None}]}, every=False) == ""
    assert how_selected({"stages": [{"keep": 1.0}]}, every=True) == "Every row was selected."


def test_settings_are_those_that_differ_from_the_methods_own_defaults() -> None:
    """`rounds` and `keep` have defaults that hang on the method: those of `supervised` are no changes there."""
    from dataclasses import asdict

    changed = changed_settings(asdict(RunConfig(method="supervised", seed=3, method_args={"a": 1})))
    assert sorted(changed) == [("method", "supervised", "auto"), ("method_args", "a=1", "none"), ("seed", "3", "0")]
    given = {"method": "auto", "steps": 9, "text_column": "body", "budget": "9m", "report_to": ["wandb"]}
    assert {name: default for name, _, default in changed_settings(given)} == {
        "steps": "auto", "text_column": "auto", "budget": "none", "report_to": "none",
    }, "none is no limit and no logger; whatever else is not given is computed"  # fmt: skip
    assert changed_settings({"method": "of a newer version", "an option": 1}) != []
    assert changed_settings(None) == []


def test_settings_of_version_0_1_have_their_present_names() -> None:
    """Guards a report that shows `rounds` and `keep` as changed because version 0.1 wrote what it had computed, and that says
    nothing of options that have moved."""
    plain = FORMER_DEFAULTS | {"method": "auto", "rounds": 1, "keep": [1.0], "pseudo_labels": "soft", "method_args": {}}
    assert changed_settings(plain) == []
    others = plain | {"method": "ust", "rounds": 3, "keep": [0.3, 0.5, 0.7], "pseudo_labels": "hard"}
    assert changed_settings(others) == [("method", "ust", "auto")]
    given = plain | {
        "rounds": 2, "keep": [0.5], "pseudo_labels": "hard", "token_mask": 0.3, "warmup": 0.2, "patience": 5,
        "unsupervised_strength": 2.0, "method_args": {"contrast": 5}, "freeze_embeddings": True, "freeze_layers": 2,
        "alignment": False, "encoder": "ada/encoder", "revision": "v2", "class_runs": 4,
    }  # fmt: skip
    assert {name: value for name, value, _ in changed_settings(given)} == {
        "rounds": "2", "keep": "0.5", "edits": "mask=0.3", "training_args": "warmup_steps=0.2, early_stopping_patience=5",
        "method_args": "contrast=5, strength=2.0, labels=hard", "freeze": "embeddings, 2", "prior": "none",
        "encoder": "ada/encoder@v2",
    }, "class_runs has no successor"  # fmt: skip


def test_facts_and_phases_come_from_the_results(tmp_path: Path) -> None:
    from sstext.reporting.run_files import open_run_files

    run = open_run_files(make_run(tmp_path / "run", 2))
    said = dict(facts(run))
    assert said["peak memory"] == "1,234 MiB of the process"
    assert said["versions"] == "sstext 0.1.0, torch 2.13.0"
    assert [(name, share) for name, _, share in phases(run)] == [("baseline: training", 0.6), ("scoring", 0.4)]
    assert not any(name.startswith("class ") for name in said), "runs of earlier versions have no class texts"
    run.results["class_texts"] = {"kind": "descriptions", "weight": 2.0, "log_loss": {"0": 1.0, "2": 0.5}}
    assert dict(facts(run))["class descriptions"].startswith(
        "used with the weight of 2 labeled rows per class (log-loss "
    )
    del run.results["phases"], run.results["peak_memory_mib"]
    assert [name for name, *_ in phases(run)] == ["baseline", "round 1", "round 2"], "what runs without phases tell"
    for record in run.rounds:
        del record["stage"]
    assert [name for name, *_ in phases(run)] == ["round 0", "round 1", "round 2"], "what runs of version 0.1 tell"
    assert "peak memory" not in dict(facts(run))


@pytest.mark.parametrize("name", ["a" * 40, "退" * 30, "two\nlines of a name that is long"])
def test_short_names_keep_their_room(name: str) -> None:
    short = short_name(name, 12)
    assert columns_of(short) <= 12
    assert short.endswith("…")
    assert "\n" not in short


def test_the_plan_is_a_line_per_stage() -> None:
    """Guards the plan in the report against a run of version 0.1, whose plan.json has no stages."""
    plan = make_plan(RunConfig(), labeled=64, corpus=10_000, folds=3).record()
    assert plan_table(plan) == [
        ("Regression", "labeled rows", "", ""),  # it has no steps
        ("Start", "labeled rows", "", "48"),
        (
            "Final model",
            "labeled rows and pseudo-labels of the chains",
            "the chains, and the start with all labels",
            "625",
        ),
    ]
    assert plan_table(None) == plan_table({"steps": [80], "rounds": 0}) == []
