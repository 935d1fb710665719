"""Cross-fitting: K self-training chains, each without one fold of the labels. They never mix until the final model.

Chain k learns only from its own labels and from the pseudo-labels of its own students. Its predictions for fold k are therefore
held-out predictions in every stage. All held-out predictions together show how much each stage gains (`verdict`), and calibrate
the model. At the end, the pseudo-labels of the chains are averaged for the final model, which also learns from all labels.

Source: Chernozhukov et al. 2018, "Double/debiased machine learning", definition 3.1 (cross-fitting); the chains: ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from sstext.data.sampling import stratified_folds
from sstext.evaluation.calibration import (
    SPREAD_OF_PROBE,
    TEMPERATURE_OF_PROBE,
    TEMPERATURE_SPREAD,
    USUAL_TEMPERATURE,
    softmax,
)
from sstext.methods.method import Stage
from sstext.selftraining.chain import Chain
from sstext.selftraining.evidence import Evidence, OutOfFold
from sstext.selftraining.plan import Plan
from sstext.storage.run_folder import ALL_LABELS, RunDirectory, chain_folder

#: Fewest texts per fold with which folds are worth their time. A given --folds may have fewer.
TEXTS_PER_FOLD = 2
#: Temperatures of a probe are used within these bounds.
BELIEVABLE = 0.25, 5.0


@dataclass(frozen=True)
class Run:
    """The chains of a run.

    Attributes:
        whole: the chain with all labels, whose student becomes the chosen model.
        chains: the chains that go through the stages: K cross-fitted ones, or `whole` alone.
        directory: the folder of the run.
    """

    whole: Chain
    chains: list[Chain]
    directory: RunDirectory

    @property
    def plan(self) -> Plan:
        """The stages that all chains go through."""
        return self.chains[0].plan

    @property
    def cross_fitted(self) -> bool:
        """Whether labeled rows are predicted by students that never saw them."""
        return self.chains[0].held_out is not None


def make_run(whole: Chain, plan: Plan) -> Run:
    """The chains of a plan.

    Args:
        whole: the chain with all labels, in the folder of the run.
        plan: gives the number of chains.

    Raises:
        UserError: more folds than the labels can be divided into.
    """
    whole = replace(whole, plan=plan)
    if not plan.folds:
        return Run(whole, [whole], whole.directory)
    aside = replace(whole, directory=RunDirectory(whole.directory.path / ALL_LABELS))
    return Run(aside, cross_fitted(whole, plan.folds), whole.directory)


def cross_fitted(whole: Chain, folds: int) -> list[Chain]:
    """K chains, chain k without fold k of the labels. They share the tokens of the corpus.

    Args:
        whole: the chain with all labels.
        folds: K, the number of folds.

    Raises:
        UserError: more folds than the labels can be divided into.
    """
    return [_without(whole, rows, number) for number, rows in enumerate(rows_of_folds(whole, folds), 1)]


def rows_of_folds(whole: Chain, folds: int) -> list[np.ndarray]:
    """The labeled rows of each fold, as positions. Chain k never learns from those of fold k."""
    labels = np.asarray(whole.tokens.labeled["labels"][:])
    fold_of = stratified_folds(labels, folds, whole.config.seed, copies=whole.tokens.labeled["input_ids"][:])
    return [np.flatnonzero(fold_of == fold) for fold in range(folds)]


def texts_for_folds(labeled: Any) -> int:
    """Number of different labeled texts in classes with at least two of them. Only these can be held out."""
    texts = {(label, *ids) for label, ids in zip(labeled["labels"][:], labeled["input_ids"][:], strict=True)}
    _, counts = np.unique([label for label, *_ in texts], return_counts=True)
    return int(counts[counts > 1].sum())


def _without(whole: Chain, held_out: np.ndarray, number: int) -> Chain:
    labels = np.asarray(whole.tokens.labeled["labels"][:])
    own = np.setdiff1d(np.arange(len(labels)), held_out)
    return replace(
        whole,
        tokens=replace(whole.tokens, labeled=whole.tokens.labeled.select(own)),
        held_out=whole.tokens.labeled.select(held_out),
        shares=whole.shares.for_labels(labels[own]),
        class_texts=whole.class_texts.for_rows(own) if whole.class_texts is not None else None,
        directory=RunDirectory(whole.directory.path / chain_folder(number)),
        number=number,
    )


def out_of_fold(
    chains: Sequence[Chain], stage: Stage, probe: bool | None = None, class_weights: np.ndarray | None = None
) -> OutOfFold:
    """The held-out predictions of a stage: each labeled row by the chain that does not have it.

    Args:
        probe: whether head and probe predict together, instead of the head alone. Default: if the chains only make teachers,
            as the stage labels the corpus; otherwise the head, which is the model.
        class_weights: see `OutOfFold`, for example the result of `corpus_weights`.
    """
    if probe is None:
        probe = chains[0].plan.judges_probe(stage)
    logits = [chain.students.score_held_out(stage, probe) for chain in chains]
    labels = [np.asarray(chain.held_out["labels"][:]) for chain in chains]
    folds = [np.full(len(rows), chain.number) for rows, chain in zip(labels, chains, strict=True)]
    believed, spread = TEMPERATURE_OF_PROBE, SPREAD_OF_PROBE
    if not probe:
        believed, spread = _believed_temperature(chains, stage), TEMPERATURE_SPREAD
    return OutOfFold(
        np.concatenate(logits), np.concatenate(labels), np.concatenate(folds), believed, class_weights, spread
    )


def corpus_weights(chains: Sequence[Chain], finished: Stage) -> np.ndarray | None:
    """How often a labeled row of each class counts, (C,), so that the labels represent the corpus. None means once each.

    w = share in the corpus / share of the labels. Without weights, balanced labels would count against a stage that has
    learned the shares of a skewed corpus. Labels that are not balanced count once each, as a random sample of the corpus
    would: with an estimate instead, its errors would decide which stage is right.

    Args:
        finished: the last stage that all chains have finished. Class shares are estimated after the first teacher.
    """
    first = chains[0]
    plan, source = first.plan, first.shares.source
    if first.tokens.corpus is None or not plan.aligns or source in ("labels", "both"):
        return None
    if source == "predictions":
        teacher = plan.teacher
        if finished.position < teacher.position or not teacher.with_probe:
            return None
        known = knowing_usual(chains, held_out_of_teacher(chains))
        shares = np.mean([chain.class_shares(chain.students.scores(teacher)) for chain in known], axis=0)
    else:
        shares = np.mean([chain.shares.prior for chain in chains], axis=0)
    labels = np.concatenate([np.asarray(chain.held_out["labels"][:]) for chain in chains])
    given = np.bincount(labels, minlength=len(shares)) / len(labels)
    return np.divide(shares, given, out=np.ones_like(shares), where=given > 0)


@dataclass(frozen=True)
class HeldOut:
    """What teachers predict for held-out rows.

    Attributes:
        probabilities: (B, C).
        labels: (B,) the classes of the rows.
    """

    probabilities: np.ndarray
    labels: np.ndarray


def held_out_of_teacher(chains: Sequence[Chain]) -> HeldOut | None:
    """What the first teacher, with its probe, predicts for held-out rows. None without a probe."""
    teacher = chains[0].plan.teacher
    if not teacher.with_probe:
        return None
    found = out_of_fold(chains, teacher, probe=True)
    return HeldOut(softmax(found.logits), found.labels)


def knowing_usual(wanted: Sequence[Chain], held_out: HeldOut | None) -> list[Chain]:
    """Chains that know what teachers predict on average for held-out rows (`sstext.pseudolabels.class_shares`).

    They stay the same without such rows, or if class shares are not estimated.
    """
    if wanted[0].shares.source != "predictions" or held_out is None:
        return list(wanted)
    return [replace(chain, shares=chain.shares.knowing(held_out.probabilities, held_out.labels)) for chain in wanted]


def _believed_temperature(chains: Sequence[Chain], stage: Stage) -> float:
    """The expected temperature of a stage, before held-out rows are seen: the geometric mean over the chains.

    A head that contradicts its probe gets the highest possible temperature, which would outweigh the labels. The mean is
    therefore limited to `BELIEVABLE`. Without a probe, it is `USUAL_TEMPERATURE`.
    """
    if not chains[0].students.has_probe:
        return USUAL_TEMPERATURE
    logarithms = np.log([chain.students.fitted(stage).temperature for chain in chains])
    return float(np.exp(np.mean(logarithms)).clip(*BELIEVABLE))


def evidence(
    chains: Sequence[Chain], stage: Stage, agreement: float | None, class_weights: np.ndarray | None = None
) -> Evidence:
    """The evidence by which a stage is compared. Class shares and agreement are computed on a sample of the corpus.

    Args:
        agreement: share of the corpus that kept its class since the stage before.
        class_weights: see `corpus_weights`.
    """
    classes = len(chains[0].texts.classes)
    if chains[0].tokens.corpus is None:
        return Evidence(out_of_fold(chains, stage), np.full(classes, 1 / classes), None, 1.0)
    held_out = out_of_fold(chains, stage, class_weights=class_weights)
    predicted = [chain.students.sample_logits(stage).argmax(-1) for chain in chains]
    counts = np.bincount(np.concatenate(predicted), minlength=classes)
    agreed = [float(np.mean(one == other)) for one, other in combinations(predicted, 2)]
    return Evidence(held_out, counts / counts.sum(), agreement, float(np.mean(agreed)))
