"""Check a run folder against its manifest, repeat a run and compare both, and delete the texts of a run."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sstext.config.run_config import RunConfig
from sstext.data.run_sources import fingerprints, sources
from sstext.errors import UserError, listed
from sstext.progress import SILENT, Reporter
from sstext.run.continuing import finished_run, given_in_python
from sstext.run.train import train
from sstext.storage.damage import fault, is_editable
from sstext.storage.manifest import MANIFEST, Manifest, digest_of
from sstext.storage.ownership import LOCK, OWNER, owned
from sstext.storage.remedies import remedy_for
from sstext.storage.run_folder import (
    CONFIG,
    DATA_FOLDER,
    FIGURES,
    MODEL,
    PREDICTIONS,
    REPORT,
    TIMES,
    TO_LABEL,
    RunDirectory,
)
from sstext.storage.whole import remove, remove_partials
from sstext.training.loggers import LOGS, RUN_ID

#: What holds texts in the folder of a run.
TEXTS = (DATA_FOLDER, PREDICTIONS, REPORT, TO_LABEL)
#: What differs between two runs that are the same: times, what is drawn from them, and what people edit.
_NOT_COMPARED = (TIMES, REPORT, FIGURES, MANIFEST, LOCK, OWNER, TO_LABEL, LOGS, RUN_ID)
#: Keys of JSON files that hold times and memory, and hashes that contain versions and the number of threads.
_NOT_COMPARED_KEYS = ("seconds", "phases", "peak_memory_mib", "training_hash", "scores_hash")


@dataclass(frozen=True)
class Verified:
    """What a check of a run folder found.

    Attributes:
        files, bytes: number of recorded files, and their size.
        problems: a sentence for every damaged file, with its remedy.
        edited: names of JSON files of the model with another content than was written. People may edit these, for example
            the names of the classes, so that this is no damage.
    """

    files: int
    bytes: int
    problems: list[str]
    edited: list[str]


def run_of(folder: str | Path, what: str) -> RunDirectory:
    """The folder of a run, finished or not.

    Args:
        what: the command that names it.

    Raises:
        UserError: it is none.
    """
    run = RunDirectory(folder)
    # A file config.yaml alone may be anything. Runs of earlier versions have no manifest.
    is_run = run.holds_run() and (Manifest(run.path).path.is_file() or "fingerprints" in run.read_data())
    if not is_run:
        raise UserError(
            f"{what}: expected the folder of a run, found {folder}; give the --output folder of `sstext train`"
        )
    return run


def verify(folder: str | Path) -> Verified:
    """Check all files of a run, finished or not, against length and hash in its manifest.

    Raises:
        UserError: it is not the folder of a run, or the run has no manifest.
    """
    manifest = Manifest(Path(folder))
    if not manifest.path.is_file():
        run_of(folder, "verify")
        raise UserError(
            f"{folder}: this run has no {MANIFEST}, so its files cannot be checked; repeat the run to get one"
        )
    problems = [
        f"{manifest.path}: line {number} cannot be read; what it records is not checked"
        for number in manifest.damaged_lines()
    ]
    entries = manifest.entries()
    if CONFIG not in entries:
        problems.append(f"{manifest.path} is damaged (it does not record {CONFIG}); {remedy_for(manifest.path)}")
    size, edited = 0, list[str]()
    for name, entry in entries.items():
        problem, file = fault(manifest, name, entry), manifest.root / name
        if problem is not None and name.startswith(f"{MODEL}/") and is_editable(file):
            edited.append(name)
        elif problem is not None:
            problems.append(f"{file} is damaged ({problem}); {remedy_for(file)}")
        if file.is_file():
            size += file.stat().st_size
    return Verified(len(entries), size, problems, edited)


def reproduce(folder: str | Path, output: str | Path | None = None, *, reporter: Reporter = SILENT) -> list[str]:
    """Repeat a finished run in another folder, and compare the two. Times are not compared.

    Args:
        folder: folder of the run. It stays as it is.
        output: folder of the new run. Default: the name of the run with `-reproduced` after it. An interrupted call goes on
            there.
        reporter: shows progress.

    Returns:
        The files that differ, each with the reason.

    Raises:
        UserError: the run is not finished or damaged, its data were not given as files, or have changed since.
    """
    before = finished_run(folder, "reproduce")
    if Manifest(before.path).path.is_file() and (problems := verify(before.path).problems):
        raise UserError(problems[0])
    path = before.path if before.path.name else before.path.resolve()
    target = RunDirectory(output or path.with_name(f"{path.name}-reproduced"))
    if target.path.resolve() == path.resolve():
        raise UserError("output: expected another folder than that of the run; the run stays as it is")
    config = RunConfig(**before.read_options() | {"output": str(target.path)})
    known, named = before.read_data().get("fingerprints", {}), sources(config)
    if lacking := sorted(given_in_python(before)):
        raise UserError(f"reproduce: the run was given {listed(lacking)} in Python, not as files; repeat it there")
    prints = fingerprints(named, config.descriptions)
    if changed := sorted(name for name in prints if prints[name] != known.get(name)):
        raise UserError(f"reproduce: the data of the run have changed since ({listed(changed)}); restore them")
    plan = before.read_plan()
    if config.budget is not None and plan is not None:  # a new plan would depend on how fast the machine is now
        with owned(target.path):
            target.claim(config.to_yaml(), prints, config.defaults())
            if target.read_plan() is None:
                target.write_plan(plan)
    train(config, reporter=reporter, report=False)
    return differences(path, target.path, foreign=False)


def differences(before: Path, after: Path, *, foreign: bool = True) -> list[str]:
    """The files of two run folders that differ in anything but times, each with the reason.

    Files that hold texts may be missing in the first folder, because they may have been deleted there. Files of its model that
    people have edited are compared as they were written.

    Args:
        foreign: also name files of the first folder that its run has not written, for example notes of its owner.
    """
    found, manifest = [], Manifest(before)
    written = manifest.entries() if manifest.path.is_file() else {}
    names = {name for folder in (before, after) for name in _compared(folder)}
    for name in sorted(names):
        one, other = before / name, after / name
        if not one.is_file():
            if name.split("/")[0] not in TEXTS:
                found.append(f"{name}: only in {after}")
        elif not other.is_file():
            if foreign or not written or name in written:
                found.append(f"{name}: only in {before}")
        elif name.startswith(f"{MODEL}/") and name in written and digest_of(other) in written[name].digests:
            continue
        elif digest_of(one) != digest_of(other) and (reason := _difference(one, other)):
            found.append(f"{name}: {reason}")
    return found


def _compared(folder: Path) -> Iterator[str]:
    for file in folder.rglob("*"):
        name = file.relative_to(folder)
        if file.is_file() and name.parts[0] not in _NOT_COMPARED:
            yield name.as_posix()


def _difference(one: Path, other: Path) -> str | None:
    """How two files of one name differ, or None if only times and hashes do."""
    sizes = f"{one.stat().st_size:,} and {other.stat().st_size:,} bytes, with other content"
    if one.suffix not in (".json", ".jsonl"):
        return sizes
    try:
        found = [[_compared_part(json.loads(part)) for part in _documents(file)] for file in (one, other)]
    except ValueError:
        return sizes
    if found[0] == found[1]:
        return None
    if len(found[0]) != len(found[1]):
        return f"{len(found[0]):,} and {len(found[1]):,} lines"
    first, second = next(pair for pair in zip(*found, strict=True) if pair[0] != pair[1])
    keys = [key for key in {**first, **second} if first.get(key) != second.get(key)] if isinstance(first, dict) else []
    return f"other values of {listed(keys)}" if keys else "other values"


def _documents(file: Path) -> list[str]:
    text = file.read_text(encoding="utf-8")
    return text.splitlines() if file.suffix == ".jsonl" else [text]


def _compared_part(value: Any) -> Any:
    """A JSON value without times and hashes.

    >>> _compared_part({"steps": 8, "seconds": 1.5, "rounds": [{"seconds": 1.0, "index": 0}]})
    {'steps': 8, 'rounds': [{'index': 0}]}
    """
    if isinstance(value, dict):
        return {key: _compared_part(one) for key, one in value.items() if key not in _NOT_COMPARED_KEYS}
    return [_compared_part(one) for one in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class Forgotten:
    """A file or folder that was deleted because it held texts, with the number of its files and their size in bytes."""

    path: Path
    files: int
    bytes: int


def forget(folder: str | Path) -> list[Forgotten]:
    """Delete everything in the folder of a run, finished or not, that holds texts. All models stay.

    The model of a finished run can be used and pushed. A run that is not finished can only go on by reading its texts again,
    which the same command does.

    Raises:
        UserError: it is not the folder of a run, or a process works in it.
    """
    run, found = run_of(folder, "forget"), []
    with owned(run.path, option=None):
        remove_partials(list(run.path.rglob(".*.partial")))  # killed processes may have left texts in them
        for name in TEXTS:
            path = run.path / name
            if not path.exists():
                continue
            files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
            found.append(Forgotten(path, len(files), sum(file.stat().st_size for file in files)))
            remove(path)
    return found
