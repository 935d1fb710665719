"""Errors of disks in one sentence: what cannot be written, why, and what to do."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sstext.errors import MachineError, UserError

#: Errors of the machine: nothing that the user has asked for is wrong.
OF_MACHINE = frozenset(
    getattr(errno, name)
    for name in ("EIO", "ENXIO", "ENODEV", "ESTALE", "EREMOTEIO", "ENOTCONN", "ETIMEDOUT", "EHOSTDOWN")
    if hasattr(errno, name)
)
_ROOM = "make room, and run the same command again"
_AGAIN = "run the same command again when that is mended"
_ELSEWHERE = "choose another place, or change its permissions"
#: Error → the reason and the remedy.
_SAID = {
    errno.ENOSPC: ("the disk is full", _ROOM),
    getattr(errno, "EDQUOT", -1): ("the disk quota is used up", _ROOM),
    errno.EFBIG: (
        "the limit on the size of files is reached",
        "raise it, or make room, and run the same command again",
    ),
    errno.EROFS: ("the disk is read-only", "choose another place"),
    errno.EACCES: ("permission is denied", _ELSEWHERE),
    errno.EPERM: ("permission is denied", _ELSEWHERE),
    errno.ENOENT: ("its folder has vanished", "run the same command again"),
    errno.ENOTDIR: ("a part of its path is no folder", "choose another place"),
    errno.EISDIR: ("it is a folder", "choose another place"),
    errno.ENAMETOOLONG: ("its name is too long", "choose a shorter one"),
}
#: Errors that are those of a disk, whether they name a file or not. Others are only if they name one: a connection that is
#: lost while a model is being written is no fault of the disk.
_OF_DISK = frozenset({*_SAID, *OF_MACHINE}) - {
    getattr(errno, name) for name in ("ETIMEDOUT", "EHOSTDOWN") if hasattr(errno, name)
}
#: Errors that only occur when something is written.
_OF_WRITING = (errno.ENOSPC, getattr(errno, "EDQUOT", -1), errno.EFBIG, errno.EROFS)
#: How libraries say that they could not write, if they hide the number of the error.
_WRITE_FAILED = re.compile(
    r"PytorchStreamWriter|inline_container|unexpected pos|iostream|requested and \d+ written|No space left|Disk quota"
)
#: Bytes below which a disk is full.
_FULL = 2**20


def fault_of(error: BaseException, place: object) -> UserError | None:
    """An error of the disk as one sentence, or None if it is another error.

    Args:
        place: what was being written.

    >>> print(fault_of(OSError(errno.ENOSPC, "No space left on device"), "out.csv"))
    out.csv: cannot be written, because the disk is full; make room, and run the same command again
    >>> fault_of(KeyError("x"), "out.csv"), fault_of(ConnectionResetError(errno.ECONNRESET, "reset"), "out.csv")
    (None, None)
    """
    number = _number(error)
    if number is None:
        if not _WRITE_FAILED.search(str(error)):
            return None
        number = errno.ENOSPC if _is_full(place) else 0
    elif number not in _OF_DISK and getattr(error, "filename", None) is None:
        return None
    kind = MachineError if number in OF_MACHINE else UserError
    reason, remedy = _SAID.get(number, (_message(error), _AGAIN))
    return kind(f"{place}: cannot be written, because {reason}; {remedy}")


@contextmanager
def writing(place: object) -> Iterator[None]:
    """Turn the errors of the disk in this block into one sentence.

    Raises:
        UserError: `place` cannot be written. It is a `MachineError` if the disk or the network has failed.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        fault = fault_of(error, place) if _is_about(error, place) else None
        if fault is None:
            raise
        raise fault from error


def said(error: OSError) -> str:
    """An error of the system in a sentence, with the file that it is about.

    >>> said(FileNotFoundError(errno.ENOENT, "No such file or directory", "out/start/fit.json"))
    'out/start/fit.json: No such file or directory; run the same command again when that is mended'
    """
    where = f"{error.filename}: " if error.filename is not None else ""
    reason, remedy = _message(error), _AGAIN
    if error.errno in _OF_WRITING:
        reason, remedy = _SAID[error.errno]
    return f"{where}{reason}; {remedy}"


def _is_about(error: BaseException, place: object) -> bool:
    """Whether an error is not one of reading another file. Errors of opening a file have its name."""
    named = getattr(error, "filename", None)
    return not isinstance(named, str | os.PathLike) or Path(os.path.abspath(named)).is_relative_to(_path(place).parent)


def _path(place: object) -> Path:
    return Path(os.path.abspath(str(place).removeprefix("output: ")))


def _number(error: BaseException) -> int | None:
    """The number of an error of the operating system, or None. Libraries in Rust only have it in their message."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = re.search(r"os error (\d+)|\[Errno (\d+)\]", str(error))
    return int(found[1] or found[2]) if found else None


def _message(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:120] or type(error).__name__


def _is_full(place: object) -> bool:
    path = _path(place)
    there = next((folder for folder in (path, *path.parents) if folder.is_dir()), None)
    return there is not None and shutil.disk_usage(there).free < _FULL
