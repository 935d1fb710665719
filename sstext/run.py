"""One run: files in, run folder out. What `sstext train` does, and what Python calls to do the same."""

import importlib.metadata
import platform
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig

from sstext.calibration import fold_temperature, softmax
from sstext.chain import Chain
from sstext.config import RunConfig
from sstext.cross_fitting import last_student
from sstext.data.preparing import fingerprints, sources
from sstext.data.tokens import length_limit
from sstext.errors import UserError
from sstext.evaluation import evaluate_predictions
from sstext.hub import model_card
from sstext.inference import (
    Classifier,
    autocast,
    is_main_process,
    resolve_device,
    resolve_precision,
    score,
    wait_for_everyone,
)
from sstext.model_selection import Gain, Verdict, best_round
from sstext.progress import SILENT, Reporter, duration
from sstext.run_directory import RunDirectory, write_folder_whole, write_whole
from sstext.self_training import Round, Run, open_chain, open_run, run_rounds

VERSIONS = ("sstext", "torch", "transformers", "datasets", "accelerate", "numpy")


@dataclass(frozen=True)
class Plan:
    """What a run is going to do, measured on a few batches and written nowhere."""

    rows: dict[str, int]
    classes: list[str]
    max_length: int
    device: str
    precision: str
    steps: list[int]
    seconds: float


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
    run = open_run(config, reporter, **data)
    chain, directory = run.whole, run.directory
    if directory.results.exists():
        reporter.note(f"{directory.path}: this run is finished, here are its results")
        return directory.read_results()
    done = len(directory.rounds())
    if done:
        reporter.note(f"continuing {directory.path}: {done} round{'s are' if done > 1 else ' is'} done")
    elif run.cross_fitted:
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
    results = {
        "chosen": {"round": chosen, "why": why},
        "classes": chain.texts.classes,
        "rows": rows_of(chain),
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
    if is_main_process():
        model = shipped(chain, shipped_round, rounds[chosen].temperature)
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


def shipped(chain: Chain, index: int, temperature: float) -> Any:
    """The student of a round with a temperature folded into its last layer, so that every consumer is calibrated."""
    model = chain.load(index)
    if temperature != 1.0:
        columns = chain.tokenizer(["probe", "another probe"], padding=True, return_tensors="pt").to(model.device)
        try:
            fold_temperature(model, temperature, columns)
        except UserError as error:
            chain.reporter.note(f"not calibrated: {error}")
    return model


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
            chain.reporter.note(f"test: {classifier.truncated:,} texts are longer than the encoder reads and were cut")
    return scored


def card(config: RunConfig, chain: Chain, results: dict[str, Any]) -> str:
    """The model card of a run."""
    return model_card(
        classes=results["classes"],
        encoder=str(config.encoder),
        max_length=results["max_length"]["prediction"],
        rows=results["rows"],
        rounds=results["rounds"],
        results={name: numbers["metrics"] for name, numbers in results["test"].items()} or None,
        chosen=f"round {results['chosen']['round']}: {results['chosen']['why']}",
    )


def rows_of(chain: Chain) -> dict[str, int]:
    """Number of rows by kind."""
    texts = chain.texts
    held = {"labeled": texts.labeled, "unlabeled": texts.unlabeled, "dev": texts.dev, "test": texts.test}
    return {name: len(read.texts) for name, read in held.items() if read is not None}


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
    said = [f"round {record.index}: {record.steps} steps in {record.seconds:.0f} s"]
    if record.admitted:
        said.append(f"on {record.admitted:,} pseudo-labels ({record.coverage:.0%} of the corpus)")
    if record.audit_precision is not None:
        said.append(f"of which {record.audit_precision:.1%} are right")
    if record.out_of_fold:
        said.append("out-of-fold accuracy {accuracy:.1%}, log-loss {log_loss:.3f}".format(**record.out_of_fold))
    if record.metrics:
        said.append(f"development macro-F1 {record.metrics['macro_f1']:.3f}")
    return ", ".join(said) + (f"; stopped: {record.stopped_because}" if record.stopped_because else "")


def plan(config: RunConfig, *, reporter: Reporter = SILENT, **data: Any) -> Plan:
    """What `train` would do and about how long it would take: a few batches are timed, nothing is left on disk.

    Raises:
        UserError: as `train`.
    """
    if config.output is not None:
        RunDirectory(config.output).check(config.to_yaml(), fingerprints(sources(config, **data)))
    with tempfile.TemporaryDirectory(prefix="sstext-plan-") as scratch:
        chain = open_chain(replace(config, output=str(Path(scratch) / "out")), reporter, **data)
        steps = planned_steps(chain)
        device = resolve_device(config.device)
        seconds = estimated_seconds(chain, steps, config.folds or 0)
        return Plan(
            rows=rows_of(chain),
            classes=chain.texts.classes,
            max_length=chain.tokens.max_length,
            device=device.type,
            precision=resolve_precision(config.precision, device),
            steps=steps,
            seconds=seconds,
        )


def planned_steps(chain: Chain) -> list[int]:
    """Optimizer steps of a chain by round, where every round keeps as many rows as it may."""
    corpus = len(chain.tokens.corpus) if chain.tokens.corpus is not None else 0
    label_rounds = chain.admission.label_rounds

    def admitted(index: int) -> int:
        return 0 if index < label_rounds else chain.admission.at_most(corpus, chain.keep(index))

    return [chain.steps(index, admitted(index)) for index in range(chain.last_round + 1)]


def price(run: Run) -> str:
    """What cross-fitting costs, in a sentence, before it is paid."""
    steps, folds = planned_steps(run.whole), len(run.chains)
    with_folds, without = (estimated_seconds(run.whole, steps, number) for number in (folds, 0))
    return (
        f"cross-fitting: {folds} chains and a last student take about {duration(with_folds)}, where one chain would take "
        f"{duration(without)} and tell nothing of harm (--folds 0)"
    )


def estimated_seconds(chain: Chain, steps: Sequence[int], folds: int) -> float:
    """Training and scoring extrapolated from two batches of each kind (the first one warms up).

    Args:
        steps: of a chain by round.
        folds: chains beside the last student; 0: one chain.
    """
    config, model = chain.config, chain.student(0)
    precision = resolve_precision(config.precision, model.device)
    source = chain.tokens.corpus if chain.tokens.corpus is not None else chain.tokens.labeled

    def rows(count: int) -> Any:
        return source.select(range(min(count, len(source))))

    def step(count: int) -> float:
        features = [{"input_ids": ids} for ids in rows(count)["input_ids"][:]]
        inputs = chain.tokenizer.pad(features, return_tensors="pt").to(model.device)
        began = 0.0
        for _ in range(2):
            began = time.monotonic()
            with autocast(model.device, precision):
                loss = model(**inputs).logits.float().logsumexp(-1).mean()
            loss.backward()
        return time.monotonic() - began

    chains, last = max(1, folds), steps[: chain.admission.label_rounds + 1] if folds else []
    training = step(config.batch_size) * (chains * steps[0] + sum(last[:1]))
    training += step(config.round_batch_size) * (chains * sum(steps[1:]) + sum(last[1:]))
    sample = rows(256)
    score(model, sample, chain.tokenizer, precision=precision)
    began = time.monotonic()
    score(model, sample, chain.tokenizer, precision=precision)
    corpus = len(chain.tokens.corpus) if chain.tokens.corpus is not None else 0
    by_round = corpus + chain.admission.passes * chain.admission.scored_rows(corpus)
    texts = by_round * chains * (chain.last_round + (1 if folds else 0))
    texts += 2 * (len(chain.texts.test.texts) if chain.texts.test is not None else 0)
    return training + (time.monotonic() - began) / max(1, len(sample)) * texts
