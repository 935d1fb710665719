"""Estimate the accuracy of the model of a run without test rows."""

from dataclasses import asdict, replace
from typing import Any

import numpy as np

from sstext.data.labeling_tasks import AT_RANDOM, reasons_in
from sstext.evaluation.accuracy import (
    WORTH_OF_HELD_OUT,
    estimate_accuracy,
    gain_over,
    rows_that_count,
    weights_of_random_labels,
)
from sstext.evaluation.calibration import Correction
from sstext.evaluation.held_out import BUDGET, FEW_LABELS, METHOD, NO_LABELS, NOT_ASKED
from sstext.methods.method import Stage
from sstext.pseudolabels.texts_to_label import REASONS
from sstext.selftraining.cross_fitting import (
    TEXTS_PER_FOLD,
    Run,
    corpus_weights,
    out_of_fold,
    rows_of_folds,
    texts_for_folds,
)
from sstext.storage.damage import read_array
from sstext.storage.run_folder import AVERAGED


def accuracy_estimate(
    run: Run, model: Stage, judged: Stage, last: Stage, correction: Correction
) -> dict[str, Any] | None:
    """What `results.json` says about the accuracy of the model, or None if no labeled rows were held out.

    With folds, each labeled row is predicted by the chain that never saw it. Rows are weighted by the class shares of the
    corpus, and the expected gain of the model over the chains is added. If `sstext suggest` chose the rows and enough of them
    were drawn at random, only these count. With development rows, the model itself predicts
    them, but they also chose it, so the accuracy is too high.

    Args:
        run: the finished run.
        model: the stage of the chain with all labels whose student is the model.
        judged: the stage whose held-out predictions stand for it.
        last: the last stage that the chains have finished. Class shares are estimated after the first teacher.
        correction: of the model. Only its shift changes what is predicted.

    Returns:
        The fields of `AccuracyEstimate`, "source": "held-out" or "development", and "chosen": number of rows that were not
        drawn at random.
    """
    whole = run.whole
    if run.cross_fitted:
        weights = corpus_weights(run.chains, last)
        # If the model is the student of this stage, it is the head alone. The corpus has scores of head and probe together, so
        # that nothing is known of its gain.
        held_out = out_of_fold(run.chains, judged, probe=None if model is not judged else False, class_weights=weights)
        comparable = whole.tokens.corpus is not None and not (model is judged and judged.with_probe)
        counted = weights_of_random_labels(held_out.labels) if weights is None else held_out.weights()
        drawn = _drawn_at_random(run)
        rows, at_held_out = rows_that_count(drawn), replace(correction, temperature=held_out.temperature())
        found = estimate_accuracy(
            (correction.logits(held_out.logits).argmax(-1) == held_out.labels)[rows],
            counted[rows],
            gain=_gain(run, model, judged, at_held_out) if comparable else 0.0,
            worth=WORTH_OF_HELD_OUT,
        )
        return {"source": "held-out", "chosen": int((~drawn[rows]).sum()), **asdict(found)}
    if whole.tokens.dev is None:
        return None
    labels = np.asarray(whole.tokens.dev["labels"][:])
    found = estimate_accuracy(whole.students.score_development_rows(model).argmax(-1) == labels)
    return {"source": "development", **asdict(found)}


def estimated_shares(run: Run, last: Stage) -> dict[str, float] | None:
    """Class → its estimated share of the corpus. None if the shares are given, or nothing estimates them.

    Args:
        last: see `accuracy_estimate`.
    """
    whole = run.whole
    if not run.cross_fitted or whole.shares.source != "predictions":
        return None
    weights = corpus_weights(run.chains, last)
    if weights is None:
        return None
    shares = weights * np.bincount(np.asarray(whole.tokens.labeled["labels"][:]), minlength=len(weights))
    return dict(zip(whole.texts.classes, (shares / shares.sum()).tolist(), strict=True))


def _drawn_at_random(run: Run) -> np.ndarray:
    """Whether each held-out row was drawn at random, (B,), as far as the file of labels tells. Other rows count as drawn."""
    config, texts = run.whole.config, run.whole.texts.labeled.texts["text"]
    reasons = reasons_in(config.labeled or config.data, text_column=config.text_column, encoding=config.encoding)
    order = np.concatenate(rows_of_folds(run.whole, len(run.chains)))
    chosen = set(REASONS) - {AT_RANDOM}  # a table may have a column `reason` of its own
    return np.array([reasons.get(texts[int(row)]) not in chosen for row in order])


def nothing_held_out(run: Run) -> str | None:
    """Why no labeled rows were held out (`sstext.evaluation.held_out`). None if some were, or there are development rows."""
    whole, plan, selection = run.whole, run.plan, run.plan.selection
    if run.cross_fitted or whole.tokens.dev is not None:
        return None
    if whole.texts.zero_shot:
        return NO_LABELS
    if plan.left_out_folds:
        return BUDGET
    if selection is not None and selection.passes:
        return METHOD
    # Three chains are those of --folds 3, the remedy.
    return FEW_LABELS if texts_for_folds(whole.tokens.labeled) < TEXTS_PER_FOLD * 3 else NOT_ASKED


def _gain(run: Run, model: Stage, judged: Stage, correction: Correction) -> float:
    """The expected gain of the model over the chains, on the sample of the corpus.

    The probabilities are the averaged labels of the teachers, if the model has learned from them. Otherwise they are half those
    of the chains, half those of the teacher with all labels if there is one, at the temperature of the held-out rows.
    """
    corrected = correction.probabilities
    students = run.whole.students
    chains = np.stack([corrected(chain.students.sample_logits(judged)) for chain in run.chains])
    expected, averaged = chains.mean(0), run.whole.directory.path / AVERAGED
    if run.plan.teaches_once and averaged.exists():
        expected = np.exp(read_array(averaged, mapped=True)[students.sample].astype(np.float64))
    elif students.is_fitted(judged):
        expected = (expected + corrected(students.sample_logits(judged))) / 2
    return gain_over(expected, corrected(students.sample_logits(model)).argmax(-1), chains.argmax(-1))
