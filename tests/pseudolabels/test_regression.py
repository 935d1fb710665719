"""The regression on embeddings: what a weight means, and which texts of classes get one."""

import warnings

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from sstext.pseudolabels import regression
from sstext.pseudolabels.regression import (
    EXACT,
    PENALTY,
    ROUGH,
    SHARPNESS,
    UNLIKELY,
    WEIGHTS,
    ClassTexts,
    HeldOut,
    balancing_weights,
    choose_weight,
    fit_regression,
    nearest_description,
    out_of_fold,
)


def made_up(seed: int, classes: int = 4, rows: int = 6, size: int = 24) -> tuple[NDArray, NDArray, NDArray]:
    """Labeled unit embeddings around the centers of their classes: (B, D), (B,) and the centers (C, D)."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(classes, size))
    labels = np.repeat(np.arange(classes), rows)
    embedded = centers[labels] + 2 * rng.normal(size=(len(labels), size))
    return embedded / np.linalg.norm(embedded, axis=1, keepdims=True), labels, centers


def described(centers: NDArray, seed: int, texts: int = 2) -> ClassTexts:
    """Some texts of every class, nearer to its center than a labeled row."""
    rng = np.random.default_rng(1_000 + seed)
    labels = np.repeat(np.arange(len(centers)), texts)
    embedded = centers[labels] + rng.normal(size=(len(labels), centers.shape[1]))
    return ClassTexts(embedded / np.linalg.norm(embedded, axis=1, keepdims=True), labels)


@pytest.mark.parametrize("classes", [2, 4])
def test_the_texts_of_a_class_weigh_as_much_as_labeled_rows(classes: int) -> None:
    """Weight 4 on two texts of each class ≡ every text twice among the labeled rows; weight 0 ≡ no texts, bit for bit."""
    rows, labels, centers = made_up(0, classes)
    texts = described(centers, 0)
    weighted = fit_regression(rows, labels, classes, texts, 4.0)
    repeated = fit_regression(
        np.concatenate([rows, texts.embedded, texts.embedded]),
        np.concatenate([labels, texts.labels, texts.labels]),
        classes,
    )
    alone, zero = fit_regression(rows, labels, classes), fit_regression(rows, labels, classes, texts, 0.0)
    np.testing.assert_allclose(weighted.probabilities(rows), repeated.probabilities(rows), atol=1e-3)
    assert np.abs(weighted.probabilities(rows) - alone.probabilities(rows)).max() > 0.02, "canary"
    np.testing.assert_array_equal(zero.weight, alone.weight)


def test_of_few_labels_all_classes_count_the_same_and_of_many_every_label() -> None:
    """The limits of the weights, and labels that are balanced already. Guards a weight that moves the sum of the losses, so
    that the penalty would mean something else."""
    np.testing.assert_array_equal(balancing_weights(np.arange(12) % 3), np.ones(12))
    few, many = np.repeat([0, 1], [8, 2]), np.repeat([0, 1], [800_000, 200_000])
    shares = {len(labels): balancing_weights(labels)[labels == 1].sum() / len(labels) for labels in (few, many)}
    assert shares[10] == pytest.approx(0.5, abs=0.01)
    assert shares[1_000_000] == pytest.approx(0.2, abs=0.001)
    assert balancing_weights(few).sum() == pytest.approx(10)
    assert balancing_weights(np.zeros(0, dtype=int)).shape == (0,), "texts of the classes alone can be fitted"


def test_weights_of_rare_classes_can_be_left_out() -> None:
    """The search for wrong labels needs probabilities that are as likely as the labels: the plain fit of scikit-learn."""
    rows, labels, _ = made_up(0, classes=3, rows=8)
    kept = np.flatnonzero((labels > 0) | (np.arange(len(labels)) < 2))
    rows, labels = rows[kept], labels[kept]
    plain = LogisticRegression(C=3 * PENALTY, max_iter=1_000, tol=EXACT).fit(rows, labels)
    found = fit_regression(rows, labels, 3, balance=False)
    np.testing.assert_allclose(found.probabilities(rows), plain.predict_proba(rows), atol=1e-6)
    share = [np.exp(out_of_fold(rows, labels, 3, balance=balance).logits[:, 0]).mean() for balance in (False, True)]
    assert share[1] > 1.5 * share[0], "2 of 18 labels are of this class"


def test_a_class_with_few_labels_is_predicted_as_often_as_its_weight_says() -> None:
    """The bias has no penalty, so its gradient is 0 at the end: the weighted mean prediction for the labeled rows is the
    weighted share of each class. Guards weights that the fit does not get; without them, the mean is the share of the
    labels."""
    rows, labels, _ = made_up(0, classes=3, rows=8)
    kept = np.flatnonzero((labels > 0) | (np.arange(len(labels)) < 2))
    rows, labels = rows[kept], labels[kept]
    weights = balancing_weights(labels)
    predicted = np.average(fit_regression(rows, labels, 3).probabilities(rows), axis=0, weights=weights)
    np.testing.assert_allclose(predicted, np.bincount(labels, weights=weights) / len(labels), atol=1e-5)
    assert predicted[0] > 0.3, "2 of 18 labels are of this class"


def test_a_class_is_known_by_its_texts_alone() -> None:
    """A class without a labeled row: unlikely without texts, and an ordinary class with them."""
    rows, labels, centers = made_up(0)
    rows, labels = rows[labels > 0], labels[labels > 0]
    assert fit_regression(rows, labels, 4).bias[0] == UNLIKELY
    told = fit_regression(rows, labels, 4, described(centers, 0), 8.0)
    assert told.probabilities(centers[:1] / np.linalg.norm(centers[0])).argmax() == 0


def test_each_row_is_predicted_without_itself() -> None:
    """Up to five rows: one after the other, against a loop written out. A class with a single row is a guess without texts,
    log C, and with texts it is not."""
    rows, labels = made_up(1, classes=2, rows=2)[:2]
    rows, labels = np.concatenate([rows, rows[:1] + 0.1]), np.array([0, 0, 1, 1, 2])
    expected = []
    for i in range(4):
        rest = np.arange(5) != i
        known = labels[rest]
        counted = np.array([1 / np.sum(known == label) ** (600 / (4 + 600)) for label in known])
        fitted = LogisticRegression(C=3 * PENALTY, max_iter=1_000, tol=ROUGH).fit(
            rows[rest], known, sample_weight=4 * counted / counted.sum()
        )
        expected.append(-np.log(fitted.predict_proba(rows[i : i + 1])[0, labels[i]]))
    np.testing.assert_allclose(out_of_fold(rows, labels, 3).losses, [*expected, np.log(3)], atol=1e-6)
    texts = ClassTexts(np.eye(3, rows.shape[1]), np.arange(3))
    assert out_of_fold(rows, labels, 3, texts, 2.0).losses[4] != pytest.approx(np.log(3), abs=1e-3)


@pytest.mark.parametrize("seed", range(8))
def test_texts_that_help_count_and_permuted_ones_do_not(seed: int) -> None:
    """The promise to the user: descriptions of other classes cost nothing, whatever draw of labels looks at them."""
    rows, labels, centers = made_up(seed)
    texts = described(centers, seed)
    right = choose_weight(rows, labels, 4, texts, seed)
    permuted = ClassTexts(texts.embedded, (texts.labels + 1 + seed % 3) % 4)
    wrong = choose_weight(rows, labels, 4, permuted, seed)
    assert right.weight > 0
    assert wrong.weight == 0
    assert right.losses[0.0] == wrong.losses[0.0], "without texts, it does not matter which"
    assert tuple(right.losses) == WEIGHTS
    assert right.losses[right.weight] == min(right.losses.values())
    expected = out_of_fold(rows, labels, 4, texts, right.weight, seed).losses.mean()
    assert right.losses[right.weight] == pytest.approx(expected)


def test_labels_of_one_class_do_not_decide_against_texts_of_all_classes() -> None:
    """The weight is chosen by losses that count as the rows do in the fit. Guards names that are left out because most labels
    are of one class, whose rows a regression without texts predicts with great confidence."""
    rows, labels, centers = made_up(0, classes=2, rows=24)
    kept = np.flatnonzero((labels == 1) | (np.arange(len(labels)) < 4))
    texts = described(centers, 0)
    found = choose_weight(rows[kept], labels[kept], 2, texts)
    for weight, loss in found.losses.items():
        each = out_of_fold(rows[kept], labels[kept], 2, texts, weight).losses
        counted = balancing_weights(labels[kept])
        assert loss == pytest.approx((counted * each).sum() / len(kept))
        assert loss != pytest.approx(each.mean(), abs=1e-3), "canary"


def test_texts_without_an_effect_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a weight that is chosen without evidence: of equal losses, the weight 0 is taken."""
    rows, labels, centers = made_up(0)
    equal = HeldOut(np.ones(len(rows)), np.ones(len(rows), dtype=bool), np.zeros((len(rows), 4)))
    monkeypatch.setattr(regression, "out_of_fold", lambda *_: equal)
    assert choose_weight(rows, labels, 4, described(centers, 0)).weight == 0


def test_a_zero_shot_classifier_is_as_sharp_whether_an_encoder_embeds_texts_close_together_or_not() -> None:
    """Guards a fixed factor of the cosine: E5's cosines differ ten times less than MiniLM's, and all would be doubtful.

    At the mean of the descriptions of a class, its logit exceeds the others by `SHARPNESS` on average, by derivation:
    s (1 - mean cos) with s = `SHARPNESS` / (1 - mean cos).
    """
    _, _, centers = made_up(0)
    for shared in (0.0, 20.0):  # what all texts have in common
        moved = centers + shared * np.ones(centers.shape[1]) / np.sqrt(centers.shape[1])
        means = moved / np.linalg.norm(moved, axis=1, keepdims=True)
        logits = nearest_description(ClassTexts(means, np.arange(4)), 4).logits(means)
        margins = np.diag(logits)[:, None] - logits
        assert margins[~np.eye(4, dtype=bool)].mean() == pytest.approx(SHARPNESS)


def test_descriptions_of_a_class_count_as_one_whatever_their_number() -> None:
    """Guards a class with many descriptions, which would get more texts than others; and descriptions that are all the same."""
    two, three = np.array([[1.0, 0], [0, 1]]), np.array([[1.0, 0], [0, 1], [0, 1]])
    one = nearest_description(ClassTexts(two, np.array([0, 1])), 2)
    more = nearest_description(ClassTexts(three, np.array([0, 1, 1])), 2)
    np.testing.assert_allclose(one.weight, more.weight)
    assert not one.bias.any()
    same = nearest_description(ClassTexts(np.ones((2, 2)) / np.sqrt(2), np.array([0, 1])), 2)
    np.testing.assert_allclose(same.probabilities(two), 0.5)


def test_classes_with_one_label_each_are_no_warning() -> None:
    """Guards scikit-learn's advice about regression targets, with a path of the installation, in front of every user whose
    classes have one label each."""
    embedded, labels, _ = made_up(0, classes=30, rows=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fit_regression(embedded, labels, 30).logits(embedded).shape == (30, 30)
