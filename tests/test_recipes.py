"""Every recipe parses against the real options, opens with what it shows, and runs two steps on the tiny encoder."""

import re
from pathlib import Path

import pytest

from sstext import cli
from sstext.config import RunConfig, read_config
from sstext.options import options

ROOT = Path(__file__).parent.parent
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


def test_there_are_recipes() -> None:
    """Canary: the tests below are not vacuous."""
    assert "quickstart.yaml" in [path.name for path in RECIPES]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_recipes_say_what_they_show_and_hold_only_what_differs(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("#"), "a recipe opens with what it shows"
    assert re.search(rf"sstext train recipes/{path.name}", text), "… and with its command"
    config, defaults = read_config(path, {}), RunConfig()
    given = [line.split(":")[0] for line in text.splitlines() if re.match(r"\w+:", line)]
    assert given
    for name in given:
        assert name in options(RunConfig)
        assert getattr(config, name) != getattr(defaults, name), f"{name} is the default already"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_recipes_run(
    path: Path, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    few = ["--steps", "2", "--round-steps", "2", "--rounds", "1", "--max-length", "16"]
    arguments = ["train", str(path), "--encoder", str(tiny_encoder), "--output", str(tmp_path / "out"), *few]
    assert cli.main(arguments) == 0, capsys.readouterr().err
    assert (tmp_path / "out" / "model" / "model.safetensors").exists()
