"""A run without labels: descriptions of the classes take their place, and nothing claims to be checked."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from runs import AtTick, killed

from sstext.cli.main import main
from sstext.config.run_config import RunConfig
from sstext.data.loading import load_labeled
from sstext.errors import UserError
from sstext.evaluation.calibration import Correction
from sstext.inference.classifier import Classifier
from sstext.pseudolabels.texts_to_label import REASONS, TextToLabel
from sstext.reporting.report import write_report
from sstext.run import to_label
from sstext.run.dry_run import forecast
from sstext.run.opening import open_chain
from sstext.run.train import open_run, train

#: Not in the order of the alphabet, and not the same number for each class.
DESCRIPTIONS = {
    "refund": ["money return charged twice", "the invoice or the payment"],
    "delivery": "my parcel is late where is the courier",
    "account": ["password login", "email verify profile", "username locked"],
}


def zero_shot(tiny_run: Callable[..., RunConfig], output: Path, **changes: Any) -> RunConfig:
    usual = {"labeled": None, "test": None, "descriptions": DESCRIPTIONS, "method": "auto", "method_args": {}}
    return tiny_run(output, **usual | changes)


@pytest.fixture(scope="module")
def out(tiny_run: Callable[..., RunConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished run without labels, and without test rows."""
    folder = tmp_path_factory.mktemp("zero_shot") / "out"
    train(zero_shot(tiny_run, folder))
    return folder


def results_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def test_classes_and_their_order_are_those_of_the_descriptions(out: Path) -> None:
    """Guards against classes in another order than the logits, and against a third source of classes."""
    results = results_of(out)
    assert results["classes"] == list(DESCRIPTIONS)
    assert Classifier.from_pretrained(out / "model").classes == list(DESCRIPTIONS)
    assert results["rows"] == {"descriptions": 6, "unlabeled": 60}
    assert [record["stage"] for record in results["rounds"]] == ["zero-shot", "round 1"]
    assert results["rounds"][1]["admitted"] == 60
    assert results["rounds"][1]["labeled_by"] == "head"


def test_nothing_is_said_to_be_measured_or_checked(out: Path) -> None:
    """Guards against an accuracy, a calibration or a gain that a run without a single label claims to know."""
    results = results_of(out)
    assert results["test"] == {}
    assert results["chosen"]["temperature"] == 1.0
    assert results["chosen"]["calibrated_on"] is None
    assert "zero-shot: no text was labeled" in results["chosen"]["why"]
    for record in results["rounds"]:
        assert not record["metrics"]
        assert not record["out_of_fold"]
        assert record["gain"] is None
        assert record["estimated_precision"] is None
        assert record["temperature"] == 1.0
    assert not (out / "predictions").exists()
    assert json.loads((out / "model" / "config.json").read_text())["sstext"] == {
        "nothing_held_out": "no labels",
        "precision_curve": [],
    }
    card = (out / "model" / "README.md").read_text()
    assert "a zero-shot classifier, made from descriptions of the classes instead of labeled texts." in card
    assert "How often this model is right is unknown" in card
    assert "The probabilities are not calibrated, because no text was labeled." in card
    assert "Rows: 6 descriptions, 60 unlabeled." in card
    assert "labeled rows: " not in card
    assert "on the labeled rows" not in card
    assert "- zero-shot" in card


def test_the_report_says_that_nothing_was_checked(out: Path) -> None:
    """Guards against a report with figures of accuracy or a temperature, and against one that cannot be written."""
    page = write_report(out).read_text(encoding="utf-8")
    assert "How often it is right is unknown, because no text was labeled" in page
    assert "was trained on descriptions of the classes and 60 pseudo-labels" in page
    assert "to_label.csv has 30 texts that should be labeled first" in page
    assert "labeled rows and pseudo-labels" not in page
    assert "makes probabilities calibrated" not in page
    assert "held-out" not in page.split("</style>")[1].split('id="run"')[0]


def test_the_terminal_names_the_model_and_the_next_step(
    out: Path, tiny_run: Callable[..., RunConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A finished run is shown again by the same recipe. Guards the recipe, the words, and the line on what to label."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text((out / "config.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    assert main(["train", str(recipe), f"--output={out}", "--no-report"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Chosen: round 1 (the last one)." in shown
    assert "it is zero-shot: no text was labeled, so that nothing was compared or calibrated" in shown
    assert "Nothing else shows how often this model is right" in shown
    assert f"To label first: {out}/to_label.csv (30 texts). Fill in its column `label`" in shown
    assert "accuracy" not in shown


def test_the_texts_to_label_can_be_labeled_and_trained_with(out: Path, tmp_path: Path) -> None:
    """Guards a file that `--labeled` refuses once it is filled in, and one that passes as labeled before."""
    with (out / "to_label.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["text", "label", "reason", "predicted_label", "probability"]
    assert len(rows) == 30
    corpus = {json.loads(line)["text"] for line in _unlabeled(out).read_text().splitlines()}
    assert len({row["text"] for row in rows} & corpus) == 30, "texts of the corpus, each once"
    classifier, texts = Classifier.from_pretrained(out / "model"), [row["text"] for row in rows]
    assert [row["predicted_label"] for row in rows] == classifier.predict(texts)
    sure = classifier.predict_proba(texts).max(-1)
    np.testing.assert_allclose([float(row["probability"]) for row in rows], sure, atol=1e-3)
    with pytest.raises(UserError, match="expected labels in column 'label', found none"):
        load_labeled(out / "to_label.csv")
    with (tmp_path / "labeled.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "label": row["predicted_label"]} for row in rows)
    assert len(load_labeled(tmp_path / "labeled.csv").texts) == 30


def _unlabeled(out: Path) -> Path:
    import yaml

    return Path(yaml.safe_load((out / "config.yaml").read_text())["unlabeled"])


def test_all_processes_label_the_texts_that_the_first_one_chose(
    tiny_run: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards predictions of one process for the rows of another: rounding may choose others there."""
    run = open_run(zero_shot(tiny_run, tmp_path / "out"))
    scored: list[list[int]] = []

    def score(model: Any, rows: Any, *_: Any, **__: Any) -> np.ndarray:
        scored.append(rows["input_ids"][:])
        return np.eye(len(rows), 3)

    chosen = [TextToLabel(7, REASONS[0]), TextToLabel(2, REASONS[1])]
    monkeypatch.setattr(to_label, "score", score)
    monkeypatch.setattr(to_label, "is_main_process", lambda: False)
    monkeypatch.setattr(to_label, "texts_to_label", lambda *_: pytest.fail("chosen twice"))
    monkeypatch.setattr(to_label, "from_main_process", lambda value: chosen if value is None else value)
    monkeypatch.setattr(to_label, "Embedder", lambda model: model)
    monkeypatch.setattr(type(run.whole.students), "load", lambda *_: None)
    assert to_label.write_texts_to_label(run, run.plan.baseline, Correction()) == 2
    assert len(scored[0]) == 60
    assert scored[1] == [scored[0][7], scored[0][2]]
    assert not (tmp_path / "out" / "to_label.csv").exists(), "the first process writes it"


def test_the_model_predicts(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards a precision that is promised without a label to know it by."""
    assert main(["predict", str(out / "model"), str(_unlabeled(out)), "-o", str(tmp_path / "p.csv")]) == 0
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 61
    again = [
        "predict",
        str(out / "model"),
        str(_unlabeled(out)),
        "-o",
        str(tmp_path / "q.csv"),
        "--target-precision=.5",
    ]
    assert main(again) == 2
    error = capsys.readouterr().err
    assert "no text was labeled; label some texts, or give --dev, and train it again" in error
    assert "--folds" not in error, "it is refused without labels"


def test_without_rounds_data_in_python_test_rows_and_an_interruption(
    out: Path, tiny_run: Callable[..., RunConfig], tiny_files: Any, tmp_path: Path
) -> None:
    """Guards `sstext.train(config, unlabeled=rows)`, the zero-shot labels, which beat a guess of three classes, and a run
    that is stopped while it chooses the texts to label: the same texts are chosen, for the same reasons."""
    texts = [json.loads(line)["text"] for line in tiny_files.unlabeled.read_text().splitlines()]
    rows = Dataset.from_dict({"text": texts})
    config = zero_shot(tiny_run, tmp_path / "out", unlabeled=None, test=str(tiny_files.test), rounds=0)
    with pytest.raises(KeyboardInterrupt):
        train(config, reporter=AtTick("choosing texts to label", 1, killed), unlabeled=rows)
    assert not (tmp_path / "out" / "to_label.csv").exists()
    assert not (tmp_path / "out" / "results.json").exists()
    results = train(config, unlabeled=rows)
    assert results["chosen"]["stage"] == results["baseline"] == "zero-shot"
    assert results["chosen"]["why"].startswith("it is the only stage; it is zero-shot: no text was labeled")
    assert results["test"]["self_trained"]["metrics"]["accuracy"]["score"] > 0.5
    chosen, before = (
        [(row["text"], row["reason"]) for row in csv.DictReader((folder / "to_label.csv").open(encoding="utf-8"))]
        for folder in (tmp_path / "out", out)
    )
    assert chosen == before
    card = (tmp_path / "out" / "model" / "README.md").read_text()
    assert "The encoder is as it was pretrained." in card
    assert "| zero-shot | " in card


def test_a_dry_run_shows_the_stages_and_leaves_nothing(
    tiny_run: Callable[..., RunConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards `--dry-run`: no chains, no start, no plain fine-tuning for the test rows."""
    from sstext.cli.train_tables import show_forecast

    found = forecast(zero_shot(tiny_run, tmp_path / "out"))
    assert [stage.name for stage in (*found.plan.stages, found.plan.final) if stage] == ["zero-shot", "round 1"]
    assert found.plan.plain is None
    assert found.plan.folds == 0
    assert not (tmp_path / "out").exists()
    show_forecast(found)
    shown = capsys.readouterr().out
    assert "each learns from descriptions of the classes" in shown
    assert "descriptions     6" in shown
    assert "labeled rows" not in shown.replace("unlabeled rows", "")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"descriptions": "names"}, "labeled: no labeled texts; give data=.*descriptions=.classes.yaml"),
        ({"descriptions": "none"}, "labeled: no labeled texts; give data="),
        ({"descriptions": {"refund": "money"}}, "descriptions: expected at least two classes, found 'refund'"),
        ({"descriptions": {"refund": "money", "account": " "}}, "one text or several for the class 'account'"),
        ({"unlabeled": None}, "unlabeled: no unlabeled texts; .*rounds=0 to use descriptions alone"),
        ({"method": "supervised", "rounds": 0}, "method: supervised learns from labeled texts; give labeled="),
        ({"method": "fixmatch"}, "method: fixmatch learns from labeled texts; .*auto can start"),
        ({"method": "class-balanced"}, "method: class-balanced learns from labeled texts"),
        ({"folds": 3}, "folds: there are no labels to hold out"),
        ({"prior": "labeled"}, "prior: there are no labels to count"),
        ({"sample": {"labels_per_class": 2}}, "sample: there are no labeled texts to draw from"),
        ({"pooling": "native"}, "pooling: without labels, the head must read the embeddings"),
    ],
)
def test_what_needs_labels_is_refused_before_anything_is_written(
    changes: dict[str, Any], message: str, tiny_run: Callable[..., RunConfig], tmp_path: Path
) -> None:
    """Guards against a run that trains on descriptions as if they were labels, and against a folder that is left behind."""
    with pytest.raises(UserError, match=message):
        open_chain(zero_shot(tiny_run, tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()


def test_an_encoder_whose_head_cannot_compare_is_refused(
    tiny_run: Callable[..., RunConfig], tiny_encoder: Path, tmp_path: Path
) -> None:
    """Guards against a zero-shot model with a head that was drawn at random."""
    import shutil

    from transformers import DistilBertConfig, DistilBertModel

    shutil.copytree(tiny_encoder, tmp_path / "distil", ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    DistilBertModel(DistilBertConfig(vocab_size=300, dim=16, n_layers=1, n_heads=2, hidden_dim=32)).save_pretrained(
        tmp_path / "distil"
    )
    with pytest.raises(
        UserError, match=r"encoder: without labels, .*distilbert is not; choose one of the kinds 'bert'"
    ):
        open_chain(zero_shot(tiny_run, tmp_path / "out", encoder=str(tmp_path / "distil")))


def test_class_shares_do_not_follow_the_number_of_descriptions(
    tiny_run: Callable[..., RunConfig], tmp_path: Path
) -> None:
    """Guards against a corpus that is aligned to 2 : 1 : 3, because the classes have so many descriptions."""
    shares = open_chain(zero_shot(tiny_run, tmp_path / "out")).shares
    assert shares.source == "predictions"
    np.testing.assert_allclose(shares.prior, 1 / 3)
