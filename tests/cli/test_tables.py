"""What a finished command shows: the numbers of the run, rounded and in their place."""

import re
from dataclasses import replace
from typing import Any

import pytest

from sstext.cli.console import interval
from sstext.cli.evaluation_table import show_evaluation
from sstext.cli.methods_tables import show_methods
from sstext.cli.train_tables import advice, show_forecast, show_results
from sstext.config.run_config import RunConfig
from sstext.errors import UserError
from sstext.methods.catalog import entry
from sstext.methods.registry import METHODS
from sstext.objective.regularizers import REGULARIZERS
from sstext.progress import duration
from sstext.run.dry_run import Forecast
from sstext.selftraining.planning import make_plan


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")


def figures(score: float) -> dict[str, Any]:
    names = ("accuracy", "macro_f1", "expected_calibration_error", "nll", "brier")
    metrics = {
        name: {"score": score + i / 100, "confidence_interval": (score - 0.1, score + 0.1)}
        for i, name in enumerate(names)
    }
    return {
        "rows": 1234,
        "metrics": metrics,
        "micro_f1": score,
        "weighted_f1": score,
        "matthews_correlation": -score,
        "per_class": {"refund": {"precision": 0.25, "recall": 0.5, "f1": 0.333, "support": 1000}},
    }


def a_round(index: int, **changes: Any) -> dict[str, Any]:
    """The record of a stage: the baseline, or a round."""
    record = {"index": index, "stage": f"round {index}" if index else "baseline", "admitted": 1000 * index,
              "coverage": 0.25 * index, "audit_precision": None, "agreement": None,
              "metrics": {}, "steps": 120, "seconds": 61.0, "stopped_because": None}  # fmt: skip
    return record | changes


def results(rounds: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    test = {"supervised": figures(0.5), "self_trained": figures(0.6)}
    chosen = {"round": rounds[-1]["index"], "why": "the last round"}
    return {"test": test, "rows": {"test": 1234}, "rounds": rounds, "chosen": chosen} | changes


def lines_with(word: str, text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if word in line]


def test_baseline_and_chosen_model_stand_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    """Guards the table that the run is made for: each model its own figures, with both ends of the interval."""
    show_results(results([a_round(0), a_round(1, stopped_because="all rounds are done")]), "out")
    shown = capsys.readouterr().out
    assert "On 1,234 test rows (in brackets: 95 % confidence interval)" in shown
    assert lines_with("baseline ", shown)[0] == ["baseline", "50.0", "[40.0,", "60.0]", "51.0", "[40.0,", "60.0]", "52.0",
                                                   "[40.0,", "60.0]"]  # fmt: skip
    assert lines_with("chosen model", shown)[0][:5] == ["chosen", "model", "60.0", "[50.0,", "70.0]"]
    assert "self-trained" not in shown, "a model that saw no pseudo-label is none"
    assert "Left out" not in shown
    assert "Chosen: round 1 (the last round)." in shown
    assert "stopped" not in shown, "the usual end is no stop"
    assert "sstext predict out/model new.csv -o predictions.csv" in shown
    assert "pipeline('text-classification', 'out/model')" in shown


def test_one_model_is_one_row(capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against the same figures twice if plain fine-tuning is chosen."""
    both = dict.fromkeys(("supervised", "self_trained"), figures(0.5))
    show_results(results([a_round(0)], test=both), "out")
    assert [line[:2] for line in lines_with("50.0", capsys.readouterr().out)] == [["baseline", "(chosen)"]]


def test_what_a_budget_left_out_stands_under_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Guards a cut that is said once, an hour before the figures that it explains."""
    show_results(results([a_round(0)], left_out=["15% of the steps", "1 of the chains"]), "out", "9m")
    shown = capsys.readouterr().out
    said = "Left out for --budget 9m: 15% of the steps, 1 of the chains; a larger --budget, or none, brings them back."
    assert said in shown
    assert shown.index("Chosen:") < shown.index(said)


def test_columns_appear_where_a_round_fills_them(capsys: pytest.CaptureFixture[str]) -> None:
    """Guards rounds without audit or development rows (no empty columns), and with them (percent, not shares)."""
    show_results(results([a_round(0), a_round(1)], test={}), "out")
    bare = capsys.readouterr().out
    assert "test rows" not in bare
    for title in ("(audit)", "mean", "confidence", "held-out", "macro-F1", "unchanged class"):
        assert title not in bare
    assert ["round", "1", "1,000", "25.0%", "120", "1", "min", "1", "s"] in [line.split() for line in bare.splitlines()]
    assert ["baseline", "120", "1", "min", "1", "s"] in [line.split() for line in bare.splitlines()]
    full = [a_round(0), a_round(1, audit_precision=0.875, agreement=0.5, metrics={"macro_f1": 0.75})]
    show_results(results(full, test={}), "out")
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["round", "1", "1,000", "25.0%", "87.5%", "0.750", "50.0%", "120", "1", "min", "1", "s"] in shown
    held_out = [a_round(0), a_round(1, estimated_precision=0.625, out_of_fold={"accuracy": 0.9375})]
    show_results(results(held_out, test={}), "out")
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["round", "1", "1,000", "25.0%", "62.5%", "93.8%", "120", "1", "min", "1", "s"] in shown


def test_stages_have_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    """Guards auto, of which round 1 is the third stage, and records of version 0.1, which have no names."""
    stages = [a_round(0), a_round(1, stage="start"), a_round(2, stage="round 1")]
    show_results(results(stages, test={}, chosen={"round": 2, "why": "it is best"}), "out")
    shown = capsys.readouterr().out
    assert "Chosen: round 1 (it is best)." in shown
    assert [line.split()[0] for line in shown.splitlines() if "1 min 1 s" in line] == ["baseline", "start", "round"]
    old = [{name: value for name, value in record.items() if name != "stage"} for record in stages]
    show_results(results(old, test={}, chosen={"round": 2, "why": "it is best"}), "out")
    assert "Chosen: round 2 (it is best)." in capsys.readouterr().out


def test_people_are_told_what_to_do_next() -> None:
    """Guards two ends that look like any other: a choice that nothing has checked, and a corpus that did not help."""
    checked = [a_round(0, out_of_fold={"accuracy": 0.9}), a_round(1, out_of_fold={"accuracy": 0.8})]
    refused = [checked[0], a_round(1, stage="start", admitted=0, out_of_fold={"accuracy": 0.8})]
    for chosen, records, told in (
        (1, [a_round(0), a_round(1)], "was not checked"),
        (0, checked, "did not help here"),
        (0, refused, "no model learned from the unlabeled texts, because the start was refused"),
        (1, checked, ""),
        (0, [a_round(0)], ""),
        (1, [a_round(0), a_round(1, metrics={"macro_f1": 0.5})], ""),
    ):
        said = advice(results(records, chosen={"round": chosen, "why": ""}))
        assert told in said
        assert bool(said) == bool(told)


@pytest.mark.parametrize(("right", "told"), [(0.75, True), (0.65, False)])
def test_a_regression_that_is_right_more_often_is_named(right: float, told: bool) -> None:
    """Guards a person who fine-tunes in vain. A difference within the interval (to .70) is chance, and auto compares both."""
    test = {"supervised": figures(0.5), "regression": figures(right), "self_trained": figures(0.6)}
    records = [a_round(0), a_round(1, metrics={"macro_f1": 0.5})]
    said = advice(results(records, test=test, chosen={"round": 1, "why": ""}))
    assert ("a logistic regression on the encoder as it was pretrained is right more often (75.0%)" in said) is told
    assert said.startswith("Next: give unlabeled and leave out method") is told
    compared = [a_round(0, stage="regression"), records[1]]
    assert advice(results(compared, test=test, chosen={"round": 1, "why": ""})) == ""


def test_the_next_step_can_be_taken() -> None:
    """Guards "add --folds 3" where folds are refused, or where the budget cuts them again. Earlier versions gave no reason."""
    for reason, told in (
        ("few labels", "label more texts"),
        ("budget", "give a larger --budget"),
        (None, "add --folds 3"),
    ):
        said = advice(results([a_round(0), a_round(1)], nothing_held_out=reason))
        assert said.endswith(f"was not checked. To check it, {told}, or give --dev with labeled rows.")


@pytest.mark.parametrize(("macro_f1", "told"), [(0.55, "not better than chance on the held-out rows"), (0.9, "")])
def test_a_final_model_is_judged_by_the_stage_that_taught_it(macro_f1: float, told: str) -> None:
    """Guards the default run, whose last stage has no held-out rows: it was checked, and by the figures of its teacher."""
    measured = {"out_of_fold": {"accuracy": 0.6, "macro_f1": macro_f1, "log_loss": 0.7}}
    records = [
        a_round(0, stage="regression", **measured),
        a_round(1, stage="start", **measured),
        a_round(2, stage="final"),
    ]
    chosen = {"round": 2, "judged": 1, "why": ""}
    said = advice(results(records, chosen=chosen, classes=["a", "b"], rows={"labeled": 48}))
    assert told in said
    assert bool(said) == bool(told)


@pytest.mark.parametrize("kind", ["out_of_fold", "metrics"])
@pytest.mark.parametrize(
    ("macro_f1", "chosen", "told"),
    [
        (0.33, 0, "not better than chance"),
        (0.55, 0, "not better than chance"),
        (0.58, 0, "did not help here"),
        (0.55, 1, "not better than chance"),
        (0.58, 1, ""),
    ],
)
def test_a_model_at_chance_level_gets_advice_of_its_own(kind: str, macro_f1: float, chosen: int, told: str) -> None:
    """Guards "the unlabeled texts did not help" for a start that has learned nothing: with two classes and 48 rows, guesses are
    right in 50 %, give or take √(.25/48) = 7.2 %, and a constant guess has a macro-F1 of 33 %."""
    measured = {kind: {"accuracy": 0.6, "macro_f1": macro_f1, "log_loss": 0.7}}
    said = advice(
        results(
            [a_round(0, **measured), a_round(1, **measured)],
            chosen={"round": chosen, "why": ""},
            classes=["a", "b"],
            rows={"labeled" if kind == "out_of_fold" else "dev": 48},
        )
    )
    assert told in said
    assert bool(said) == bool(told)
    if "chance" in told:
        assert f"on the {'held-out' if kind == 'out_of_fold' else 'development'} rows" in said


def test_an_evaluation_shows_signs_and_classes(capsys: pytest.CaptureFixture[str]) -> None:
    """Guards `sstext evaluate`: a negative correlation stays negative, every class has its row."""
    show_evaluation(figures(0.5))
    shown = capsys.readouterr().out
    assert "On 1,234 rows" in shown
    assert lines_with("Matthews", shown) == [["Matthews", "correlation", "-0.500"]]
    assert lines_with("refund", shown) == [["refund", "25.0", "50.0", "33.3", "1,000"]]
    assert lines_with("Brier score", shown)[0][2] == "0.540"
    assert "log-loss (nats)" in shown
    assert "nll" not in shown


def forecast(**changes: Any) -> Forecast:
    """Of auto with three chains."""
    plan = make_plan(RunConfig(), labeled=64, corpus=1136, folds=3)
    plan = replace(plan, seconds=125.0, left_out=("half",))
    settings = {"plan": plan, "rows": {"labeled": 64, "unlabeled": 1136}, "classes": ["a", "b"], "max_length": 32,
                "device": "cpu", "precision": "bf16", "method": "auto"}  # fmt: skip
    return Forecast(**settings | changes)


def test_a_forecast_shows_rows_stages_and_time(capsys: pytest.CaptureFixture[str]) -> None:
    """Guards `--dry-run`: what a person decides by."""
    show_forecast(forecast())
    shown = capsys.readouterr().out
    assert lines_with("unlabeled rows", shown) == [["unlabeled", "rows", "1,136"]]
    assert lines_with("method", shown) == [["method", "auto"]]
    assert lines_with("left out", shown) == [["left", "out", "half"]]
    assert lines_with("chains  ", shown)[0][1] == "3,"
    assert lines_with("regression ", shown) == [["regression", "4"]], "it has no steps: nothing, and not 0"
    assert lines_with("start  ", shown) == [["start", "48", "4"]]
    assert lines_with("final ", shown)[0][-2:] == ["71", "1"]
    assert "2: 'a', 'b'" in shown
    assert lines_with("estimated time", shown)[0][2:] == ["about", "2", "min", "5", "s"]
    assert "prefix" not in shown
    show_forecast(forecast(prefix="query: "))
    assert lines_with("prefix", capsys.readouterr().out) == [["prefix", "'query:", "'"]]
    show_forecast(forecast(over_budget=True))
    over = "about 2 min 5 s; even the shortest plan takes longer than the budget"
    assert over in " ".join(capsys.readouterr().out.split())
    assert "32 tokens" in shown
    assert "cpu, bf16" in shown
    assert "about 2 min 5 s" in shown


def test_without_folds_nothing_is_trained_again(capsys: pytest.CaptureFixture[str]) -> None:
    """Guards the plan of one chain against chains and a final model that it does not have."""
    plan = make_plan(RunConfig(method="self-training"), labeled=64, corpus=1136, folds=0)
    show_forecast(forecast(plan=plan))
    shown = capsys.readouterr().out
    assert "chains" not in shown
    assert "final" not in shown
    assert lines_with("round 1", shown)[0][:3] == ["round", "1", "baseline"]


@pytest.mark.parametrize("name", ["[bold]", "[/b]", "[other]"])
def test_names_in_brackets_are_shown_as_they_are(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards class names and folders against rich's markup, which would swallow them, or crash after hours of training."""
    show_evaluation(figures(0.5) | {"per_class": {name: figures(0.5)["per_class"]["refund"]}})
    assert lines_with(name, capsys.readouterr().out) == [[name, "25.0", "50.0", "33.3", "1,000"]]
    show_forecast(forecast(classes=[name, "b"]))
    assert f"2: '{name}', 'b'" in capsys.readouterr().out
    stopped = a_round(0, stopped_because=f"{name} happened")
    show_results(results([stopped], chosen={"round": 0, "why": f"because of {name}"}), f"out{name}")
    shown = capsys.readouterr().out
    assert f"Model: out{name}/model" in shown
    assert f"predict out{name}/model" in shown
    assert f"(because of {name})" in shown
    assert f"Training stopped early: {name} happened." in shown


def test_methods_are_listed_and_explained(capsys: pytest.CaptureFixture[str]) -> None:
    """Guards `sstext methods`: every method in the list, its own docstring and arguments where it is named."""
    show_methods(None)
    listed = capsys.readouterr().out
    for name in METHODS:
        assert any(line.split()[:1] == [name] for line in listed.splitlines()), name
    show_methods("fixmatch")
    told = capsys.readouterr().out
    assert told.startswith("fixmatch: A confident prediction")
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in told.splitlines() if line.strip()}
    assert rows["formula"].startswith("L_u = mean 1[max q ≥ τ]")
    assert rows["source"].startswith("Sohn et al. 2020")
    assert rows["threshold"] == "0.95 τ (paper: .95)."
    with pytest.raises(UserError, match="no method or regularizer 'fixmach'; did you mean fixmatch"):
        show_methods("fixmach")


def test_a_further_loss_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    """Guards `sstext methods clustering`: effect, formula, source and defaults, and how its number is given."""
    show_methods("clustering")
    told = capsys.readouterr().out
    assert told.startswith("clustering: Makes each prediction on unlabeled rows confident")
    assert "Arguments (--regularizers clustering=X sets the first; the others in Python)" in " ".join(told.split())
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in told.splitlines() if line.strip()}
    assert rows["formula"].startswith("L = mean H(p) + balance · KL(p̄ ‖ u)")
    assert rows["source"].startswith("Krause et al. 2010 (RIM)")
    assert rows["strength"] == "0.1 its factor in the total loss."
    show_methods("r-drop")
    told = capsys.readouterr().out
    assert told.index("(--method-args KEY=VALUE …)") < told.index("(--regularizers r-drop=X")


def test_a_narrow_terminal_cuts_no_name(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards 80 columns: names whole, columns of few words as narrow as they are, every word of an idea whole."""
    monkeypatch.setenv("COLUMNS", "80")
    show_methods(None)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    for name in (*METHODS, *REGULARIZERS):
        assert any(line.split()[:1] == [name] for line in lines), name
    assert sum(line.endswith("  single-label") for line in lines) == len(METHODS)
    row = r" temporal-ensembling {2,3}The student( must)? +Laine & +inside a step   single-label"  # by the version of rich
    assert any(re.fullmatch(row, line) for line in lines)
    ideas = " ".join(lines).split()
    assert {word for name in METHODS for word in entry(name).idea.split()} <= set(ideas)
    monkeypatch.setenv("COLUMNS", "40")
    show_methods(None)
    assert "temporal-ensembling" in capsys.readouterr().out


@pytest.mark.parametrize(("columns", "width"), [("80", 80), ("150", 150), (None, 110), ("wide", 110), ("0", 110)])
def test_a_pipe_is_as_wide_as_it_is_told_and_leaves_no_blanks(
    columns: str | None, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards `COLUMNS=150 sstext methods | less`, and lines that end in blanks in a file."""
    monkeypatch.delenv("COLUMNS")
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    show_methods("fixmatch")
    show_methods(None)
    lines = capsys.readouterr().out.splitlines()
    assert width - 3 <= max(map(len, lines)) <= width
    assert [line for line in lines if line != line.rstrip()] == []


def test_durations_and_intervals() -> None:
    """Guards the edges: a minute is not 60 s, an hour not 60 min, and 3599.6 s is rounded before it is cut."""
    assert [duration(s) for s in (0.4, 59.4, 59.6, 3599.4, 3599.6)] == [
        "0 s",
        "59 s",
        "1 min 0 s",
        "59 min 59 s",
        "1 h 0 min",
    ]
    figure = {"score": 0.5, "confidence_interval": [0.25, 0.9996]}
    assert interval(figure) == "50.0 [25.0, 100.0]"
    assert interval(figure, scale=1) == "0.500 [0.250, 1.000]"
