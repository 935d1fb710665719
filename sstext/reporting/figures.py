"""The figures of a report: functions from numbers to a matplotlib figure. Call them inside `svg.figure_style`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from sstext.reporting.curves import Floats, Reliability
from sstext.reporting.svg import INK, LINE, MUTED, PAPER, SERIES
from sstext.reporting.words import short_name
from sstext.storage.run_folder import stage_name

#: Inches at 96 pixels each. A phone shows this width without shrinking the letters.
WIDTH, HEIGHT = 3.55, 2.75
MARKERS, DASHES = ("o", "s", "^", "D", "v", "P"), ("-", "--", "-.", ":")


def comparison(models: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Accuracy and macro-F1 of models, with their intervals if they are known.

    Args:
        models: name → metric → {"score", and "confidence_interval" if it is known}. The last one is the chosen model.
    """
    figure, axes = _figure(height=1.2 + 0.4 * len(models))
    titles = {"accuracy": "accuracy", "macro_f1": "macro-F1"}
    for place, (name, numbers) in enumerate(models.items()):
        final = place == len(models) - 1
        color, marker = (SERIES[0], "o") if final else (SERIES[1 + place], "sD"[place % 2])
        heights = [-row + 0.16 * (len(models) - 1 - 2 * place) for row in range(len(titles))]
        for metric, height in zip(titles, heights, strict=True):
            interval = numbers[metric].get("confidence_interval")
            if interval:
                axes.plot(interval, [height, height], color=color, linewidth=2.5, solid_capstyle="round")
        scores = [numbers[metric]["score"] for metric in titles]
        axes.plot(scores, heights, marker, color=color, markersize=6.5, label=name, clip_on=False)
    axes.set_yticks([-row for row in range(len(titles))], list(titles.values()))
    axes.set_ylim(-1.5, 0.5)
    low, high = axes.get_xlim()
    axes.set_xlim(max(0, low), min(1, high))  # no share is above 100 %
    axes.grid(False, axis="y")
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.xaxis.set_major_locator(_round_numbers(5))
    _legend(axes)
    return figure


def rounds_shown(records: Sequence[Mapping[str, Any]]) -> dict[str, list[float | None]]:
    """The shares to plot: name → one value per stage. Shares without any value are left out."""
    measured = "out_of_fold" if records[0].get("out_of_fold") else "metrics"
    rows = "held-out rows" if measured == "out_of_fold" else "development rows"
    lines = {
        f"accuracy ({rows})": [record.get(measured, {}).get("accuracy") for record in records],
        "mean confidence": [record.get("estimated_precision") for record in records],
        "correct (audit)": [record.get("audit_precision") for record in records],
        "share of corpus": [record["coverage"] or None for record in records],
    }
    return {name: values for name, values in lines.items() if any(value is not None for value in values)}


def rounds(records: Sequence[Mapping[str, Any]]) -> Figure:
    """Accuracy, precision and share of corpus by stage."""
    figure, axes = _figure()
    for place, (name, values) in enumerate(rounds_shown(records).items()):
        points = [np.nan if value is None else value for value in values]
        axes.plot(
            range(len(records)), points, DASHES[place], marker=MARKERS[place], markersize=5, color=SERIES[place],
            label=name, clip_on=False,
        )  # fmt: skip
    crowded = len(records) > 4
    names = [stage_name(record) for record in records]
    axes.set_xticks(range(len(records)), names, rotation=45 if crowded else 0, ha="right" if crowded else "center")
    _shares(axes.yaxis, axes.set_ylim)
    _legend(axes, columns=1)
    return figure


def class_shares(shares: Mapping[str, Mapping[str, float]]) -> Figure:
    """Share of every class, with one marker per stage. The height depends on the number of classes.

    Args:
        shares: name of a stage → class → share.
    """
    classes = list(next(iter(shares.values())))
    figure, axes = _figure(height=1.1 + max(1.0, 0.16 * len(classes)))
    places = np.arange(len(classes))
    for place, (name, of_class) in enumerate(shares.items()):
        color, marker = SERIES[place % len(SERIES)], MARKERS[place % len(MARKERS)]
        values = [of_class[one] for one in classes]
        last = place == len(shares) - 1
        axes.plot(
            values, places, marker, color=color, markersize=4.5 if last else 7, markerfacecolor=color if last else "none",
            label=name, clip_on=False,
        )  # fmt: skip
    axes.set_yticks(places, [short_name(one, 22) for one in classes])
    axes.set_ylim(len(classes) - 0.5, -0.5)
    axes.tick_params(labeltop=True, labelbottom=False, top=True, bottom=False)  # stays visible while the classes scroll
    axes.spines["bottom"].set_visible(False)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0 if axes.get_xlim()[1] > 0.06 else 1))
    axes.xaxis.set_major_locator(_round_numbers(4))
    _legend(axes)
    return figure


def reliability_diagram(after: Reliability, before: Reliability | None) -> Figure:
    """Confidence against accuracy, after calibration and, if it differs, before. On the diagonal both are equal."""
    figure, axes = _figure(height=3.3)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=":", label="confidence = accuracy")
    if before is not None:
        axes.plot(before.confidence, before.accuracy, "--", marker="s", markersize=4.5, markerfacecolor=PAPER,
                  color=SERIES[1], label="before calibration", linewidth=1.2, clip_on=False)  # fmt: skip
    axes.vlines(after.confidence, after.low, after.high, color=SERIES[0], linewidth=1.2, alpha=0.55)
    axes.plot(after.confidence, after.accuracy, "-", marker="o", markersize=5, color=SERIES[0],
              label="chosen model" if before is None else "after calibration", clip_on=False)  # fmt: skip
    axes.set_xlabel("confidence")
    axes.set_ylabel("accuracy")
    _shares(axes.xaxis, axes.set_xlim)
    _shares(axes.yaxis, axes.set_ylim)
    _legend(axes)
    return figure


def confidence_histogram(edges: Floats, marked: Floats, others: Floats, names: tuple[str, str], unit: str) -> Figure:
    """Stacked histogram of the confidence of two kinds of rows."""
    figure, axes = _figure()
    widths, left = np.diff(edges), edges[:-1]
    axes.bar(left, marked, widths, align="edge", color=SERIES[0], edgecolor=PAPER, linewidth=0.8, label=names[0])
    axes.bar(
        left, others, widths, bottom=marked, align="edge", color=SERIES[1], edgecolor=PAPER, linewidth=0.8,
        label=names[1], alpha=0.6,
    )  # fmt: skip
    axes.set_xlabel("confidence")
    axes.set_ylabel(unit)
    axes.grid(False, axis="x")
    axes.yaxis.set_major_locator(_round_numbers(5, integer=True))
    _shares(axes.xaxis, axes.set_xlim)
    _legend(axes)
    return figure


def precision_and_coverage(thresholds: Floats, precision: Floats, coverage: Floats) -> Figure:
    """Precision and coverage by confidence threshold."""
    figure, axes = _figure(height=3.3)
    axes.plot(thresholds, precision, color=SERIES[0], label="precision: share that is correct", clip_on=False)
    axes.plot(thresholds, coverage, "--", color=SERIES[1], label="coverage: share above the threshold", clip_on=False)
    axes.set_xlabel("threshold (lowest confidence)")
    axes.set_ylabel("share of the rows")
    _shares(axes.xaxis, axes.set_xlim)
    _shares(axes.yaxis, axes.set_ylim)
    _legend(axes, columns=1)
    return figure


def losses(log: Sequence[Mapping[str, Any]]) -> Figure:
    """The loss of a training and its components by step, and the loss on development rows if it was measured."""
    figure, axes = _figure()
    names = sorted({name for entry in log for name in entry if name == "loss" or name.startswith("loss_")})
    names += ["eval_loss"] if any("eval_loss" in entry for entry in log) else []
    called = {"loss": "total", "eval_loss": "development rows"}
    for place, name in enumerate(names):
        points = [(entry["step"], entry[name]) for entry in log if name in entry]
        color = INK if name == "loss" else SERIES[(place - 1) % len(SERIES)]
        axes.plot(
            *zip(*points, strict=True), DASHES[place % len(DASHES)], color=color,
            marker=MARKERS[place % len(MARKERS)] if len(points) < 8 else "", markersize=4,
            label=called.get(name, name.removeprefix("loss_").replace("_", " ")),
        )  # fmt: skip
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    if all(entry.get(name, 0) >= 0 for entry in log for name in names):
        axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(_round_numbers(5, integer=True))
    _legend(axes)
    return figure


def _figure(height: float = HEIGHT) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.tick_params(length=3, color=LINE)
    return figure, axes


def _legend(axes: Axes, columns: int = 2) -> None:
    """Draw the legend above the axes, so that it covers nothing."""
    axes.figure.legend(
        loc="outside upper left", ncols=columns, borderaxespad=0, borderpad=0.2, handlelength=1.8, columnspacing=1.2,
        fontsize=8.5, labelspacing=0.3,
    )  # fmt: skip


def _shares(axis: Any, set_limits: Any) -> None:
    set_limits(0, 1)
    axis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.set_major_locator(_round_numbers(5))


def _round_numbers(ticks: int, integer: bool = False) -> MaxNLocator:
    return MaxNLocator(ticks, steps=[1, 2, 5, 10], integer=integer)
