"""The loop of a run. Read this first: the rest of the package is what its lines call.

A plan is a row of stages. The baseline fine-tunes a pretrained encoder on the labeled rows. In a round, the student of the
stage before is the teacher. It scores the unlabeled corpus, and the most reliable predictions are selected as
pseudo-labels. The next student is trained on the labeled rows and the selected rows. Pseudo-labels are made anew in every
round, but labels never change. Every finished stage is a line of `rounds.jsonl`, and an interrupted run continues
after the last one.

Source: Yarowsky 1995; Lee 2013; Xie et al. 2020 (Noisy Student), algorithm 1.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from sstext.evaluation.calibration import softmax
from sstext.methods.method import Stage
from sstext.processes import is_main_process, wait_for_everyone
from sstext.pseudolabels.alignment import slices
from sstext.selftraining.chain import Chain
from sstext.selftraining.choice import choose_stage
from sstext.selftraining.cross_fitting import Run, corpus_weights, evidence, out_of_fold
from sstext.selftraining.evidence import too_few_classes
from sstext.selftraining.final_model import teach
from sstext.selftraining.record import StageRecord
from sstext.selftraining.student_store import Fit
from sstext.selftraining.verdict import Verdict, judge
from sstext.selftraining.workers import fit_side_by_side
from sstext.storage.run_folder import ALL_DONE, FINAL
from sstext.training.loggers import figures_of_round


def run_stages(run: Run) -> Iterator[StageRecord]:
    """Run the stages of the plan. Stages that an earlier call has finished are read from their records.

    A stage begins when all chains have finished the stage before it.
    """
    chains, plan = run.chains, run.plan
    done = [StageRecord.read(record) for record in run.directory.rounds()]
    yield from done
    run.whole.reporter.trained(sum(record.steps for record in done))
    records = list(done)
    ended = bool(done) and done[-1].stopped_because is not None

    for stage in plan.stages[len(done) :] if not ended else ():
        began = time.monotonic()
        fits = fit_side_by_side(chains, stage)
        found, verdict = compare(run, stage)

        stopped, following = reason_to_stop(run, stage, found, verdict), plan.after(stage)
        if stopped is None and following is not None:
            stopped = select_for(following, chains)

        seconds = time.monotonic() - began
        records.append(keep(run, describe(run, stage, chains, fits, **found, stopped_because=stopped, seconds=seconds)))
        yield records[-1]
        if stopped is not None:
            break

    if plan.teaches_once and records[-1].stage != FINAL:
        yield from train_the_one_student(run, records)


def train_the_one_student(run: Run, records: Sequence[StageRecord]) -> Iterator[StageRecord]:
    """Train the final model on the labels of the chosen teachers, if the chains only make teachers.

    Nothing is yielded if no text is selected, or if a frozen stage is chosen. Students of a regression were worse than the
    regression itself (recipes/benchmark/LOG.md), so that it is the model.
    """
    began, plan, final = time.monotonic(), run.plan, run.plan.final
    assert final is not None
    position, _ = choose_stage(run, records)
    teacher = plan.stages[position]
    for stage in plan.stages[: position + 1]:
        run.whole.fit(stage)
    if teacher.frozen:
        return
    if plan.method.goes_on:
        final = replace(final, starts_from=teacher.name)
    taught = teach(run.whole, run.chains, teacher, final, 1.0)
    if taught is None:
        return
    classes = run.whole.texts.classes
    found = {
        "index": len(records),  # the records count the stages that ran, also if the chains stopped before the last one
        "temperature": taught.temperature,
        "agreement": None,
        "refused": too_few_classes(taught.shares, taught.taught_shares),
        "class_shares": dict(zip(classes, taught.shares.tolist(), strict=True)),
        "estimated_precision": taught.confidence,
        "labeled_by": labeled_by(teacher, plan.baseline, taught.share),
        "stopped_because": ALL_DONE,
        "seconds": time.monotonic() - began,
    }
    yield keep(run, describe(run, final, [run.whole], [taught.fit], **found))


def labeled_by(teacher: Stage, regression: Stage, share: float) -> str:
    """What labeled the corpus for the final model, in words.

    Args:
        teacher: the chosen stage.
        regression: the first stage.
        share: weight of the teacher beside the regression; 1: it labeled alone.
    """
    words = f"the {teacher.name} of each chain, and the {teacher.name} with all labels"
    return words if share == 1 else f"{words} ({share:.0%}), and the {regression.name}s ({1 - share:.0%})"


def select_for(stage: Stage, chains: Sequence[Chain]) -> str | None:
    """Each chain selects the pseudo-labels of a stage from the scores of its own teacher.

    Returns why the stage cannot be trained, or None. It cannot if a chain selects none; the chains after it do not select then.
    """
    if stage.selection is None:
        return None
    enough = all(len(chain.select(stage)) for chain in chains)
    return None if enough else stage.selection.refusal()


def reason_to_stop(run: Run, stage: Stage, found: Mapping[str, Any], verdict: Verdict) -> str | None:
    """Returns why training stops after a stage, or None.

    A start that is slightly worse does not end the run: later rounds learn from its probe as well, and have not run yet.
    """
    if verdict.collapsed or (verdict.refused is not None and stage.learns_from is not None):
        return verdict.refused
    if stage is run.plan.last and not run.plan.teaches_once:
        return ALL_DONE
    agreement = found["agreement"]
    if agreement is not None and agreement >= run.plan.method.stop_agreement:
        return f"predictions no longer change: {agreement:.1%} of the corpus kept its predicted class"
    return None


def compare(run: Run, stage: Stage) -> tuple[dict[str, Any], Verdict]:
    """Compare a finished stage. Returns fields of its record, and the verdict of its held-out predictions."""
    follows = run.plan.after(stage) is not None
    agreement = agreement_with_previous(run.chains, stage) if follows or run.cross_fitted else None
    if not run.cross_fitted:
        refused = collapse_of_teacher(run, stage)
        return {"agreement": agreement, "refused": refused}, Verdict(None, refused, refused is not None)
    weights = corpus_weights(run.chains, stage)
    baseline = evidence(run.chains, run.plan.baseline, None, weights)
    own = evidence(run.chains, stage, agreement, weights) if stage.position else baseline
    verdict = Verdict(None, None)
    if stage.position:
        plan, prior = run.plan, run.whole.shares.prior
        verdict = judge([baseline, own], prior, plan.expected_gain, plan.baseline.name, plan.gain_of_student)[1]
    has_corpus = run.whole.tokens.corpus is not None
    shares = dict(zip(run.whole.texts.classes, own.class_shares.tolist(), strict=True))
    found = {
        "agreement": agreement,
        "out_of_fold": own.out_of_fold.metrics(),
        "temperature": own.out_of_fold.temperature(),
        "gain": None if verdict.gain is None else asdict(verdict.gain),
        "refused": verdict.refused,
        "class_shares": shares if has_corpus else None,
        "chain_agreement": own.chain_agreement if has_corpus else None,
        "estimated_precision": estimated_precision(run.chains, stage),
    }
    return found, verdict


def collapse_of_teacher(run: Run, stage: Stage) -> str | None:
    """Describe a collapse of a student that labels the corpus for the next stage, or return None. Without folds, this is all
    that can be checked.
    """
    following = run.plan.after(stage)
    if following is None or following.learns_from != stage.name:
        return None
    return too_few_classes(run.whole.students.scores(stage).predicted_shares(), run.whole.shares.prior)


def agreement_with_previous(chains: Sequence[Chain], stage: Stage) -> float | None:
    """Share of the corpus that keeps its class from the stage before, mean over chains. None without pseudo-labels."""
    before = chains[0].plan.before(stage)
    if stage.learns_from is None or before is None:
        return None
    pairs = [(chain.students.scores(stage).logits, chain.students.scores(before).logits) for chain in chains]
    same = [
        sum(int((now[some].argmax(-1) == then[some].argmax(-1)).sum()) for some in slices(len(now))) / len(now)
        for now, then in pairs
    ]
    return float(np.mean(same))


def estimated_precision(chains: Sequence[Chain], stage: Stage) -> float | None:
    """Share of the pseudo-labels of a stage that is expected to be right, mean over chains. None without pseudo-labels.

    It is the mean probability that the teachers give to the pseudo-labels, at the temperature that fits the held-out rows.
    Scores of head and probe together are already calibrated.
    """
    if stage.selection is None:
        return None
    teacher = chains[0].plan.named(str(stage.learns_from))
    temperature = 1.0
    if not teacher.with_probe:
        temperature = out_of_fold(chains, teacher, class_weights=corpus_weights(chains, teacher)).temperature()

    def mean_of(chain: Chain) -> float:
        logits, selected = chain.students.scores(teacher).logits, chain.selected(stage)
        assert selected is not None
        likely = np.empty(len(selected))
        for some in slices(len(selected)):
            probs = softmax(np.asarray(logits[selected.rows[some]], dtype=np.float64), temperature)
            likely[some] = probs[np.arange(len(probs)), selected.labels[some]]
        return float(likely.mean())

    return float(np.mean([mean_of(chain) for chain in chains]))


def describe(run: Run, stage: Stage, chains: Sequence[Chain], fits: Sequence[Fit], **found: Any) -> StageRecord:
    """The record of a stage: the training data of its chains, and the results of its comparison."""
    classes, corpus, audit = run.whole.texts.classes, run.whole.tokens.corpus, run.whole.texts.audit

    def counted(chain: Chain) -> tuple[np.ndarray, int, float | None]:
        selected = chain.selected(stage)
        assert selected is not None
        right = float(np.mean(selected.labels == audit[selected.rows])) if audit is not None else None
        return np.bincount(selected.labels, minlength=len(classes)), selected.different, right

    used = [counted(chain) for chain in chains] if stage.selection is not None else []
    mean_counts = np.mean([counts for counts, _, _ in used] or [np.zeros(len(classes), dtype=np.int64)], axis=0)
    different = np.mean([rows for _, rows, _ in used] or [0])
    right = [share for *_, share in used if share is not None]
    record: dict[str, Any] = {
        "index": stage.position,
        "stage": stage.name,
        "labeled_by": run.plan.labeled_by(stage),
        "admitted": round(float(mean_counts.sum())),
        "coverage": float(different) / max(1, len(corpus) if corpus is not None else 0),
        "per_class": {name: round(float(count)) for name, count in zip(classes, mean_counts, strict=True)},
        "audit_precision": float(np.mean(right)) if right else None,
        "temperature": fits[0].temperature,
        "metrics": fits[0].metrics,
        "steps": sum(fit.steps for fit in fits),
        "skipped_steps": sum(fit.skipped_steps for fit in fits),
        "reads_corpus": stage.reads_corpus,
    }
    return StageRecord(**record | found)


def keep(run: Run, record: StageRecord) -> StageRecord:
    """Write the record of a finished stage, and send its figures to the loggers."""
    if is_main_process():
        run.directory.append_round(asdict(record))
        run.whole.reporter.figures(figures_of_round(asdict(record)))
    wait_for_everyone()
    return record
