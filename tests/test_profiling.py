"""Where the time of a command goes."""

import csv
import gzip
import json
import time
from pathlib import Path
from typing import Any

import pytest
from contract import make_trainer

from sstext.cli.main import main
from sstext.inference.classifier import Classifier
from sstext.profiling import (
    BACKWARD,
    DATA,
    FORWARD,
    OPTIMIZER,
    OTHER,
    SCORING,
    TIMES,
    TOKENIZING,
    Profile,
    profiled,
    section,
)


def names_in(trace: Path) -> set[str]:
    with gzip.open(trace, "rt", encoding="utf-8") as file:
        return {event.get("name", "") for event in json.load(file)["traceEvents"]}


def test_a_section_does_not_count_those_inside_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: guards seconds that count twice, so that shares would not have the sum 1."""
    clock = iter([0.0, 1.0, 3.0, 7.0, 15.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    profile = Profile(tmp_path)  # 0
    profile.enter(BACKWARD)  # 1
    profile.enter(FORWARD)  # 3
    profile.leave()  # 7
    profile.leave()  # 15
    found = {name: seconds for name, seconds in profile.seconds.items() if seconds}
    assert found == {OTHER: 1.0, BACKWARD: 2.0 + 8.0, FORWARD: 4.0}
    assert profile.shares()[BACKWARD] == pytest.approx(10 / 15)


def test_nothing_is_measured_without_a_profile() -> None:
    """Guards a clock that runs in every step of every training."""
    with section(SCORING):
        pass
    with section("no section at all"):  # not even its name is looked up
        pass


def test_the_sections_of_a_training(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards sections that nothing enters, and a trace of a whole training."""
    trainer = make_trainer(tiny_encoder, tmp_path / "out", "fixmatch", max_steps=8, logging_steps=8)
    with profiled(tmp_path / "profile") as profile:
        trainer.train()
    assert all(profile.seconds[name] > 0 for name in (DATA, FORWARD, BACKWARD, OPTIMIZER, OTHER))
    assert profile.seconds[SCORING] == 0
    assert sum(profile.shares().values()) == pytest.approx(1)
    with gzip.open(tmp_path / "profile" / "training.trace.json.gz", "rt", encoding="utf-8") as file:
        events = json.load(file)["traceEvents"]
    steps = [event for event in events if event.get("name", "").startswith("Optimizer.step")]
    assert len(steps) == 2, "three steps are traced, and the trace ends with the backward pass of the third one"


def test_predict_says_where_its_time_goes(
    finished_run: Path, tiny_files: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards a table in the predictions, which may go to stdout, and predictions that a profile changes."""
    command = ["predict", str(finished_run / "model"), str(tiny_files.test), "--quiet"]
    assert main(command) == 0
    plain = capsys.readouterr().out
    assert main([*command, "--profile", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert said.out == plain
    assert "scoring" in said.err
    with (tmp_path / TIMES).open(encoding="utf-8", newline="") as file:
        rows = {row["section"]: float(row["share"]) for row in csv.DictReader(file)}
    assert sum(rows.values()) == pytest.approx(1, abs=1e-3)
    assert rows[SCORING] > 0
    assert rows[TOKENIZING] > 0
    assert "aten::linear" in names_in(tmp_path / "scoring.trace.json.gz")


def test_a_scoring_ends_its_trace(finished_run: Path, tmp_path: Path) -> None:
    """Guards a trace that goes on until the next scoring, with all that lies between."""
    classifier = Classifier.from_pretrained(finished_run / "model", device="cpu")
    with profiled(tmp_path):
        classifier.predict(["a text"])
        assert (tmp_path / "scoring.trace.json.gz").is_file()


def test_workers_are_not_profiled(capsys: pytest.CaptureFixture[str], tiny_files: Any, tmp_path: Path) -> None:
    """Guards a table of a process that only waits for others."""
    files = ["--labeled", str(tiny_files.labeled), "--unlabeled", str(tiny_files.unlabeled), "--encoder", "demo"]
    command = [
        "train",
        *files,
        "--output",
        str(tmp_path / "out"),
        "--workers",
        "2",
        "--profile",
        str(tmp_path / "profile"),
    ]
    assert main(command) == 2
    assert "leave --workers out" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
