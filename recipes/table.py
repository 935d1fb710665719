"""Run folders of one recipe over several seeds → the Markdown table for recipes/README.md.

for seed in 0 1 2; do sstext train recipes/quickstart.yaml --seed $seed --output out/seed-$seed; done
python recipes/table.py out/seed-0 out/seed-1 out/seed-2
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FIGURES = {"accuracy": "accuracy %", "macro_f1": "macro-F1 %", "expected_calibration_error": "calibration error %"}


def table(runs: Sequence[dict[str, Any]]) -> str:
    """One line per seed and model, then mean ± standard deviation over the seeds, then the rounds of every seed."""
    lines = [f"| seed | model | {' | '.join(FIGURES.values())} | time |", "|---|---|" + "---:|" * (len(FIGURES) + 1)]
    models = list(runs[0]["test"])
    for run in runs:
        for model in models:
            cells = [_interval(run["test"][model]["metrics"][name]) for name in FIGURES]
            seconds = run["rounds"][0]["seconds"] if model == "supervised" else run["seconds"]
            lines.append(f"| {run['seed']} | {_name(model)} | {' | '.join(cells)} | {seconds:.0f} s |")
    for model in models:
        scores = {name: [100 * run["test"][model]["metrics"][name]["score"] for run in runs] for name in FIGURES}
        cells = [f"**{statistics.mean(values):.1f}** ± {statistics.stdev(values):.1f}" for values in scores.values()]
        lines.append(f"| mean ± sd | {_name(model)} | {' | '.join(cells)} | |")
    lines += ["", "| seed | round | kept | coverage | pseudo-labels right (audit) | steps |", "|---|" + "---:|" * 5]
    for run in runs:
        for record in run["rounds"]:
            right = "" if record["audit_precision"] is None else f"{record['audit_precision']:.1%}"
            coverage = f"{record['coverage']:.0%}"
            lines.append(
                f"| {run['seed']} | {record['index']} | {record['admitted']} | {coverage} | {right} | {record['steps']} |"
            )
    return "\n".join([*lines, "", source(runs[0])])


def source(run: dict[str, Any]) -> str:
    """What the figures were measured on."""
    machine, versions = run["machine"], run["versions"]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"Measured on {machine['device']} ({machine['name']}, {machine['threads']} threads, {machine['precision']}), "
        f"commit {commit.stdout.strip() or 'unknown'}; {named}. In brackets: 95 % bootstrap intervals over the test rows."
    )


def _name(model: str) -> str:
    return model.replace("_", "-")


def _interval(figure: dict[str, Any]) -> str:
    low, high = figure["confidence_interval"]
    return f"{100 * figure['score']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


if __name__ == "__main__":
    print(table([json.loads(Path(folder, "results.json").read_text(encoding="utf-8")) for folder in sys.argv[1:]]))
