"""One owner per folder."""

import json
import os
import signal
import socket
import stat
from pathlib import Path

import pytest

from sstext.errors import UserError
from sstext.storage.ownership import owned


def test_the_second_one_is_told_who_works_there(tmp_path: Path) -> None:
    """Guards two runs that mix their files. The folder is for its owner alone."""
    folder = tmp_path / "out"
    with owned(folder):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        who = rf"output: .*out is in use by process {os.getpid()} on {socket.gethostname()} \(since 20.* UTC\); wait until"
        with pytest.raises(UserError, match=who), owned(folder):
            pass
        (folder / ".lock.json").write_text("half")
        with pytest.raises(UserError, match="in use by another process; wait"), owned(folder):
            pass
        (folder / "config.yaml").write_text("")
    assert sorted(file.name for file in folder.iterdir()) == ["config.yaml"]
    with owned(folder):
        pass


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    """Guards a folder that is locked for ever after a kill or a power failure."""
    folder = tmp_path / "out"
    ready, tell = os.pipe()
    process = os.fork()
    if not process:
        with owned(folder):
            (folder / "config.yaml").write_text("")
            os.write(tell, b"1")
            signal.pause()
        os._exit(0)
    os.read(ready, 1)
    with pytest.raises(UserError, match=f"in use by process {process} "), owned(folder):
        pass
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    with owned(folder):
        assert json.loads((folder / ".lock.json").read_text())["pid"] == os.getpid()


def test_nothing_is_left_where_no_run_begins(tmp_path: Path) -> None:
    """Guards new folders and lock files in folders of other people, after a command that was refused."""
    with pytest.raises(UserError, match="wrong"), owned(tmp_path / "new"):
        raise UserError("wrong")
    (tmp_path / "thesis.tex").write_text("")
    with owned(tmp_path):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]
    with (
        pytest.raises(UserError, match="expected a folder, found the file"),
        owned(tmp_path / "thesis.tex"),
    ):
        pass


def test_a_command_about_this_folder_offers_no_other_one(tmp_path: Path) -> None:
    """Guards advice that `sstext report` and `sstext forget` cannot follow."""
    with (
        owned(tmp_path),
        pytest.raises(UserError, match=rf"^{tmp_path} is in use by .*; wait until it has ended$"),
        owned(tmp_path, option=None),
    ):
        pass
