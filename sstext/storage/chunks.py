"""Arrays that are computed in chunks, so that an interrupted computation continues."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from sstext.processes import from_main_process, is_main_process, wait_for_everyone
from sstext.progress import Tick
from sstext.storage.whole import write_array_whole


@contextmanager
def open_array_whole(path: Path, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Open a float32 array on disk to be filled. The file appears whole at the end of the block, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    values = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape)
    yield values
    values.flush()
    temporary.replace(path)


def computed_in_chunks(
    whole: Path,
    shape: tuple[int, int],
    chunk: int,
    compute: Callable[[int, int], np.ndarray],
    *,
    done: Tick | None = None,
) -> np.ndarray:
    """A matrix that is computed some rows at a time, each chunk written down, and read from disk once it is whole.

    Args:
        whole: the .npy file.
        shape: of the matrix, which is float32.
        chunk: rows that are computed together, by all processes.
        compute: (first row, row after the last) → these rows; every process gets the same.
        done: told the rows of the chunks that an interrupted call has left.
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
            _join(parts, chunk, whole, shape)
        wait_for_everyone()
    return np.load(whole, mmap_mode="r", allow_pickle=False)


def _join(parts: Sequence[Path], chunk: int, whole: Path, shape: tuple[int, int]) -> None:
    with open_array_whole(whole, shape) as joined:
        for number, part in enumerate(parts):
            joined[number * chunk : (number + 1) * chunk] = np.load(part, allow_pickle=False)
    for part in parts:
        part.unlink()
