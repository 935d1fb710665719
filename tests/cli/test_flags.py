"""Flags of the command line: one for every option, typed as it is, and one line for whatever is wrong with them."""

from typing import Any

import pytest

from sstext.cli.main import main, parser
from sstext.config.options import options
from sstext.config.recipe import read_config
from sstext.config.run_config import RunConfig


def test_every_option_is_a_flag() -> None:
    """Guards against a YAML key that the command line cannot override; the help of each stands in `--help`."""
    (commands,) = (action for action in parser()._actions if action.dest == "command")
    train_parser: Any = commands.choices["train"]
    help_text, flags = " ".join(train_parser.format_help().split()), train_parser._option_string_actions
    for name, spec in options(RunConfig).items():
        assert f"--{name.replace('_', '-')}" in flags
        assert " ".join(spec.metadata["help"].split()[:4]) in help_text, name
    assert "--method NAME " in help_text
    assert "--prior uniform|labeled|auto|CLASS=SHARE [CLASS=SHARE ...]" in help_text


@pytest.mark.parametrize(
    ("flags", "name", "value"),
    [
        ("--steps 7", "steps", 7),
        ("--learning-rate 1e-4", "learning_rate", 1e-4),
        ("--text-column body", "text_column", "body"),
        ("--freeze-embeddings", "freeze_embeddings", True),
        ("--no-alignment", "alignment", False),
        ("--keep 0.2 0.4", "keep", [0.2, 0.4]),
        ("--views back,reworded", "views", ["back", "reworded"]),
        ("--views back reworded", "views", ["back", "reworded"]),
        ("--method-args threshold=0.9 name=x", "method_args", {"threshold": 0.9, "name": "x"}),
        ("--training-args max_grad_norm=2 tf32=false", "training_args", {"max_grad_norm": 2, "tf32": False}),
        ("--method-args threshold=0.9 --method-args ramp=0.5", "method_args", {"threshold": 0.9, "ramp": 0.5}),
        ("--prior uniform", "prior", "uniform"),
        ("--prior uniform --prior a=1", "prior", {"a": 1}),
        ("--prior a=2 b=0.5", "prior", {"a": 2, "b": 0.5}),
        ("--pseudo-labels soft", "pseudo_labels", "soft"),
    ],
)
def test_flags_have_the_types_of_their_options(flags: str, name: str, value: Any) -> None:
    """Guards every kind of option: number, word, switch, list, KEY=VALUE, and one of the two."""
    parsed = vars(parser().parse_args(["train", *flags.split()]))
    given = {key: parsed[key] for key in parsed if key in options(RunConfig)}
    assert list(given) == [name]  # no flag, no override
    assert getattr(read_config(None, given), name) == value


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
        (["train", "--steps"], "--steps: expected one argument; `sstext train --help` explains"),
        (["train", "--pseudo-labels", "firm"], "--pseudo-labels: invalid choice: 'firm'"),
        (["train", "--no-such-flag"], "train has no argument '--no-such-flag'; `sstext train --help`"),
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
