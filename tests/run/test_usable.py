"""A run that has come to nothing says so first: a round without a teacher, and a model that answers one class."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from sstext.cli.main import main
from sstext.cli.train_tables import show_results
from sstext.run.train import train
from sstext.run.usable import collapsed_on_corpus


def test_a_student_that_has_collapsed_teaches_nobody(
    tiny_run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards runs without folds: a student of one class would label the corpus for the next one, and be the model at last."""

    def scores(model: Any, rows: Any, tokenizer: Any, folder: Path, **_: Any) -> np.ndarray:
        labels = np.arange(len(rows)) % 3 if folder.name == "baseline" else np.zeros(len(rows), dtype=int)
        return 4 * np.eye(3, dtype=np.float32)[labels]

    monkeypatch.setattr("sstext.selftraining.student_store.score_to_disk", scores)
    found = train(tiny_run(tmp_path / "out", rounds=3, folds=0, steps=1, round_steps=1, test=None))
    refused = "its predictions have collapsed to few classes (effective number 1.0, expected 3.0)"
    assert [record["stage"] for record in found["rounds"]] == ["baseline", "round 1"]
    assert found["rounds"][-1]["refused"] == found["rounds"][-1]["stopped_because"] == refused
    assert (found["chosen"]["round"], found["chosen"]["model"]) == (0, "baseline")
    assert found["chosen"]["why"].startswith(f"the last one that did not collapse; round 1 was refused: {refused}")
    monkeypatch.setenv("COLUMNS", "400")
    show_results(found, "out")
    first = next(line for line in capsys.readouterr().out.splitlines() if line and "cannot be used" not in line)
    assert first == f"Training stopped early: {refused}."


def test_a_model_of_one_class_is_no_success(
    tiny_files: Any,
    tiny_encoder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Guards scripts that take the exit code 0 for a model that they can use."""
    answers = [np.array([0.0, 9.0, 0.0])]
    monkeypatch.setattr("sstext.run.usable.score", lambda model, rows, *_: np.stack([answers[0]] * len(rows)))
    monkeypatch.setenv("COLUMNS", "400")
    command = ["train", "--labeled", tiny_files.labeled, "--encoder", tiny_encoder, "--output", tmp_path / "out",
               "--method", "supervised", "--rounds", "0", "--folds", "0", "--steps", "1", "--device", "cpu"]  # fmt: skip
    assert main([str(part) for part in command]) == 1
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith(
        "The model cannot be used: it predicts 'delivery' for all 12 labeled texts that it was tried on"
    )
    assert "Train it longer (--steps) or with a lower --learning-rate" in first
    assert main([str(part) for part in command]) == 1, "also if the run was finished before"


def test_a_collapse_that_development_rows_do_not_show_is_said_first(
    tiny_files: Any, tiny_run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Guards runs with --dev: one development row of another class hid a model that has one class for the whole corpus."""
    monkeypatch.setattr(
        "sstext.run.usable.score", lambda model, rows, *_: np.stack([np.array([0.0, 9.0, 0.0])] * len(rows))
    )
    monkeypatch.setenv("COLUMNS", "400")
    found = train(tiny_run(tmp_path / "out", dev=str(tiny_files.dev), test=None))
    few = "its predictions have collapsed to few classes (effective number 1.0, expected 3.0)"
    assert found["unusable"] is None
    assert found["chosen"]["warnings"] == [f"this model may be useless: {few}"]
    show_results(found, "out")
    first = next(line for line in capsys.readouterr().out.splitlines() if line)
    assert few in first


@pytest.mark.parametrize(("of_dev", "said"), [([0] * 19 + [1], False), ([0, 1] * 10, True)])
def test_development_rows_show_that_a_corpus_is_skewed(
    of_dev: list[int], said: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards a false alarm about a right model: balanced labels say nothing about a corpus with 3 % of a class."""
    predicted = np.eye(2)[[0] * 97 + [1] * 3]
    monkeypatch.setattr("sstext.run.usable.score", lambda model, rows, *_: predicted)
    tokens = SimpleNamespace(corpus=Dataset.from_dict({"x": range(100)}), dev=Dataset.from_dict({"labels": of_dev}))
    chain = SimpleNamespace(
        tokens=tokens, tokenizer=None, students=SimpleNamespace(sample=range(100)), texts=SimpleNamespace(classes=["a", "b"]),
        shares=SimpleNamespace(prior=np.array([0.5, 0.5])),
    )  # fmt: skip
    assert (collapsed_on_corpus(chain, None, model=object()) is not None) is said
