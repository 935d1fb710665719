"""Numbers behind the figures, each derived by hand or from a slow loop."""

import numpy as np
import pytest

from sstext.reporting.curves import (
    confidence_counts,
    confused_pairs,
    confusion,
    precision_and_coverage,
    reliability,
    row_shares,
)


def binary(confidence: list[float]) -> np.ndarray:
    """Probabilities (N, 2) that predict class 0 with these confidences."""
    first = np.array(confidence)
    return np.stack([first, 1 - first], axis=1)


def test_reliability_has_the_means_of_bins_of_as_many_rows_each() -> None:
    """Guards against bins of equal width, of which the surest holds nearly all rows."""
    found = reliability(binary([0.6] * 12 + [0.9] * 12), np.array([0, 1] * 6 + [0] * 9 + [1] * 3), bins=2)
    np.testing.assert_allclose(found.confidence, [0.6, 0.9])
    np.testing.assert_allclose(found.accuracy, [0.5, 0.75])
    assert found.rows.tolist() == [12, 12]
    assert (found.low < found.accuracy).all()
    assert (found.accuracy < found.high).all()


@pytest.mark.parametrize(("rows", "bins"), [(1, 1), (11, 1), (24, 2), (1000, 10)])
def test_few_rows_make_few_bins(rows: int, bins: int) -> None:
    """Guards against points that stand for one row each."""
    found = reliability(binary(np.linspace(0.5, 1, rows).tolist()), np.zeros(rows, dtype=np.int64))
    assert (len(found.rows), found.rows.sum()) == (bins, rows)


def test_the_histogram_counts_every_row_once() -> None:
    confidence = np.array([0.0, 0.05, 0.5, 1.0, 1.0])
    edges, marked, others = confidence_counts(confidence, np.array([True, False, True, True, False]))
    assert (len(edges), marked.sum(), others.sum()) == (21, 3, 2)
    assert (marked[0], marked[-1], others[-1]) == (1, 1, 1)


def test_precision_and_coverage_equal_a_slow_loop() -> None:
    rng = np.random.default_rng(0)
    probabilities, labels = binary(rng.uniform(0.5, 1, 60).tolist()), rng.integers(2, size=60)
    for threshold, precision, coverage in zip(*precision_and_coverage(probabilities, labels), strict=True):
        sure = [i for i in range(60) if probabilities[i].max() >= threshold]
        assert coverage == len(sure) / 60
        right = [labels[i] == 0 for i in sure]
        assert precision == pytest.approx(np.mean(right)) if len(sure) >= 5 else np.isnan(precision)


def test_the_confusion_matrix_has_a_row_per_true_class() -> None:
    """Guards against a transposed matrix: class 1 is taken for class 0, not the other way round."""
    counts = confusion(binary([0.9, 0.8, 0.1]), np.array([0, 1, 1]))
    assert counts.tolist() == [[1, 0], [1, 1]]
    assert row_shares(counts).tolist() == [[1, 0], [0.5, 0.5]]


def test_pairs_come_with_the_most_mistakes_first_and_never_with_right_ones() -> None:
    pairs = confused_pairs(np.array([[90, 2, 0], [4, 5, 0], [2, 0, 1]]), limit=3)
    assert [(p.true, p.predicted, p.count) for p in pairs] == [(1, 0, 4), (2, 0, 2), (0, 1, 2)]
    assert pairs[1].share == pytest.approx(2 / 3)
    assert len(confused_pairs(np.array([[90, 2, 0], [4, 5, 0], [2, 0, 1]]), limit=1)) == 1
