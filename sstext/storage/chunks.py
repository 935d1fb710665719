"""Arrays that are computed in chunks, so that an interrupted computation can be resumed."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from sstext.processes import from_main_process, is_main_process, wait_for_everyone
from sstext.progress import Tick
from sstext.storage.damage import read_array
from sstext.storage.whole import remove_joined_parts, write_array_whole, written_whole


@contextmanager
def open_array_whole(path: Path, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Open a float32 array on disk to be filled. The file appears whole at the end of the block, or not at all."""
    with written_whole(path) as temporary:
        values = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape)
        yield values
        values.flush()


def computed_in_chunks(
    whole: Path,
    shape: tuple[int, int],
    chunk: int,
    compute: Callable[[int, int], np.ndarray],
    *,
    done: Tick | None = None,
) -> np.ndarray:
    """Compute a float32 matrix in chunks of rows, store each chunk, and return the whole matrix, mapped from disk.

    Args:
        whole: the .npy file of the matrix.
        shape: shape of the matrix.
        chunk: rows that all processes compute together.
        compute: function from (first row, last row + 1) to these rows. It returns the same rows in every process.
        done: called with the number of rows of each chunk that an interrupted call has already computed.
    """
    if not from_main_process(whole.exists()):
        whole.parent.mkdir(parents=True, exist_ok=True)
        starts = range(0, shape[0], chunk)
        parts = [whole.with_name(f"{whole.stem}-{start:012d}.npy") for start in starts]
        there = from_main_process([part.exists() for part in parts])
        for start, part, computed in zip(starts, parts, there, strict=True):
            end = min(shape[0], start + chunk)
            if computed:
                if done is not None:
                    done(end - start)
                continue
            values = compute(start, end)
            if is_main_process():
                write_array_whole(part, values)
            wait_for_everyone()
        if is_main_process():
            _join_parts(parts, chunk, whole, shape)
        wait_for_everyone()
    if is_main_process():  # a kill may have left them
        remove_joined_parts(list(whole.parent.glob(f"{whole.stem}-*.npy")))
    return read_array(whole, mapped=True)


def _join_parts(parts: Sequence[Path], chunk: int, whole: Path, shape: tuple[int, int]) -> None:
    with open_array_whole(whole, shape) as joined:
        for number, part in enumerate(parts):
            joined[number * chunk : (number + 1) * chunk] = read_array(part)
