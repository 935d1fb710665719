"""What a run takes from an earlier one: what would be the same, and nothing else."""

import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sstext.cli.main import main
from sstext.config.run_config import RunConfig
from sstext.errors import UserError
from sstext.progress import Reporter
from sstext.run.continuing import go_on
from sstext.run.train import train
from sstext.run.verifying import differences
from sstext.selftraining import choice
from sstext.storage.run_folder import RunDirectory

Quick = Callable[..., RunConfig]
REGRESSIONS = {"chain 1, regression", "chain 2, regression", "regression"}
STARTS = {"chain 1, start", "chain 2, start", "start"}
#: Plain fine-tuning, for comparison on the test rows.
PLAIN = {"baseline"}


@pytest.fixture(scope="module", autouse=True)
def starts_teach() -> Iterator[None]:
    """Let the starts be the teachers in all runs, whatever the evidence, so that there is a final model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice, "choose", lambda records, *_: (min(1, len(records) - 1), "it was told to"))
        yield


class Notes(Reporter):
    """Keeps the notes of a run."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.said = list[str]()

    def note(self, message: str) -> None:
        self.said.append(message)

    @property
    def taken(self) -> set[str]:
        """The trainings that were taken from the earlier run."""
        return {said.split(": training: taken from ")[0] for said in self.said if ": taken from " in said}


@pytest.fixture(scope="module")
def quick(tiny_run: Quick) -> Quick:
    """`quick(output, **changes)`: options of a run of `auto` with two chains and one student."""
    return partial(
        tiny_run, method="auto", folds=2, prior="uniform", max_length=16, dropout=0.0, method_args={"contrast": 5.0}
    )


@pytest.fixture(scope="module")
def earlier(quick: Quick, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished run. Read only."""
    config = quick(tmp_path_factory.mktemp("earlier") / "out")
    train(config, report=False)
    return Path(str(config.output))


@pytest.mark.parametrize(
    ("changes", "taken"),
    [
        ({"keep": [0.3]}, REGRESSIONS | STARTS | PLAIN),
        pytest.param({"unlabeled": "half of it"}, REGRESSIONS | STARTS | PLAIN, marks=pytest.mark.slow),
        pytest.param({"steps": 6}, REGRESSIONS | STARTS | {"final"}, marks=pytest.mark.slow),
        pytest.param({"folds": 3}, {"regression", "start"} | PLAIN, marks=pytest.mark.slow),
        pytest.param({"round_steps": 4}, REGRESSIONS | PLAIN, marks=pytest.mark.slow),
        pytest.param({"test": None}, REGRESSIONS | STARTS | {"final"}, marks=pytest.mark.slow),
        pytest.param(
            {"prior": {"account": 0.6, "delivery": 0.2, "refund": 0.2}},
            REGRESSIONS | STARTS | PLAIN,
            marks=pytest.mark.slow,
        ),
        pytest.param({"learning_rate": 1e-3}, REGRESSIONS | STARTS | {"final"}, marks=pytest.mark.slow),
        pytest.param({"gold_share": 0.5}, set(), marks=pytest.mark.slow),
    ],
)
def test_a_run_with_another_option_is_the_same_with_and_without_the_earlier_one(
    changes: dict[str, Any], taken: set[str], quick: Quick, earlier: Path, tmp_path: Path
) -> None:
    """Guards a model that a changed option does not reach, and work that is done twice. Every file is compared."""
    if "unlabeled" in changes:
        rows = Path(str(quick(tmp_path).unlabeled)).read_text(encoding="utf-8").splitlines(keepends=True)
        (tmp_path / "half.jsonl").write_text("".join(rows[: len(rows) // 2]), encoding="utf-8")
        changes = {"unlabeled": str(tmp_path / "half.jsonl")}
    notes = Notes()
    train(quick(tmp_path / "anew", **changes), report=False)
    train(quick(tmp_path / "with", **changes), report=False, before=earlier, reporter=notes)
    assert notes.taken == taken
    found = differences(tmp_path / "anew", tmp_path / "with")
    assert [line for line in found if "data/embeddings" not in line] == []


@pytest.mark.slow
@pytest.mark.parametrize("changed", ["weights", "configuration"])
def test_another_encoder_of_the_same_name_takes_nothing(
    changed: str, quick: Quick, tiny_encoder: Path, tmp_path: Path
) -> None:
    """Guards an encoder that has been replaced under its old name, and one that computes other values with its weights."""
    from safetensors.torch import load_file, save_file

    encoder, same, other = tmp_path / "encoder", Notes(), Notes()
    shutil.copytree(tiny_encoder, encoder)
    train(quick(tmp_path / "first", encoder=str(encoder)), report=False)
    train(
        quick(tmp_path / "same", encoder=str(encoder), keep=[0.3]),
        report=False,
        before=tmp_path / "first",
        reporter=same,
    )
    assert same.taken == REGRESSIONS | STARTS | PLAIN, "canary"
    if changed == "weights":
        weights = load_file(encoder / "model.safetensors")
        name = next(name for name in weights if "word_embeddings" in name)
        save_file(weights | {name: weights[name] + 1e-6}, encoder / "model.safetensors", {"format": "pt"})
    else:
        config = json.loads((encoder / "config.json").read_text())
        (encoder / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 1e-5}))
    train(quick(tmp_path / "out", encoder=str(encoder)), report=False, before=tmp_path / "first", reporter=other)
    assert other.taken == set()


@pytest.mark.slow
def test_folds_that_change_what_a_stage_minimizes_take_no_such_stage(quick: Quick, tmp_path: Path) -> None:
    """Guards a plain baseline that is the regularized training of a run without folds: its options and rows are the same."""
    options: dict[str, Any] = {
        "method": "supervised",
        "rounds": 0,
        "prior": "auto",
        "regularizers": {"supervised-contrast": 1.0},
    }
    notes = Notes()
    for folds, before in ((0, None), (3, tmp_path / "0")):
        config = quick(tmp_path / str(folds), **options | {"folds": folds})
        config.method_args = {}
        train(config, report=False, before=before, reporter=notes)
    assert notes.taken == {"regression"}


@pytest.mark.slow
def test_files_that_are_missing_are_computed_again(quick: Quick, earlier: Path, tmp_path: Path) -> None:
    """Guards all trainings of a run whose large predictions have been deleted."""
    copy, notes = tmp_path / "copy", Notes()
    shutil.copytree(earlier, copy)
    for file in copy.rglob("scores.npy"):
        file.unlink()
    for file in copy.rglob("log.jsonl"):
        file.write_text("cut")
    train(quick(tmp_path / "anew", keep=[0.3]), report=False)
    train(quick(tmp_path / "with", keep=[0.3]), report=False, before=copy, reporter=notes)
    assert notes.taken == REGRESSIONS | STARTS | PLAIN
    found = differences(tmp_path / "anew", tmp_path / "with")
    names = {line.split(": ")[0].rpartition("/")[2] for line in found if "data/embeddings" not in line}
    assert names == {"log.jsonl"}


@pytest.mark.slow
def test_a_damaged_training_is_not_taken(quick: Quick, earlier: Path, tmp_path: Path) -> None:
    """Guards a model that is built on weights that are not those of the run."""
    copy = tmp_path / "copy"
    shutil.copytree(earlier, copy)
    weights = copy / "chain_1" / "start" / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    notes = Notes()
    train(quick(tmp_path / "out", keep=[0.3]), report=False, before=copy, reporter=notes)
    assert notes.taken == (REGRESSIONS | STARTS | PLAIN) - {"chain 1, start"}


def test_the_command_goes_on_with_another_option(
    earlier: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Guards the way that people take: the folder of the run, and what changes. Its data and other options stay."""
    out = str(tmp_path / "next")
    keys = list(RunDirectory(earlier).read_options()["method_args"])
    assert keys == sorted(keys), "the run had another order"
    assert main(["train", str(earlier), "--keep", "0.3", "--output", out, "--no-report"]) == 0
    said = capsys.readouterr()
    expected = f"chain 1, start: training: taken from {earlier.name}, because nothing that it depends on has changed"
    assert expected in said.err + said.out
    assert "Before → now: " in said.out
    assert main(["train", str(earlier), "--output", out]) == 2
    assert "nothing changes; give --more labels.csv" in capsys.readouterr().err
    assert main(["train", str(earlier), "--method", "none", "--output", out]) == 2
    assert main(["train", str(earlier), "recipe.yaml"]) == 2
    assert "this is the folder of a run; give it alone" in capsys.readouterr().err


def test_data_that_were_given_in_python_are_asked_for(
    quick: Quick, tiny_files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards a run on half of its data."""
    from datasets import Dataset

    config = quick(tmp_path / "out", method="supervised", rounds=0, folds=0, method_args={})
    rows = Dataset.from_csv(str(tiny_files.labeled), cache_dir=str(tmp_path / "cache"))
    config.labeled, config.method_args = None, {}
    train(config, report=False, labeled=rows)
    with pytest.raises(UserError, match="given 'labeled' in Python, not as files; give labeled"):
        go_on(tmp_path / "out", None, {"steps": 4})
    without = go_on(tmp_path / "out", None, {"labeled": str(tiny_files.labeled), "test": None})
    assert without.test is None
    assert go_on(tmp_path / "out", None, {"labeled": str(tiny_files.labeled)}).labeled == str(tiny_files.labeled)


def test_data_that_have_changed_are_named(quick: Quick, tiny_files: Any, tmp_path: Path) -> None:
    """Guards a difference that people would take for that of the option."""
    labeled, notes = tmp_path / "labeled.csv", Notes()
    shutil.copy(tiny_files.labeled, labeled)
    config = quick(tmp_path / "out", labeled=str(labeled), method="supervised", rounds=0, folds=0)
    config.method_args = {}
    train(config, report=False)
    go_on(tmp_path / "out", None, {"steps": 4}, reporter=notes)
    assert notes.said == []
    labeled.write_text(labeled.read_text() + "a new text,refund\n")
    go_on(tmp_path / "out", None, {"steps": 4}, reporter=notes)
    assert notes.said == [f"'labeled': the content has changed since the run in {tmp_path / 'out'}"]
