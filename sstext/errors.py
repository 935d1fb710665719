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


class MachineError(UserError):
    """A failure of the machine, such as a broken disk. The command line exits with code 1."""


class MissingOptionsError(UserError):
    """Options without which a run cannot begin.

    Attributes:
        names: their names.
    """

    def __init__(self, message: str, *names: str) -> None:
        super().__init__(message)
        self.names = names


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


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on any device.

    >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"))
    True
    >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("shapes do not match"))
    (True, False)
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # the latter is that of torch
        return True
    return isinstance(error, RuntimeError) and any(part in str(error) for part in _OUT_OF_MEMORY)


#: How torch says on a GPU and on a CPU that memory ran out.
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
