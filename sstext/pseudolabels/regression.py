"""Logistic regression on embeddings: the classifier that a few labels can support, and the texts of classes beside them."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from sstext.evaluation.calibration import softmax
from sstext.pseudolabels.class_shares import distrust

#: Inverse strength of the penalty, per class, because more classes need larger weights. It changes the confidence of the
#: regression, but hardly its accuracy (recipes/benchmark/LOG.md).
PENALTY = 1.5
#: How much the logit of a class exceeds the others at its own descriptions, in a zero-shot classifier. There are no labels to
#: fit it to. With 8, two encoders were right somewhat more often than they were confident (recipes/benchmark/LOG.md).
SHARPNESS = 8.0
#: Logit of a class without rows.
UNLIKELY = -1e4
#: Weights that the texts of a class may have together, in labeled rows. Of equally good ones, the smallest is chosen.
WEIGHTS = (0.0, 2.0, 4.0, 8.0, 16.0)
#: Folds of the choice.
FOLDS = 5
#: Largest gradient at which a fit ends, per row: small enough that the rounding of embeddings, which differs between numbers of
#: processes, does not decide at which step it ends. A fit that only helps to choose a weight may end earlier.
EXACT, ROUGH = 1e-6, 1e-4


@dataclass(frozen=True)
class Regression:
    """A multinomial logistic regression.

    Attributes:
        weight: (C, D).
        bias: (C,); a class without rows has `UNLIKELY`.
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]

    def logits(self, embedded: NDArray) -> NDArray[np.float64]:
        """Logits (N, C) of embeddings (N, D)."""
        return embedded.astype(np.float64) @ self.weight.T + self.bias

    def probabilities(self, embedded: NDArray) -> NDArray[np.float64]:
        """Probabilities (N, C) of embeddings (N, D)."""
        return softmax(self.logits(embedded))


@dataclass(frozen=True)
class ClassTexts:
    """Embeddings of texts that say what the classes mean: their names or descriptions.

    Attributes:
        embedded: (A, D).
        labels: (A,) class of each.
    """

    embedded: NDArray
    labels: NDArray[np.int64]


def fit_regression(
    embedded: NDArray,
    labels: NDArray,
    classes: int,
    beside: ClassTexts | None = None,
    weight: float = 0.0,
    tolerance: float = EXACT,
    *,
    balance: bool = True,
) -> Regression:
    """Fit a regression on labeled rows, and on texts of the classes.

    min_W,b Σ_i v_i CE(W z_i + b, y_i) + Σ_a (w / A_c(a)) CE(W z_a + b, c(a)) + ‖W‖² / (2 · `PENALTY` · C), with the weights v
    of `balancing_weights` and A_c texts of the class c. Together, the texts of a class weigh as much as w labeled rows of
    weight 1. It is computed in float64: in float32, the last steps of the fit are rounding, and made differences of 1e-7 in
    the embeddings differences of 1e-3 in W.

    Args:
        embedded: (B, D) z.
        labels: (B,) y; the rows have at least two classes.
        classes: C.
        beside: texts of the classes.
        weight: w ≥ 0.
        tolerance: largest gradient at which the fit ends.
        balance: whether rows of classes with few labels count more. Otherwise, v is 1.
    """
    rows, targets = embedded, labels
    counted = balancing_weights(labels) if balance else np.ones(len(labels))
    if beside is not None and weight > 0:
        share = weight / np.bincount(beside.labels, minlength=classes)[beside.labels]
        rows, targets = np.concatenate([embedded, beside.embedded]), np.concatenate([labels, beside.labels])
        counted = np.concatenate([counted, share])
    with warnings.catch_warnings():
        # Classes with one or two labels are usual here. The warning says that they may be a regression target.
        warnings.filterwarnings("ignore", message="The number of unique classes is greater than")
        fitted = LogisticRegression(C=PENALTY * classes, max_iter=1_000, tol=tolerance).fit(
            rows.astype(np.float64), targets, sample_weight=counted
        )
    known_weight, known_bias = fitted.coef_, fitted.intercept_
    if len(known_weight) == 1:  # with two classes, scikit-learn returns only the second class
        known_weight = np.concatenate([np.zeros_like(known_weight), known_weight])
        known_bias = np.concatenate([[0.0], known_bias])
    of_classes = np.zeros((classes, rows.shape[1])), np.full(classes, UNLIKELY)
    for of_class, known in zip(of_classes, (known_weight, known_bias), strict=True):
        of_class[fitted.classes_] = known
    return Regression(*of_classes)


def centered(embedded: NDArray) -> NDArray:
    """Embeddings (N, D) as a head reads them (`sstext.modeling.reading`): without their mean over the features, of length 1.

    >>> centered(np.array([[3.0, 1.0]])).round(2)
    array([[ 0.71, -0.71]])
    """
    found = embedded - embedded.mean(1, keepdims=True)
    return found / np.linalg.norm(found, axis=1, keepdims=True).clip(1e-12)


def balancing_weights(labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """How much each labeled row counts, so that classes with few labels are not predicted too rarely, (B,).

    v_i ∝ n_c^−τ with n_c labels of the class of the row, and τ of `distrust`: 1 for few labels, where all classes then count
    the same, and 0 for many. The weights sum to B. If all classes have the same number of labels, each label counts 1.

    Without weights, the penalty keeps W small, and the bias has to explain the labels. With 16 of 20 labels in one of two
    classes, a regression almost always predicts this class. With weights, regressions on random labels were right more often
    on all sets that were measured, also on skewed ones. On these, their probabilities became less accurate
    (recipes/benchmark/LOG.md).

    Args:
        labels: (B,) y.

    >>> balancing_weights(np.array([0, 0, 0, 1])).round(2)
    array([0.67, 0.67, 0.67, 1.99])
    """
    if not len(labels):
        return np.ones(0)
    counts = np.bincount(labels)[labels]
    weights = (counts / counts.max()) ** -distrust(len(labels))  # a ratio, so that balanced labels count exactly 1
    return weights * (len(labels) / weights.sum())


def nearest_description(described: ClassTexts, classes: int) -> Regression:
    """The classifier by the cosine of a text with the descriptions of each class. It needs no labels.

    logits_c = (`SHARPNESS` / d) cos(z, m_c), with the mean m_c of the embedded descriptions of class c, and the mean distance
    d = 1 − cos(m_c, m_c') of two classes. At the descriptions of a class, its logit is thus `SHARPNESS` larger than those of
    the others on average, whether the encoder embeds all texts close together or far apart.

    Args:
        described: (A, D) embeddings of length 1, with at least one description of every class.
        classes: C.

    >>> described = ClassTexts(np.array([[1.0, 0], [0, 1], [0, 1]]), np.array([0, 1, 1]))
    >>> nearest_description(described, 2).logits(np.array([[0.6, 0.8]]))
    array([[4.8, 6.4]])
    """
    means = np.stack([described.embedded[described.labels == number].mean(0) for number in range(classes)])
    directions = means.astype(np.float64) / np.linalg.norm(means, axis=1, keepdims=True).clip(1e-12)
    pairs = np.triu_indices(classes, 1)
    distance = max(1e-2, 1 - float((directions @ directions.T)[pairs].mean()))  # 0: all descriptions are the same
    return Regression(SHARPNESS / distance * directions, np.zeros(classes))


@dataclass(frozen=True)
class HeldOut:
    """How well labeled rows are predicted by regressions that were fitted without the row's fold.

    Attributes:
        losses: (B,) log-loss in nats.
        right: (B,) whether the class is the right one.
        logits: (B, C) logarithms of the probabilities. They are all equal if nothing is known of a row.
    """

    losses: NDArray[np.float64]
    right: NDArray[np.bool_]
    logits: NDArray[np.float64]


def out_of_fold(
    embedded: NDArray,
    labels: NDArray,
    classes: int,
    beside: ClassTexts | None = None,
    weight: float = 0.0,
    seed: int = 0,
    *,
    balance: bool = True,
) -> HeldOut:
    """Predict every labeled row by a regression that was fitted without the row's fold.

    A class that occurs in no other fold is unknown without texts. Then nothing is known of the row: its loss is log C, and it
    counts as wrong.

    Args:
        embedded, labels, classes, beside, weight, balance: see `fit_regression`.
        seed: of the folds.
    """
    told = beside is not None and weight > 0
    losses, hits = np.full(len(labels), np.log(classes)), np.zeros(len(labels), dtype=bool)
    logits = np.zeros((len(labels), classes))
    fold_of = np.arange(len(labels)) if len(labels) <= FOLDS else _folds(labels, seed)
    for fold in np.unique(fold_of):
        out = fold_of == fold
        rest = labels[~out]
        if len(np.unique(np.concatenate([rest, beside.labels]) if told and beside is not None else rest)) < 2:
            continue
        fitted = fit_regression(embedded[~out], rest, classes, beside, weight, ROUGH, balance=balance)
        probabilities = fitted.probabilities(embedded[out])
        right = probabilities[np.arange(out.sum()), labels[out]]
        known = np.isin(labels[out], rest) | told
        losses[out] = np.where(known, -np.log(right.clip(1e-12)), np.log(classes))
        hits[out] = known & (probabilities.argmax(-1) == labels[out])
        logits[out] = np.where(known[:, None], np.log(probabilities.clip(1e-12)), 0)
    return HeldOut(losses, hits, logits)


def _folds(labels: NDArray, seed: int) -> NDArray[np.int64]:
    """(B,) fold of every row; the rows of a class are spread evenly, and a class may have a single row."""
    rng = np.random.default_rng(seed)
    fold_of = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        fold_of[rows] = (np.arange(len(rows)) + rng.integers(FOLDS)) % FOLDS
    return fold_of


@dataclass(frozen=True)
class WeightChoice:
    """How much the texts of the classes count, and on what evidence.

    Attributes:
        weight: labeled rows that the texts of a class are worth together; 0: they are not used.
        losses: weight → mean log-loss of held-out labeled rows, in nats.
    """

    weight: float
    losses: Mapping[float, float]


def choose_weight(embedded: NDArray, labels: NDArray, classes: int, beside: ClassTexts, seed: int = 0) -> WeightChoice:
    """Choose the weight of the texts of the classes by the log-loss of held-out labeled rows.

    w = argmin_{w in `WEIGHTS`} Σ_i v_i loss_i(w) / B, with the loss of row i out of fold and its weight v_i by
    `balancing_weights`. Texts that have nothing to do with their classes, such as codes or permuted descriptions, make
    held-out rows less likely and get the weight 0. If 16 of 20 labels are of one class, texts of both classes would make the
    rows of this class less likely; v keeps this from deciding.

    Args:
        embedded: (B, D) embeddings of the labeled rows, by the encoder as it was pretrained.
        labels: (B,) their classes.
        classes: C.
        beside: the texts, embedded by the same encoder.
        seed: of the folds.

    >>> rng, labels = np.random.default_rng(0), np.arange(12) % 2
    >>> rows, texts = rng.normal(size=(12, 4)) / 2 + np.eye(4)[labels], np.eye(4)[:2]
    >>> right, wrong = (choose_weight(rows, labels, 2, ClassTexts(texts, np.array(of))) for of in ([0, 1], [1, 0]))
    >>> right.weight > 0, wrong.weight
    (True, 0.0)
    """
    counted = balancing_weights(labels)
    losses = {
        weight: float(np.average(out_of_fold(embedded, labels, classes, beside, weight, seed).losses, weights=counted))
        for weight in WEIGHTS
    }
    return WeightChoice(min(losses, key=lambda weight: losses[weight]), losses)
