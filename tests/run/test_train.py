"""One run from files to `model/`: which model is chosen, what plain transformers make of it, and what is told of it."""

import csv
import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from sstext.cli.main import main
from sstext.config.run_config import RunConfig
from sstext.errors import UserError
from sstext.evaluation.bootstrap import evaluate_predictions
from sstext.evaluation.calibration import softmax
from sstext.inference.classifier import Classifier
from sstext.progress import Reporter
from sstext.reporting.report import write_report, write_report_of_owner
from sstext.run.dry_run import Forecast, forecast
from sstext.run.train import train
from sstext.selftraining.choice import choose
from sstext.selftraining.record import StageRecord, sentence
from sstext.storage.run_folder import RunDirectory

Quick = Callable[..., RunConfig]
#: Of the round loop: rounds that have something to learn, and do not end early.
ARGUMENTS = {"round_learning_rate": 5e-3, "start": "pretrained", "stop_agreement": 1.01}
#: Options of a run without rounds.
LABELS_ALONE = {"method": "supervised", "method_args": {}, "rounds": 0, "keep": None}
RECORD = StageRecord(1, 18, 0.3, {"a": 9, "b": 9}, None, 1.0, 0.8, {}, 120, 7.0, None)


class Watching(Reporter):
    """Keeps notes, and counts the ticks of every phase; may send Ctrl-C at one of them."""

    def __init__(self, interrupt: tuple[str, int] | None = None) -> None:
        super().__init__(quiet=True)
        self.interrupt, self.notes, self.ticks = interrupt, list[str](), dict[str, int]()

    def note(self, message: str) -> None:
        self.notes.append(message)

    @contextmanager
    def phase(self, name: str, total: int | None, unit: str, done: int = 0) -> Iterator[Any]:
        def tick(n: int = 1) -> None:
            self.ticks[name] = self.ticks.get(name, 0) + 1
            if (name, self.ticks[name]) == self.interrupt:
                os.kill(os.getpid(), signal.SIGINT)

        yield tick


@pytest.fixture(scope="module")
def task(tiny_task: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    task = tiny_task(tmp_path_factory.mktemp("task"))
    with task.dev.open("a") as file:  # nobody can have all of them right: a temperature is always fitted
        file.write("money invoice charged twice,account\n")
    return task


@pytest.fixture(scope="module")
def quick(task: Any, tiny_encoder: Path) -> Quick:
    """`quick(output, **changes)`: options of a run with development, test and audit rows."""

    def configure(output: Path, **changes: Any) -> RunConfig:
        options = {"labeled": str(task.labeled), "unlabeled": str(task.unlabeled), "dev": str(task.dev), "test": str(task.test),
                   "audit": str(task.answers), "encoder": str(tiny_encoder), "output": str(output), "steps": 12,
                   "round_steps": 12, "rounds": 2, "keep": [0.3, 0.5], "learning_rate": 5e-3, "precision": "fp32",
                   "device": "cpu", "training_args": {"eval_steps": 2, "early_stopping_patience": 2},
                   "method": "class-balanced", "method_args": ARGUMENTS}  # fmt: skip
        return RunConfig(**options | changes)

    return configure


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run") / "out"


@pytest.fixture(scope="module")
def results(quick: Quick, out: Path) -> dict[str, Any]:
    """What `train` returned; its folder is `out`. Read only."""
    return train(quick(out))


def rows_of(path: Path) -> tuple[list[str], list[str]]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["label"] for row in rows]


def folder_of(record: dict[str, Any], out: Path) -> Path:
    """The folder of a stage, by its record."""
    return out / record["stage"].replace(" ", "_")


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


# Which model


def test_the_best_round_on_the_development_rows_is_chosen() -> None:
    """Guards the choice: macro-F1 decides, not the last round, not accuracy, and of two equal ones the earlier is taken."""
    scores = [(0.5, 0.9), (0.7, 0.1), (0.7, 0.2), (0.6, 0.8)]
    rounds = [
        replace(RECORD, index=i, metrics={"macro_f1": f1, "accuracy": accuracy})
        for i, (f1, accuracy) in enumerate(scores)
    ]
    assert choose(rounds) == (1, "the best macro-F1 on the development rows, 0.700")
    assert choose([replace(record, metrics={"macro_f1": 0.5, "accuracy": 0}) for record in rounds])[0] == 0
    last, why = choose([replace(record, metrics={}) for record in rounds])
    assert last == 3
    assert "stages cannot be compared without folds or development rows" in why
    assert choose([replace(RECORD, index=0, metrics={})]) == (0, "it is the only stage")


def test_the_run_ships_the_chosen_round(results: dict[str, Any]) -> None:
    """Guards `chosen` against the records beside it."""
    scores = [record["metrics"]["macro_f1"] for record in results["rounds"]]
    assert results["chosen"]["round"] == scores.index(max(scores))
    assert max(scores) > min(scores)  # canary: there was something to choose


def test_development_rows_give_the_accuracy_of_the_chosen_model(results: dict[str, Any]) -> None:
    """13 rows that the model itself predicted: none counts less. Guards the figure of another stage."""
    record = results["rounds"][results["chosen"]["round"]]
    estimate = results["accuracy_estimate"]
    assert (estimate["source"], estimate["rows"], estimate["effective_rows"]) == ("development", 13, 13)
    assert estimate["value"] == pytest.approx(record["metrics"]["accuracy"])


def test_development_rows_stop_a_training_early_and_choose_its_best_step(results: dict[str, Any], out: Path) -> None:
    """Guards evaluation during training: every second step, no longer than patience allows, the best step is kept."""
    stopped = 0
    for record in results["rounds"]:
        folder = folder_of(record, out)
        evaluations = [(e["step"], e["eval_macro_f1"]) for e in log_of(folder) if "eval_macro_f1" in e]
        steps, scores = zip(*evaluations, strict=True)
        assert list(steps) == list(range(2, record["steps"] + 1, 2))
        assert record["metrics"]["macro_f1"] == pytest.approx(max(scores))
        if record["steps"] < 12:
            stopped += 1
            assert max(scores[-2:]) <= max(scores[:-2])
    assert stopped > 0  # canary


def test_the_temperature_is_in_the_weights_of_the_chosen_model(results: dict[str, Any], out: Path, task: Any) -> None:
    """Guards calibrated probabilities for every consumer: logits of model/ are those of the round, divided by T."""
    chosen = results["rounds"][results["chosen"]["round"]]
    assert abs(chosen["temperature"] - 1) > 0.01  # canary
    texts, _ = rows_of(task.test)
    raw = Classifier.from_pretrained(folder_of(chosen, out) / "model", device="cpu").logits(texts)
    predicted = Classifier.from_pretrained(out / "model", device="cpu").logits(texts)
    np.testing.assert_allclose(predicted, raw / chosen["temperature"], rtol=1e-4, atol=1e-5)
    weights = [load_file(place / "model.safetensors") for place in (folder_of(chosen, out) / "model", out / "model")]
    assert {k for k in weights[0] if (weights[0][k] != weights[1][k]).any()} == {"classifier.weight", "classifier.bias"}


# What plain transformers make of it


def test_the_model_folder_is_plain_and_tells_how_to_use_it(results: dict[str, Any], out: Path) -> None:
    """Guards against pickles, private texts and a card without the truncation that `pipeline` needs."""
    names = {path.name for path in (out / "model").iterdir()}
    assert names == {"README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    pickles = [path for path in out.rglob("*") if path.suffix in (".bin", ".pt", ".pth", ".pkl", ".pickle")]
    assert pickles == []
    config = json.loads((out / "model" / "config.json").read_text())
    assert config["id2label"] == {"0": "account", "1": "delivery", "2": "refund"}
    card = (out / "model" / "README.md").read_text()
    assert "truncation=True, max_length=64" in card
    assert str(out) not in card
    accuracy = results["test"]["self_trained"]["metrics"]["accuracy"]["score"]
    assert f"| this model | {accuracy:.3f}" in card
    assert "self_trained" not in card, "what it is called in results.json"


# What is told


def test_results_hold_the_whole_run(results: dict[str, Any], out: Path, task: Any, quick: Quick) -> None:
    """Guards results.json, the file that reports are made from."""
    on_disk = json.loads((out / "results.json").read_text())
    assert on_disk == json.loads(json.dumps(results))
    assert on_disk["rows"] == {"labeled": 12, "unlabeled": 60, "dev": 13, "test": 30}
    assert on_disk["classes"] == list(task.classes)
    assert on_disk["rounds"] == [json.loads(line) for line in (out / "rounds.jsonl").read_text().splitlines()]
    assert on_disk["max_length"] == {"training": 16, "prediction": 64}
    assert on_disk["seed"] == 0
    assert on_disk["left_out"] == [], "there was no budget"
    assert on_disk["machine"]["device"] == "cpu"
    assert on_disk["machine"]["precision"] == "fp32"
    assert set(on_disk["versions"]) == {"sstext", "torch", "transformers", "datasets", "accelerate", "numpy"}
    assert on_disk["seconds"] > 0


def test_test_figures_are_those_of_the_two_models(results: dict[str, Any], out: Path, task: Any) -> None:
    """Guards the final table: supervised is the baseline with its own temperature, the chosen model is `model/`."""
    texts, names = rows_of(task.test)
    labels = [task.classes.index(name) for name in names]
    supervised = Classifier.from_pretrained(out / "baseline" / "model", device="cpu").logits(texts)
    for name, probabilities in (
        ("supervised", softmax(supervised, results["rounds"][0]["temperature"])),
        ("self_trained", Classifier.from_pretrained(out / "model", device="cpu").predict_proba(texts)),
    ):
        expected, found = evaluate_predictions(probabilities, labels, task.classes), results["test"][name]
        assert found["confusion_matrix"] == expected["confusion_matrix"]
        assert found["per_class"] == expected["per_class"]
        for metric, figure in expected[
            "metrics"
        ].items():  # a folded temperature and one beside the weights round differently
            assert found["metrics"][metric]["score"] == pytest.approx(figure["score"], abs=1e-6), metric
            assert found["metrics"][metric]["confidence_interval"] == pytest.approx(
                figure["confidence_interval"], abs=1e-6
            )
    same = results["test"]["supervised"] == results["test"]["self_trained"]
    assert same == (results["chosen"]["round"] == 0)


def test_a_round_in_a_sentence() -> None:
    """Guards what people read while they wait."""
    told = sentence(
        replace(RECORD, audit_precision=0.5, metrics={"macro_f1": 0.25}, stopped_because="all rounds are done")
    )
    assert told == (
        "round 1: 120 steps in 7 s, 18 pseudo-labels (30% of the corpus), 50.0% of them are right, "
        "development macro-F1 0.250"
    )
    first = replace(RECORD, index=0, stage="baseline", admitted=0, coverage=0.0)
    assert sentence(first) == "baseline: 120 steps in 7 s"
    folded = replace(first, out_of_fold={"accuracy": 0.5, "log_loss": 0.75, "macro_f1": 0.25})
    assert sentence(folded) == "baseline: 120 steps (all chains) in 7 s, held-out accuracy 50.0%, log-loss 0.750"


# Again, and with less


def test_a_finished_run_gives_its_results_without_training(results: dict[str, Any], out: Path, quick: Quick) -> None:
    """Guards the second call of the same command: the numbers come from the disk, and stay the same."""
    watching = Watching()
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert train(quick(out), reporter=watching) == json.loads(json.dumps(results))
    assert not [name for name in watching.ticks if "training" in name or "scoring" in name]
    assert {path: path.read_bytes() for path in before} == before


def test_ctrl_c_changes_nothing_with_development_rows_either(
    results: dict[str, Any], out: Path, quick: Quick, tmp_path: Path
) -> None:
    """Guards early stopping and the best step: a continued training knows its evaluations, and how long it was patient.

    Ctrl-C at an evaluation of round 1, then half out of patience, then out of it."""
    early = next(record for record in results["rounds"] if record["steps"] < 12)
    assert early["steps"] > 3, "canary: Ctrl-C comes before half of the patience is gone"
    done = (0, 0)
    for index, step in sorted([(1, 2), (early["index"], early["steps"] - 1), (early["index"], early["steps"])]):
        ticks = step - done[1] if index == done[0] else step  # no step is repeated
        name = results["rounds"][index]["stage"]
        with pytest.raises(KeyboardInterrupt):
            train(quick(tmp_path / "out"), reporter=Watching(interrupt=(f"{name}: training", ticks)))
        assert not (tmp_path / "out" / "results.json").exists()
        folder = folder_of(results["rounds"][index], tmp_path / "out")
        assert f"checkpoint-{step}" in [path.name for path in folder.glob("checkpoints/*")]
        done = (index, step)
    again = train(quick(tmp_path / "out"))
    for place in (out, *(folder_of(record, out) for record in results["rounds"])):
        name = str(place.relative_to(out))
        model = f"{name}/model/model.safetensors"
        assert (tmp_path / "out" / model).read_bytes() == (out / model).read_bytes(), name
    untimed = [[{**record, "seconds": 0} for record in one["rounds"]] for one in (again, results)]
    assert untimed[0] == untimed[1]
    assert again["test"] == results["test"]


def test_a_run_ends_with_its_report_and_is_finished_without_one_too(
    quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards a page that is never made, one that was not wanted, and results that are lost because a figure failed."""
    monkeypatch.setattr("sstext.run.train.write_report_of_owner", write_report_of_owner)
    train(quick(tmp_path / "out", **LABELS_ALONE))
    assert "<!doctype html>" in (tmp_path / "out" / "report.html").read_text().lower()
    train(quick(tmp_path / "without", **LABELS_ALONE), report=False)
    assert not (tmp_path / "without" / "report.html").exists()

    def fails(folder: Path) -> None:
        raise RuntimeError("no font")

    monkeypatch.setattr("sstext.run.train.write_report_of_owner", fails)
    watching = Watching()
    assert train(quick(tmp_path / "failed", **LABELS_ALONE), reporter=watching)["chosen"]["round"] == 0
    assert (tmp_path / "failed" / "results.json").exists()
    assert [note for note in watching.notes if "the report could not be written (no font)" in note]


def test_without_development_and_test_rows(quick: Quick, tmp_path: Path) -> None:
    """Guards the shortest command: the last round is chosen as it is, nothing is measured, and the card says so."""
    found = train(quick(tmp_path / "out", dev=None, test=None, audit=None, rounds=1, steps=2, round_steps=2))
    assert found["chosen"]["round"] == 1
    assert found["test"] == {}
    models = [(tmp_path / "out" / name / "model.safetensors").read_bytes() for name in ("model", "round_1/model")]
    assert models[0] == models[1]
    assert found["accuracy_estimate"] is None
    assert "Nothing was measured" in (tmp_path / "out" / "model" / "README.md").read_text()


def test_a_method_learns_from_the_corpus_inside_a_round(
    quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards `--method softmatch` within the loop: unlabeled rows are in the loss of every round, and change the student."""
    monkeypatch.setattr("sstext.selftraining.loop.collapse_of_teacher", lambda *_: None)  # four steps teach little
    short = {
        "dev": None,
        "test": None,
        "rounds": 1,
        "steps": 4,
        "round_steps": 4,
        "training_args": {"logging_steps": 2},
    }
    train(quick(tmp_path / "with", method="softmatch", **short))
    train(quick(tmp_path / "without", **short))
    for name in ("start", "round_1"):
        losses = [e["loss_unlabeled"] for e in log_of(tmp_path / "with" / name) if "loss" in e]
        assert len(losses) == 2
        assert all(loss > 0 for loss in losses)
    assert not any("loss_unlabeled" in entry for entry in log_of(tmp_path / "without" / "baseline"))
    models = [tmp_path / name / "model/model.safetensors" for name in ("with/start", "without/baseline")]
    assert models[0].read_bytes() != models[1].read_bytes()


def test_a_forecast_counts_what_the_run_does_and_leaves_nothing(
    results: dict[str, Any], quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards `--dry-run`: the steps of every stage, the rows and the length of the real run, and no file anywhere."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    found = forecast(quick(tmp_path / "out", rounds=4, keep=[0.3, 1.0]))
    assert found.rows == results["rows"]
    assert found.classes == results["classes"]
    assert found.max_length == results["max_length"]["training"]
    assert (found.device, found.precision) == ("cpu", "fp32")
    assert steps_of(found) == dict.fromkeys(["baseline", "round 1", "round 2", "round 3", "round 4"], 12)
    assert found.plan.seconds is not None
    assert found.plan.seconds > 0
    defaults = replace(quick(tmp_path / "out"), output=None, steps=None, round_steps=None)
    assert steps_of(forecast(defaults)) == {"baseline": 60, "round 1": 120, "round 2": 120}
    assert list(tmp_path.iterdir()) == []


def steps_of(found: Forecast) -> dict[str, int]:
    return {stage.name: found.plan.steps(stage) for stage in found.plan.stages}


# Runs of earlier versions


def as_version_0_1(folder: Path) -> None:
    """Rewrite a finished run as version 0.1 left it: every stage a round from 0, and records that know no stages."""
    (folder / "manifest.jsonl").unlink()
    for place in (folder, folder / "all_labels", *folder.glob("chain_*")):
        for index, name in enumerate(["regression", "start", "round_1", "round_2"]):
            if (place / name).is_dir():
                (place / name).rename(place / f"was_{index}")
        for index in range(4):
            if (place / f"was_{index}").is_dir():
                (place / f"was_{index}").rename(place / f"round_{index}")
    results = json.loads((folder / "results.json").read_text())
    if (folder / "all_labels" / "final").is_dir():
        (folder / "all_labels" / "final").rename(folder / "all_labels" / f"round_{len(results['rounds']) - 1}")
    for record in results["rounds"]:
        del record["stage"], record["labeled_by"]
    del results["chosen"]["stage"], results["chosen"]["model"], results["chosen"]["judged"], results["left_out"]
    del results["baseline"], results["baseline_temperature"]
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "rounds.jsonl").write_text("".join(json.dumps(record) + "\n" for record in results["rounds"]))
    plan = {"steps": [8, 6, 6], "folds": 2, "left_out": [], "seconds": None}
    (folder / "plan.json").write_text(json.dumps(plan))
    options = (folder / "config.yaml").read_text()
    assert "edits:\n  cutoff: 0.0\n  drop: 0.0\n  mask: 0.15\n  swap: 0.0\n" in options
    old = re.sub(r"edits:\n(  .*\n)*", "", options) + "alignment: true\ntoken_mask: 0.15\nwarmup: 0.1\n"
    (folder / "config.yaml").write_text(old)


@pytest.mark.slow
def test_a_run_of_version_0_1_can_still_be_reported_and_predicted_with(
    tiny_run: Quick, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards people's finished runs: report and predictions are made from a folder whose stages are all called rounds, the
    report misses nothing that it has for the same run now, and `train` says why it does not go on."""
    config = tiny_run(tmp_path / "now", method="auto", folds=2, rounds=2, training_args={"logging_steps": 2})
    config = replace(config, method_args={"round_learning_rate": 5e-3})
    results = train(config)
    stages = [record["stage"] for record in results["rounds"]]
    assert stages[:3] == ["regression", "start", "round 1"], "canary"
    shutil.copytree(tmp_path / "now", tmp_path / "old")
    as_version_0_1(tmp_path / "old")
    assert (tmp_path / "old" / "chain_1" / "round_0" / "model").is_dir()
    shown = {name: page_of(tmp_path / name) for name in ("now", "old")}
    for name, page in shown.items():
        assert "cannot be read" not in page, name
        assert "Left out of this report" not in page, name
    for words in ("Regression", "Start"):
        assert words in shown["now"]
        assert words not in shown["old"]
    for words in ("round 0", "Round 1", "Round 2"):  # a regression has no losses with a title
        assert words in shown["old"]
    figures = {name: sorted(path.name for path in (tmp_path / name / "report_figures").iterdir()) for name in shown}
    assert len(figures["old"]) == len(figures["now"]) > 5

    (tmp_path / "texts.txt").write_text("money charged twice\nparcel is late\n")
    told = {}
    for name in shown:
        assert main(["predict", str(tmp_path / name / "model"), str(tmp_path / "texts.txt"), "--device", "cpu"]) == 0
        told[name] = capsys.readouterr().out
    assert told["old"] == told["now"]
    assert told["old"].startswith("text,predicted_label,confidence\n")
    records = RunDirectory(tmp_path / "old").rounds()
    assert [StageRecord.read(record).stage for record in records] == [f"round {index}" for index in range(len(stages))]
    with pytest.raises(
        UserError, match=r"old holds a run of an earlier version, .*\('alignment', 'token_mask', 'warmup'\)"
    ):
        train(replace(config, output=str(tmp_path / "old")))


def page_of(folder: Path) -> str:
    """The words of a new report of a run."""
    return " ".join(
        re.sub(r"<style.*?</style>|<[^>]+>", " ", write_report(folder).read_text(), flags=re.DOTALL).split()
    )
