"""Files and folders are written whole, durably, with the right modes, and what a kill leaves is cleaned up."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sstext.data.writers import RowWriter
from sstext.errors import MachineError, UserError
from sstext.storage.chunks import open_array_whole
from sstext.storage.disk import fault_of
from sstext.storage.whole import (
    check_target,
    remove_partials_of,
    write_array_whole,
    write_folder_whole,
    write_table_whole,
    write_tables_whole,
    write_whole,
    written_whole,
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def rows_to(path: Path) -> None:
    with RowWriter(path, "csv") as writer:
        writer.write({"text": ["new"]})


def array_to(path: Path) -> None:
    with open_array_whole(path, (2, 2)) as values:
        values[:] = 1


#: Every function that writes a file.
WRITERS: dict[str, Callable[[Path], Any]] = {
    "text": lambda path: write_whole(path, "new"),
    "array": lambda path: write_array_whole(path, np.zeros(3)),
    "mapped array": array_to,
    "table": lambda path: write_table_whole(path, pa.table({"a": [1]})),
    "tables": lambda path: write_tables_whole(path, [pa.table({"a": [1]}), pa.table({"a": [2]})]),
    "rows": rows_to,
}


def test_a_file_is_on_disk_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a file that is empty after a power failure: content, then name, then the list of names."""
    happened, replace = [], Path.replace
    monkeypatch.setattr(os, "fsync", lambda handle: happened.append("folder" if os.path.isdir(handle) else "file"))
    monkeypatch.setattr(Path, "replace", lambda one, other: (happened.append("rename"), replace(one, other))[1])
    monkeypatch.setattr(os.path, "isdir", lambda handle: stat.S_ISDIR(os.fstat(handle).st_mode))
    write_whole(tmp_path / "a.json", "{}")
    assert happened == ["file", "rename", "folder"]


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "because the disk is full; make room"),
        (errno.EDQUOT, "because the disk quota is used up; make room"),
        (errno.EROFS, "because the disk is read-only; choose another place"),
        (errno.EIO, "because Input/output error"),
    ],
)
def test_an_error_of_the_disk_is_a_sentence_and_keeps_the_old_file(
    kind: str, number: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards tracebacks, half a file, and the room that half a file takes. A broken disk is no mistake of the user."""
    file = tmp_path / "x.csv"
    file.write_text("old")

    def fail(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UserError, match=said) as caught:
        WRITERS[kind](file)
    assert str(caught.value).startswith(f"{file}: cannot be written, ")
    assert isinstance(caught.value, MachineError) == (number == errno.EIO)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_libraries_that_hide_the_number_of_an_error_are_understood(tmp_path: Path) -> None:
    """Guards the tracebacks of torch, numpy and safetensors, which tell a full disk only in their message."""
    for message, said in (
        ("Error while serializing: I/O error: No space left on device (os error 28)", "the disk is full"),
        ("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0", "inline_container"),
        ("40 requested and 0 written", "40 requested"),
    ):
        with (
            pytest.raises(UserError, match=f"model: cannot be written, because .*{said}"),
            written_whole(tmp_path / "model"),
        ):
            raise RuntimeError(message)
    with pytest.raises(RuntimeError, match="something else"), written_whole(tmp_path / "model"):
        raise RuntimeError("something else")
    with pytest.raises(FileNotFoundError), written_whole(tmp_path / "model"):
        Path("/nowhere/source.csv").read_text()  # not a fault of the target


@pytest.mark.parametrize(
    ("error", "is_of_disk"),
    [
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), False),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), False),
        (TimeoutError(errno.ETIMEDOUT, "Connection timed out"), False),
        (OSError(errno.ESTALE, "Stale file handle"), True),
        (OSError(errno.EMFILE, "Too many open files", "x.json"), True),
        (RuntimeError("Connection refused (os error 111)"), False),
    ],
)
def test_only_errors_of_a_disk_are_called_so(error: Exception, is_of_disk: bool) -> None:
    """Guards a lost connection or a closed pipe that is reported as a file which cannot be written."""
    assert (fault_of(error, "x.json") is not None) == is_of_disk


def test_private_files_are_for_their_owner_and_others_have_the_usual_mode(tmp_path: Path) -> None:
    """Guards texts that other accounts can read, and weights of mode 600 beside a configuration of mode 644."""
    write_whole(tmp_path / "data" / "texts.json", "[]", private=True)
    with written_whole(tmp_path / "data" / "texts.json", private=True) as partial:
        assert mode(partial) == 0o600, "while it is written, too"
        partial.write_text("[]")
    assert (mode(tmp_path / "data"), mode(tmp_path / "data" / "texts.json")) == (0o700, 0o600)

    def fill(folder: Path) -> None:
        for name in ("config.json", "model.safetensors"):
            (folder / name).write_text("{}")
        (folder / "model.safetensors").chmod(0o600)

    write_folder_whole(tmp_path / "model", fill)
    (tmp_path / "usual").write_text("")
    assert {mode(file) for file in (tmp_path / "model").iterdir()} == {mode(tmp_path / "usual")}
    rows_to(tmp_path / "label.csv")
    (tmp_path / "label.csv").chmod(0o600)
    rows_to(tmp_path / "label.csv")
    assert mode(tmp_path / "label.csv") == 0o600, "a file that is edited stays private"


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    """Guards folders that fill with partial files, and the partial file of a process that is still writing."""
    dead = 2**22 + 1  # above the largest process id
    for name in (f".x.csv.{dead}.partial", f".x.csv.{os.getppid()}.partial", f".y.csv.{dead}.partial"):
        (tmp_path / name).write_text("half")
    check_target("output", tmp_path / "x.csv")
    left = {file.name for file in tmp_path.iterdir()}
    assert left == {f".x.csv.{os.getppid()}.partial", f".y.csv.{dead}.partial"}
    remove_partials_of(tmp_path / "y.csv")
    assert {file.name for file in tmp_path.iterdir()} == {f".x.csv.{os.getppid()}.partial"}


def test_a_target_is_checked_before_anything_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards hours of work whose result cannot be written."""
    with pytest.raises(UserError, match="json: expected a file to write, found a folder"):
        check_target("json", tmp_path)
    with pytest.raises(UserError, match="json: expected a file to write, found no folder"):
        check_target("json", tmp_path / "no" / "x.json")

    def refuse(*_: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(UserError, match=r"x\.json: cannot be written, because the disk is read-only"):
        check_target("json", tmp_path / "x.json")
