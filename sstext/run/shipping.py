"""Choose the model that is shipped, and calibrate it."""

import importlib.metadata
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from transformers import AutoConfig

from sstext.errors import UserError
from sstext.evaluation.calibration import precision_curve, softmax
from sstext.modeling.fold_temperature import fold_temperature
from sstext.modeling.pretrained import length_limit
from sstext.processes import from_main_process, is_main_process
from sstext.pseudolabels.alignment import slices
from sstext.run.measuring import measure, write_held_out
from sstext.run.results import VERSIONS, calibrated_on, left_out, machine, method_of
from sstext.selftraining.chain import Chain
from sstext.selftraining.cross_fitting import Run, collapse_of_one, corpus_weights, out_of_fold
from sstext.selftraining.evidence import OutOfFold
from sstext.selftraining.final_model import last_student
from sstext.selftraining.record import Round
from sstext.selftraining.verdict import UNPROVEN, Belief, Gain, Verdict, belief_in, best_round
from sstext.storage.whole import write_folder_whole
from sstext.training.loggers import figures_of_test


def shipped_results(run: Run, rounds: list[Round]) -> dict[str, Any]:
    """Choose the model, write it to `model/`, and measure it: most of `results.json`."""
    chain, config, directory = run.whole, run.whole.config, run.directory
    held_out = []
    if run.cross_fitted:
        weights = corpus_weights(run.chains, rounds[-1].index)
        held_out = [out_of_fold(run.chains, record.index, class_weights=weights) for record in rounds]
    chosen, why = choose(rounds, held_out, belief_in(config.method))
    shipped_round, temperature = chosen, rounds[chosen].temperature
    if run.cross_fitted:
        shipped_round, temperature = last_student(chain, run.chains, chosen, [r.temperature for r in rounds])
    if shipped_round < chain.admission.label_rounds <= chosen:
        why += "; no text was sure enough for the last student, which has labels alone"
    elif not run.cross_fitted and not rounds[chosen].metrics and (collapsed := collapse_of_one(chain, chosen)):
        why += f"; beware: {collapsed}"
    # A last student that got no text after all is the student of an earlier round.
    of_round = rounds[shipped_round if shipped_round < chain.admission.label_rounds else chosen]
    curve = expected_precision(run, of_round)
    wanted = temperature
    if is_main_process():
        model, temperature = shipped(chain, shipped_round, temperature, curve)
        write_folder_whole(directory.model, lambda path: chain.save(model, path))
    temperature = from_main_process(temperature)
    write_held_out(run, rounds)
    same = shipped_round == 0 and temperature == rounds[0].temperature
    test, uncalibrated = measure(run, supervised_temperature=rounds[0].temperature, temperature=temperature, same=same)
    chain.reporter.figures(figures_of_test(test))
    return {
        "chosen": {
            "round": chosen,
            "why": why,
            "temperature": temperature,
            "calibrated_on": calibrated_on(asdict(of_round)),
            "folded": temperature == wanted,
        },
        "method": method_of(config),
        "classes": chain.texts.classes,
        "rows": chain.texts.counts(),
        "max_length": {
            "training": chain.tokens.max_length,
            "prediction": length_limit(chain.tokenizer, AutoConfig.from_pretrained(chain.directory.round(0) / "model")),
        },
        "left_out": left_out(directory),
        "rounds": [asdict(record) for record in rounds],
        "test": test,
        "uncalibrated": uncalibrated,
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
        "machine": machine(config),
        "seed": config.seed,
    }


def choose(rounds: Sequence[Round], held_out: Sequence[OutOfFold] = (), belief: Belief = UNPROVEN) -> tuple[int, str]:
    """The round whose student is shipped, and why, in a sentence.

    With development rows it is the round with the best macro-F1 on them, the earlier one where two are equal; with folds, as
    `sstext.selftraining.verdict` weighs the evidence; without both it is the last: nothing here could tell harm from gain.
    """
    if rounds[-1].out_of_fold:
        verdicts = [Verdict(Gain(**r.gain) if r.gain is not None else None, r.refused) for r in rounds]
        weights = None if held_out[0].class_weights is None else held_out[0].weights()
        return best_round(verdicts, [rows.losses() for rows in held_out], belief, weights)
    if not rounds[-1].metrics:
        return rounds[-1].index, "the last one; without development rows or folds, nothing was compared"
    best = max(rounds, key=lambda record: (record.metrics["macro_f1"], -record.index))
    return (
        best.index,
        f"the best macro-F1 on the development rows, {best.metrics['macro_f1']:.3f}",
    )


def shipped(chain: Chain, index: int, temperature: float, curve: list[list[float]]) -> tuple[Any, float]:
    """The student of a round with a temperature folded into its last layer, so that every consumer is calibrated.

    Args:
        curve: see `expected_precision`; left out of the model where it cannot be calibrated.

    Returns:
        The model, and the temperature that is in its weights: 1 where it cannot be folded.
    """
    model = chain.load(index)
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


def expected_precision(run: Run, chosen: Round) -> list[list[float]]:
    """How right the model is expected to be above a confidence (`precision_curve`); empty where nothing calibrated it.

    Seen on the corpus, by the students of the chosen round, or where there is none, or development rows are what the model was
    calibrated on, on those that were held out.
    """
    if chosen.metrics:
        return precision_curve(highest(run.whole.score_development_rows(chosen.index), chosen.temperature))
    if not run.cross_fitted:
        return []
    if run.whole.tokens.corpus is not None and not run.whole.labels_with_probe(chosen.index):
        confidence = [highest(chain.score(chosen.index), chosen.temperature) for chain in run.chains]
        return precision_curve(np.concatenate(confidence))
    weights = corpus_weights(run.chains, chosen.index)
    return precision_curve(out_of_fold(run.chains, chosen.index, class_weights=weights).probabilities().max(-1))


def highest(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Probability of the predicted class, (N,), slice by slice."""
    return np.concatenate(
        [softmax(logits[some].astype(np.float64), temperature).max(-1) for some in slices(len(logits))]
    )
