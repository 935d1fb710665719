"""Methods that have no regression among their stages are compared with one on labels that neither has seen."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from sstext.cli.train_tables import advice
from sstext.reporting.report import write_report
from sstext.run.regression_beside import compared, regression_beside
from sstext.run.train import train

Configure = Callable[..., Any]


def test_it_is_the_regression_of_auto_on_the_same_rows(tiny_run: Configure, tmp_path: Path) -> None:
    """Guards a comparison on other folds, with rows in another order, or with embeddings that no head would read."""
    shared: dict[str, Any] = {"folds": 2, "test": None, "rounds": 0, "steps": 1, "descriptions": "none"}
    by_auto = train(tiny_run(tmp_path / "auto", method="auto", **shared))
    assert by_auto["regression"] is None, "it is a stage there"
    found = train(tiny_run(tmp_path / "supervised", method="supervised", **shared))["regression"]
    stage = by_auto["rounds"][0]
    assert stage["stage"] == "regression", "canary"
    assert found["accuracy"][0] == pytest.approx(stage["out_of_fold"]["accuracy"], abs=1e-9)
    assert found["log_loss"][0] == pytest.approx(stage["out_of_fold"]["log_loss"], abs=1e-3)
    assert (found["source"], found["rows"]) == ("held-out", 12)


def test_a_regression_that_is_better_on_held_out_rows_is_named(tiny_run: Configure, tmp_path: Path) -> None:
    """Guards a person without test rows, whose fine-tuning ended below what takes seconds."""
    config = tiny_run(tmp_path / "out", folds=2, test=None, steps=1, round_steps=1, learning_rate=1e-6)
    results = train(replace(config, method_args={"round_learning_rate": 1e-6}))
    found = results["regression"]
    assert found["ahead"]
    assert found["gain"][0] > found["gain"][1] > 0
    assert found["accuracy"][0] > found["accuracy"][1] + 0.2, "canary: a model that has learned nothing"
    said = "On 12 held-out rows, a logistic regression on the encoder as it was pretrained is better than this model"
    assert said in advice(results)
    assert advice(results).startswith("Next: leave out method")
    assert said in write_report(tmp_path / "out").read_text(encoding="utf-8")


def test_development_rows_compare_too(tiny_files: Any, tiny_run: Configure, tmp_path: Path) -> None:
    """Guards runs with --dev, which have no folds, and runs with neither, where nothing can be compared."""
    options: dict[str, Any] = {"test": None, "steps": 1, "round_steps": 1, "learning_rate": 1e-6}
    found = train(tiny_run(tmp_path / "dev", dev=str(tiny_files.dev), **options))["regression"]
    assert found["source"] == "development"
    assert found["ahead"]
    assert found["accuracy"][0] > found["accuracy"][1]
    assert train(tiny_run(tmp_path / "neither", **options))["regression"] is None


def test_figures_and_verdict_count_rows_alike() -> None:
    """Guards a sentence that contradicts itself: "is better, its log-loss is 0.55 (0.29)"."""
    labels = np.repeat([0, 1], 20)
    on_first, on_second = np.full((40, 2), (0.51, 0.49)), np.full((40, 2), (0.49, 0.51))
    on_first[:20] = (0.9, 0.1)
    on_second[20:] = (0.1, 0.9)
    for weights in (np.repeat([1.8, 0.2], 20), np.repeat([0.2, 1.8], 20), None):
        found = compared(on_first, on_second, labels, "held-out", weights)
        assert found.log_loss[1] - found.log_loss[0] == pytest.approx(found.gain[0], abs=1e-12)
        assert found.ahead == (weights is not None and weights[0] > 1)


def test_chance_is_never_ahead() -> None:
    """Guards random labels: a cautious regression has a lower log-loss than a model that is sure, and knows as little."""
    labels = np.random.default_rng(0).integers(4, size=200)
    sure = np.full((200, 4), 0.02)
    sure[np.arange(200), (labels + 1) % 4] = 0.94
    cautious = np.full((200, 4), 0.25)
    cautious[np.arange(200), np.random.default_rng(1).integers(4, size=200)] += 1e-3
    found = compared(cautious, sure, labels, "held-out")
    assert found.gain[0] > found.gain[1]
    assert found.accuracy[0] > found.accuracy[1]
    assert not found.ahead


def test_one_class_is_no_regression(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the end of a run whose trainings are done: with all rows of a class in one fold, nothing can be fitted."""
    monkeypatch.setattr("sstext.run.regression_beside.rows_of_folds", lambda *_: [np.array([0]), np.array([1, 2, 3])])
    tokens = SimpleNamespace(labeled=Dataset.from_dict({"labels": [0, 1, 1, 1]}), dev=None)
    whole = SimpleNamespace(tokens=tokens, texts=SimpleNamespace(classes=["a", "b"]))
    run = SimpleNamespace(whole=whole, cross_fitted=True, chains=[1, 2], plan=SimpleNamespace(regression=object()))
    assert regression_beside(run, None) is None
