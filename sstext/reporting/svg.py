"""Figures as SVG. Their colors are the page's CSS variables, so they are readable in light and dark mode."""

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.text import Text

from sstext.plain import plain_text

#: CSS variable → its color in light and dark mode. Text on `paper` has a contrast of at least 4.5 in both.
COLORS = {
    "paper": ("#ffffff", "#15181d"),
    "panel": ("#f5f6f8", "#1d2127"),
    "ink": ("#1a1e24", "#e9ebee"),
    "muted": ("#555e6a", "#a6aeb9"),
    "line": ("#d5d9df", "#3b424c"),
    "heat": ("#6fa8ff", "#2f62b5"),
    "series1": ("#1c5cc9", "#82b1ff"),
    "series2": ("#b04a12", "#f2a56e"),
    "series3": ("#1b7448", "#74d3a0"),
    "series4": ("#7440ad", "#c9a0f5"),
    "series5": ("#ab2360", "#f592b8"),
    "series6": ("#0d6b66", "#63d2c8"),
}
#: The colors in which figures are drawn: one placeholder per variable. No other color of a figure equals a placeholder.
STAND_INS = {name: f"#0101{place:02x}" for place, name in enumerate(COLORS, start=1)}
PAPER, INK, MUTED, LINE, HEAT = (STAND_INS[name] for name in ("paper", "ink", "muted", "line", "heat"))
SERIES = [STAND_INS[f"series{place}"] for place in range(1, 7)]
#: Name of the group of shapes that have titles, see `drawn`.
TITLED = "titled"

_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",  # keep text as text, so that it can be selected, searched and read aloud
    "svg.hashsalt": "sstext",
    "text.parse_math": False,  # a class may be called $x$
    "font.size": 9,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "text.color": INK,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "lines.linewidth": 1.8,
}


@dataclass(frozen=True)
class Drawing:
    """A figure as SVG text.

    Attributes:
        name: the file's name.
        description: the content in words, for screen readers.
        inline: SVG for a page that defines the variables in `COLORS`.
        alone: SVG for a separate file. It defines the variables itself.
        wide: whether it keeps its size and scrolls on a small screen. Other figures shrink.
    """

    name: str
    description: str
    inline: str
    alone: str
    wide: bool = False


@contextmanager
def figure_style() -> Iterator[None]:
    """Apply the settings of all figures. Create and draw figures inside."""
    with matplotlib.rc_context(_SETTINGS), warnings.catch_warnings():
        # The reader's font shows names in any script. Without the glyph here, only the width is a guess.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def drawn(figure: Figure, name: str, description: str, *, titles: Sequence[str] = (), wide: bool = False) -> Drawing:
    """Draw a figure (inside `figure_style`).

    Args:
        titles: texts shown under the mouse, one per shape of the collection with the gid `TITLED`.
    """
    for text in figure.findobj(Text):  # XML cannot hold most control characters
        if text.get_text() != plain_text(text.get_text()):
            text.set_text(plain_text(text.get_text()))
    written = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))  # the same run gives the same file
    salt: dict[Any, Any] = {"svg.hashsalt": f"sstext-{name}"}
    with matplotlib.rc_context(salt):  # no two figures of a page share an id
        figure.savefig(written, format="svg", transparent=True, metadata=nothing)
    body = _with_variables(_without_idle_ids(_with_titles(written.getvalue(), titles)))
    inner = re.sub(r"^.*?<svg[^>]*>|<metadata>.*?</metadata>|<style.*?</style>|</svg>\s*$", "", body, flags=re.S)
    width, height = (round(72 * side, 1) for side in figure.get_size_inches())
    head = f'viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(plain_text(description))}"'
    pixels = f"{width / 0.75:.0f}px"
    inline = f'<svg {head} style="width: {pixels}" class="figure">{inner.strip()}</svg>'
    namespaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    size = f'width="{pixels}" height="{height / 0.75:.0f}px"'
    style = f"{css_variables('svg')} {_STROKES} svg {{ background: var(--paper); font-family: sans-serif }}"
    alone = f"<svg {namespaces} {size} {head}><style>{style}</style>{inner.strip()}</svg>\n"
    return Drawing(name, description, inline, alone, wide)


_STROKES = "svg * { stroke-linejoin: round; stroke-linecap: butt }"


def css_variables(selector: str = ":root") -> str:
    """The colors of page and figures in light and dark mode. The light colors are used for print."""
    light, dark = (" ".join(f"--{name}: {pair[side]};" for name, pair in COLORS.items()) for side in (0, 1))
    return f"{selector} {{ {light} }} @media screen and (prefers-color-scheme: dark) {{ {selector} {{ {dark} }} }}"


def _with_titles(text: str, titles: Sequence[str]) -> str:
    before, group, after = text.partition(f'<g id="{TITLED}">')
    shapes, end, rest = after.partition("</g>")
    left = iter(titles)
    shapes = re.sub(
        r"(<path [^>]*)/>", lambda shape: f"{shape[1]}><title>{escape(plain_text(next(left)))}</title></path>", shapes
    )
    return before + group + shapes + end + rest


def _without_idle_ids(text: str) -> str:
    """Remove ids without references (figure_1, axes_1, …), because every figure of a page would repeat them."""
    used = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', text))
    kept = {name for pair in used for name in pair if name}
    return re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in kept else "", text)


def _with_variables(text: str) -> str:
    """Replace placeholders by variables, and remove fonts: the figure sets only the size of a text."""
    names = {color: name for name, color in STAND_INS.items()}
    pattern = re.compile("|".join(STAND_INS.values()))

    def themed(style: re.Match[str]) -> str:
        colored = pattern.sub(lambda found: f"var(--{names[found[0]]})", style[0])
        sized = re.sub(
            r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", colored
        )  # older versions of matplotlib write `font`
        return re.sub(r"font-family: [^;\"]*;? ?", "", sized)

    return re.sub(r'style="[^"]*"', themed, text)
