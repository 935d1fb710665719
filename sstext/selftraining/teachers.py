"""The teachers of the final model: which students label the corpus, and how much each of them counts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sstext.evaluation.calibration import softmax, temperature_of_confidence
from sstext.inference.corpus_scores import computed_to_disk
from sstext.methods.method import Stage
from sstext.modeling.reading import read_linear
from sstext.processes import from_main_process, is_main_process, wait_for_everyone
from sstext.pseudolabels.alignment import CorpusScores, slices
from sstext.pseudolabels.probe import regression_logits
from sstext.selftraining.chain import Chain
from sstext.selftraining.cross_fitting import HeldOut, out_of_fold
from sstext.storage.chunks import open_array_whole
from sstext.storage.damage import read_array

#: Shares of a mixture that are compared.
SHARES = np.linspace(0, 1, 1_001)


@dataclass(frozen=True)
class Teachers:
    """The students that label the corpus for the final model. Their label is the weighted mean of what they predict.

    Attributes:
        scores: what each of them predicts for the corpus.
        weights: one weight each. They sum to 1.
        share: the weight of the chosen stage beside the regression. 1: there is no regression beside it.
        held_out: what they predict together for held-out rows. None: the chosen stage labels alone.
    """

    scores: list[CorpusScores]
    weights: list[float]
    share: float = 1.0
    held_out: HeldOut | None = None

    def confidence(self, rows: np.ndarray) -> float:
        """Weighted mean of how confident each of them is on rows of the corpus (n,)."""
        return float(np.dot(self.weights, [one.aligned()[rows].max(-1).mean() for one in self.scores]))


def teachers_of(last: Chain, chains: Sequence[Chain], chosen: Stage, temperature: float) -> Teachers:
    """The teachers of the final model.

    The chains count the same. If a probe labels the corpus first, the teacher with all labels counts as much as all chains
    together. If the chains only make teachers, the regressions label beside them, see `share_of_later`.

    Args:
        last: the chain with all labels.
        chains: the cross-fitted chains.
        chosen: the stage of their students.
        temperature: temperature of these students.
    """
    teacher, plan = chosen if chosen.learns_from is None else last.plan.teacher, last.plan
    of_chains = [1 / len(chains)] * len(chains)
    if not (teacher.with_probe or plan.teaches_once):
        return Teachers(
            [CorpusScores(chain.students.scores(chosen).logits, temperature) for chain in chains], of_chains
        )
    # Without class weights, because what the teachers predict is aligned to the class shares of the corpus afterwards.
    held_out = out_of_fold(chains, teacher, probe=teacher.with_probe)
    calibrated = held_out.temperature()
    temperature = calibrated if chosen is teacher else temperature
    scores = [CorpusScores(chain.students.scores(chosen).logits, temperature) for chain in chains]
    scores.append(CorpusScores(last.students.scores(teacher).logits, calibrated, with_probe=True))
    weights = [weight / 2 for weight in of_chains] + [1 / 2]
    if not plan.regression_teaches:
        return Teachers(scores, weights)
    first = out_of_fold(chains, plan.baseline)
    before, later = first.probabilities(), held_out.probabilities()
    share = share_of_later(before, later, first.labels)
    scores += _scores_of_regressions([*chains, last], plan.baseline, first.temperature())
    return Teachers(
        scores,
        [share * weight for weight in weights] + [(1 - share) * weight for weight in weights],
        share,
        HeldOut((1 - share) * before + share * later, first.labels),
    )


def share_of_later(before: np.ndarray, later: np.ndarray, labels: np.ndarray) -> float:
    """How much of a mixture of two predictions should be the later one, by held-out rows.

    E[a] under p(a) ∝ Π_i ((1 − a) p_i + a q_i), with all a between 0 and 1 equally likely beforehand. p_i and q_i are the
    probabilities of the label. Few rows thus leave about half of each, and many rows leave the better one or the best mixture.

    Args:
        before: (n, C) p.
        later: (n, C) q.
        labels: (n,) classes.

    Source: Bayesian stacking; compare Yao et al. 2018, "Using Stacking to Average Bayesian Predictive Distributions", eq. 4,
    whose weights are the mode.

    >>> sure, unsure = np.array([[.9, .1]]), np.array([[.5, .5]])
    >>> round(share_of_later(unsure, unsure, np.array([0])), 2), round(share_of_later(unsure, sure, np.array([0])), 2)
    (0.5, 0.55)
    >>> round(share_of_later(unsure.repeat(200, 0), sure.repeat(200, 0), np.zeros(200, dtype=int)), 2)
    0.99
    """
    rows = np.arange(len(labels))
    mixed = np.outer(1 - SHARES, before[rows, labels]) + np.outer(SHARES, later[rows, labels])
    likely = np.log(mixed.clip(1e-6)).sum(1)
    weights = np.exp(likely - likely.max())
    return float(weights @ SHARES / weights.sum())


def _scores_of_regressions(chains: Sequence[Chain], stage: Stage, temperature: float) -> list[CorpusScores]:
    """What the regression of each chain predicts for the corpus. They read the same encoder, which passes over it once."""
    last = chains[-1]
    students, corpus, classes = last.students, last.tokens.corpus, len(last.texts.classes)
    folder = last.directory.path / f"{stage.name}_of_all_chains"
    *others, model = (chain.students.load(stage) for chain in chains)
    heads = [read_linear(one) for one in (*others, model)]
    kept = students.embeddings.for_parts_of(len(corpus), model.config.hidden_size)
    with students.reporter.phase(f"{stage.name}: scoring", len(corpus), "text") as tick:

        def predict(rows: Any) -> np.ndarray:
            return regression_logits(
                model, heads, rows, last.tokenizer, precision=students.precision, kept=kept, tick=tick
            )

        logits = computed_to_disk(predict, corpus, len(chains) * classes, folder, tick)
    wait_for_everyone()
    return [
        CorpusScores(logits[:, number * classes : (number + 1) * classes], temperature) for number in range(len(chains))
    ]


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


def average_to_disk(teachers: Teachers, file: Path) -> np.ndarray:
    """log of the weighted mean probability of the teachers for the corpus, (N, C), kept in a file.

    Args:
        teachers: their scores and weights.
        file: the file. If it exists, it is read.
    """
    if not from_main_process(file.exists()):
        if is_main_process():
            with open_array_whole(file, teachers.scores[0].logits.shape) as mean_logs:
                for some in slices(len(mean_logs)):
                    said = [one.aligned()[some] for one in teachers.scores]
                    mean = sum(weight * one for weight, one in zip(teachers.weights, said, strict=True))
                    mean_logs[some] = np.log(np.clip(mean, 1e-30, None))
        wait_for_everyone()
    return read_array(file, mapped=True)
