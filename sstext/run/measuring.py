"""Evaluate the models of a run on the test rows, and store the predictions for the report."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import torch

from sstext.evaluation.bootstrap import evaluate_predictions
from sstext.evaluation.calibration import softmax
from sstext.evaluation.metrics import expected_calibration_error
from sstext.inference.classifier import Classifier
from sstext.methods.method import Stage
from sstext.processes import is_main_process
from sstext.selftraining.cross_fitting import Run, out_of_fold, rows_of_folds
from sstext.selftraining.record import StageRecord
from sstext.storage.run_folder import MODEL
from sstext.storage.whole import write_table_whole


def measure(
    run: Run,
    baseline: Stage,
    baseline_temperature: float,
    *,
    others: Mapping[str, float],
    temperature: float,
    same: bool,
) -> tuple[dict[str, Any], dict[str, float]]:
    """Evaluate the baseline and the chosen model on the test rows, in float32, with confidence intervals.

    Their predictions are written to `predictions/test.parquet`. Without test rows, the results are empty.

    Args:
        run: the finished run.
        baseline: stage of the model that is measured beside it.
        baseline_temperature: temperature of the baseline, which was trained on all labels.
        others: names of stages whose models are measured, too, with their temperatures.
        temperature: temperature that the weights of the chosen model contain.
        same: whether the baseline is the chosen model.

    Returns:
        "supervised" (baseline), the names of the others and "self_trained" (chosen model) → the result of
        `evaluate_predictions`; and the calibration error of the chosen model without its temperature.
    """
    chain = run.whole
    test = chain.texts.test
    if test is None:
        return {}, {}
    texts, labels = test.texts["text"][:], np.asarray(test.texts["label"][:])
    figures: dict[str, Any] = {}
    logits: dict[str, np.ndarray] = {}
    models = [("supervised", baseline.name, chain.students.folder(baseline) / MODEL, baseline_temperature)]
    models += [(other, other, chain.directory.stage(other) / MODEL, divided_by) for other, divided_by in others.items()]
    models.append(("self_trained", "chosen model", run.directory.model, 1.0))  # its weights contain its temperature
    for name, title, folder, divided_by in models:
        if name == "self_trained" and same:
            figures[name], logits["final"] = figures["supervised"], logits["supervised"] / baseline_temperature
            break
        classifier = Classifier.from_pretrained(folder, device=chain.config.device)
        with chain.reporter.phase(f"test: {title}", len(texts), "text") as tick:
            predicted = classifier.logits(texts, tick)
        logits["final" if name == "self_trained" else name] = predicted
        probabilities = softmax(predicted, divided_by)
        figures[name] = evaluate_predictions(probabilities, labels, chain.texts.classes, seed=chain.config.seed)
        if classifier.truncated and name == "supervised":
            cut, limit = classifier.truncated, classifier.encoder.max_length
            chain.reporter.note(
                f"test: {cut:,} of {len(texts):,} texts were cut to the {limit} tokens that the model reads"
            )
    write_predictions(run.directory.predictions("test"), texts, labels, chain.texts.classes, logits)
    before = expected_calibration_error(softmax(logits["final"] * temperature), labels)
    return figures, {"expected_calibration_error": float(before)}


def write_held_out(run: Run, records: Sequence[StageRecord]) -> None:
    """Write the logits of every stage on the rows that stages are compared on.

    The file is `predictions/out_of_fold.parquet`, or `predictions/dev.parquet` with development rows. The logits are
    not divided by a temperature. The temperature of a stage is in its record.
    """
    whole = run.whole
    if run.cross_fitted:
        rows = rows_of_folds(whole, len(run.chains))
        order = np.concatenate(rows)
        labeled = whole.texts.labeled.texts
        stages = run.plan.stages[: len(records)]
        logits = {f"round_{stage.position}": out_of_fold(run.chains, stage).logits for stage in stages}
        chains = np.concatenate(
            [np.full(len(some), chain.number) for some, chain in zip(rows, run.chains, strict=True)]
        )
        texts, labels = labeled.select(order)["text"][:], np.asarray(labeled["label"][:])[order]
        write_predictions(
            run.directory.predictions("out_of_fold"), texts, labels, whole.texts.classes, logits, chain=chains
        )
    elif whole.texts.dev is not None:
        stages = run.plan.stages[: len(records)]
        logits = {f"round_{stage.position}": whole.students.score_development_rows(stage) for stage in stages}
        texts, labels = whole.texts.dev.texts["text"][:], np.asarray(whole.texts.dev.texts["label"][:])
        write_predictions(run.directory.predictions("dev"), texts, labels, whole.texts.classes, logits)


def write_predictions(
    file: Path,
    texts: Sequence[str],
    labels: np.ndarray,
    classes: Sequence[str],
    logits: Mapping[str, np.ndarray],
    **columns: np.ndarray,
) -> None:
    """Write N rows with their labels and the logits of models. The file is written whole or not at all.

    Args:
        file: the parquet file.
        texts: N texts.
        labels: (N,) class numbers. Their names are written.
        classes: names of the C classes.
        logits: name of a column → (N, C).
        **columns: further columns, (N,) each.
    """
    if not is_main_process():
        return
    table = {"text": pa.array(texts, pa.large_string()), "label": pa.array([classes[label] for label in labels])}
    table |= {name: pa.array(values) for name, values in columns.items()}
    for name, rows in logits.items():
        flat = pa.array(np.ascontiguousarray(rows, dtype=np.float32).reshape(-1))
        table[name] = pa.FixedSizeListArray.from_arrays(flat, len(classes))
    write_table_whole(file, pa.table(table), private=True)


def peak_memory() -> dict[str, float | None]:
    """Peak memory in MiB of this process since its start, and of its tensors on the GPU (None without a GPU)."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        held = psutil.Process().memory_info().peak_wset / 2**20
    else:
        unit = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss counts bytes there, KiB elsewhere
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    on_device = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None
    return {"process": held, "device": on_device}
