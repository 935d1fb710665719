"""`sstext label`: in the terminal, and on a page in headless Chromium."""

import asyncio
import csv
import http.client
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sstext.cli.label import _classes_of_run
from sstext.cli.label_page import LabelServer
from sstext.cli.main import main
from sstext.data.label_file import LabelFile

TEXTS = ["[bold]late[/] <script>document.title = 'broken'</script>", "money back & more", "locked out"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "to_label.csv"
    with file.open("w", encoding="utf-8", newline="") as opened:
        rows = [(text, "", "drawn at random", "delivery") for text in TEXTS]
        csv.writer(opened).writerows([("text", "label", "reason", "predicted_label"), *rows])
    return file


def labels(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as opened:
        return [row["label"] for row in csv.DictReader(opened)]


def test_the_terminal(path: Path) -> None:
    """Guards every key, a text with markup, and a session that goes on where another one was left."""
    from textual.widgets import Input, Static

    from sstext.cli.label_terminal import LabelApp

    async def label() -> None:
        app = LabelApp(LabelFile(path, ["account", "refund"]))
        async with app.run_test() as pilot:
            shown = lambda name: str(app.query_one(f"#{name}", Static).render())  # noqa: E731
            assert shown("text") == TEXTS[0]
            assert "3  delivery  ← guess (Enter)" in shown("classes")
            await pilot.press("enter")
            assert labels(path) == ["delivery", "", ""]
            await pilot.press("s")
            assert shown("text") == TEXTS[2]
            await pilot.press("1")
            assert labels(path) == ["delivery", "", "account"]
            await pilot.press("u")
            assert labels(path) == ["delivery", "", ""]
            await pilot.press("slash", "l", "o", "g", "i", "n", "enter")
            assert labels(path) == ["delivery", "", "login"]
            assert not app.query_one("#name", Input).display
            assert shown("text") == TEXTS[1]
            await pilot.press("slash", "R", "e", "enter")
            assert labels(path) == ["delivery", "refund", "login"]
            assert shown("text") == "All texts are labeled."
            await pilot.press("9", "s", "enter", "u")
            assert labels(path) == ["delivery", "", "login"]
            await pilot.press("q")

    asyncio.run(label())
    assert LabelFile(path).current().row == 1  # type: ignore[union-attr]


def test_a_misspelled_class_is_asked_about(path: Path, server: LabelServer) -> None:
    """Guards a typing error that silently becomes a class of its own, in the terminal and on the page."""
    from textual.widgets import Static

    from sstext.cli.label_terminal import LabelApp

    async def label() -> None:
        app = LabelApp(LabelFile(path, ["account", "refund"]))
        async with app.run_test() as pilot:
            await pilot.press("slash", *"refnud", "enter")
            assert "did you mean 'refund'?" in str(app.query_one("#state", Static).render())
            assert labels(path) == ["", "", ""]
            await pilot.press("s", "slash", *"refnud", "enter")
            assert labels(path) == ["", "", ""], "of another text, it is asked again"
            await pilot.press("u", "slash", *"refnud", "enter", "slash", *"refnud", "enter")
            assert labels(path) == ["refnud", "", ""], "typed again, it is a class"
            await pilot.press("u", "q")

    asyncio.run(label())
    assert LabelFile(path, ["refund"]).classes == ["refund", "delivery"], "what was undone is no class"
    file = LabelFile(path, ["Account", "refund"])
    file.give(0, "praise")
    assert file.classes == ["Account", "refund", "delivery", "praise"]
    file.undo()
    assert file.classes == ["Account", "refund", "delivery"]
    assert [file.resembled(name) for name in ("accuont", "refund", "login", "REFUND")] == [
        "Account",
        None,
        None,
        "refund",
    ]
    server.file = LabelFile(path, ["refund"])
    typed = {"row": 0, "label": "refnd"}
    status, answer, _ = ask(server, f"/{server.token}/label", typed)
    assert (status, b"did you mean 'refund'" in answer, json.loads(answer)["misspelled"]) == (409, True, True)
    assert ask(server, f"/{server.token}/label", {**typed, "new": True})[0] == 200
    assert labels(path)[0] == "refnd"


def test_a_file_in_the_folder_of_a_run_has_its_classes(finished_run: Path) -> None:
    """Guards classes that the model does not guess for any text of the file: nobody could choose them."""
    assert _classes_of_run(str(finished_run / "to_label.csv")) == ["account", "delivery", "refund"]
    assert _classes_of_run(str(finished_run.parent / "to_label.csv")) == []


def test_the_command_needs_a_terminal_and_a_file(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["label", str(path)]) == 2
    assert "label: expected a terminal; run it in one, or add --web" in capsys.readouterr().err
    assert main(["label", str(path.with_name("none.csv")), "--web"]) == 2
    assert "`sstext suggest` writes one" in capsys.readouterr().err
    assert main(["label", str(path), "--web", "--port", "99999"]) == 2
    assert "port: 99999 cannot be used" in capsys.readouterr().err


@pytest.fixture
def server(path: Path) -> Iterator[LabelServer]:
    with LabelServer(LabelFile(path, ["account", "refund"])) as served:
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield served
        served.shutdown()
        thread.join()


def ask(server: LabelServer, path: str, body: Any = None, **headers: str) -> tuple[int, bytes, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    content = None if body is None else json.dumps(body)
    given = {"Content-Type": "application/json"} if body is not None else {}
    connection.request("GET" if body is None else "POST", path, content, {**given, **headers})
    answer = connection.getresponse()
    found = answer.status, answer.read(), answer.headers
    connection.close()
    return found


def test_only_this_machine_with_the_address_may_ask(server: LabelServer, path: Path) -> None:
    """Guards other machines, guessed addresses, pages of other origins, and a DNS that leads here by another name."""
    assert server.server_address[0] == "127.0.0.1"
    assert len(server.token) >= 32
    own, label = f"/{server.token}", {"row": 0, "label": "refund"}
    assert ask(server, "/")[0] == 403
    assert ask(server, "/guessed/label", label)[0] == 403
    assert ask(server, f"{own}/label", label, Host="evil.example")[0] == 403
    assert ask(server, f"{own}/label", label, **{"Content-Type": "text/plain"})[0] == 415
    assert ask(server, f"{own}/nothing", {})[0] == 404
    for wrong in ({}, {"row": "x", "label": "y"}, [1]):
        assert ask(server, f"{own}/label", wrong)[0] == 400
    assert ask(server, f"{own}/label", {"row": 7, "label": "y"})[0] == 409
    assert labels(path) == ["", "", ""]
    status, page, headers = ask(server, f"{own}/")
    assert status == 200
    assert TEXTS[1].encode() not in page, "texts are data, never part of the page"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"
    assert ask(server, f"{own}/label", label)[0] == 200
    assert labels(path) == ["refund", "", ""]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Headless Chromium; a skip that says what is missing where there is none."""
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    if missing := [name for name, place in programs.items() if place is None]:
        pytest.skip(f"no {' and no '.join(missing)}: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="no selenium: pip install -e '.[test]'")
    options = webdriver.ChromeOptions()
    options.binary_location = programs["chromium"]
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
                 "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
                 f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):  # fmt: skip
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(programs["chromedriver"]))
    yield driver
    driver.quit()


@pytest.mark.slow
def test_the_page_in_a_browser(server: LabelServer, path: Path, browser: Any) -> None:
    """Guards the buttons, the keys, undo and skip, and a text that would run as a script."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    def shown(name: str) -> str:
        return browser.find_element(By.ID, name).text

    def until(expected: str) -> None:
        WebDriverWait(browser, 20).until(lambda _: shown("text").startswith(expected))

    def press(keys: str) -> None:
        browser.find_element(By.TAG_NAME, "body").send_keys(keys)

    browser.get(server.address)
    until("[bold]late")
    assert shown("text") == TEXTS[0]
    assert browser.title == "Label texts"
    assert "0 of 3 labeled" in shown("state")
    assert browser.find_element(By.CSS_SELECTOR, "button.guess").text == "3 delivery"
    press("2")
    until(TEXTS[1])
    assert labels(path) == ["refund", "", ""]
    browser.find_element(By.ID, "skip").click()
    until(TEXTS[2])
    browser.find_element(By.ID, "name").send_keys("login\n")
    until(TEXTS[1])
    assert labels(path) == ["refund", "", "login"]
    press("\n")
    until("All texts are labeled")
    assert labels(path) == ["refund", "delivery", "login"]
    browser.find_element(By.ID, "undo").click()
    until(TEXTS[1])
    assert labels(path) == ["refund", "", "login"]
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
