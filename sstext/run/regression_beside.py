"""Compare the model of a run with a frozen regression on held-out or development rows, if the method has no such stage."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sstext.evaluation.calibration import TEMPERATURE_SPREAD, USUAL_TEMPERATURE, fit_temperature, softmax
from sstext.inference.devices import resolve_device
from sstext.methods.method import Stage
from sstext.pseudolabels.probe import read_embeddings
from sstext.pseudolabels.regression import fit_regression
from sstext.selftraining.cross_fitting import Run, corpus_weights, out_of_fold, rows_of_folds
from sstext.selftraining.verdict import observed_gain

#: The expected temperature of a regression, which is calibrated by its penalty.
OF_REGRESSION = 1.0


@dataclass(frozen=True)
class Beside:
    """A frozen regression beside the model, on labeled rows that the regression has not seen.

    Attributes:
        source: "held-out" (folds: the model has not seen them either) or "development" (the model was chosen on them).
        rows: number of these rows.
        accuracy: of the regression and of the model. Rows are weighted by the class shares of the corpus.
        log_loss: of the regression and of the model, calibrated, in nats, with the same weights.
        gain: by how much the log-loss of the regression is lower, and the standard error of that.
        ahead: whether the regression seems to be better: its gain is more than one standard error above 0, its accuracy is not
            lower, and it is more than one standard error above chance.
    """

    source: str
    rows: int
    accuracy: tuple[float, float]
    log_loss: tuple[float, float]
    gain: tuple[float, float]
    ahead: bool


def regression_beside(run: Run, judged: Stage) -> dict[str, Any] | None:
    """The fields of `Beside` for `results.json`. None if nothing can be compared.

    A method that only fine-tunes can end below a regression that takes seconds, and would not notice. `auto` has the regression
    as a stage, which is compared anyway. This regression reads labels alone, as such a method does.

    Args:
        judged: the stage whose held-out predictions stand for the model.
    """
    whole, regression = run.whole, run.plan.regression
    if regression is None or not (run.cross_fitted or whole.tokens.dev is not None):
        return None
    labels, classes = np.asarray(whole.tokens.labeled["labels"][:]), len(whole.texts.classes)
    held_out = rows_of_folds(whole, len(run.chains)) if run.cross_fitted else []
    if any(len(np.unique(np.delete(labels, rows))) < 2 for rows in held_out):  # nothing can be fitted to one class
        return None
    model = whole.student(regression).to(resolve_device(whole.config.device))
    embedded = read_embeddings(model, whole.tokens.labeled, whole.tokenizer, kept=whole.embeddings)
    if run.cross_fitted:
        of_stage = out_of_fold(run.chains, judged, class_weights=corpus_weights(run.chains, run.plan.last))
        found = [
            _predicted(np.delete(embedded, rows, 0), np.delete(labels, rows), classes, embedded[rows])
            for rows in held_out
        ]
        own = replace(of_stage, logits=np.concatenate(found), believed=OF_REGRESSION, spread=TEMPERATURE_SPREAD)
        return asdict(
            compared(own.probabilities(), of_stage.probabilities(), of_stage.labels, "held-out", of_stage.weights())
        )
    dev = whole.tokens.dev
    rows, true = read_embeddings(model, dev, whole.tokenizer, kept=whole.embeddings), np.asarray(dev["labels"][:])
    by_regression, by_stage = (
        softmax(logits, fit_temperature(logits, true, believed=believed))
        for logits, believed in (
            (_predicted(embedded, labels, classes, rows), OF_REGRESSION),
            (whole.students.score_development_rows(judged), USUAL_TEMPERATURE),
        )
    )
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
    rows, chance = np.arange(len(labels)), 1 / by_regression.shape[1]
    losses = [-np.log(found[rows, labels].clip(1e-6)) for found in (by_regression, by_stage)]
    right = [float(np.average(found.argmax(-1) == labels, weights=weights)) for found in (by_regression, by_stage)]
    loss = [float(np.average(one, weights=weights)) for one in losses]
    gain, error = observed_gain(losses[1], losses[0], weights)
    knows = right[0] > chance + (chance * (1 - chance) / len(labels)) ** 0.5
    ahead = gain > error and right[0] >= right[1] and knows
    return Beside(source, len(labels), (right[0], right[1]), (loss[0], loss[1]), (gain, error), ahead)


def _predicted(embedded: NDArray, labels: NDArray, classes: int, rows: NDArray) -> NDArray:
    """Logits of rows by a regression on labeled ones."""
    return fit_regression(embedded, labels, classes).logits(rows)
