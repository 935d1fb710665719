"""The README and the guides are true: every command and every Python block in them runs, as it stands there."""

import doctest
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

import sstext
from sstext.cli import main as cli

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
GUIDE = ROOT / "recipes" / "guide"
#: In this order, for later pages use the model of the README and of earlier ones.
NAMES = (
    "data", "choosing", "labeling", "predicting", "methods", "report", "sharing", "devices", "faults", "trainer",
    "trainer_conventions", "options",
)  # fmt: skip
PAGES = [README] + [GUIDE / f"{name}.md" for name in NAMES]
MAIN_JOB = (
    "python -m venv .venv && . .venv/bin/activate && pip install -c constraints.txt -e '.[demo]' "
    "&& sstext train recipes/quickstart.yaml"
)
TESTS = "pip install -c constraints.txt -e '.[test]' && pytest"
#: Commands with a test of their own: the main job (slow), and the tests, which .ci/run calls.
ELSEWHERE = (MAIN_JOB, TESTS)
#: Blocks that later commands read → the names of their files.
FILES = {"yaml": "classes.yaml", "csv": "classes.csv"}
#: Floors of the README's list of packages, from top to bottom, as in the contract that `lint-imports` checks.
FLOORS = {
    "cli": 10, "run": 9, "selftraining": 8, "training": 7, "methods": 6, "pseudolabels": 5, "ray": 5, "objective": 4,
    "inference": 4, "modeling": 3, "data": 3, "reporting": 3, "config": 2, "evaluation": 2, "hub": 2, "storage": 2,
}  # fmt: skip


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Language and text of every fenced block of a page, in its order."""
    yield from re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.S | re.M)


def commands(page: Path) -> list[str]:
    return [line for language, block in blocks(page) if language == "bash" for line in block.strip().splitlines()]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"guide_{name}", GUIDE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, tiny_task: Callable, few_tickets: Path) -> Path:
    """A folder with the files that the pages speak of, with few tickets; `demo` is the tiny encoder here."""
    folder = tmp_path_factory.mktemp("readme")
    task = tiny_task(folder)
    for source, name in ((task.labeled, "my.csv"), (task.unlabeled, "corpus.jsonl"), (task.test, "new.csv")):
        shutil.copy(source, folder / name)
    rows = task.labeled.read_text(encoding="utf-8").splitlines()
    (folder / "tickets.csv").write_text("\n".join([*rows, "no label yet,"]) + "\n", encoding="utf-8")
    shutil.copytree(ROOT / "recipes", folder / "recipes", ignore=shutil.ignore_patterns("benchmark"))
    shutil.copytree(few_tickets, folder / "data" / few_tickets.name)
    return folder


def run_line(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    if piped := re.fullmatch(r"cat (\S+) \| (.+) > (\S+)", line):  # the shell's part of the line
        source, line, target = piped.groups()
        with (
            open(source, encoding="utf-8") as file,
            open(target, "w", encoding="utf-8") as out,
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setattr(sys, "stdin", file)
            patch.setattr(sys, "stdout", out)
            assert cli.main(line.removeprefix("sstext ").split()) == 0, line
        return
    assert cli.main(shlex.split(line.removeprefix("sstext "))) == 0, f"{line}\n{capsys.readouterr().err}"


@pytest.mark.parametrize(
    "pages", [pytest.param([README], id="README"), pytest.param(PAGES, id="all", marks=pytest.mark.slow)]
)
def test_every_command_and_block_runs_in_the_order_of_the_pages(
    pages: list[Path],
    workplace: Path,
    tiny_encoder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(workplace)
    shutil.rmtree("out", ignore_errors=True)
    for place in ("run.encoders", "modeling.student", "modeling.pretrained"):
        monkeypatch.setattr(f"sstext.{place}.encoder_path", lambda name: str(tiny_encoder))
    monkeypatch.setattr("sstext.encoder_path", lambda name: str(tiny_encoder), raising=False)
    # The final model trains longer: after 8 steps, it is sure of nothing, and no precision can be asked for.
    monkeypatch.setattr(
        "sstext.selftraining.chain.Chain.steps", lambda _, stage, *__: 100 if stage.name == "final" else 8
    )
    done = {"bash": 0, "python": 0}
    for page in pages:
        names: dict[str, object] = {
            "__name__": page.stem
        }  # later blocks of a page go on with the names of earlier ones
        for language, block in blocks(page):
            assert language in ("", "bash", "python", *FILES), f"{page.name}: nothing runs a block of {language}"
            if language in FILES:
                Path(FILES[language]).write_text(block, encoding="utf-8")
            elif language == "bash":
                for line in [line for line in block.strip().splitlines() if line not in ELSEWHERE]:
                    run_line(line, capsys)
                    done["bash"] += 1
            elif language == "python":
                exec(compile(block.replace("max_length=512", "max_length=64"), page.name, "exec"), names)
                done["python"] += 1
    quickstart = json.loads(Path("out/minute/results.json").read_text())["test"]
    assert quickstart["self_trained"]["rows"] == 40, "the recipe measures what it claims"
    least = (20, 7) if pages == PAGES else (3, 1)
    assert (done["bash"] >= least[0], done["python"] >= least[1]) == (True, True), "the pages lost their commands"
    if pages != PAGES:
        return
    assert Path("predictions.csv").read_text().startswith("text,label,predicted_label,confidence")
    assert Path("confident.csv").read_text().startswith("text,label,predicted_label,confidence,abstain")
    assert "probability/refund" in json.loads(Path("predictions.jsonl").read_text().splitlines()[0])
    results = json.loads(Path("out/dev/results.json").read_text())
    assert results["test"]["self_trained"]["rows"] == 30
    assert results["rounds"][-1]["audit_precision"] is not None
    assert json.loads(Path("out/frame/results.json").read_text())["rows"] == {"labeled": 12, "unlabeled": 1}


def test_what_a_block_imports_from_sstext_is_public() -> None:
    """Guards names that only the test above puts there (`encoder_path`)."""
    for page in PAGES:
        for language, block in blocks(page):
            if language == "python":
                for line in re.findall(r"^from sstext import (.+)$", block, re.M):
                    assert not set(line.split(", ")) - set(sstext.__all__), f"{page.name}: {line}"


def test_options_in_the_text_exist() -> None:
    """Guards flags that are gone but still stand in a sentence or a table: only blocks are run."""
    flags = {flag for command in _command_parsers() for action in command._actions for flag in action.option_strings}
    foreign = {
        "--check",
        "--config_file",
        "--multi_gpu",
        "--num_processes",
        "--nproc_per_node",
    }  # of launchers, make.py
    foreign |= {"--output_dir", "--method_args"}  # of transformers' parser
    foreign |= {"--seconds", "--moments"}  # of tests/soak.py
    for page in PAGES:
        for flag in re.findall(r"(?<![\w-])--[a-z][\w-]*", page.read_text(encoding="utf-8")):
            assert flag in flags | foreign, f"{page.name}: {flag}"


def _command_parsers() -> list:
    import argparse

    from sstext.cli.main import parser

    (commands,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    return list(commands.choices.values())


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150
    assert len((ROOT / "recipes" / "README.md").read_text(encoding="utf-8").splitlines()) <= 100
    assert sorted(GUIDE.glob("*.md")) == sorted(PAGES[1:]), "a guide that no test reads"


def test_the_two_commands_stand_in_the_readme_and_in_ci() -> None:
    assert MAIN_JOB in commands(README)
    assert TESTS in commands(README)
    assert TESTS in (ROOT / ".ci" / "run").read_text(encoding="utf-8"), ".ci/run must call the README's own command"


@pytest.mark.parametrize(
    "page",
    [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "recipes" / "README.md", ROOT / "recipes" / "benchmark" / "RESULTS.md"],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_links_lead_somewhere(page: Path) -> None:
    """Guards links to files that have moved and to headings that have another name now."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    for target in re.findall(r"\]\((?!https?://)([^)\s]+)\)", prose):
        name, _, heading = target.partition("#")
        place = (page.parent / name).resolve() if name else page
        assert place.exists(), f"{page.name}: {target}"
        if heading:
            assert heading in anchors(place), f"{page.name}: {target}"


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_lists_the_packages() -> None:
    """Guards a package that is missing, gone or on another floor: fifteen packages, a line each."""
    section = README.read_text(encoding="utf-8").split("## The code")[1].split("\n## ")[0]
    listed = {name: int(floor) for floor, name in re.findall(r"^ *(\d+)  (\w+)/ +\S", section, re.M)}
    assert listed == FLOORS
    folders = {path.parent.name for path in (ROOT / "sstext").glob("*/__init__.py")}
    assert folders == set(FLOORS)


@pytest.mark.parametrize("page", ["methods.md", "options.md", "trainer_conventions.md", "../../CONTRIBUTING.md"])
def test_generated_parts_are_up_to_date(page: str) -> None:
    """Guards a composition, a default, a help or a floor that has moved on: `python recipes/guide/make.py` writes them."""
    make = script("make")
    assert page in make.GENERATED
    assert make.made(page) == (GUIDE / page).read_text(encoding="utf-8")


def test_the_floors_are_those_of_the_contract() -> None:
    """Guards a package that moved to another floor, and a table that leaves one out."""
    make = script("make")
    floors = make.floors()
    assert {name: floor for name, floor in floors.items() if name in FLOORS} == FLOORS
    modules = {path.stem for path in (ROOT / "sstext").glob("*.py")} - {"__init__"}
    assert floors.keys() - FLOORS.keys() == modules
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| \S.*\. \|$", make.floors_table(), re.M)
    assert [(name, int(floor)) for floor, name in rows] == list(floors.items())


def test_every_option_stands_in_the_table_once() -> None:
    from sstext.config.options import options
    from sstext.config.run_config import RunConfig

    table = script("make").options_table()
    rows = re.findall(r"^\| `(\w+)` \|", table, re.M)
    assert sorted(rows) == sorted(options(RunConfig))
    assert re.findall(r"^## (.+)$", table, re.M) == [
        "Your data", "The pretrained encoder", "The method", "Rounds of pseudo-labels", "Training, in detail", "The run",
    ]  # fmt: skip
    assert table.count("| option | default | what it does |") == 6


def test_the_examples_of_the_generator() -> None:
    found = doctest.testmod(script("make"))
    assert found.attempted
    assert not found.failed


def test_the_figure_is_drawn_by_its_script_and_follows_light_and_dark() -> None:
    figure = script("how_it_works")
    drawn = figure.PICTURE.read_text(encoding="utf-8")
    assert drawn == figure.picture(), "run python recipes/guide/how_it_works.py"
    assert ElementTree.fromstring(drawn).tag.endswith("svg")
    assert "prefers-color-scheme: dark" in drawn
    assert not re.findall(r'(?:fill|stroke)="#', drawn), "a color that does not follow the reader's setting"


@pytest.mark.slow
@pytest.mark.real
def test_the_main_job(demo_encoder: Path, tmp_path: Path) -> None:
    """The README's first command after its installation, on a clone, as a user runs it."""
    clone = tmp_path / "clone"
    for name in ("recipes", "data"):
        shutil.copytree(ROOT / name, clone / name)
    environment = os.environ | {"OMP_NUM_THREADS": str(os.cpu_count() or 1)}
    command = [sys.executable, "-m", *MAIN_JOB.split("&& ")[-1].split()]
    run = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False, timeout=1800)
    assert run.returncode == 0, run.stderr
    results = json.loads((clone / "out" / "quickstart" / "results.json").read_text())
    planned = json.loads((clone / "out" / "quickstart" / "plan.json").read_text())["stages"]
    names = [stage["name"] for stage in planned]
    trained = [record["stage"] for record in results["rounds"]]
    assert trained == names == ["regression", "start", "final"], "the demonstration self-trains on every machine"
    assert results["rounds"][0]["out_of_fold"], "held-out labels check what the final model learns from"
    assert results["rounds"][-1]["admitted"] > 1_000
    assert (clone / "out" / "quickstart" / "report.html").exists()
    for model in ("supervised", "regression", "self_trained"):
        assert results["test"][model]["metrics"]["accuracy"]["score"] > 0.3, "chance is 0.125"
    for shown in (
        "baseline",
        f"Chosen: {results['chosen']['stage']} (",
        "accuracy",
        "macro-F1",
        "calibration error",
        "Stages",
        "Report: out/quickstart/report.html",
        "sstext predict out/quickstart/model",
    ):
        assert shown in run.stdout, shown
    config = (clone / "out" / "quickstart" / "config.yaml").read_text()
    again = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=True, timeout=600)
    assert (clone / "out" / "quickstart" / "config.yaml").read_text() == config
    assert again.stdout.splitlines()[:6] == run.stdout.splitlines()[:6], (
        "a finished run is shown again, not trained again"
    )
