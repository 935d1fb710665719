"""A figure of a file of results: what every method differs from plain fine-tuning by, cell by cell (`table.py --write`)."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from sstext.reporting.svg import INK, LINE, MUTED, SERIES, Drawing, drawn, figure_style

#: Set and labeled rows per class → differences of accuracies, a cell each.
Differences = Mapping[tuple[str, int], Sequence[float]]
MARKERS = ("o", "s", "^", "D", "v", "P")


def differences_drawing(name: str, methods: Mapping[str, Differences], *, harm: float) -> Drawing:
    """Dots: accuracy − supervised, points, by cell; a line: their mean; left of the dashed line lies harm.

    Args:
        name: of the profile.
        methods: name → differences by set, in the order from top to bottom.
        harm: below minus this, a cell does harm.
    """
    with figure_style():
        figure = Figure(figsize=(7.5, 1.1 + 0.32 * len(methods)), layout="constrained")
        axes = figure.add_subplot()
        axes.tick_params(length=3, color=LINE)
        places = list(dict.fromkeys(place for found in methods.values() for place in found))
        for number, (name_of_set, n) in enumerate(places):
            marker = MARKERS[number % len(MARKERS)]
            axes.plot([], [], marker, color=SERIES[number % len(SERIES)], label=f"{name_of_set}, {n} a class")
        for row, found in enumerate(methods.values()):
            for place, gains in found.items():
                number = places.index(place)
                axes.plot(
                    [100 * gain for gain in gains], [-row] * len(gains), MARKERS[number % len(MARKERS)],
                    color=SERIES[number % len(SERIES)], markersize=5, alpha=0.75,
                )  # fmt: skip
            every = [gain for gains in found.values() for gain in gains]
            mean = 100 * sum(every) / len(every)
            axes.plot([mean, mean], [-row - 0.35, -row + 0.35], color=INK, linewidth=2.2, solid_capstyle="round")
        axes.axvline(0, color=MUTED, linewidth=1)
        axes.axvline(-100 * harm, color=MUTED, linewidth=1, linestyle="--")
        axes.set_yticks([-row for row in range(len(methods))], list(methods))
        axes.set_xlabel("accuracy − supervised, points")
        axes.grid(False, axis="y")
        axes.figure.legend(loc="outside upper left", ncols=4, handlelength=1, columnspacing=1.2, fontsize=8.5)
        order = ", ".join(methods)
        description = (
            f"Accuracy minus that of plain fine-tuning by cell, profile {name}; methods by their means: {order}"
        )
        return drawn(figure, name, description)
