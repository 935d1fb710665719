"""The sources of rows: files, standard input, a folder written by `save_to_disk`, a name on the Hub, a data set in Python."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from sstext.data.exports.export import Converted
from sstext.data.exports.known import recognized
from sstext.data.formats import FILE_ENDINGS, read_rows
from sstext.data.in_memory import InMemory, in_memory
from sstext.data.many_files import SAVED, files_of, read_files
from sstext.data.parsers import Rows
from sstext.data.standard_input import STDIN, standard_input
from sstext.errors import UserError, listed
from sstext.hub.access import ask_once, hub_trouble

if TYPE_CHECKING:
    import datasets  # the import takes half a second, so only the functions that use data sets import it

Source: TypeAlias = "str | Path | datasets.Dataset | InMemory"

#: Environment variable that names a folder of local copies, NAME/train.parquet and NAME/test.parquet. They replace the
#: data sets of the Hub.
REPLACEMENTS = "SSTEXT_BENCH_DATA"
#: Before the name of a Hub data set: it is read as a stream, and not downloaded first.
STREAM = "stream:"
#: Hub data sets whose folder of copies differs from the last part of their name.
FOLDERS = {"tdavidson/hate_speech_offensive": "hate_offensive"}

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(:[^/]+)?")
_LONGEST_NAME = 96  # characters of a name on the Hub
_BATCH = 1000  # rows


def as_source(data: Any, split: str) -> Source:
    """A source of any kind in a form that can be read again and again.

    Args:
        data: what the user passed in Python: a path, a Hub name, a `Dataset`, a `DatasetDict`, a streamed data set, or what
            `sstext.data.in_memory` reads.
        split: split of a `DatasetDict` with several splits.

    Raises:
        UserError: no such split, or something that holds no rows.
    """
    if isinstance(data, str | Path | InMemory):
        return data
    import datasets

    if isinstance(data, datasets.DatasetDict | datasets.IterableDatasetDict):
        if split not in data and len(data) != 1:
            found, one = listed([str(name) for name in data]), next(iter(data), split)
            raise UserError(
                f"the data set has no split {split!r}; found {found}; pass one of them, such as data[{one!r}]"
            )
        data = data[split] if split in data else next(iter(data.values()))
    if isinstance(data, datasets.Dataset):
        return data
    if isinstance(data, datasets.IterableDataset):
        names, spooled = class_labels_of(data.features or {}), in_memory(data)
        return replace(spooled, read=lambda: (replace(rows, class_labels=names) for rows in spooled.read()))
    return in_memory(data)


def class_labels_of(features: Mapping[str, Any]) -> dict[str, list[str]]:
    """Class names of the features that are class numbers, or lists of them."""
    import datasets

    found = {}
    for key, kind in features.items():
        kind = getattr(kind, "feature", kind)  # of a list
        if isinstance(kind, datasets.ClassLabel) and kind.names:
            found[key] = [str(name).strip() for name in kind.names]
    return found


def source_kind(source: Source) -> Literal["file", "files", "stdin", "stream", "saved", "hub", "dataset", "memory"]:
    """The kind of a source: a file, several files, a folder written by `save_to_disk`, a Hub name, or a data set in Python.

    Several files are a folder of them or a pattern (`sstext.data.many_files`). Standard input is spelled `-`. A Hub name after
    `stream:` is read as a stream.

    >>> source_kind("stanfordnlp/imdb:test")
    'hub'

    Raises:
        UserError: if a file is missing, or a folder has no files of texts.
    """
    if isinstance(source, InMemory):
        return "memory"
    if not isinstance(source, str | Path):
        return "dataset"
    if source == STDIN:
        return "stdin"
    if str(source).startswith(STREAM) and not os.path.exists(source):
        return "stream"
    path, split = split_of(source)
    if os.path.isdir(path) and any((path / name).is_file() for name in SAVED):
        return "saved"
    if files_of(source) is not None:
        return "files"
    if split is None and os.path.exists(path):
        return "file"
    too_long = any(len(part) > _LONGEST_NAME for part in str(source).split("/"))
    if isinstance(source, Path) or too_long or not _HUB_NAME.fullmatch(source) or path.suffix.lower() in FILE_ENDINGS:
        raise UserError(f"no such file: {shown(source)} (looked for {shown(Path(source).absolute())})")
    return "hub"


def shown(path: str | Path) -> str:
    """A path for a message, cut if it is too long for any file system."""
    text = str(path)
    return text if len(text) <= 300 else f"{text[:300]}… ({len(text):,} characters)"


def split_of(source: str | Path) -> tuple[Path, str | None]:
    """Split a trailing `:split` off a name, unless a file of the whole name exists."""
    name, _, split = str(source).partition(":")
    return (Path(source), None) if not split or os.path.exists(source) else (Path(name), split)


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
    path, named_split = split_of(str(source))
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
    """A source opened for reading. What an annotation tool wrote is already in plain columns."""

    name: str
    batches: Iterator[Rows]
    class_labels: dict[str, list[str]]  # class names of the ClassLabel columns, in their own order
    has_header: bool = True  # False for plain lines, whose column has no name in the file
    grows: bool = False  # True if a later row may have a new column
    export: str | None = None  # the annotation tool that wrote it
    text: str | None = None  # its column of texts, if the tool tells
    label: str | None = None  # its column of labels, if the tool tells
    left_out: Counter[str] = field(default_factory=Counter)  # reason → rows that were left out so far

    def where(self, rows: Rows, i: int) -> str:
        """The place of row `i` of a batch, for messages."""
        return f"{self.name}: {rows.where(i)}"

    def said(self, what: str) -> list[str]:
        """A note on the annotation tool and the rows that were left out, after all rows were read."""
        if self.export is None:
            return []
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.items())
        total = self.left_out.total()
        rows = f"; {total:,} row{'s are' if total > 1 else ' is'} left out ({reasons})" if total else ""
        return [f"{what}: {self.name} is an export of {self.export}{rows}"]


def open_table(source: Source, encoding: str, split: str) -> Table:
    """Open a source of any kind. `split` is used if a data set has several splits and the source does not name one."""
    name, batches = _opened(as_source(source, split), encoding, split)
    first = next(batches, None)
    if first is None:
        raise UserError(f"{name}: expected at least one row, found none")
    tool, left_out = recognized(first), Counter[str]()
    converted = tool.to_rows(first) if tool is not None else Converted(first)

    def plain() -> Iterator[Rows]:
        for rows in chain([first], batches):
            of_tool = tool.to_rows(rows) if tool is not None else Converted(rows)
            left_out.update(of_tool.left_out)
            yield _with_class_names(of_tool.rows)

    return Table(
        name, plain(), first.class_labels,
        has_header=first.format != "txt", grows=tool is not None or first.format in ("json", "jsonl", ""),
        export=tool.name if tool is not None else None, text=converted.text, label=converted.label, left_out=left_out,
    )  # fmt: skip


def _opened(source: Source, encoding: str, split: str) -> tuple[str, Iterator[Rows]]:
    """The name of a source for messages, and its rows as they are."""
    if (local := replacement(source, split)) is not None:
        name = f"{local} ({REPLACEMENTS}, instead of {source} from the Hub)"
        return name, read_rows(local, batch_size=_BATCH)
    if isinstance(source, InMemory):
        return source.name, source.read()
    if isinstance(source, str | Path):
        kind = source_kind(source)
        if kind == "file":
            return str(source), read_rows(source, encoding=encoding, batch_size=_BATCH)
        if kind == "stdin":
            return "standard input", read_rows(standard_input().open(), encoding=encoding, batch_size=_BATCH)
        if kind == "stream":
            return streamed(str(source).removeprefix(STREAM), split)
        if (files := files_of(source)) is not None:
            name = f"{source} ({len(files):,} file{'s' if len(files) != 1 else ''})"
            return name, read_files(files, encoding=encoding, batch_size=_BATCH)
    dataset, name = open_data_set(source, split)
    if not len(dataset):
        raise UserError(f"{name}: expected at least one row, found none")
    return name, _dataset_rows(dataset)


def open_data_set(source: Source, split: str) -> "tuple[datasets.Dataset, str]":
    import datasets

    if isinstance(source, datasets.Dataset):
        return source, "the data set"
    assert isinstance(source, str | Path)
    path, named_split = split_of(source)
    split = named_split or split
    if source_kind(source) == "hub":
        with _hub_explained(path, split):
            if not Path(datasets.config.HF_DATASETS_CACHE, str(path).replace("/", "___")).exists():
                ask_once(str(path), kind="dataset", cached=())
            return datasets.load_dataset(str(path), split=split), f"{path}:{split}"
    try:
        saved = datasets.load_from_disk(str(path))
    except Exception as error:  # whatever is wrong with the files of the folder
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{path}: not a readable data set of save_to_disk ({reason}); save it again") from error
    if isinstance(saved, datasets.Dataset):
        return saved, str(path)
    split = split if split in saved or len(saved) > 1 else next(iter(saved))
    if split not in saved:
        raise UserError(f"{path}: no split {split!r}; found {listed(list(saved))}; name one as {path}:SPLIT")
    return saved[split], f"{path}:{split}"


@contextmanager
def _hub_explained(path: Path, split: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # the Hub, the network and the files of a data set raise many kinds
        reason = hub_trouble(error, f"datasets/{path}") or " ".join(str(error).split())[:300].rstrip(".")
        raise UserError(
            f"no such file, and no Hub data set that can be loaded: {path} (split {split}): {reason}; download it, "
            "or give a file"
        ) from error


def streamed(source: str, split: str) -> tuple[str, Iterator[Rows]]:
    """The name and the rows of a Hub data set that is read as a stream. `train[:1000]` means its first 1,000 rows."""
    import datasets

    path, named_split = split_of(source)
    split = named_split or split
    part = re.fullmatch(r"([^\[\]]+)\[:(\d+)\]", split)

    def rows() -> Iterator[Rows]:
        with _hub_explained(path, split):
            found = datasets.load_dataset(str(path), split=part[1] if part else split, streaming=True)
            found = found.take(int(part[2])) if part else found
            names, first = class_labels_of(found.features or {}), 1
            for batch in found.iter(_BATCH):
                columns = {name: list(values) for name, values in batch.items()}
                size = len(next(iter(columns.values()), []))
                yield Rows(columns, list(range(first, first + size)), "row", names, "dataset")
                first += size

    return f"{path}:{split} (a stream)", rows()


def _dataset_rows(dataset: "datasets.Dataset") -> Iterator[Rows]:
    names, plain = class_labels_of(dataset.features), dataset.with_format(None)
    for start in range(0, len(plain), _BATCH):
        lines = list(range(start + 1, min(start + _BATCH, len(plain)) + 1))
        yield Rows(plain[start : start + _BATCH], lines, "row", names, "dataset")


def _with_class_names(rows: Rows) -> Rows:
    """The rows with names instead of class numbers. −1 becomes None: test splits on the Hub use it for "no label"."""
    for column, names in rows.class_labels.items():
        if column in rows.columns:
            rows.columns[column] = [_class_name(value, names) for value in rows.columns[column]]
    return rows


def _class_name(value: Any, names: list[str]) -> Any:
    if isinstance(value, list):
        return [_class_name(one, names) for one in value]
    number = isinstance(value, int) and not isinstance(value, bool)
    return (None if value < 0 else names[value] if value < len(names) else value) if number else value
