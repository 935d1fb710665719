"""One run: files in, run folder out. What `sstext train` does, and what Python calls to do the same."""

import importlib.metadata
import json
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from transformers import AutoConfig

from sstext.config.run_config import RunConfig
from sstext.data.sources import hub_split
from sstext.hub.card import calibration_sentence, model_card
from sstext.inference.devices import resolve_device, resolve_precision
from sstext.methods.catalog import entry
from sstext.modeling.pretrained import length_limit
from sstext.outcome import expected_precision, measure, peak_memory, shipped, write_held_out
from sstext.processes import from_main_process, is_main_process, wait_for_everyone
from sstext.progress import SILENT, Reporter
from sstext.reporting import REPORT, write_report
from sstext.self_training import open_run
from sstext.selftraining.budget import PLAN, in_budget, price
from sstext.selftraining.cross_fitting import Run, collapse_of_one, corpus_weights, out_of_fold
from sstext.selftraining.evidence import OutOfFold
from sstext.selftraining.final_model import last_student
from sstext.selftraining.loop import run_rounds
from sstext.selftraining.record import Round, sentence
from sstext.selftraining.verdict import UNPROVEN, Belief, Gain, Verdict, belief_in, best_round
from sstext.storage.run_folder import RunDirectory
from sstext.storage.whole import write_folder_whole, write_whole
from sstext.training.loggers import figures_of_test, tracked

VERSIONS = ("sstext", "torch", "transformers", "datasets", "accelerate", "numpy")


#: As `results.json` calls the model that is shipped, and as its card does.
THIS_MODEL = {"self_trained": "this model"}


def train(config: RunConfig, *, reporter: Reporter = SILENT, **data: Any) -> dict[str, Any]:
    """Run everything: the rounds, the choice of the model, `model/`, the test rows, `results.json`.

    The same call continues an interrupted run, and of a finished one it returns the results.

    Args:
        config, reporter, **data: see `sstext.self_training.self_train`.

    Returns:
        The content of `results.json`.

    Raises:
        UserError: data, options or folder that cannot be used, before anything is trained.
    """
    began = time.monotonic()
    with tracked(config, reporter) as reporter:
        reporter.take_times()  # of another run, perhaps
        run = in_budget(open_run(config, reporter, **data), reporter)
        directory = run.directory
        if directory.results.exists():
            reporter.note(f"{directory.path}: this run is finished, here are its results")
        else:
            with timed(directory, reporter, began):
                results = shipped_results(run, self_trained(run))
            if is_main_process():
                results |= {**directory.times(), "peak_memory_mib": peak_memory()}
                write_whole(directory.model / "README.md", card(config, directory, results))
                directory.write_results(results)
        if is_main_process() and config.report and not (directory.path / REPORT).exists():
            make_report(directory, reporter)
        wait_for_everyone()
        return directory.read_results()


@contextmanager
def timed(directory: RunDirectory, reporter: Reporter, began: float) -> Iterator[None]:
    """Keep the time that the block takes, and its phases, in the run's folder, also where it is interrupted."""
    try:
        yield
    finally:
        if is_main_process():
            directory.add_times(reporter.take_times(), time.monotonic() - began)


def make_report(directory: RunDirectory, reporter: Reporter) -> None:
    """Write `report.html`; a run is finished also where that fails."""
    try:
        write_report(directory.path)
    except Exception as error:  # whatever it is, the results are there
        reporter.note(f"there is no report ({error}); `sstext report {directory.path}` tries again")


def self_trained(run: Run) -> list[Round]:
    """All rounds of a run, those of an interrupted call too; a sentence is said of each new one."""
    reporter, directory = run.whole.reporter, run.directory
    done = len(directory.rounds())
    if done:
        reporter.note(f"continuing {directory.path}: {done} round{'s are' if done > 1 else ' is'} done")
    elif run.cross_fitted and run.whole.config.budget is None:
        reporter.note(price(run))
    rounds = []
    for record in run_rounds(run):
        rounds.append(record)
        if len(rounds) > done:
            reporter.note(sentence(record))
    return rounds


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


def left_out(directory: RunDirectory) -> list[str]:
    """What a budget left out of a run, as its plan says; nothing without a budget."""
    file = directory.path / PLAN
    return json.loads(file.read_text(encoding="utf-8"))["left_out"] if file.exists() else []


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


def card(config: RunConfig, directory: RunDirectory, results: dict[str, Any]) -> str:
    """The model card of a run."""
    # Rows of a sample are not the split; of what was trained on, nobody knows here whether its name may go public.
    measured_on = None if config.sample else hub_split(directory.read_data().get("fingerprints", {}).get("test"))
    return model_card(
        classes=results["classes"],
        encoder=str(config.encoder),
        max_length=results["max_length"]["prediction"],
        rows=results["rows"],
        rounds=results["rounds"],
        results={THIS_MODEL.get(name, name): of["metrics"] for name, of in results["test"].items()} or None,
        chosen=f"round {results['chosen']['round']}: {results['chosen']['why']}",
        self_trained=any(
            r["admitted"] or r["reads_corpus"] for r in results["rounds"][: results["chosen"]["round"] + 1]
        ),
        method=method_of(config),
        citation=entry(config.method).source or None,
        of_this_model=THIS_MODEL["self_trained"],
        test_data=measured_on,
        calibration=calibration_sentence(
            results["chosen"]["temperature"],
            fitted_on=results["chosen"]["calibrated_on"],
            folded=results["chosen"]["folded"],
            before=results["uncalibrated"].get("expected_calibration_error"),
            after=(results["test"].get("self_trained") or {}).get("metrics", {}).get("expected_calibration_error"),
        ),
    )


def calibrated_on(record: dict[str, Any]) -> str | None:
    """What the temperature of a round was fitted on; None where nothing was there for it (it is 1 then)."""
    if record["out_of_fold"]:
        labels = "out-of-fold predictions of the labeled rows"
        return f"labels of the corpus that {labels} had calibrated" if record["admitted"] else labels
    if record["metrics"]:
        return "the development rows"
    return (
        None
        if record["temperature"] == 1
        else "what a regression on its embeddings says of the corpus (no labeled row has checked it)"
    )


def method_of(config: RunConfig) -> str:
    """The method of a run with what was asked of it, for people.

    >>> method_of(RunConfig(method="fixmatch", method_args={"threshold": .9}, regularizers={"entropy": .1}))
    'fixmatch (threshold=0.9) + entropy 0.1'
    """
    arguments = ", ".join(f"{name}={value}" for name, value in config.method_args.items())
    said = [f"{config.method} ({arguments})" if arguments else config.method]
    return " + ".join(said + [f"{name} {strength}" for name, strength in config.regularizers.items()])


def machine(config: RunConfig) -> dict[str, Any]:
    """What the numbers were measured on."""
    device = resolve_device(config.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "device": device.type,
        "name": name,
        "threads": torch.get_num_threads(),
        "precision": resolve_precision(config.precision, device),
    }
