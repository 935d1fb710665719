"""Do no harm: compare the stages by their held-out predictions, and choose the best one.

With forty labels there are none to spare for a development set. K chains self-train, each without one fold of the
labels, so that every labeled row is predicted by students that never saw it, directly or through a pseudo-label. There are few
of these predictions: with 40 rows, the standard error of a paired accuracy is about 6 points. Neither a
significance test nor the best score is reliable enough. The rule below weighs the evidence against the gain that rounds are
expected to bring.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sstext.methods.method import Belief
from sstext.selftraining.evidence import Evidence, collapse

#: Standard deviation of the gain of a round over the one before, see `Belief`.
ROUND_SPREAD = 0.05
#: Added to messages about a log-loss whose rows are weighted.
WEIGHTED = " (rows weighted by the class shares of the corpus)"
#: Prior on the variance of paired loss differences: its standard deviation, and the number of observations that it is worth. It
#: keeps the standard error from vanishing when a few held-out rows happen to agree.
ASSUMED_SPREAD, ASSUMED_ROWS = 0.5, 4


#: What the first stage of a plan is, by its name.
OF_FIRST = {
    "baseline": "plain fine-tuning on the labels",
    "regression": "a logistic regression on the encoder as it was pretrained",
}


@dataclass(frozen=True)
class Gain:
    """The gain of a stage over the baseline, in nats of log-loss per row. Above 0, the stage is better.

    Attributes:
        observed: mean of the paired differences.
        standard_error: standard error of that mean.
        expected: posterior mean of the gain, see `expected_gain`.
    """

    observed: float
    standard_error: float
    expected: float


def expected_gain(
    before: np.ndarray,
    later: np.ndarray,
    mean: float,
    spread: float,
    weights: np.ndarray | None = None,
) -> Gain:
    """Weigh the paired losses of B rows against the gain that is expected before they are seen.

    d = before − later, with mean d̄ = mean w d and variance s² = mean w² (d − d̄)². The variance includes `ASSUMED_ROWS` more
    rows with standard deviation `ASSUMED_SPREAD`. The gain γ ~ N(μ, τ²) beforehand and d̄ ~ N(γ, s²/B); so
    E[γ] = (d̄ B/s² + μ/τ²) / (B/s² + 1/τ²).

    *Relations*: with no rows it is μ, with many it is d̄.

    Args:
        before: (B,) losses of the baseline, or of another stage.
        later: (B,) losses of the same rows in the later stage.
        mean, spread: μ and τ.
        weights: (B,) w, how often each row counts, with mean 1. Default: once each.

    Source: the posterior mean of a normal mean with known variance, for example Gelman et al., "Bayesian Data Analysis",
    eq. 2.11.

    >>> round(expected_gain(np.array([1.0] * 100_000), np.array([0.9] * 100_000), mean=0.15, spread=0.3).expected, 3)
    0.1
    """
    observed, standard_error = observed_gain(before, later, weights)
    evidence, belief = 1 / standard_error**2, 1 / spread**2
    return Gain(observed, standard_error, (observed * evidence + mean * belief) / (evidence + belief))


def observed_gain(before: np.ndarray, later: np.ndarray, weights: np.ndarray | None = None) -> tuple[float, float]:
    """The mean d̄ of paired losses, and its standard error s/√B, see `expected_gain`.

    >>> [round(value, 3) for value in observed_gain(np.array([1.0, 0.5]), np.array([0.5, 0.5]))]
    [0.25, 0.335]
    """
    difference = np.asarray(before, dtype=np.float64) - later
    rows = len(difference)
    counted = np.ones(rows) if weights is None else np.asarray(weights, dtype=np.float64)
    observed = float((counted * difference).mean())
    squares = float((counted**2 * (difference - observed) ** 2).sum())
    assumed = ASSUMED_ROWS * ASSUMED_SPREAD**2 * float((counted**2).mean())
    variance = (squares + assumed) / (rows - 1 + ASSUMED_ROWS)
    return observed, (variance / rows) ** 0.5


@dataclass(frozen=True)
class Verdict:
    """The result of comparing a stage with the baseline.

    Attributes:
        gain: gain over the baseline. None for the baseline itself.
        refused: why the stage may not be chosen, or None.
        collapsed: whether its students have collapsed, see `sstext.selftraining.evidence.collapse`.
    """

    gain: Gain | None
    refused: str | None
    collapsed: bool = False


def judge(
    stages: Sequence[Evidence],
    prior: np.ndarray,
    belief: Belief,
    first_name: str = "baseline",
    gain_of_student: float = 0.0,
) -> list[Verdict]:
    """Compare every stage with the baseline, which is the first stage. The baseline is never refused.

    A stage is refused if harm is more likely than gain (`expected_gain` and that of its student below 0), or if it has
    collapsed.

    Args:
        stages: evidence by stage.
        prior: (C,) class shares of the corpus.
        belief: the gain that is expected of the method.
        gain_of_student: what the model is expected to gain over the stages, if they are only its teachers; otherwise 0.
    """
    first, verdicts = stages[0], [Verdict(None, None)]
    losses = first.out_of_fold.losses()
    for later in stages[1:]:
        weights = later.out_of_fold.weights()
        own = later.out_of_fold.losses()
        gain = expected_gain(losses, own, belief.over_baseline, belief.spread, weights)
        refused = collapse(later, first, prior)
        collapsed = refused is not None
        if refused is None and gain.expected + gain_of_student < 0:
            weighted = "" if later.out_of_fold.class_weights is None else WEIGHTED
            than = f"{_compared(gain)} than that of the {first_name}{weighted}"
            refused = f"harm is more likely than gain, because its held-out log-loss is {than}"
        verdicts.append(Verdict(gain, refused, collapsed))
    return verdicts


def best_stage(
    names: Sequence[str],
    verdicts: Sequence[Verdict],
    losses: Sequence[np.ndarray],
    belief: Belief,
    weights: np.ndarray | None = None,
) -> tuple[int, str]:
    """The position of the stage that is chosen, and the reason in a sentence.

    Stages are visited in their order. A stage that is not refused replaces the best one so far if it is expected to
    gain over it. Over the baseline, its verdict says so; over another stage, `expected_gain` of one more round.

    Args:
        names: names of the stages.
        verdicts: verdicts of the stages.
        losses: losses of the stages, (B,) each, see `OutOfFold.losses`.
        belief: the gain that is expected of the method.
        weights: (B,) how often each row counts, see `OutOfFold.weights`. None means once each.

    >>> from sstext.methods.method import PROVEN
    >>> verdicts = [Verdict(None, None), Verdict(Gain(-.5, .1, -.3), "it harms")]
    >>> best_stage(["baseline", "round 1"], verdicts, [np.zeros(4), np.ones(4)], PROVEN)
    (0, 'plain fine-tuning on the labels; round 1 was refused: it harms')
    """
    best, steps = 0, dict[int, str]()
    for index, verdict in enumerate(verdicts):
        if verdict.gain is None or verdict.refused is not None:
            continue
        if best == 0:
            best, steps = index, {}
            continue
        step = expected_gain(losses[best], losses[index], belief.over_round, ROUND_SPREAD, weights)
        steps[index] = (
            f"{_compared(step)} than that of {names[best]}, and one more round is expected to gain {belief.over_round:.2f}"
        )
        if step.expected > 0:
            best, steps = index, {index: steps[index]}
    reasons = [OF_FIRST.get(names[0], names[0])]
    gain = verdicts[best].gain
    if gain is not None:
        weighted = "" if weights is None else WEIGHTED
        reasons = [
            f"its held-out log-loss is {_compared(gain)} than that of the {names[0]}{weighted}; given what other "
            f"data have shown, its expected gain is {gain.expected:.3f}"
        ]
        if gain.expected < 0:  # it was not refused
            reasons.append(f"the model that learns from it is expected to gain {belief.over_round:.2f} more")
    reasons += [f"the log-loss of {names[index]} is {words}" for index, words in steps.items()]
    reasons += [f"{names[index]} was refused: {v.refused}" for index, v in enumerate(verdicts) if v.refused is not None]
    return best, "; ".join(reasons)


def _compared(gain: Gain) -> str:
    word = "better" if gain.observed >= 0 else "worse"
    return f"{abs(gain.observed):.3f} ± {gain.standard_error:.3f} {word}"
