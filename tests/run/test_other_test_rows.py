"""A run whose test rows are replaced: nothing is trained again, and everything is as in a fresh run with these rows."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from notes import Notes
from runs import contents

from sstext.config.run_config import RunConfig
from sstext.errors import UserError
from sstext.evaluation.bootstrap import evaluate_predictions
from sstext.run.train import train

#: What depends on the time and the machine.
TIMES = ("seconds", "phases", "peak_memory_mib")
FILES = ("config.yaml", "data.json", "plan.json", "model/README.md", "predictions/test.parquet")


def everything(folder: Path) -> dict[str, Any]:
    """All that a run computes, without times."""
    results = json.loads((folder / "results.json").read_text())
    for record in results["rounds"]:
        record["seconds"] = None
    files = {name: (folder / name).read_bytes() for name in FILES if (folder / name).exists()}
    return contents(folder) | files | {"results": {name: value for name, value in results.items() if name not in TIMES}}


def steps_of(notes: Notes) -> list[str]:
    return [note for note in notes.said if " steps in " in note]


@pytest.mark.parametrize(
    ("changes", "trained"),
    [
        ({"method": "supervised", "method_args": {}, "rounds": 0}, 0),
        pytest.param({}, 0, marks=pytest.mark.slow),
        pytest.param({"method": "auto", "method_args": {}, "folds": 2, "round_steps": 6}, 1, marks=pytest.mark.slow),
    ],
)
def test_other_test_rows_are_measured_as_in_a_fresh_run(
    changes: dict[str, Any],
    trained: int,
    tiny_run: Callable[..., RunConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Test rows are added, replaced and removed: every file is that of a fresh run, bit for bit. Of all methods, only those
    that show plain fine-tuning beside the model train it, when the first test rows come, as the fresh run does."""
    task, arguments = tiny_run(tmp_path).test, changes.pop("method_args", None)
    made: list[Path] = []
    monkeypatch.setattr("sstext.run.train.write_report_of_owner", made.append)
    monkeypatch.setattr("sstext.run.measuring.evaluate_predictions", partial(evaluate_predictions, resamples=99))

    def run(name: str, test: str | None) -> tuple[dict[str, Any], Notes]:
        notes = Notes()
        config = tiny_run(tmp_path / name, test=test, steps=4, **{"round_steps": 4} | changes)
        if arguments is not None:
            config.method_args = arguments
        train(config, reporter=notes)
        return everything(tmp_path / name), notes

    dev = str(Path(task).parent / "dev.csv")
    without, _ = run("out", None)
    fresh = {test: run(f"fresh_{number}", test)[0] for number, test in enumerate((task, dev))}
    assert fresh[task] != fresh[dev], "canary"
    models = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("fit.json")}
    (tmp_path / "out" / "report.html").write_text("of other rows")
    for test in (task, dev):
        found, notes = run("out", test)
        for key in fresh[test]:
            assert found[key] == fresh[test][key], (test, key)
        assert len(steps_of(notes)) == (trained if test == task else 0)
        said = "only the test rows have changed; its models stay, and are measured again"
        assert sum(said in note for note in notes.said) == 1
        assert not (tmp_path / "out" / "report.html").exists()
        assert made[-1] == tmp_path / "out"
    found, notes = run("out", None)
    kept = {
        key for key in found if key not in without
    }  # plain fine-tuning and the regression, measured on test rows, stay
    assert len(kept) <= 2 * trained + 2
    assert {key: value for key, value in found.items() if key not in kept} == without
    assert {path: path.stat().st_mtime_ns for path in models} == models, "nothing was trained again"


def test_bad_test_rows_change_nothing(tiny_run: Callable[..., RunConfig], tmp_path: Path) -> None:
    """Guards a finished run that loses its results for a file with a label that no class has; and a change of the test rows
    beside another option."""
    bad = tmp_path / "bad.csv"
    bad.write_text("text,label\nmoney,refunds\n")
    train(tiny_run(tmp_path / "out", steps=2, method="supervised", method_args={}, rounds=0))
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    for message, changes in (("unknown label 'refunds'", {"steps": 2}), ("belongs to another run", {"steps": 3})):
        with pytest.raises(UserError, match=message):
            train(tiny_run(tmp_path / "out", test=str(bad), method="supervised", method_args={}, rounds=0, **changes))
        assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before
