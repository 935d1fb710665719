"""The error for mistakes that users can correct, and helpers for its messages."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake that the user can correct. The message states what was expected, what was found, and the remedy.

    The command line prints only the message and exits with code 2. In Python, it is an ordinary `ValueError`.

    >>> raise UserError("no such file: my.csv")
    Traceback (most recent call last):
    ...
    sstext.errors.UserError: no such file: my.csv
    """


def listed(names: "list[str] | tuple[str, ...]", limit: int = 8) -> str:
    """Format names for a message. Long lists are cut.

    >>> listed(["a", "b"]), listed([str(i) for i in range(9)], limit=2)
    ("'a', 'b'", "'0', '1' and 7 more")
    """
    shown = ", ".join(repr(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def nearest(name: str, known: Iterable[str]) -> str:
    """Suggest similar names for a message, or list all names.

    >>> nearest("fixmach", ["fixmatch", "vat"]), nearest("zzz", ["fixmatch", "vat"])
    ('did you mean fixmatch?', 'there are fixmatch, vat')
    """
    names = list(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f"did you mean {', '.join(close)}?" if close else f"there are {', '.join(names) or 'none'}"
