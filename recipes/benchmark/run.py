"""Few labels, no development set: every method on the same rows, one line of JSON per cell.

    python recipes/benchmark/run.py --profile glance --data FOLDER
    python recipes/benchmark/table.py recipes/benchmark/results/glance.jsonl --write

Axes, each with several values in one file: --told (what methods know of the classes beside labels), --draw (n labels of each
class, or as many texts at random or chosen), --encoder. Methods that cannot be told anything have one cell for all of --told.

FOLDER (or SSTEXT_BENCH_DATA) holds <set>/train.parquet and <set>/test.parquet, columns text and label; support_tickets is in
this repository. The same command goes on where it stopped: cells that are done are skipped, failed ones too (--retry).
Several processes may fill one file, each with other --seeds, --sets or --methods.
"""

import argparse
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import transformers
from cells import ALL_LABELS, DRAWS, PROBE, PROFILES, Cell, plan, read_set, split_rows
from choosing import chooser
from commit import commit
from figures import figures_by_name
from lines import append_line, read_lines
from peers import PEERS, Task, probe
from told import DESCRIPTIONS, TOLD, description_file, knowledge
from transformers import set_seed

from sstext import Classifier, RunConfig, UserError, train
from sstext.modeling.pretrained import DEMO, encoder_path
from sstext.run.measuring import peak_memory
from sstext.run.results import VERSIONS, machine

RESULTS = Path(__file__).parent / "results"
#: What is kept of the record of a round.
RECORDED = (
    "index", "stage", "admitted", "coverage", "audit_precision", "estimated_precision",
    "steps", "seconds", "temperature", "out_of_fold", "gain", "refused",
)  # fmt: skip
INTERRUPTED = 130  # the shell's code for a program that Ctrl-C has stopped
#: The folders of an absolute path: results travel, and say nothing of the machine's files.
_FOLDERS = re.compile(r"(?<![\w/.])/(?:[^\s/'\"]+/)+")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cells that are asked for; 2 for input that can be mended, 130 after Ctrl-C."""
    asked = parser().parse_args(arguments)
    output = asked.output or RESULTS / f"{asked.profile}.jsonl"
    datasets.disable_progress_bars()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        cells = plan(
            PROFILES[asked.profile], encoder=asked.encoder_name or name_of(asked.encoder), on=asked.on, told=asked.told,
            draws=asked.draw, methods=asked.methods, sets=asked.sets, seeds=asked.seeds, n=asked.n,
        )  # fmt: skip
        run_cells(cells, asked.profile, asked.data, output, encoder=asked.encoder, retry=asked.retry)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"stopped; the same command goes on with {output}", file=sys.stderr)
        return INTERRUPTED
    return 0


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = os.environ.get("SSTEXT_BENCH_DATA")
    options.add_argument("--profile", choices=PROFILES, default="glance")
    options.add_argument("--methods", nargs="+", metavar="METHOD", help="default: those of the profile")
    options.add_argument("--sets", nargs="+", metavar="SET", help="default: all of the profile")
    options.add_argument("--seeds", nargs="+", type=int, metavar="SEED", help="default: all of the profile")
    options.add_argument(
        "--n", nargs="+", type=int, metavar="N", help="labeled rows per class (default: all of the profile)"
    )
    options.add_argument("--on", choices=("test", "validation"), help="rows to measure on (default: validation for "
                         "ablation, else test); choose settings on validation rows, in an --output of its own")  # fmt: skip
    options.add_argument("--told", nargs="+", choices=TOLD, help="what methods know of the classes beside labels "
                         "(default: that of the profile, mostly names)")  # fmt: skip
    options.add_argument("--draw", nargs="+", choices=DRAWS, help="labeled rows: n of each class, or as many at random "
                         "or chosen (default: that of the profile, mostly balanced)")  # fmt: skip
    options.add_argument("--encoder", default=DEMO, help="folder or Hub name (default: demo)")
    options.add_argument("--encoder-name", metavar="NAME", help="its name in the results (default: the last part of a "
                         "folder, or the Hub name)")  # fmt: skip
    options.add_argument("--data", type=Path, default=Path(data) if data else None, help="default: SSTEXT_BENCH_DATA")
    options.add_argument("--output", type=Path, help="default: recipes/benchmark/results/PROFILE.jsonl")
    options.add_argument("--retry", action="store_true", help="run failed cells again")
    return options


def name_of(encoder: str) -> str:
    """What results call an encoder: never the path of a folder, which says nothing on another machine.

    >>> name_of("demo"), name_of("ada/encoder")
    ('demo', 'ada/encoder')
    """
    return Path(encoder).resolve().name if encoder != DEMO and Path(encoder).is_dir() else encoder


def run_cells(
    cells: Sequence[Cell], profile: str, data: Path | None, output: Path, *, encoder: str = DEMO, retry: bool = False
) -> None:
    """Run what `output` does not hold yet, and append it there; a cell that fails is a line with its error.

    Args:
        encoder: folder or Hub name of what the cells have by its name.

    Raises:
        UserError: a data set or the descriptions of its classes are missing, or a file of results cannot be read.
    """
    sets = {name: read_set(name, data) for name in dict.fromkeys(cell.set for cell in cells)}
    for name in dict.fromkeys(cell.set for cell in cells if cell.told == DESCRIPTIONS):
        description_file(name)
    results = read_lines(output)
    open_cells = [cell for cell in cells if cell.key not in results or (retry and "error" in results[cell.key])]
    print(f"{len(open_cells)} of {len(cells)} cells to run, to {output}", file=sys.stderr)
    began, code = time.monotonic(), commit()  # as it was imported, whatever is committed meanwhile
    for number, cell in enumerate(open_cells, 1):
        row = {**asdict(cell), "profile": profile, "commit": code, **outcome(cell, *sets[cell.set], encoder)}
        append_line(output, row)
        said = f"accuracy {row['accuracy']:.1%}" if "error" not in row else f"FAILED: {row['error']}"
        left = (time.monotonic() - began) / number * (len(open_cells) - number) / 60
        print(f"[{number}/{len(open_cells)}] {cell}: {said}; {left:.0f} min left", file=sys.stderr, flush=True)


def outcome(cell: Cell, rows: pd.DataFrame, test: pd.DataFrame, encoder: str) -> dict[str, Any]:
    """What came of a cell: its figures, or its error. Ctrl-C is none: it goes on to the caller."""
    began = time.monotonic()
    try:
        measured = run_cell(cell, rows, test, encoder)
        json.dumps(measured, allow_nan=False)  # a figure that is no number is a failure too
        return measured
    except Exception as error:  # whatever a method does, the others are measured
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return {"error": _FOLDERS.sub("…/", reason)[:500], "seconds": time.monotonic() - began}


def run_cell(cell: Cell, rows: pd.DataFrame, test: pd.DataFrame, encoder: str) -> dict[str, Any]:
    """Train as the cell says, in a folder that is gone afterwards, and measure.

    Args:
        rows, test: training and test file of the set, columns text and label.
        encoder: folder or Hub name.
    """
    settings = cell.settings
    choose = chooser(cell.draw, rows, cell.seed, encoder_path(encoder), settings["run"]["max_length"])
    split = split_rows(rows["label"], n=cell.n, seed=cell.seed, pool=settings["pool"], draw=cell.draw, choose=choose)
    labeled, pool = rows.iloc[split.labeled], rows.iloc[split.pool]
    measured_on = (test if settings["on"] == "test" else rows.iloc[split.validation]).iloc[: settings["test"]]
    known = knowledge(cell.told, cell.set, sorted(set(labeled["label"])))
    if cell.method in PEERS or cell.method == PROBE:
        return run_peer(cell, labeled, pool, measured_on, known, encoder)
    labeled = pd.concat([labeled, pool]) if cell.method == ALL_LABELS else labeled
    audited = pool["label"].isin(labeled["label"]).all()  # a class without a labeled row is no class of the run
    with tempfile.TemporaryDirectory(prefix="sstext-benchmark-") as scratch:
        folder = Path(scratch, "out")
        results = train(
            RunConfig(output=str(folder), seed=cell.seed, descriptions=known, **settings["run"] | {"encoder": encoder}),
            report=False,
            labeled=_dataset(labeled),
            unlabeled=_dataset(pool[["text"]]),
            audit=_dataset(pool[["label"]]) if audited else None,  # measures the pseudo-labels; training never sees it
        )
        log = folder / "start" / "log.jsonl"  # of a single chain: what acts inside a step is run in one
        kept = kept_at_the_end(log.read_text(encoding="utf-8") if log.exists() else "")
        classifier = Classifier.from_pretrained(folder / "model")
        probabilities = classifier.predict_proba(measured_on["text"].tolist())
    return {
        **figures_by_name(probabilities, classifier.classes, measured_on["label"].tolist()),
        **kept,
        "chosen": results["chosen"],
        "accuracy_estimate": results["accuracy_estimate"],
        "class_texts": results["class_texts"],
        "rounds": [{name: record[name] for name in RECORDED} for record in results["rounds"]],
        "seconds": results["seconds"],
        "peak_memory_of_the_process_mib": peak_memory()["process"],
        "machine": results["machine"],
        "versions": results["versions"],
    }


def run_peer(
    cell: Cell, labeled: pd.DataFrame, pool: pd.DataFrame, asked: pd.DataFrame, known: Any, encoder: str
) -> dict[str, Any]:
    """Train a peer on the rows of a cell and on what is known of the classes, and measure; its time includes predicting."""
    options, began = cell.settings["run"], time.monotonic()
    task = Task(
        labeled["text"].tolist(), labeled["label"].tolist(), pool["text"].tolist(), asked["text"].tolist(),
        encoder_path(encoder), options["max_length"], cell.seed, known,
    )  # fmt: skip
    set_seed(cell.seed)
    probabilities = (PEERS | {PROBE: probe})[cell.method](task).astype(np.float64)
    probabilities /= probabilities.sum(1, keepdims=True)
    return {
        **figures_by_name(probabilities, task.classes, asked["label"].tolist()),
        "kept_share": None, "mean_weight": None, "rounds": [],
        "seconds": time.monotonic() - began,
        "peak_memory_of_the_process_mib": peak_memory()["process"],
        "machine": machine(RunConfig(precision="fp32")),
        "versions": {name: version(name) for name in (*VERSIONS, "scikit-learn", "setfit") if name != "sstext" and found(name)},
    }  # fmt: skip


def found(package: str) -> bool:
    """Whether a package is installed."""
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


def kept_at_the_end(log: str) -> dict[str, float | None]:
    """Share of the unlabeled rows that counted, and their mean weight, in the last steps of a training's log.

    None where the method has no unlabeled rows in its steps.
    """
    entries = [json.loads(line) for line in log.splitlines()]
    return {
        name: next((entry[name] for entry in reversed(entries) if name in entry), None)
        for name in ("kept_share", "mean_weight")
    }


def _dataset(rows: pd.DataFrame) -> datasets.Dataset:
    return datasets.Dataset.from_pandas(rows, preserve_index=False)


if __name__ == "__main__":
    sys.exit(main())
