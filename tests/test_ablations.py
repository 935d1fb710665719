"""recipes/benchmark/ablations.py: what its tables say of lines made by hand, and that the page shows those of the file."""

import doctest
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from sstext.errors import UserError

sys.path.append(str(Path(__file__).parent.parent / "recipes" / "benchmark"))  # scripts, not a package
ablations, lines = (import_module(name) for name in ("ablations", "lines"))


def line(
    method: str, accuracy: float, place: tuple[str, int], *, nll: float | None = 1.0, **more: Any
) -> dict[str, Any]:
    """A hand-made line of a validation cell."""
    settings = {"on": "validation", "run": {"against": more.get("against")}}
    return {
        "set": place[0], "n": 10, "seed": place[1], "method": method, "settings": settings,
        "accuracy": accuracy, "nll": nll, **more,
    }  # fmt: skip


def keyed(*rows: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {lines.key_of(row): row for row in rows}


AUTO = [line("auto", 0.8, ("ag_news", 0)), line("auto", 0.6, ("ag_news", 1)), line("auto", 0.5, ("sst2", 0))]


def test_only_places_that_both_have_are_compared() -> None:
    """Unpaired means would give 5 folds +9.7 points here: it has not been run where auto has 50 %."""
    told = [line("auto, 5 folds", 0.82, ("ag_news", 0), nll=0.9), line("auto, 5 folds", 0.64, ("ag_news", 1), nll=0.7)]
    said = ablations.report(keyed(*AUTO, *told)).splitlines()
    assert said[0] == "| auto | ag_news | sst2 | trec6 | support_tickets | accuracy | log-loss | calibration | cells |"
    assert said[2] == "| | 70.0% | 50.0% |  |  | | | | 3 |"
    assert said[3] == "| 5 folds | +3.0 |  |  |  | +3.0 ± 1.0 | -0.200 ± 0.100 |  | 2 |"


def test_what_code_that_is_gone_has_shown_is_held_against_its_own_reference() -> None:
    """Its student is not `auto`: differences to that would mix the change with the code."""
    thrown = [
        line("a student", 0.4, ("trec6", 0), against="a student"),
        line("longer", 0.5, ("trec6", 0), nll=None, against="a student"),
    ]
    said = ablations.report(keyed(*AUTO, *thrown))
    assert "| longer |  |  | +10.0 |  | +10.0 |  |  | 1 |" in said, "one place has no standard error, and no log-loss"
    assert said.index("| auto |") < said.index("| a student |")


def test_the_best_comes_first_and_failures_do_not_count() -> None:
    rows = [
        line("auto, hard labels", 0.7, ("ag_news", 0)),
        line("auto, no folds", 0.79, ("ag_news", 0)),
        {
            "set": "sst2",
            "n": 10,
            "seed": 0,
            "method": "auto, no folds",
            "settings": AUTO[0]["settings"],
            "error": "why",
        },
    ]
    said = ablations.report(keyed(*AUTO, *rows)).splitlines()
    assert [row.split(" | ")[0] for row in said[3:]] == ["| no folds", "| hard labels"]
    assert said[3].endswith("| 1 |")


def test_lines_that_are_told_something_have_a_table_of_their_own() -> None:
    """They would take the places of the first generation's, whose `auto` is another."""
    told = {"told": "names", "draw": "balanced"}
    rows = [line("auto", 0.9, ("ag_news", 0)), line("auto, no folds", 0.85, ("ag_news", 0))]
    rows = [row | {"settings": row["settings"] | told} for row in rows]
    said = ablations.report(keyed(*AUTO, *rows))
    assert said.index("| auto, told names |") < said.index("| auto |")
    assert "| no folds | -5.0 |  |  |  | -5.0 |" in said
    assert "| | 70.0% | 50.0% |" in said, "the first generation is as it was"


def test_test_rows_are_refused() -> None:
    """Choosing by them would make the benchmark's numbers worthless."""
    row = line("auto", 0.8, ("ag_news", 0))
    row["settings"] = row["settings"] | {"on": "test"}
    with pytest.raises(UserError, match="expected results on validation rows, found test: auto"):
        ablations.report(keyed(row))


def test_a_reference_that_is_missing_is_named() -> None:
    with pytest.raises(UserError, match="expected results of 'auto', found"):
        ablations.report(keyed(line("auto, no folds", 0.8, ("ag_news", 0))))


def test_the_page_shows_the_file() -> None:
    """A table that was typed, or left behind by newer lines, would say what nobody measured."""
    page = ablations.PAGE.read_text(encoding="utf-8")
    assert ablations.report(lines.read_lines(ablations.RESULTS)) in page


def test_examples_in_docstrings() -> None:
    assert doctest.testmod(ablations).failed == 0
