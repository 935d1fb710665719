"""Figures as text: themed, escaped, the same every time, with ids that meet on no page."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from sstext.reporting import figures
from sstext.reporting.confusion_figure import confusion_matrix
from sstext.reporting.curves import reliability
from sstext.reporting.svg import COLORS, Drawing, drawn, figure_style

NAMES = ['<script>alert("x")</script>', "$x^2$ & </svg>", "#010103"]


def matrix(names: list[str] = NAMES, mistakes: int = 1) -> Drawing:
    with figure_style():
        figure, titles = confusion_matrix(np.eye(len(names), dtype=np.int64) * 3 + mistakes, names)
        return drawn(figure, "confusion", 'A "matrix"', titles=titles, wide=True)


def diagram(name: str) -> Drawing:
    with figure_style():
        found = reliability(np.array([[0.7, 0.3]] * 40), np.array([0, 0, 1, 0] * 10))
        return drawn(figures.reliability_diagram(found, found), name, "Reliability")


def luminance(color: str) -> float:
    """Relative luminance of #rrggbb, as WCAG 2 defines it."""
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("side", [0, 1])
def test_text_and_lines_stand_out_in_light_and_in_dark(side: int) -> None:
    """WCAG 2: 4.5 for text, 3 for graphics; also black on the fullest cell of the matrix."""
    colors = {name: pair[side] for name, pair in COLORS.items()}
    for ground in (colors["paper"], colors["panel"]):
        for name in ("ink", "muted", *(name for name in colors if name.startswith("series"))):
            assert contrast(colors[name], ground) >= 4.5, name
    assert contrast(colors["ink"], colors["heat"]) >= 4.5
    assert contrast("#ffffff", "#000000") == pytest.approx(21), "canary: the scale is right"


@pytest.mark.parametrize("drawing", [matrix(), diagram("reliability")], ids=["matrix", "diagram"])
def test_every_color_is_the_pages(drawing: Drawing) -> None:
    """Guards against black on black in the dark."""
    for style in re.findall(r'style="([^"]*)"', drawing.inline):
        for color in re.findall(r"(?:fill|stroke): ([^;]+)", style):
            assert color == "none" or color.startswith(("var(--", "url(#")), style
    assert "var(--muted)" in drawing.inline


def test_names_are_shown_as_they_are() -> None:
    """Guards against markup or formulas made of the names of classes."""
    inline = matrix().inline
    assert "<script" not in inline
    assert "&lt;script&gt;" in inline
    assert inline.count("</svg>") == 1
    texts = [element.text for element in ElementTree.fromstring(matrix().alone).iter() if element.tag.endswith("text")]
    assert "$x^2$ & </svg>" in texts
    assert "#010103" in texts


def test_cells_say_their_numbers() -> None:
    titles = re.findall(r"<title>([^<]*)</title>", matrix().alone)
    assert len(titles) == 9
    assert titles[0] == "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;: 4 of 6 correct (67%)"


def test_the_same_numbers_give_the_same_figure() -> None:
    """Guards against dates and random ids: a report that is made again must not differ."""
    assert matrix() == matrix()
    assert diagram("one") == diagram("one")


def test_ids_meet_on_no_page_and_every_reference_is_answered() -> None:
    one, two = diagram("one").inline, diagram("two").inline
    ids = [set(re.findall(r' id="([^"]*)"', text)) for text in (one, two)]
    assert ids[0]
    assert not ids[0] & ids[1]
    used = {a or b for a, b in re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', one)}
    assert used == ids[0]


def test_a_file_of_its_own_knows_its_colors() -> None:
    alone = matrix().alone
    ElementTree.fromstring(alone)
    assert "--ink: #1a1e24" in alone
    assert "prefers-color-scheme: dark" in alone
    assert "--ink:" not in matrix().inline


def test_names_keep_their_size_as_classes_grow() -> None:
    """At 77 classes the figure is larger, not its letters smaller than 10 pixels."""
    many = matrix([f"class_{i}" for i in range(77)], mistakes=0)
    width, height = map(float, re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', many.inline)[0])
    sizes = {float(size) for size in re.findall(r"font-size: ([\d.]+)px", many.inline)}
    assert min(sizes) / 0.75 >= 10  # the unit of the view box is a point, 4/3 pixels
    assert min(width, height) / 0.75 >= 77 * 11
