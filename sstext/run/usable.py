"""Whether the model of a run can be used at all: it must not predict one class for everything."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sstext.data.order import random_rows
from sstext.inference.scoring import score
from sstext.methods.method import Stage
from sstext.selftraining.chain import Chain
from sstext.selftraining.cross_fitting import Run, out_of_fold
from sstext.selftraining.evidence import too_few_classes
from sstext.selftraining.student_store import EVIDENCE_ROWS


def one_class(predicted: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> str | None:
    """Describe a model that predicts the same class for all labeled rows, of several classes. Returns None if it does not.

    Args:
        predicted: (B,) predicted classes.
        labels: (B,) true ones.
        classes: names of the C classes.

    >>> one_class(np.array([1, 1, 1]), np.array([0, 1, 1]), ["a", "b"])
    "it predicts 'b' for all 3 labeled texts that it was tried on, which have 2 classes"
    >>> one_class(np.array([1, 1]), np.array([1, 1]), ["a", "b"])
    """
    found, there = np.unique(predicted), np.unique(labels)
    if len(found) > 1 or len(there) < 2:
        return None
    return (
        f"it predicts {classes[int(found[0])]!r} for all {len(predicted):,} labeled texts that it was tried on, which have "
        f"{len(there)} classes"
    )


def check_checked_rows(run: Run, stage: Stage, judged: Stage) -> str | None:
    """Whether the model of a run with development rows or folds can be used, see `one_class`. Nothing is computed anew.

    Args:
        stage: the stage of the model.
        judged: the stage whose held-out predictions stand for it.
    """
    classes = run.whole.texts.classes
    if run.whole.tokens.dev is not None:
        labels = np.asarray(run.whole.tokens.dev["labels"][:])
        return one_class(run.whole.students.score_development_rows(stage).argmax(-1), labels, classes)
    held_out = out_of_fold(run.chains, judged, probe=False)
    return one_class(held_out.logits.argmax(-1), held_out.labels, classes)


def check_one(chain: Chain, stage: Stage) -> tuple[str | None, str | None]:
    """Try the student of a single chain, if there are no folds and no development rows.

    Returns:
        Why it may have collapsed, by its predictions for some texts of the corpus (`too_few_classes`), and why it cannot be
        used, by those for labeled rows (`one_class`). None: no reason was found.
    """
    model, labeled = chain.students.load(stage), chain.tokens.labeled
    some = labeled.select(random_rows(len(labeled), min(len(labeled), EVIDENCE_ROWS), chain.config.seed))
    predicted = score(model, some, chain.tokenizer).argmax(-1)
    return (
        collapsed_on_corpus(chain, stage, model),
        one_class(predicted, np.asarray(some["labels"][:]), chain.texts.classes),
    )


def collapsed_on_corpus(chain: Chain, stage: Stage, model: Any = None) -> str | None:
    """Why the student of a stage may have collapsed, by its predictions for some texts of the corpus (`too_few_classes`).

    They are compared with the expected class shares of the corpus, and with those of the development rows.

    Args:
        model: the student, if it is loaded already.
    """
    corpus = chain.tokens.corpus
    if corpus is None:
        return None
    model = chain.students.load(stage) if model is None else model
    predicted = score(model, corpus.select(chain.students.sample), chain.tokenizer).argmax(-1)
    classes, dev = len(chain.texts.classes), chain.tokens.dev
    shares = np.bincount(predicted, minlength=classes) / len(predicted)
    of_dev = [np.bincount(np.asarray(dev["labels"][:]), minlength=classes)] if dev is not None else []
    return too_few_classes(shares, chain.shares.prior, *of_dev)
