"""Flags of the command line: one for every option, typed as it is, and one line for whatever is wrong with them."""

import re
from pathlib import Path
from typing import Any

import pytest

from sstext.cli.main import main, parser
from sstext.config.options import options
from sstext.config.recipe import read_config
from sstext.config.run_config import RunConfig
from sstext.errors import UserError

#: Titles in the help, in the order in which people decide.
GROUPS = (
    "your data",
    "the pretrained encoder",
    "the method",
    "rounds of pseudo-labels",
    "training, in detail",
    "the run",
)


def train_parser() -> Any:
    (commands,) = (action for action in parser()._actions if action.dest == "command")
    return commands.choices["train"]


def help_of(flag: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        main(["train", flag])
    assert end.value.code == 0
    return capsys.readouterr().out


def flags_in(text: str) -> set[str]:
    """The flags that a help explains: each begins a line."""
    return set(re.findall(r"^  (?:-\w, )?--([\w-]+)", text, re.MULTILINE))


def test_every_option_is_a_flag() -> None:
    """Guards against a YAML key that the command line cannot override."""
    flags = train_parser()._option_string_actions
    for name in options(RunConfig):
        assert f"--{name.replace('_', '-')}" in flags


def test_help_shows_common_options_and_help_all_every_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards a help of one page, in which nothing common is missing, and the way to all options; each with its own help."""
    monkeypatch.setenv("COLUMNS", "120")
    beside = {"help", "dry-run", "more", "report", "quiet"}
    specs = {name.replace("_", "-"): spec for name, spec in options(RunConfig).items()}
    common = {name for name, spec in specs.items() if spec.metadata["common"]}
    short, full = help_of("--help", capsys), help_of("--help-all", capsys)
    assert flags_in(short) == common | beside | {"help-all"}
    assert flags_in(full) == set(specs) | beside | {"profile"}
    for text, names in ((short, common), (full, set(specs))):
        words = " ".join(text.split())
        for name in names:
            assert " ".join(specs[name].metadata["help"].split()[:4]) in words, name
        assert [line.removesuffix(":") for line in text.splitlines() if line.removesuffix(":") in GROUPS] == [*GROUPS]
        assert words.startswith("usage: sstext train ")
        assert "recipe" in words
    assert "`sstext train --help-all` shows all options." in short
    assert "--method NAME " in short
    assert "--prior auto|uniform|labeled|none|CLASS=SHARE [CLASS=SHARE ...]" in short


@pytest.mark.parametrize(
    ("flags", "name", "value"),
    [
        ("--steps 7", "steps", 7),
        ("--learning-rate 1e-4", "learning_rate", 1e-4),
        ("--text-column body", "text_column", "body"),
        ("--freeze embeddings 2", "freeze", ["embeddings", "2"]),
        ("--edits drop=0.2", "edits", {"mask": 0.15, "drop": 0.2, "swap": 0.0, "cutoff": 0.0}),
        ("--head-learning-rate none", "head_learning_rate", None),
        ("--prior none", "prior", "none"),
        ("--keep 0.2 0.4", "keep", [0.2, 0.4]),
        ("--views back,reworded", "views", ["back", "reworded"]),
        ("--views back reworded", "views", ["back", "reworded"]),
        ("--method-args threshold=0.9 name=x", "method_args", {"threshold": 0.9, "name": "x"}),
        ("--training-args max_grad_norm=2 tf32=false", "training_args", {"max_grad_norm": 2, "tf32": False}),
        ("--method-args threshold=0.9 --method-args ramp=0.5", "method_args", {"threshold": 0.9, "ramp": 0.5}),
        ("--prior uniform", "prior", "uniform"),
        ("--prior uniform --prior a=1", "prior", {"a": 1}),
        ("--prior a=2 b=0.5", "prior", {"a": 2, "b": 0.5}),
        ("--descriptions none", "descriptions", "none"),
        ("--descriptions classes.yaml", "descriptions", "classes.yaml"),
        ("--descriptions a=late:#2 b=no", "descriptions", {"a": "late:#2", "b": "no"}),
        ("--precision bf16", "precision", "bf16"),
        ("--encoder a", "encoder", "a"),
        ("--encoder a,b", "encoder", "a,b"),
        ("--encoder a b", "encoder", ["a", "b"]),
        ("--prefix query:", "prefix", "query:"),
    ],
)
def test_flags_have_the_types_of_their_options(flags: str, name: str, value: Any) -> None:
    """Guards every kind of option: number, word, switch, list, KEY=VALUE, and one of the two."""
    parsed = vars(parser().parse_args(["train", *flags.split()]))
    given = {key: parsed[key] for key in parsed if key in options(RunConfig)}
    assert list(given) == [name]  # no flag, no override
    assert getattr(read_config(None, given), name) == value


@pytest.mark.parametrize(("encoders", "expected"), [("demo", "demo"), ("demo b", ["demo", "b"])])
def test_a_recipe_after_the_encoders_is_no_encoder(
    encoders: str, expected: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards `sstext train --encoder demo recipe.yaml`, which is older than lists of encoders."""
    read: list[RunConfig] = []

    def stop(recipe: Any, given: Any) -> RunConfig:
        read.append(read_config(recipe, given))
        raise UserError("stop")

    monkeypatch.setattr("sstext.cli.train.read_config", stop)
    (tmp_path / "recipe.yaml").write_text("seed: 7")
    assert main(["train", "--encoder", *encoders.split(), str(tmp_path / "recipe.yaml")]) == 2
    assert (read[0].encoder, read[0].seed) == (expected, 7)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["train", "--method-args", "threshold"], "--method-args: expected KEY=VALUE, found 'threshold'"),
        (["train", "--method-args", "threshold="], "--method-args: no value given in 'threshold='"),
        (["train", "--method-args", "=1"], "--method-args: expected KEY=VALUE, found '=1'"),
        (["train", "--method-args", "ramp=[1"], "--method-args: expected a YAML value, found '[1' in 'ramp=[1'"),
        (["train", "--method-args", "ramp=.1", "view=same", "ramp=.2"], "--method-args: 'ramp' is given twice"),
        (["train", "--method-args", "ramp=1", "--method-args", "ramp=2"], "--method-args: 'ramp' is given twice"),
        (["train", "--regularizers", "entropy"], "--regularizers: expected NAME=STRENGTH, found 'entropy'"),
        (["train", "--prior", "a=1", "b"], "--prior: expected CLASS=SHARE, found 'b'"),
        (["train", "--descriptions", "a=late", "b"], "--descriptions: expected CLASS=TEXT, found 'b'"),
        (["train", "--descriptions", "a=late", "a=lost"], "--descriptions: 'a' is given twice"),
        (["train", "--steps"], "--steps: expected one argument; `sstext train --help-all` lists the arguments"),
        (["train", "--precision", "fp8"], "--precision: invalid choice: 'fp8'"),
        (["train", "--no-such-flag"], "train has no argument '--no-such-flag'; `sstext train --help` lists"),
        (["train", "--unlabled", "corpus.jsonl"], "'--unlabled'; did you mean --unlabeled"),
        (["predict", "a", "b", "--probabilitys"], "did you mean --probabilities"),
        (["predict"], "model, input"),
        ([], "command"),
    ],
)
def test_bad_flags_leave_with_the_same_code(words: list[str], found: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards argparse's half of the bad input: exit code 2, and one line with the flag, not 30 of usage."""
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("sstext: error: ")
    assert found in line


def test_none_is_no_value() -> None:
    """`subset=none`, as ust's help has it: guards against the word none where a number is asked for."""
    parsed = parser().parse_args(["train", "--method-args", "subset=none", "passes=2"])
    assert parsed.method_args == {"subset": None, "passes": 2}
