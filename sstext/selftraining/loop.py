"""The round loop. Read this first: the rest of the package is what its lines call.

Round 0 fine-tunes a pretrained encoder on the labeled rows. Each further round scores the unlabeled corpus with the last
student, keeps the rows it may trust, and trains the next student on labeled + kept rows. Pseudo-labels are derived anew in
every round, gold rows are never rewritten, and every finished round is a line of `rounds.jsonl` from which a killed run goes
on.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from sstext.evaluation.calibration import softmax
from sstext.processes import is_main_process, wait_for_everyone
from sstext.pseudolabels.selection import Selection
from sstext.selftraining import workers as side_by_side
from sstext.selftraining.chain import Chain
from sstext.selftraining.cross_fitting import Run, corpus_weights, evidence, out_of_fold
from sstext.selftraining.plan import reads_corpus
from sstext.selftraining.record import Round
from sstext.selftraining.student_store import Fit
from sstext.selftraining.verdict import Verdict, belief_in, judge
from sstext.training.loggers import figures_of_round


def run_rounds(run: Run) -> Iterator[Round]:
    """The loop itself, on data that is ready. All chains make a round before any of them makes the next."""
    directory, chains = run.directory, run.chains
    done = [Round(**record) for record in directory.rounds()]
    yield from done
    run.whole.reporter.trained(sum(record.steps for record in done))
    if done and done[-1].stopped_because is not None:
        return

    for index in range(len(done), chains[0].last_round + 1):
        began = time.monotonic()
        admitted = [chain.admitted(index) for chain in chains]
        fits = side_by_side.fits(chains, index, admitted)

        agreement = agreement_with_previous(chains, index) if index < chains[0].last_round or run.cross_fitted else None
        compared = compared_with_supervised(run, index, agreement) if run.cross_fitted else {}
        if run.cross_fitted:
            compared["estimated_precision"] = estimated_precision(run.chains, index, admitted)
        stopped_because = compared.pop("stopped_because", None) or reason_to_stop(run, index, agreement)

        record = describe(
            run, index, admitted, fits, agreement=agreement, stopped_because=stopped_because,
            seconds=time.monotonic() - began, **compared,
        )  # fmt: skip
        if is_main_process():
            directory.append_round(asdict(record))
            run.whole.reporter.figures(figures_of_round(asdict(record)))
        wait_for_everyone()
        yield record
        if stopped_because is not None:
            return


def reason_to_stop(run: Run, index: int, agreement: float | None) -> str | None:
    """Why there is no further round; None where there is, and then the rows that it trains on have been admitted."""
    config, whole = run.whole.config, run.whole
    if index == whole.last_round:
        return "all rounds are done"
    if index + 1 < whole.admission.label_rounds:
        return None  # labels alone once more
    if agreement is not None and agreement >= config.stop_agreement:
        return f"nothing changes any more: {agreement:.1%} of the corpus kept its class"
    for chain in run.chains:
        if len(chain.admit(index + 1, chain.score(index), chain.score_temperature(index))) == 0:
            return chain.admission.refusal(config.min_confidence)
    return None


def agreement_with_previous(chains: Sequence[Chain], index: int) -> float | None:
    """Share of the corpus that keeps its class from the round before, mean over chains; None while labels alone are seen."""
    if index < chains[0].admission.label_rounds:
        return None
    same = [np.mean(chain.score(index).argmax(-1) == chain.score(index - 1).argmax(-1)) for chain in chains]
    return float(np.mean(same))


def estimated_precision(chains: Sequence[Chain], index: int, admitted: Sequence[Selection | None]) -> float | None:
    """Share of the rows of a round whose pseudo-label is expected to be right, mean over chains; None without any.

    The mean probability of the labels by the students that gave them, at the temperature that out-of-fold rows ask for (head
    and probe together are tempered already).
    """
    teacher = index - 1
    kept = [(chain, rows) for chain, rows in zip(chains, admitted, strict=True) if rows is not None and len(rows)]
    if not kept:
        return None
    temperature = 1.0
    if not chains[0].labels_with_probe(teacher):
        temperature = out_of_fold(chains, teacher, class_weights=corpus_weights(chains, teacher)).temperature()
    means = []
    for chain, rows in kept:
        probs = softmax(np.asarray(chain.score(teacher)[rows.rows], dtype=np.float64), temperature)
        means.append(probs[np.arange(len(rows)), rows.labels].mean())
    return float(np.mean(means))


def compared_with_supervised(run: Run, index: int, agreement: float | None) -> dict[str, Any]:
    """What labeled rows say of a round that its students never saw: fields of its record, and whether it ends the run."""
    weights = corpus_weights(run.chains, index)
    first = evidence(run.chains, 0, None, weights)
    found = evidence(run.chains, index, agreement, weights) if index else first
    verdict = Verdict(None, None)
    if index:
        verdict = judge([first, found], run.whole.prior, belief_in(run.whole.config.method))[1]
    shares = zip(run.whole.texts.classes, found.class_shares.tolist(), strict=True)
    # A start on labels alone that is a little worse may still teach: its probe labels, too, and the corpus is to come.
    ends = verdict.collapsed or index >= run.whole.admission.label_rounds
    return {
        "stopped_because": verdict.refused if ends else None,
        "out_of_fold": found.out_of_fold.metrics(),
        "temperature": found.out_of_fold.temperature(),
        "gain": None if verdict.gain is None else asdict(verdict.gain),
        "refused": verdict.refused,
        "class_shares": dict(shares),
        "chain_agreement": found.chain_agreement,
    }


def describe(run: Run, index: int, admitted: Sequence[Selection | None], fits: Sequence[Fit], **found: Any) -> Round:
    """The record of a round: what its chains trained on, and what was found out about it."""
    classes, corpus, audit = run.whole.texts.classes, run.whole.tokens.corpus, run.whole.texts.audit
    kept = [rows for rows in admitted if rows is not None]
    none = [np.zeros(len(classes), dtype=np.int64)]
    mean_counts = np.mean([np.bincount(rows.labels, minlength=len(classes)) for rows in kept] or none, axis=0)
    joined = np.mean([len(np.unique(rows.rows)) for rows in kept] or [0])
    right = [float(np.mean(rows.labels == audit[rows.rows])) for rows in kept if audit is not None]
    record: dict[str, Any] = {
        "index": index,
        "admitted": round(float(mean_counts.sum())),
        "coverage": float(joined) / max(1, len(corpus) if corpus is not None else 0),
        "per_class": {name: round(float(count)) for name, count in zip(classes, mean_counts, strict=True)},
        "audit_precision": float(np.mean(right)) if right else None,
        "temperature": fits[0].temperature,
        "metrics": fits[0].metrics,
        "steps": sum(fit.steps for fit in fits),
        "reads_corpus": reads_corpus(run.whole.config, index),
    }
    return Round(**record | found)
