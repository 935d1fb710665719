"""One run: files in, run folder out. What `sstext train` does, and what Python calls to do the same."""

import importlib.metadata
import platform
import time
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig

from sstext.calibration import fold_temperature, precision_curve, softmax
from sstext.catalog import entry
from sstext.chain import Chain
from sstext.config import RunConfig
from sstext.cross_fitting import last_student, out_of_fold
from sstext.data.sources import hub_data_set
from sstext.data.tokens import length_limit
from sstext.errors import UserError
from sstext.evaluation import evaluate_predictions
from sstext.hub import calibration_sentence, model_card
from sstext.inference import (
    Classifier,
    is_main_process,
    resolve_device,
    resolve_precision,
    wait_for_everyone,
)
from sstext.model_selection import Gain, Verdict, best_round
from sstext.planning import in_budget, price
from sstext.progress import SILENT, Reporter
from sstext.run_directory import RunDirectory, write_folder_whole, write_whole
from sstext.selection import slices
from sstext.self_training import Round, Run, open_run, run_rounds

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
    run = in_budget(open_run(config, reporter, **data), reporter)
    chain, directory = run.whole, run.directory
    if directory.results.exists():
        reporter.note(f"{directory.path}: this run is finished, here are its results")
        return directory.read_results()
    done = len(directory.rounds())
    if done:
        reporter.note(f"continuing {directory.path}: {done} round{'s are' if done > 1 else ' is'} done")
    elif run.cross_fitted and config.budget is None:
        reporter.note(price(run))
    rounds = []
    for record in run_rounds(run):
        rounds.append(record)
        if len(rounds) > done:
            reporter.note(sentence(record))
    chosen, why = choose(rounds)
    shipped_round = chosen
    if run.cross_fitted:
        shipped_round = last_student(chain, run.chains, chosen, rounds[chosen].temperature)
    if shipped_round < chain.admission.label_rounds <= chosen:
        why += "; no text was sure enough for the last student, which has labels alone"
    results = {
        "chosen": {"round": chosen, "why": why},
        "method": method_of(config),
        "classes": chain.texts.classes,
        "rows": chain.texts.counts(),
        "max_length": {
            "training": chain.tokens.max_length,
            "prediction": length_limit(chain.tokenizer, AutoConfig.from_pretrained(chain.directory.round(0) / "model")),
        },
        "rounds": [asdict(record) for record in rounds],
        "test": {},
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
        "machine": machine(config),
        "seed": config.seed,
    }
    curve = expected_precision(run, rounds[chosen])
    if is_main_process():
        model = shipped(chain, shipped_round, rounds[chosen].temperature, curve)
        write_folder_whole(directory.model, lambda path: chain.save(model, path))
    wait_for_everyone()
    results["test"] = measure(run, supervised_temperature=rounds[0].temperature, same=shipped_round == 0)
    results["seconds"] = time.monotonic() - began
    if is_main_process():
        write_whole(directory.model / "README.md", card(config, chain, results))
        directory.write_results(results)
    wait_for_everyone()
    return directory.read_results()


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


def shipped(chain: Chain, index: int, temperature: float, curve: list[list[float]]) -> Any:
    """The student of a round with a temperature folded into its last layer, so that every consumer is calibrated.

    Args:
        curve: see `expected_precision`; left out of the model where it cannot be calibrated.
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
    return model


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
    return precision_curve(out_of_fold(run.chains, chosen.index).probabilities().max(-1))


def highest(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Probability of the predicted class, (N,), slice by slice."""
    return np.concatenate(
        [softmax(logits[some].astype(np.float64), temperature).max(-1) for some in slices(len(logits))]
    )


def measure(run: Run, *, supervised_temperature: float, same: bool) -> dict[str, Any]:
    """Supervised and shipped model on the test rows, in float32, with bootstrap intervals; empty without test rows.

    Args:
        supervised_temperature: of supervised fine-tuning on all labels.
        same: whether that is what is shipped.
    """
    chain = run.whole
    test = chain.texts.test
    if test is None:
        return {}
    texts, labels = test.texts["text"][:], np.asarray(test.texts["label"][:])
    scored: dict[str, Any] = {}
    for name, folder, temperature in (
        ("supervised", chain.directory.round(0) / "model", supervised_temperature),
        ("self_trained", run.directory.model, 1.0),  # its temperature is in its weights
    ):
        if name == "self_trained" and same:
            return scored | {name: scored["supervised"]}
        classifier = Classifier.from_pretrained(folder, device=chain.config.device)
        with chain.reporter.phase(f"test: {name.replace('_', '-')}", len(texts), "text") as tick:
            probabilities = softmax(classifier.logits(texts, tick), temperature)
        scored[name] = evaluate_predictions(probabilities, labels, chain.texts.classes, seed=chain.config.seed)
        if classifier.truncated and name == "supervised":
            limit = classifier.encoder.max_length
            chain.reporter.note(
                f"test: {classifier.truncated:,} texts are longer than the {limit} tokens that are read"
            )
    return scored


def card(config: RunConfig, chain: Chain, results: dict[str, Any]) -> str:
    """The model card of a run."""
    chosen = results["rounds"][results["chosen"]["round"]]
    trained_on = dict.fromkeys(hub_data_set(source) for source in (config.labeled, config.unlabeled))
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
        test_data=hub_data_set(config.test),
        calibration=calibration_sentence(
            chosen["temperature"],
            fitted_on=calibrated_on(chosen),
            folded=_is_calibrated(RunDirectory(str(config.output))),
            after=(results["test"].get("self_trained") or {}).get("metrics", {}).get("expected_calibration_error"),
        ),
        datasets=[name for name in trained_on if name is not None],
    )


def calibrated_on(record: dict[str, Any]) -> str | None:
    """What the temperature of a round was fitted on; None where nothing was there for it."""
    if record["out_of_fold"]:
        return "out-of-fold predictions of the labeled rows"
    return "the development rows" if record["metrics"] else None


def _is_calibrated(directory: RunDirectory) -> bool:
    """Whether the model that is shipped has its temperature in it (see `shipped`)."""
    return bool(AutoConfig.from_pretrained(directory.model).sstext["precision_curve"])


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
