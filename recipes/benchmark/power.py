"""How often the rule of `sstext.model_selection` refuses a round, by its true gain and the number of labeled rows.

python recipes/benchmark/power.py [--write]

Simulated: the paired differences of the rows' log-losses are drawn from a normal distribution around the true gain, with the
spread that rows showed in the benchmark (LOG.md).
"""

import sys
from collections.abc import Sequence

import numpy as np
from table import README, write_between_markers

from sstext.model_selection import EXPECTED_GAIN, GAIN_SPREAD, expected_gain

ROWS, GAINS, SPREAD, DRAWS = (20, 40, 200), (-0.5, -0.2, -0.1, 0.0, 0.1, 0.2), 0.8, 4_000


def refused(rows: int, gain: float, *, seed: int = 0) -> float:
    """Share of draws in which a round that truly gains `gain` nats is refused.

    >>> refused(200, -.5) > .99, refused(200, .2) < .01
    (True, True)
    """
    draws = np.random.default_rng(seed).normal(gain, SPREAD, size=(DRAWS, rows))
    return float(np.mean([expected_gain(np.zeros(rows), -one).expected < 0 for one in draws]))


def power_table() -> str:
    """The shares as a Markdown table."""
    lines = [
        f"Expected beforehand: {EXPECTED_GAIN:+.2f} ± {GAIN_SPREAD:.2f} nats; rows spread by {SPREAD}; {DRAWS:,} draws.",
        "",
        f"| labeled rows | {' | '.join(f'{gain:+.1f} nats' for gain in GAINS)} |",
        "|---|" + "---:|" * len(GAINS),
        *(f"| {rows} | {' | '.join(f'{refused(rows, gain):.0%}' for gain in GAINS)} |" for rows in ROWS),
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> None:
    """Print the table, or write it into recipes/README.md."""
    if "--write" in arguments:
        write_between_markers(README, "power", power_table())
    else:
        print(power_table())


if __name__ == "__main__":
    main(sys.argv[1:])
