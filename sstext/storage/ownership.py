"""One owner per folder: the second process in the folder of a run stops at once, and says who works there."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from sstext.errors import UserError
from sstext.storage.disk import writing
from sstext.storage.whole import PRIVATE_FOLDER

#: The lock, which the system releases if its process ends, and who holds it.
LOCK, OWNER = ".lock", ".lock.json"


@contextmanager
def owned(folder: Path, option: str | None = "output") -> Iterator[None]:
    """Own a folder in this block. It is made, for its owner alone, if it does not exist.

    A lock whose process has ended is taken over. A new folder that is empty after the block is removed again.

    Args:
        option: the option that named the folder, for messages. None if the command is about this folder and no other.

    Raises:
        UserError: another process owns it, or it cannot be written to.
    """
    refuse_file(folder)
    made, where = not folder.is_dir(), f"{option}: {folder}" if option else str(folder)
    with writing(where):
        folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, blocking=False)
    try:
        with writing(where):
            lock.acquire()
            (folder / OWNER).write_text(_myself(), encoding="utf-8")
    except Timeout:
        other = f", or choose another --{option}" if option else ""
        raise UserError(f"{where} is in use by {_holder(folder)}; wait until it has ended{other}") from None
    try:
        yield
    finally:
        with suppress(OSError):
            for file in (OWNER, LOCK):  # `filelock` takes no lock on a file that has been removed
                (folder / file).unlink(missing_ok=True)
            if made:
                folder.rmdir()
        lock.release()


def refuse_file(folder: Path) -> None:
    """Refuse a file, or a place below one, as a folder.

    Raises:
        UserError: it is one.
    """
    for place in (folder, *folder.parents):
        if place.is_file():
            raise UserError(f"output: expected a folder, found the file {place}; choose another --output")


def _myself() -> str:
    since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since})


def _holder(folder: Path) -> str:
    """The process that owns a folder, in words."""
    try:
        known = json.loads((folder / OWNER).read_text(encoding="utf-8"))
        return f"process {known['pid']} on {known['host']} (since {known['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
