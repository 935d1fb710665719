"""What a finished command shows: tables on stdout, by rich."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from sstext.errors import listed
from sstext.methods.catalog import BESIDE, Entry, entry, pages, regularizer_entry
from sstext.methods.registry import METHODS
from sstext.objective.regularizers import REGULARIZERS
from sstext.progress import duration
from sstext.reporting.words import left_out_said
from sstext.run.dry_run import Plan

SHOWN = {"accuracy": "accuracy %", "macro_f1": "macro-F1 %", "expected_calibration_error": "calibration error %"}
#: As `results.json` calls the model that is shipped, and as people do: not every one has learned from pseudo-labels.
SHIPPED = {"self_trained": "shipped"}


def show_results(results: Mapping[str, Any], output: str, budget: str | None = None) -> None:
    """The end of a training: test figures, rounds, what a budget left out, where the model lies and how to use it."""
    console = _console()
    if results["test"]:
        table = _table(f"On {results['rows']['test']:,} test rows (95 % bootstrap intervals)")
        table.add_column("model")
        for title in SHOWN.values():
            table.add_column(title, justify="right")
        same = results["test"].get("self_trained") == results["test"]["supervised"]
        for name, numbers in results["test"].items():
            if name == "self_trained" and same:
                continue  # what is shipped is the row above
            shown = "supervised (shipped)" if same else SHIPPED.get(name, name)
            table.add_row(shown, *(interval(numbers["metrics"][metric]) for metric in SHOWN))
        console.print(table)
    console.print(rounds_table(results["rounds"]))
    chosen = results["chosen"]
    console.print(f"Chosen: round {chosen['round']} ({chosen['why']}).", highlight=False)
    if left_out := left_out_said(results.get("left_out", []), budget):  # runs of earlier versions do not know
        console.print(left_out, highlight=False)
    console.print(f"Model: {output}/model", highlight=False, soft_wrap=True)
    if Path(output, "report.html").exists():
        console.print(f"Report: {output}/report.html", highlight=False, soft_wrap=True)
    console.print("Use it:", highlight=False)
    console.print(f"  sstext predict {output}/model new.csv -o predictions.csv", highlight=False, soft_wrap=True)
    console.print(
        f'  python -c "from transformers import pipeline; '
        f"print(pipeline('text-classification', '{output}/model')('your text', truncation=True))\"",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip


def rounds_table(rounds: list[Mapping[str, Any]]) -> Table:
    """One line per round; columns that no round fills are left out."""
    table = _table("Rounds")
    cells = {
        "round": lambda r: str(r["index"]),
        "kept": lambda r: f"{r['admitted']:,}",
        "coverage": lambda r: f"{r['coverage']:.1%}",
        "precision (audit)": lambda r: _share(r["audit_precision"]),
        "(estimated)": lambda r: _share(r.get("estimated_precision")),
        "out-of-fold accuracy": lambda r: _share(r["out_of_fold"]["accuracy"]) if r.get("out_of_fold") else "",
        "dev macro-F1": lambda r: f"{r['metrics']['macro_f1']:.3f}" if r["metrics"] else "",
        "same class as before": lambda r: _share(r["agreement"]),
        "steps": lambda r: f"{r['steps']:,}",
        "time": lambda r: duration(r["seconds"]),
    }
    filled = {title: cell for title, cell in cells.items() if any(cell(record) for record in rounds)}
    for title in filled:
        table.add_column(title, justify="right")
    for record in rounds:
        table.add_row(*(cell(record) for cell in filled.values()))
    table.caption = f"Stopped: {rounds[-1]['stopped_because']}."
    table.caption_justify = "left"
    return table


def show_plan(plan: Plan) -> None:
    """What `--dry-run` found."""
    console = _console()
    table = _table("Plan (nothing was trained, nothing is left on disk)", show_header=False)
    for name, count in plan.rows.items():
        table.add_row(f"{name} rows", f"{count:,}")
    table.add_row("classes", f"{len(plan.classes)}: {listed(plan.classes)}")
    table.add_row("max length", f"{plan.max_length} tokens")
    table.add_row("device", f"{plan.device}, {plan.precision}")
    table.add_row("method", plan.method)
    if plan.folds:
        table.add_row("chains", f"{plan.folds}, each without one fold of the labels, and a last student")
    for index, steps in enumerate(plan.steps):
        table.add_row(
            f"round {index}",
            f"{steps:,} steps{' (plain fine-tuning)' if index == 0 and plan.method in ('auto', 'supervised') else ''}",
        )
    table.add_row("estimated time", f"about {duration(plan.seconds)}")
    if plan.left_out:
        table.add_row("left out", ", ".join(plan.left_out))
    console.print(table)


def show_evaluation(results: Mapping[str, Any]) -> None:
    """Figures of one model on labeled rows, and per class."""
    console = _console()
    table = _table(f"On {results['rows']:,} rows (95 % bootstrap intervals)")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, figure in results["metrics"].items():
        table.add_row(SHOWN.get(name, name), interval(figure, 100 if name in SHOWN else 1))
    for name, title in (("micro_f1", "micro-F1 %"), ("weighted_f1", "weighted F1 %")):
        table.add_row(title, f"{100 * results[name]:.1f}")
    table.add_row("Matthews correlation", f"{results['matthews_correlation']:.3f}")
    console.print(table)
    classes = _table("Per class")
    classes.add_column("class")
    for title in ("precision %", "recall %", "F1 %", "rows"):
        classes.add_column(title, justify="right")
    for name, figures in results["per_class"].items():
        shares = (f"{100 * figures[key]:.1f}" for key in ("precision", "recall", "f1"))
        classes.add_row(name, *shares, f"{figures['support']:,}")
    console.print(classes)


def show_methods(name: str | None) -> None:
    """All methods and further losses in a row each, or one with its formula, arguments and paper."""
    console = _console()
    if name is not None:
        for page in pages(name):
            _show_page(console, page)
        return
    title = "Methods (sstext train --method NAME --method-args KEY=VALUE …; more: sstext methods NAME)"
    table = _table(title, collapse_padding=True)
    found = [entry(name) for name in METHODS]
    _add_names(table, "method", METHODS)
    table.add_column("idea", overflow="fold")
    longest = max(len(word) for page in found for word in page.paper.split())
    table.add_column("paper", max_width=longest)  # the idea gets the room
    for title in ("works", "tasks"):
        table.add_column(title, no_wrap=True)
    for page in found:
        table.add_row(page.name, page.idea, page.paper, page.stage, page.tasks)
    console.print(table)
    further = _table(
        "Further losses that any method can add (--regularizers NAME=STRENGTH …; more: sstext methods NAME)"
    )
    _add_names(further, "regularizer", REGULARIZERS)
    further.add_column("idea", overflow="fold")
    for page in map(regularizer_entry, REGULARIZERS):
        further.add_row(page.name, page.idea)
    console.print(further)


def _add_names(table: Table, title: str, names: Iterable[str]) -> None:
    """A column of names that people type: never cut, however narrow the terminal."""
    table.add_column(title, no_wrap=True, min_width=max(map(len, names)))


def _show_page(console: Console, found: Entry) -> None:
    console.print(f"{found.name}: {found.idea}\n", highlight=False)
    rows = {
        "formula": found.formula, "composition": found.composition, "when": found.when, "source": found.source,
        "works": found.stage, "tasks": found.tasks,
    }  # fmt: skip
    table = _table("", show_header=False)
    for title, text in rows.items():
        if text:
            table.add_row(title, text)
    console.print(table)
    if not found.arguments:
        console.print("No arguments.")
        return
    given = "--method-args KEY=VALUE …"
    if found.stage == BESIDE:
        given = f"--regularizers {found.name}=X sets the first; the others in Python"
    arguments = _table(f"Arguments ({given})")
    _add_names(arguments, "argument", [argument.name for argument in found.arguments])
    arguments.add_column("default", no_wrap=True)
    arguments.add_column("what it does, and what the paper has", overflow="fold")
    for argument in found.arguments:
        arguments.add_row(argument.name, str(argument.default), argument.help)
    console.print(arguments)


class _Page(Console):
    """A console that leaves no blanks at the ends of lines in files and pipes."""

    def print(self, *objects: Any, **settings: Any) -> None:
        if self.is_terminal:
            super().print(*objects, **settings)
            return
        with self.capture() as shown:
            super().print(*objects, **settings)
        lines = shown.get().split("\n")
        print("\n".join(line.rstrip() for line in lines), end="", flush=True)


def _console() -> Console:
    console = _Page(markup=False, emoji=False)  # a class or folder named [b] is no markup
    asked = os.environ.get("COLUMNS", "")
    if not console.is_terminal and not (asked.isdigit() and int(asked)):
        console.width = 110  # a file or a pipe has no width to keep to
    return console


def _table(title: str, **settings: Any) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=SIMPLE, pad_edge=False, **settings)


def interval(figure: Mapping[str, Any], scale: float = 100.0) -> str:
    """score [low, high], in percent unless scaled otherwise.

    >>> interval({"score": .5, "confidence_interval": (.25, .75)})
    '50.0 [25.0, 75.0]'
    """
    low, high = figure["confidence_interval"]
    digits = 1 if scale == 100 else 3
    return f"{scale * figure['score']:.{digits}f} [{scale * low:.{digits}f}, {scale * high:.{digits}f}]"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"
