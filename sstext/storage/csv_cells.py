"""The longest cell of csv files."""

import csv

#: Characters of a cell. A longer one means that a quote was never closed.
LONGEST_CELL = 1 << 27


def allow_long_cells() -> None:
    """Let the csv module read texts of any length. It refuses cells of more than 131,072 characters otherwise."""
    csv.field_size_limit(LONGEST_CELL)
