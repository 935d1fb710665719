"""Write files and folders whole or not at all."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def write_whole(path: Path, text: str) -> None:
    """Write a text file through a temporary file. If the process is killed, the old or the new file remains."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def write_array_whole(path: Path, values: np.ndarray) -> None:
    """Write an array as .npy, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        np.save(file, values, allow_pickle=False)
    temporary.replace(path)


def write_table_whole(path: Path, table: pa.Table) -> None:
    """Write a table as parquet, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    pq.write_table(table, temporary, compression="zstd")
    temporary.replace(path)


def write_folder_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` to fill a temporary folder, then replace `path` by it."""
    temporary = path.with_name(path.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    write(temporary)
    shutil.rmtree(path, ignore_errors=True)
    temporary.replace(path)
