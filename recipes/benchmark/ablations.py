"""What each ingredient of `auto` is worth, on validation rows: results/ablation.jsonl → tables of paired differences.

python recipes/benchmark/ablations.py [--write]

Lines of `run.py --profile ablation` are held against its `auto` that is told the same, on the same draw and encoder; those of
the first generation, which was told nothing, against the `auto` of that time. Lines with `against` come from code that was
thrown away (LOG.md says what it did); they are held against the line of that name.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cells import ABLATIONS, PROFILES, RANDOM, draw_in, told_in
from lines import read_lines
from markers import write_between_markers
from table import PAGE
from told import FIRST

from sstext.errors import UserError

RESULTS = Path(__file__).parent / "results" / "ablation.jsonl"
SETS = tuple(PROFILES["ablation"].sets)

#: Set and seed.
Place = tuple[str, int]
Rows = Mapping[Place, Mapping[str, Any]]
#: The line that others are held against, and what else tells its table from others.
Reference = tuple[str, str]


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences over places and its standard error; None where there are fewer than two.

    >>> Difference.of([1.0, 3.0])
    Difference(mean=2.0, error=1.0)
    """

    mean: float
    error: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Difference | None":
        """None without a value."""
        if not values:
            return None
        error = float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else None
        return cls(float(np.mean(values)), error)

    def said(self, digits: int, unit: float = 1.0) -> str:
        """`+1.0 ± 0.5`.

        >>> Difference(.01, .005).said(1, unit=100)
        '+1.0 ± 0.5'
        """
        error = "" if self.error is None else f" ± {unit * self.error:.{digits}f}"
        return f"{unit * self.mean:+.{digits}f}{error}"


def grouped(results: Mapping[str, Mapping[str, Any]]) -> dict[Reference, dict[str, dict[Place, Mapping[str, Any]]]]:
    """What is compared with → method → place → result.

    Raises:
        UserError: rows other than validation rows, by which alone `auto` may be chosen.
    """
    groups: dict[Reference, dict[str, dict[Place, Mapping[str, Any]]]] = {}
    for row in results.values():
        if row["settings"]["on"] != "validation":
            raise UserError(f"expected results on validation rows, found {row['settings']['on']}: {row['method']}")
        if "error" not in row:
            methods = groups.setdefault((row.get("against", "auto"), conditions(row["settings"])), {})
            methods.setdefault(row["method"], {})[row["set"], row["seed"]] = row
    return groups


def conditions(settings: Mapping[str, Any]) -> str:
    """What two lines must have in common to be compared, in words; empty for the first generation.

    >>> conditions({"told": "names", "draw": "random", "run": {"encoder": "demo"}})
    ', told names, random draw'
    """
    encoder = settings["run"].get("encoder", "demo")
    parts = [
        f"told {told_in(settings)}" if told_in(settings) != FIRST else "",
        "random draw" if draw_in(settings) == RANDOM else "",
        f"encoder {encoder}" if encoder != "demo" else "",
    ]
    return "".join(f", {part}" for part in parts if part)


def paired(rows: Rows, reference: Rows, figure: str) -> dict[Place, float]:
    """Place → figure − that of the reference, where both are known."""
    return {
        place: row[figure] - reference[place][figure]
        for place, row in rows.items()
        if place in reference and row.get(figure) is not None and reference[place].get(figure) is not None
    }


def ablation_table(against: str, methods: Mapping[str, Rows], said: str = "") -> str:
    """A Markdown table: the reference's accuracy, then what every other method differs from it by, best first.

    Args:
        said: added to the name of the reference, see `conditions`.

    Raises:
        UserError: no result of the reference.
    """
    if against not in methods:
        raise UserError(f"expected results of {against!r}, found {sorted(methods)}")
    reference = methods[against]
    lines = [
        f"| {' | '.join([against + said, *SETS, 'accuracy', 'log-loss', 'calibration', 'cells'])} |",
        "|---|" + "---:|" * (len(SETS) + 4),
        f"| | {' | '.join(_mean(reference, name) for name in SETS)} | | | | {len(reference)} |",
    ]
    for _, line in sorted(_line(name, rows, reference) for name, rows in methods.items() if name != against):
        lines.append(line)
    return "\n".join(lines)


def _mean(rows: Rows, name: str) -> str:
    found = [row["accuracy"] for (of, _), row in rows.items() if of == name]
    return f"{np.mean(found):.1%}" if found else ""


def _line(method: str, rows: Rows, reference: Rows) -> tuple[float, str]:
    gains, losses, errors = (paired(rows, reference, name) for name in ("accuracy", "nll", "calibration_error_excess"))
    by_set = [Difference.of([gain for (of, _), gain in gains.items() if of == name]) for name in SETS]
    whole, log_loss, calibration = (Difference.of(list(found.values())) for found in (gains, losses, errors))
    shown = ["" if one is None else f"{100 * one.mean:+.1f}" for one in by_set]
    shown += ["" if whole is None else whole.said(1, 100)]
    shown += ["" if one is None else one.said(3) for one in (log_loss, calibration)]
    said = method.removeprefix("auto, ") if method in ABLATIONS else method
    return -whole.mean if whole else np.inf, f"| {said} | {' | '.join(shown)} | {len(gains)} |"


def report(results: Mapping[str, Mapping[str, Any]]) -> str:
    """All tables, the package's own first, the second generation before the first."""
    groups = grouped(results)
    order = sorted(groups, key=lambda reference: (reference[0] != "auto", not reference[1]))
    return "\n\n".join(ablation_table(name, groups[name, said], said) for name, said in order)


def main(arguments: Sequence[str]) -> int:
    """Print the tables, or write them into RESULTS.md; 2 for input that can be mended."""
    try:
        said = report(read_lines(RESULTS))
        if "--write" in arguments:
            write_between_markers(PAGE, "ablation", said)
        else:
            print(said)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
