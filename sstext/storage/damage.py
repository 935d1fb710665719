"""Read the files of a run with their hashes checked. A damaged file is named, with what to do about it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml
from safetensors import SafetensorError

from sstext.errors import UserError
from sstext.storage.manifest import Entry, Manifest, digest_of

#: Errors from reading a damaged or incomplete file.
UNREADABLE = (
    OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, EOFError, pa.ArrowException, yaml.YAMLError,
    SafetensorError,
)  # fmt: skip
#: State of a file when its hash was right: it is not read again in this process.
_checked: dict[Path, tuple[int, int, int]] = {}


class DamagedFileError(UserError):
    """A file of a run is damaged. The message says what to delete, and what the same command then repeats."""


def fault(manifest: Manifest, name: str, entry: Entry) -> str | None:
    """What is wrong with a recorded file, or None. The file is read."""
    file = manifest.root / name
    if not file.is_file():
        return None if entry.optional else "it is missing"
    size = file.stat().st_size
    if all(size != digest.bytes for digest in entry.digests):
        return f"expected {entry.digests[-1].bytes:,} bytes, found {size:,}"
    return None if digest_of(file) in entry.digests else "its content is not what was written"


def check(path: Path, *, editable: bool = False) -> None:
    """Check a file of a run, or all files of a folder in it, against the manifest. Other files are not checked.

    Args:
        editable: whether people may have edited JSON files, for example names of classes. They must only be JSON.

    Raises:
        DamagedFileError: a file has another content than was written.
    """
    manifest = Manifest.around(path)
    if manifest is None:
        return
    own = manifest.name(path)
    for name, entry in manifest.entries().items():
        if name != own and not name.startswith(f"{own}/"):
            continue
        file = manifest.root / name
        state = _state(file)
        if state is not None and _checked.get(file.absolute()) == state:
            continue
        problem = fault(manifest, name, entry)
        if problem is not None and not (editable and is_editable(file)):
            raise damaged(file, problem)
        if state is not None:
            _checked[file.absolute()] = state


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Check a file or folder of a run, and turn errors of reading it in this block into one sentence.

    Raises:
        DamagedFileError: it is damaged.
    """
    check(path)
    try:
        yield
    except UserError:
        raise
    except UNREADABLE as error:
        problem = "it is missing" if not path.exists() else " ".join(str(error).split())[:120] or type(error).__name__
        raise damaged(path, problem) from error


def read_json(path: Path) -> Any:
    """The content of a JSON file, or None if it does not exist."""
    if not path.exists():
        return None
    with reading(path):
        return json.loads(path.read_text(encoding="utf-8"))


def read_array(path: Path, *, mapped: bool = False) -> np.ndarray:
    """A .npy file of a run, optionally mapped from disk."""
    with reading(path):
        return np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)


def is_editable(file: Path) -> bool:
    """Whether a file of a model may have been edited: it is a JSON file, and can be read as one."""
    try:
        return file.suffix == ".json" and isinstance(json.loads(file.read_text(encoding="utf-8")), dict)
    except (OSError, ValueError):
        return False


def _state(file: Path) -> tuple[int, int, int] | None:
    """What changes if a file is written, or None if there is no file."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def damaged(path: Path, problem: str) -> DamagedFileError:
    """The error for a damaged file."""
    from sstext.storage.remedies import remedy_for  # needs the names of `run_folder`, which reads by this module

    return DamagedFileError(f"{path} is damaged ({problem}); {remedy_for(path)}")
