"""auto with folds: the chains only make teachers, and one student learns from what they say together."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from runs import AtTick, contents, killed, records
from safetensors.numpy import load_file
from transformers import AutoConfig, DistilBertConfig, DistilBertModel

from sstext.cli.train_tables import show_results
from sstext.config.run_config import RunConfig
from sstext.errors import UserError
from sstext.evaluation.calibration import (
    matching_temperature,
    precision_curve,
    softmax,
    temperature_of_confidence,
)
from sstext.inference.classifier import Classifier
from sstext.pseudolabels.alignment import align
from sstext.reporting.comparison import evidence_of
from sstext.reporting.run_files import open_run_files
from sstext.run import shipping
from sstext.run.pseudo_label_data import pseudo_label_files
from sstext.run.train import open_run, train
from sstext.selftraining import choice, final_model, loop
from sstext.selftraining.cross_fitting import Run, corpus_weights, out_of_fold
from sstext.selftraining.teachers import share_of_later, teachers_of

Quick = Callable[..., RunConfig]
ALL_DONE = "all rounds are done"


@pytest.fixture(scope="module")
def quick(tiny_run: Quick) -> Quick:
    """`quick(output, **changes)`: options of a run of `auto` with two chains and one student."""
    return partial(tiny_run, method="auto", folds=2, prior="uniform")


def told_to_choose(patch: pytest.MonkeyPatch, position: int) -> None:
    """Let the stage at a position be the teacher, whatever the evidence."""
    patch.setattr(choice, "choose", lambda *_: (position, "it was told to"))


@pytest.fixture(scope="module")
def taught(quick: Quick, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], Run]:
    """Folder, results and chains of a run whose starts are the teachers. Read only."""
    config = quick(tmp_path_factory.mktemp("taught") / "out")
    with pytest.MonkeyPatch.context() as patch:
        told_to_choose(patch, 1)
        found = train(config)
    return Path(str(config.output)), found, open_run(config)


def stages_in(folder: Path) -> set[str]:
    """The stages that have been trained in the folder of a chain."""
    return {file.parent.name for file in folder.glob("*/fit.json")}


def weights(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "model.safetensors")


# What is trained


def test_chains_make_teachers_and_one_student_is_trained(taught: tuple[Path, dict[str, Any], Run]) -> None:
    """Guards the price: no chain trains on pseudo-labels, and the corpus is learned from once."""
    out, found, _ = taught
    for chain in ("chain_1", "chain_2"):
        assert stages_in(out / chain) == {"regression", "start"}
        assert not list((out / chain).rglob("pseudo_labels.parquet"))
        assert not (out / chain / "regression" / "scores.npy").exists(), "nobody learns from it"
    assert stages_in(out / "all_labels") == {"regression", "start", "final", "baseline"}
    assert [(record["stage"], record["steps"]) for record in found["rounds"]] == [
        ("regression", 0), ("start", 12), ("final", 6),
    ]  # fmt: skip


def test_the_record_of_the_final_model(taught: tuple[Path, dict[str, Any], Run]) -> None:
    """Guards the last line of rounds.jsonl, which card, report and table show: everything by hand from the files."""
    out, found, run = taught
    assert records(out) == found["rounds"]
    last = found["rounds"][-1]
    assert (last["index"], last["admitted"], last["coverage"], last["refused"]) == (2, 60, 1.0, None)
    teachers = teachers_of(run.whole, run.chains, run.plan.named("start"), 1.0)
    share = f"{teachers.share:.0%}), and the regressions ({1 - teachers.share:.0%})"
    assert last["labeled_by"] == f"the start of each chain, and the start with all labels ({share}"
    assert (last["stopped_because"], last["agreement"], last["metrics"], last["out_of_fold"]) == (
        ALL_DONE,
        None,
        {},
        {},
    )
    assert [record["stopped_because"] for record in found["rounds"][:-1]] == [None, None]
    kept = pq.read_table(out / "all_labels" / "final" / "pseudo_labels.parquet").to_pydict()
    assert last["per_class"] == {name: kept["label"].count(name) for name in found["classes"]}
    labels = align(np.exp(np.load(out / "all_labels" / "averaged.npy").astype(np.float64)), np.full(3, 1 / 3))
    said_by_each = [one.aligned()[np.arange(60)].max(-1).mean() for one in teachers.scores]
    assert teachers.confidence(np.arange(60)) == pytest.approx(np.dot(teachers.weights, said_by_each), abs=1e-9)
    averaged = np.load(out / "all_labels" / "averaged.npy").astype(np.float64)
    sharper = temperature_of_confidence(averaged, teachers.confidence(np.arange(60)))
    assert sharper < 1, "a mean is less confident than its members"
    labels = softmax(np.log(labels), sharper)
    assert last["estimated_precision"] == pytest.approx(labels.max(-1).mean(), abs=1e-6)
    own = run_logits(out / "all_labels" / "final" / "model", run)
    assert last["temperature"] == pytest.approx(matching_temperature(own, labels) ** 0.5, rel=1e-3)
    said = run.whole.students.load(run.plan.named("final"))
    predicted = run_logits(out / "all_labels" / "final" / "model", run)
    assert said.config.num_labels == 3
    shares = np.bincount(predicted.argmax(-1), minlength=3) / 60
    assert list(last["class_shares"].values()) == pytest.approx(shares.tolist())
    chosen = found["chosen"]
    assert (chosen["stage"], chosen["model"], chosen["round"], chosen["judged"]) == ("final", "final", 2, 1)
    assert (
        chosen["why"] == "it learned from pseudo-labels of the start; the start was chosen as teacher: it was told to"
    )
    assert chosen["calibrated_on"] == (
        "pseudo-labels that were calibrated on held-out predictions of the labeled rows (the model's confidence is half way "
        "between that of its teachers and its own)"
    )
    assert chosen["temperature"] == last["temperature"] != 1


def run_logits(model: Path, run: Run) -> np.ndarray:
    """What a model says of the corpus."""
    return Classifier.from_pretrained(model).logits(run.whole.texts.unlabeled.texts["text"][:]).astype(np.float64)


def test_labels_are_those_of_the_starts_and_of_the_regressions(taught: tuple[Path, dict[str, Any], Run]) -> None:
    """½ mean of the chains + ½ the model with all labels, for the starts (head and probe) and for the regressions, each at the
    temperature of held-out rows, mixed by these rows. The regressions are read from their models here, whose layer before the
    head is only nearly linear, and from embeddings in the run.

    Guards teachers that are left out or mixed up, and labels that are more confident than they are right.
    """
    out, _, run = taught
    start, regression = run.plan.named("start"), run.plan.named("regression")
    expected, held_out = np.zeros((60, 3)), []
    for stage, probe in ((start, True), (regression, False)):
        found = out_of_fold(run.chains, stage, probe=probe)
        assert found.temperature() != 1, "canary"
        held_out.append(found.probabilities())
    share = share_of_later(held_out[1], held_out[0], found.labels)
    assert 0.05 < share < 0.95, "canary"
    for name, weight in (("chain_1", 1 / 4), ("chain_2", 1 / 4), ("all_labels", 1 / 2)):
        by_start = np.load(out / name / "start" / "scores.npy").astype(np.float64)
        by_regression = run_logits(out / name / "regression" / "model", run)
        for said, stage, probe, part in ((by_start, start, True, share), (by_regression, regression, False, 1 - share)):
            temperature = out_of_fold(run.chains, stage, probe=probe).temperature()
            expected += part * weight * softmax(said, temperature)
    np.testing.assert_allclose(np.exp(np.load(out / "all_labels" / "averaged.npy")), expected, atol=1e-3)


def test_the_better_of_two_predictions_counts_more() -> None:
    """p of the label is .5 and .9 in n rows: E[a] is that of the density (.5 + .4 a)^n on 0 to 1, and 1 - E[a] the other way
    round. Guards a choice of one of them by a few rows, and rows that are read by the wrong class."""
    for rows in (0, 1, 5, 40):
        labels = np.arange(rows) % 2
        sure = np.where(np.eye(2)[labels] > 0, 0.9, 0.1).reshape(rows, 2)
        unsure = np.full((rows, 2), 0.5)
        grid = np.linspace(0, 1, 100_001)
        density = (0.5 + 0.4 * grid) ** rows
        expected = (density * grid).sum() / density.sum()
        assert share_of_later(unsure, sure, labels) == pytest.approx(expected, abs=2e-3)
        assert share_of_later(sure, unsure, labels) == pytest.approx(1 - expected, abs=2e-3)


def test_the_model_is_the_final_one_calibrated(taught: tuple[Path, dict[str, Any], Run]) -> None:
    """Its weights have the temperature that makes it as sure as its labels, and its curve is its own."""
    out, found, run = taught
    trained, model = weights(out / "all_labels" / "final" / "model"), weights(out / "model")
    temperature = found["chosen"]["temperature"]
    np.testing.assert_allclose(model["classifier.weight"], trained["classifier.weight"] / temperature, rtol=1e-6)
    curve = json.loads((out / "model" / "config.json").read_text())["sstext"]["precision_curve"]
    confidence = softmax(run_logits(out / "all_labels" / "final" / "model", run), temperature).max(-1)
    np.testing.assert_allclose(curve, precision_curve(confidence), atol=1e-5)


def test_the_accuracy_is_estimated_from_held_out_rows_and_the_corpus(
    taught: tuple[Path, dict[str, Any], Run], capsys: pytest.CaptureFixture[str]
) -> None:
    """By hand from the files: the share of held-out rows that the starts have right, and what the model gains over the starts
    by the averaged labels. 12 rows count as 7.2. Guards a gain of other predictions, and a figure that is kept for oneself."""
    out, found, run = taught
    held_out = out_of_fold(run.chains, run.plan.named("start"), probe=True)
    labels = np.exp(np.load(out / "all_labels" / "averaged.npy").astype(np.float64))
    rows, by_chains = np.arange(60), [np.load(out / f"chain_{k}" / "start" / "scores.npy").argmax(-1) for k in (1, 2)]
    predicted = run_logits(out / "all_labels" / "final" / "model", run).argmax(-1)
    gain = np.mean([labels[rows, predicted] - labels[rows, chain] for chain in by_chains])
    assert abs(gain) > 1e-3, "canary"
    estimate = found["accuracy_estimate"]
    assert (estimate["source"], estimate["rows"], estimate["level"]) == ("held-out", 12, 0.9)
    assert estimate["gain"] == pytest.approx(gain, abs=1e-4)
    right = (held_out.logits.argmax(-1) == held_out.labels).mean()
    assert estimate["value"] == pytest.approx(min(1.0, right + gain), abs=1e-4)
    assert estimate["effective_rows"] == pytest.approx(7.2)
    assert estimate["low"] < estimate["value"] <= estimate["high"]
    show_results(found, "out")
    assert "estimated from" not in capsys.readouterr().out, "the test rows are the figure"


# Ends of their own


def test_a_teacher_that_collapsed_as_the_final_model_did_gives_way_to_the_regression(
    quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """20 chosen labels, 16 of them of one class: start and final model called all texts so. Guards a refusal that ships a model
    which is as useless."""
    told_to_choose(monkeypatch, 1)
    monkeypatch.setattr(final_model, "score", lambda *_, **__: np.tile([3.0, 0.0, 0.0], (60, 1)))
    monkeypatch.setattr(shipping, "check_one", lambda chain, stage: ("collapsed", None))
    found = train(quick(tmp_path / "out", test=None))
    chosen = found["chosen"]
    assert (chosen["stage"], chosen["model"], chosen["judged"]) == ("regression", "regression", 0)
    suits = "its probabilities were multiplied so that they suit the class shares of the corpus"
    assert (
        chosen["why"]
        == f"the predictions of the start have collapsed, too, so that the regression is the model; {suits}"
    )
    assert [warning.endswith("expected 3.0)") for warning in chosen["warnings"]] == [True]
    assert found["unusable"] is None
    trained = weights(tmp_path / "out" / "all_labels" / "regression" / "model")["classifier.weight"]
    model = weights(tmp_path / "out" / "model")["classifier.weight"]
    np.testing.assert_allclose(model, trained / chosen["temperature"], rtol=1e-6)
    given = np.full(3, 1 / 3)  # --prior uniform: on average, the model predicts these shares for the corpus
    run = open_run(quick(tmp_path / "out", test=None))
    logits = run.whole.students.sample_logits(run.plan.named("regression"))
    shift = np.array(list(chosen["shift"].values()))
    assert softmax(logits / chosen["temperature"] + shift).mean(0) == pytest.approx(given, abs=1e-3)
    assert softmax(logits / chosen["temperature"]).mean(0) != pytest.approx(given, abs=1e-2), "canary"


def test_estimated_shares_of_the_corpus_are_in_the_results(
    quick: Quick, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards people with balanced labels of a skewed corpus, who are never told what the run made of it. The shares are those
    by which held-out rows are weighed; given ones are no estimate."""
    found = train(quick(tmp_path / "out", prior="auto", test=None))
    run = open_run(quick(tmp_path / "out", prior="auto", test=None))
    shares = found["corpus_shares"]
    assert list(shares) == run.whole.texts.classes
    assert sum(shares.values()) == pytest.approx(1)
    counted = corpus_weights(run.chains, run.plan.named("start"))
    assert np.array(list(shares.values())) * 3 == pytest.approx(counted), "the labels have equal shares"
    show_results(found | {"corpus_shares": {"account": 0.8, "delivery": 0.15, "refund": 0.05}}, "out")
    said = "the corpus seems to have other shares: account 80%, delivery 15%, refund 5% (estimated)"
    assert said in " ".join(capsys.readouterr().out.split())
    assert train(quick(tmp_path / "given", test=None))["corpus_shares"] is None


def test_a_teacher_that_is_expected_to_be_worse_is_not_the_model(quick: Quick, tmp_path: Path) -> None:
    """It may teach, because its student is expected to gain more. Guards harm where no student can take its place."""
    run = open_run(quick(tmp_path / "out"))
    start = run.plan.named("start")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shipping, "check_one", lambda chain, stage: (None, None))
        worse, better = ({"observed": 0.0, "standard_error": 0.1, "expected": gain} for gain in (-0.01, 0.01))
        assert shipping.unfit_as_model(run.whole, SimpleNamespace(gain=better), start) == ""
        said = shipping.unfit_as_model(run.whole, SimpleNamespace(gain=worse), start)
        assert said == "the start itself is expected to be worse than the first stage"


def test_without_a_regression_a_teacher_that_collapsed_gives_way_to_plain_fine_tuning(
    quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Encoders whose head cannot be a regression: guards a collapsed model that is shipped without a word."""
    told_to_choose(monkeypatch, 1)
    monkeypatch.setattr(final_model, "score", lambda *_, **__: np.tile([3.0, 0.0, 0.0], (60, 1)))
    monkeypatch.setattr(shipping, "check_one", lambda chain, stage: ("collapsed", f"the {stage.name} is of no use"))
    found = train(quick(tmp_path / "out", test=None, pooling="native"))
    chosen = found["chosen"]
    assert (chosen["stage"], chosen["model"], chosen["judged"]) == ("baseline", "baseline", 0)
    assert chosen["why"] == "the predictions of the start have collapsed, too, so that the baseline is the model"
    assert found["unusable"] == "the baseline is of no use"


def test_a_final_model_that_collapsed_gives_way_to_its_teacher(
    quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards a model that answers one class: the teacher with all labels is the model, its head calibrated on held-out rows.
    And, because it has no test rows, minutes for a plain fine-tuning that nobody compares with."""
    told_to_choose(monkeypatch, 1)
    one_class = np.tile([3.0, 0.0, 0.0], (60, 1))
    monkeypatch.setattr(final_model, "score", lambda *_, **__: one_class)
    config = quick(tmp_path / "out", test=None)
    found = train(config)
    assert not (tmp_path / "out" / "all_labels" / "baseline").exists()
    assert (found["baseline"], found["test"]) == ("regression", {})
    refused = "its predictions have collapsed to few classes (effective number 1.0, expected 3.0)"
    assert found["rounds"][-1]["refused"] == refused
    assert found["rounds"][-1]["class_shares"] == {"account": 1.0, "delivery": 0.0, "refund": 0.0}
    chosen = found["chosen"]
    assert (chosen["stage"], chosen["model"], chosen["round"], chosen["judged"]) == ("start", "start", 1, 1)
    assert chosen["why"] == "it was told to"
    assert chosen["warnings"] == [f"the final model was refused: {refused}"]
    assert chosen["calibrated_on"] == "held-out predictions of the labeled rows"
    with pytest.raises(UserError, match="the model of start learned from no pseudo-labels"):
        pseudo_label_files(tmp_path / "out", model="user/model")  # those of the refused student must not be published
    run = open_run(config)
    start = run.plan.named("start")
    assert found["accuracy_estimate"]["gain"] == 0.0, "head and probe of the chains say nothing of the head alone"
    temperature = out_of_fold(run.chains, start, probe=False).temperature()
    assert chosen["temperature"] == pytest.approx(temperature)
    assert temperature != out_of_fold(run.chains, start, probe=True).temperature(), "the model has no probe"
    trained = weights(tmp_path / "out" / "all_labels" / "start" / "model")
    model = weights(tmp_path / "out" / "model")
    np.testing.assert_allclose(model["classifier.weight"], trained["classifier.weight"] / temperature, rtol=1e-6)
    curve = json.loads((tmp_path / "out" / "model" / "config.json").read_text())["sstext"]["precision_curve"]
    alone = out_of_fold(run.chains, start, probe=False).probabilities().max(-1)
    np.testing.assert_allclose(curve, precision_curve(alone), atol=1e-9)
    show_results(found, "out")
    shown = " ".join(capsys.readouterr().out.split())
    assert f"the final model was refused: {refused}" in shown
    estimate = found["accuracy_estimate"]
    assert estimate["effective_rows"] == pytest.approx(7.2)
    said = f"Accuracy on the corpus: about {int(100 * estimate['value'] + 0.5)}% (90% interval: "
    assert said in shown
    assert said in (tmp_path / "out" / "model" / "README.md").read_text()


@pytest.mark.slow
def test_without_any_text_to_learn_from_the_teacher_is_the_model(
    quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards a crash after everything has been paid, a stop that is called None, and a finished run that goes on. And
    `plain=true`, which makes a stage of plain fine-tuning, without test rows too: it is judged."""
    told_to_choose(monkeypatch, 2)
    config = quick(tmp_path / "out", test=None, method_args={"min_confidence": 1.0, "plain": True})
    found = train(config)
    assert [record["stage"] for record in found["rounds"]] == ["regression", "baseline", "start"]
    assert [record["index"] for record in found["rounds"]] == [0, 1, 2]
    assert found["rounds"][1]["gain"] is not None
    assert found["baseline"] == "regression"
    chosen = found["chosen"]
    assert chosen["warnings"] == ["no text was selected for a final model"]
    assert chosen["model"] == chosen["stage"] == ("regression", "baseline", "start")[chosen["judged"]]
    assert stages_in(tmp_path / "out" / "all_labels") <= {"regression", "start", "baseline"}
    show_results(found, "out")
    assert "None" not in capsys.readouterr().out
    assert train(config) == found


def test_a_report_shows_what_was_measured(taught: tuple[Path, dict[str, Any], Run], tmp_path: Path) -> None:
    """Guards plain fine-tuning at the temperature of the regression, and a report without test rows that knows no accuracy: the
    teacher was judged on held-out rows, its student on none."""
    out, found, run = taught
    assert (
        found["baseline_temperature"] == run.whole.students.fitted(run.plan.method.plain or run.plan.last).temperature
    )
    assert found["baseline_temperature"] != found["rounds"][0]["temperature"], "canary"
    evidence = evidence_of(open_run_files(out))
    assert evidence is not None
    assert evidence.baseline is not None
    likely = evidence.baseline[np.arange(30), evidence.labels]
    expected = found["test"]["supervised"]["metrics"]["nll"]["score"]
    assert -np.log(likely).mean() == pytest.approx(expected, abs=1e-5)

    shutil.copytree(out, tmp_path / "out")
    (tmp_path / "out" / "manifest.jsonl").unlink()  # which would know what is changed here
    (tmp_path / "out" / "predictions" / "test.parquet").unlink()
    (tmp_path / "out" / "results.json").write_text(json.dumps(found | {"test": {}}))
    held_out = evidence_of(open_run_files(tmp_path / "out"))
    assert held_out is not None
    assert held_out.rows == "12 held-out labeled rows"
    said = out_of_fold(run.chains, run.plan.named("start"))
    np.testing.assert_allclose(held_out.chosen, softmax(said.logits, found["rounds"][1]["temperature"]), atol=1e-6)


# Interruptions


@pytest.mark.slow
def test_a_run_that_was_interrupted_before_its_student_ends_in_the_same_bits(
    quick: Quick, taught: tuple[Path, dict[str, Any], Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while all labels start, while the student trains, and before its record is written, when the chains have long been
    recorded. Guards another choice of teachers, other labels, and a student that is trained twice or never."""
    told_to_choose(monkeypatch, 1)
    config = quick(tmp_path / "out", training_args={"save_steps": 2})
    for phase, tick in (("start: training", 3), ("final: training", 3)):
        reporter = AtTick(phase, tick, killed)
        with pytest.raises(KeyboardInterrupt):
            train(config, reporter=reporter)
        assert reporter.ticks[phase] == tick
        assert [record["stage"] for record in records(tmp_path / "out")] == ["regression", "start"]
    with monkeypatch.context() as patch:
        describe = loop.describe
        patch.setattr(
            loop,
            "describe",
            lambda run, stage, *a, **b: killed() if stage.name == "final" else describe(run, stage, *a, **b),
        )
        with pytest.raises(KeyboardInterrupt):
            train(config)
    count = AtTick("", 0, killed)
    found = train(config, reporter=count)
    assert not any("training" in name for name in count.ticks if name.startswith(("chain", "start", "final")))
    assert [record["stage"] for record in records(tmp_path / "out")] == ["regression", "start", "final"]
    assert contents(tmp_path / "out") == contents(taught[0])
    assert found["chosen"] == taught[1]["chosen"]


def test_a_run_that_was_interrupted_after_its_student_trains_nothing_again(
    quick: Quick, taught: tuple[Path, dict[str, Any], Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while the model is measured. Guards a final model that is trained once more, or recorded twice."""
    told_to_choose(monkeypatch, 1)
    shutil.copytree(taught[0], tmp_path / "out")
    (tmp_path / "out" / "results.json").unlink()
    shutil.rmtree(tmp_path / "out" / "model")
    count = AtTick("", 0, killed)
    found = train(quick(tmp_path / "out"), reporter=count)
    assert not any("training" in name for name in count.ticks)
    assert [record["stage"] for record in records(tmp_path / "out")] == ["regression", "start", "final"]
    assert contents(tmp_path / "out") == contents(taught[0])
    assert [found[name] for name in ("chosen", "rounds", "test")] == [
        taught[1][name] for name in ("chosen", "rounds", "test")
    ]


# What is measured


def test_plain_fine_tuning_is_measured_beside_the_model(
    quick: Quick, tiny_run: Quick, taught: tuple[Path, dict[str, Any], Run], tmp_path: Path
) -> None:
    """Guards a baseline that is not that of `--method supervised`, to the bit, and a table without the regression."""
    out, found, _ = taught
    assert found["baseline"] == "baseline"
    assert list(found["test"]) == ["supervised", "regression", "self_trained"]
    alone = tiny_run(tmp_path / "alone", method="supervised", rounds=0, folds=0)
    expected = train(alone)
    plain, other = (
        weights(out / "all_labels" / "baseline" / "model"),
        weights(tmp_path / "alone" / "baseline" / "model"),
    )
    assert all((plain[name] == other[name]).all() for name in other)
    accuracy = [results["test"]["supervised"]["metrics"]["accuracy"] for results in (found, expected)]
    assert accuracy[0] == accuracy[1]


def test_figures_of_test_rows_say_whose_they_are(taught: tuple[Path, dict[str, Any], Run]) -> None:
    """Guards the temperature of plain fine-tuning, which is no stage and has no record, and a class text that is not told."""
    out, results, _ = taught
    fit = json.loads((out / "all_labels" / "baseline" / "fit.json").read_text())
    assert results["baseline_temperature"] == fit["temperature"]
    assert results["class_texts"]["kind"] == "names"
    card = (out / "model" / "README.md").read_text()
    assert "The class names were " in card
    assert "regression: on the labeled rows, without steps" in card
    shown = Classifier.from_pretrained(out / "model", device="cpu").logits(["money charged twice"])
    assert np.isfinite(shown).all()


@pytest.mark.slow
def test_an_encoder_whose_head_is_no_regression_begins_with_plain_fine_tuning(
    quick: Quick, tiny_encoder: Path, tmp_path: Path
) -> None:
    """DistilBERT: its head cannot be made to read the mean. Guards a crash, and a comparison of a model with itself."""
    shutil.copytree(tiny_encoder, tmp_path / "encoder")
    (tmp_path / "encoder" / "model.safetensors").unlink()
    words = AutoConfig.from_pretrained(tiny_encoder).vocab_size
    config = DistilBertConfig(
        vocab_size=words, dim=16, n_layers=1, n_heads=2, hidden_dim=32, max_position_embeddings=64
    )
    DistilBertModel(config).save_pretrained(tmp_path / "encoder")
    found = train(quick(tmp_path / "out", encoder=str(tmp_path / "encoder")))
    assert [record["stage"] for record in found["rounds"]][:2] == ["baseline", "start"]
    assert found["rounds"][0]["steps"] == 2 * 8
    assert (found["baseline"], list(found["test"])) == ("baseline", ["supervised", "self_trained"])
    assert stages_in(tmp_path / "out" / "chain_1") == {"baseline", "start"}
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert [stage["name"] for stage in plan["stages"]] == ["baseline", "start", "final"]
