"""Lines of recipes/benchmark/run.py → a Markdown table, also written into RESULTS.md beside this file.

python recipes/benchmark/table.py recipes/benchmark/results/glance.jsonl [--write]
"""

import argparse
import statistics
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cells import ALL_LABELS, PROFILES, SUPERVISED, Cell, Profile, plan
from lines import read_lines
from markers import write_between_markers
from peers import PEERS
from plot import Drawing, differences_drawing

from sstext.errors import UserError

PAGE = Path(__file__).parent / "RESULTS.md"
#: A cell does harm where its accuracy is further than this below plain supervised fine-tuning.
HARM = 0.01
RESAMPLES = 9_999
#: The best known of the methods that do harm.
NAIVE = "self-training"
#: What `auto` must come to: points above the best peer, and the least that the interval of any set may reach up to; share of
#: cells with harm; gap closed; calibration error beyond a perfect model's.
TARGETS = {"ahead": 0.03, "by set": -0.005, "harm": 0.02, "gap": 0.5, "calibration": 0.03}

#: Where something is measured: set, labeled rows per class, seed.
Place = tuple[str, int, int]


@dataclass(frozen=True)
class Summary:
    """What a method came to; None where nothing says.

    Attributes:
        accuracy: (set, n) → mean over the seeds.
        difference: mean of method − supervised over the places where both are known, and its 95 % interval.
        harm: share of these places that are more than a point below supervised.
        gap_closed: Σ(method − supervised) / Σ(all pool labels − supervised).
        kept: mean share of unlabeled rows that counted at the end.
        macro_f1: mean over the cells.
        log_loss: mean negative log-likelihood of the true class, nats.
        calibration: mean of the expected calibration error, less what a perfect model would show on as many rows.
        done, failed, planned: numbers of cells.
    """

    method: str
    accuracy: dict[tuple[str, int], float]
    difference: tuple[float, float, float] | None
    harm: float | None
    gap_closed: float | None
    kept: float | None
    macro_f1: float | None
    log_loss: float | None
    calibration: float | None
    seconds: float | None
    done: int
    failed: int
    planned: int


def summarize(method: str, cells: Sequence[Cell], results: Mapping[str, dict[str, Any]]) -> Summary:
    """One method over the planned cells.

    Args:
        cells: of all methods.
        results: key of a cell → its result.
    """
    of = {name: _accuracies(name, cells, results) for name in (method, SUPERVISED, ALL_LABELS)}
    own = [cell for cell in cells if cell.method == method]
    done = [results[cell.key] for cell in own if "accuracy" in results.get(cell.key, {})]
    by_set = _by_set(of[method])
    gains = np.array([of[method][place] - of[SUPERVISED][place] for place in of[method] if place in of[SUPERVISED]])
    kept = [share for share in map(_kept, done) if share is not None]
    mean = {
        name: _mean([row[name] for row in done if name in row])
        for name in ("macro_f1", "nll", "calibration_error_excess", "seconds")
    }
    return Summary(
        method=method,
        accuracy={place: statistics.mean(values) for place, values in by_set.items()},
        difference=None if method == SUPERVISED or not len(gains) else mean_with_interval(gains),
        harm=None if method == SUPERVISED or not len(gains) else float(np.mean(gains < -HARM - 1e-9)),
        gap_closed=_gap_closed(of[method], of[SUPERVISED], of[ALL_LABELS]),
        kept=_mean(kept),
        macro_f1=mean["macro_f1"],
        log_loss=mean["nll"],
        calibration=mean["calibration_error_excess"],
        seconds=mean["seconds"],
        done=len(done),
        failed=sum("error" in results.get(cell.key, {}) for cell in own),
        planned=len(own),
    )


def mean_with_interval(gains: np.ndarray, *, seed: int = 0) -> tuple[float, float, float]:
    """Mean of paired differences (K,) and its 95 % bootstrap interval over the K pairs.

    >>> mean_with_interval(np.array([.01, .01]))
    (0.01, 0.01, 0.01)
    """
    drawn = np.random.default_rng(seed).integers(len(gains), size=(RESAMPLES, len(gains)))
    low, high = np.quantile(gains[drawn].mean(1), [0.025, 0.975])
    return float(gains.mean()), float(low), float(high)


def _mean(values: Sequence[float]) -> float | None:
    return statistics.mean(values) if values else None


def _accuracies(method: str, cells: Sequence[Cell], results: Mapping[str, dict[str, Any]]) -> dict[Place, float]:
    return {
        (cell.set, cell.n, cell.seed): results[cell.key]["accuracy"]
        for cell in cells
        if cell.method == method and "accuracy" in results.get(cell.key, {})
    }


def _gap_closed(own: Mapping[Place, float], low: Mapping[Place, float], high: Mapping[Place, float]) -> float | None:
    places = own.keys() & low.keys() & high.keys()
    gap = sum(high[place] - low[place] for place in places)
    return sum(own[place] - low[place] for place in places) / gap if gap > 0 else None


def _kept(row: Mapping[str, Any]) -> float | None:
    """Share of the unlabeled rows that counted: inside a step at the end, else in the last round."""
    if row["kept_share"] is not None or len(row["rounds"]) <= 1:
        return row["kept_share"]
    return row["rounds"][-1]["coverage"]


def report(profile: Profile, results: Mapping[str, dict[str, Any]]) -> str:
    """Heading, protocol, table, failures and gaps of a file of results.

    Raises:
        UserError: no results, or results of several encoders or kinds of rows.
    """
    cells = _planned(profile, results)
    summaries = [summarize(method, cells, results) for method in dict.fromkeys(cell.method for cell in cells)]
    known = [summary for summary in summaries if summary.done or summary.failed]
    known.sort(key=lambda summary: (not summary.done, -summary.difference[0] if summary.difference else 0.0))
    counted = [results[cell.key] for cell in cells if cell.key in results]
    lines = [_protocol(profile, cells[0]), "", *_table(known, cells), "", *against_peers(cells, results)]
    lines += targets(cells, results)
    lines += _failures(cells, results) + _missing(summaries)
    if strangers := len(results) - len(counted):
        lines += [f"Left out: {strangers} results with other settings than the profile's.", ""]
    return "\n".join([*lines, _source(counted)])


def over_best_peer(
    cells: Sequence[Cell], results: Mapping[str, dict[str, Any]], method: str = "auto"
) -> tuple[str, dict[Place, float]] | None:
    """The best peer, and what a method differs from it by, on the places that all have: the method, and its peers.

    A peer that lacks half of the method's places, or more, is left out; of the others the best one has the highest mean
    accuracy. None where no peer is left.
    """
    own = _accuracies(method, cells, results)
    every = {name: _accuracies(name, cells, results) for name in PEERS}
    peers = {name: found for name, found in every.items() if 2 * len(own.keys() & found.keys()) > len(own)}
    common = [place for place in own if all(place in found for found in peers.values())]
    if not peers or not common:
        return None
    best = max(peers, key=lambda name: statistics.mean(peers[name][place] for place in common))
    return best, {place: own[place] - peers[best][place] for place in common}


def _by_set(values: Mapping[Place, float]) -> dict[tuple[str, int], list[float]]:
    """(Set, n) → values of its seeds."""
    found: dict[tuple[str, int], list[float]] = {}
    for (name, n, _), value in values.items():
        found.setdefault((name, n), []).append(value)
    return found


def _by_name(values: Mapping[Place, float]) -> dict[str, list[float]]:
    """Set → values of all its cells."""
    found: dict[str, list[float]] = {}
    for (name, _, _), value in values.items():
        found.setdefault(name, []).append(value)
    return found


def against_peers(cells: Sequence[Cell], results: Mapping[str, dict[str, Any]], method: str = "auto") -> list[str]:
    """A method against the best of its peers on the cells that all of them have, over all of them and set by set."""
    found = over_best_peer(cells, results, method)
    if found is None:
        return []
    best, gains = found
    said = [
        f"all {_interval(list(gains.values()))}",
        *(f"{name} {_interval(some)}" for name, some in _by_name(gains).items()),
    ]
    return [f"*{method}* − *{best}*, the best peer on these {len(gains)} cells, points: {'; '.join(said)}.", ""]


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
    tops = {name: mean_with_interval(np.array(some))[2] for name, some in _by_name(gains).items()}
    lines = [
        (
            f"{100 * TARGETS['ahead']:.0f} points above the best peer, interval above 0",
            f"{_interval(list(gains.values()))} over {best}",
            ahead[0] >= TARGETS["ahead"] and ahead[1] > 0,
        ),
        (
            f"on no set an interval that ends below {100 * TARGETS['by set']:.1f} points",
            "ends at " + ", ".join(f"{100 * top:+.1f} ({name})" for name, top in tops.items()),
            min(tops.values()) >= TARGETS["by set"],
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


def drawing(profile: Profile, results: Mapping[str, dict[str, Any]]) -> Drawing | None:
    """What every method differs from supervised by, as a figure; None where no cell has both. Arguments: see `report`."""
    cells = _planned(profile, results)
    low = _accuracies(SUPERVISED, cells, results)
    gains = {
        method: {
            place: accuracy - low[place]
            for place, accuracy in _accuracies(method, cells, results).items()
            if place in low
        }
        for method in dict.fromkeys(cell.method for cell in cells if cell.method != SUPERVISED)
    }
    known = sorted(
        (method for method in gains if gains[method]), key=lambda method: -statistics.mean(gains[method].values())
    )
    return (
        differences_drawing(profile.name, {method: _by_set(gains[method]) for method in known}, harm=HARM)
        if known
        else None
    )


def _planned(profile: Profile, results: Mapping[str, dict[str, Any]]) -> list[Cell]:
    """The cells of a profile, with the encoder and on the kind of rows that the results are of.

    Raises:
        UserError: no results, or results of several encoders or kinds of rows.
    """
    kinds = {(row["settings"]["run"]["encoder"], row["settings"]["on"]) for row in results.values()}
    if len(kinds) != 1:
        raise UserError(f"expected results of one encoder on one kind of rows, found {len(kinds)}: {sorted(kinds)}")
    encoder, on = kinds.pop()
    return plan(profile, encoder=encoder, on=on)


def _interval(gains: Sequence[float]) -> str:
    return "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * value for value in mean_with_interval(np.array(gains))))


def _protocol(profile: Profile, cell: Cell) -> str:
    sizes = ", ".join(f"{name} ({'/'.join(map(str, ns))})" for name, ns in profile.sets.items())
    steps = f"{profile.steps} steps a phase" if profile.steps else "sstext's default number of steps"
    given = (
        f"Labeled rows per class: {sizes}; seeds {', '.join(map(str, profile.seeds))}; no development rows; up to "
        f"{profile.pool:,} unlabeled and {profile.test:,} {cell.settings['on']} rows; encoder "
        f"`{cell.settings['run']['encoder']}`, {steps}. All get the same rows "
        "and the same settings, also across sets. What acts inside a step is judged after one phase, what acts between "
        f"rounds after four; *{ALL_LABELS}* is supervised on labeled rows and pool with all true labels, default steps."
    )
    columns = (
        "*Difference*: accuracy − supervised, points, mean over the cells (set, n, seed) that have both, with a 95 % "
        "bootstrap interval over them. *Harm*: share of these cells more than a point below supervised. *Gap closed*: "
        f"Σ(method − supervised)/Σ({ALL_LABELS} − supervised). *Kept*: share of unlabeled rows that counted, in the last "
        "steps or in the last round. *Log-loss*: nats. *Calibration*: expected calibration error (15 bins of equal mass) less "
        "what a perfect model would show. Means are over a method's own cells. *Seconds*: training, by cell."
    )
    heading = f"### Every method against supervised: the profile *{profile.name}*"
    return "\n\n".join([heading, *(textwrap.fill(said, 120, break_on_hyphens=False) for said in (given, columns))])


def _table(summaries: Sequence[Summary], cells: Sequence[Cell]) -> list[str]:
    measured = {column for summary in summaries for column in summary.accuracy}
    planned = dict.fromkeys((cell.set, cell.n) for cell in cells)
    columns = [column for column in planned if column in measured]
    names = [name if len({n for other, n in planned if other == name}) == 1 else f"{name}, {n}" for name, n in columns]
    head = [
        "method",
        *names,
        "difference",
        "harm",
        "gap closed",
        "kept",
        "macro-F1",
        "log-loss",
        "calibration",
        "seconds",
        "cells",
    ]
    lines = [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
    for summary in summaries:
        difference = ""
        if summary.difference:
            difference = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * value for value in summary.difference))
        failed = f", {summary.failed} failed" if summary.failed else ""
        lines.append(
            f"| {summary.method} | {' | '.join(_percent(summary.accuracy.get(column), 1) for column in columns)} "
            f"| {difference} | {_percent(summary.harm)} | {_percent(summary.gap_closed)} | {_percent(summary.kept)} "
            f"| {_percent(summary.macro_f1, 1)} | {_number(summary.log_loss, 2)} | {_number(summary.calibration, 3)} "
            f"| {_number(summary.seconds, 0)} "
            f"| {summary.done} of {summary.planned}{failed} |"
        )
    return lines


def _percent(share: float | None, digits: int = 0) -> str:
    return "" if share is None else f"{share:.{digits}%}"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _failures(cells: Sequence[Cell], results: Mapping[str, dict[str, Any]]) -> list[str]:
    errors = [(cell, results[cell.key]["error"]) for cell in cells if "error" in results.get(cell.key, {})]
    return ["Failed:", "", *(f"- {cell}: {error}" for cell, error in errors), ""] if errors else []


def _missing(summaries: Sequence[Summary]) -> list[str]:
    missing = {summary.method: summary.planned - summary.done - summary.failed for summary in summaries}
    if not any(missing.values()):
        return []
    said = ", ".join(f"{method} {count}" for method, count in missing.items() if count)
    if sum(missing.values()) > 10 * sum(summary.done for summary in summaries):
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
        content, figure = report(profile, results), drawing(profile, results)
        if asked.write:
            if figure is not None:
                (asked.results.parent / f"{profile.name}.svg").write_text(figure.alone, encoding="utf-8")
                content += f"\n\n![{figure.description}](results/{profile.name}.svg)"
            write_between_markers(PAGE, profile.name, content)
        else:
            print(content)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
