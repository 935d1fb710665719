"""Do no harm: what out-of-fold predictions say of a round, and which round they allow (folds: `sstext.data.sampling`).

Whoever has forty labels has no development set. K chains self-train, each without one fold of the labels, so that every
labeled row is predicted by students that never saw it, directly or through a pseudo-label. These predictions are few: at 40
rows the standard error of a paired accuracy is about 6 points. Neither a significance test nor an argmax will do; the rule
below weighs the evidence against what rounds are expected to bring.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sstext.calibration import USUAL_TEMPERATURE, fit_temperature, softmax
from sstext.evaluation import count_classes, negative_log_likelihood

#: Chains where nobody says how many: two, three and five came to the same (recipes/benchmark/RESULTS.md); five cost more, and of two each
#: has but half of the labels.
FOLDS = 3
#: Standard deviations of what a round gains over supervised fine-tuning, and over a round before it, see `Belief`.
GAIN_SPREAD, ROUND_SPREAD = 0.2, 0.05
#: What is said of labels that count as often as the corpus has their class.
WEIGHED = ", weighed to the class shares of the corpus,"
#: Standard deviation of a paired difference of log-losses that is assumed as if these many rows had shown it: twenty rows
#: that hardly differ are no proof that no row would.
ASSUMED_SPREAD, ASSUMED_ROWS = 0.5, 4
#: Collapse: the classes in use, of those that the prior has; the share of the corpus that keeps its class from round to round,
#: and the agreement of the chains, both of what two chains agree on in round 0. Below them, a round is refused.
CLASSES_IN_USE, STABLE_SHARE, CHAIN_AGREEMENT = 0.25, 0.5, 0.5


@dataclass(frozen=True)
class OutOfFold:
    """What the chains' students of one round say of labeled rows that they never saw; B rows in K folds, C classes.

    Attributes:
        logits: (B, C), each row by the chain that was trained without its fold.
        labels: (B,).
        folds: (B,) fold of every row.
        believed: temperature of the students as far as is known without these rows.
        class_weights: (C,) how often a row of each class counts, so that the labels stand for the corpus where its shares are
            others; None: once each. Where the shares are estimated, nothing here sees what the estimate gets wrong.
    """

    logits: np.ndarray
    labels: np.ndarray
    folds: np.ndarray
    believed: float = USUAL_TEMPERATURE
    class_weights: np.ndarray | None = None

    def weights(self) -> np.ndarray:
        """How often each row counts, (B,), once on average."""
        weights = np.ones(len(self.labels)) if self.class_weights is None else self.class_weights[self.labels]
        return weights / weights.mean()

    def temperature(self) -> float:
        """The temperature that all rows together ask for."""
        return fit_temperature(self.logits, self.labels, believed=self.believed, weights=self.weights())

    def probabilities(self) -> np.ndarray:
        """Calibrated probabilities (B, C), each fold by the temperature that the others ask for."""
        calibrated, weights = np.empty(self.logits.shape), self.weights()
        for fold in np.unique(self.folds):
            own = self.folds == fold
            temperature = fit_temperature(
                self.logits[~own], self.labels[~own], believed=self.believed, weights=weights[~own]
            )
            calibrated[own] = softmax(self.logits[own].astype(np.float64), temperature)
        return calibrated

    def losses(self) -> np.ndarray:
        """−log p of the label, (B,) in nats, calibrated as in `probabilities`."""
        likely = self.probabilities()[np.arange(len(self.labels)), self.labels]
        return -np.log(likely.clip(1e-6))

    def metrics(self) -> dict[str, float]:
        """Figures for the record of a round, of the labels as they are, each row once."""
        counts = count_classes(self.probabilities(), self.labels)
        return {
            "log_loss": float(self.losses().mean()),
            "accuracy": float(counts.accuracy),
            "macro_f1": float(counts.macro_f1),
        }


@dataclass(frozen=True)
class Belief:
    """What a round is expected to bring before anything is seen, in nats of log-loss per row.

    Attributes:
        over_supervised: mean gain over supervised fine-tuning.
        over_round: mean gain of one more round over the one before.
    """

    over_supervised: float
    over_round: float


#: What rounds of `auto` have brought (recipes/benchmark/LOG.md).
PROVEN = Belief(over_supervised=0.15, over_round=0.05)
#: Of any other method: some gain, some harm, and none has shown in these nats that it gains on the whole.
UNPROVEN = Belief(over_supervised=0.0, over_round=0.0)


def belief_in(method: str) -> Belief:
    """What is known of a method beforehand.

    >>> belief_in("auto").over_supervised, belief_in("mean-teacher").over_supervised
    (0.15, 0.0)
    """
    return PROVEN if method == "auto" else UNPROVEN


@dataclass(frozen=True)
class Gain:
    """What a round gains over supervised fine-tuning, in nats of log-loss per row; above 0 it is better.

    Attributes:
        observed: mean of the paired differences.
        standard_error: of that mean.
        expected: the two of them weighed against what was expected before.
    """

    observed: float
    standard_error: float
    expected: float


def expected_gain(
    before: np.ndarray,
    later: np.ndarray,
    mean: float,
    spread: float = GAIN_SPREAD,
    weights: np.ndarray | None = None,
) -> Gain:
    """Weigh the paired losses of B rows against what rounds are expected to bring.

    d = before − later, with mean d̄ = mean w d and variance s² = mean w² (d − d̄)² (that of `ASSUMED_ROWS` rows more, spread by
    `ASSUMED_SPREAD`, counts in). The gain γ ~ N(μ, τ²) beforehand and d̄ ~ N(γ, s²/B); so
    E[γ] = (d̄ B/s² + μ/τ²) / (B/s² + 1/τ²).

    *Relations*: with no rows it is μ, with many it is d̄.

    Args:
        before: (B,) losses of round 0, or of another round.
        later: (B,) losses of the same rows in the later round.
        mean, spread: μ and τ.
        weights: (B,) w, how often each row counts, once on average (default: once each).

    Source: the posterior mean of a normal mean with known variance, for example Gelman et al., "Bayesian Data Analysis",
    eq. 2.11.

    >>> round(expected_gain(np.array([1.0] * 100_000), np.array([0.9] * 100_000), mean=0.15).expected, 3)
    0.1
    """
    difference = np.asarray(before, dtype=np.float64) - later
    rows = len(difference)
    counted = np.ones(rows) if weights is None else np.asarray(weights, dtype=np.float64)
    observed = float((counted * difference).mean())
    squares = float((counted**2 * (difference - observed) ** 2).sum())
    assumed = ASSUMED_ROWS * ASSUMED_SPREAD**2 * float((counted**2).mean())
    variance = (squares + assumed) / (rows - 1 + ASSUMED_ROWS)
    evidence, belief = rows / variance, 1 / spread**2
    return Gain(observed, (variance / rows) ** 0.5, (observed * evidence + mean * belief) / (evidence + belief))


@dataclass(frozen=True)
class Evidence:
    """What is known of a round when it is compared with the others.

    Attributes:
        out_of_fold: its predictions of labeled rows.
        class_shares: (C,) of the classes that its students predict for the corpus.
        agreement: share of the corpus that keeps its class from the round before; None in round 0.
        chain_agreement: share of the corpus of which two chains say the same, mean over pairs.
    """

    out_of_fold: OutOfFold
    class_shares: np.ndarray
    agreement: float | None
    chain_agreement: float


@dataclass(frozen=True)
class Verdict:
    """What came of comparing a round: its gain over supervised (None of round 0), and why it is refused, if it is."""

    gain: Gain | None
    refused: str | None
    collapsed: bool = False


def judge(rounds: Sequence[Evidence], prior: np.ndarray, belief: Belief) -> list[Verdict]:
    """Compare every round with supervised fine-tuning, which is round 0 and never refused.

    A round is refused where harm is more likely than gain (`expected_gain` below 0), or where it has collapsed.

    Args:
        rounds: evidence by round.
        prior: (C,) class shares of the corpus.
        belief: in the method.
    """
    first, verdicts = rounds[0], [Verdict(None, None)]
    losses = first.out_of_fold.losses()
    for later in rounds[1:]:
        weights = later.out_of_fold.weights()
        gain = expected_gain(losses, later.out_of_fold.losses(), belief.over_supervised, weights=weights)
        refused = collapse(later, first, prior)
        collapsed = refused is not None
        if refused is None and gain.expected < 0:
            weighed = "" if later.out_of_fold.class_weights is None else WEIGHED
            apart = f"out-of-fold log-loss{weighed} is {-gain.observed:.3f} ± {gain.standard_error:.3f} worse than supervised"
            refused = f"harm is more likely than gain: {apart}"
        verdicts.append(Verdict(gain, refused, collapsed))
    return verdicts


def collapse(later: Evidence, first: Evidence, prior: np.ndarray) -> str | None:
    """Why a round is no classifier any more, whatever the few labeled rows say; None where it is one.

    The number of classes in use is exp(entropy of the shares) − 1, that of the prior likewise: 0 where one class is left.

    Args:
        later, first: evidence of the round and of round 0.
        prior: (C,) class shares of the corpus.
    """
    few = too_few_classes(later.class_shares, prior, first.class_shares)
    if few is not None:
        return few
    if later.agreement is not None and later.agreement < STABLE_SHARE * first.chain_agreement:
        return f"only {later.agreement:.0%} of the corpus kept its class from the round before"
    if later.chain_agreement < CHAIN_AGREEMENT * first.chain_agreement:
        return f"chains agree on {later.chain_agreement:.0%} of the corpus, {first.chain_agreement:.0%} in round 0"
    return None


def too_few_classes(shares: np.ndarray, *others: np.ndarray) -> str | None:
    """Whether predicted class shares (C,) leave most classes out that all of the others have, in words; None where they do not.

    >>> too_few_classes(np.array([.99, .01]), np.array([.5, .5]))
    'it predicts about 1.1 classes, where 2.0 are expected'
    """
    in_use, there = _classes_in_use(shares), [_classes_in_use(other) for other in others]
    if in_use >= CLASSES_IN_USE * min(there):
        return None
    return f"it predicts about {in_use + 1:.1f} classes, where {there[0] + 1:.1f} are expected"


def _classes_in_use(shares: np.ndarray) -> float:
    shares = np.asarray(shares, dtype=np.float64) / np.sum(shares)
    return float(np.exp(-np.sum(shares * np.log(shares, out=np.zeros_like(shares), where=shares > 0))) - 1)


def best_round(
    verdicts: Sequence[Verdict], losses: Sequence[np.ndarray], belief: Belief, weights: np.ndarray | None = None
) -> tuple[int, str]:
    """The round whose student is shipped, and why, in a sentence.

    Rounds are gone through in their order: one that is not refused takes the place of the best one so far where it is expected
    to gain over it. That is what its verdict says where the best one is round 0, else `expected_gain` of one more round.

    Args:
        verdicts: by round.
        losses: by round, (B,) each, see `OutOfFold.losses`.
        belief: in the method.
        weights: (B,) how often each row counts, see `OutOfFold.weights`; None: once each.

    >>> best_round([Verdict(None, None), Verdict(Gain(-.5, .1, -.3), "it harms")], [np.zeros(4), np.ones(4)], PROVEN)
    (0, 'supervised fine-tuning; round 1 was refused: it harms')
    """
    best, steps = 0, dict[int, str]()
    for index, verdict in enumerate(verdicts):
        if verdict.gain is None or verdict.refused is not None:
            continue
        if best == 0:
            best, steps = index, {}
            continue
        step = expected_gain(losses[best], losses[index], belief.over_round, ROUND_SPREAD, weights)
        taken = step.expected > 0
        steps[index] = (
            f"{_compared(step)} than round {best}, where one more is expected to bring {belief.over_round:.2f}"
        )
        if taken:
            best, steps = index, {index: steps[index]}
    said = ["supervised fine-tuning"]
    gain = verdicts[best].gain
    if gain is not None:
        weighed = "" if weights is None else WEIGHED
        said = [
            f"its out-of-fold log-loss{weighed} is {_compared(gain)} than supervised; a gain of {gain.expected:.3f} is "
            "expected, with what is known beforehand"
        ]
    said += [f"round {index} is {words}" for index, words in steps.items()]
    said += [f"round {index} was refused: {v.refused}" for index, v in enumerate(verdicts) if v.refused is not None]
    return best, "; ".join(said)


def _compared(gain: Gain) -> str:
    word = "better" if gain.observed >= 0 else "worse"
    return f"{abs(gain.observed):.3f} ± {gain.standard_error:.3f} {word}"


def development_metrics(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """What rounds and checkpoints are compared by."""
    counts = count_classes(np.asarray(logits).argmax(-1), labels)
    return {"accuracy": float(counts.accuracy), "macro_f1": float(counts.macro_f1)}


def checkpoint_metrics(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """`development_metrics`, and what the best step of a training is chosen by.

    `choice` is macro-F1; among steps whose macro-F1 is the same, as happens with few rows, the one with the lower log-loss:
    the first of them has hardly been trained.
    """
    metrics = development_metrics(logits, labels)
    loss = float(negative_log_likelihood(softmax(np.asarray(logits, dtype=np.float64)), labels))
    return metrics | {"choice": metrics["macro_f1"] - 1e-4 * min(loss, 10.0)}
