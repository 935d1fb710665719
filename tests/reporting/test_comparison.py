"""What labeled rows say: before and after calibration, and the gain over plain fine-tuning."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up_run import TEMPERATURE, class_names, make_run, noisy_logits, write_predictions

from sstext.evaluation.calibration import softmax
from sstext.evaluation.intervals import paired_difference_interval
from sstext.reporting.comparison import compare, evidence_of, paired_gain
from sstext.reporting.readers import Predictions
from sstext.reporting.run_files import RunFiles, open_run_files
from sstext.reporting.tables import comparison_table


def change_results(folder: Path, **changes: object) -> RunFiles:
    path = folder / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return open_run_files(folder)


def stored(run: RunFiles, name: str = "test") -> Predictions:
    found = run.predictions(name, expected=True)
    assert found is not None
    return found


def test_the_chosen_models_temperature_is_taken_back_out_and_the_others_put_in(tmp_path: Path) -> None:
    """Guards against a diagram that calibrates twice, or not at all."""
    run = open_run_files(make_run(tmp_path / "run", 3))
    found, logits = evidence_of(run), stored(run).logits
    assert found is not None
    assert found.uncalibrated is not None
    np.testing.assert_allclose(found.chosen, softmax(logits["final"]))
    np.testing.assert_allclose(found.uncalibrated, softmax(logits["final"] * TEMPERATURE))
    np.testing.assert_allclose(found.baseline, softmax(logits["supervised"] / TEMPERATURE))
    assert (found.rows, found.caveat) == ("240 test rows", "")


def test_every_model_that_was_measured_is_shown(tmp_path: Path) -> None:
    """Plain fine-tuning, the regression that the run begins with, and the model. Guards a model that beats the one, and loses
    to the other in silence; and a model that is shown twice, where the chosen one is plain fine-tuning."""
    run = open_run_files(make_run(tmp_path / "run", 2))
    test = run.results["test"]
    regression = {"metrics": {name: value | {"score": 0.25} for name, value in test["supervised"]["metrics"].items()}}
    found = compare(change_results(tmp_path / "run", test=test | {"regression": regression}), None)
    assert found is not None
    assert list(found.models) == ["baseline", "regression", "chosen model"]
    title, *cells = comparison_table(found)[0]
    assert (title, len(cells)) == ("accuracy", 3)
    assert cells[1].startswith("25.0%")
    assert list(replace(found, same=True).models) == ["regression", "baseline (chosen model)"]
    assert list(replace(found, others={}).models) == ["baseline", "chosen model"]


def test_a_run_without_the_temperature_has_no_before(tmp_path: Path) -> None:
    make_run(tmp_path / "run", 2)
    found = evidence_of(change_results(tmp_path / "run", chosen={"round": 2, "why": "it is the best"}))
    assert found is not None
    assert found.uncalibrated is None


def test_a_temperature_of_one_has_no_before(tmp_path: Path) -> None:
    """Guards against one curve drawn twice, as if calibration had been tried: on test rows, and on those held out."""
    make_run(tmp_path / "run", 2)
    run = change_results(tmp_path / "run", chosen={"round": 2, "why": "the last one", "temperature": 1.0})
    found = evidence_of(run)
    assert found is not None
    assert found.uncalibrated is None
    run = change_results(tmp_path / "run", test={}, rounds=[record | {"temperature": 1.0} for record in run.rounds])
    predictions = tmp_path / "run" / "predictions"
    (predictions / "test.parquet").unlink()
    logits = noisy_logits(np.arange(6) % 2, 2, np.random.default_rng(0), 3.0)
    names = class_names(2)
    write_predictions(predictions / "out_of_fold.parquet", ["a text"] * 6, names * 3, round_0=logits, round_2=logits)
    found = evidence_of(run)
    assert found is not None
    assert found.uncalibrated is None
    np.testing.assert_allclose(found.chosen, softmax(logits), rtol=1e-5)


@pytest.mark.parametrize("folds", [True, False])
def test_without_test_rows_the_held_out_ones_speak_and_say_what_flatters(folds: bool, tmp_path: Path) -> None:
    """Guards against raw logits taken for calibrated ones: here none of them is tempered on disk."""
    make_run(tmp_path / "run", 3, folds=folds)
    run = change_results(tmp_path / "run", test={})
    (tmp_path / "run" / "predictions" / "test.parquet").unlink()
    rng, labels, names = np.random.default_rng(0), np.arange(30) % 3, class_names(3)
    rounds = {f"round_{r}": noisy_logits(labels, 3, rng, 2.0 + r) for r in range(3)}
    name = "out_of_fold" if folds else "dev"
    path = tmp_path / "run" / "predictions" / f"{name}.parquet"
    write_predictions(path, ["a text"] * 30, [names[i] for i in labels], **rounds)
    found, logits = evidence_of(run), stored(run, name).logits
    assert found is not None
    np.testing.assert_allclose(found.chosen, softmax(logits["round_2"] / TEMPERATURE))
    np.testing.assert_allclose(found.uncalibrated, softmax(logits["round_2"]))
    np.testing.assert_allclose(found.baseline, softmax(logits["round_0"] / TEMPERATURE))
    assert "fitted on the same rows" in found.caveat
    assert ("used to stop training and to choose" in found.caveat) == (not folds)
    compared = compare(run, found)
    assert compared is not None
    accuracy = (rounds["round_2"].argmax(-1) == labels).mean()
    assert compared.chosen["accuracy"]["score"] == pytest.approx(accuracy)
    low, high = compared.chosen["accuracy"]["confidence_interval"]
    assert low <= accuracy <= high


def test_with_records_alone_the_comparison_has_no_intervals(tmp_path: Path) -> None:
    make_run(tmp_path / "run", 2)
    (tmp_path / "run" / "predictions" / "test.parquet").unlink()
    compared = compare(change_results(tmp_path / "run", test={}), None)
    assert compared is not None
    assert compared.baseline["accuracy"] == {"score": 0.6}
    assert compared.chosen["accuracy"] == {"score": pytest.approx(0.7)}
    assert compared.gain is None


def test_the_paired_gain_is_the_mean_difference_and_has_a_width_where_both_agree() -> None:
    """One row of four is gained: 1/4, with Tango's interval (see test_intervals). The same predictions twice are ± z²/(N + z²),
    here 3.8415 / 7.8415, and not [0, 0]."""
    right, wrong = [0.9, 0.1], [0.1, 0.9]
    final, supervised = np.array([right] * 4), np.array([wrong] + [right] * 3)
    labels = np.zeros(4, dtype=np.int64)
    assert paired_gain(supervised, final, labels) == (0.25, *paired_difference_interval(1, 0, 4))
    assert paired_gain(final, final, labels) == pytest.approx((0, -0.48989, 0.48989), abs=1e-5)
    assert paired_gain(final, supervised, labels)[0] == -0.25
