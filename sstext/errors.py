"""The one error that a person can act on."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something that the user can mend: what was expected, what was found, and the remedy, in one message.

    The command line prints the message alone and leaves with exit code 2; in Python it is an ordinary `ValueError`.

    >>> raise UserError("no such file: my.csv")
    Traceback (most recent call last):
    ...
    sstext.errors.UserError: no such file: my.csv
    """


def listed(names: "list[str] | tuple[str, ...]", limit: int = 8) -> str:
    """Names for a message, cut where the list grows long.

    >>> listed(["a", "b"]), listed([str(i) for i in range(9)], limit=2)
    ("'a', 'b'", "'0', '1' and 7 more")
    """
    shown = ", ".join(repr(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def nearest(name: str, known: Iterable[str]) -> str:
    """What was perhaps meant, for a message.

    >>> nearest("fixmach", ["fixmatch", "vat"]), nearest("zzz", ["fixmatch", "vat"])
    ('did you mean fixmatch?', 'there are fixmatch, vat')
    """
    names = list(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f"did you mean {', '.join(close)}?" if close else f"there are {', '.join(names) or 'none'}"
