"""The README is true: every command and every Python block in it runs, as it stands there."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sstext.cli import main as cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BASH = [line for block in re.findall(r"```bash\n(.*?)```", README, re.S) for line in block.strip().splitlines()]
PYTHON = re.findall(r"```python\n(.*?)```", README, re.S)
MAIN_JOB = (
    "python -m venv .venv && . .venv/bin/activate && pip install -c constraints.txt -e '.[demo]' "
    "&& sstext train recipes/quickstart.yaml"
)
TESTS = "pip install -c constraints.txt -e '.[test]' && pytest"
#: Commands with a test of their own: the main job (slow), and the tests, which .ci/run calls.
ELSEWHERE = (MAIN_JOB, TESTS, "sstext train recipes/quickstart.yaml --output elsewhere --seed 3")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, tiny_task: Callable, tiny_encoder: Path) -> Path:
    """A folder with the files that the README speaks of; `demo` is the tiny encoder here."""
    folder = tmp_path_factory.mktemp("readme")
    task = tiny_task(folder)
    for source, name in ((task.labeled, "my.csv"), (task.unlabeled, "corpus.jsonl"), (task.test, "new.csv")):
        shutil.copy(source, folder / name)
    return folder


def run_line(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = re.sub(r"^cat new.csv \| ", "", line).removeprefix("sstext ").split()
    if line.startswith("cat "):  # the shell's part of the line: a pipe and a redirection
        shell = f"{sys.executable} -m {line.split('| ')[1]}"
        subprocess.run(f"cat new.csv | {shell}", shell=True, check=True)
        return
    assert cli.main(arguments) == 0, capsys.readouterr().err


def test_every_command_runs_in_the_order_of_the_readme(
    workplace: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workplace)
    monkeypatch.setattr("sstext.run.opening.encoder_path", lambda name: str(tiny_encoder))
    monkeypatch.setattr("sstext.modeling.student.encoder_path", lambda name: str(tiny_encoder))
    monkeypatch.setattr("sstext.selftraining.chain.Chain.steps", lambda *_: 8)
    commands = [line for line in BASH if line not in ELSEWHERE]
    assert len(commands) >= 8, "the README lost its commands"
    for line in commands:
        run_line(line, capsys)
    assert (workplace / "predictions.csv").read_text().startswith("text,label,predicted_label,confidence")
    assert "probability/refund" in json.loads((workplace / "predictions.jsonl").read_text().splitlines()[0])
    results = json.loads((workplace / "out-dev" / "results.json").read_text())
    assert results["test"]["self_trained"]["rows"] == 30
    assert results["rounds"][-1]["audit_precision"] is not None

    for code in PYTHON:
        namespace: dict[str, object] = {"__name__": "readme"}
        exec(compile(code.replace("max_length=512", "max_length=64"), "README.md", "exec"), namespace)


def test_the_two_commands_stand_in_the_readme_and_in_ci() -> None:
    assert MAIN_JOB in BASH
    assert TESTS in BASH
    assert TESTS in (ROOT / ".ci" / "run").read_text(encoding="utf-8"), ".ci/run must call the README's own command"


def test_the_tree_names_every_module() -> None:
    tree = README.split("## The code")[1]
    for path in sorted((ROOT / "sstext").rglob("*.py")):
        if not path.name.startswith("__"):
            assert path.name in tree, f"{path.name} is missing from the README's tree"


def test_the_table_of_methods_is_the_codes_own() -> None:
    """Guards against a composition, a paper or an advice that has moved on: the table is made by `sstext.methods.catalog`."""
    from sstext.methods.catalog import markdown_table

    table = README.split("<!-- methods -->")[1].split("<!-- /methods -->")[0]
    assert table.strip() == markdown_table()


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
    planned = json.loads((clone / "out" / "quickstart" / "plan.json").read_text())["steps"]
    assert 1 <= len(results["rounds"]) <= len(planned), "what the recipe's budget leaves on this machine"
    assert (clone / "out" / "quickstart" / "report.html").exists()
    for model in ("supervised", "self_trained"):
        assert results["test"][model]["metrics"]["accuracy"]["score"] > 0.3, (
            "chance is 0.125; a budget may cut the steps"
        )
    for shown in (
        "supervised",
        "Chosen: round",
        "accuracy",
        "macro-F1",
        "calibration error",
        "Rounds",
        "sstext predict",
    ):
        assert shown in run.stdout, shown
    config = (clone / "out" / "quickstart" / "config.yaml").read_text()
    again = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=True, timeout=600)
    assert (clone / "out" / "quickstart" / "config.yaml").read_text() == config
    assert again.stdout.splitlines()[:6] == run.stdout.splitlines()[:6], (
        "a finished run is shown again, not trained again"
    )
