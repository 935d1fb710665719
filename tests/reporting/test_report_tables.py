"""Tables of the report, as text."""

from pathlib import Path

from made_up_run import RECORDS, make_run

from sstext.config.old_options import FORMER_DEFAULTS
from sstext.config.run_config import RunConfig
from sstext.reporting.tables import (
    changed_settings,
    facts,
    how_selected,
    phases,
    plan_table,
    rounds_table,
)
from sstext.selftraining.planning import make_plan


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


def test_the_plan_is_a_line_per_stage() -> None:
    """Guards the plan in the report against a run of version 0.1, whose plan.json has no stages."""
    plan = make_plan(RunConfig(), labeled=64, corpus=10_000, folds=3).record()
    assert plan_table(plan) == [
        ("Regression", "labeled rows", "", ""),  # it has no steps
        ("Start", "labeled rows", "", "48"),
        (
            "Final model",
            "labeled rows and pseudo-labels of the chains",
            "the chains, the start with all labels, and the regressions",
            "625",
        ),
    ]
    assert plan_table(None) == plan_table({"steps": [80], "rounds": 0}) == []
