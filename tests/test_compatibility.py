"""What version 0.1.0 left on disk: later versions read it. (`fixtures/run_0.1.0`; a new version adds a folder of its own.)"""

import csv
import json
import shutil
from pathlib import Path

import pytest

from sstext.cli.main import main
from sstext.inference.classifier import Classifier
from sstext.reporting import write_report

VERSIONS = sorted(path.name for path in (Path(__file__).parent / "fixtures").glob("run_*"))


@pytest.fixture(params=VERSIONS)
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the folder, whose configuration names the files beside it."""
    folder = shutil.copytree(Path(__file__).parent / "fixtures" / request.param, tmp_path / "kept")
    config = folder / "out" / "config.yaml"
    config.write_text(config.read_text().replace("FOLDER", str(folder)))
    return folder


def test_a_model_of_then_predicts_the_same_labels_now(kept: Path) -> None:
    """Guards published models: the labels are those that the run wrote for its test rows."""
    import pyarrow.parquet as pq

    then = pq.read_table(kept / "out" / "predictions" / "test.parquet").to_pylist()
    texts = [row["text"] for row in then]
    source, target = kept / "in.csv", kept / "predicted.csv"
    with source.open("w", newline="") as file:
        csv.writer(file).writerows([("text",), *((text,) for text in texts)])
    assert main(["predict", str(kept / "out"), str(source), "-o", str(target), "--device", "cpu", "--quiet"]) == 0
    with target.open(newline="") as file:
        now = [row["predicted_label"] for row in csv.DictReader(file)]
    results = json.loads((kept / "out" / "results.json").read_text())
    figures = results["test"].get("self_trained", results["test"]["supervised"])
    right = sum(label == row["label"] for label, row in zip(now, then, strict=True))
    assert right / len(then) == pytest.approx(figures["metrics"]["accuracy"]["score"])
    assert Classifier.from_pretrained(kept / "out" / "model", device="cpu").classes == results["classes"]


def test_a_run_of_then_has_a_report_now(kept: Path) -> None:
    """Guards people who look at an old run: nothing is left out of its report."""
    page = write_report(kept / "out").read_text()
    assert "Left out of this report" not in page
    assert "<svg" in page


def test_a_run_of_then_is_gone_on_from_now(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards `train --more`: the options and the data of an old run are read again."""
    (kept / "more.csv").write_text("text,label\nmy parcel is late,delivery\ngive my money back,refund\n")
    arguments = [
        "train",
        str(kept / "out"),
        "--more",
        str(kept / "more.csv"),
        "--output",
        str(kept / "new"),
        "--dry-run",
    ]
    assert main(arguments) == 0
    assert "14" in capsys.readouterr().out
