"""Hashes of weights and of tokenized rows, by which results that depend on them are found again."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import xxhash

from sstext.storage.mapped import give_back, rows_at

#: Rows that are read at a time, and after which the memory of a mapped file is given back.
_SLICE, _GIVEN_BACK = 20_000, 200_000


def add_weights(digest: xxhash.xxh3_128, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Add names, shapes, types and values of weights to a hash."""
    for name, values in weights:
        digest.update(f"{name} {tuple(values.shape)} {values.dtype}".encode())
        digest.update(values.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())


def add_rows(digest: xxhash.xxh3_128, rows: Any, places: np.ndarray | None = None) -> None:
    """Add all columns of a data set to a hash. They are read in parts, so a large data set does not fill the memory.

    Args:
        places: (n,) ascending numbers of the rows that are added. The hash is that of `rows.select(places)`, which would take
            about 70 bytes of memory per row. Default: all rows.

    >>> from datasets import Dataset
    >>> one, same, other = (xxhash.xxh3_128() for _ in range(3))
    >>> add_rows(one, Dataset.from_dict({"input_ids": [[1, 2], [3]]}))
    >>> add_rows(same, Dataset.from_dict({"input_ids": [[0], [1, 2], [3], [9]]}), np.array([1, 2]))
    >>> add_rows(other, Dataset.from_dict({"input_ids": [[1], [2, 3]]}))
    >>> one.digest() == same.digest(), one.digest() == other.digest()
    (True, False)
    """
    wanted = range(len(rows)) if places is None else places
    digest.update(f"{len(wanted)} {sorted(rows.column_names)}".encode())
    as_arrow = rows.select_columns(sorted(rows.column_names)).with_format("arrow")
    for start in range(0, len(wanted), _SLICE):
        table = (
            as_arrow[start : start + _SLICE] if places is None else rows_at(as_arrow, places[start : start + _SLICE])
        )
        copied = table.take(pa.array(range(len(table))))  # a slice would bring bytes of other rows along
        for batch in copied.combine_chunks().to_batches():
            digest.update(memoryview(batch.serialize()))
        if start % _GIVEN_BACK == _GIVEN_BACK - _SLICE:
            give_back(rows)
    give_back(rows)
