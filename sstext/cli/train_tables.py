"""What `sstext train` prints: the plan of a dry run, and the results."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from sstext.cli.console import SHOWN, interval, new_console, new_table, percent
from sstext.config.spelling import spelled
from sstext.errors import listed
from sstext.evaluation.held_out import cause_and_remedy
from sstext.methods.method import HEAD, Stage
from sstext.objective.targets import Hard
from sstext.progress import duration
from sstext.reporting.words import (
    accuracy_said,
    capitalized,
    left_out_said,
    regression_said,
    said_first,
    shares_said,
    skipped_said,
)
from sstext.run.continuing import what_it_brought
from sstext.run.dry_run import Forecast
from sstext.run.sharing import in_units
from sstext.selftraining.plan import Plan
from sstext.storage.run_folder import FINAL, REPORT, TO_LABEL, ZERO_SHOT, stage_name

#: Name of a model in `results.json` → its name in tables.
MODELS = {"self_trained": "chosen model"}


def show_results(
    results: Mapping[str, Any], output: str, budget: str | None = None, before: Mapping[str, Any] | None = None
) -> None:
    """The end of a training: figures on test rows, the stages, the choice, what to do next, and how to use the model.

    Args:
        before: results of the run that this one goes on from.
    """
    console = new_console()
    for line in said_first(results):
        console.print(line, highlight=False, markup=False)
        console.print()
    if results["test"]:
        console.print(figures_table(results))
    console.print(records_table(results["rounds"]))
    chosen = results["chosen"]
    name = stage_name(results["rounds"][chosen["round"]])
    first, *others = chosen["why"].split("; ")
    reasons = [f"  - {reason}" for reason in others]
    lines = [
        f"Chosen: {name} ({first}).",
        *reasons,
        accuracy_said(results),
        what_it_brought(before, results) if before is not None else "",
        left_out_said(results.get("left_out", []), budget),
        _skipped(results),
        shares_said(results),
        advice(results),
    ]
    for line in filter(None, lines):
        console.print(line, highlight=False)
    console.print(f"Model: {output}/model{_sizes(Path(output))}", highlight=False, soft_wrap=True)
    if Path(output, REPORT).exists():
        console.print(f"Report: {output}/{REPORT}", highlight=False, soft_wrap=True)
    if to_label := to_label_said(results, output):
        console.print(to_label, highlight=False, markup=False, soft_wrap=True)
    example = f"{results.get('prefix') or ''}your text"
    console.print("Use it:", highlight=False)
    console.print(f"  sstext predict {output}/model new.csv -o predictions.csv", highlight=False, soft_wrap=True)
    console.print(
        f'  python -c "from transformers import pipeline; '
        f"print(pipeline('text-classification', '{output}/model')({example!r}, truncation=True))\"",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip


def _sizes(folder: Path) -> str:
    """How large a model is, and the whole folder of its run, which also has the models of all stages."""
    model, every = (sum(map(_size, one.rglob("*"))) for one in (folder / "model", folder))
    if not model:
        return ""
    return f" ({in_units(model)}; the whole folder {folder} has {in_units(every)}: runs that go on from this one use the rest)"


def _size(file: Path) -> int:
    try:
        return file.stat().st_size if file.is_file() else 0
    except OSError:  # it has vanished meanwhile
        return 0


def _skipped(results: Mapping[str, Any]) -> str:
    """How many steps were skipped, if there were any."""
    counted = results.get("skipped_steps") or {"skipped": 0, "steps": 0}
    if not counted["skipped"]:
        return ""
    said = capitalized(skipped_said(counted["skipped"], counted["steps"]))
    of_rounds = f"for auto and for rounds, round_learning_rate in {spelled('method_args')}"
    return f"{said}. If these are many, lower {spelled('learning_rate')} ({of_rounds})."


def figures_table(results: Mapping[str, Any]) -> Table:
    """Figures on the test rows: one line for the baseline, one for the chosen model."""
    table = new_table(f"On {results['rows']['test']:,} test rows (in brackets: 95 % confidence interval)")
    table.add_column("model")
    for title in SHOWN.values():
        table.add_column(title, justify="right")
    same, first = results["test"].get("self_trained") == results["test"]["supervised"], _first_stage(results)
    for name, numbers in results["test"].items():
        if name == "self_trained" and same:
            continue  # the chosen model is the row above
        shown = f"{first} (chosen)" if same else first if name == "supervised" else MODELS.get(name, name)
        table.add_row(shown, *(interval(numbers["metrics"][metric]) for metric in SHOWN))
    return table


def _first_stage(results: Mapping[str, Any]) -> str:
    """The name of the model that is measured beside the chosen one. Version 0.1 called its stage round 0."""
    return results.get("baseline") or results["rounds"][0].get("stage") or "baseline"


def advice(results: Mapping[str, Any]) -> str:
    """What to do next, in a sentence. Empty if everything went as expected."""
    chosen, records = results["chosen"], results["rounds"]
    if stage_name(records[0]) == ZERO_SHOT and not records[-1]["metrics"]:
        return "" if results["test"] else "Next: label some texts. Nothing else shows how often this model is right."
    if ahead := regression_said(results):
        remedy = f"leave out {spelled('method')}: the default method compares both"
        if not results["rows"].get("unlabeled"):
            remedy = f"give {spelled('unlabeled')} and {remedy}"
        return f"Next: {remedy}. {ahead}"
    if _at_chance(results):
        rows = "held-out" if _held_out(records) else "development"
        return (
            f"Next: the model is not better than chance on the {rows} rows, and its pseudo-labels cannot help. Check that the "
            "labels are right and follow from the texts, then label more texts."
        )
    if len(records) > 1 and not _held_out(records) and not records[-1]["metrics"]:
        remedy = cause_and_remedy(results.get("nothing_held_out"))[1]
        return f"Next: this choice was not checked. To check it, {remedy}, or give --dev with labeled rows."
    if len(records) > 1 and chosen["round"] == 0 and not records[0].get("reads_corpus"):
        happened = "the unlabeled texts did not help here"
        if not any(record.get("admitted") or record.get("reads_corpus") for record in records):
            happened = f"no model learned from the unlabeled texts, because the {stage_name(records[-1])} was refused"
        return f"Next: {happened}. More labels help most; the report lists texts to check and label."
    return ""


def to_label_said(results: Mapping[str, Any], output: str) -> str:
    """Which texts should be labeled next, and what to do with them. Empty if none were chosen."""
    if not results.get("to_label"):
        return ""
    file, first = f"{output}/{TO_LABEL}", stage_name(results["rounds"][0]) == ZERO_SHOT
    return (
        f"To label {'first' if first else 'next'}: {file} ({results['to_label']:,} texts). Fill in its column `label`, or use "
        f"`sstext label {file}`. Then go on: sstext train {output} --more {file}"
    )


def _held_out(records: Sequence[Mapping[str, Any]]) -> bool:
    """Whether stages were compared on held-out rows. A final model has none: its teachers are the ones that are compared."""
    return bool(records[0].get("out_of_fold"))


def _at_chance(results: Mapping[str, Any]) -> bool:
    """Whether the chosen stage is not better than guessing: its macro-F1 is at most one standard error above 1/C.

    With any class shares, the macro-F1 of a constant guess is at most 1/C. For a final model, the stage that taught it counts.
    """
    judged = results["chosen"].get("judged", results["chosen"]["round"])
    record = next(record for record in results["rounds"] if record["index"] == judged)
    measured_on = "labeled" if record.get("out_of_fold") else "dev"
    found = (record.get("out_of_fold") or record["metrics"]).get("macro_f1")
    rows, classes = results["rows"].get(measured_on), len(results.get("classes", ()))
    if found is None or not rows or not classes:
        return False
    chance = 1 / classes
    return found <= chance + (chance * (1 - chance) / rows) ** 0.5


def records_table(records: list[Mapping[str, Any]]) -> Table:
    """One line per stage. Columns without any value are left out."""
    table = new_table("Stages")
    cells = {
        "stage": stage_name,
        "pseudo-labels": lambda r: f"{r['admitted']:,}" if r["admitted"] else "",
        "share of corpus": lambda r: f"{r['coverage']:.1%}" if r["admitted"] else "",
        "correct (audit)": lambda r: percent(r["audit_precision"]),
        "mean confidence": lambda r: percent(r.get("estimated_precision")),
        "held-out accuracy": lambda r: percent(r["out_of_fold"]["accuracy"]) if r.get("out_of_fold") else "",
        "dev macro-F1": lambda r: f"{r['metrics']['macro_f1']:.3f}" if r["metrics"] else "",
        "unchanged class": lambda r: percent(r["agreement"]),
        "steps": lambda r: _count(r["steps"]),
        "time": lambda r: duration(r["seconds"]),
    }
    filled = {title: cell for title, cell in cells.items() if any(cell(record) for record in records)}
    for title in filled:  # a title may be broken between its words, but not within one
        longest = max(map(len, title.split()))
        table.add_column(title, justify="left" if title == "stage" else "right", min_width=longest)
    for record in records:
        table.add_row(*(cell(record) for cell in filled.values()))
    return table


def show_forecast(forecast: Forecast) -> None:
    """The result of `--dry-run`: the data, and the stages of the plan."""
    console, plan = new_console(), forecast.plan
    table = new_table("Plan (nothing was trained, nothing is left on disk)", show_header=False)
    for name, count in forecast.rows.items():
        table.add_row(name if name == "descriptions" else f"{name} rows", f"{count:,}")
    table.add_row("classes", f"{len(forecast.classes)}: {listed(forecast.classes)}")
    table.add_row("max length", f"{forecast.max_length} tokens")
    if forecast.prefix:
        table.add_row("prefix", repr(forecast.prefix))
    table.add_row("device", f"{forecast.device}, {forecast.precision}")
    table.add_row("method", forecast.method)
    if plan.folds:
        table.add_row("chains", f"{plan.folds}, each without one fold of the labels")
    over = "; even the shortest plan takes longer than the budget" if forecast.over_budget else ""
    table.add_row("estimated time", f"about {duration(plan.seconds or 0)}{over}")
    if plan.left_out:
        table.add_row("left out", ", ".join(plan.left_out))
    console.print(table)
    console.print(stages_table(plan))


def stages_table(plan: Plan) -> Table:
    """One line per stage of a plan."""
    given = "descriptions of the classes" if plan.zero_shot else "the labeled rows"
    table = new_table(f"Stages (each learns from {given}, some also from pseudo-labels)")
    for title in ("stage", "pseudo-labels by", "selects"):
        table.add_column(title, overflow="fold")
    for title in ("steps", "trainings"):
        table.add_column(title, justify="right")
    for stage in (*plan.stages, plan.final):
        if stage is not None:
            steps, trainings = _count(plan.steps(stage)), str(plan.trainings(stage))
            table.add_row(stage.name, _labeled_by(plan, stage), _selects(stage), steps, trainings)
    return table


def _labeled_by(plan: Plan, stage: Stage) -> str:
    """The teachers of a stage, and what of them predicts if it is not the head alone. Empty without pseudo-labels."""
    by = plan.labeled_by(stage)
    if by is None or stage.name == FINAL:
        return by or ""
    return f"{stage.learns_from}" if by == HEAD else f"{stage.learns_from} ({by})"


def _count(steps: int) -> str:
    """A number of steps. Empty for 0: a regression is fitted without steps."""
    return f"{steps:,}" if steps else ""


def _selects(stage: Stage) -> str:
    if stage.selection is None:
        return ""
    rows = "every row" if stage.selection.quotas == "none" else f"{stage.keep:.0%} of the corpus"
    return f"{rows}, {'hard' if isinstance(stage.selection.target, Hard) else 'soft'} labels"
