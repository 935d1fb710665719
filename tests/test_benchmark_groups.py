"""recipes/benchmark/groups.py: lines of two generations, draws, encoders and what is told never mix in a table."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent.parent / "recipes" / "benchmark"))  # scripts, not a package
cells, groups, lines, table = (import_module(name) for name in ("cells", "groups", "lines", "table"))
GENERATION2 = cells.PROFILES["generation2"]


def result(method: str, accuracy: float, seed: int = 0, told: str = "none", **axes: str) -> dict[str, Any]:
    """A hand-made line of the profile generation2, on ag_news.

    Args:
        axes: draw or encoder, where it is another than usual.
    """
    draw, encoder = axes.get("draw", "balanced"), axes.get("encoder", "demo")
    (cell,) = cells.plan(
        GENERATION2, methods=[method], sets=["ag_news"], seeds=[seed], told=[told], draws=[draw], encoder=encoder
    )
    measured = {"macro_f1": 0.4, "nll": 1.5, "calibration_error_excess": 0.02, "kept_share": None, "rounds": []}
    machine = {"device": "cpu", "name": "x86_64", "threads": 1, "precision": "fp32"}
    return {
        "set": "ag_news", "n": 10, "seed": seed, "method": method, "settings": cell.settings, "profile": "generation2",
        "accuracy": accuracy, "seconds": 10.0, "commit": "abc", "machine": machine, "versions": {"torch": "2"}, **measured,
    }  # fmt: skip


def keyed(*rows: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {lines.key_of(row): row for row in rows}


def test_harm_is_held_against_the_regression_that_is_told_the_same() -> None:
    """`auto` with names .70 .70: supervised .60 .72 (one of two cells harms), the regression with names .72 .705 (one), the
    one without .90, which is no measure for it; `auto` without names .89 .70 harms in no cell of that one but in one of two of
    supervised."""
    accuracies = {
        ("supervised", "none"): (0.6, 0.72), ("auto", "names"): (0.7, 0.7), ("auto", "none"): (0.89, 0.7),
        (cells.FROZEN, "names"): (0.72, 0.705), (cells.FROZEN, "none"): (0.9, 0.5),
    }  # fmt: skip
    rows = [result(method, both[seed], seed, told) for (method, told), both in accuracies.items() for seed in (0, 1)]
    said = table.report(GENERATION2, keyed(*rows)).splitlines()
    found = {tuple(line.split(" | ")[:2]): line.split(" | ") for line in said if line.startswith("| ")}
    assert found["| method", "told"][4:6] == ["harm", "harm, frozen"]
    assert found["| auto", "names"][4:6] == ["50%", "50%"]
    assert found["| auto", "none"][4:6] == ["50%", "0%"]
    assert found["| supervised", ""][4:6] == ["", "50%"], "it is told nothing, and held against what is told nothing"
    assert found[f"| {cells.FROZEN}", "names"][5] == ""
    assert "Told names:" in said


def test_the_intervals_of_estimated_accuracies_are_counted() -> None:
    """Guards a promise of coverage that nobody checks: [.6, .8] holds .7, not .5; the estimates are off by 0 and .2. A line
    without an estimate does not count."""
    estimate = {"value": 0.7, "low": 0.6, "high": 0.8, "level": 0.9}
    rows = [
        result("auto", accuracy, seed, "names") | {"accuracy_estimate": estimate}
        for seed, accuracy in ((0, 0.7), (1, 0.5))
    ]
    said = table.report(GENERATION2, keyed(*rows, result("auto", 0.9, 2, "names") | {"accuracy_estimate": None}))
    assert "Its 90% interval holds the accuracy on the measured rows in 1 of 2 cells." in said
    assert "On average, the estimate is +10.0 points from it." in said
    assert "estimates its accuracy" not in table.report(GENERATION2, keyed(result("auto", 0.9, 2, "names")))


def test_generations_draws_and_encoders_have_tables_of_their_own() -> None:
    """A mean over two encoders, or over `auto` then and now, is a figure of nothing."""
    rows = [
        result("auto", 0.5, encoder="multilingual-e5-small"),
        result("auto", 0.6, draw="random"),
        result("auto", 0.7),
        result("auto", 0.8, told=cells.FIRST),
    ]
    said = table.report(GENERATION2, keyed(*rows))
    headings = [line.split("*, ")[1] for line in said.splitlines() if line.startswith("###")]
    assert headings == [
        "balanced labels, encoder `demo`",
        "balanced labels, encoder `multilingual-e5-small`",
        "random labels, encoder `demo`",
        "first generation",
    ]
    assert said.count("Where the draw misses a class") == 1
    assert [line.split(" | ")[2] for line in said.splitlines() if line.startswith("| auto | none")] == [
        "70.0%",
        "50.0%",
        "60.0%",
    ]
    names = [group.file_name for group in groups.groups(GENERATION2, keyed(*rows))]
    assert names == ["-balanced", "-balanced-multilingual-e5-small", "-random", ""]


def test_what_nobody_ran_is_not_planned_for_the_sake_of_the_baseline() -> None:
    """Supervised is told nothing; that does not make `auto` without names a missing cell of a profile that has names."""
    quick = cells.PROFILES["quick"]
    (cell,) = cells.plan(quick, methods=["supervised"], sets=["ag_news"], seeds=[0])
    row = result("supervised", 0.5) | {"settings": cell.settings}
    (group,) = groups.groups(quick, keyed(row))
    assert {cell.told for cell in group.cells if cell.method == "auto"} == {"names"}
    assert group.strangers == 0
