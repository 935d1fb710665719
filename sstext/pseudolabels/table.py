"""The pseudo-labels of a round on disk: one parquet file with one line per selected row."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sstext.pseudolabels.selection import Selection
from sstext.storage.damage import reading
from sstext.storage.whole import write_table_whole


def write_pseudo_labels(path: Path, selected: Selection, *, ids: pa.Array, classes: Sequence[str], index: int) -> None:
    """Write the M pseudo-labels of a round. An interrupted write leaves no file.

    Columns: `row` (number of the row in the user's file), `position` (in the corpus, which has no rows without text),
    `label`, `confidence`, `weight`, `round`, and `target` (C probabilities) if pseudo-labels are soft.

    Args:
        ids: (M,) row numbers in the user's file.
        classes: C names.
        index: the round's number.
    """
    columns = {
        "row": ids,
        "position": pa.array(selected.rows),
        "label": pa.DictionaryArray.from_arrays(selected.labels, list(classes)),  # no Python object per row
        "confidence": pa.array(selected.confidence),
        "weight": pa.array(selected.weight),
        "round": pa.array(np.full(len(selected), index)),
    }
    if selected.targets is not None:
        flat = pa.array(selected.targets.reshape(-1))
        columns["target"] = pa.FixedSizeListArray.from_arrays(flat, selected.targets.shape[1])
    write_table_whole(path, pa.table(columns))


def read_pseudo_labels(path: Path, classes: Sequence[str]) -> Selection:
    """Read the pseudo-labels that `write_pseudo_labels` wrote, bit for bit."""
    with reading(path):
        table = pq.read_table(path)
    labels = pc.index_in(table["label"].cast(pa.string()), pa.array(list(classes)))
    targets = None
    if "target" in table.column_names:
        flat = table["target"].combine_chunks().flatten().to_numpy()
        targets = flat.astype(np.float32).reshape(len(table), len(classes))
    return Selection(
        rows=table["position"].to_numpy(),
        labels=labels.to_numpy().astype(np.int64),
        confidence=table["confidence"].to_numpy(),
        weight=table["weight"].to_numpy(),
        targets=targets,
    )
