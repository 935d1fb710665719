"""Find the near duplicates in a corpus on disk, with arrays of about 100 bytes a text, of which most are on disk, too."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sstext.data.doctor.duplicates import similar_groups
from sstext.data.doctor.minhash import BANDS, bands, normalized
from sstext.data.doctor.texts import hash_of
from sstext.progress import Tick
from sstext.storage.whole import scratch_beside


class _Corpus:
    """The texts of an Arrow file, as `similar_groups` compares them."""

    def __init__(self, chunks: Sequence[pa.Array], folder: Path, tick: Tick | None) -> None:
        self._chunks, self._starts = chunks, np.cumsum([0, *map(len, chunks)])
        count = len(self)
        self.loose, self.loose_size = np.empty(count, np.uint64), np.empty(count, np.int32)
        self.size = np.ones(count, np.bool_)  # there is no text without characters in a corpus
        # One band after the other, because they are compared one after the other.
        by_band = np.lib.format.open_memmap(
            folder / "bands.npy", mode="w+", dtype=np.uint64, shape=(BANDS, max(1, count))
        )
        for start, chunk in zip(self._starts, chunks, strict=False):
            plain = [normalized(text) for text in chunk.to_pylist()]
            here = slice(start, start + len(chunk))
            self.loose[here] = [hash_of(text) for text in plain]
            self.loose_size[here] = [len(text) for text in plain]
            by_band[:, here] = bands(plain).T
            if tick is not None:
                tick(len(chunk))
        self.bands = by_band.T

    def __len__(self) -> int:
        return int(self._starts[-1])

    def text(self, row: int) -> str:
        """The text of a row."""
        chunk = int(np.searchsorted(self._starts, row, side="right")) - 1
        return str(self._chunks[chunk][row - int(self._starts[chunk])].as_py())


def different_rows(file: Path, tick: Tick | None = None) -> NDArray[np.int64]:
    """Rows (M,) of an Arrow file in ascending order: the first text of each group of equal or nearly equal ones.

    Args:
        file: an Arrow stream with a column `text`.
        tick: called with the number of texts of each batch.
    """
    with scratch_beside(file) as scratch, pa.memory_map(str(file)) as source:
        chunks = [batch.column("text") for batch in pa.ipc.open_stream(source) if len(batch)]
        groups = similar_groups(_Corpus(chunks, scratch, tick))
    return np.flatnonzero(groups == np.arange(len(groups)))
