"""Choose the model, calibrate it, and write it to `model/`."""

import importlib.metadata
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from transformers import AutoConfig

from sstext.errors import UserError
from sstext.evaluation.calibration import precision_curve, softmax
from sstext.methods.method import UNPROVEN, Belief, Stage
from sstext.modeling.fold_temperature import fold_temperature
from sstext.modeling.pretrained import length_limit
from sstext.processes import from_main_process, is_main_process
from sstext.pseudolabels.alignment import slices
from sstext.run.measuring import measure, write_held_out
from sstext.run.results import VERSIONS, calibrated_on, described_method, machine
from sstext.selftraining.chain import Chain
from sstext.selftraining.cross_fitting import Run, collapse_of_one, corpus_weights, out_of_fold
from sstext.selftraining.evidence import OutOfFold
from sstext.selftraining.final_model import train_final_model
from sstext.selftraining.record import StageRecord
from sstext.selftraining.verdict import Gain, Verdict, best_stage
from sstext.storage.run_folder import MODEL
from sstext.storage.whole import write_folder_whole
from sstext.training.loggers import figures_of_test


def choose_and_measure(run: Run, records: list[StageRecord]) -> dict[str, Any]:
    """Choose the model, write it to `model/`, and measure it: most of `results.json`."""
    chain, config, directory, plan = run.whole, run.whole.config, run.directory, run.plan
    held_out = []
    if run.cross_fitted:
        weights = corpus_weights(run.chains, plan.stages[len(records) - 1])
        held_out = [out_of_fold(run.chains, stage, class_weights=weights) for stage in plan.stages[: len(records)]]
    position, why = choose(records, held_out, plan.expected_gain)
    chosen, temperature = plan.stages[position], records[position].temperature
    stage = chosen
    if run.cross_fitted:
        stage, temperature = train_final_model(chain, run.chains, chosen, [r.temperature for r in records])
    # If no text was selected for the final model, the student of an earlier stage is used.
    calibrated = chosen if stage is plan.final else stage
    if calibrated is not chosen:
        why += "; no text was selected for the final model, which is trained on the labels alone"
    elif not run.cross_fitted and not records[position].metrics and (collapsed := collapse_of_one(chain, chosen)):
        why += f"; warning: {collapsed}"
    of_stage = records[calibrated.position]
    curve = expected_precision(run, calibrated, of_stage)
    wanted = temperature
    if is_main_process():
        model, temperature = fold_and_load(chain, stage, temperature, curve)
        write_folder_whole(directory.model, lambda path: chain.save(model, path))
    temperature = from_main_process(temperature)
    write_held_out(run, records)
    same = stage is plan.baseline and temperature == records[0].temperature
    test, uncalibrated = measure(run, baseline_temperature=records[0].temperature, temperature=temperature, same=same)
    chain.reporter.figures(figures_of_test(test))
    encoder = AutoConfig.from_pretrained(chain.students.folder(plan.baseline) / MODEL)
    return {
        "chosen": {
            "round": position,
            "stage": chosen.name,
            "model": stage.name,
            "why": why,
            "temperature": temperature,
            "calibrated_on": calibrated_on(asdict(of_stage)),
            "folded": temperature == wanted,
        },
        "method": described_method(config),
        "classes": chain.texts.classes,
        "rows": chain.texts.counts(),
        "max_length": {
            "training": chain.tokens.max_length,
            "prediction": length_limit(chain.tokenizer, encoder),
        },
        "left_out": list(plan.left_out),
        "rounds": [asdict(record) for record in records],
        "test": test,
        "uncalibrated": uncalibrated,
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
        "machine": machine(config),
        "seed": config.seed,
    }


def choose(
    records: Sequence[StageRecord], held_out: Sequence[OutOfFold] = (), belief: Belief = UNPROVEN
) -> tuple[int, str]:
    """The position of the chosen stage, and the reason in a sentence.

    With development rows, it is the stage with the best macro-F1 on them, or the earliest of several with the same macro-F1.
    With folds, `sstext.selftraining.verdict` weighs the evidence. Without both, it is the last one, because nothing can be
    compared.
    """
    if records[-1].out_of_fold:
        verdicts = [Verdict(Gain(**r.gain) if r.gain is not None else None, r.refused) for r in records]
        weights = None if held_out[0].class_weights is None else held_out[0].weights()
        names = [record.stage for record in records]
        return best_stage(names, verdicts, [rows.losses() for rows in held_out], belief, weights)
    if not records[-1].metrics:
        return records[-1].index, "the last one: stages cannot be compared without folds or development rows"
    best = max(records, key=lambda record: (record.metrics["macro_f1"], -record.index))
    return best.index, f"the best macro-F1 on the development rows, {best.metrics['macro_f1']:.3f}"


def fold_and_load(chain: Chain, stage: Stage, temperature: float, curve: list[list[float]]) -> tuple[Any, float]:
    """Load the student of a stage, and fold a temperature into its last layer, so that its probabilities are calibrated.

    Args:
        curve: see `expected_precision`. A model that cannot be calibrated gets no curve.

    Returns:
        The model, and the temperature in its weights. The temperature is 1 if it cannot be folded.
    """
    model = chain.students.load(stage)
    model.config.sstext = {"precision_curve": curve}
    if temperature != 1.0:
        columns = chain.tokenizer(["probe", "another probe"], padding=True, return_tensors="pt").to(model.device)
        try:
            fold_temperature(model, temperature, columns)
        except UserError as error:
            chain.reporter.note(f"not calibrated: {error}")
            model.config.sstext = {"precision_curve": []}
            return model, 1.0
    return model, temperature


def expected_precision(run: Run, stage: Stage, record: StageRecord) -> list[list[float]]:
    """The expected precision of the model above a confidence (`precision_curve`). Empty if the model is not calibrated.

    It is estimated on the corpus, with the students of the stage. Without a corpus, or with development rows, it is estimated
    on held-out rows instead.
    """
    whole = run.whole
    if record.metrics:
        return precision_curve(highest(whole.students.score_development_rows(stage), record.temperature))
    if not run.cross_fitted:
        return []
    if whole.tokens.corpus is not None and not stage.with_probe:
        logits = [chain.students.scores(stage).logits for chain in run.chains]
        return precision_curve(np.concatenate([highest(one, record.temperature) for one in logits]))
    weights = corpus_weights(run.chains, stage)
    return precision_curve(out_of_fold(run.chains, stage, class_weights=weights).probabilities().max(-1))


def highest(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Probability of the predicted class, (N,). Logits are read in slices."""
    return np.concatenate(
        [softmax(logits[some].astype(np.float64), temperature).max(-1) for some in slices(len(logits))]
    )
