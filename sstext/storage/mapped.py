"""Files that are mapped into memory: pages that were read are given back, so that a process is no larger for a larger file.

The system could take these pages whenever it needs them. But until then they count as memory of the process, in `top`, in the
limits of a container, and in `peak_memory_mib`.
"""

import ctypes
import os
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from datasets import Dataset  # the import takes half a second

#: `MADV_PAGEOUT` of Linux 5.4: take back pages that can be read from their file again.
_PAGEOUT = 21
#: Rows that are read at a time.
_SLICE = 20_000


@cache
def _madvise() -> Any:
    """The system call, or None where there is none."""
    return getattr(ctypes.CDLL(None, use_errno=True), "madvise", None) if sys.platform == "linux" else None


def give_back(rows: Any) -> None:
    """Give back the pages of rows that are mapped from files, and what Arrow has freed. The rows can be read as before.

    Args:
        rows: a data set of `datasets`, a mapped array, or a part of one. Nothing happens to other rows, to rows in memory, and
            on other systems than Linux.
    """
    release_freed()
    names = [getattr(rows, "filename", None), *(file["filename"] for file in getattr(rows, "cache_files", ()))]
    call, files = _madvise(), {os.path.realpath(name) for name in names if name is not None}
    if call is None or not files:
        return
    # Not buffer by buffer: the system also brings in the pages around those that are read, and a page can hold several buffers.
    for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines():
        addresses, *_, name = line.split(maxsplit=5)
        if name in files:
            begin, end = (int(address, 16) for address in addresses.split("-"))
            call(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), _PAGEOUT)


def release_freed() -> None:
    """Give memory back to the system that Arrow has freed. It keeps some for later, tens of MB after large tables."""
    pa.default_memory_pool().release_unused()


def rows_at(rows: Any, places: np.ndarray) -> pa.Table:
    """A copy of the rows at ascending places of a data set in the format of Arrow.

    It is read in slices, whose pages are given back. `rows[places]` would make a batch of each row, and keep all pages.

    >>> from datasets import Dataset
    >>> rows_at(Dataset.from_dict({"row": [7, 8, 9]}).with_format("arrow"), np.array([0, 2, 2]))["row"].to_pylist()
    [7, 9, 9]
    """
    parts = [rows[:0]]
    for first in np.unique(places // _SLICE) * _SLICE:
        begin, end = np.searchsorted(places, (first, first + _SLICE))
        parts.append(rows[first : first + _SLICE].take(pa.array(places[begin:end] - first)))
        give_back(rows)
    return pa.concat_tables(parts)


def open_rows(file: Path) -> "Dataset":
    """The rows of an Arrow file, mapped into memory. Opening reads the beginning of every batch, and what is around it."""
    from datasets import Dataset

    rows = Dataset.from_file(str(file))
    give_back(rows)
    return rows
