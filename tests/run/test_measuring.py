"""What a run leaves for a report: predictions of the rows that it was measured on, phases, memory."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from sstext.evaluation.bootstrap import bootstrap
from sstext.evaluation.calibration import softmax
from sstext.evaluation.metrics import expected_calibration_error
from sstext.progress import Reporter
from sstext.run.measuring import peak_memory, write_predictions
from sstext.run.train import train
from sstext.storage.run_folder import RunDirectory

Results = tuple[Path, dict[str, Any]]


@pytest.fixture(scope="module")
def folded(tiny_run: Callable, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """A run of two chains: its folder, and its results."""
    out = tmp_path_factory.mktemp("folded") / "out"
    return out, train(tiny_run(out, folds=2))


def column(table: Any, name: str) -> np.ndarray:
    return np.asarray(table[name].to_pylist())


def test_the_test_rows_are_kept_with_what_both_models_say(folded: Results) -> None:
    """Guards a report that shows other figures than results.json: they are computed here from the file alone."""
    out, results = folded
    table = pq.read_table(out / "predictions" / "test.parquet")
    numbers = np.array([results["classes"].index(label) for label in table["label"].to_pylist()])
    for name, model, temperature in (
        ("supervised", "supervised", results["rounds"][0]["temperature"]), ("final", "self_trained", 1.0)
    ):  # fmt: skip
        probabilities = softmax(column(table, name).astype(np.float64), temperature)
        figures = bootstrap(["accuracy", "nll"], probabilities, numbers, resamples=2)
        for figure in ("accuracy", "nll"):
            expected = results["test"][model]["metrics"][figure]["score"]
            assert figures[figure]["score"] == pytest.approx(expected, abs=1e-5), (name, figure)


def test_the_temperature_in_the_weights_is_recorded(folded: Results) -> None:
    """Guards a reliability diagram "before calibration" that is the one after it."""
    out, results = folded
    final = column(pq.read_table(out / "predictions" / "test.parquet"), "final").astype(np.float64)
    labels = [
        results["classes"].index(row["label"])
        for row in pq.read_table(out / "predictions" / "test.parquet").to_pylist()
    ]
    before = expected_calibration_error(softmax(final * results["chosen"]["temperature"]), labels)
    assert results["uncalibrated"] == {"expected_calibration_error": pytest.approx(float(before), abs=1e-6)}
    after = results["test"]["self_trained"]["metrics"]["expected_calibration_error"]["score"]
    assert f"{before:.3f} before, {after:.3f}" in (out / "model" / "README.md").read_text(), "the card says both"
    assert results["chosen"]["temperature"] != 1


def test_held_out_rows_are_those_of_the_chains(folded: Results) -> None:
    """Guards texts that stand beside another row's logits: every chain's rows in its order, no row twice or left out."""
    out, results = folded
    assert [record["stage"] for record in results["rounds"]] == ["baseline", "round 1"]
    table = pq.read_table(out / "predictions" / "out_of_fold.parquet")
    chains = column(table, "chain")
    for chain in (1, 2):
        for index, stage in enumerate(["baseline", "round_1"]):
            saved = np.load(out / f"chain_{chain}" / stage / "held_out.npy")
            np.testing.assert_array_equal(column(table, f"round_{index}")[chains == chain].astype(np.float32), saved)
    labeled = yaml.safe_load((out / "config.yaml").read_text())["labeled"]
    lines = Path(labeled).read_text().splitlines()[1:]
    labels = table["label"].to_pylist()
    assert sorted(f"{t},{c}" for t, c in zip(table["text"].to_pylist(), labels, strict=True)) == sorted(lines)
    right = np.mean(column(table, "round_0").argmax(1) == [results["classes"].index(label) for label in labels])
    assert right == pytest.approx(results["rounds"][0]["out_of_fold"]["accuracy"])


def test_development_rows_are_kept_too(tiny_run: Callable, tmp_path: Path) -> None:
    test = tiny_run(tmp_path / "out").test
    train(tiny_run(tmp_path / "out", dev=test, test=None, method="supervised", rounds=0))
    table = pq.read_table(tmp_path / "out" / "predictions" / "dev.parquet")
    assert table.column_names == ["text", "label", "round_0"]
    assert len(table) == 30
    assert not (tmp_path / "out" / "predictions" / "test.parquet").exists()


def test_phases_and_memory_are_recorded(folded: Results) -> None:
    """Guards time that nobody accounts for: the phases of all chains, and no more than the whole."""
    _, results = folded
    seconds = {phase["name"]: phase["seconds"] for phase in results["phases"]}
    assert {
        "tokenizing labeled", "chain 2, round 1: training", "chain 1, baseline: scoring", "test: baseline",
        "test: chosen model",
    } <= set(seconds)  # fmt: skip
    assert 0 < sum(seconds.values()) <= results["seconds"]
    assert results["peak_memory_mib"]["process"] > 100
    assert results["peak_memory_mib"]["device"] is None


def test_an_interrupted_run_adds_up_its_phases(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.add_times({"scoring": 1.5, "training": 2.0}, 4.0)
    directory.add_times({"training": 0.25}, 1.0)
    phases = [{"name": "scoring", "seconds": 1.5}, {"name": "training", "seconds": 2.25}]
    assert directory.times() == {"seconds": 5.0, "phases": phases}


def test_time_before_an_interruption_counts(
    tiny_run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards hours that a run took before Ctrl-C: in the middle of a round, nothing of it is recorded yet."""
    config = tiny_run(tmp_path / "out", folds=2, training_args={"save_steps": 2})
    with monkeypatch.context() as patch:
        patch.setattr("sstext.selftraining.loop.compare", lambda *_: exec("raise KeyboardInterrupt"))
        with pytest.raises(KeyboardInterrupt):
            train(config, reporter=Reporter(quiet=True))
    before = RunDirectory(tmp_path / "out").times()
    assert "chain 2, baseline: training" in [phase["name"] for phase in before["phases"]]
    results = train(config, reporter=Reporter(quiet=True))
    spent = {phase["name"]: phase["seconds"] for phase in results["phases"]}
    assert results["seconds"] > before["seconds"] > spent["chain 1, baseline: training"] > 0
    assert sum(spent.values()) <= results["seconds"]


def test_the_same_command_makes_a_report_that_is_missing(
    tiny_run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards a run that was killed while its figures were drawn: it is finished, and would stay without a page."""
    config = tiny_run(tmp_path / "out", method="supervised", rounds=0)
    train(config, report=False)
    made = []
    monkeypatch.setattr("sstext.run.train.write_report_of_owner", made.append)
    train(config)
    assert made == [tmp_path / "out"]


def test_times_are_taken_once() -> None:
    """Guards a phase that is counted again after every round."""
    reporter = Reporter(quiet=True)
    for _ in range(2):
        with reporter.phase("scoring", None, "text"):
            pass
    assert list(reporter.take_times()) == ["scoring"]
    assert reporter.take_times() == {}


def test_predictions_appear_whole_or_not_at_all(tmp_path: Path) -> None:
    """Guards half a file, which a report would take for all rows."""
    file = tmp_path / "predictions" / "test.parquet"
    write_predictions(file, ["a"], np.array([1]), ["no", "yes"], {"final": np.array([[0.0, 1.0]])})
    with pytest.raises((ValueError, TypeError, IndexError)):
        write_predictions(file, ["a"], np.array([7]), ["no", "yes"], {"final": np.array([[0.0, 1.0]])})
    assert pq.read_table(file).to_pylist() == [{"text": "a", "label": "yes", "final": [0.0, 1.0]}]
    assert [path.name for path in file.parent.iterdir()] == ["test.parquet"]


def test_memory_is_in_mib() -> None:
    """Guards a unit that is off by 1,024: a process that has torch loaded holds between 100 MiB and 100 GiB."""
    assert 100 < peak_memory()["process"] < 100 * 1024
    json.dumps(peak_memory())


@pytest.mark.slow
def test_forty_times_as_many_texts_take_little_more_memory(tiny_encoder: Path, tiny_files: Any, tmp_path: Path) -> None:
    """Guards large corpora of which nearly all texts are selected: 10⁶ texts took 1.28 times the memory of 10⁴, now 1.13.

    With 400,000 texts, CI needs less time.
    """
    peaks, program = {}, Path(__file__).parent.parent / "memory_job.py"
    for texts in (10_000, 400_000):
        folder = tmp_path / str(texts)
        job = [sys.executable, program, tiny_encoder, tiny_files.labeled, texts, folder]
        finished = subprocess.run([*map(str, job)], capture_output=True, text=True, check=False)
        assert finished.returncode == 0, finished.stderr[-3000:]
        peaks[texts] = float(finished.stdout.splitlines()[-1])
        admitted = json.loads((folder / "rounds.jsonl").read_text().splitlines()[-1])["admitted"]
        assert 0.9 * texts < admitted < texts
    assert peaks[400_000] < 1.09 * peaks[10_000], peaks
