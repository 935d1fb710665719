"""What is inside a file, by its first bytes: a compressed file, a zip with one file, a workbook, a table, or plain text.

The ending of a name may be wrong or missing. The first bytes are not.
"""

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import PurePath
from typing import IO, Any, cast

import pyarrow as pa

from sstext.errors import UserError, listed

#: Endings of packed files. They are left out when the format is read from a name.
PACKED = (".gz", ".bz2", ".xz", ".zip", ".zst")
_ZIP, _OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"
_TABLES = {b"PAR1": "parquet", b"ARROW1": "arrow", b"\xff\xff\xff\xff": "arrow"}
_AS_CSV = "save it as .xlsx or as CSV UTF-8"
_DEEPEST = 3  # a file that is packed more often than this is not meant to be read
#: Bytes that are looked at.
HEAD = 1 << 16


class _Unzstd(io.RawIOBase):
    """A zstd stream, unpacked. Python has no zstd before 3.14, but Arrow has it."""

    def __init__(self, packed: IO[bytes]) -> None:
        self._unpacked = pa.CompressedInputStream(pa.PythonFile(_LeftOpen(packed), mode="r"), "zstd")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._unpacked.read(len(buffer))
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        self._unpacked.close()
        super().close()


class _LeftOpen:
    """A stream that others cannot close."""

    closed = False

    def __init__(self, stream: IO[bytes]) -> None:
        self.read = stream.read

    def close(self) -> None:
        pass


#: First bytes of packed streams, and what unpacks them.
_UNPACKERS: dict[bytes, Any] = {
    b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open, b"\x28\xb5\x2f\xfd": _Unzstd,
}  # fmt: skip


@dataclass(frozen=True)
class Content:
    """The innermost stream of a file."""

    stream: io.BufferedReader
    name: str  # for messages: that of the file, and of its member in a zip
    inner: str  # the name whose ending tells the format
    format: str | None  # if the first bytes tell it

    def head(self) -> bytes:
        """The first bytes, which stay in the stream."""
        return self.stream.peek(HEAD)[:HEAD]


def unpacked(stream: IO[bytes], name: str, opened: ExitStack) -> Content:
    """The content of a byte stream, unpacked as often as needed.

    >>> with ExitStack() as opened:
    ...     content = unpacked(io.BytesIO(gzip.compress(b"text\\nhello")), "my.csv.gz", opened)
    ...     content.inner, content.stream.read()
    ('my.csv', b'text\\nhello')

    Args:
        stream: is left open.
        name: name of the file.
        opened: closes what is opened here.

    Raises:
        UserError: a zip with several files, an encrypted one, or an old or foreign spreadsheet.
    """
    inner = name
    for _ in range(_DEEPEST):
        reader = io.BufferedReader(cast(Any, stream), HEAD)
        opened.callback(_let_go, reader)
        head = reader.peek(8)
        unpacker = next((found for magic, found in _UNPACKERS.items() if head.startswith(magic)), None)
        if unpacker is not None:
            stream = opened.enter_context(unpacker(reader))
            inner = inner[: -len(PurePath(inner).suffix)] if PurePath(inner).suffix.lower() in PACKED else inner
        elif head.startswith(_ZIP):
            whole: Any = reader if reader.seekable() else io.BytesIO(reader.read())
            archive = opened.enter_context(_archive(whole, name))
            if any(entry.startswith("xl/") for entry in archive.namelist()):
                whole.seek(0)
                return Content(io.BufferedReader(whole) if whole is not reader else reader, name, inner, "xlsx")
            inner = _only_file(archive, name)
            try:
                stream = opened.enter_context(archive.open(inner))
            except (RuntimeError, NotImplementedError, zipfile.BadZipFile) as error:
                raise UserError(f"{name}: cannot be unpacked ({error}); unpack it and give the file") from None
            name = f"{name} ({inner})"
        elif head.startswith(_OLE):
            raise UserError(f"{name}: an old Excel workbook (.xls), or one with a password; {_AS_CSV}")
        else:
            found = next((kind for magic, kind in _TABLES.items() if head.startswith(magic)), None)
            return Content(reader, name, inner, found)
    raise UserError(f"{name}: packed more than {_DEEPEST} times; unpack it first")


@contextmanager
def damage_explained(name: str) -> Iterator[None]:
    """Turn the errors of a damaged packed file into a `UserError`."""
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, gzip.BadGzipFile) as error:
        raise UserError(f"{name}: damaged or cut off ({error}); pack or download it again") from None
    except OSError as error:
        if error.errno is not None:
            raise UserError(f"{name}: cannot be read ({error.strerror})") from None
        raise UserError(f"{name}: damaged or cut off ({error}); pack or download it again") from None  # from bz2


def _let_go(reader: io.BufferedReader) -> None:
    """Detach a reader, so that the stream below it stays open when the reader is collected."""
    try:
        reader.detach()
    except ValueError:  # it is detached, or the stream below it is closed
        return


def _archive(stream: Any, name: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(stream)
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError) as error:
        raise UserError(f"{name}: damaged or cut off ({error}); pack or download it again") from None


def _only_file(archive: zipfile.ZipFile, name: str) -> str:
    """The one file of a zip. What macOS and file managers add does not count."""
    names = archive.namelist()
    if "mimetype" in names and b"opendocument" in archive.read("mimetype"):
        raise UserError(f"{name}: an OpenDocument file, which is not supported; {_AS_CSV}")
    if "word/document.xml" in names or "ppt/presentation.xml" in names:
        raise UserError(f"{name}: an Office document without a table of rows; save the texts as .txt or .csv")
    files = [
        entry for entry in names
        if not entry.endswith("/") and not entry.startswith("__MACOSX/") and not PurePath(entry).name.startswith(".")
    ]  # fmt: skip
    if len(files) != 1:
        found = f"{len(files)}: {listed(files, 4)}" if files else "none"
        raise UserError(f"{name}: expected a zip with one file, found {found}; unpack it and give one of them")
    return files[0]
