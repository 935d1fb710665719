"""Cross-fitting: K self-training chains, each without one fold of the labels; they never mix until the last student.

Chain k learns from its own labels and its own models' pseudo-labels alone, in every round, so that what it says of fold k is
honest in every round. Together the chains say how much each round is worth (`sstext.selftraining.verdict`), and how sure the
model may be. Only then are their labels averaged, for one student that is trained on all labels, too.

Source: Chernozhukov et al. 2018, "Double/debiased machine learning", definition 3.1 (cross-fitting); the chains: ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from sstext.data.order import random_rows
from sstext.data.sampling import stratified_folds
from sstext.evaluation.calibration import USUAL_TEMPERATURE
from sstext.inference.scoring import score
from sstext.pseudolabels.class_shares import balanced, resolve_prior
from sstext.selftraining.chain import Chain
from sstext.selftraining.evidence import Evidence, OutOfFold, too_few_classes
from sstext.storage.run_folder import RunDirectory


@dataclass(frozen=True)
class Run:
    """The chains of a run.

    Attributes:
        whole: the chain that has all labels: it makes the model that is shipped.
        chains: those that go through the rounds: K cross-fitted ones, or `whole` alone.
        directory: the folder of the run.
    """

    whole: Chain
    chains: list[Chain]
    directory: RunDirectory

    @property
    def cross_fitted(self) -> bool:
        """Whether labeled rows are predicted by students that never saw them."""
        return self.chains[0].held_out is not None


#: Rows of the corpus by which a collapse is seen.
EVIDENCE_ROWS = 512


#: Temperatures between which a probe is believed.
BELIEVABLE = 0.25, 5.0


#: Folder of the chain that has all labels, beside those of the others.
ALL_LABELS = "all_labels"


def cross_fitted(whole: Chain, folds: int) -> list[Chain]:
    """K chains, chain k without fold k of the labels; they share the tokens of the corpus.

    Args:
        whole: the chain that has all labels.
        folds: K.

    Raises:
        UserError: more folds than labels can be shared out over.
    """
    return [_without(whole, rows, number) for number, rows in enumerate(rows_of_folds(whole, folds), 1)]


def rows_of_folds(whole: Chain, folds: int) -> list[np.ndarray]:
    """The labeled rows of each fold, as positions: chain k never learns from those of fold k."""
    labels = np.asarray(whole.tokens.labeled["labels"][:])
    fold_of = stratified_folds(labels, folds, whole.config.seed, copies=whole.tokens.labeled["input_ids"][:])
    return [np.flatnonzero(fold_of == fold) for fold in range(folds)]


def _without(whole: Chain, held_out: np.ndarray, number: int) -> Chain:
    labels = np.asarray(whole.tokens.labeled["labels"][:])
    spec = whole.config.prior
    if spec == "auto":  # what the labels are is decided once, for all chains
        spec = "uniform" if balanced(labels) else "labeled"
    own = np.setdiff1d(np.arange(len(labels)), held_out)
    return replace(
        whole,
        tokens=replace(whole.tokens, labeled=whole.tokens.labeled.select(own)),
        held_out=whole.tokens.labeled.select(held_out),
        prior=resolve_prior(spec, labels[own], whole.texts.classes),
        directory=RunDirectory(whole.directory.path / f"chain_{number}"),
        number=number,
    )


def with_all_labels(whole: Chain) -> Chain:
    """The chain that makes the last student, in a folder beside those of the others."""
    return replace(whole, directory=RunDirectory(whole.directory.path / ALL_LABELS))


def out_of_fold(
    chains: Sequence[Chain], index: int, probe: bool = False, class_weights: np.ndarray | None = None
) -> OutOfFold:
    """What the students of a round say of the rows that their chains do not have.

    Args:
        probe: head and probe together instead of the head alone.
        class_weights: see `OutOfFold`, for example of `corpus_weights`.
    """
    logits = [chain.score_held_out_with_probe(index) if probe else chain.score_held_out(index) for chain in chains]
    labels = [np.asarray(chain.held_out["labels"][:]) for chain in chains]
    folds = [np.full(len(rows), chain.number) for rows, chain in zip(labels, chains, strict=True)]
    believed = 1.0 if probe else _believed_temperature(chains, index)
    return OutOfFold(np.concatenate(logits), np.concatenate(labels), np.concatenate(folds), believed, class_weights)


def corpus_weights(chains: Sequence[Chain], finished: int) -> np.ndarray | None:
    """How often a labeled row of each class counts, (C,), so that the labels stand for the corpus; None: once each.

    w = share in the corpus / share of the labels. A round that is right for a skewed corpus looks wrong on balanced labels.

    Args:
        finished: the last round that all chains have made; before a round labels the corpus, nobody knows its shares.
    """
    first = chains[0]
    if first.tokens.corpus is None or not first.admission.align:
        return None
    if first.estimates_prior:
        teacher = first.admission.label_rounds - 1
        if finished < teacher or not first.admission.probe:
            return None
        shares = np.mean([chain.class_shares(chain.score(teacher), 1.0) for chain in chains], axis=0)
    elif first.config.prior in ("auto", "labeled"):
        return None  # the labels stand for the corpus already
    else:
        shares = np.mean([chain.prior for chain in chains], axis=0)
    labels = np.concatenate([np.asarray(chain.held_out["labels"][:]) for chain in chains])
    given = np.bincount(labels, minlength=len(shares)) / len(labels)
    return np.divide(shares, given, out=np.ones_like(shares), where=given > 0)


def _believed_temperature(chains: Sequence[Chain], index: int) -> float:
    """What a probe says of the chains' students of a round, their geometric mean, or without one the usual temperature.

    Within reason: a head that contradicts its probe asks for the highest temperature there is, and would drown the labels.
    """
    if not chains[0].has_probe:
        return USUAL_TEMPERATURE
    said = np.log([chain.fitted(index).temperature for chain in chains])
    return float(np.exp(np.mean(said)).clip(*BELIEVABLE))


def evidence(
    chains: Sequence[Chain], index: int, agreement: float | None, class_weights: np.ndarray | None = None
) -> Evidence:
    """All that a round is compared by.

    Args:
        agreement: share of the corpus that kept its class since the round before.
        class_weights: see `corpus_weights`.

    Class shares and agreement are those of `EVIDENCE_ROWS` rows.
    """
    classes = len(chains[0].texts.classes)
    if chains[0].tokens.corpus is None:
        return Evidence(out_of_fold(chains, index), np.full(classes, 1 / classes), None, 1.0)
    held_out = out_of_fold(chains, index, class_weights=class_weights)
    corpus = len(chains[0].tokens.corpus)
    rows = random_rows(corpus, min(corpus, EVIDENCE_ROWS), chains[0].config.seed)
    said = [chain.sample_scores(index, rows).argmax(-1) for chain in chains]
    counts = np.bincount(np.concatenate(said), minlength=classes)
    agreed = [float(np.mean(one == other)) for one, other in combinations(said, 2)]
    return Evidence(held_out, counts / counts.sum(), agreement, float(np.mean(agreed)))


def collapse_of_one(chain: Chain, index: int) -> str | None:
    """Whether a single chain's student leaves most classes of the prior out, in words; None where not, or without a corpus.

    Without folds or development rows, this is all that can be said of a round (on `EVIDENCE_ROWS` rows of the corpus).
    """
    corpus = chain.tokens.corpus
    if corpus is None:
        return None
    rows = random_rows(len(corpus), min(len(corpus), EVIDENCE_ROWS), chain.config.seed)
    said = score(chain.load(index), corpus.select(rows), chain.tokenizer).argmax(-1)
    return too_few_classes(np.bincount(said, minlength=len(chain.texts.classes)) / len(said), chain.prior)
