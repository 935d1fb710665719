"""Fingerprints of sources: short names of their content, by which a run knows its data again."""

import re
from pathlib import Path

import xxhash

from sstext.data.in_memory import InMemory
from sstext.data.many_files import files_of
from sstext.data.sources import STREAM, Source, as_source, open_data_set, replacement, source_kind, split_of
from sstext.data.standard_input import standard_input

_WHOLE = 64 << 20  # bytes; files up to this size are read as a whole
_END = 16 << 20  # bytes that are read at each end of a larger file


def fingerprint(source: Source, split: str = "train") -> str:
    """A short name of a source's content. A resumed run compares it to check that its data are the same.

    For files over 64 MB, only the size and the 16 MB at each end are read. For Hub data sets, the fingerprint is their
    name; if a local file replaces them, it is the fingerprint of that file.
    """
    source = as_source(source, split)
    if isinstance(source, InMemory):
        return source.fingerprint()
    source = replacement(source, split) or source
    kind = source_kind(source)
    if kind in ("hub", "stream"):
        path, named_split = split_of(str(source).removeprefix(STREAM))
        return f"hub:{path}:{named_split or split}"
    if kind == "stdin":
        return standard_input().fingerprint
    if (files := files_of(source)) is not None:
        whole = xxhash.xxh3_128("".join(f"{file.name} {_fingerprint_of_file(file)}\n" for file in files).encode())
        return f"files:{whole.hexdigest()}"
    if kind != "file":
        return f"dataset:{open_data_set(source, split)[0]._fingerprint}"
    return f"file:{_fingerprint_of_file(Path(str(source)))}"


def _fingerprint_of_file(path: Path) -> str:
    digest = xxhash.xxh3_128()
    size = path.stat().st_size
    digest.update(str(size).encode())
    with path.open("rb") as file:
        if size > _WHOLE:
            digest.update(file.read(_END))
            file.seek(-_END, 2)
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def hub_split(fingerprint: str | None) -> tuple[str, str] | None:
    """Name and split of the Hub data set that a fingerprint belongs to.

    Returns None for files (also for local copies of a Hub data set), for data sets in memory, and for a part of a
    split.

    >>> hub_split("hub:stanfordnlp/imdb:test"), hub_split("hub:stanfordnlp/imdb:test[:10%]"), hub_split("file:1f")
    (('stanfordnlp/imdb', 'test'), None, None)
    """
    found = re.fullmatch(r"hub:([^:]+):([\w.-]+)", fingerprint or "")
    return (found[1], found[2]) if found else None
