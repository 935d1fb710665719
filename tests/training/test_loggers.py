"""Loggers: one run for one self-training run, figures under stable names, and no training lost for a logger."""

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from sstext import SemiSupervisedTrainer, SemiSupervisedTrainingArguments
from sstext.config.run_config import RunConfig
from sstext.errors import UserError
from sstext.progress import SILENT, Reporter
from sstext.run.train import self_train, train
from sstext.training import loggers
from sstext.training.loggers import LOGS, RUN_ID, TrackedReporter, tracked


@pytest.fixture(scope="module")
def quick(tiny_run: Callable[..., RunConfig]) -> Callable[..., RunConfig]:
    """`quick(output, **changes)`: a run whose objective has two losses."""
    return partial(tiny_run, steps=10, round_steps=10, method="fixmatch", method_args={"threshold": 0.1})


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows of a folder: name → (step, value)."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


class Broken:
    """A logger that starts, and whose service is gone at the first figure."""

    name, requires_logging_directory = "broken", False

    def __init__(self, *_: Any, **__: Any) -> None:
        self.calls = 0

    def start(self) -> None:
        pass

    def store_init_configuration(self, values: dict) -> None:
        assert all(isinstance(value, str | int | float) for value in values.values())

    def log(self, values: dict, step: int) -> None:
        self.calls += 1
        raise ConnectionError("the service is gone")


def test_a_run_is_one_run_in_tensorboard(quick: Callable, tmp_path: Path) -> None:
    """Guards names that dashboards are built on, one run instead of one for each training, and an x-axis that goes on."""
    results = train(quick(tmp_path / "out", report_to=["tensorboard"]))
    (folder,) = {file.parent for file in (tmp_path / "out" / LOGS).rglob("events.*")}
    shown = read(folder)
    assert {"train/loss", "train/loss_labeled", "train/loss_unlabeled", "train/kept_share", "train/mean_weight",
            "train/learning_rate", "round/index", "round/admitted", "round/coverage", "test/accuracy",
            "test/macro_f1", "test/supervised_accuracy"} <= set(shown)  # fmt: skip
    assert not [name for name in shown if "runtime" in name or "total_flos" in name]
    assert [step for step, _ in shown["train/loss"]] == [10, 20], "10 steps of the start, then 10 of round 1"
    logged = [
        json.loads((tmp_path / "out" / name / "log.jsonl").read_text().splitlines()[0]) for name in ("start", "round_1")
    ]
    assert [value for _, value in shown["train/loss_unlabeled"]] == pytest.approx([x["loss_unlabeled"] for x in logged])
    assert shown["round/index"] == [(10, 0.0), (20, 1.0)]
    assert shown["round/admitted"][1][1] == results["rounds"][1]["admitted"] > 0
    assert shown["test/accuracy"][0] == (
        20,
        pytest.approx(results["test"]["self_trained"]["metrics"]["accuracy"]["score"]),
    )


def test_chains_have_curves_of_their_own_on_one_axis(quick: Callable, tmp_path: Path) -> None:
    """Guards chains whose points lie on top of each other; the student with all labels is `train/`."""
    train(quick(tmp_path / "out", report_to=["tensorboard"], method="class-balanced", method_args={}, folds=2))
    (folder,) = {file.parent for file in (tmp_path / "out" / LOGS).rglob("events.*")}
    shown = read(folder)
    steps = {group: [step for step, _ in shown[f"{group}/loss"]] for group in ("chain_1", "chain_2", "train")}
    assert steps["chain_1"][0] == 10
    assert steps["chain_2"][0] == 20
    assert min(steps["train"]) > max(steps["chain_1"] + steps["chain_2"]), "the last student comes last"
    assert {"round/out_of_fold_log_loss", "round/out_of_fold_accuracy", "round/gain_expected"} <= set(shown)


def test_a_run_that_goes_on_keeps_its_axis_and_its_name(quick: Callable, tmp_path: Path) -> None:
    """Guards a second curve that starts at 0 after an interruption, and a second run beside the first."""
    config = quick(tmp_path / "out", report_to=["tensorboard"])
    rounds = self_train(config)
    next(rounds)
    rounds.close()
    list(self_train(config))
    (folder,) = {file.parent for file in (tmp_path / "out" / LOGS).rglob("events.*")}
    assert [step for step, _ in read(folder)["train/loss"]] == [10, 20]


def test_wandb_offline(quick: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the other logger that people use: one run in the run's folder, nothing sent, its name kept for a continued run."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    train(quick(tmp_path / "out", report_to=["wandb"], rounds=0))
    # Without a network, early versions of accelerate begin the same run twice.
    runs = list((tmp_path / "out" / "wandb").glob("offline-run-*"))
    expected, log, began = (b"train/loss_unlabeled", b"round/admitted", b"test/accuracy"), b"", time.monotonic()
    while not all(name in log for name in expected) and time.monotonic() - began < 60:
        time.sleep(0.1)  # W&B's own process writes, on a busy machine after the run has returned
        log = b"".join(file.read_bytes() for run in runs for file in run.glob("*.wandb"))
    for name in expected:
        assert name in log
    assert {run.name.rpartition("-")[2] for run in runs} == {(tmp_path / "out" / RUN_ID).read_text()}


def test_a_logger_that_fails_is_left_out(
    quick: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards hours of training lost because a dashboard's service was gone."""
    monkeypatch.setitem(loggers.LOGGER_TYPE_TO_CLASS, "mlflow", Broken)
    reporter = TrackedReporter(Reporter(), quick(tmp_path, report_to=["mlflow"]))
    reporter.figures({"train/loss": 1.0})
    reporter.figures({"train/loss": 1.0})
    reporter.finish()
    assert capsys.readouterr().err.count("broken failed and is switched off: the service is gone") == 1


@pytest.mark.parametrize(
    ("name", "said"), [("tensorbord", "found 'tensorbord'"), ("clearml", "package of clearml is not installed")]
)
def test_wrong_loggers_are_refused_before_anything_is_read(
    name: str, said: str, quick: Callable, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said):
        train(quick(tmp_path / "out", labeled="nosuch.csv", report_to=[name]))
    assert not (tmp_path / "out").exists()


def test_without_loggers_nothing_stands_between(quick: Callable, tmp_path: Path) -> None:
    with tracked(quick(tmp_path), SILENT) as reporter:
        assert reporter is SILENT


def test_the_trainer_reports_as_trainer_does(
    tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards component losses that never reach `report_to`."""
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "logs"))
    rows = Dataset.from_dict({"text": ["my parcel is late", "refund my money"] * 4, "label": [0, 1] * 4})
    arguments = SemiSupervisedTrainingArguments(
        str(tmp_path / "out"), max_steps=2, logging_steps=1, report_to=["tensorboard"], use_cpu=True, disable_tqdm=True
    )
    SemiSupervisedTrainer(
        AutoModelForSequenceClassification.from_pretrained(tiny_encoder), arguments, train_dataset=rows,
        unlabeled_dataset=rows.remove_columns("label"), processing_class=AutoTokenizer.from_pretrained(tiny_encoder),
        method="fixmatch",
    ).train()  # fmt: skip
    assert {"train/loss", "train/loss_unlabeled", "train/kept_share"} <= set(read(tmp_path / "logs"))
