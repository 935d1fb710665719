"""Figures as SVG whose colors are the page's CSS variables, so that they are readable in light and in dark."""

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

#: CSS variable → its color in light and in dark. Text on `paper` has a contrast of at least 4.5 in both.
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
#: What figures are drawn in: a stand-in per variable that no other color of a figure can be.
STAND_INS = {name: f"#0101{place:02x}" for place, name in enumerate(COLORS, start=1)}
PAPER, INK, MUTED, LINE, HEAT = (STAND_INS[name] for name in ("paper", "ink", "muted", "line", "heat"))
SERIES = [STAND_INS[f"series{place}"] for place in range(1, 7)]
#: Name of the group of shapes that have titles, see `drawn`.
TITLED = "titled"

_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: it can be selected, searched and read aloud
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
    """A figure as text.

    Attributes:
        name: of its file.
        description: what it shows, for those who cannot see it.
        inline: for a page that defines the variables in `COLORS`.
        alone: for a file of its own, which defines them itself.
        wide: whether it keeps its size and scrolls on a small screen, where others shrink.
    """

    name: str
    description: str
    inline: str
    alone: str
    wide: bool = False


@contextmanager
def figure_style() -> Iterator[None]:
    """Settings of all figures: create and draw them inside."""
    with matplotlib.rc_context(_SETTINGS), warnings.catch_warnings():
        # Names in any script are shown in the reader's own font; only their width is guessed without.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def drawn(figure: Figure, name: str, description: str, *, titles: Sequence[str] = (), wide: bool = False) -> Drawing:
    """Draw a figure (inside `figure_style`).

    Args:
        titles: what is shown where the mouse rests on the shapes of the collection with the gid `TITLED`, one by one.
    """
    written = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))  # the same run gives the same file
    salt: dict[Any, Any] = {"svg.hashsalt": f"sstext-{name}"}
    with matplotlib.rc_context(salt):  # no two figures of a page share an id
        figure.savefig(written, format="svg", transparent=True, metadata=nothing)
    body = _with_variables(_without_idle_ids(_with_titles(written.getvalue(), titles)))
    inner = re.sub(r"^.*?<svg[^>]*>|<metadata>.*?</metadata>|<style.*?</style>|</svg>\s*$", "", body, flags=re.S)
    width, height = (round(72 * side, 1) for side in figure.get_size_inches())
    head = f'viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(description)}"'
    pixels = f"{width / 0.75:.0f}px"
    inline = f'<svg {head} style="width: {pixels}" class="figure">{inner.strip()}</svg>'
    namespaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    size = f'width="{pixels}" height="{height / 0.75:.0f}px"'
    style = f"{css_variables('svg')} {_STROKES} svg {{ background: var(--paper); font-family: sans-serif }}"
    alone = f"<svg {namespaces} {size} {head}><style>{style}</style>{inner.strip()}</svg>\n"
    return Drawing(name, description, inline, alone, wide)


_STROKES = "svg * { stroke-linejoin: round; stroke-linecap: butt }"


def css_variables(selector: str = ":root") -> str:
    """The colors of page and figures, light and dark; paper is printed in light."""
    light, dark = (" ".join(f"--{name}: {pair[side]};" for name, pair in COLORS.items()) for side in (0, 1))
    return f"{selector} {{ {light} }} @media screen and (prefers-color-scheme: dark) {{ {selector} {{ {dark} }} }}"


def _with_titles(text: str, titles: Sequence[str]) -> str:
    before, group, after = text.partition(f'<g id="{TITLED}">')
    shapes, end, rest = after.partition("</g>")
    left = iter(titles)
    shapes = re.sub(r"(<path [^>]*)/>", lambda shape: f"{shape[1]}><title>{escape(next(left))}</title></path>", shapes)
    return before + group + shapes + end + rest


def _without_idle_ids(text: str) -> str:
    """Without the ids that nothing refers to (figure_1, axes_1, …): they would be there once per figure of a page."""
    used = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', text))
    kept = {name for pair in used for name in pair if name}
    return re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in kept else "", text)


def _with_variables(text: str) -> str:
    """Stand-ins become variables. Fonts are left to the page: only the size of a text is the figure's."""
    names = {color: name for name, color in STAND_INS.items()}
    pattern = re.compile("|".join(STAND_INS.values()))

    def themed(style: re.Match[str]) -> str:
        colored = pattern.sub(lambda found: f"var(--{names[found[0]]})", style[0])
        sized = re.sub(
            r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", colored
        )  # as older versions of matplotlib write it
        return re.sub(r"font-family: [^;\"]*;? ?", "", sized)

    return re.sub(r'style="[^"]*"', themed, text)
