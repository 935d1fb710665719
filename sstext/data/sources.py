"""The sources of rows: a file, a folder written by `save_to_disk`, a name on the Hub, or a data set in memory."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import xxhash

from sstext.data.formats import FORMATS, format_of, read_rows
from sstext.data.parsers import Rows
from sstext.errors import UserError, listed
from sstext.hub.access import ask_once, hub_trouble

if TYPE_CHECKING:
    import datasets  # the import takes half a second, so only the functions that use data sets import it

Source: TypeAlias = "str | Path | datasets.Dataset"

#: Environment variable that names a folder of local copies, NAME/train.parquet and NAME/test.parquet. They replace the
#: data sets of the Hub.
REPLACEMENTS = "SSTEXT_BENCH_DATA"
#: Hub data sets whose folder of copies differs from the last part of their name.
FOLDERS = {"tdavidson/hate_speech_offensive": "hate_offensive"}

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(:[^/]+)?")
_BATCH = 1000  # rows
_WHOLE = 64 << 20  # bytes; a fingerprint reads files up to this size as a whole
_END = 16 << 20  # bytes that a fingerprint reads at each end of a larger file


def source_kind(source: Source) -> Literal["file", "saved", "hub", "dataset"]:
    """The kind of a source: a file, a folder written by `save_to_disk`, a Hub name, or a data set.

    >>> source_kind("stanfordnlp/imdb:test")
    'hub'

    Raises:
        UserError: if a file is missing, or a folder is not a saved data set.
    """
    if not isinstance(source, str | Path):
        return "dataset"
    path, split = _split_of(source)
    if path.is_dir():
        if any((path / name).is_file() for name in ("state.json", "dataset_dict.json")):
            return "saved"
        raise UserError(
            f"{path}: expected a file or a data set written by save_to_disk, found a plain folder; name a file"
        )
    if split is None and path.exists():
        return "file"
    endings = (*(f".{name}" for name in FORMATS), ".ndjson", ".arrow", ".gz", ".bz2", ".xz", ".zst", ".zip")
    if isinstance(source, Path) or not _HUB_NAME.fullmatch(source) or path.suffix.lower() in endings:
        raise UserError(f"no such file: {source} (looked for {Path(source).absolute()})")
    return "hub"


def _split_of(source: str | Path) -> tuple[Path, str | None]:
    """Split a trailing `:split` off a name, unless a file of the whole name exists."""
    name, _, split = str(source).partition(":")
    return (Path(source), None) if not split or Path(source).exists() else (Path(name), split)


def replacement(source: Source, split: str) -> Path | None:
    """The local file that replaces a Hub data set, or None to use the Hub.

    Args:
        split: split to read if the source does not name one.

    Raises:
        UserError: if the data set is in the folder, but the split is not.
    """
    folder = os.environ.get(REPLACEMENTS)
    if not folder or source_kind(source) != "hub":
        return None
    path, named_split = _split_of(str(source))
    name, split = path.as_posix(), named_split or split
    home = Path(folder) / FOLDERS.get(name, path.name)
    there = [part for part in ("train", "test") if (home / f"{part}.parquet").is_file()]
    if not there:
        return None
    if split not in there:
        raise UserError(
            f"{name}: no split {split!r} in {home} (the local copy that {REPLACEMENTS} names); "
            f"found {listed(there)}; name one as {name}:SPLIT, or unset {REPLACEMENTS} to download"
        )
    return home / f"{split}.parquet"


@dataclass(frozen=True)
class Table:
    """A source opened for reading."""

    name: str
    batches: Iterator[Rows]
    class_labels: dict[str, list[str]]  # class names of the ClassLabel columns, in their own order
    has_header: bool = True  # False for plain lines, whose column has no name in the file
    grows: bool = False  # True if a later row may have a new column

    def where(self, rows: Rows, i: int) -> str:
        """The place of row `i` of a batch, for messages."""
        return f"{self.name}: {rows.where(i)}"


def open_table(source: Source, encoding: str, split: str) -> Table:
    """Open a source of any kind. `split` is used if a data set has several splits and the source does not name one."""
    if (local := replacement(source, split)) is not None:
        name = f"{local} ({REPLACEMENTS}, instead of {source} from the Hub)"
        return Table(name, read_rows(local, batch_size=_BATCH), {})
    if isinstance(source, str | Path) and source_kind(source) == "file":
        rows = read_rows(source, encoding=encoding, batch_size=_BATCH)
        kind = format_of(source)
        return Table(str(source), rows, {}, has_header=kind != "txt", grows=kind in ("json", "jsonl"))
    import datasets

    dataset, name = _dataset(source, split)
    if not len(dataset):
        raise UserError(f"{name}: expected at least one row, found none")
    features = dataset.features.items()
    names = {key: [n.strip() for n in kind.names] for key, kind in features if isinstance(kind, datasets.ClassLabel)}
    return Table(name, _dataset_rows(dataset, names), names)


def _dataset(source: Source, split: str) -> "tuple[datasets.Dataset, str]":
    import datasets

    if not isinstance(source, str | Path):
        if not isinstance(source, datasets.Dataset):
            raise UserError(f"expected a path, a Hub name or a datasets.Dataset, found {type(source).__name__}")
        return source, "the data set"
    path, named_split = _split_of(source)
    split = named_split or split
    if source_kind(source) == "hub":
        try:
            if not Path(datasets.config.HF_DATASETS_CACHE, str(path).replace("/", "___")).exists():
                ask_once(str(path), kind="dataset", cached=())
            return datasets.load_dataset(str(path), split=split), f"{path}:{split}"
        except Exception as error:  # the Hub, the network and the files of a data set raise many kinds
            reason = hub_trouble(error, f"datasets/{path}") or " ".join(str(error).split())[:300].rstrip(".")
            raise UserError(
                f"no such file, and no Hub data set that can be loaded: {path} (split {split}): {reason}; download it, "
                "or give a file"
            ) from error
    saved = datasets.load_from_disk(str(path))
    if isinstance(saved, datasets.Dataset):
        return saved, str(path)
    split = split if split in saved or len(saved) > 1 else next(iter(saved))
    if split not in saved:
        raise UserError(f"{path}: no split {split!r}; found {listed(list(saved))}; name one as {path}:SPLIT")
    return saved[split], f"{path}:{split}"


def _dataset_rows(dataset: "datasets.Dataset", class_labels: dict[str, list[str]]) -> Iterator[Rows]:
    plain = dataset.with_format(None)
    for start in range(0, len(plain), _BATCH):
        columns = plain[start : start + _BATCH]
        for column, names in class_labels.items():
            # Test splits on the Hub use −1 for "no label".
            columns[column] = [None if i is None or i < 0 else names[i] for i in columns[column]]
        yield Rows(columns, list(range(start + 1, min(start + _BATCH, len(plain)) + 1)), "row")


def fingerprint(source: Source, split: str = "train") -> str:
    """A short name of a source's content. A resumed run compares it to check that its data are the same.

    For files over 64 MB, only the size and the 16 MB at each end are read. For Hub data sets, the fingerprint is their
    name; if a local file replaces them, it is the fingerprint of that file.
    """
    source = replacement(source, split) or source
    kind = source_kind(source)
    if kind == "hub":
        path, named_split = _split_of(str(source))
        return f"hub:{path}:{named_split or split}"
    if kind != "file":
        return f"dataset:{_dataset(source, split)[0]._fingerprint}"
    digest = xxhash.xxh3_128()
    path = Path(str(source))
    size = path.stat().st_size
    digest.update(str(size).encode())
    with path.open("rb") as file:
        if size > _WHOLE:
            digest.update(file.read(_END))
            file.seek(-_END, 2)
        while block := file.read(1 << 20):
            digest.update(block)
    return f"file:{digest.hexdigest()}"


def hub_split(fingerprint: str | None) -> tuple[str, str] | None:
    """Name and split of the Hub data set that a fingerprint belongs to.

    Returns None for files (also for local copies of a Hub data set), for data sets in memory, and for a part of a
    split.

    >>> hub_split("hub:stanfordnlp/imdb:test"), hub_split("hub:stanfordnlp/imdb:test[:10%]"), hub_split("file:1f")
    (('stanfordnlp/imdb', 'test'), None, None)
    """
    found = re.fullmatch(r"hub:([^:]+):([\w.-]+)", fingerprint or "")
    return (found[1], found[2]) if found else None
