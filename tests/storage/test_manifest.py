"""The manifest of a run agrees with its files after a kill at any moment, and tells damage from that."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sstext.storage import whole
from sstext.storage.damage import DamagedFileError, check, fault, read_array, reading
from sstext.storage.manifest import Manifest
from sstext.storage.remedies import remedy_for
from sstext.storage.run_folder import RunDirectory
from sstext.storage.whole import remove, write_array_whole, write_folder_whole, write_whole


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    directory = RunDirectory(tmp_path / "out")
    directory.claim("seed: 0\n", {"labeled": "file:aa"})
    return directory


def problems(run: RunDirectory) -> dict[str, str]:
    manifest = Manifest(run.path)
    found = {name: fault(manifest, name, entry) for name, entry in manifest.entries().items()}
    return {name: problem for name, problem in found.items() if problem is not None}


def killed(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("moment", ["before the rename", "after the rename"])
def test_a_kill_at_any_moment_is_no_damage(moment: str, run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a run that is refused after a kill: the old or the new content is right, and a new file may be missing."""
    file, fresh = run.path / "rounds.jsonl", run.path / "fit.json"
    write_whole(file, "old\n")
    if moment == "before the rename":
        monkeypatch.setattr(Path, "replace", killed)
    else:
        monkeypatch.setattr(Manifest, "done", killed)
    for path in (file, fresh):
        with pytest.raises(KeyboardInterrupt):
            write_whole(path, "new\n")
    assert problems(run) == {}
    monkeypatch.undo()
    write_whole(file, "newest\n")
    assert problems(run) == {}
    file.write_text("new\n")
    assert problems(run) == {"rounds.jsonl": "expected 7 bytes, found 4"}, "what came before is no longer right"


def test_a_file_in_a_folder_that_is_not_whole_yet_has_its_later_name(run: RunDirectory) -> None:
    """Guards figures of a report, each written whole into a partial folder, that `verify` then calls missing."""
    write_folder_whole(run.path / "report_figures", lambda folder: write_whole(folder / "rounds.svg", "<svg/>"))
    assert problems(run) == {}
    assert "report_figures/rounds.svg" in Manifest(run.path).entries()
    assert not [name for name in Manifest(run.path).entries() if "partial" in name]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", r"expected \d+ bytes, found 0"),
        (b"\x93NUMPY", r"expected \d+ bytes, found 6"),
        (None, "its content is not what was written"),
        ("gone", "it is missing"),
    ],
)
def test_damage_is_named_with_its_remedy(content: Any, problem: str, run: RunDirectory) -> None:
    """Guards tracebacks from truncated, emptied and flipped files, and numbers that are read from them."""
    file = run.path / "chain_1" / "start" / "scores.npy"
    write_array_whole(file, np.arange(6.0))
    assert read_array(file).tolist() == [0, 1, 2, 3, 4, 5]
    right = file.read_bytes()
    if content == "gone":
        file.unlink()
    else:
        file.write_bytes(right[:-1] + b"\1" if content is None else content)
    with pytest.raises(
        DamagedFileError, match=rf"scores\.npy is damaged \({problem}\); delete .*scores\.npy, and the same"
    ):
        read_array(file)


def test_a_file_that_was_removed_on_purpose_is_not_missed(run: RunDirectory) -> None:
    """Guards folders that are replaced, whose old files are gone, and files of a run that were cleaned up."""
    model = run.path / "start" / "model"
    write_folder_whole(model, lambda path: (path / "old.json").write_text("old"))
    write_folder_whole(model, lambda path: (path / "config.json").write_text("new"))
    assert sorted(Manifest(run.path).entries()) == ["config.yaml", "data.json", "start/model/config.json"]
    check(model)
    (model / "config.json").write_text("{} ")
    with pytest.raises(DamagedFileError, match=r"model/config\.json is damaged .* repeats the training of start"):
        check(model)
    remove(model)
    assert problems(run) == {}


def test_files_without_a_record_are_read_all_the_same(run: RunDirectory) -> None:
    """Guards runs of earlier versions, which have no manifest; what cannot be parsed is still one sentence."""
    remove(run.path / "manifest.jsonl")
    (run.path / "plan.json").write_text('{"half')
    with pytest.raises(DamagedFileError, match=r"plan\.json is damaged \(Unterminated string"):
        run.read_plan()
    with pytest.raises(DamagedFileError), reading(run.path / "x.npy"):
        raise EOFError


def test_a_line_that_was_cut_short_swallows_no_other(run: RunDirectory) -> None:
    """Guards a run that went on after a full disk: later lines are read, and it is not called damaged for ever."""
    manifest = Manifest(run.path)
    with manifest.path.open("ab") as file:
        file.write(b'{"file": "rou')
    lines = len(manifest.path.read_bytes().splitlines())
    assert manifest.damaged_lines() == [lines], "nothing was written after it"
    write_whole(run.path / "rounds.jsonl", "x\n")
    assert "rounds.jsonl" in manifest.entries()
    assert manifest.damaged_lines() == []
    at_the_same_time = b'{"file": "a", "bytes": 3, "xxh3_128": "x"}\n\n{"cut": true}\n'
    manifest.path.write_bytes(at_the_same_time)
    assert (list(manifest.entries()), manifest.damaged_lines()) == (["a"], [])
    manifest.path.write_bytes(b'\xff\n[1]\n{"file": 3}\n{"done": 5}\n')
    assert (manifest.entries(), manifest.damaged_lines()) == ({}, [1, 2, 3, 4])


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("config.yaml", "delete the folder"),
        ("data/unlabeled.arrow", "reads the texts again"),
        ("plan.json", "plans again"),
        ("rounds.jsonl", "selects the pseudo-labels again"),
        ("chain_1/round_1/pseudo_labels.parquet", "rounds.jsonl, and the same command selects"),
        ("chain_1/round_1/fit.json", "repeats the training of round_1"),
        ("chain_1/round_1/model/model.safetensors", "fit.json, and the same command repeats the training of round_1"),
        ("all_labels/averaged.npy", "averages the predictions again"),
        ("chain_1/start/held_out.npy", "computes these predictions again"),
        ("predictions/test.parquet", "results.json, and the same command writes the model and its figures again"),
        ("model/model.safetensors", "results.json, and the same command writes the model and its figures again"),
        ("report.html", "sstext report"),
        ("times.json", "only the times are lost"),
    ],
)
def test_every_file_has_a_remedy_that_says_what_is_repeated(name: str, remedy: str, run: RunDirectory) -> None:
    """Guards the advice to delete everything, where a minute of work is enough."""
    assert remedy in remedy_for(run.path / name)


def test_what_may_be_deleted_is_not_missed_by_the_run_that_goes_on(run: RunDirectory) -> None:
    """Guards advice to delete times, losses or predictions, after which the run is called damaged for ever."""
    spare = [run.path / name for name in ("times.json", "start/log.jsonl", "start/scores.npy")]
    for file in (*spare, run.path / "plan.json"):
        write_whole(file, "{}")
        file.unlink()
    assert len(problems(run)) == 4
    run.claim("seed: 0\n", {"labeled": "file:aa"})
    assert problems(run) == {"plan.json": "it is missing"}


def test_partial_files_are_no_files_of_a_run(run: RunDirectory) -> None:
    """Guards a manifest that grows by every temporary file, and a corpus that was cut to size before it got its name."""
    before = Manifest(run.path).path.read_bytes()
    write_whole(run.path / ".x.1.partial", "cut")
    whole.remove(run.path / ".x.1.partial")
    assert Manifest(run.path).path.read_bytes() == before
