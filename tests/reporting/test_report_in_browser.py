"""The page as people see it, in headless Chromium: at 2, 8 and 77 classes, in light and dark, on a desktop and a phone."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_up_run import make_run

from sstext.reporting import write_report

FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --disable-dev-shm-usage"
)
#: The contrast of every text with what is behind it: [worst ratio, that text].
CONTRAST = """
const channels = (color) => color.match(/[\\d.]+/g).map(Number);
const linear = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
const behind = (element) => {
  for (; element; element = element.parentElement) {
    const color = channels(getComputedStyle(element).backgroundColor);
    if (color.length === 3 || color[3] > 0.99) return color;
  }
  return [255, 255, 255];
};
let worst = [99, "", 0];
for (const element of document.querySelectorAll(arguments[0])) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!own || !element.checkVisibility()) continue;
  const style = getComputedStyle(element), svg = element.closest("svg");
  const [one, two] = [channels(svg ? style.fill : style.color), behind(svg ?? element)].map(luminance);
  const ratio = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
  worst = [Math.min(ratio, worst[0]), ratio < worst[0] ? element.textContent : worst[1], worst[2] + 1];
}
return worst;
"""
#: Parts of charts that stand out of their chart, and charts that stand out of the place that they have.
OUTSIDE = """
const outside = [];
for (const chart of document.querySelectorAll("svg.figure")) {
  const box = chart.getBoundingClientRect(), place = chart.parentElement, name = chart.getAttribute("aria-label");
  if (box.width < 150 || box.height < 100) outside.push(`${name}: ${box.width} x ${box.height}`);
  const scrolls = ["auto", "scroll"].includes(getComputedStyle(place).overflowX);
  if (!scrolls && box.right > place.getBoundingClientRect().right + 1) outside.push(`${name} in its place`);
  for (const part of chart.querySelectorAll("text, path, use, rect")) {
    if (part.closest("defs, clipPath")) continue;
    const own = part.getBoundingClientRect();
    if (own.left < box.left - 1.5 || own.right > box.right + 1.5 || own.top < box.top - 1.5 || own.bottom > box.bottom + 1.5)
      outside.push(`${name}: ${part.tagName} ${part.textContent}`);
  }
}
return outside;
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Headless Chromium; a skip that says what is missing where there is none."""
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    missing = [name for name, path in programs.items() if path is None]
    if missing:
        pytest.skip(f"no {' and no '.join(missing)}: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="no selenium: pip install -e '.[test]'")
    options = webdriver.ChromeOptions()
    options.binary_location = programs["chromium"]
    profile = tmp_path_factory.mktemp("profile")
    for flag in (*FLAGS.split(), f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=programs["chromedriver"])
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


@pytest.fixture(scope="module", params=[2, 8, 77])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a made-up run with so many classes."""
    return write_report(make_run(tmp_path_factory.mktemp(f"classes_{request.param}") / "run", request.param))


def look(browser: Any, page: Path, *, width: int = 1280, dark: bool = False, media: str = "") -> None:
    """Open the page on a screen of that width."""
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": scheme})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.as_uri())


def test_the_console_is_silent_and_no_text_runs(browser: Any, page: Path) -> None:
    """Guards against blocked styles and scripts, and against a text with a script tag that is run."""
    look(browser, page)
    browser.execute_script("document.querySelectorAll('details').forEach((part) => (part.open = true))")
    assert browser.get_log("browser") == []
    assert browser.execute_script("return window.attacked") is None
    texts = browser.execute_script("return [...document.querySelectorAll('#texts li p')].map((text) => text.innerText)")
    assert any(text.startswith("<script>window.attacked = true</script>") for text in texts)


def test_the_policy_blocks_a_script_that_is_not_the_pages_own(browser: Any, page: Path, tmp_path: Path) -> None:
    """Canary: guards against a silent console that nothing could ever reach, and against a policy without effect."""
    attacked = tmp_path / "attacked.html"
    attacked.write_text(page.read_text().replace("</main>", "<script>window.attacked = true</script></main>"))
    look(browser, attacked)
    assert browser.execute_script("return window.attacked") is None
    assert "Content Security Policy" in browser.get_log("browser")[0]["message"]


@pytest.mark.parametrize(("width", "media"), [(1280, ""), (375, ""), (720, "print")])
def test_every_chart_is_there_and_inside_its_box(width: int, media: str, browser: Any, page: Path) -> None:
    look(browser, page, width=width, media=media)
    assert len(browser.execute_script("return [...document.querySelectorAll('svg.figure')]")) == 11
    assert browser.execute_script(OUTSIDE) == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width, "the page scrolls sideways"
    browser.execute_script("document.querySelectorAll('svg text').forEach((text) => (text.style.fontSize = '40px'))")
    assert browser.execute_script(OUTSIDE), "canary: letters that are too large stand out"


@pytest.mark.parametrize("dark", [False, True])
def test_text_on_the_page_and_in_charts_is_readable(dark: bool, browser: Any, page: Path) -> None:
    """WCAG 2, level AA. The ground is dark in the dark: guards against a page that ignores the scheme."""
    look(browser, page, dark=dark)
    browser.execute_script("document.querySelectorAll('details').forEach((part) => (part.open = true))")
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, ground[4:-1].split(","))) < 60) == dark
    for elements, at_least in (("body *:not(svg *)", 100), ("svg text", 60)):
        worst, text, looked_at = browser.execute_script(CONTRAST, elements)
        assert looked_at >= at_least, "canary: there is text"
        assert worst >= 4.5, text


def test_paper_is_white_even_where_the_screen_is_dark(browser: Any, page: Path) -> None:
    look(browser, page, dark=True, media="print")
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.execute_script(CONTRAST, "svg text")[0] >= 4.5


def test_names_in_the_matrix_are_large_enough_and_apart(browser: Any, page: Path) -> None:
    """At 77 classes, too: no letter below 10 pixels, no name over the next one."""
    look(browser, page)
    sizes, gaps = browser.execute_script("""
    const chart = document.querySelector('svg[aria-label="Confusion matrix"]');
    const scale = chart.getBoundingClientRect().width / chart.viewBox.baseVal.width;
    const names = [...chart.querySelectorAll("text")].filter((text) => getComputedStyle(text).textAnchor === "end");
    const middles = names.map((name) => name.getBoundingClientRect()).map((box) => (box.top + box.bottom) / 2);
    return [names.map((name) => scale * parseFloat(getComputedStyle(name).fontSize)),
            middles.slice(1).map((middle, i) => middle - middles[i])];
    """)
    assert len(gaps) >= 1
    assert min(sizes) >= 9.99
    assert min(gaps) >= min(sizes)


def test_search_finds_words_in_every_group(browser: Any, page: Path) -> None:
    look(browser, page)
    search, shown = (
        browser.find_element("id", "search"),
        "return document.querySelectorAll('#texts li:not([hidden])').length",
    )
    everything = browser.execute_script(shown)
    search.send_keys("SCRIPT attacked")
    found = browser.execute_script(shown)
    assert 2 <= found < everything
    assert browser.find_element("id", "found").text == f"{found} of {everything} texts"
    assert browser.execute_script("return document.querySelector('#flipped').open"), "a group with a find opens"
    search.send_keys(" nothing-has-this")
    assert browser.execute_script(shown) == 0
    search.clear()
    search.send_keys(" ")
    assert browser.execute_script(shown) == everything
