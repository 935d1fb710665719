"""The final model: one student that is trained on all labels and on the averaged pseudo-labels of the chains."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sstext.data.order import random_rows
from sstext.evaluation.calibration import matching_temperature, softmax, temperature_of_confidence
from sstext.inference.scoring import score
from sstext.methods.method import Stage
from sstext.processes import from_main_process, is_main_process, wait_for_everyone
from sstext.pseudolabels.alignment import CorpusScores, Mean, slices
from sstext.pseudolabels.selection import Selection
from sstext.selftraining.chain import Chain
from sstext.selftraining.cross_fitting import EVIDENCE_ROWS, out_of_fold
from sstext.selftraining.student_store import Fit
from sstext.storage.chunks import open_array_whole
from sstext.storage.run_folder import AVERAGED


def train_final_model(
    last: Chain, chains: Sequence[Chain], chosen: Stage, temperatures: Sequence[float]
) -> tuple[Stage, float]:
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
        The stage of `last` whose student is the chosen model, and its temperature. It is the first teacher if no text is
        selected.
    """
    plan = last.plan
    for stage in plan.stages[: min(chosen.position, plan.teacher.position) + 1]:
        last.fit(stage, None)
    final = plan.final
    if chosen.learns_from is None or final is None:
        return chosen, temperatures[chosen.position]
    taught = teach(last, chains, chosen, final, temperatures[chosen.position])
    if taught is None:
        return plan.teacher, temperatures[plan.teacher.position]
    return final, taught.temperature


@dataclass(frozen=True)
class Taught:
    """What the training of the final model brought.

    Attributes:
        selected: the pseudo-labels that it learned from.
        fit: of its training.
        temperature: of its calibration, see `teach`.
        shares: (C,) shares of the classes that it predicts for the corpus.
        taught_shares: (C,) shares of the classes among the labels.
        confidence: mean probability of the pseudo-labels, the share of them that is expected to be right.
    """

    selected: Selection
    fit: Fit
    temperature: float
    shares: np.ndarray
    taught_shares: np.ndarray
    confidence: float


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
    labels = CorpusScores(average_labels(last, teachers), with_probe=plan.teaches_once)
    prior = last.class_shares(labels) if plan.aligns else None
    selection = final.selection
    assert selection is not None
    history = _history(chains, teacher, prior) if selection.history else None
    selected = last.select_from(final, labels, keep=plan.keep_after(teacher), history=history)
    if len(selected) == 0:
        last.reporter.note(f"the final model learns from labels alone: {selection.refusal()}")
        return None
    fit = last.fit(final, last.selected(final))
    rows = random_rows(len(labels), min(len(labels), EVIDENCE_ROWS), last.config.seed)
    logits = score(last.students.load(final), last.tokens.corpus.select(rows), last.tokenizer)
    said = labels.aligned(prior)[rows]
    counts = np.bincount(logits.argmax(-1), minlength=said.shape[1])
    fitted = matching_temperature(logits, said)
    if plan.teaches_once:
        said = as_confident_as(teachers, labels, said, rows)
        fitted = temperature_of_final(logits, said)
    return Taught(selected, fit, fitted, counts / counts.sum(), said.mean(0), float(said.max(-1).mean()))


@dataclass(frozen=True)
class Teachers:
    """The students that label the corpus for the final model. Both parts have the same weight.

    Attributes:
        chains: the scores of the chains.
        beside: the scores of the teacher with all labels; None: the chains label alone.
    """

    chains: list[CorpusScores]
    beside: CorpusScores | None

    def confidence(self, rows: np.ndarray) -> float:
        """Weighted mean of how confident each of them is on rows of the corpus (n,)."""
        chains = float(np.mean([one.aligned()[rows].max(-1).mean() for one in self.chains]))
        return chains if self.beside is None else (chains + float(self.beside.aligned()[rows].max(-1).mean())) / 2


def teachers_of(last: Chain, chains: Sequence[Chain], chosen: Stage, temperature: float) -> Teachers:
    """The teachers of the final model. If a probe labels the corpus first, the teacher with all labels is one of them.

    Args:
        last: the chain with all labels.
        chains: the cross-fitted chains.
        chosen: the stage of their students.
        temperature: temperature of these students.
    """
    teacher, beside = chosen if chosen.learns_from is None else last.plan.teacher, None
    if teacher.with_probe or last.plan.teaches_once:
        # Without class weights, because the teachers have seen only balanced labels, and are aligned afterwards.
        calibrated = out_of_fold(chains, teacher, probe=teacher.with_probe).temperature()
        beside = CorpusScores(last.students.scores(teacher).logits, calibrated, with_probe=True)
        temperature = calibrated if chosen is teacher else temperature
    return Teachers([CorpusScores(chain.students.scores(chosen).logits, temperature) for chain in chains], beside)


def as_confident_as(teachers: Teachers, labels: CorpusScores, said: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Averaged labels, made as confident as the teachers are in the mean, (n, C).

    A mean of calibrated predictions is less confident than each of them, although it is right at least as often.

    Args:
        teachers: those whose labels were averaged.
        labels: the average for the corpus.
        said: (n, C) the average for some rows, aligned to class shares.
        rows: (n,) these rows.

    Source: Ranjan & Gneiting 2010, "Combining probability forecasts", theorem 1
    """
    averaged = np.asarray(labels.logits[rows], dtype=np.float64)
    return softmax(np.log(said.clip(1e-30)), temperature_of_confidence(averaged, teachers.confidence(rows)))


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


def average_labels(last: Chain, teachers: Teachers) -> np.ndarray:
    """log of the mean calibrated prediction of the teachers for the corpus, (N, C), kept in `averaged.npy`."""
    return average_to_disk(teachers.chains, last.directory.path / AVERAGED, teachers.beside)


def average_to_disk(scores: Sequence[CorpusScores], file: Path, beside: CorpusScores | None = None) -> np.ndarray:
    """log of the mean probability of several scores of one corpus, (N, C), kept in a file.

    Args:
        scores: scores of the chains.
        file: the file. If it exists, it is read.
        beside: further scores, with the same weight as all of `scores` together.
    """
    if not from_main_process(file.exists()):
        if is_main_process():
            with open_array_whole(file, scores[0].logits.shape) as mean_logs:
                for some in slices(len(mean_logs)):
                    mean = np.mean([one.aligned()[some] for one in scores], axis=0)
                    if beside is not None:
                        mean = (mean + beside.aligned()[some]) / 2
                    mean_logs[some] = np.log(mean.clip(1e-30))
        wait_for_everyone()
    return np.load(file, mmap_mode="r", allow_pickle=False)


def _history(chains: Sequence[Chain], chosen: Stage, prior: np.ndarray | None) -> list[Mean]:
    """Mean probabilities of the chains for the corpus in the stages before the chosen one, aligned to class shares (C,)."""
    earlier: list[Stage] = list(chains[0].plan.teachers(chosen)[:-1])
    return [Mean([chain.students.scores(stage).aligned(prior) for chain in chains]) for stage in earlier]
