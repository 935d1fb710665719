"""How often the rule of `sstext.selftraining.verdict` refuses a round, by its true gain and the number of labeled rows.

python recipes/benchmark/power.py [--write]

Simulated: the paired differences of the rows' log-losses are drawn from a normal distribution around the true gain, with the
spread that rows showed in the benchmark (LOG.md).
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markers import write_between_markers
from table import PAGE

from sstext.methods.method import PROVEN, UNPROVEN
from sstext.selftraining.verdict import ROUND_SPREAD, expected_gain

ROWS, GAINS, DRAWS = (20, 40, 60, 200), (-0.5, -0.2, -0.1, 0.0, 0.1, 0.2), 4_000


@dataclass(frozen=True)
class Rule:
    """What a round is compared with, the gain that is expected beforehand, and the spread of the rows.

    A round is refused if its expected gain is below `limit`.
    """

    over: str
    mean: float
    spread: float
    rows_spread: float
    limit: float = 0.0


RULES = (
    Rule("the first stage", PROVEN.over_baseline, PROVEN.spread, 0.8),
    Rule(
        "the first stage, a start of `auto` that only teaches",
        PROVEN.over_baseline,
        PROVEN.spread,
        0.8,
        -PROVEN.over_round,
    ),
    Rule("the first stage, methods other than `auto`", UNPROVEN.over_baseline, UNPROVEN.spread, 0.8),
    Rule("the best round before", PROVEN.over_round, ROUND_SPREAD, 0.6),
)


def refused(rule: Rule, rows: int, gain: float, *, seed: int = 0) -> float:
    """Share of draws in which a round that truly gains `gain` nats is refused.

    >>> refused(RULES[0], 200, -.5) > .99, refused(RULES[0], 200, .2) < .01
    (True, True)
    """
    draws = np.random.default_rng(seed).normal(gain, rule.rows_spread, size=(DRAWS, rows))
    return float(
        np.mean([expected_gain(np.zeros(rows), -one, rule.mean, rule.spread).expected < rule.limit for one in draws])
    )


def power_table() -> str:
    """The shares as Markdown tables, one for each rule."""
    return "\n\n".join(_table(rule) for rule in RULES)


def _table(rule: Rule) -> str:
    lines = [
        f"Against {rule.over}: expected beforehand {rule.mean:+.2f} ± {rule.spread:.2f} nats; "
        f"rows spread by {rule.rows_spread}; {DRAWS:,} draws.",
        "",
        f"| labeled rows | {' | '.join(f'{gain:+.1f} nats' for gain in GAINS)} |",
        "|---|" + "---:|" * len(GAINS),
        *(f"| {rows} | {' | '.join(f'{refused(rule, rows, gain):.0%}' for gain in GAINS)} |" for rows in ROWS),
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> None:
    """Print the table, or write it into RESULTS.md."""
    if "--write" in arguments:
        write_between_markers(PAGE, "power", power_table())
    else:
        print(power_table())


if __name__ == "__main__":
    main(sys.argv[1:])
