"""Texts and names of strangers, made harmless before they are shown.

A class name, a text or the name of a column may hold escape sequences that recolor a terminal, line breaks that pretend to be
another message, or marks that turn the direction of writing. What people see shows such characters as escapes. What is written
as data is unchanged.
"""

import re
from collections.abc import Callable
from typing import Any

#: Control characters, line and paragraph separators, marks of direction, and what no encoding or XML can hold.
_ACTIVE = r"\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff"
_IN_A_LINE = re.compile(rf"[{_ACTIVE}\u061c\u200e\u200f]")
_IN_A_TEXT = re.compile(rf"(?![\n\t])[{_ACTIVE}]")


def plain(value: Any) -> str:
    r"""A name or message on one line, without a character that acts instead of being seen.

    >>> print(plain("late\x1b[31m\n" + chr(0x202E) + "yes"), plain("Größe 退款"))
    late\x1b[31m\n\u202eyes Größe 退款
    """
    return _IN_A_LINE.sub(_escaped, str(value))


def plain_text(text: str) -> str:
    r"""A text of several lines. Line breaks and tabs stay, and so do the marks that right-to-left languages need.

    >>> print(plain_text("late\x1b[2J\r\nagain"))
    late\x1b[2J
    again
    """
    return _IN_A_TEXT.sub(_escaped, text.replace("\r\n", "\n"))


def plain_json(text: str) -> str:
    r"""JSON with the same content, in which such characters are escapes of JSON.

    >>> print(plain_json('{"late' + chr(0x9B) + '": 1}'))
    {"late\u009b": 1}
    """
    return _IN_A_TEXT.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def plain_message(message: Any) -> str:
    r"""A message of ours. Its details may be on further lines, which begin with two blanks.

    >>> print(plain_message("other options:\n  seed: 0\nerror: gotcha"))
    other options:
      seed: 0\nerror: gotcha
    """
    return "\n  ".join(map(plain, str(message).split("\n  ")))


def _escaped(found: "re.Match[str]") -> str:
    return found[0].encode("unicode_escape").decode("ascii")


class PlainBytes:
    """A byte stream that a person reads: UTF-8 text is passed on with escapes, and other bytes as they are.

    >>> import io
    >>> shown = io.BytesIO()
    >>> PlainBytes(shown).write("a,\x1b[31mb\\n".encode())
    >>> shown.getvalue()
    b'a,\\\\x1b[31mb\\n'

    Args:
        stream: an open byte stream.
    """

    name = "the terminal"

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.flush: Callable[[], None] = stream.flush

    def write(self, content: bytes) -> None:
        """Write whole lines of UTF-8."""
        try:
            self._stream.write(plain_text(content.decode("utf-8")).encode("utf-8"))
        except UnicodeDecodeError:
            self._stream.write(content)
