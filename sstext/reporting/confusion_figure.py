"""The confusion matrix as a figure. It is readable with up to 77 classes."""

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

#: Up to this number of classes, every cell shows its count.
COUNTED = 12
FAINTEST = 0.15  # lowest opacity, so that a cell with a single mistake is visible


def confusion_matrix(counts: NDArray[np.int64], classes: Sequence[str]) -> tuple[Figure, list[str]]:
    """One row per true class, one column per predicted class. Darker cells have a larger share of their row.

    Cells without texts are blank. The figure grows with the number of classes, and the names keep their size.

    Args:
        counts: (C, C).
        classes: C names.

    Returns:
        The figure, and the text that each cell shows under the mouse (see `svg.drawn`).
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
    for at in np.arange(0, C + 1, 1 if C <= COUNTED else 5) - 0.5:  # lines that guide the eye along a row
        axes.axhline(at, color=LINE, linewidth=0.6, clip_on=False)
        axes.axvline(at, color=LINE, linewidth=0.6, clip_on=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    figure.text(0.06 / width, 1 - 0.06 / height, "predicted →\ntrue ↓", va="top", fontsize=size, color=MUTED)
    return figure, titles


def _draw_cells(axes: Axes, counts: NDArray[np.int64], classes: Sequence[str]) -> list[str]:
    """Draw the cells that are not empty, and return their texts."""
    shares, cells = row_shares(counts), np.argwhere(counts > 0)
    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    opacity = FAINTEST + (1 - FAINTEST) * shares[tuple(cells.T)]
    colors = [to_rgba(HEAT, round(alpha, 2)) for alpha in opacity.tolist()]
    axes.add_collection(PolyCollection(cells[:, None, ::-1] + corners, facecolors=colors, linewidths=0, gid=TITLED))
    titles = []
    for i, j in cells.tolist():
        predicted = f"predicted as {classes[j]}" if i != j else "correct"
        titles.append(f"{classes[i]}: {counts[i, j]:,} of {counts[i].sum():,} {predicted} ({shares[i, j]:.0%})")
        if len(counts) <= COUNTED:
            axes.text(j, i, f"{counts[i, j]:,}", ha="center", va="center", color=INK, fontsize=8)
    return titles
