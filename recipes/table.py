"""Run folders of recipes → lines of recipes/results.jsonl → the table of what was measured, in recipes/benchmark/RESULTS.md.

for seed in 0 1 2; do sstext train recipes/ag_news.yaml --seed $seed --output out/ag_news/seed-$seed; done
python recipes/table.py out/ag_news/seed-* --write

A folder's recipe is the one that it, or the folder that holds it, is named after. Without folders the table is made again from
the lines, which are kept with the code; without --write it is printed, and nothing is kept.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

sys.path.append(str(Path(__file__).parent / "benchmark"))  # scripts, not a package
from commit import commit
from markers import write_between_markers

from sstext.config.recipe import read_config
from sstext.errors import UserError, listed
from sstext.storage.run_folder import RunDirectory
from sstext.storage.whole import write_whole

RECIPES = Path(__file__).parent
#: What a line holds of either model.
FIGURES = ("accuracy", "macro_f1", "expected_calibration_error")
#: What may differ from the recipe: the place of a measurement, not what is measured.
FREE = ("seed", "device", "precision")
#: No measurement of its own: the data are quickstart's, there to be replaced.
SKELETONS = ("own_data",)
#: Why a recipe has no line.
NOT_HERE = {"multi_gpu": "wants several GPUs"}

Line = dict[str, Any]


def line_of(folder: Path) -> Line:
    """What is kept of a finished run of a recipe.

    Raises:
        UserError: no finished run, no recipe of that name, no test rows, or other options than the recipe's.
    """
    names = recipes()
    name = next((part for part in (folder.name, folder.resolve().parent.name) if part in names), None)
    if name is None:
        raise UserError(
            f"{folder}: expected a folder named after a recipe, or in one; the recipes are {listed(names, 99)}"
        )
    run = RunDirectory(folder)
    if not run.results.exists():
        raise UserError(f"{folder}: expected a finished run, found no results.json; `sstext train` goes on with it")
    _check_options(folder, name)
    results = run.read_results()
    if not results["test"]:
        raise UserError(f"{folder}: expected figures on test rows, found none; give the recipe a test file")
    plan = folder / "plan.json"
    return {
        "recipe": name,
        "seed": results["seed"],
        "commit": results.get("commit") or commit(),
        "data": run.read_data()["fingerprints"],
        "rows": results["rows"],
        **{
            model: _scores(results["test"][key])
            for model, key in (("supervised", "supervised"), ("final", "self_trained"))
        },
        "chosen": results["chosen"]["round"],
        "steps": [record["steps"] for record in results["rounds"]],
        "left_out": json.loads(plan.read_text(encoding="utf-8"))["left_out"] if plan.exists() else [],
        "seconds": round(results["seconds"], 1),
        "peak_memory_mib": results.get("peak_memory_mib"),
        "machine": results["machine"],
        "versions": results["versions"],
    }


def _scores(figures: Mapping[str, Any]) -> dict[str, float]:
    return {name: round(figures["metrics"][name]["score"], 4) for name in FIGURES}


def _check_options(folder: Path, name: str) -> None:
    """A figure stands for its recipe: nothing but the place and the seed may differ."""
    asked = yaml.safe_load(read_config(RECIPES / f"{name}.yaml", {}).to_yaml())
    found = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    other = [option for option in asked if option not in FREE and found.get(option, asked[option]) != asked[option]]
    if other:
        said = "; ".join(f"{option}: {asked[option]} there, {found[option]} here" for option in other)
        raise UserError(f"{folder}: expected a run of recipes/{name}.yaml, found other options ({said}); run it again")


def recipes() -> list[str]:
    """All recipes that are measured, in the order of the table."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml") if path.stem not in SKELETONS)


def read_lines(path: Path) -> list[Line]:
    """The lines of a file; none where there is no file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def merged(before: Iterable[Line], new: Iterable[Line]) -> list[Line]:
    """One line per recipe and seed, the newest, sorted."""
    by_place = {(line["recipe"], line["seed"]): line for line in [*before, *new]}
    return [by_place[place] for place in sorted(by_place)]


def report(lines: Sequence[Line]) -> str:
    """The table, a line per recipe, and below it what was measured on and what a budget cut."""
    head = ["recipe", "seeds", "accuracy %", "macro-F1 %", "calibration error %", "time", "peak memory"]
    said = [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
    for name in recipes():
        own = [line for line in lines if line["recipe"] == name]
        cells = [_seeds(own), *(_change(own, figure) for figure in FIGURES), _time(own), _memory(own)] if own else []
        reason = NOT_HERE.get(name, "not measured yet")
        said.append(f"| {name} | {' | '.join(cells) if cells else reason + ' |' * (len(head) - 2)} |")
    explained = (
        "Supervised → final on the test rows, mean ± standard deviation over the seeds. Time: of a whole run, mean. Peak "
        "memory: the most of any run."
    )
    return "\n".join([*said, "", explained, "", *_sources(lines), *_cuts(lines)]).rstrip()


def _seeds(lines: Sequence[Line]) -> str:
    return ", ".join(str(line["seed"]) for line in lines)


def _change(lines: Sequence[Line], figure: str) -> str:
    """Supervised → final.

    >>> _change([{"supervised": {"accuracy": .5}, "final": {"accuracy": .75}}], "accuracy")
    '50.0 → **75.0**'
    """
    before, after = ([100 * line[model][figure] for line in lines] for model in ("supervised", "final"))
    return f"{_mean(before)} → {_mean(after, bold=True)}"


def _mean(values: Sequence[float], bold: bool = False) -> str:
    mean = f"{statistics.mean(values):.1f}"
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return (f"**{mean}**" if bold else mean) + spread


def _time(lines: Sequence[Line]) -> str:
    seconds = statistics.mean(line["seconds"] for line in lines)
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"


def _memory(lines: Sequence[Line]) -> str:
    """The most that a run held, on the GPU where there was one; runs of before it was recorded say nothing."""
    held = [line["peak_memory_mib"] for line in lines if line["peak_memory_mib"]]
    kinds = {"": [peak["process"] for peak in held if peak["device"] is None]}
    kinds[" on the GPU"] = [peak["device"] for peak in held if peak["device"] is not None]
    return " / ".join(f"{max(peaks):,.0f} MiB{where}" for where, peaks in kinds.items() if peaks)


def _sources(lines: Sequence[Line]) -> list[str]:
    """A sentence per machine, commit and set of versions: which recipes were measured there."""
    places: dict[tuple[str, str, str], dict[str, list[Line]]] = {}
    for line in lines:
        machine = "{device} ({name}, {threads} threads, {precision})".format(**line["machine"])
        versions = ", ".join(f"{name} {version}" for name, version in line["versions"].items())
        places.setdefault((machine, line["commit"], versions), {}).setdefault(line["recipe"], []).append(line)
    return [
        f"- Measured on {machine}, commit {code}; {versions}: "
        + "; ".join(f"{name} (seed {_seeds(own)})" for name, own in by_recipe.items())
        for (machine, code, versions), by_recipe in places.items()
    ]


def _cuts(lines: Sequence[Line]) -> list[str]:
    return [
        f"- Cut by its budget: {line['recipe']}, seed {line['seed']}, without {', '.join(line['left_out'])}"
        for line in lines
        if line["left_out"]
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, or write it; 2 for input that can be mended."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folders", nargs="*", type=Path, help="finished runs")
    options.add_argument("--write", action="store_true", help="write results.jsonl and benchmark/RESULTS.md")
    options.add_argument(
        "--home", type=Path, default=RECIPES, help=argparse.SUPPRESS
    )  # of the two files, for the tests
    asked = options.parse_args(arguments)
    kept = asked.home / "results.jsonl"
    try:
        lines = merged(read_lines(kept), [line_of(folder) for folder in asked.folders])
        if not asked.write:
            print(report(lines))
            return 0
        write_between_markers(asked.home / "benchmark" / "RESULTS.md", "recipes", report(lines))
        write_whole(kept, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
