"""The command line: every option is a flag, and every bad input one message that says what to do and leaves nothing."""

import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from runs import QUICK

from sstext.cli.main import INTERRUPTED, main
from sstext.progress import Reporter

LABELED = b"text,label\nmoney back,refund\nparcel late,delivery\nlogin again,account\ncharged twice,refund\n"


@pytest.fixture(scope="module")
def encoder(tiny_encoder: Path) -> str:
    return str(tiny_encoder)


@pytest.fixture
def place(tiny_task: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: the files of the tiny task, and nothing else."""
    tiny_task(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(tiny: str, **changes: str | None) -> list[str]:
    """`sstext train` on the tiny task; None leaves a flag out."""
    flags = {"labeled": "labeled.csv", "unlabeled": "unlabeled.jsonl", "encoder": tiny, "output": "out"} | changes
    given = [(f"--{name.replace('_', '-')}", value) for name, value in flags.items() if value is not None]
    return ["train", *QUICK, *(part for pair in given for part in pair)]


Refused = Callable[[list[str]], str]


@pytest.fixture
def refused(place: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """`refused(command)`: the one error message of a command that leaves with 2, and leaves nothing behind."""

    def run(command: list[str]) -> str:
        before = listing(place)
        assert main(command) == 2
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("sstext: error: ")]
        assert len(errors) == 1
        assert listing(place) == before
        return errors[0]

    return run


def listing(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_flags_override_the_recipe(place: Path, monkeypatch: pytest.MonkeyPatch, encoder: str) -> None:
    """Guards `sstext train recipe.yaml --seed 3`: what is given wins, what is not stays as the recipe has it."""
    seen = []
    monkeypatch.setattr("sstext.run.train.train", lambda config, report, **_: seen.append((config, report)) or {})
    monkeypatch.setattr("sstext.cli.train_tables.show_results", lambda *_: None)
    (place / "recipe.yaml").write_text("labeled: a.csv\nseed: 1\nrounds: 5\nprior: none\nlearning_rate: 1e-4\n")
    assert main(["train", "recipe.yaml", "--seed", "3", "--output", "elsewhere", "--prior", "auto"]) == 0
    assert main(["train", "recipe.yaml", "--no-report"]) == 0
    (config, report), (unchanged, no_report) = seen
    assert (config.labeled, config.seed, config.rounds, config.output) == ("a.csv", 3, 5, "elsewhere")
    assert (config.prior, config.learning_rate) == ("auto", 1e-4)
    assert (unchanged.seed, unchanged.output, unchanged.prior) == (1, None, "none")
    assert (report, no_report) == (True, False)


def test_a_table_without_a_flag_is_the_data(place: Path, monkeypatch: pytest.MonkeyPatch, encoder: str) -> None:
    """Guards `sstext train tickets.csv`, also behind the encoders, and two files of which one would not be read."""
    seen = []
    monkeypatch.setattr("sstext.run.train.train", lambda config, **_: seen.append(config) or {})
    monkeypatch.setattr("sstext.cli.train_tables.show_results", lambda *_: None)
    (place / "recipe.yaml").write_text("data: a.csv\nencoder: demo\n")
    for command in (
        ["a.csv"],
        ["--data", "a.csv"],
        ["--encoder", "demo", "a.csv"],
        ["recipe.yaml"],
        ["recipe.yaml", "a.csv"],
    ):
        assert main(["train", *command]) == 0
    assert {config.data for config in seen} == {"a.csv"}
    assert seen[2].encoder == "demo"
    assert main(["train", "a.csv", "b.csv"]) == main(["train", "a.csv", "--data", "b.csv"]) == 2


def test_one_file_says_both_counts(place: Path, encoder: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards the usual file, in which most labels are missing; remedies are written as the user writes options."""
    (place / "all.csv").write_bytes(LABELED + b"where is it,\nmoney,-1\nagain,NaN\n")
    flags = [*train(encoder, labeled=None, unlabeled=None), "--unlabeled-value", "-1", "NaN", "--dry-run"]
    assert main([*flags, "all.csv"]) == 0
    said = capsys.readouterr().err
    assert "labeled: 4 texts from all.csv" in said
    assert "unlabeled: 3 texts from all.csv (no label: '-1', 'NaN' or empty)" in said.splitlines()
    (place / "r.yaml").write_text("data: none.csv\nlabeled: labeled.csv\n")
    assert main(["train", "r.yaml", "--encoder", encoder, "--output", "out"]) == 2
    assert "give data (rows with and without labels) or labeled, not both" in capsys.readouterr().err


def test_the_recorded_configuration_repeats_the_run(place: Path, encoder: str) -> None:
    """Guards config.yaml: `sstext train out/config.yaml --output again` ends in the same bits."""
    assert main(train(encoder)) == 0
    assert main(["train", "out/config.yaml", "--output", "again"]) == 0
    models = [(place / name / "model" / "model.safetensors").read_bytes() for name in ("out", "again")]
    assert models[0] == models[1]


def test_help_and_version_load_no_torch() -> None:
    """Guards the half second in which `sstext --help` answers, and `import sstext`; no clock, but what is imported."""
    script = (
        "import sys, sstext\n"
        "from sstext.cli.main import main\n"
        "for words in ('--help', '--version', 'train --help', 'train --help-all', 'predict --help', 'evaluate --help', "
        "'methods --help'):\n"
        "    try: main(words.split())\n"
        "    except SystemExit as end: assert end.code == 0\n"
        "print([name for name in ('torch', 'transformers', 'datasets', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for name in ("train", "predict", "evaluate", "methods"):
        assert f"usage: sstext {name} " in done.stdout
    assert "\nsstext 0." in done.stdout


def test_a_whole_run_ends_in_a_table(place: Path, encoder: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards the main job: the result on stdout, every note on stderr, and the model where the last lines say."""
    assert main(train(encoder, test="test.csv", audit="answers.csv")) == 0
    shown = capsys.readouterr()
    assert "baseline" in shown.out
    for words in ("chosen model", "macro-F1", "calibration error", "correct (audit)", "Model: out/model"):
        assert words in shown.out
        assert words not in shown.err
    assert "round 1: 4 steps" in shown.err
    assert "labeled: 12 texts from labeled.csv, text column 'text', label column 'label'" in shown.err
    assert (place / "out" / "model" / "model.safetensors").is_file()


def test_quiet_prints_the_result_alone(place: Path, encoder: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Guards scripts: nothing on stderr, of ours or of the libraries."""
    assert main([*train(encoder, test="test.csv"), "--quiet"]) == 0
    shown = capfd.readouterr()
    assert shown.err == ""
    assert "chosen model" in shown.out


def stages_of(shown: str) -> list[list[str]]:
    """The cells of the table of stages, line by line; columns are two blanks apart."""
    lines = shown.split("Stages (")[1].splitlines()[1:]
    return [cells for line in lines if len(cells := re.split(r"\s{2,}", line.strip())) > 2]


def test_dry_run_says_the_plan_and_writes_nothing(
    place: Path, encoder: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards `--dry-run`: rows, steps of each stage and a time, and no file."""
    monkeypatch.setenv("COLUMNS", "200")
    before = listing(place)
    assert main([*train(encoder, test="test.csv"), "--dry-run"]) == 0
    out = capsys.readouterr().out
    shown = [" ".join(line.split()) for line in out.splitlines()]
    for line in ("labeled rows 12", "unlabeled rows 60", "test rows 30", "method class-balanced"):
        assert line in shown
    assert any(line.startswith("estimated time about ") for line in shown)
    assert stages_of(out) == [
        ["stage", "pseudo-labels by", "selects", "steps", "trainings"],
        ["baseline", "4", "1"],
        ["round 1", "baseline", "30% of the corpus, hard labels", "4", "1"],
    ]
    assert listing(place) == before


def test_dry_run_shows_every_stage_of_auto(
    place: Path, encoder: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards the plan that most people see: regression and start of every chain, and the final model on all labels."""
    monkeypatch.setenv("COLUMNS", "200")
    assert main([*train(encoder, method="auto", folds="2"), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "2, each without one fold of the labels" in out
    every = "every row, soft labels"
    assert [cells for cells in stages_of(out) if cells[0] != "regression"] == [
        ["stage", "pseudo-labels by", "selects", "steps", "trainings"],
        ["start", "4", "3"],
        ["final", "the chains, the start with all labels, and the regressions", every, "4", "1"],
    ]
    (regression,) = (line.split() for line in out.splitlines() if line.lstrip().startswith("regression "))
    assert regression == ["regression", "3"], "it has no steps, and a 0 would only raise a question"


def test_a_folder_of_an_earlier_version_is_not_continued(
    place: Path, encoder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards a run of version 0.1: one sentence says what can be done with it, and nothing in it changes."""
    (place / "out").mkdir()
    old = "alignment: true\nlabeled: labeled.csv\nmethod: auto\nseed: 0\ntoken_mask: 0.15\nwarmup: 0.1\n"
    (place / "out" / "config.yaml").write_text(old)
    for more in ([], ["--dry-run"]):
        assert main([*train(encoder), *more]) == 2
        (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("sstext: error: "))
        assert "output: out holds a run of an earlier version" in line
        assert "can be reported on and predicted with, but not continued; choose another --output" in line
    assert {path.name: path.read_text() for path in (place / "out").iterdir()} == {"config.yaml": old}
    assert main(["train", "out/config.yaml", "--output", "again"]) == 2
    assert "out/config.yaml: option 'alignment' has been replaced; use prior: none" in capsys.readouterr().err


def test_ctrl_c_says_how_to_go_on_and_the_same_command_does(
    place: Path, encoder: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards exit code 130, one line instead of a traceback, and the run that goes on."""

    class Interrupted(Reporter):
        @contextmanager
        def phase(self, name: str, total: int | None, unit: str, done: int = 0) -> Iterator[Any]:
            yield lambda n=1: signal.raise_signal(signal.SIGINT) if name == "baseline: training" else None

    monkeypatch.setattr("sstext.cli.train.Reporter", Interrupted)
    assert main(train(encoder)) == INTERRUPTED == 130
    assert capsys.readouterr().err.splitlines()[-1] == "sstext: interrupted; the same command continues the run"
    assert [path.name for path in (place / "out/baseline/checkpoints").iterdir()] == ["checkpoint-1"]
    monkeypatch.undo()
    monkeypatch.chdir(place)
    assert main(train(encoder)) == 0
    assert json.loads((place / "out" / "results.json").read_text())["chosen"]["round"] == 1


# Bad input

FILES = {"labeled": "my.csv", "unlabeled": "my.jsonl", "test": "test2.csv", "dev": "dev2.csv", "audit": "audit.csv",
         "recipe": "my.yaml", "output": "my"}  # fmt: skip


@pytest.mark.parametrize(
    ("option", "content", "found", "remedy"),
    [
        ("labeled", b"", "my.csv: expected at least one row, found none", "it is empty or holds only a header"),
        ("labeled", b"text,label\n", "my.csv: expected at least one row, found none", "only a header"),
        ("labeled", b"text,kind\na,b\n", "my.csv: no label column was recognized", "with --label-column"),
        ("labeled", b"a,b,label\n1,2,3\n", "my.csv: no text column was recognized", "with --text-column"),
        ("labeled", b"text,label\na,b\nc,b\n", "my.csv: expected at least two classes", "only 'b' in column 'label'"),
        ("dev", b"text,label\na,refund\nlate,\n", "dev2.csv: line 3: expected a label, found none", "fill it in"),
        ("labeled", b"text,label\na,0.1\nb,0.25\nc,0.7\n", "my.csv: expected classes", "--label-column COLUMN"),
        ("recipe", b"seed: 2020-13-45\n", "my.yaml: not valid YAML", "cannot be read"),
        (
            "labeled",
            LABELED + b"caf\xe9,refund\n",
            "my.csv: line 6: expected utf-8, found byte 0xe9",
            "--encoding cp1252",
        ),
        ("labeled", LABELED + b"a,b,c\n", "my.csv: line 6: expected 2 cells", "in quotes"),
        ("unlabeled", b'{"id": 1, "kind": 2}\n', "my.jsonl: no text column was recognized", "with --text-column"),
        ("unlabeled", b'{"text": "a"}\n{"text"\n', "my.jsonl: line 2: ", "one JSON object per line"),
        ("unlabeled", b'{"text": "a"}\n{"text": "\xff"}\n', "my.jsonl: line 2: expected utf-8", "--encoding"),
        ("unlabeled", b'{"text": " "}\n', "my.jsonl: expected texts", "found only empty ones"),
        ("test", b"text,label\na,refund\nb,refunds\n", "test2.csv: line 3: unknown label", "did you mean 'refund'?"),
        ("dev", b"text,label\na,other\n", "dev2.csv: line 2: unknown label 'other'", "correct the label"),
        ("audit", b"label\nrefund\n", "audit.csv: expected 60 rows", "found 1"),
        ("recipe", b"lerning_rate: 1\n", "my.yaml: unknown option 'lerning_rate'", "did you mean learning_rate"),
        ("recipe", b"- seed\n", "my.yaml: expected `option: value` lines", "found list"),
        ("output", b"a file", "output: expected a folder, found the file my", "choose another --output"),
    ],
)
def test_a_bad_file_is_one_message_with_a_remedy_and_leaves_nothing(
    option: str, content: bytes, found: str, remedy: str, place: Path, encoder: str, refused: Refused
) -> None:
    """Guards what files hold: exit code 2 with file, line and remedy, no traceback, no half-made run folder."""
    name = FILES[option]
    (place / name).write_bytes(content)
    message = refused([*train(encoder), name] if option == "recipe" else train(encoder, **{option: name}))
    assert found in message
    assert remedy in message


@pytest.mark.parametrize(
    ("changes", "found", "remedy"),
    [
        ({"labeled": "none.csv"}, "no such file: none.csv", "looked for /"),
        ({"unlabeled": "none.jsonl"}, "no such file: none.jsonl", "looked for /"),
        ({"labeled": None}, "labeled: no labeled texts", "--data my.csv"),
        ({"unlabeled": None}, "unlabeled: no unlabeled texts", "--unlabeled corpus.jsonl, leave"),
        ({"test": "labeled.csv"}, "test: expected texts that the run does not see otherwise", "give --allow-overlap"),
        ({"encoder": None}, "encoder: no pretrained encoder", "--encoder demo (English), or a folder"),
        ({"output": None}, "output: no folder", "--output out"),
        ({"encoder": "no-such-org/none"}, "cannot load 'no-such-org/none'", "check the name and the network"),
        ({"encoder": "."}, "cannot load '.'", "must hold config.json"),
        ({"text_column": "txt"}, "labeled.csv: no column 'txt'", "did you mean 'text'"),
        ({"encoding": "utf-9"}, "encoding: expected a known encoding", "found 'utf-9'"),
        ({"method": "fixmach"}, "fixmach", "fixmatch"),
        (
            {"method_args": "min_confidense=2"},
            "class-balanced has no argument 'min_confidense'",
            "did you mean min_confidence",
        ),
        ({"method": "supervised"}, "rounds: supervised trains on the labels alone", "leave --rounds out"),
        ({"gold_share": "2"}, "gold_share: expected ", "found 2"),
        ({"steps": "many"}, "steps: expected int", "found 'many'"),
        ({"device": "gpu"}, "device: expected auto, cpu, cuda", "found 'gpu'"),
        ({"precision": "fp16"}, "precision: fp16 training needs a GPU", "bf16 or fp32"),
        ({"prior": "refund=1"}, "prior: expected a share for each of 'account'", "found 'refund'"),
        ({"freeze": "9"}, "freeze: expected at most 2", "found 9"),
        ({"edits": "mask=2"}, "edits: expected a share between 0 and 1 for mask", "found 2"),
        ({"training_args": "lr=1"}, "training_args: there is no training argument 'lr'", "arguments of transformers"),
        (
            {"training_args": "learning_rat=1", "labeled": "not_read.csv"},
            "training_args: there is no training argument 'learning_rat'",
            "did you mean learning_rate? (give --learning-rate)",
        ),
        ({"training_args": "max_grad_nor=1"}, "no training argument 'max_grad_nor'", "did you mean max_grad_norm?"),
        ({"learning_rate": "-1"}, "learning_rate: ", "-1"),
    ],
)
def test_a_bad_option_is_one_message_with_a_remedy_and_leaves_nothing(
    changes: dict[str, str | None], found: str, remedy: str, place: Path, encoder: str, refused: Refused
) -> None:
    """Guards what flags say: the option is named, and the corrected command is not refused for a leftover folder."""
    message = refused(train(encoder, **changes))
    assert found in message
    assert remedy in message


@pytest.mark.parametrize(
    ("name", "found"),
    [("config.yaml", "out belongs to another run"), ("thesis.tex", "out holds files that do not belong to a run")],
)
def test_a_folder_in_use_is_not_touched(name: str, found: str, place: Path, encoder: str, refused: Refused) -> None:
    """Guards another run, and somebody's own files."""
    (place / "out").mkdir()
    (place / "out" / name).write_text("years: of work\n")
    message = refused(train(encoder))
    assert found in message
    assert "choose another --output" in message
    assert (place / "out" / name).read_text() == "years: of work\n"


def test_data_that_changed_under_a_run_are_named(place: Path, encoder: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards a run against another corpus under the same name; nothing of it is overwritten."""
    assert main(train(encoder)) == 0
    before = {path: path.read_bytes() for path in listing(place / "out") if path.is_file()}
    with (place / "unlabeled.jsonl").open("a") as file:
        file.write('{"text": "one more"}\n')
    assert main(train(encoder)) == 2
    assert "out belongs to a run on other data (unlabeled changed); choose another --output" in capsys.readouterr().err
    assert main(train(encoder, seed="7")) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "  seed: 0 → 7"
    assert {path: path.read_bytes() for path in listing(place / "out") if path.is_file()} == before


@pytest.mark.parametrize(
    ("given", "missing", "example"),
    [
        (
            "",
            "missing options: --labeled, --unlabeled, --encoder and --output (one file with all texts, --data my.csv, may "
            "replace the first two)",
            "--labeled my.csv --unlabeled corpus.jsonl --encoder demo --output out",
        ),
        ("--labeled 'my own.csv' --rounds 0", "missing options: --encoder and --output", "--encoder demo --output out"),
        (
            "--labeled labeled.csv --unlabeled unlabeled.jsonl --encoder demo",
            "output: no folder for the run; give --output out",
            "--output out",
        ),
        (
            "--encoder demo --descriptions a=b c=d",
            "missing options: --unlabeled and --output",
            "--unlabeled corpus.jsonl --output out",
        ),
    ],
)
def test_all_missing_options_are_named_with_a_command_that_has_them(
    given: str, missing: str, example: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards four attempts for four options: one message, and the own command line with what it lacks."""
    before, command = listing(place), f"sstext train {given} {example}"
    assert main(["train", *shlex.split(given)]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"sstext: error: {missing}; for example:",
        f"  {' '.join(command.split())}",
    ]
    assert listing(place) == before


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (LABELED, "classes: refund (2), account (1), delivery (1)"),
        (LABELED + b",refund\n  ,account\n", "labeled: skipped 2 rows without text"),
        (LABELED + b"money " * 80 + b",refund\n", "labeled: 1 of 5 texts was cut to 16 tokens for training"),
    ],
)
def test_what_is_odd_but_usable_is_a_note(
    content: bytes, note: str, place: Path, encoder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards warnings that must not stop a run: thin classes, rows without text, texts longer than the model reads."""
    (place / "my.csv").write_bytes(content)
    assert main([*train(encoder, labeled="my.csv"), "--dry-run"]) == 0
    assert note in capsys.readouterr().err.splitlines()
    assert main([*train(encoder, labeled="my.csv"), "--dry-run", "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_predict_wants_a_model_not_an_encoder(place: Path, encoder: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards the first mistake with `sstext predict`: no output file, and the folder that is meant."""
    before = listing(place)
    assert main(["predict", encoder, "test.csv", "-o", "out.csv"]) == 2
    assert "use the `model` folder of a run (out/model)" in capsys.readouterr().err
    assert main(["evaluate", "out/model", "test.csv"]) == 2
    assert "cannot load 'out/model': there is no such folder" in capsys.readouterr().err
    assert listing(place) == before
