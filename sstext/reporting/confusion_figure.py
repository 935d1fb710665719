"""The confusion matrix as a figure that one can still read at 77 classes."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sstext.reporting.curves import row_shares
from sstext.reporting.svg import HEAT, INK, LINE, MUTED, TITLED
from sstext.reporting.words import columns_of, short_name

#: Up to so many classes every cell says its count.
COUNTED = 12
FAINTEST = 0.15  # of a cell with a single mistake: it must be seen


def confusion_matrix(counts: NDArray[np.int64], classes: Sequence[str]) -> tuple[Figure, list[str]]:
    """A row per true class, a column per predicted one; the darker, the larger the share of the row. Empty cells are bare.

    The figure grows with the classes: their names keep their size.

    Args:
        counts: (C, C).
        classes: C names.

    Returns:
        The figure, and what each of its cells says where the mouse rests on it (see `svg.drawn`).
    """
    C = len(classes)
    names = [short_name(name, 24) for name in classes]
    cell = 0.3 if C <= COUNTED else 0.122  # inches; 77 classes then fit a desktop's page
    side = max(cell * C, 1.2)
    size = 8.5 if C <= COUNTED else 7.5
    margin = 0.2 + 0.0086 * size * max(6, *(columns_of(name) for name in names))
    figure = Figure(figsize=(margin + side + 0.1, margin + side + 0.1))
    width, height = figure.get_size_inches()
    axes = figure.add_axes((margin / width, 0.1 / height, side / width, side / height))
    titles = _draw_cells(axes, counts, classes)
    axes.set_xlim(-0.5, C - 0.5)
    axes.set_ylim(C - 0.5, -0.5)
    axes.set_xticks(range(C), names, rotation=90, fontsize=size)
    axes.set_yticks(range(C), names, fontsize=size)
    axes.tick_params(length=0, labeltop=True, labelbottom=False, pad=4)
    axes.grid(False)
    for at in np.arange(0, C + 1, 1 if C <= COUNTED else 5) - 0.5:  # the eye follows a row along these
        axes.axhline(at, color=LINE, linewidth=0.6, clip_on=False)
        axes.axvline(at, color=LINE, linewidth=0.6, clip_on=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    figure.text(0.06 / width, 1 - 0.06 / height, "predicted →\ntrue ↓", va="top", fontsize=size, color=MUTED)
    return figure, titles


def _draw_cells(axes: Axes, counts: NDArray[np.int64], classes: Sequence[str]) -> list[str]:
    """Draw the cells that are not empty; returns what they say."""
    shares, cells = row_shares(counts), np.argwhere(counts > 0)
    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    opacity = FAINTEST + (1 - FAINTEST) * shares[tuple(cells.T)]
    colors = [to_rgba(HEAT, round(alpha, 2)) for alpha in opacity.tolist()]
    axes.add_collection(PolyCollection(cells[:, None, ::-1] + corners, facecolors=colors, linewidths=0, gid=TITLED))
    titles = []
    for i, j in cells.tolist():
        taken = f"taken for {classes[j]}" if i != j else "right"
        titles.append(f"{classes[i]}: {counts[i, j]:,} of {counts[i].sum():,} {taken} ({shares[i, j]:.0%})")
        if len(counts) <= COUNTED:
            axes.text(j, i, f"{counts[i, j]:,}", ha="center", va="center", color=INK, fontsize=8)
    return titles
