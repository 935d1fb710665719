"""Bytes → lines of text: which encoding a file has, and what cannot be decoded."""

import codecs
import io
import re
from collections.abc import Callable, Iterator

from sstext.config.spelling import spelled
from sstext.errors import UserError

WINDOW = 1 << 16  # characters that are read at once


_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")  # how errors="surrogateescape" represents a byte that cannot be decoded


_SURROGATE = re.compile("[\ud800-\udfff]")


#: First bytes of a file that tell its encoding. Those of UTF-32 begin like those of UTF-16.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip


def codec_of(encoding: str) -> codecs.CodecInfo:
    """The text codec of this name.

    Raises:
        UserError: if there is no such codec.
    """
    try:
        if "a\n".encode(encoding).decode(encoding) == "a\n":
            return codecs.lookup(encoding)
    except (LookupError, UnicodeError, ValueError, TypeError, AttributeError):
        pass  # unknown, or a codec of Python that is no encoding of texts, such as base64
    raise UserError(f"encoding: expected a known encoding such as utf-8 or cp1252, found {encoding!r}")


def encoding_of(head: bytes, wanted: str) -> str:
    """The encoding of a file, by its first bytes. `wanted` is used if they do not tell it.

    A byte-order mark tells the encoding. Without one, a text with bytes of 0 at every second place is UTF-16, and a text
    whose bytes form the longer characters of UTF-8 is UTF-8: this does not happen by chance.

    >>> encoding_of(codecs.BOM_UTF16_LE, "utf-8"), encoding_of(b"text", "utf-16"), encoding_of("é".encode(), "cp1252")
    ('utf-16', 'utf-8', 'utf-8')
    >>> encoding_of("é".encode("cp1252"), "cp1252"), encoding_of("text".encode("utf-16-le"), "utf-8")
    ('cp1252', 'utf-16-le')
    """
    codec = codec_of(wanted).name
    for mark, found in _MARKS.items():
        if head.startswith(mark):
            return found
    zeros = [head[place::2].count(0) for place in (0, 1)]
    if not codec.startswith("utf-32") and min(zeros) * 5 < max(zeros) and max(zeros) > 0.15 * len(head):
        return "utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"
    wide = codec.startswith(("utf-16", "utf-32"))
    text = _as_utf8(head)
    if text is not None and (not any(zeros) if wide else not text.isascii()):
        return "utf-8"
    return wanted


def _as_utf8(head: bytes) -> str | None:
    """The text of these bytes in UTF-8, without a character that is cut off at the end. None if they are not UTF-8."""
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return None


def _encoding_remedy() -> str:
    return f"give the encoding of the file, for example `{spelled('encoding', 'cp1252')}` or `{spelled('encoding', 'utf-16')}`"


class Text:
    """The decoded and checked lines of a byte stream, with their line ends. `line` numbers the current line."""

    def __init__(self, stream: io.BufferedReader, name: str, encoding: str) -> None:
        self.name, self.line = name, 0
        self._encoding = encoding = encoding_of(stream.peek(WINDOW)[:WINDOW], encoding)
        self._ahead = ""
        # newline="" keeps the line ends inside quoted cells; with surrogateescape, the message can name the bad byte.
        codec = codec_of(encoding).name
        codec = "utf-8-sig" if codec == "utf-8" else codec
        self._file = io.TextIOWrapper(stream, codec, errors="surrogateescape", newline="")

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line, self._ahead = self._ahead, ""
        if not line.endswith(("\n", "\r")):
            line += self._decode(self._file.readline)
        if not line:
            raise StopIteration
        self._check(line)
        self.line += 1
        return line

    def peek(self) -> str:
        """The next line, or the beginning of a very long line, without consuming it."""
        self._ahead = self._ahead or self._decode(lambda: self._file.readline(WINDOW))
        return self._ahead

    def first_character(self) -> str:
        """The next character that is not blank, without consuming it ("" at the end). Skips blank lines before it."""
        while self.peek().isspace():
            next(self)
        return self.peek().lstrip()[:1]

    def read(self, size: int) -> str:
        """Read the text that was peeked at and about `size` more characters. `line` advances by its line ends."""
        part, self._ahead = self._ahead + self._decode(lambda: self._file.read(size)), ""
        self._check(part)
        self.line += part.count("\n")
        return part

    def release(self) -> None:
        """Detach the stream without closing it."""
        self._file.detach()

    def _decode(self, read: Callable[[], str]) -> str:
        try:
            return read()
        except UnicodeError as error:
            raise UserError(
                f"{self.name}: line {self.line + 1}: not {self._encoding} ({error}); {_encoding_remedy()}"
            ) from None

    def _check(self, part: str) -> None:
        found = None if part.isascii() else _SURROGATE.search(part)
        if found:
            line = self.line + 1 + part.count("\n", 0, found.start())
            escaped = _ESCAPED_BYTE.match(found[0])
            what = f"byte 0x{ord(found[0]) - 0xDC00:02x}" if escaped else f"half a character ({found[0]!a})"
            raise UserError(f"{self.name}: line {line}: expected {self._encoding}, found {what}; {_encoding_remedy()}")
