"""Choose the model, calibrate it, and write it to `model/`."""

import importlib.metadata
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig

from sstext.errors import UserError
from sstext.evaluation.calibration import Correction, precision_curve
from sstext.methods.method import Stage
from sstext.modeling.fold_temperature import fold_temperature
from sstext.modeling.pretrained import length_limit
from sstext.modeling.reading import MARK
from sstext.processes import from_main_process, is_main_process
from sstext.pseudolabels.alignment import slices
from sstext.run.accuracy import accuracy_estimate, estimated_shares, nothing_held_out
from sstext.run.measuring import measure, write_held_out
from sstext.run.regression_beside import regression_beside
from sstext.run.results import VERSIONS, calibrated_on, class_texts_record, described_method, machine, skipped_steps
from sstext.run.to_label import write_texts_to_label
from sstext.run.usable import check_checked_rows, check_one, collapsed_on_corpus
from sstext.selftraining.chain import Chain
from sstext.selftraining.choice import choose_stage
from sstext.selftraining.cross_fitting import Run, corpus_weights, out_of_fold
from sstext.selftraining.final_model import train_final_model
from sstext.selftraining.record import StageRecord
from sstext.storage.run_folder import FINAL, MODEL
from sstext.training.loggers import figures_of_test


@dataclass(frozen=True)
class Choice:
    """The model of a run, before it is written.

    Attributes:
        stage: the stage of the chain with all labels whose student it is.
        shown: the record of the stage that people are told as chosen.
        judged: the stage whose held-out predictions stand for it.
        calibrated: the record of the stage that its temperature comes from.
        correction: makes it calibrated. Its shift is part of the model, as its temperature is.
        why: the reasons for the choice, separated by semicolons.
        warnings: what people should know before they use the model.
        unusable: why the model cannot be used (`sstext.run.usable`), or None.
    """

    stage: Stage
    shown: StageRecord
    judged: Stage
    calibrated: StageRecord
    correction: Correction
    why: str
    warnings: tuple[str, ...] = ()
    unusable: str | None = None


def choose_model(run: Run, records: Sequence[StageRecord]) -> Choice:
    """Choose the model of a run whose stages are finished, and train it on all labels if there are folds."""
    chain, plan = run.whole, run.plan
    of_chains = [record for record in records if record.stage != FINAL]
    position, why = choose_stage(run, of_chains)
    judged = plan.stages[position]
    if plan.teaches_once:
        return the_one_student(run, records, judged, why)
    stage, calibrated, temperature = judged, judged, records[position].temperature
    if not run.cross_fitted and not records[position].metrics:
        collapsed, unusable = check_one(chain, judged)
        own = records[position]
        return Choice(stage, own, judged, own, Correction(temperature), why, doubt(collapsed), unusable)
    warnings = doubt(collapsed_on_corpus(chain, stage)) if chain.tokens.dev is not None else ()
    if run.cross_fitted:
        stage, temperature, refusal = train_final_model(chain, run.chains, judged, [r.temperature for r in records])
        calibrated = judged if stage is plan.final else stage
        warnings = (refusal,) if refusal else ()
    unusable = check_checked_rows(run, stage, calibrated)
    own = records[calibrated.position]
    return Choice(stage, records[position], judged, own, Correction(temperature), why, warnings, unusable)


def judged_as_model(run: Run, choice: Choice) -> Stage:
    """The stage whose held-out predictions stand for the model. If a final model was refused, it is not the chosen one."""
    own = choice.calibrated
    return choice.judged if own.stage == FINAL else run.plan.stages[own.index]


def doubt(collapsed: str | None) -> tuple[str, ...]:
    """The warning about a model that seems to have collapsed, or none."""
    return (f"this model may be useless: {collapsed}",) if collapsed else ()


def the_one_student(run: Run, records: Sequence[StageRecord], teacher: Stage, why: str) -> Choice:
    """The model of a run whose chains only make teachers.

    It is the final model, if there is one that has not collapsed. Otherwise it is the teacher with all labels, whose head is
    the model. If that has collapsed, too, or is expected to be worse than the first stage, it is the first stage.
    """
    plan, last = run.plan, records[-1]
    final = plan.final
    if final is not None and last.stage == FINAL and last.refused is None:
        why = f"it learned from pseudo-labels of the {teacher.name}; the {teacher.name} was chosen as teacher: {why}"
        return Choice(final, last, teacher, last, Correction(last.temperature), why)
    refused = f"the final model was refused: {last.refused}" if last.stage == FINAL else None
    warnings = [refused or "no text was selected for a final model"]
    if teacher.frozen:
        why += (
            f"; the {teacher.name} itself is the model, because models that learned from a {teacher.name} were worse in our "
            "measurements"
        )
        warnings = []
    elif unfit := unfit_as_model(run.whole, records[teacher.position], teacher):
        if teacher is plan.baseline:
            warnings.append(unfit)
        else:
            # Why it was a teacher is no reason any more.
            why = f"{unfit}, so that the {plan.baseline.name} is the model"
            teacher = plan.baseline
    unusable = check_checked_rows(run, teacher, teacher) or alone_unusable(run.whole, teacher)
    own, correction = records[teacher.position], Correction(out_of_fold(run.chains, teacher, probe=False).temperature())
    if teacher.frozen and (shift := shift_to_corpus(run, teacher, correction)) is not None:
        correction = replace(correction, shift=shift)
        why += "; its probabilities were multiplied so that they suit the class shares of the corpus"
    return Choice(teacher, own, teacher, own, correction, why, tuple(warnings), unusable)


def shift_to_corpus(run: Run, stage: Stage, correction: Correction) -> np.ndarray | None:
    """What is added to the logits of a regression so that it suits the class shares of the corpus, (C,). None: nothing is.

    A final model has learned these shares from its pseudo-labels. A regression has read labels alone. If they are balanced, it
    takes rare classes for frequent ones.
    """
    whole = run.whole
    if whole.tokens.corpus is None or not run.plan.aligns:
        return None
    held_out = out_of_fold(run.chains, stage, probe=False)
    weights = whole.shares.weights_of_model(
        correction.probabilities(whole.students.sample_logits(stage)),
        correction.probabilities(held_out.logits),
        held_out.labels,
    )
    return None if weights is None else np.log(weights.clip(1e-6))


def alone_unusable(whole: Chain, stage: Stage) -> str | None:
    """Whether the student of all labels cannot be used, though those of the chains can. A regression cannot collapse alone."""
    return None if stage.frozen else check_one(whole, stage)[1]


def unfit_as_model(whole: Chain, record: StageRecord, teacher: Stage) -> str:
    """Why a teacher that was not refused should not be the model itself. Empty if it may be."""
    if check_one(whole, teacher)[0] is not None:  # by its head alone, which would be the model
        return f"the predictions of the {teacher.name} have collapsed, too"
    worse = record.gain is not None and record.gain["expected"] < 0
    return f"the {teacher.name} itself is expected to be worse than the first stage" if worse else ""


def choose_and_measure(run: Run, records: list[StageRecord]) -> dict[str, Any]:
    """Choose the model, write it to `model/`, and measure it: most of `results.json`."""
    chain, config, directory, plan = run.whole, run.whole.config, run.directory, run.plan
    choice = choose_model(run, records)
    stage, temperature = choice.stage, choice.correction.temperature
    curve = expected_precision(run, choice)
    wanted = temperature
    if is_main_process():
        model, temperature = fold_and_load(chain, stage, choice.correction, curve, nothing_held_out(run))
        chain.write_model(model, directory.model)
    temperature = from_main_process(temperature)
    of_chains = [record for record in records if record.stage != FINAL]
    write_held_out(run, of_chains)
    baseline, baseline_temperature, others = plan.baseline, records[0].temperature, dict[str, float]()
    if plan.plain is not None:
        others = {baseline.name: baseline_temperature}
        baseline, baseline_temperature = plan.plain, train_plain(chain, plan.plain)
    elif plan.regression is not None and plan.test:
        others = {plan.regression.name: chain.fit(plan.regression).temperature}
    shift = choice.correction.shift
    same = stage is baseline and temperature == baseline_temperature and shift is None
    test, uncalibrated = measure(
        run,
        baseline,
        baseline_temperature,
        others=others,
        temperature=temperature,
        same=same,
    )
    chain.reporter.figures(figures_of_test(test))
    encoder, read = AutoConfig.from_pretrained(chain.students.folder(stage) / MODEL), directory.read_pooling()
    return {
        "chosen": {
            "round": choice.shown.index,
            "stage": choice.shown.stage,
            "model": stage.name,
            "judged": choice.judged.position,
            "why": choice.why,
            "warnings": list(choice.warnings),
            "temperature": temperature,
            "calibrated_on": calibrated_on(asdict(choice.calibrated)),
            "folded": temperature == wanted,
            "shift": None if shift is None else dict(zip(chain.texts.classes, shift.round(4).tolist(), strict=True)),
        },
        "unusable": choice.unusable,
        "baseline": baseline.name,
        "baseline_temperature": baseline_temperature,
        "method": described_method(config),
        "encoders": directory.read_encoders(),
        "prefix": config.prefix,
        "pooling": {**read, "model": getattr(encoder, MARK, None)} if read is not None else None,
        "class_texts": class_texts_record(chain),
        "classes": chain.texts.classes,
        "rows": chain.texts.counts(),
        "overlap": chain.texts.overlap,
        "max_length": {
            "training": chain.tokens.max_length,
            "prediction": length_limit(chain.tokenizer, encoder),
        },
        "left_out": list(plan.left_out),
        "rounds": [asdict(record) for record in records],
        "to_label": write_texts_to_label(run, stage, replace(choice.correction, temperature=temperature)),
        "test": test,
        "accuracy_estimate": accuracy_estimate(
            run, stage, choice.judged, plan.stages[len(of_chains) - 1], choice.correction
        ),
        "nothing_held_out": nothing_held_out(run),
        "corpus_shares": estimated_shares(run, plan.stages[len(of_chains) - 1]),
        "regression": regression_beside(run, judged_as_model(run, choice)),
        "uncalibrated": uncalibrated,
        "skipped_steps": skipped_steps(run),
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
        "machine": machine(config),
        "seed": config.seed,
    }


def train_plain(whole: Chain, plain: Stage) -> float:
    """Train plain fine-tuning on all labels, to be measured on the test rows beside the model. Returns its temperature."""
    there, began = whole.students.is_fitted(plain), time.monotonic()
    fit = whole.fit(plain)
    seconds = time.monotonic() - began
    if not there:
        whole.reporter.note(
            f"{plain.name}: {fit.steps} steps in {seconds:.0f} s (plain fine-tuning, for comparison on the test rows)"
        )
    return fit.temperature


def fold_and_load(
    chain: Chain, stage: Stage, correction: Correction, curve: list[list[float]], unchecked: str | None = None
) -> tuple[Any, float]:
    """Load the student of a stage, and fold the correction into its last layer, so that its probabilities are calibrated.

    Args:
        curve: see `expected_precision`. A model that cannot be calibrated gets no curve.
        unchecked: see `nothing_held_out`. The configuration keeps it, for the message that there is no curve.

    Returns:
        The model, and the temperature in its weights. The temperature is 1 if it cannot be folded.
    """
    model = chain.students.load(stage)
    known = (getattr(model.config, "sstext", None) or {}) | ({"nothing_held_out": unchecked} if unchecked else {})
    model.config.sstext = {**known, "precision_curve": curve}
    temperature, shift = correction.temperature, correction.shift
    if temperature != 1.0 or shift is not None:
        columns = chain.tokenizer(["probe", "another probe"], padding=True, return_tensors="pt").to(model.device)
        try:
            fold_temperature(model, temperature, columns, None if shift is None else torch.from_numpy(shift))
        except UserError as error:
            chain.reporter.note(f"not calibrated: {error}")
            model.config.sstext = {**known, "precision_curve": []}
            return model, 1.0
    return model, temperature


def expected_precision(run: Run, choice: Choice) -> list[list[float]]:
    """The expected precision of the model above a confidence (`precision_curve`). Empty if nothing calibrated it.

    It is estimated on the corpus: by the final model if it is the only student, otherwise by the students of the stage.
    Without a corpus, or with development rows, it is estimated on held-out rows instead.
    """
    whole, record = run.whole, choice.calibrated
    stage = run.plan.stages[record.index] if record.stage != FINAL else choice.stage
    if record.metrics:
        return precision_curve(highest(whole.students.score_development_rows(stage), Correction(record.temperature)))
    if not run.cross_fitted:
        return []
    if record.stage == FINAL or (run.plan.teaches_once and stage.frozen and whole.tokens.corpus is not None):
        return precision_curve(highest(whole.students.sample_logits(stage), choice.correction))
    if whole.tokens.corpus is not None and not stage.with_probe:
        logits = [chain.students.scores(stage).logits for chain in run.chains]
        return precision_curve(np.concatenate([highest(one, Correction(record.temperature)) for one in logits]))
    weights = corpus_weights(run.chains, stage)
    held_out = out_of_fold(run.chains, stage, probe=False, class_weights=weights)  # the model is the head alone
    return precision_curve(held_out.probabilities().max(-1))


def highest(logits: np.ndarray, correction: Correction) -> np.ndarray:
    """Probability of the predicted class, (N,). Logits are read in slices."""
    return np.concatenate([correction.probabilities(logits[some]).max(-1) for some in slices(len(logits))])
