"""Cross-fitting: K self-training chains, each without one fold of the labels; they never mix until the last student.

Chain k learns from its own labels and its own models' pseudo-labels alone, in every round, so that what it says of fold k is
honest in every round. Together the chains say how much each round is worth (`sstext.model_selection`), and how sure the
model may be. Only then are their labels averaged, for one student that is trained on all labels, too.

Source: Chernozhukov et al. 2018, "Double/debiased machine learning", definition 3.1 (cross-fitting); the chains: ours.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np

from sstext.chain import Chain
from sstext.data.order import random_rows
from sstext.data.sampling import stratified_folds
from sstext.evaluation.calibration import USUAL_TEMPERATURE, matching_temperature, softmax
from sstext.inference.scoring import score
from sstext.model_selection import Evidence, OutOfFold, too_few_classes
from sstext.processes import from_main_process, is_main_process, wait_for_everyone
from sstext.pseudolabels.alignment import CalibratedScores, Mean, slices
from sstext.pseudolabels.class_shares import balanced, resolve_prior
from sstext.storage.run_folder import RunDirectory

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


def averaged(
    chains: Sequence[Chain],
    index: int,
    temperature: float,
    file: Path,
    beside: np.ndarray | None = None,
    beside_temperature: float = 1.0,
) -> np.ndarray:
    """log of the mean calibrated prediction of the chains' students for the corpus, (N, C), kept in a file.

    Args:
        index: of the round.
        temperature: of its students.
        beside, beside_temperature: logits (N, C) of a teacher with all labels; it counts as much as all chains together.
    """
    if not from_main_process(file.exists()):
        logits = [chain.score(index) for chain in chains]
        if is_main_process():
            file.parent.mkdir(parents=True, exist_ok=True)
            temporary = file.with_suffix(".tmp")
            whole = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=logits[0].shape)
            for some in slices(len(whole)):
                mean = np.mean([softmax(one[some].astype(np.float64), temperature) for one in logits], axis=0)
                if beside is not None:
                    mean = (mean + softmax(beside[some].astype(np.float64), beside_temperature)) / 2
                whole[some] = np.log(mean.clip(1e-30))
            whole.flush()
            temporary.replace(file)
        wait_for_everyone()
    return np.load(file, mmap_mode="r", allow_pickle=False)


def _history(chains: Sequence[Chain], chosen: int, prior: np.ndarray | None) -> list[Mean]:
    """What the chains together said of the corpus in the rounds before the chosen one, aligned to class shares (None: not)."""
    return [
        Mean([CalibratedScores(chain.score(index), chain.score_temperature(index), prior) for chain in chains])
        for index in range(chains[0].admission.label_rounds - 1, chosen)
    ]


def last_student(last: Chain, chains: Sequence[Chain], chosen: int, temperatures: Sequence[float]) -> tuple[int, float]:
    """Train the student that is shipped: on all labels, and on the averaged labels of the chains of the chosen round.

    Where a probe labels (`Chain.labels_with_probe`), it does so here too, fitted on all labels. The student's temperature is
    that at which it agrees best with its labels, as they are aligned: out-of-fold rows have calibrated them, and the teachers'
    own is not its own.

    Args:
        last: see `with_all_labels`.
        chosen: the round; one that saw labels alone is trained again on all of them.
        temperatures: of the chains' students, by round.

    Returns:
        The round of `last` whose student it is, one of labels alone where no text was sure enough to join; its temperature.
    """
    label_rounds = last.admission.label_rounds
    for index in range(min(chosen + 1, label_rounds)):
        last.fit(index, None)
    if chosen < label_rounds:
        return chosen, temperatures[chosen]
    beside, of_beside = None, 1.0
    if last.labels_with_probe(label_rounds - 1):
        beside = last.score(label_rounds - 1)
        # Of labels as they are: head and probe know balanced ones alone, and are aligned afterwards.
        of_beside = out_of_fold(chains, label_rounds - 1, probe=True).temperature()
    file = last.directory.path / "averaged.npy"
    labels = averaged(chains, chosen, temperatures[chosen], file, beside, of_beside)
    prior = last.class_shares(labels, 1.0) if last.admission.align else None
    history = _history(chains, chosen, prior) if last.admission.history else None
    if len(last.admit(label_rounds, labels, 1.0, share=last.keep(chosen + 1), history=history)) == 0:
        last.reporter.note(f"the last student has labels alone: {last.admission.refusal(last.config.min_confidence)}")
        return label_rounds - 1, temperatures[label_rounds - 1]
    last.fit(label_rounds, last.admitted(label_rounds))
    rows = random_rows(len(labels), min(len(labels), EVIDENCE_ROWS), last.config.seed)
    said = score(last.load(label_rounds), last.tokens.corpus.select(rows), last.tokenizer)
    return label_rounds, matching_temperature(said, CalibratedScores(labels, 1.0, prior)[rows])
