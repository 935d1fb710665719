"""Metrics against hand-derived numbers, scikit-learn and slow loops; intervals against explicit resamples."""

import json
import tracemalloc

import numpy as np
import pytest
from sklearn.metrics import f1_score, log_loss, matthews_corrcoef, precision_score, recall_score

from sstext.errors import UserError
from sstext.evaluation import bootstrap as bootstrapping
from sstext.evaluation.bootstrap import METRICS, bootstrap, evaluate_predictions
from sstext.evaluation.intervals import wilson_interval
from sstext.evaluation.metrics import (
    brier_score,
    count_classes,
    expected_calibration_error,
    measure,
    negative_log_likelihood,
)

REFERENCES = [0, 0, 1, 1, 2, 2]
LABELS = [0, 1, 1, 1, 2, 0]
PROBABILITIES = [[0.75, 0.25, 0], [0.25, 0.5, 0.25], [0, 1, 0], [0.25, 0.5, 0.25], [0, 0.25, 0.75], [0.5, 0.25, 0.25]]


def predictions(
    rows: int = 60, classes: int = 4, sharpness: float = 1.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (N, C) and references drawn from them; `sharpness` above 1 makes them overconfident."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(rows, classes))
    truth, stated = (np.exp(scale * logits) for scale in (1.0, sharpness))
    truth, stated = (shares / shares.sum(1, keepdims=True) for shares in (truth, stated))
    return stated, (truth.cumsum(1) > rng.random((rows, 1))).argmax(1)


def slow_calibration_error(probabilities: np.ndarray, references: np.ndarray) -> float:
    """The definition, row by row: the bin of a row is 15 · (rows of lower confidence) / N, rounded down."""
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == references
    bins: dict[int, list[int]] = {}
    for row, own in enumerate(confidence):
        bins.setdefault(15 * sum(other < own for other in confidence) // len(confidence), []).append(row)
    gaps = [len(rows) * abs(correct[rows].mean() - confidence[rows].mean()) for rows in bins.values()]
    return sum(gaps) / len(confidence)


SLOW = {
    "accuracy": lambda p, y: np.mean(p.argmax(1) == y),
    "macro_f1": lambda p, y: f1_score(y, p.argmax(1), average="macro"),
    "expected_calibration_error": slow_calibration_error,
    "nll": lambda p, y: np.mean([-np.log(row[label]) for row, label in zip(p, y, strict=True)]),
    "brier": lambda p, y: np.mean(
        [((row - np.eye(len(row))[label]) ** 2).sum() for row, label in zip(p, y, strict=True)]
    ),
}


def test_hand_derived_counts():
    """Class 0: 1 hit of 2 predicted and 2 actual; class 1: 2 of 3 and 2; class 2: 1 of 1 and 2. F1: 1/2, 4/5, 2/3."""
    counts = count_classes(LABELS, REFERENCES)
    assert counts.precision.tolist() == [1 / 2, 2 / 3, 1]
    assert counts.recall.tolist() == [1 / 2, 1, 1 / 2]
    assert counts.f1.tolist() == pytest.approx([1 / 2, 4 / 5, 2 / 3])
    assert counts.macro_f1 == pytest.approx((1 / 2 + 4 / 5 + 2 / 3) / 3)
    assert counts.accuracy == pytest.approx(4 / 6)


@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
@pytest.mark.parametrize("occurring", [[0, 1, 2, 3], [1, 3], [2]])
def test_f1_equals_scikit_learn_also_where_classes_are_absent(average: str, occurring: list[int]):
    """Guards the set of classes of the macro mean: those of predictions or references, not all C."""
    rng = np.random.default_rng(1)
    labels, references = rng.choice(occurring, 30), rng.choice(occurring, 30)
    labels[0] = 0  # predicted once, not among the references of the last two sets
    expected = f1_score(references, labels, average=average)
    assert float(getattr(count_classes(labels, references), f"{average}_f1")) == pytest.approx(expected, abs=1e-12)
    one_hot = np.eye(6)[labels]  # classes 4 and 5 occur nowhere
    assert float(getattr(count_classes(one_hot, references), f"{average}_f1")) == pytest.approx(expected, abs=1e-12)


def test_precision_recall_and_correlation_equal_scikit_learn():
    """Guards swapped precision and recall, and the multi-class form of the correlation."""
    probabilities, references = predictions()
    labels = probabilities.argmax(1)
    counts = count_classes(probabilities, references)
    assert counts.precision == pytest.approx(precision_score(references, labels, average=None))
    assert counts.recall == pytest.approx(recall_score(references, labels, average=None))
    assert counts.matthews_correlation == pytest.approx(matthews_corrcoef(references, labels))


@pytest.mark.parametrize(("labels", "expected"), [([0, 1, 0, 1], 1.0), ([1, 0, 1, 0], -1.0), ([1, 1, 1, 1], 0.0)])
def test_correlation_limits(labels: list[int], expected: float):
    """Right, exactly wrong, and constant predictions; the last one guards a division by zero."""
    assert count_classes(labels, [0, 1, 0, 1]).matthews_correlation == pytest.approx(expected)


def test_hand_derived_probability_metrics():
    """−(ln .75 + ln .25)/2, and (2·.25² + 2·.75²)/2: guards a Brier score over the true class alone."""
    probabilities, references = [[0.75, 0.25], [0.25, 0.75]], [0, 0]
    assert negative_log_likelihood(probabilities, references) == pytest.approx(-(np.log(0.75) + np.log(0.25)) / 2)
    assert brier_score(probabilities, references) == pytest.approx((2 * 0.25**2 + 2 * 0.75**2) / 2)
    probabilities, references = predictions()
    assert negative_log_likelihood(probabilities, references) == pytest.approx(log_loss(references, probabilities))


def test_a_certain_error_is_finite():
    """Guards an infinite log-likelihood: the probability is cut at 2⁻⁵². A certain hit costs exactly nothing."""
    assert negative_log_likelihood([[1, 0]], [1]) == pytest.approx(52 * np.log(2))
    assert negative_log_likelihood([[1, 0]], [0]) == 0
    assert brier_score([[1, 0]], [1]) == 2


def test_calibration_error_of_one_row_a_bin():
    """15 rows, 15 bins: the error is the mean of |correct − confidence|, with no cancelling between rows."""
    confidence = np.linspace(0.6, 0.9, 15)
    references = np.arange(15) % 2
    expected = np.where(references == 0, 1 - confidence, confidence).mean()
    error = expected_calibration_error(np.stack([confidence, 1 - confidence], 1), references)
    assert error == pytest.approx(expected)


def test_calibration_error_cancels_within_a_bin():
    """30 rows of 15 confidences, two a bin, one of two right: |.5 − confidence|, though each row is off by more."""
    confidence = np.repeat(np.linspace(0.6, 0.9, 15), 2)
    error = expected_calibration_error(np.stack([confidence, 1 - confidence], 1), np.arange(30) % 2)
    assert error == pytest.approx((confidence - 0.5).mean())


def test_equal_confidences_share_a_bin_whatever_their_order():
    """80 % sure of every row and right in 80 %: error 0. Cutting ties apart would give up to .32, by the rows' order."""
    probabilities = [[0.8, 0.2]] * 100
    for references in ([0] * 80 + [1] * 20, [1] * 20 + [0] * 80, ([0] * 4 + [1]) * 20):
        assert expected_calibration_error(probabilities, references) == pytest.approx(0, abs=1e-12)


def test_calibration_error_falls_with_rows_only_where_calibrated():
    """Guards the sign of the gap: noise vanishes, overconfidence stays."""
    calibrated = expected_calibration_error(*predictions(rows=20_000))
    overconfident = expected_calibration_error(*predictions(rows=20_000, sharpness=3.0))
    assert calibrated < 0.02
    assert overconfident > 0.1


@pytest.mark.parametrize("name", METRICS)
def test_weights_are_repeated_rows(name: str):
    """Every metric of rows with weights (2, N) is that of the rows repeated; guards rows of weight 0 in any place."""
    probabilities, references = predictions(rows=20)
    weights = np.random.default_rng(3).integers(0, 3, size=(2, 20)).astype(float)
    weights[:, probabilities.max(1).argmax()] = 0  # the end of the last bin
    expected = [
        float(measure(name, *(np.repeat(values, row.astype(int), axis=0) for values in (probabilities, references))))
        for row in weights
    ]
    assert measure(name, probabilities, references, weights).tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_bootstrap_equals_a_loop_over_resamples(name: str):
    """The same draws, one resample after the other, with scikit-learn and loops in place of our metrics."""
    probabilities, references = predictions(sharpness=2.0)
    resamples = np.random.default_rng(5).integers(60, size=(99, 60))
    values = np.array([SLOW[name](probabilities[rows], references[rows]) for rows in resamples])
    score = SLOW[name](probabilities, references)
    low, high = np.quantile(values, [0.05, 0.95])
    if name == "accuracy":  # the share has Wilson's interval, and the standard error of the resamples
        low, high = (float(end) for end in wilson_interval(score, 60, 0.9))
    if name == "expected_calibration_error":  # moved back by the bias of resampling
        low, high = max(low - (values.mean() - score), 0), high - (values.mean() - score)
    found = bootstrap([name], probabilities, references, resamples=99, confidence_level=0.9, seed=5)[name]
    assert found["score"] == pytest.approx(score, abs=1e-12)
    assert found["confidence_interval"] == pytest.approx((low, high), abs=1e-12)
    assert found["standard_error"] == pytest.approx(np.std(values, ddof=1), abs=1e-12)


@pytest.mark.parametrize("sharpness", [1.0, 2.0])
def test_intervals_contain_the_score_and_grow_with_the_level(sharpness: float):
    """Calibrated predictions are the hard case: plain percentiles of their calibration error lie above the score."""
    for seed in range(5):
        probabilities, references = predictions(rows=100, sharpness=sharpness, seed=seed)
        narrow, wide = (
            bootstrap(METRICS, probabilities, references, resamples=500, confidence_level=level)
            for level in (0.5, 0.95)
        )
        for name in METRICS:
            (low, high), (lowest, highest) = narrow[name]["confidence_interval"], wide[name]["confidence_interval"]
            assert lowest < low < high < highest
            assert lowest <= narrow[name]["score"] <= highest


def test_standard_error_of_accuracy_is_the_binomial_one():
    """√(a(1 − a)/N); guards an error divided by √resamples, or one of the rows instead of their mean."""
    probabilities, references = predictions(rows=400)
    found = bootstrap(["accuracy"], probabilities, references, resamples=4000)["accuracy"]
    expected = np.sqrt(found["score"] * (1 - found["score"]) / 400)
    assert found["standard_error"] == pytest.approx(expected, rel=0.05)


def test_bootstrap_depends_on_the_seed_alone(monkeypatch: pytest.MonkeyPatch):
    """Guards results that change with the chunk size, the metrics asked for, or NumPy's global generator."""
    probabilities, references = predictions()
    first = bootstrap(METRICS, probabilities, references, resamples=50, seed=1)
    np.random.seed(7)
    assert bootstrap(["nll"], probabilities, references, resamples=50, seed=1)["nll"] == first["nll"]
    assert bootstrap(METRICS, probabilities, references, resamples=50, seed=2) != first
    monkeypatch.setattr(bootstrapping, "CHUNK_ELEMENTS", 60 * 7)
    in_chunks = bootstrap(METRICS, probabilities, references, resamples=50, seed=1)
    for name in METRICS:
        assert in_chunks[name]["confidence_interval"] == pytest.approx(first[name]["confidence_interval"], abs=1e-12)


def test_bootstrap_memory_does_not_grow_with_the_resamples(monkeypatch: pytest.MonkeyPatch):
    """Guards (resamples, N) arrays held at once: 40 chunks peak where 4 do."""
    monkeypatch.setattr(bootstrapping, "CHUNK_ELEMENTS", 2**15)
    probabilities, references = predictions(rows=1024)
    peaks = []
    for chunks in (4, 40):
        tracemalloc.start()
        bootstrap(METRICS, probabilities, references, resamples=32 * chunks)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[0] > 2**15 * 8  # canary: the arrays are traced at all
    assert peaks[1] < 1.2 * peaks[0]


def test_bootstrap_of_one_row():
    """The limit N = 1: every resample is the row itself, which says nothing. Wilson's lower end of 1 of 1 is 1 / (1 + 1.96²) =
    .20655. The confidence .75 is up to .75 − .20655 from such an accuracy. A log-loss of .288 is .008 of 52 ln 2 nats."""
    share = [float(end) for end in wilson_interval(0.28768 / (52 * np.log(2)), 1)]
    expected = {
        "accuracy": (0.20655, 1),
        "macro_f1": (0.20655, 1),
        "expected_calibration_error": (0, 0.75 - 0.20655),
        "nll": tuple(52 * np.log(2) * end for end in share),
        "brier": tuple(2 * float(end) for end in wilson_interval(0.0625, 1)),
    }
    for name, result in bootstrap(METRICS, [[0.25, 0.75]], [1], resamples=20).items():
        low, high = result["confidence_interval"]
        assert (low, high) == pytest.approx(expected[name], abs=1e-4), name
        assert low <= result["score"] <= high
        assert result["standard_error"] == pytest.approx((high - low) / (2 * 1.95996), rel=1e-4), name


@pytest.mark.parametrize(
    ("right", "level", "expected"),
    [(30, 0.95, (0.88649, 1)), (0, 0.95, (0, 0.11351)), (30, 0.9, (0.91727, 1))],
)
def test_accuracy_without_an_error_is_not_certain(right: int, level: float, expected: tuple[float, float]):
    """Guards "100.0 [100.0, 100.0]" on 30 rows, on which no resample has an error. At p = 1, Wilson's lower end is
    N / (N + z²): 30 / 33.841 = .8865 with z = 1.96, 30 / 32.706 = .9173 with z = 1.64. At p = 0 the upper end is 1 − that."""
    references = np.array([1] * right + [0] * (30 - right))
    found = bootstrap(["accuracy"], [[0.25, 0.75]] * 30, references, resamples=99, confidence_level=level)["accuracy"]
    assert found["confidence_interval"] == pytest.approx(expected, abs=1e-5)
    assert all(type(end) is float for end in found["confidence_interval"])


def test_accuracy_with_one_error_is_not_certainly_above_nine_tenths():
    """Guards the percentiles of 29 right rows of 30, [27/30, 1]: half of the models whose accuracy is 97 % are outside of
    theirs. p = 29/30, z² = 3.8415: (p + z²/60 ± z √(p (1 − p)/30 + z²/3600)) / (1 + z²/30)."""
    references = np.array([1] * 29 + [0])
    found = bootstrap(["accuracy"], [[0.25, 0.75]] * 30, references, resamples=99)["accuracy"]
    assert found["confidence_interval"] == pytest.approx((0.83330, 0.99409), abs=1e-5)


@pytest.mark.parametrize("right", [True, False])
def test_macro_f1_without_an_error_counts_a_rare_class_by_its_rows(right: bool):
    """Guards "100.0 [100.0, 100.0]" in the column beside the accuracy. With 40 and 10 rows, the mean recall varies like a share
    of 2² / (1/40 + 1/10) = 32 rows, so the interval is wider than that of the accuracy of 50 rows."""
    references = np.array([0] * 40 + [1] * 10)
    probabilities = (
        np.where(right, 0.8, 0.2) * np.eye(2)[references] + np.where(right, 0.2, 0.8) * np.eye(2)[1 - references]
    )
    found = bootstrap(["accuracy", "macro_f1"], probabilities, references, resamples=99)
    assert found["accuracy"]["score"] == found["macro_f1"]["score"] == float(right)
    for name, rows in (("accuracy", 50), ("macro_f1", 32)):
        low, high = (float(end) for end in wilson_interval(float(right), rows))
        assert found[name]["confidence_interval"] == pytest.approx((low, high), abs=1e-9), name


@pytest.mark.parametrize(("confidence", "expected"), [(0.95, (0, 0.05)), (0.8, (0.13982, 0.2)), (0.999, (0, 0.05918))])
def test_a_calibrated_model_without_an_error_is_not_called_uncalibrated(
    confidence: float, expected: tuple[float, float]
):
    """60 right rows of 60 are an accuracy of 93.98 % to 100 %. A mean confidence of 95 % may be exactly right, and one of 80 %
    is at least .1398 too low; the percentiles say .05 and .2 alone. The mean confidence .999 may be .059 too high."""
    probabilities = [[confidence, 1 - confidence]] * 60
    found = bootstrap(["expected_calibration_error"], probabilities, [0] * 60, resamples=99)
    low, high = found["expected_calibration_error"]["confidence_interval"]
    assert (low, high) == pytest.approx(expected, abs=1e-4)
    assert low <= found["expected_calibration_error"]["score"] <= high


def test_equal_losses_are_not_known_exactly():
    """All rows have probability 1 for their class: a log-loss of 0, in which one unseen error in 60 rows would be .6 nats. The
    upper end is 52 ln 2 · z²/(60 + z²) = 2.169 nats, that of the Brier score 2 · .06017."""
    found = bootstrap(["nll", "brier"], [[1.0, 0.0]] * 60, [0] * 60, resamples=99)
    assert found["nll"]["confidence_interval"] == pytest.approx((0, 2.1688), abs=1e-3)
    assert found["brier"]["confidence_interval"] == pytest.approx((0, 0.12034), abs=1e-4)


def test_evaluate_predictions_is_plain_json_with_the_right_orientation():
    """Guards NumPy scalars, which json refuses, and a transposed confusion matrix."""
    found = evaluate_predictions(PROBABILITIES, REFERENCES, ["a", "b", "c"], resamples=20)
    assert found["confusion_matrix"] == [[1, 1, 0], [0, 2, 0], [1, 0, 1]]
    assert found["per_class"]["b"] == {"precision": 2 / 3, "recall": 1.0, "f1": pytest.approx(4 / 5), "support": 2}
    assert found["rows"] == 6
    assert set(found["metrics"]) == set(METRICS)
    assert found["metrics"]["macro_f1"]["score"] == pytest.approx((1 / 2 + 4 / 5 + 2 / 3) / 3)
    assert found["weighted_f1"] == pytest.approx(f1_score(REFERENCES, LABELS, average="weighted"))
    assert found["micro_f1"] == pytest.approx(4 / 6)
    assert found["matthews_correlation"] == pytest.approx(matthews_corrcoef(REFERENCES, LABELS))
    read = json.loads(json.dumps(found, allow_nan=False))
    assert read["metrics"]["nll"]["confidence_interval"] == list(found["metrics"]["nll"]["confidence_interval"])
    assert type(read["per_class"]["c"]["support"]) is int


def test_evaluate_predictions_keeps_classes_that_occur_nowhere():
    """Guards a report that loses a class, or says NaN of it."""
    found = evaluate_predictions([[0.75, 0.25, 0.0]], [0], ["a", "b", "c"], resamples=20)
    assert found["per_class"]["c"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}
    assert found["metrics"]["macro_f1"]["score"] == 1.0


@pytest.mark.parametrize(
    ("given", "references", "message"),
    [
        ([[0.5, 0.5], [2.0, 1.0]], [0, 1], r"expected rows that sum to 1, found \[2.0, 1.0\] in row 1.*softmax"),
        ([[0.5, float("nan")]], [0], "in row 0"),
        ([[0.5, 0.5]], [2], "references: expected integer classes 0 … 1, found 2 in row 0"),
        ([[0.5, 0.5]] * 2, [0, -100], "found -100 in row 1"),
        ([[0.5, 0.5]], [0.0], "expected integer classes"),
        ([[0.5, 0.5]], [0, 1], r"found shapes \(1, 2\) and \(2,\)"),
        ([0, 1], [0, 1], r"expected probabilities \(N, C\)"),
        (np.zeros((0, 2)), [], r"found shapes \(0, 2\)"),
    ],
)
def test_unsound_input_is_refused(given: list, references: list, message: str):
    """Guards scores of logits, of Trainer's −100 labels, and of rows that do not belong together."""
    with pytest.raises(UserError, match=message):
        evaluate_predictions(given, references, ["a", "b"])


def test_unsound_labels_are_refused():
    """Guards a negative class, which would count as a miss and belong to no class."""
    with pytest.raises(UserError, match="predictions: expected integer classes 0 … 1, found -1 in row 1"):
        count_classes([1, -1], [0, 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metrics": ["acuracy"]}, "found 'acuracy'"),
        ({"resamples": 1}, "at least 2 resamples"),
        ({"confidence_level": 95}, "found 9999 and 95"),
    ],
)
def test_bootstrap_says_what_it_expects(change: dict, message: str):
    arguments = {"metrics": METRICS, "probabilities": [[0.5, 0.5]], "references": [0], **change}
    with pytest.raises(UserError, match=message):
        bootstrap(**arguments)


@pytest.mark.parametrize("names", [["a"], ["a", "a"], ["a", "b", "c"]])
def test_class_names_must_match_the_columns(names: list[str]):
    """Guards a report whose per-class rows are shifted, or overwrite each other."""
    with pytest.raises(UserError, match="expected 2 different names"):
        evaluate_predictions([[0.5, 0.5]], [0], names)
