"""The final model: one student that is trained on all labels and on the averaged pseudo-labels of the chains."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sstext.evaluation.calibration import matching_temperature
from sstext.inference.scoring import score
from sstext.methods.method import Stage
from sstext.pseudolabels.alignment import CorpusScores, Mean
from sstext.selftraining.chain import Chain
from sstext.selftraining.cross_fitting import held_out_of_teacher, knowing_usual
from sstext.selftraining.evidence import too_few_classes
from sstext.selftraining.student_store import Fit
from sstext.selftraining.teachers import as_confident_as, average_to_disk, teachers_of
from sstext.storage.run_folder import AVERAGED


def train_final_model(
    last: Chain, chains: Sequence[Chain], chosen: Stage, temperatures: Sequence[float]
) -> tuple[Stage, float, str | None]:
    """Train the final model on all labels, and on the averaged pseudo-labels of the chains after the chosen stage.

    If a probe labels the corpus, a probe that is fitted on all labels takes part in the average. The temperature of the final
    model is fitted to the averaged labels that it was trained on, see `teach`. They are calibrated on held-out rows. The
    temperature of the teachers would not fit a different model.

    Args:
        last: the chain with all labels.
        chains: the cross-fitted chains.
        chosen: the chosen stage. If it has no pseudo-labels, it is trained again on all labels.
        temperatures: temperatures of the students of the chains, by stage.

    Returns:
        The stage of `last` whose student is the chosen model, its temperature, and why it is the first teacher instead of the
        final model, or None: no text was selected, or the final model has collapsed.
    """
    plan = last.plan
    for stage in plan.stages[: min(chosen.position, plan.teacher.position) + 1]:
        last.fit(stage)
    final = plan.final
    if chosen.learns_from is None or final is None:
        return chosen, temperatures[chosen.position], None
    taught = teach(last, chains, chosen, final, temperatures[chosen.position])
    refusal = "no text was selected for the final model, which is trained on the labels alone"
    if taught is not None:
        refused = too_few_classes(taught.shares, taught.taught_shares)
        if refused is None:
            return final, taught.temperature, None
        refusal = f"the final model was refused: {refused}"
    return plan.teacher, temperatures[plan.teacher.position], refusal


@dataclass(frozen=True)
class Taught:
    """What the training of the final model brought.

    Attributes:
        fit: of its training.
        temperature: of its calibration, see `teach`.
        shares: (C,) shares of the classes that it predicts for the corpus.
        taught_shares: (C,) shares of the classes among the labels.
        confidence: mean probability of the pseudo-labels, the share of them that is expected to be right.
        share: weight of the chosen teacher beside the regression, see `Teachers`.
    """

    fit: Fit
    temperature: float
    shares: np.ndarray
    taught_shares: np.ndarray
    confidence: float
    share: float


def teach(last: Chain, chains: Sequence[Chain], teacher: Stage, final: Stage, temperature: float) -> Taught | None:
    """Train the final model on all labels and on what the students of a stage say together. None if no text is selected.

    It is made as confident as the averaged labels. If it is the only student, see `temperature_of_final` instead.

    Args:
        last: the chain with all labels.
        chains: the cross-fitted chains.
        teacher: the stage whose students label the corpus.
        final: the stage of the final model.
        temperature: temperature of the students of the chains, if they have learned from pseudo-labels.
    """
    plan = last.plan
    teachers = teachers_of(last, chains, teacher, temperature)
    last = knowing_usual([last], teachers.held_out or held_out_of_teacher(chains))[0]
    averaged = average_to_disk(teachers, last.directory.path / AVERAGED)
    labels = CorpusScores(averaged, with_probe=plan.teaches_once)
    prior = last.class_shares(labels) if plan.aligns else None
    selection = final.selection
    assert selection is not None
    history = _history(chains, teacher, prior) if selection.history else None
    if not len(last.select_from(final, labels, keep=plan.keep_after(teacher), history=history)):
        last.reporter.note(f"the final model learns from labels alone: {selection.refusal()}")
        return None
    fit = last.fit(final)
    rows = last.students.sample
    logits = score(last.students.load(final), last.tokens.corpus.select(rows), last.tokenizer)
    said = labels.aligned(prior)[rows]
    counts = np.bincount(logits.argmax(-1), minlength=said.shape[1])
    fitted = matching_temperature(logits, said)
    if plan.teaches_once:
        said = as_confident_as(teachers, labels, said, rows)
        fitted = temperature_of_final(logits, said)
    return Taught(fit, fitted, counts / counts.sum(), said.mean(0), float(said.max(-1).mean()), teachers.share)


def temperature_of_final(logits: np.ndarray, said: np.ndarray) -> float:
    """The temperature of a student that learned once: half way, in log T, from its own confidence to that of its teachers.

    T = √(argmin_T −Σ_i Σ_c q_ic log softmax(z_i / T)_c). The student is right more often than its teachers, so that their
    confidence is too low for it. Its own is higher, because labels of the user are in every batch. On validation rows, the
    truth lay between the two (recipes/benchmark/LOG.md).

    Args:
        logits: (n, C) z of the student.
        said: (n, C) q of its teachers for the same rows.
    """
    return float(np.sqrt(matching_temperature(logits, said)))


def _history(chains: Sequence[Chain], chosen: Stage, prior: np.ndarray | None) -> list[Mean]:
    """Mean probabilities of the chains for the corpus in the stages before the chosen one, aligned to class shares (C,)."""
    earlier: list[Stage] = list(chains[0].plan.teachers(chosen)[:-1])
    return [Mean([chain.students.scores(stage).aligned(prior) for chain in chains]) for stage in earlier]
