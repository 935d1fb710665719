"""`evaluate.Metric` classes: offline, in memory and on disk, alone and combined; the numbers are derived by hand."""

import json
from pathlib import Path

import evaluate
import numpy as np
import pytest
from sklearn.metrics import log_loss, matthews_corrcoef

from sstext.evaluation.hf_metrics import (
    F1,
    Accuracy,
    BrierScore,
    ExpectedCalibrationError,
    MatthewsCorrelation,
    NegativeLogLikelihood,
    PrecisionRecall,
)

REFERENCES = [0, 0, 1, 1, 2, 2]
LABELS = [0, 1, 1, 1, 2, 0]
PROBABILITIES = [[0.75, 0.25, 0], [0.25, 0.5, 0.25], [0, 1, 0], [0.25, 0.5, 0.25], [0, 0.25, 0.75], [0.5, 0.25, 0.25]]


@pytest.mark.parametrize(
    ("metric", "given", "expected"),
    [
        (Accuracy, LABELS, {"accuracy": 4 / 6}),
        (F1, LABELS, {"macro_f1": 59 / 90, "micro_f1": 4 / 6, "weighted_f1": 59 / 90}),
        (PrecisionRecall, LABELS, {"precision": [1 / 2, 2 / 3, 1], "recall": [1 / 2, 1, 1 / 2]}),
        (MatthewsCorrelation, LABELS, {"matthews_correlation": matthews_corrcoef(REFERENCES, LABELS)}),
        (NegativeLogLikelihood, PROBABILITIES, {"nll": log_loss(REFERENCES, PROBABILITIES)}),
        (BrierScore, PROBABILITIES, {"brier": (0.125 + 0.875 + 0 + 0.375 + 0.125 + 0.875) / 6}),
        (ExpectedCalibrationError, PROBABILITIES, {"expected_calibration_error": (2 * 0.25 + 3 * (0.5 - 1 / 3)) / 6}),
    ],
)
@pytest.mark.parametrize("as_array", [False, True])
def test_evaluate_metrics_work_without_a_network(metric: type, given: list, expected: dict, as_array: bool):
    """In memory, from lists and arrays. Calibration: the rows at .75 and 1 are right, one of the three at .5 is."""
    given, references = (np.asarray(given), np.asarray(REFERENCES)) if as_array else (given, REFERENCES)
    found = metric(keep_in_memory=True).compute(predictions=given, references=references)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value)
    json.dumps(found)


def test_evaluate_metrics_combine_and_take_batches():
    """Guards `evaluate.combine`, which hands the same predictions to all: label metrics take probabilities too."""
    combined = evaluate.combine([metric(keep_in_memory=True) for metric in (Accuracy, F1, NegativeLogLikelihood)])
    for rows in (slice(0, 4), slice(4, 6)):
        combined.add_batch(predictions=PROBABILITIES[rows], references=REFERENCES[rows])
    found = combined.compute()
    assert set(found) == {"accuracy", "macro_f1", "micro_f1", "weighted_f1", "nll"}
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["nll"] == pytest.approx(log_loss(REFERENCES, PROBABILITIES))


def test_evaluate_metrics_work_on_disk_and_twice(tmp_path: Path):
    """The default of evaluate: batches are kept in a cache file."""
    metric = Accuracy(cache_dir=str(tmp_path))
    assert metric.compute(predictions=[0, 1], references=[0, 0]) == {"accuracy": 0.5}
    assert metric.compute(predictions=[0, 1], references=[0, 1]) == {"accuracy": 1.0}
