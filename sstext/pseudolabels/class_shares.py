"""The class shares of a corpus: given, counted from labels, or estimated from predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sstext.data.order import random_rows
from sstext.errors import UserError, listed
from sstext.pseudolabels.alignment import CorpusScores, alignment

#: Number of rows of the corpus from whose predictions its class shares are estimated.
PRIOR_ROWS = 10_000
#: Settings of `estimated_prior`: α, the gain in nats per row that a miscalibrated student may show on a balanced corpus, and
#: the largest number of steps.
SEEN_BEFORE, DOUBT, EM_STEPS = 0.2, 0.2, 500
#: Number of labels whose class shares count as much as predictions, see `distrust`. It was chosen for the weights of a
#: regression. The class shares of a corpus use the same number; there, only its limits were measured.
HALF_TRUSTED = 600


@dataclass(frozen=True)
class ClassShares:
    """The class shares of a corpus, for quotas and alignment. C classes.

    Attributes:
        prior: (C,) shares as known from labels and options.
        spec: how `prior` was made: `uniform`, `labeled` or class → share (see `resolve_prior`).
        classes: C names.
        source: `given` by the user, `labels` (the labels are a sample of the corpus), `predictions` (they are estimated), or
            `both`: the shares of the labels, and an estimate that counts more the fewer labels there are.
        labels: number of labeled rows.
        usual: (C,) what the students predict on average for held-out rows with the shares `prior` (`usual_prediction`). None:
            no rows were held out.
        skill: how well they predict these rows, see `skill_of`. 0: no rows were held out.
    """

    prior: np.ndarray
    spec: Any
    classes: Sequence[str]
    source: str
    labels: int
    usual: np.ndarray | None = None
    skill: float = 0.0

    @classmethod
    def resolve(cls, spec: Any, labels: np.ndarray, classes: Sequence[str], *, estimate: bool = True) -> "ClassShares":
        """The shares that an option asks for.

        Args:
            spec: `uniform`, `labeled`, class → share, or `auto`: the shares of the labels together with an estimate from
                predictions, or this estimate alone if the labels are `balanced`. Balanced labels were sampled by class and tell
                nothing about the corpus.
            labels: (N,) classes of all labeled rows.
            classes: C names.
            estimate: whether predictions may be used.

        >>> ClassShares.resolve("auto", np.array([0, 0, 1, 1]), ["a", "b"]).source
        'predictions'
        """
        prior = resolve_prior(spec, labels, classes)
        if spec not in ("auto", "none"):
            return cls(prior, spec, classes, "labels" if spec == "labeled" else "given", len(labels))
        if not balanced(labels):
            return cls(prior, "labeled", classes, "both" if estimate else "labels", len(labels))
        return cls(prior, "uniform", classes, "predictions" if estimate else "labels", len(labels))

    @property
    def estimated(self) -> bool:
        """Whether predictions for the corpus may be read."""
        return self.source in ("predictions", "both")

    def for_labels(self, labels: np.ndarray) -> "ClassShares":
        """The shares of a chain that has only the labels (n,). All chains have the same source of shares."""
        return replace(self, prior=resolve_prior(self.spec, labels, self.classes), labels=len(labels))

    def knowing(self, probabilities: np.ndarray, labels: np.ndarray) -> "ClassShares":
        """The same shares with `usual` and `skill`, from what students predict for held-out rows (n, C) with labels (n,)."""
        usual = usual_prediction(self.prior, probabilities, labels)
        return replace(self, usual=usual, skill=skill_of(probabilities, labels))

    def of_corpus(self, scores: CorpusScores, seed: int = 0) -> np.ndarray:
        """The shares (C,): `prior`, or an estimate from scores of the corpus.

        Scores of head and probe are calibrated. If the labels are balanced, `estimated_prior` reads these scores. If they are
        not, the shares are d p̄ + (1 − d) `prior`, with the mean p̄ of the scores and d of `distrust`: the probe was fitted
        with `sstext.pseudolabels.regression.balancing_weights`, so that it does not repeat the shares of few labels. Other
        scores are less reliable: `half_way_prior` reads them if the labels are balanced, and otherwise nothing does.

        Args:
            scores: scores of the first teacher if a probe labels the corpus together with it, otherwise of the last teacher.
            seed: seed of the sample of rows that is read.
        """
        if not self.estimated or (self.source == "both" and not scores.with_probe):
            return self.prior
        if self.source == "both":
            doubted = distrust(self.labels)
            shares = np.where(self.prior > 0, doubted * scores.aligned().mean() + (1 - doubted) * self.prior, 0.0)
            return shares / shares.sum()
        if not scores.with_probe:
            return half_way_prior(self.prior, scores.aligned().mean())
        some = random_rows(len(scores), min(len(scores), PRIOR_ROWS), seed)
        return estimated_prior(self.prior, scores.aligned()[some], self.usual, self.skill)

    def weights_of_model(
        self, probabilities: np.ndarray, held_out: np.ndarray, labels: np.ndarray
    ) -> np.ndarray | None:
        """By how much the probabilities of a model that read no corpus are multiplied so that they suit the corpus, (C,).

        Only for balanced labels, because the model then takes all classes for equally frequent. If the class shares are given,
        the weights are those of `alignment`: the model then predicts these shares on average. If the shares π are estimated,
        the weights are π / `prior`, but only if π explains more than chance does: g > (C − 1) / B with g of `estimated_prior`
        and B labels. Without this condition, regressions on balanced corpora lost up to a point (recipes/benchmark/LOG.md).

        Args:
            probabilities: (N, C) of texts of the corpus, calibrated for the shares `prior`.
            held_out: (B, C) of held-out labeled rows.
            labels: (B,) their classes.

        Returns:
            The weights. None if the probabilities stay as they are.

        Source: Saerens, Latinne and Decaestecker 2002, eq. 2.4; the condition: ours, twice the term of Akaike's criterion.
        """
        if not balanced(labels):
            return None
        if self.source == "given":
            return alignment(probabilities, self.prior)
        if self.source != "predictions":
            return None
        known = self.knowing(held_out, labels)
        shares, gain = _estimate(self.prior, probabilities, known.usual, known.skill)
        if gain <= (np.count_nonzero(self.prior) - 1) / len(labels):
            return None
        return np.divide(shares, self.prior, out=np.ones_like(shares), where=self.prior > 0)


def resolve_prior(spec: Any, labels: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """The class shares that the quotas follow, (C,), summing to 1.

    Args:
        spec: a mapping class → share, or a word. `uniform` gives all classes with labels the same share, `labeled` the
            shares of the labels; `auto` and `none` are `uniform` if the labels are `balanced`, otherwise `labeled`.
        labels: (N,) classes of the labeled rows.
        classes: C names.

    >>> resolve_prior("auto", np.array([0, 0, 0, 1]), ["a", "b"])
    array([0.75, 0.25])
    """
    counts = np.bincount(labels, minlength=len(classes)).astype(float)
    if isinstance(spec, Mapping):
        if set(map(str, spec)) != set(classes):
            raise UserError(f"prior: expected a share for each of {listed(list(classes))}, found {listed(list(spec))}")
        by_name = {str(name): share for name, share in spec.items()}
        try:
            shares = np.array([float(by_name[name]) for name in classes])
        except (TypeError, ValueError):
            shares = np.zeros(len(classes))
        if not (np.isfinite(shares) & (shares > 0)).all():
            raise UserError(f"prior: expected shares above 0, found {dict(spec)}")
        return shares / shares.sum()
    if spec not in ("auto", "none", "uniform", "labeled"):
        raise UserError(f"prior: expected auto, none, uniform, labeled or CLASS=SHARE …, found {spec!r}")
    if spec == "uniform" or (spec in ("auto", "none") and balanced(labels)):
        present = (counts > 0).astype(float)  # a class without any label cannot be learned, and gets no quota
        return present / present.sum()
    return counts / counts.sum()


def distrust(labels: int) -> float:
    """How much the class shares of labels are doubted, from 1 (entirely) to 0: `HALF_TRUSTED` / (n + `HALF_TRUSTED`).

    The shares of few labels are only roughly those of the corpus, and not even that if the labeled texts were chosen. A
    regression on few labels exaggerates them, because its penalty does not hold its bias (recipes/benchmark/LOG.md).

    Args:
        labels: n, the number of labels.

    >>> distrust(0), distrust(600), distrust(5_400)
    (1.0, 0.5, 0.1)
    """
    return HALF_TRUSTED / (labels + HALF_TRUSTED)


def balanced(labels: np.ndarray) -> bool:
    """True if all classes with labels have the same number of them (±1).

    Such labels were sampled by class, and tell nothing about the class shares of the corpus.

    >>> balanced(np.array([0, 0, 1])), balanced(np.array([0, 0, 0, 1]))
    (True, False)
    """
    counts = np.unique(labels, return_counts=True)[1]
    return bool(counts.max() - counts.min() <= 1)


def half_way_prior(prior: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Class shares half way from the prior to the mean prediction of the corpus, (C,).

    If the corpus is as balanced as the labels, the prior is right and predictions err. If it is not, predictions contain some
    information about it. A class with a prior of 0 stays at 0.

    >>> half_way_prior(np.array([.5, .5]), np.array([.9, .1]))
    array([0.7, 0.3])
    """
    shares = np.where(prior > 0, (prior + predicted) / 2, 0.0)
    return shares / shares.sum()


def usual_prediction(prior: np.ndarray, probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The mean prediction for held-out rows, as if their classes had the shares of a prior, (C,).

    r = (Σ_i v_i p_i + C · prior) / (n + C) with v_i = n · prior_{y_i} / n_{y_i}, and n_c rows of class c. A student that
    prefers a class does so for these rows, too. C rows are added that are predicted without a preference, because few rows tell
    little.

    Args:
        prior: (C,).
        probabilities: (n, C) p, of students that have not seen the row.
        labels: (n,) y.

    >>> usual_prediction(np.array([.5, .5]), np.tile([.75, .25], (6, 1)), np.array([0, 0, 0, 0, 1, 1]))  # (6 · .75 + 1) / 8
    array([0.6875, 0.3125])
    """
    counts = np.bincount(labels, minlength=len(prior))
    weights = len(labels) * prior[labels] / counts[labels]
    total = (weights[:, None] * probabilities).sum(0) + len(prior) * prior
    return total / total.sum()


def skill_of(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """How well held-out rows are predicted, from 0 (as by guessing) to 1.

    q = max(0, (a − 1/C) / (1 − 1/C)) with the accuracy a = (r + 1) / (n + C) of n rows, r of which are right.

    Args:
        probabilities: (n, C).
        labels: (n,).

    >>> round(skill_of(np.tile([0.75, 0.25], (18, 1)), np.zeros(18, int)), 2)  # a = 19 / 20
    0.9
    """
    rows, classes = probabilities.shape
    right = int((probabilities.argmax(-1) == labels).sum())
    return max(0.0, ((right + 1) / (rows + classes) - 1 / classes) / (1 - 1 / classes))


def estimated_prior(
    prior: np.ndarray, probabilities: np.ndarray, usual: np.ndarray | None = None, skill: float = 0.0
) -> np.ndarray:
    """The class shares of a corpus, from the predictions of a student that was trained on balanced labels, (C,).

    p ← Norm(p · prior / r) first, with what the student predicts on average for rows with the shares of the prior, r. What a
    student always prefers says nothing about the corpus.

    π = (1 − w) p̄ + w π_EM. p̄ is the mean prediction, before the division. π_EM is found by EM, with α N additional rows that
    have the shares of the prior: π ← (Σ_i q_i + α N · prior) / (N (1 + α)), q_i = Norm(p_i · π / prior). Its weight is
    w = g / (g + `DOUBT`), with the gain in log-likelihood g = mean log Σ_c p_ic π_c / prior_c in nats per row. The gain is
    almost 0 for a balanced corpus: predictions then stay as they are. It is large for a skewed one (recipes/benchmark/LOG.md).
    Without α, the EM diverges if predictions are uninformative. A good student is believed more: α and `DOUBT` are multiplied
    by 1 − q² with its skill q.

    Args:
        prior: (C,) class shares of the labels that the student learned from; a class with a share of 0 stays at 0.
        probabilities: (N, C) p, calibrated.
        usual: (C,) r, see `usual_prediction`. Default: the prior.
        skill: q, see `skill_of`. Default: nothing is known of it.

    Source: Saerens, Latinne and Decaestecker 2002, "Adjusting the Outputs of a Classifier to New a Priori Probabilities",
    section 2.2 (EM); r: Alexandari, Kundaje and Shrikumar 2020, "Maximum Likelihood with Bias-Corrected Calibration is
    Hard-To-Beat at Label Shift Adaptation", section 3 (their bias is fitted); α, w and q: ours.

    >>> skewed = np.repeat([[.95, .05], [.05, .95]], [90, 10], axis=0)
    >>> estimated_prior(np.array([.5, .5]), skewed).round(2)  # the mean prediction: .86, .14
    array([0.85, 0.15])
    >>> estimated_prior(np.array([.5, .5]), skewed, usual=np.array([.7, .3])).round(2)  # it usually prefers the first class
    array([0.84, 0.16])
    """
    return _estimate(prior, probabilities, usual, skill)[0]


def _estimate(
    prior: np.ndarray, probabilities: np.ndarray, usual: np.ndarray | None, skill: float
) -> tuple[np.ndarray, float]:
    """The shares π (C,) of `estimated_prior`, and their gain g in nats per row."""
    seen_before, doubt = SEEN_BEFORE * (1 - skill**2), DOUBT * (1 - skill**2)
    there = prior > 0
    start, probs = prior[there], np.asarray(probabilities, dtype=np.float64)[:, there]
    predicted = probs.mean(0) / probs.mean(0).sum()
    if usual is not None:
        probs = probs * (start / usual[there].clip(1e-30))
    probs = probs / probs.sum(1, keepdims=True).clip(1e-30)
    shares = start
    for _ in range(EM_STEPS):
        explained = probs * (shares / start)
        mean = (explained / explained.sum(1, keepdims=True).clip(1e-30)).mean(0)
        before, shares = shares, (mean + seen_before * start) / (1 + seen_before)
        if np.abs(shares - before).max() < 1e-6:
            break
    gain = max(0.0, float(np.log((probs * (shares / start)).sum(1).clip(1e-30)).mean()))
    weight = gain / (gain + doubt) if gain else 0.0  # a perfect student leaves no doubt
    found = np.zeros(len(prior))
    found[there] = (1 - weight) * predicted + weight * shares
    return found, gain


def class_quotas(total: int, prior: np.ndarray) -> np.ndarray:
    """Divide `total` rows over the classes by `prior`, (C,), by largest remainders: the quotas sum to `total`.

    >>> class_quotas(10, np.array([.5, .25, .25]))
    array([5, 3, 2])
    """
    exact = total * prior
    quotas = np.floor(exact).astype(int)
    order = np.argsort(-(exact - quotas), kind="stable")
    quotas[order[: total - quotas.sum()]] += 1
    return quotas
