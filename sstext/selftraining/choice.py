"""Choose the stage whose student, or whose labels, are used."""

from collections.abc import Sequence

from sstext.methods.method import UNPROVEN, Belief
from sstext.selftraining.cross_fitting import Run, corpus_weights, out_of_fold
from sstext.selftraining.evidence import OutOfFold
from sstext.selftraining.record import StageRecord
from sstext.selftraining.verdict import Gain, Verdict, best_stage

#: Reasons for a choice that nothing was compared for.
LAST, ONLY = "the last one", "it is the only stage"
UNCHECKED = "it is zero-shot: no text was labeled, so that nothing was compared or calibrated"


def choose_stage(run: Run, records: Sequence[StageRecord]) -> tuple[int, str]:
    """The position of the chosen stage among those that all chains have finished, and the reason in a sentence."""
    plan, held_out = run.plan, []
    if run.cross_fitted:
        weights = corpus_weights(run.chains, plan.stages[len(records) - 1])
        held_out = [out_of_fold(run.chains, stage, class_weights=weights) for stage in plan.stages[: len(records)]]
    position, why = choose(records, held_out, plan.expected_gain)
    if run.whole.texts.zero_shot and not records[-1].metrics:
        return position, f"{LAST if len(records) > 1 else ONLY}; {UNCHECKED}"
    return position, why


def choose(
    records: Sequence[StageRecord], held_out: Sequence[OutOfFold] = (), belief: Belief = UNPROVEN
) -> tuple[int, str]:
    """The position of the chosen stage, and the reason in a sentence.

    With development rows, it is the stage with the best macro-F1 on them, or the earliest of several with the same macro-F1.
    With folds, `sstext.selftraining.verdict` weighs the evidence. Without both, it is the last one, because nothing can be
    compared, or the only one.
    """
    if records[-1].out_of_fold:
        verdicts = [Verdict(Gain(**r.gain) if r.gain is not None else None, r.refused) for r in records]
        weights = None if held_out[0].class_weights is None else held_out[0].weights()
        names = [record.stage for record in records]
        return best_stage(names, verdicts, [rows.losses() for rows in held_out], belief, weights)
    if not records[-1].metrics and len(records) == 1:
        return records[-1].index, ONLY
    if not records[-1].metrics:
        kept, last = [record for record in records if record.refused is None] or records[:1], records[-1]
        if kept[-1] is not last:
            return kept[-1].index, f"{LAST} that did not collapse; {last.stage} was refused: {last.refused}"
        return last.index, f"{LAST}: stages cannot be compared without folds or development rows"
    best = max(records, key=lambda record: (record.metrics["macro_f1"], -record.index))
    return best.index, f"the best macro-F1 on the development rows, {best.metrics['macro_f1']:.3f}"
