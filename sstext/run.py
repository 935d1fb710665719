"""One run: files in, run folder out. What `sstext train` does, and what Python calls to do the same."""

import importlib.metadata
import platform
import time
from dataclasses import asdict
from typing import Any

import torch
from transformers import AutoConfig

from sstext.catalog import entry
from sstext.config import RunConfig
from sstext.cross_fitting import last_student
from sstext.data.sources import hub_split
from sstext.data.tokens import length_limit
from sstext.hub import calibration_sentence, model_card
from sstext.inference import (
    is_main_process,
    resolve_device,
    resolve_precision,
    wait_for_everyone,
)
from sstext.model_selection import Gain, Verdict, best_round
from sstext.outcome import expected_precision, measure, peak_memory, shipped, write_held_out
from sstext.planning import in_budget, price
from sstext.progress import SILENT, Reporter
from sstext.reporting import write_report
from sstext.run_directory import RunDirectory, write_folder_whole, write_whole
from sstext.self_training import Round, Run, open_run, run_rounds
from sstext.tracking import figures_of_test, tracked

VERSIONS = ("sstext", "torch", "transformers", "datasets", "accelerate", "numpy")


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
            return directory.read_results()
        rounds = self_trained(run)
        results = shipped_results(run, rounds)
        results["seconds"], results["peak_memory_mib"] = time.monotonic() - began, peak_memory()
        if is_main_process():
            directory.add_times(reporter.take_times())
            results["phases"] = directory.times()
            write_whole(directory.model / "README.md", card(config, directory, results))
            directory.write_results(results)
            if config.report:
                make_report(directory, reporter)
        wait_for_everyone()
        return directory.read_results()


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
            if is_main_process():
                directory.add_times(reporter.take_times())
    return rounds


def shipped_results(run: Run, rounds: list[Round]) -> dict[str, Any]:
    """Choose the model, write it to `model/`, and measure it: most of `results.json`."""
    chain, config, directory = run.whole, run.whole.config, run.directory
    chosen, why = choose(rounds)
    shipped_round = chosen
    if run.cross_fitted:
        shipped_round = last_student(chain, run.chains, chosen, rounds[chosen].temperature)
    if shipped_round < chain.admission.label_rounds <= chosen:
        why += "; no text was sure enough for the last student, which has labels alone"
    curve = expected_precision(run, rounds[chosen])
    temperature = 1.0
    if is_main_process():
        model, temperature = shipped(chain, shipped_round, rounds[chosen].temperature, curve)
        write_folder_whole(directory.model, lambda path: chain.save(model, path))
    wait_for_everyone()
    write_held_out(run, rounds)
    test, uncalibrated = measure(
        run, supervised_temperature=rounds[0].temperature, temperature=temperature, same=shipped_round == 0
    )
    chain.reporter.figures(figures_of_test(test))
    return {
        "chosen": {"round": chosen, "why": why, "temperature": temperature},
        "method": method_of(config),
        "classes": chain.texts.classes,
        "rows": chain.texts.counts(),
        "max_length": {
            "training": chain.tokens.max_length,
            "prediction": length_limit(chain.tokenizer, AutoConfig.from_pretrained(chain.directory.round(0) / "model")),
        },
        "rounds": [asdict(record) for record in rounds],
        "test": test,
        "uncalibrated": uncalibrated,
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
        "machine": machine(config),
        "seed": config.seed,
    }


def choose(rounds: list[Round]) -> tuple[int, str]:
    """The round whose student is shipped, and why, in a sentence.

    With development rows it is the round with the best macro-F1 on them, the earlier one where two are equal; with folds, as
    `sstext.model_selection` weighs the evidence; without both it is the last: nothing here could tell harm from gain.
    """
    if rounds[-1].out_of_fold:
        return best_round([Verdict(Gain(**r.gain) if r.gain is not None else None, r.refused) for r in rounds])
    if not rounds[-1].metrics:
        return rounds[-1].index, "the last one; without development rows or folds, nothing was compared"
    best = max(rounds, key=lambda record: (record.metrics["macro_f1"], -record.index))
    return (
        best.index,
        f"the best macro-F1 on the development rows, {best.metrics['macro_f1']:.3f}",
    )


def card(config: RunConfig, directory: RunDirectory, results: dict[str, Any]) -> str:
    """The model card of a run."""
    chosen = results["rounds"][results["chosen"]["round"]]
    # Rows of a sample are not the split; of what was trained on, nobody knows here whether its name may go public.
    measured_on = None if config.sample else hub_split(directory.read_data().get("fingerprints", {}).get("test"))
    return model_card(
        classes=results["classes"],
        encoder=str(config.encoder),
        max_length=results["max_length"]["prediction"],
        rows=results["rows"],
        rounds=results["rounds"],
        results={name: numbers["metrics"] for name, numbers in results["test"].items()} or None,
        chosen=f"round {results['chosen']['round']}: {results['chosen']['why']}",
        self_trained=any(r["admitted"] for r in results["rounds"][: results["chosen"]["round"] + 1]),
        method=method_of(config),
        citation=entry(config.method).source or None,
        of_this_model="self_trained",
        test_data=measured_on,
        calibration=calibration_sentence(
            chosen["temperature"],
            fitted_on=calibrated_on(chosen),
            folded=results["chosen"]["temperature"] == chosen["temperature"],
            before=results["uncalibrated"].get("expected_calibration_error"),
            after=(results["test"].get("self_trained") or {}).get("metrics", {}).get("expected_calibration_error"),
        ),
    )


def calibrated_on(record: dict[str, Any]) -> str | None:
    """What the temperature of a round was fitted on; None where nothing was there for it."""
    if record["out_of_fold"]:
        return "out-of-fold predictions of the labeled rows"
    return "the development rows" if record["metrics"] else None


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


def sentence(record: Round) -> str:
    """One round in a line, for people."""
    chains = " (all chains)" if record.out_of_fold else ""
    said = [f"round {record.index}: {record.steps} steps{chains} in {record.seconds:.0f} s"]
    if record.admitted:
        said.append(f"on {record.admitted:,} pseudo-labels ({record.coverage:.0%} of the corpus)")
    if record.audit_precision is not None:
        said.append(f"of which {record.audit_precision:.1%} are right")
    if record.out_of_fold:
        said.append("out-of-fold accuracy {accuracy:.1%}, log-loss {log_loss:.3f}".format(**record.out_of_fold))
    if record.metrics:
        said.append(f"development macro-F1 {record.metrics['macro_f1']:.3f}")
    return ", ".join(said) + (f"; stopped: {record.stopped_because}" if record.stopped_because else "")
