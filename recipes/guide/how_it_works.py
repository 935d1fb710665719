"""Draws the figure of the README: the stages of a run, from labels to the final model.

python recipes/guide/how_it_works.py

It writes how_it_works.svg beside this file. The colors follow the reader's light or dark setting.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from sstext.reporting.svg import COLORS

PICTURE = Path(__file__).with_suffix(".svg")
WIDTH, HEIGHT = 900, 344
#: Size of a box; its title and the lines below it are centered.
BOX = (150, 62)
DESCRIPTION = (
    "Three chains work without one fold of the labels each. In a chain, a regression on the pretrained encoder and the start "
    "are trained on the labels and the class names. Held-out labels decide which of them teaches, and calibrate what it says. "
    "The teacher labels the corpus. The final model learns from all labels and the averaged pseudo-labels."
)


def styles() -> str:
    """The style sheet: a color per role, for light and for dark."""
    roles = ("paper", "panel", "ink", "muted", "line", "series1", "series2", "series3")
    light, dark = (" ".join(f"--{role}: {COLORS[role][shade]};" for role in roles) for shade in (0, 1))
    return (
        f"svg {{ {light} }}\n"
        f"@media (prefers-color-scheme: dark) {{ svg {{ {dark} }} }}\n"
        "text { font-family: system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: var(--ink); text-anchor: middle; }\n"
        ".title { font-size: 15px; font-weight: 600; } .small { font-size: 12px; fill: var(--muted); }\n"
        ".sheet { fill: var(--paper); } .panel { fill: var(--panel); stroke: var(--line); }\n"
        ".box { fill: var(--paper); stroke-width: 1.8; }\n"
        ".data { stroke: var(--muted); } .stage { stroke: var(--series1); } .check { stroke: var(--series2); }\n"
        ".final { stroke: var(--series3); stroke-width: 3; }\n"
        ".arrow { fill: none; stroke: var(--muted); stroke-width: 1.6; } .head { fill: var(--muted); }"
    )


def box(left: int, top: int, kind: str, title: str, *lines: str) -> str:
    """A box with a title and small lines below it."""
    width, height = BOX
    middle, first = left + width // 2, top + 37 - 8 * len(lines)
    texts = [f'<text class="title" x="{middle}" y="{first}">{escape(title)}</text>'] + [
        f'<text class="small" x="{middle}" y="{first + 17 + 15 * place}">{escape(line)}</text>'
        for place, line in enumerate(lines)
    ]
    corner = 0 if kind == "data" else 10
    shape = f'<rect class="box {kind}" x="{left}" y="{top}" width="{width}" height="{height}" rx="{corner}"/>'
    return "\n".join([shape, *texts])


def arrow(*points: tuple[int, int]) -> str:
    """A line through points with a head at its end; the last part is horizontal or vertical."""
    (x0, y0), (x1, y1) = points[-2:]
    dx, dy = (x1 > x0) - (x1 < x0), (y1 > y0) - (y1 < y0)
    base = [(x1 - 8 * dx - 4 * dy, y1 - 8 * dy - 4 * dx), (x1 - 8 * dx + 4 * dy, y1 - 8 * dy + 4 * dx)]
    stem = [*points[:-1], (x1 - 7 * dx, y1 - 7 * dy)]
    return f'<path class="arrow" d="M{_path(stem)}"/>\n<path class="head" d="M{_path([(x1, y1), *base])} Z"/>'


def _path(points: Sequence[tuple[int, int]]) -> str:
    return " L".join(f"{x} {y}" for x, y in points)


def note(x: int, y: int, text: str) -> str:
    """A small text, centered at x."""
    return f'<text class="small" x="{x}" y="{y}">{escape(text)}</text>'


def picture() -> str:
    """The whole figure as SVG."""
    panels = [
        f'<rect class="panel" x="{218 + shift}" y="{16 + shift}" width="444" height="300" rx="12"/>'
        for shift in (12, 6, 0)
    ]
    parts = [
        f'<rect class="sheet" width="{WIDTH}" height="{HEIGHT}" rx="12"/>',
        *panels,
        note(440, 40, "three chains, each without one fold of the labels"),
        box(20, 88, "data", "labels", "few labeled texts", "and class names"),
        box(20, 234, "data", "corpus", "many unlabeled texts"),
        box(240, 58, "stage", "regression", "on the pretrained", "encoder"),
        box(240, 146, "stage", "start", "tunes the encoder", "on the labels"),
        box(490, 102, "check", "check", "held-out labels:", "which one teaches?"),
        box(490, 234, "data", "pseudo-labels", "with probabilities"),
        box(726, 234, "final", "final model", "all labels, averaged", "pseudo-labels"),
        arrow((170, 106), (205, 106), (205, 89), (240, 89)),
        arrow((170, 132), (205, 132), (205, 177), (240, 177)),
        arrow((390, 89), (440, 89), (440, 122), (490, 122)),
        arrow((390, 177), (440, 177), (440, 144), (490, 144)),
        arrow((565, 164), (565, 234)),
        note(598, 204, "predicts"),
        arrow((170, 265), (490, 265)),
        arrow((640, 265), (726, 265)),
        arrow((640, 133), (801, 133), (801, 234)),
        note(740, 124, "calibrates"),
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
            'role="img" aria-labelledby="title description">',
            '<title id="title">How it works</title>',
            f'<desc id="description">{escape(DESCRIPTION)}</desc>',
            f"<style>\n{styles()}\n</style>",
            *parts,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
