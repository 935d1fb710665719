"""A table of draws: what labeled rows are worth that were chosen, against as many random ones, by the same method."""

import statistics
import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
from cells import RANDOM, Profile, draw_in
from summaries import by_name, by_set, mean_with_interval

from sstext.errors import UserError

#: (set, labeled rows per class, seed) → accuracy.
Accuracies = dict[tuple[str, int, int], float]


def draws_report(profile: Profile, results: Mapping[str, dict[str, Any]]) -> str:
    """Protocol, and a table for each method.

    Raises:
        UserError: no results, or results on several kinds of rows.
    """
    kinds = sorted({row["settings"]["on"] for row in results.values()})
    if len(kinds) != 1:
        raise UserError(f"expected results on one kind of rows, found {len(kinds)}: {kinds}")
    methods = dict.fromkeys(row["method"] for row in results.values())
    given = (
        f"As many labeled rows as 5 or 10 for each class, drawn or chosen of these and up to {profile.pool:,} more training "
        f"rows; seeds {', '.join(map(str, profile.seeds))}; measured on up to {profile.test:,} {kinds[0]} rows. *Medoids*: "
        "the rows nearest to the centers of k-means. *Suggested*: as `sstext suggest` chooses them. *Suggested twice*: half "
        "of them so, the others by a regression on the labels of these (frozen embeddings). *Balanced*: the same number of "
        "every class, by an oracle. *Over random*: points of accuracy, mean over (set, n, seed) with a 95 % bootstrap "
        "interval. *Least*: the smallest gain of a set."
    )
    parts = [
        f"### Which texts to label: the profile *{profile.name}*",
        "",
        textwrap.fill(given, 120, break_on_hyphens=False),
    ]
    for method in methods:
        found = {draw: _accuracies(results, method, draw) for draw in profile.draws}
        parts += ["", f"By {method}, accuracy %:", "", *_table({draw: cells for draw, cells in found.items() if cells})]
    return "\n".join(parts)


def _accuracies(results: Mapping[str, dict[str, Any]], method: str, draw: str) -> Accuracies:
    return {
        (row["set"], row["n"], row["seed"]): row["accuracy"]
        for row in results.values()
        if row["method"] == method and draw_in(row["settings"]) == draw and "accuracy" in row
    }


def _table(found: Mapping[str, Accuracies]) -> list[str]:
    """One line per draw, one column per set, with its numbers of labeled rows in one cell."""
    sets = list(dict.fromkeys(name for cells in found.values() for name, _, _ in cells))
    sizes = sorted({n for cells in found.values() for _, n, _ in cells})
    head = ["draw", *(f"{name}, {'/'.join(map(str, sizes))}" for name in sets), "mean", "over random", "least"]
    lines = [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
    for draw, cells in found.items():
        means = {place: statistics.mean(values) for place, values in by_set(cells).items()}
        shown = [" / ".join(_percent(means.get((name, n))) for n in sizes) for name in sets]
        gains = {
            place: value - found[RANDOM][place] for place, value in cells.items() if place in found.get(RANDOM, {})
        }
        over, least = ("", "") if draw == RANDOM or not gains else _said(gains)
        lines.append(f"| {' | '.join([draw, *shown, _percent(statistics.mean(means.values())), over, least])} |")
    return lines


def _said(gains: Accuracies) -> tuple[str, str]:
    """Mean gain with its interval, and the set with the smallest one."""
    mean, low, high = mean_with_interval(np.array(list(gains.values())))
    of_sets = {name: statistics.mean(values) for name, values in by_name(gains).items()}
    worst = min(of_sets, key=lambda name: of_sets[name])
    return f"{100 * mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]", f"{100 * of_sets[worst]:+.1f} ({worst})"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"
