"""The final model: one student that is trained on all labels and on the averaged pseudo-labels of the chains."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sstext.data.order import random_rows
from sstext.evaluation.calibration import matching_temperature, softmax
from sstext.inference.scoring import score
from sstext.processes import from_main_process, is_main_process, wait_for_everyone
from sstext.pseudolabels.alignment import CalibratedScores, Mean, slices
from sstext.selftraining.chain import Chain
from sstext.selftraining.cross_fitting import EVIDENCE_ROWS, out_of_fold


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
