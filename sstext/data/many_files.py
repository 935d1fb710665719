"""Many files as one source: a folder of shards, or a pattern such as `corpus/*.parquet`."""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sstext.data.containers import PACKED
from sstext.data.formats import READABLE, read_rows
from sstext.data.parsers import Rows
from sstext.errors import UserError, listed

#: Files that `save_to_disk` of `datasets` writes. A folder with one of them is a data set of its own.
SAVED = ("state.json", "dataset_dict.json")
#: Formats whose rows may lack a key.
_LOOSE = ("json", "jsonl")


def files_of(source: Any, *, one_format: bool = True) -> list[Path] | None:
    """The files of a folder or a pattern, sorted by name. None if a source is something else.

    Of a folder, these are the tables in it and in the folders below it. Names that begin with `.` or `_` are left out, because
    other programs put their notes there. A name with `[…]` is a pattern only if it fits files: `imdb:train[:10%]` may be on
    the Hub.

    Args:
        one_format: whether they must have one.

    Raises:
        UserError: there are no such files, or they have several formats although they must not.
    """
    if not isinstance(source, str | Path) or os.path.isfile(source):
        return None
    path = Path(source)
    if os.path.isdir(path):
        if any((path / name).is_file() for name in SAVED):
            return None
        files = [file for file in sorted(path.rglob("*")) if file.is_file() and _is_table(file.relative_to(path))]
        if not files:
            raise UserError(
                f"{path}: expected a folder with files of texts, or one written by save_to_disk, found neither; name a file"
            )
    elif glob.has_magic(str(source)):
        files = [file for file in map(Path, sorted(glob.glob(str(source), recursive=True))) if file.is_file()]
        if not files and not {"*", "?"} & set(str(source)):
            return None
        if not files:
            raise UserError(f"no such files: {source} (looked for {path.absolute()})")
    else:
        return None
    kinds = {_kind(file): file for file in reversed(files)}
    if one_format and len(kinds) > 1:
        found = listed([str(file) for file in kinds.values()])
        raise UserError(
            f"{source}: expected files of one format, found {found}; name those of one format, for example "
            f"{path if path.is_dir() else path.parent}/*{files[0].suffix or '.csv'}"
        )
    return files


def every_file(inputs: Sequence[str | Path], *, one_format: bool = True) -> list[Path]:
    """The files of several files, folders and patterns, in this order.

    Raises:
        UserError: one is not there, or is named twice; see also `files_of`.
    """
    found = [file for one in inputs for file in files_of(one, one_format=one_format) or [Path(one)]]
    for file in found:
        if not file.is_file():
            raise UserError(f"no such file: {file} (looked for {file.absolute()})")
    if len(set(found)) < len(found):
        twice = sorted({str(file) for file in found if found.count(file) > 1})
        raise UserError(f"input: expected each file once, found {listed(twice)} several times")
    return found


def _is_table(name: PurePath) -> bool:
    hidden = any(part.startswith((".", "_")) for part in name.parts)
    return not hidden and (name.suffix.lower() in READABLE or name.suffix.lower() in PACKED)


def _kind(file: Path) -> str:
    """The ending of a name without that of its packing."""
    inner = PurePath(file.name[: -len(file.suffix)]) if file.suffix.lower() in PACKED else file
    return READABLE.get(inner.suffix.lower(), inner.suffix.lower())


def read_files(files: Sequence[Path], *, encoding: str = "utf-8", batch_size: int = 1000, **how: Any) -> Iterator[Rows]:
    """The rows of several files, one after the other, as `read_rows` reads each. Messages name the file of a row.

    Raises:
        UserError: a file cannot be read, or a table lacks columns of the first file.
    """
    columns: list[str] | None = None
    for file in files:
        for rows in read_rows(file, encoding=encoding, batch_size=batch_size, **how):
            lacking = [name for name in columns or () if name not in rows.columns]
            if lacking and rows.format not in _LOOSE:
                raise UserError(
                    f"{file}: expected the columns of {files[0].name}, found none called {listed(lacking)}; give each file the "
                    "same columns"
                )
            padded = rows.columns | {name: [None] * len(rows) for name in lacking}
            columns = list(padded) if columns is None or rows.format in _LOOSE else columns
            yield replace(rows, columns=padded, file=str(file))


def known_rows(source: Any) -> int | None:
    """The number of rows of a source. None if it must be read to count them."""
    if not isinstance(source, str | Path):
        return len(source) if hasattr(source, "column_names") and hasattr(source, "__len__") else None
    files = files_of(source) or ([Path(source)] if os.path.isfile(source) else [])
    if not files or any(file.suffix.lower() != ".parquet" for file in files):
        return None
    try:
        return sum(pq.read_metadata(file).num_rows for file in files)
    except (pa.ArrowException, OSError):  # the reader says what is wrong with it
        return None
