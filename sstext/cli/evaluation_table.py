"""What `sstext evaluate` prints."""

from collections.abc import Mapping
from typing import Any

from sstext.cli.console import NOT_IN_PERCENT, SHOWN, interval, new_console, new_table


def show_evaluation(results: Mapping[str, Any]) -> None:
    """Figures of one model on labeled rows, and per class."""
    console = new_console()
    table = new_table(f"On {results['rows']:,} rows (in brackets: 95 % confidence interval)")
    table.add_column("metric")
    table.add_column("value", justify="right")
    for name, figure in results["metrics"].items():
        title = (SHOWN | NOT_IN_PERCENT).get(name, name)
        table.add_row(title, interval(figure, 100 if name in SHOWN else 1))
    for name, title in (("micro_f1", "micro-F1 %"), ("weighted_f1", "weighted F1 %")):
        table.add_row(title, f"{100 * results[name]:.1f}")
    table.add_row("Matthews correlation", f"{results['matthews_correlation']:.3f}")
    console.print(table)
    classes = new_table("Per class")
    classes.add_column("class")
    for title in ("precision %", "recall %", "F1 %", "rows"):
        classes.add_column(title, justify="right")
    for name, figures in results["per_class"].items():
        shares = (f"{100 * figures[key]:.1f}" for key in ("precision", "recall", "f1"))
        classes.add_row(name, *shares, f"{figures['support']:,}")
    console.print(classes)
