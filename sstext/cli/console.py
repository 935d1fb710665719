"""Tables on stdout, drawn by rich."""

import os
from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sstext.plain import plain


def is_first_process() -> bool:
    """Whether this process is the one that prints, if a launcher has started several."""
    return os.environ.get("RANK", "0") == "0"


SHOWN = {
    "accuracy": "accuracy %",
    "macro_f1": "macro-F1 %",
    "expected_calibration_error": "calibration error % (lower is better)",
}
#: Titles of further metrics. They are not shares.
NOT_IN_PERCENT = {"nll": "log-loss (nats)", "brier": "Brier score"}


class _Page(Console):
    """A console that writes no blanks at the ends of lines to files and pipes. It shows names without escape sequences."""

    def render_str(self, text: str, *arguments: Any, **settings: Any) -> Text:
        """What everything that is printed goes through, cells of tables too."""
        return super().render_str(plain(text), *arguments, **settings)

    def print(self, *objects: Any, **settings: Any) -> None:
        if self.is_terminal:
            super().print(*objects, **settings)
            return
        with self.capture() as shown:
            super().print(*objects, **settings)
        lines = shown.get().split("\n")
        print("\n".join(line.rstrip() for line in lines), end="", flush=True, file=self.file)


def new_console(*, stderr: bool = False) -> Console:
    console = _Page(markup=False, emoji=False, stderr=stderr)  # a class or folder may be named [b]
    asked = os.environ.get("COLUMNS", "")
    if not console.is_terminal and not (asked.isdigit() and int(asked)):
        console.width = 110  # a file or a pipe has no width
    return console


def new_table(title: str, **settings: Any) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=SIMPLE, pad_edge=False, **settings)


def interval(figure: Mapping[str, Any], scale: float = 100.0) -> str:
    """score [low, high], in percent unless scaled otherwise.

    >>> interval({"score": .5, "confidence_interval": (.25, .75)})
    '50.0 [25.0, 75.0]'
    """
    low, high = figure["confidence_interval"]
    digits = 1 if scale == 100 else 3
    return f"{scale * figure['score']:.{digits}f} [{scale * low:.{digits}f}, {scale * high:.{digits}f}]"


def percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"
