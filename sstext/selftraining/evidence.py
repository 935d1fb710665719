"""The evidence about the students of one stage: held-out predictions, and predictions for the corpus."""

from dataclasses import dataclass

import numpy as np

from sstext.evaluation.calibration import TEMPERATURE_SPREAD, USUAL_TEMPERATURE, fit_temperature, softmax
from sstext.evaluation.metrics import count_classes

#: Limits below which a stage counts as collapsed. `CLASSES_IN_USE` is relative to the classes in use in the prior.
#: `STABLE_SHARE` (the share of the corpus that keeps its class from stage to stage) and `CHAIN_AGREEMENT` are relative to the
#: agreement of the chains in the baseline.
CLASSES_IN_USE, STABLE_SHARE, CHAIN_AGREEMENT = 0.25, 0.5, 0.5


@dataclass(frozen=True)
class OutOfFold:
    """Held-out predictions of one stage, for B labeled rows in K folds. No row is predicted by a student that saw it.

    Attributes:
        logits: (B, C) for C classes, each row by the chain that was trained without its fold.
        labels: (B,).
        folds: (B,) fold of every row.
        believed: expected temperature of the students, before these rows are seen.
        class_weights: (C,) how often a row of each class counts, so that the labels represent a corpus with other class
            shares. None means once each. If the shares are estimated, an error of the estimate does not show here.
        spread: standard deviation of the logarithm of the expected temperature.
    """

    logits: np.ndarray
    labels: np.ndarray
    folds: np.ndarray
    believed: float = USUAL_TEMPERATURE
    class_weights: np.ndarray | None = None
    spread: float = TEMPERATURE_SPREAD

    def weights(self) -> np.ndarray:
        """How often each row counts, (B,), once on average."""
        weights = np.ones(len(self.labels)) if self.class_weights is None else self.class_weights[self.labels]
        return weights / weights.mean()

    def temperature(self) -> float:
        """The temperature that is fitted on all rows."""
        return self._fitted(np.ones(len(self.labels), dtype=bool))

    def probabilities(self) -> np.ndarray:
        """Calibrated probabilities (B, C). The temperature of each fold is fitted on the other folds."""
        calibrated = np.empty(self.logits.shape)
        for fold in np.unique(self.folds):
            own = self.folds == fold
            calibrated[own] = softmax(self.logits[own].astype(np.float64), self._fitted(~own))
        return calibrated

    def _fitted(self, rows: np.ndarray) -> float:
        """The temperature that is fitted on some rows, a mask (B,)."""
        return fit_temperature(
            self.logits[rows],
            self.labels[rows],
            believed=self.believed,
            spread=self.spread,
            weights=self.weights()[rows],
        )

    def losses(self) -> np.ndarray:
        """−log p of the label, (B,) in nats, calibrated as in `probabilities`."""
        likely = self.probabilities()[np.arange(len(self.labels)), self.labels]
        return -np.log(likely.clip(1e-6))

    def metrics(self) -> dict[str, float]:
        """Metrics for the record of a stage. Each row counts once, without class weights."""
        counts = count_classes(self.probabilities(), self.labels)
        return {
            "log_loss": float(self.losses().mean()),
            "accuracy": float(counts.accuracy),
            "macro_f1": float(counts.macro_f1),
        }


@dataclass(frozen=True)
class Evidence:
    """What is known about a stage when it is compared with the others.

    Attributes:
        out_of_fold: its held-out predictions.
        class_shares: (C,) shares of the classes that its students predict for the corpus.
        agreement: share of the corpus that keeps its class from the stage before, or None.
        chain_agreement: share of the corpus for which two chains predict the same class, mean over pairs.
    """

    out_of_fold: OutOfFold
    class_shares: np.ndarray
    agreement: float | None
    chain_agreement: float


def collapse(later: Evidence, first: Evidence, prior: np.ndarray) -> str | None:
    """Describe a collapse of a stage: its students hardly work as classifiers any more. Returns None if there is none.

    The number of classes in use is exp(entropy of the shares) − 1, and that of the prior likewise. It is 0 if one class
    is left.

    Args:
        later, first: evidence of the stage and of the baseline.
        prior: (C,) class shares of the corpus.
    """
    few = too_few_classes(later.class_shares, prior, first.class_shares)
    if few is not None:
        return few
    if later.agreement is not None and later.agreement < STABLE_SHARE * first.chain_agreement:
        return f"only {later.agreement:.0%} of the texts got the same class as in the previous stage"
    if later.chain_agreement < CHAIN_AGREEMENT * first.chain_agreement:
        return (
            f"chains agree on {later.chain_agreement:.0%} of the corpus, {first.chain_agreement:.0%} in the first stage"
        )
    return None


def too_few_classes(shares: np.ndarray, *others: np.ndarray) -> str | None:
    """Describe a collapse: most classes are hardly predicted any more, compared with other shares (C,). Returns None if not.

    >>> too_few_classes(np.array([.99, .01]), np.array([.5, .5]))
    'its predictions have collapsed to few classes (effective number 1.1, expected 2.0)'
    """
    in_use, there = _classes_in_use(shares), [_classes_in_use(other) for other in others]
    if in_use >= CLASSES_IN_USE * min(there):
        return None
    return f"its predictions have collapsed to few classes (effective number {in_use + 1:.1f}, expected {there[0] + 1:.1f})"


def _classes_in_use(shares: np.ndarray) -> float:
    shares = np.asarray(shares, dtype=np.float64) / np.sum(shares)
    return float(np.exp(-np.sum(shares * np.log(shares, out=np.zeros_like(shares), where=shares > 0))) - 1)
