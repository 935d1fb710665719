"""Compare the model of a run with a frozen regression on labels that neither has seen, if the method has no such stage."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sstext.evaluation.calibration import TEMPERATURE_SPREAD, fit_temperature, softmax
from sstext.inference.devices import resolve_device
from sstext.methods.method import Stage
from sstext.pseudolabels.probe import read_embeddings
from sstext.pseudolabels.regression import fit_regression
from sstext.selftraining.cross_fitting import Run, corpus_weights, out_of_fold, rows_of_folds
from sstext.selftraining.verdict import expected_gain

#: Standard deviation of the gain of a regression over another model, before any rows are seen. Its mean is 0.
SPREAD = 0.2


@dataclass(frozen=True)
class Beside:
    """A frozen regression beside the chosen stage, on labeled rows that neither has seen.

    Attributes:
        source: "held-out" (folds) or "development".
        rows: number of these rows.
        accuracy: of the regression and of the stage.
        log_loss: of the regression and of the stage, calibrated, in nats.
        gain: by how much the log-loss of the regression is lower, and the standard error of that. Rows are weighted by the
            class shares of the corpus.
        ahead: whether the regression is expected to be better: its gain is more than one standard error above 0.
    """

    source: str
    rows: int
    accuracy: tuple[float, float]
    log_loss: tuple[float, float]
    gain: tuple[float, float]
    ahead: bool


def regression_beside(run: Run, judged: Stage) -> dict[str, Any] | None:
    """The fields of `Beside` for `results.json`. None if nothing is compared.

    A method that only fine-tunes can end below a regression that takes seconds, and would not notice. `auto` has the regression
    as a stage, which is compared anyway. This regression reads labels alone, as such a method does.

    Args:
        judged: the stage whose held-out predictions stand for the model.
    """
    whole, regression = run.whole, run.plan.regression
    if regression is None or not (run.cross_fitted or whole.tokens.dev is not None):
        return None
    model = whole.student(regression).to(resolve_device(whole.config.device))
    labels, classes = np.asarray(whole.tokens.labeled["labels"][:]), len(whole.texts.classes)
    embedded = read_embeddings(model, whole.tokens.labeled, whole.tokenizer, kept=whole.embeddings)
    if run.cross_fitted:
        of_stage = out_of_fold(run.chains, judged, class_weights=corpus_weights(run.chains, run.plan.last))
        logits = np.concatenate(
            [_without(embedded, labels, classes, rows) for rows in rows_of_folds(whole, run.plan.folds)]
        )
        own = replace(of_stage, logits=logits, believed=1.0, spread=TEMPERATURE_SPREAD)
        found = (own.probabilities(), of_stage.probabilities())
        return asdict(compared(*found, of_stage.labels, "held-out", of_stage.weights()))
    dev = whole.tokens.dev
    rows = read_embeddings(model, dev, whole.tokenizer, kept=whole.embeddings)
    both = fit_regression(embedded, labels, classes).logits(rows), whole.students.score_development_rows(judged)
    true = np.asarray(dev["labels"][:])
    # As the stages themselves, both get the temperature that fits these rows.
    by_regression, by_stage = (softmax(logits, fit_temperature(logits, true)) for logits in both)
    return asdict(compared(by_regression, by_stage, true, "development"))


def compared(
    by_regression: NDArray, by_stage: NDArray, labels: NDArray, source: str, weights: NDArray | None = None
) -> Beside:
    """Compare probabilities (B, C) of a regression and of a stage for the same rows.

    Args:
        labels: (B,) the classes of the rows.
        source: see `Beside`.
        weights: (B,) how often each row counts, with mean 1. Default: once each.

    >>> good, bad, labels = np.array([[.9, .1], [.1, .9]] * 20), np.full((40, 2), .5), np.array([0, 1] * 20)
    >>> compared(good, bad, labels, "held-out").ahead, compared(bad, good, labels, "held-out").ahead
    (True, False)
    """
    rows = np.arange(len(labels))
    losses = [-np.log(found[rows, labels].clip(1e-6)) for found in (by_regression, by_stage)]
    right = [float((found.argmax(-1) == labels).mean()) for found in (by_regression, by_stage)]
    gain = expected_gain(losses[1], losses[0], 0.0, SPREAD, weights)
    return Beside(
        source, len(labels), (right[0], right[1]), (float(losses[0].mean()), float(losses[1].mean())),
        (gain.observed, gain.standard_error), gain.observed > gain.standard_error,
    )  # fmt: skip


def _without(embedded: NDArray, labels: NDArray, classes: int, held_out: NDArray) -> NDArray:
    """Logits of held-out rows by a regression on the others."""
    others = np.setdiff1d(np.arange(len(labels)), held_out)
    return fit_regression(embedded[others], labels[others], classes).logits(embedded[held_out])
