"""Lines of recipes/benchmark/run.py → a Markdown table, also written into RESULTS.md beside this file.

python recipes/benchmark/table.py recipes/benchmark/results/glance.jsonl [--write]
"""

import argparse
import statistics
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cells import ALL_LABELS, PROFILES, RANDOM, SUPERVISED, TELLABLE, Cell, Profile, as_told
from draws import draws_report
from groups import Group, groups
from lines import read_lines
from markers import write_between_markers
from peers import PEERS
from plot import Drawing, differences_drawing
from summaries import (
    HARM,
    Summary,
    by_name,
    by_set,
    gains_over,
    mean_with_interval,
    over_best_peer,
    summarize,
)
from told import FIRST

from sstext.errors import UserError

PAGE = Path(__file__).parent / "RESULTS.md"
#: The best known of the methods that do harm.
NAIVE = "self-training"
#: What `auto` must come to: points above the best peer, and the least that the interval of any set may reach up to; share of
#: cells with harm; gap closed; calibration error beyond a perfect model's.
TARGETS = {"ahead": 0.03, "by set": -0.005, "harm": 0.02, "gap": 0.5, "calibration": 0.03}


def report(profile: Profile, results: Mapping[str, dict[str, Any]]) -> str:
    """Heading, protocol, table, failures and gaps of a file of results, for every group of them.

    Raises:
        UserError: see `groups`.
    """
    return "\n\n".join(_report(profile, group) for group in groups(profile, results))


def _report(profile: Profile, group: Group) -> str:
    cells, results = group.cells, group.results
    told_to = dict.fromkeys((cell.method, cell.told) for cell in cells)
    rows = {(method, told): summarize(method, as_told(cells, told), results) for method, told in told_to}
    known = [(told, summary) for (_, told), summary in rows.items() if summary.done or summary.failed]
    known.sort(key=lambda row: (not row[1].done, -row[1].difference[0] if row[1].difference else 0.0))
    lines = [_protocol(profile, group), "", *_table(known, cells, first=group.first), ""]
    for told in group.told:
        told_so = as_told(cells, told)
        said = [*against_peers(told_so, results), *estimates(told_so, results), *targets(told_so, results)]
        lines += [f"Told {told}:", "", *said] if said and told != FIRST else said
    lines += _failures(cells, results) + _missing(rows)
    if group.strangers:
        lines += [f"Left out: {group.strangers} results with other settings than the profile's.", ""]
    return "\n".join([*lines, _source([results[cell.key] for cell in cells if cell.key in results])])


def against_peers(cells: Sequence[Cell], results: Mapping[str, dict[str, Any]], method: str = "auto") -> list[str]:
    """A method against the best of its peers on the cells that all of them have, over all of them and set by set."""
    found = over_best_peer(cells, results, method)
    if found is None:
        return []
    best, gains = found
    said = [
        f"all {_interval(list(gains.values()))}",
        *(f"{name} {_interval(some)}" for name, some in by_name(gains).items()),
    ]
    return [f"*{method}* − *{best}*, the best peer on these {len(gains)} cells, points: {'; '.join(said)}.", ""]


def estimates(cells: Sequence[Cell], results: Mapping[str, dict[str, Any]], method: str = "auto") -> list[str]:
    """How well a method estimates its own accuracy without test rows. Empty if no line has an estimate."""
    rows = [results[cell.key] for cell in cells if cell.method == method and cell.key in results]
    known = [(row["accuracy"], row["accuracy_estimate"]) for row in rows if row.get("accuracy_estimate")]
    if not known:
        return []
    held = sum(found["low"] <= accuracy <= found["high"] for accuracy, found in known)
    error = statistics.mean(found["value"] - accuracy for accuracy, found in known)
    return [
        f"*{method}* estimates its accuracy without test rows. Its {known[0][1]['level']:.0%} interval holds the accuracy on "
        f"the measured rows in {held} of {len(known)} cells. On average, the estimate is {100 * error:+.1f} points from it.",
        "",
    ]


def targets(cells: Sequence[Cell], results: Mapping[str, dict[str, Any]]) -> list[str]:
    """Whether `auto` meets what the benchmark was built to show; nothing where a cell of it or of what it is held against is
    missing."""
    needed = [cell for cell in cells if cell.method in ("auto", SUPERVISED, NAIVE, ALL_LABELS, *PEERS)]
    found = over_best_peer(cells, results)
    if found is None or any("accuracy" not in results.get(cell.key, {}) for cell in needed):
        return []
    best, gains = found
    own, naive, peer = (summarize(method, cells, results) for method in ("auto", NAIVE, best))
    harm, gap_closed, calibration = own.harm, own.gap_closed, own.calibration
    if harm is None or gap_closed is None or calibration is None:
        return []
    ahead = mean_with_interval(np.array(list(gains.values())))
    tops = {name: mean_with_interval(np.array(some))[2] for name, some in by_name(gains).items()}
    lines = [
        (
            f"{100 * TARGETS['ahead']:.0f} points above the best peer, interval above 0",
            f"{_interval(list(gains.values()))} over {best}",
            ahead[0] >= TARGETS["ahead"] and ahead[1] > 0,
        ),
        (
            f"on no set an interval that ends below {100 * TARGETS['by set']:.1f} points",
            "ends at " + ", ".join(f"{_end(top)} ({name})" for name, top in tops.items()),
            all(top >= TARGETS["by set"] for top in tops.values()),
        ),
        (
            f"harm in at most {TARGETS['harm']:.0%} of the cells",
            f"{harm:.0%} ({NAIVE} {_percent(naive.harm)})",
            harm <= TARGETS["harm"],
        ),
        (f"gap closed: {TARGETS['gap']:.0%} or more", f"{gap_closed:.0%}", gap_closed >= TARGETS["gap"]),
        (
            f"calibration error at most {TARGETS['calibration']} beyond a perfect model's, mean over the cells",
            f"{calibration:.3f}, log-loss {_number(own.log_loss, 2)} "
            f"({best} {_number(peer.calibration, 3)}, {_number(peer.log_loss, 2)})",
            calibration <= TARGETS["calibration"],
        ),
    ]
    shown = [f"| {target} | {measured} | {'met' if met else '**missed**'} |" for target, measured, met in lines]
    return ["| target for `auto` | measured | |", "|---|---|---|", *shown, ""]


def drawing(profile: Profile, group: Group) -> Drawing | None:
    """What every method differs from supervised by, as a figure; None where no cell has both."""
    told_to = dict.fromkeys((cell.method, cell.told) for cell in group.cells)
    gains = {
        method if told == FIRST or method not in TELLABLE else f"{method}, {told}": gains_over(
            SUPERVISED, method, as_told(group.cells, told), group.results
        )
        for method, told in told_to
    }
    known = sorted(
        (label for label in gains if gains[label]), key=lambda label: -statistics.mean(gains[label].values())
    )
    if not known:
        return None
    return differences_drawing(
        profile.name + group.file_name, {label: by_set(gains[label]) for label in known}, harm=HARM
    )


def _interval(gains: Sequence[float]) -> str:
    return _difference(mean_with_interval(np.array(gains)))


def _end(value: float) -> str:
    return "unknown" if np.isnan(value) else f"{100 * value:+.1f}"


def _difference(found: tuple[float, float, float]) -> str:
    """Mean and interval in points. The interval is unknown if all differences are equal, as that of one cell is.

    >>> _difference((.125, .1, .15)), _difference((.125, float("nan"), float("nan")))
    ('+12.5 [+10.0, +15.0]', '+12.5 [unknown]')
    """
    mean, low, high = (100 * value for value in found)
    return f"{mean:+.1f} [unknown]" if np.isnan(low) else f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"


def _protocol(profile: Profile, group: Group) -> str:
    settings = group.cells[0].settings
    sizes = ", ".join(f"{name} ({'/'.join(map(str, ns))})" for name, ns in profile.sets.items())
    steps = f"{profile.steps} steps a phase" if profile.steps else "sstext's default number of steps"
    given = (
        f"Labeled rows per class: {sizes}; seeds {', '.join(map(str, profile.seeds))}; no development rows; up to "
        f"{profile.pool:,} unlabeled and {profile.test:,} {settings['on']} rows; encoder "
        f"`{group.encoder}`, {steps}. All get the same rows "
        "and the same settings, also across sets. What acts inside a step is judged after one phase, what acts between "
        f"rounds after four; *{ALL_LABELS}* is supervised on labeled rows and pool with all true labels, default steps."
    )
    drawn = (
        "The labeled rows are drawn at random, as many as these rows of all classes together. Where the draw misses a class, "
        "no method knows it: test rows of it count as wrong, and the log-loss is that of the other rows."
    )
    told = (
        "*Told*: what a method knows of the classes beside the labels: nothing, their names as words, or the descriptions in "
        "`recipes/descriptions`. *auto* weighs these texts by its labels; the methods on frozen embeddings read them as "
        "labeled rows; SetFit reads eight rows of each class, names in its own template."
    )
    first = (
        "These cells are of the first generation: no method was told anything of the classes, and *auto* was what it was at "
        "the commit below."
    )
    columns = (
        "*Difference*: accuracy − supervised, points, mean over the cells (set, n, seed) that have both, with a 95 % "
        "bootstrap interval over them. *Harm*: share of these cells more than a point below supervised; *harm, frozen*: more "
        "than a point below the logistic regression on frozen embeddings that is told the same. *Gap closed*: "
        f"Σ(method − supervised)/Σ({ALL_LABELS} − supervised). *Kept*: share of unlabeled rows that counted, in the last "
        "steps or in the last round. *Log-loss*: nats. *Calibration*: expected calibration error (15 bins of equal mass) less "
        "what a perfect model would show. Means are over a method's own cells. *Seconds*: training, by cell."
    )
    heading = f"### Every method against supervised: the profile *{profile.name}*, {group.said}"
    texts = [given, *([drawn] if group.draw == RANDOM else []), first if group.first else told, columns]
    return "\n\n".join([heading, *(textwrap.fill(said, 120, break_on_hyphens=False) for said in texts)])


def _table(rows: Sequence[tuple[str, Summary]], cells: Sequence[Cell], *, first: bool) -> list[str]:
    """The lines of a table.

    Args:
        rows: what a method is told, and what it came to.
        first: whether they are of the first generation; then there is no column *told*.
    """
    measured = {column for _, summary in rows for column in summary.accuracy}
    planned = dict.fromkeys((cell.set, cell.n) for cell in cells)
    columns = [column for column in planned if column in measured]
    names = [name if len({n for other, n in planned if other == name}) == 1 else f"{name}, {n}" for name, n in columns]
    head = [
        "method", *([] if first else ["told"]), *names, "difference", "harm", "harm, frozen", "gap closed", "kept", "macro-F1",
        "log-loss", "calibration", "seconds", "cells",
    ]  # fmt: skip
    texts = 1 if first else 2
    lines = [f"| {' | '.join(head)} |", "|---" * texts + "|" + "---:|" * (len(head) - texts)]
    for told, summary in rows:
        failed = f", {summary.failed} failed" if summary.failed else ""
        shown = [
            summary.method,
            *([] if first else [told if summary.method in TELLABLE else ""]),
            *(_percent(summary.accuracy.get(column), 1) for column in columns),
            _difference(summary.difference) if summary.difference else "",
            *map(_percent, (summary.harm, summary.harm_frozen, summary.gap_closed, summary.kept)),
            _percent(summary.macro_f1, 1),
            _number(summary.log_loss, 2),
            _number(summary.calibration, 3),
            _number(summary.seconds, 0),
            f"{summary.done} of {summary.planned}{failed}",
        ]
        lines.append(f"| {' | '.join(shown)} |")
    return lines


def _percent(share: float | None, digits: int = 0) -> str:
    return "" if share is None else f"{share:.{digits}%}"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _failures(cells: Sequence[Cell], results: Mapping[str, dict[str, Any]]) -> list[str]:
    errors = [(cell, results[cell.key]["error"]) for cell in cells if "error" in results.get(cell.key, {})]
    return ["Failed:", "", *(f"- {cell}: {error}" for cell, error in errors), ""] if errors else []


def _missing(rows: Mapping[tuple[str, str], Summary]) -> list[str]:
    """How many cells of which methods have not been run.

    Args:
        rows: method and what it is told → what it came to.
    """
    missing = dict.fromkeys((method for method, _ in rows), 0)
    for (method, _), summary in rows.items():
        missing[method] += summary.planned - summary.done - summary.failed
    if not any(missing.values()):
        return []
    said = ", ".join(f"{method} {count}" for method, count in missing.items() if count)
    if sum(missing.values()) > 10 * sum(summary.done for summary in rows.values()):
        said = "most of the profile"
    return [f"Not run yet, {sum(missing.values())} cells: {said}.", ""]


def _source(rows: Sequence[Mapping[str, Any]]) -> str:
    """What the figures were measured on: every machine, set of versions and commit that occurs."""
    measured = [row for row in rows if "machine" in row]
    machines = {"{device} ({name}, {threads} threads, {precision})".format(**row["machine"]) for row in measured}
    versions = {", ".join(f"{name} {version}" for name, version in row["versions"].items()) for row in measured}
    commits = {row["commit"] for row in rows}
    return f"Measured on {' / '.join(sorted(machines))}, commit {', '.join(sorted(commits))}; {' / '.join(sorted(versions))}."


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, or write it; 2 for input that can be mended."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("results", type=Path, help="file of recipes/benchmark/run.py")
    options.add_argument("--write", action="store_true", help="write it into recipes/benchmark/RESULTS.md")
    asked = options.parse_args(arguments)
    try:
        results = read_lines(asked.results)
        names = sorted({row["profile"] for row in results.values()})
        if len(names) != 1:
            raise UserError(f"{asked.results}: expected results of one profile, found {names or 'none'}")
        profile = PROFILES[names[0]]
        content = draws_report(profile, results) if profile.compares_draws else report(profile, results)
        if asked.write:
            for group in groups(profile, results) if not profile.compares_draws else ():
                if (figure := drawing(profile, group)) is not None:
                    name = f"{profile.name}{group.file_name}.svg"
                    (asked.results.parent / name).write_text(figure.alone, encoding="utf-8")
                    content += f"\n\n![{figure.description}](results/{name})"
            write_between_markers(PAGE, profile.name, content)
        else:
            print(content)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
