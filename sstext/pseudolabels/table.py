"""The pseudo-labels of a round on disk: one parquet file with one line per selected row.

It is written and read in parts, because nearly the whole corpus may be selected.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sstext.pseudolabels.selection import Selection
from sstext.storage.damage import reading
from sstext.storage.mapped import release_freed, rows_at
from sstext.storage.whole import write_tables_whole

#: Rows that are written and read together: a row group of the file.
TOGETHER = 100_000


def write_pseudo_labels(path: Path, selected: Selection, *, corpus: Any, classes: Sequence[str], index: int) -> None:
    """Write the M pseudo-labels of a round. An interrupted write leaves no file.

    Columns: `row` (number of the row in the user's file), `position` (in the corpus, which has no rows without text),
    `label`, `confidence`, `weight`, `round`, and `target` (C probabilities) if pseudo-labels are soft.

    Args:
        corpus: a data set whose column `row` is the number of each row in the user's file.
        classes: C names.
        index: the round's number.
    """
    numbers = corpus.select_columns(["row"]).with_format("arrow")

    def part(start: int) -> pa.Table:
        some = slice(start, start + TOGETHER)
        columns = {
            "row": rows_at(numbers, selected.rows[some])["row"],
            "position": pa.array(selected.rows[some]),
            "label": pa.DictionaryArray.from_arrays(selected.labels[some], list(classes)),  # no Python object per row
            "confidence": pa.array(selected.confidence[some]),
            "weight": pa.array(selected.weight[some]),
            "round": pa.array(np.full(len(selected.rows[some]), index)),
        }
        if selected.targets is not None:
            flat = pa.array(selected.targets[some].reshape(-1))
            columns["target"] = pa.FixedSizeListArray.from_arrays(flat, selected.targets.shape[1])
        return pa.table(columns)

    # One part also without any row.
    write_tables_whole(path, map(part, range(0, max(1, len(selected)), TOGETHER)))


def read_pseudo_labels(path: Path, classes: Sequence[str]) -> Selection:
    """Read the pseudo-labels that `write_pseudo_labels` wrote, bit for bit."""
    names, start = pa.array(list(classes)), 0
    with reading(path), pq.ParquetFile(path) as file:
        size, soft = file.metadata.num_rows, "target" in file.schema_arrow.names
        selected = Selection(
            rows=np.empty(size, dtype=np.int64),
            labels=np.empty(size, dtype=np.int64),
            confidence=np.empty(size),
            weight=np.empty(size),
            targets=np.empty((size, len(classes)), dtype=np.float32) if soft else None,
        )
        wanted = ["position", "label", "confidence", "weight"] + ["target"] * soft
        for part in file.iter_batches(TOGETHER, columns=wanted):
            some = slice(start, start := start + len(part))
            selected.rows[some] = part["position"]
            selected.labels[some] = pc.index_in(part["label"].cast(pa.string()), names)
            selected.confidence[some] = part["confidence"]
            selected.weight[some] = part["weight"]
            if selected.targets is not None:
                selected.targets[some] = part["target"].flatten().to_numpy().reshape(-1, len(classes))
            release_freed()
    return selected
