"""Standard input as a source that can be read again and again, although a pipe can be read only once."""

import io
import sys
import tempfile
from typing import IO

import xxhash

from sstext.errors import UserError
from sstext.progress import Tick

#: How it is spelled.
STDIN = "-"
_BLOCK = 1 << 20  # bytes


class Spooled:
    """The bytes of standard input, in a temporary file that goes with the process.

    Attributes:
        fingerprint: a short name of the content.
    """

    def __init__(self, stream: IO[bytes], tick: Tick | None = None) -> None:
        digest = xxhash.xxh3_128()
        self._file = tempfile.TemporaryFile(prefix="sstext-")  # noqa: SIM115 - it lives as long as the process
        while block := stream.read(_BLOCK):
            digest.update(block)
            self._file.write(block)
            if tick is not None:
                tick(len(block))
        self._file.flush()
        self.fingerprint = f"stdin:{digest.hexdigest()}"

    def open(self) -> IO[bytes]:
        """A stream of the bytes from their beginning. Another one that is open must not be read any more."""
        self._file.seek(0)
        return io.BufferedReader(_Borrowed(self._file))  # type: ignore[type-var]


class _Borrowed(io.RawIOBase):
    """A stream whose end is not the end of the file below it."""

    name = "standard input"

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        return self._file.readinto(buffer)  # type: ignore[attr-defined]


#: What was read: a pipe can be read only once.
_read: list[Spooled] = []


def standard_input(tick: Tick | None = None) -> Spooled:
    """Standard input. It is read to its end by the first call, and the later ones return the same.

    Args:
        tick: called with the number of bytes of each block.

    Raises:
        UserError: it is a terminal, or closed.
    """
    if not _read:
        if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
            found = "none" if sys.stdin is None or sys.stdin.closed else "a terminal"
            raise UserError(
                f"standard input: expected texts, found {found}; pipe them to the command, for example "
                "`zcat corpus.jsonl.gz | sstext …`, or name a file"
            )
        _read.append(Spooled(sys.stdin.buffer, tick))
    return _read[0]
