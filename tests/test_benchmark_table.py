"""recipes/benchmark/table.py: what the table says of lines made by hand."""

import doctest
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sstext.errors import UserError

sys.path.append(str(Path(__file__).parent.parent / "recipes" / "benchmark"))  # scripts, not a package
cells, groups, lines, summaries, table = (
    import_module(name) for name in ("cells", "groups", "lines", "summaries", "table")
)
FIRST = [cells.FIRST]


def result(method: str, accuracy: float | None, place: tuple[str, int] = ("ag_news", 0), **more: Any) -> dict[str, Any]:
    """A hand-made line of the profile glance, first generation; accuracy None: a failure."""
    name, seed = place
    (cell,) = cells.plan(cells.PROFILES["glance"], methods=[method], sets=[name], seeds=[seed], told=FIRST)
    row = {"set": name, "n": 10, "seed": seed, "method": method, "settings": cell.settings, "commit": "abc"}
    if accuracy is None:
        return row | {"error": "ValueError: why", "seconds": 1.0}
    machine = {"device": "cpu", "name": "x86_64", "threads": 1, "precision": "fp32"}
    measured = {"accuracy": accuracy, "seconds": 10.0, "kept_share": None, "rounds": [{"coverage": 0.0}]}
    measured |= {"macro_f1": 0.4, "nll": 1.5, "calibration_error_excess": 0.02}
    return row | measured | {"machine": machine, "versions": {"torch": "2"}, "profile": "glance"} | more


PLACES = [("ag_news", 0), ("ag_news", 1), ("support_tickets", 0), ("support_tickets", 1)]


def glance_results() -> dict[str, dict[str, Any]]:
    """Supervised .70 .60 .50 .40; FixMatch +.02 −.01 −.03 and a failure; all labels +.10 everywhere."""
    rows = []
    for place, low, gain in zip(PLACES, (0.7, 0.6, 0.5, 0.4), (0.02, -0.01, -0.03, None), strict=True):
        rows.append(result("supervised", low, place))
        rows.append(result("fixmatch", None if gain is None else low + gain, place, kept_share=0.25))
        rows.append(result(cells.ALL_LABELS, low + 0.1, place))
    return {lines.key_of(row): row for row in rows}


def test_a_method_over_its_cells() -> None:
    """Differences .02, −.01, −.03: mean −.02/3; one of three is more than a point below; gap closed −.02/.3.

    The fourth cell failed: its supervised .40 plays no part (unpaired means would say +.057 here).
    """
    planned = cells.plan(cells.PROFILES["glance"], told=FIRST)
    found = summaries.summarize("fixmatch", planned, glance_results())
    mean, low, high = found.difference
    assert mean == pytest.approx(-0.02 / 3)
    assert (low, high) == (pytest.approx(-0.03), pytest.approx(0.02)), "3 of 27 resamples are one cell three times"
    assert found.harm == pytest.approx(1 / 3), "a point below is no harm yet"
    assert found.gap_closed == pytest.approx(-0.02 / 0.3)
    assert found.accuracy == {("ag_news", 10): pytest.approx(0.655), ("support_tickets", 10): pytest.approx(0.47)}
    assert (found.kept, found.seconds) == (0.25, 10.0)
    assert (found.done, found.failed, found.planned) == (3, 1, 4)


def test_the_marks() -> None:
    """Supervised differs from itself by nothing, and all labels close the gap."""
    planned, results = cells.plan(cells.PROFILES["glance"], told=FIRST), glance_results()
    supervised = summaries.summarize("supervised", planned, results)
    assert (supervised.difference, supervised.harm, supervised.gap_closed) == (None, None, 0)
    ceiling = summaries.summarize(cells.ALL_LABELS, planned, results)
    assert ceiling.gap_closed == pytest.approx(1)
    assert ceiling.difference == pytest.approx((0.1, np.nan, np.nan), nan_ok=True), "equal differences show no spread"


def test_kept_share_of_rounds_is_their_coverage() -> None:
    rounds = [{"coverage": 0.0}, {"coverage": 0.3}, {"coverage": 0.7}]
    row = result("class-balanced", 0.5, rounds=rounds)
    planned = cells.plan(cells.PROFILES["glance"], told=FIRST)
    assert summaries.summarize("class-balanced", planned, {lines.key_of(row): row}).kept == 0.7


def test_the_report_hides_nothing() -> None:
    """Failures stand below the table with their error, missing cells are counted, other settings are left out and said."""
    results = glance_results()
    stranger = result("supervised", 0.99)
    stranger["settings"] = stranger["settings"] | {"pool": 5}
    said = table.report(cells.PROFILES["glance"], results | {lines.key_of(stranger): stranger})
    rows = [line for line in said.splitlines() if line.startswith("| ")]
    figures = (
        "difference | harm | harm, frozen | gap closed | kept | macro-F1 | log-loss | calibration | seconds | cells"
    )
    assert rows[0] == f"| method | ag_news | support_tickets | {figures} |"
    assert rows[1].startswith(
        f"| {cells.ALL_LABELS} | 75.0% | 55.0% | +10.0 [unknown] | 0% |  | 100% |  | 40.0% | 1.50 | 0.020 | 10 | 4 of 4 |"
    )
    assert rows[2] == "| supervised | 65.0% | 45.0% |  |  |  | 0% |  | 40.0% | 1.50 | 0.020 | 10 | 4 of 4 |"
    low = "-0.7 [-3.0, +2.0] | 33% |  | -7% | 25% | 40.0% | 1.50 | 0.020 | 10 | 3 of 4, 1 failed |"
    assert rows[3] == f"| fixmatch | 65.5% | 47.0% | {low}"
    assert len(rows) == 4
    assert "- support_tickets, n = 10, seed 1, fixmatch: ValueError: why" in said
    assert f"Not run yet, {4 * (len(cells.PROFILES['glance'].methods) - 3)} cells: " in said
    assert "class-balanced 4" in said
    assert "Left out: 1 results with other settings" in said
    assert "Measured on cpu (x86_64, 1 threads, fp32), commit abc; torch 2." in said


def test_results_on_two_kinds_of_rows_make_no_table() -> None:
    """Validation rows choose settings; a mean with test rows would be neither."""
    results, other = glance_results(), result("supervised", 0.9)
    other["settings"] = other["settings"] | {"on": "validation"}
    with pytest.raises(UserError, match="results on one kind of rows, found 2"):
        table.report(cells.PROFILES["glance"], results | {lines.key_of(other): other})


def test_written_between_the_markers(tmp_path: Path) -> None:
    """Only what lies between is replaced, every time anew, backslashes as they are."""
    page = tmp_path / "README.md"
    page.write_text("above\n<!-- glance -->\nold\n<!-- /glance -->\nbelow\n", encoding="utf-8")
    for content in ("one", "two \\1"):
        table.write_between_markers(page, "glance", content)
        assert page.read_text("utf-8") == f"above\n<!-- glance -->\n{content}\n<!-- /glance -->\nbelow\n"
    with pytest.raises(UserError, match="expected the lines <!-- quick -->"):
        table.write_between_markers(page, "quick", "three")


def test_the_page_of_results_has_a_place_for_the_table() -> None:
    page = table.PAGE.read_text(encoding="utf-8")
    assert page.count("<!-- glance -->") == page.count("<!-- /glance -->") == 1


def test_the_example_in_a_docstring() -> None:
    found = doctest.testmod(summaries)
    assert found.attempted
    assert not found.failed


def test_auto_is_held_against_the_best_peer_on_the_same_cells() -> None:
    """Best on average: SetFit .74, the regression .70 (better on one cell); auto .80 .60 | .90 is +6, −4 | +20 points of it.
    A peer that lacks most cells is no measure; without any peer, nothing is said."""
    profile = cells.Profile("p", {"a": (10,), "b": (10,)}, 1, 1, (0, 1), None, ("auto", *cells.PEERS))
    planned = cells.plan(profile)
    accuracy = {"auto": (0.8, 0.6, 0.9), "SetFit": (0.74, 0.64, 0.7), "logistic regression (frozen)": (0.6, 0.5, 0.9)}
    results = {}
    for cell in planned:
        place = (
            [("a", 0), ("a", 1), ("b", 0)].index((cell.set, cell.seed)) if (cell.set, cell.seed) != ("b", 1) else None
        )
        if place is not None and cell.method in accuracy:
            results[cell.key] = {"accuracy": accuracy[cell.method][place]}
        elif place == 0:
            results[cell.key] = {"accuracy": 1.0}  # LabelSpreading and the other one: a cell only
    said = table.against_peers(planned, results)[0]
    assert said.startswith("*auto* − *SetFit*, the best peer on these 3 cells, points: all +7.3 [")
    assert "a +1.0 [-4.0, +6.0]" in said
    assert "b +20.0 [unknown]" in said
    assert table.against_peers(planned, {}) == []


def quick_results(ahead: float, gap: float, calibration: float) -> dict[str, dict[str, Any]]:
    """Profile quick by hand: supervised .50, the others .55, `auto` so far ahead of them, all labels `gap` above supervised.

    `auto` differs by .1 points between seeds: equal differences have no interval.
    """
    rows = []
    for cell in cells.plan(cells.PROFILES["quick"], told=FIRST):
        accuracy = {"supervised": 0.5, "auto": 0.55 + ahead + (cell.seed - 1) / 1000, cells.ALL_LABELS: 0.5 + gap}.get(
            cell.method, 0.55
        )
        row = result("supervised", accuracy) | {"profile": "quick", "method": cell.method, "settings": cell.settings}
        rows.append(row | {"set": cell.set, "seed": cell.seed, "calibration_error_excess": calibration})
    return {lines.key_of(row): row for row in rows}


@pytest.mark.parametrize(
    ("ahead", "gap", "calibration", "met"),
    [
        (0.04, 0.18, 0.03, [True, True, True, True, True]),
        (0.02, 0.15, 0.03, [False, True, True, False, True]),  # .07 of .15 closed
        (-0.01, 0.05, 0.031, [False, False, True, True, False]),
        (-0.07, 0.2, 0.0, [False, False, False, False, True]),  # two points below supervised, everywhere
    ],
)
def test_targets_are_said_to_be_met_only_where_they_are(
    ahead: float, gap: float, calibration: float, met: list[bool]
) -> None:
    planned = cells.plan(cells.PROFILES["quick"], told=FIRST)
    said = table.targets(planned, quick_results(ahead, gap, calibration))[2:-1]
    assert [line.endswith("| met |") for line in said] == met
    assert all(line.endswith(("| met |", "| **missed** |")) for line in said)


def test_a_target_is_met_only_where_the_interval_says_so() -> None:
    """39 points ahead in one cell of twelve, level in all others: the mean is 3.25, and resamples without that cell are 0."""
    planned, results = cells.plan(cells.PROFILES["quick"], told=FIRST), quick_results(0.0, 0.4, 0.0)
    for row in results.values():
        if row["method"] == "auto":
            row["accuracy"] += 0.39 if (row["set"], row["seed"]) == ("sst2", 0) else 0.0
    said = table.targets(planned, results)[2]
    assert "+3.2 [-0.0, +9.7] over" in said
    assert said.endswith("| **missed** |"), "one cell in twelve is no proof"


@pytest.mark.parametrize("method", ["auto", "supervised", "self-training", "SetFit", cells.ALL_LABELS])
def test_targets_wait_for_all_cells(method: str) -> None:
    """Half a table would be cherry-picked: where the strongest peer lacks a cell, a weaker one would be the best."""
    planned, results = cells.plan(cells.PROFILES["quick"], told=FIRST), quick_results(0.04, 0.18, 0.0)
    assert table.targets(planned, results)
    del results[next(key for key, row in results.items() if row["method"] == method)]
    assert table.targets(planned, results) == []


def test_targets_wait_for_all_figures() -> None:
    """A line without its calibration error is not calibrated perfectly."""
    planned, results = cells.plan(cells.PROFILES["quick"], told=FIRST), quick_results(0.04, 0.18, 0.0)
    for row in results.values():
        del row["calibration_error_excess"]
    assert table.targets(planned, results) == []


def test_a_set_with_several_numbers_of_labels_is_one_set() -> None:
    """Guards an interval of the last number of labels alone: −10 points at 5 a class, +10 at 10, are 0."""
    profile = cells.Profile("p", {"a": (5, 10)}, 1, 1, (0, 1), None, ("auto", "SetFit"))
    planned = cells.plan(profile)
    results = {
        cell.key: {"accuracy": 0.5 + (cell.method == "auto") * (-0.1 if cell.n == 5 else 0.1)} for cell in planned
    }
    assert "a -0.0 [-10.0, +10.0]." in table.against_peers(planned, results)[0].replace("+0.0", "-0.0")


def test_peers_are_compared_where_all_of_them_were_measured() -> None:
    """SetFit is far better where it was measured; a peer that has one more cell does not take its place."""
    planned, results = cells.plan(cells.PROFILES["quick"], told=FIRST), quick_results(0.0, 0.3, 0.0)
    key = next(key for key, row in results.items() if row["method"] == "SetFit")
    del results[key]
    for row in results.values():
        row["accuracy"] += 0.1 if row["method"] == "SetFit" else 0.0
    (said, _) = table.against_peers(planned, results)
    assert said.startswith("*auto* − *SetFit*, the best peer on these 11 cells, points: all -10.0 [-10.0, -9.9];")


def test_the_figure_shows_every_method_once_and_says_in_which_order() -> None:
    glance = cells.PROFILES["glance"]
    (group,) = groups.groups(glance, glance_results())
    found = table.drawing(glance, group)
    assert found is not None
    assert found.alone.count(">fixmatch<") == found.alone.count(f">{cells.ALL_LABELS}<") == 1
    assert ">supervised<" not in found.alone, "it differs from itself by nothing"
    assert found.description.endswith(f"methods by their means: {cells.ALL_LABELS}, fixmatch")
    only = {key: row for key, row in glance_results().items() if row["method"] == "supervised"}
    assert table.drawing(glance, *groups.groups(glance, only)) is None


@pytest.mark.parametrize("name", ["glance", "quick", "full"])
def test_the_page_shows_the_files(name: str) -> None:
    """A table that was typed, or left behind by newer lines, would say what nobody measured."""
    results = lines.read_lines(Path(table.__file__).parent / "results" / f"{name}.jsonl")
    assert table.report(cells.PROFILES[name], results) in table.PAGE.read_text(encoding="utf-8")


def test_the_front_page_says_what_was_measured() -> None:
    """README's table in short is that of the second generation: accuracy, log-loss, harm; and the leads over SetFit."""
    results = lines.read_lines(Path(table.__file__).parent / "results" / "generation2.jsonl")
    found = groups.groups(cells.PROFILES["generation2"], results)
    group = next(one for one in found if (one.draw, one.encoder) == ("balanced", "demo"))
    page = (table.PAGE.parents[2] / "README.md").read_text(encoding="utf-8")
    said = [
        ("`sstext`, descriptions of the classes", "auto", "descriptions"),
        ("SetFit, descriptions of the classes", "SetFit", "descriptions"),
        ("`sstext`, names of the classes (default)", "auto", "names"),
        ("SetFit, names of the classes", "SetFit", "names"),
        ("baseline: fine-tuning on the labels alone", "supervised", "names"),
        ("fine-tuning on the true labels of all texts (7 runs)", cells.ALL_LABELS, "names"),
    ]
    for title, method, told in said:
        summary = summaries.summarize(method, cells.as_told(group.cells, told), group.results)
        accuracy = sum(summary.accuracy.values()) / len(summary.accuracy)
        row = next(line for line in page.splitlines() if line.startswith(f"| {title} |"))
        assert row.startswith(f"| {title} | {accuracy:.1%} | {summary.log_loss:.2f} |")
        assert summary.done == (7 if method == cells.ALL_LABELS else 12)
        if method in ("auto", "SetFit"):
            assert row.endswith(f"| {round(12 * summary.harm)} of 12 |")
    for told in ("names", "descriptions"):
        best, gains = summaries.over_best_peer(cells.as_told(group.cells, told), group.results)
        mean, low, high = summaries.mean_with_interval(np.array(list(gains.values())))
        assert best == "SetFit"
        assert f"{100 * mean:.1f} points with {told} (95 % interval {100 * low:.1f} to {100 * high:.1f})" in page
