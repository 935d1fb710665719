"""Write files and folders whole or not at all, and durably.

The content is written beside the place, to `.NAME.PID.partial`, and is on disk before it replaces what was there. If the
process is killed, the old or the new content remains. In the folder of a run, the manifest knows both
(`sstext.storage.manifest`).
"""

import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from sstext.errors import UserError
from sstext.storage.disk import writing
from sstext.storage.manifest import Manifest, digest_of

_PARTIAL = re.compile(r"\..+\.(\d+)\.partial", re.DOTALL)
#: A part of an array that is computed in chunks. It is removed as soon as the whole array is on disk.
_PART = re.compile(r"(.+)-\d{12}\.npy")
#: Modes of what only the owner may read, because it holds texts.
PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700


def partial_of(path: Path) -> Path:
    """Where this process writes what will replace `path`."""
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


@contextmanager
def written_whole(path: Path, *, private: bool = False, recorded: bool = True) -> Iterator[Path]:
    """Write a file or a folder at the place that is yielded. It replaces `path` at the end of the block.

    If the block raises, nothing is left of the new content.

    Args:
        private: whether only the owner may read the file, because it holds texts. A folder that is made for it is
            private, too.
        recorded: whether the manifest of a run keeps its hash. Files that people edit or ask for by name are not recorded,
            because they may be changed or deleted, also in the folder of a run.

    Raises:
        UserError: the disk is full, read-only or similar.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER if private else 0o777)
    temporary = partial_of(path)
    remove(temporary)
    try:
        with writing(path):
            if private:  # from its first byte on
                temporary.touch(mode=PRIVATE_FILE)
            yield temporary
            move_whole(temporary, path, private=private, recorded=recorded)
    finally:
        with suppress(OSError):
            remove(temporary)


@contextmanager
def scratch_beside(path: Path) -> Iterator[Path]:
    """An empty folder beside a file, for libraries that make temporary files of their own. It is removed afterwards."""
    folder = path.with_name(f".{path.name}-scratch.{os.getpid()}.partial")
    remove(folder)
    with writing(path):
        folder.mkdir(mode=PRIVATE_FOLDER)
    try:
        yield folder
    finally:
        with suppress(OSError):
            remove(folder)


def move_whole(temporary: Path, path: Path, *, private: bool = False, recorded: bool = True) -> None:
    """Let a finished file or folder replace `path`, see `written_whole`."""
    _set_modes(temporary, path, private)
    files = [file for file in sorted(temporary.rglob("*")) if file.is_file()] if temporary.is_dir() else [temporary]
    for file in (*files, *_folders(temporary)):
        flush_to_disk(file)
    manifest = Manifest.around(path) if recorded and not _is_partial(path) else None
    places = [path / file.relative_to(temporary) for file in files] if temporary.is_dir() else [path]
    if manifest is not None:
        manifest.gone(file for file in path.rglob("*") if file.is_file() and file not in places)
        manifest.expect({place: digest_of(file) for place, file in zip(places, files, strict=True)})
    if temporary.is_dir() and path.is_dir():  # a folder cannot be replaced in one go
        old = path.with_name(f".{path.name}-old.{os.getpid()}.partial")
        remove(old)
        path.replace(old)
        temporary.replace(path)
        remove(old)
    else:
        temporary.replace(path)
    flush_to_disk(path.parent)
    if manifest is not None:
        manifest.done(places)


def _is_partial(path: Path) -> bool:
    """Whether a file is, or is in, what will replace another file or folder. The manifest knows it by its later name."""
    return any(_PARTIAL.fullmatch(part) for part in path.parts)


def _folders(path: Path) -> list[Path]:
    return [path, *(folder for folder in path.rglob("*") if folder.is_dir())] if path.is_dir() else []


def _set_modes(path: Path, place: Path, private: bool) -> None:
    """Set the modes of what will replace `place`. Private files are for the owner, other files keep the mode that they had.

    All files of a folder have the usual mode, although some libraries write private ones.
    """
    if path.is_file() and (private or place.is_file()):
        path.chmod(PRIVATE_FILE if private else place.stat().st_mode & 0o777)
    for folder in _folders(path):
        usual = folder.stat().st_mode & 0o666
        for file in folder.iterdir():
            if file.is_file() and file.stat().st_mode & 0o777 != usual:
                file.chmod(usual)


def flush_to_disk(path: Path) -> None:
    """Wait until a file, or the list of files in a folder, is on disk. Power may fail after that."""
    if path.is_dir():
        if os.name != "posix":
            return
        handle = os.open(path, os.O_RDONLY)
    else:
        handle = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there. A manifest no longer expects it."""
    manifest = Manifest.around(path)
    if manifest is not None and not _is_partial(path) and os.path.lexists(path):
        known = manifest.entries()
        files = [path] if not path.is_dir() else [file for file in path.rglob("*") if file.is_file()]
        manifest.gone(file for file in files if manifest.name(file) in known)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_partials(places: Iterable[Path]) -> None:
    """Remove what killed processes have left among files: the partial ones of processes that have ended."""
    for place in places:
        found = _PARTIAL.fullmatch(place.name)
        if found and not psutil.pid_exists(int(found[1])):
            with suppress(OSError):  # nobody reads it
                remove(place)


def remove_joined_parts(places: Iterable[Path]) -> None:
    """Remove the parts of arrays among files (`sstext.storage.chunks`) that are in a whole array by now."""
    for place in places:
        found = _PART.fullmatch(place.name)
        if found and place.with_name(f"{found[1]}.npy").exists():
            remove(place)


def remove_partials_of(path: Path) -> None:
    """Remove what killed processes have left of a file that they were writing."""
    remove_partials(path.parent.glob(f".{_escaped(path.name)}.*.partial"))


def check_target(option: str, path: Path) -> None:
    """Refuse a file that cannot be written, before anything is computed. What killed processes left of it is removed.

    Raises:
        UserError: there is no such folder, or it cannot be written to.
    """
    if path.is_dir() or not path.absolute().parent.is_dir():
        found = "a folder" if path.is_dir() else f"no folder {path.parent}"
        raise UserError(f"{option}: expected a file to write, found {found}; name a file in an existing folder")
    remove_partials_of(path)
    if path.exists() and not path.is_file():
        return  # a device or a pipe
    temporary = partial_of(path)
    with writing(path):
        try:
            temporary.write_bytes(b"\0")
        finally:
            temporary.unlink(missing_ok=True)


def _escaped(name: str) -> str:
    """A name in which `glob` finds no pattern."""
    return re.sub(r"([\[\]*?])", r"[\1]", name)


def write_whole(path: Path, text: str, *, private: bool = False, recorded: bool = True) -> None:
    """Write a text file, whole or not at all. See `written_whole`."""
    with written_whole(path, private=private, recorded=recorded) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_array_whole(path: Path, values: np.ndarray, *, private: bool = False, recorded: bool = True) -> None:
    """Write an array as .npy, whole or not at all. See `written_whole`."""
    with (
        written_whole(path, private=private, recorded=recorded) as temporary,
        temporary.open("wb") as file,
    ):
        np.save(file, values, allow_pickle=False)


def write_table_whole(path: Path, table: pa.Table, *, private: bool = False) -> None:
    """Write a table as parquet, whole or not at all."""
    write_tables_whole(path, [table], private=private)


def write_tables_whole(path: Path, tables: Iterable[pa.Table], *, private: bool = False) -> None:
    """Write one or more tables with the same columns as one parquet file, whole or not at all. One is in memory at a time."""
    tables = iter(tables)
    first = next(tables)
    with (
        written_whole(path, private=private) as temporary,
        pq.ParquetWriter(temporary, first.schema, compression="zstd") as writer,
    ):
        for table in chain([first], tables):
            writer.write_table(table)


def write_folder_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` to fill a temporary folder, then replace `path` by it."""
    with written_whole(path) as temporary:
        temporary.mkdir()
        write(temporary)


def copy_whole(source: Path, path: Path) -> None:
    """Copy a file or a folder, whole or not at all. See `written_whole`."""
    with written_whole(path) as temporary:
        shutil.copytree(source, temporary) if source.is_dir() else shutil.copyfile(source, temporary)
