"""Files that are mapped into memory: pages that were read are given back, so that a process is no larger for a larger file.

The system could take these pages whenever it needs them. But until then they count as memory of the process, in `top`, in the
limits of a container, and in `peak_memory_mib`.
"""

import ctypes
import mmap
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset  # the import takes half a second

#: `MADV_PAGEOUT` of Linux 5.4: take back pages that can be read from their file again.
_PAGEOUT = 21


@cache
def _madvise() -> Any:
    """The system call, or None where there is none."""
    return getattr(ctypes.CDLL(None, use_errno=True), "madvise", None) if sys.platform == "linux" else None


def give_back(rows: Any) -> None:
    """Give back the pages of a data set that is mapped from files. Its rows can be read as before.

    Args:
        rows: a data set of `datasets`, or a part of one. Nothing happens to other rows, to rows in memory, and on other systems
            than Linux.
    """
    call, table = _madvise(), getattr(getattr(rows, "data", None), "table", None)
    # Memory without a file would be written to the swap space.
    if call is None or table is None or not rows.cache_files:
        return
    page = mmap.PAGESIZE
    for column in table.columns:
        for chunk in column.chunks:
            for buffer in chunk.buffers():
                begin, end = (-(-buffer.address // page), (buffer.address + buffer.size) // page) if buffer else (0, 0)
                if begin < end:
                    call(ctypes.c_void_p(begin * page), ctypes.c_size_t((end - begin) * page), _PAGEOUT)


def open_rows(file: Path) -> "Dataset":
    """The rows of an Arrow file, mapped into memory. Opening reads the beginning of every batch, and what is around it."""
    from datasets import Dataset

    rows = Dataset.from_file(str(file))
    give_back(rows)
    return rows
