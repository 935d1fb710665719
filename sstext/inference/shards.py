"""Apply a trained classifier to large inputs. Their rows are written to a folder of shards, and a kill loses one of them."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from huggingface_hub import try_to_load_from_cache

from sstext.data.formats import FORMATS, read_rows
from sstext.data.formulas import Formulas
from sstext.data.many_files import known_rows, read_files
from sstext.data.parsers import Rows
from sstext.data.standard_input import Spooled
from sstext.data.tables import types_of
from sstext.data.writers import RowWriter, check_columns
from sstext.errors import UserError
from sstext.inference.classifier import Classifier
from sstext.inference.files import DIGITS, ROWS_AT_ONCE
from sstext.inference.labeling import Labeling
from sstext.inference.shard_folder import ROWS_PER_SHARD, claim, commit_in, is_parquet, job_of, shard_name
from sstext.processes import from_main_process, is_main_process, wait_for_everyone
from sstext.progress import SILENT, Reporter
from sstext.storage.ownership import owned


def predict_shards(
    classifier: Classifier,
    source: Sequence[Path] | Spooled,
    folder: Path,
    *,
    model: str,
    text_column: str | None = None,
    encoding: str = "utf-8",
    probabilities: bool = False,
    target_precision: float | None = None,
    input_format: str | None = None,
    output_format: str | None = None,
    digits: int | None = DIGITS,
    excel_safe: bool = False,
    rows_per_shard: int = ROWS_PER_SHARD,
    reporter: Reporter = SILENT,
) -> int:
    """Label every row of files, as `predict_file` does, and write the rows to a folder of shards, in their order.

    A shard appears whole or not at all. If the program is killed, the same call goes on: it reads the rows of the shards that
    are there, but does not label them again. A shard may hold rows of several files. Shards of parquet have the same types:
    those of the input if it is parquet, or else those of the first shard.

    Args:
        source: files of one format, or standard input.
        folder: is made if it does not exist.
        model: folder of the model, or its name on the Hub.
        text_column, encoding, probabilities, target_precision, input_format, digits, excel_safe: see `predict_file`.
        output_format: format of the shards. Default: parquet.
        rows_per_shard: rows of all shards but the last.

    Returns:
        The number of rows.

    Raises:
        UserError: the source cannot be read, the folder has files of something else, or a row does not fit the types.
    """
    labeling = Labeling(
        classifier, text_column=text_column, probabilities=probabilities, target_precision=target_precision
    )
    format, formulas = output_format or "parquet", Formulas(excel_safe)
    if format not in FORMATS:
        raise UserError(f"output_format: expected one of {', '.join(FORMATS)}, found {format!r}")
    shown = digits if format in ("csv", "tsv") else None
    files = [] if isinstance(source, Spooled) else list(source)
    name = str(files[0]) if files else "standard input"
    job = job_of(
        model, files, source.fingerprint if isinstance(source, Spooled) else None, text_column=text_column, encoding=encoding,
        probabilities=probabilities, target_precision=target_precision, input_format=input_format, format=format, digits=shown,
        excel_safe=excel_safe, precision=classifier.precision, max_length=classifier.encoder.max_length, rows=rows_per_shard,
        commit=_commit_of(classifier),
    )  # fmt: skip
    batches = _batches(files, source, encoding, input_format, text_column)
    columns = _Columns(folder, format, files, formulas)
    count, done, repeated = 0, 0, 0
    with owned(folder) if is_main_process() else nullcontext():
        if is_main_process():
            claim(folder, job)
            columns.of_earlier_call()
        wait_for_everyone()
        with reporter.phase("predicting", _rows_of(files), "text") as tick:
            for count, shard in enumerate(in_shards(batches, rows_per_shard), 1):
                file = folder / shard_name(count - 1, format)
                there = from_main_process(file.is_file())
                with nullcontext() if there or not is_main_process() else columns.writer(file) as writer:
                    for rows in shard:
                        if not there:
                            labeled = labeling.of_rows(rows, name, shown)
                            if writer is not None:
                                columns.check(labeled, rows.file or name)
                                writer.write(labeled)
                        tick(len(rows))
                        done += len(rows)
                    if writer is not None:
                        columns.keep(writer)
                repeated += there
    if repeated:
        reporter.note(f"{repeated:,} of {count:,} shards were in {folder} already")
    formulas.note(str(folder), reporter)
    reporter.note(f"{done:,} text{'s' if done != 1 else ''} in {count:,} shards in {folder}")
    for note in labeling.notes(done):
        reporter.note(note)
    return done


class _Columns:
    """The columns of all shards, which are one table: their names and, in parquet, their types.

    Args:
        folder, format: of the shards.
        files: the input. Types are those of parquet files, or else those of the first shard.
        formulas: see `RowWriter`.
    """

    def __init__(self, folder: Path, format: str, files: Sequence[Path], formulas: Formulas) -> None:
        self._folder, self._format, self._formulas = folder, format, formulas
        known = format == "parquet" and all(map(is_parquet, files))
        self._types = types_of(files, "convert the column, or write shards of jsonl") if known else {}
        self._names: list[str] = []

    def of_earlier_call(self) -> None:
        """Take those of a call that was killed."""
        if self._format == "parquet" and (written := sorted(self._folder.glob("part-*.parquet"))):
            self._types, self._names = types_of(written[:1]), pq.read_schema(written[0]).names

    def writer(self, file: Path) -> RowWriter:
        """A writer of a shard."""
        return RowWriter(file, self._format, text_column="predicted_label", formulas=self._formulas, types=self._types)

    def check(self, columns: Mapping[str, list], name: str) -> None:
        """Refuse rows with other columns than the shards before.

        Raises:
            UserError: they have.
        """
        if self._names:
            check_columns(name, self._names, columns)

    def keep(self, writer: RowWriter) -> None:
        """Let further shards have the columns of this one."""
        if writer.types:
            self._types, self._names = writer.types, list(writer.types)


def _commit_of(classifier: Classifier) -> str | None:
    """The commit of a classifier from the Hub, which lies in the cache. None for one from a folder."""
    place = classifier._loaded_from or {}
    name, inside = place.get("repo_id"), place.get("subfolder")
    if name is None or os.path.isdir(name):
        return None
    file = f"{inside}/config.json" if inside else "config.json"
    found = try_to_load_from_cache(name, file, cache_dir=place.get("cache_dir"), revision=place.get("revision"))
    return commit_in(found) if isinstance(found, str) else None


def _rows_of(files: Sequence[Path]) -> int | None:
    """The number of rows of all files, or None if it is not known."""
    counts = [known_rows(file) for file in files] or [None]
    return None if None in counts else sum(count or 0 for count in counts)


def _batches(
    files: Sequence[Path], source: Sequence[Path] | Spooled, encoding: str, format: str | None, text_column: str | None
) -> Iterator[Rows]:
    how: dict[str, Any] = {
        "format": format, "encoding": encoding, "batch_size": ROWS_AT_ONCE, "text_column": text_column,
    }  # fmt: skip
    return read_rows(source.open(), **how) if isinstance(source, Spooled) else read_files(files, **how)


def in_shards(batches: Iterator[Rows], size: int) -> Iterator[Iterator[Rows]]:
    """Divide rows into shards of `size` rows, of which the last may have fewer. Each must be read before the next one.

    >>> batches = (Rows({"text": list(part)}, [0] * len(part)) for part in ("abc", "de", "fg"))
    >>> ["".join(text for rows in shard for text in rows.columns["text"]) for shard in in_shards(batches, 4)]
    ['abcd', 'efg']
    """
    left: list[Rows] = []  # what the last batch had beyond its shard

    def shard() -> Iterator[Rows]:
        room = size
        while room and left:
            rows = left.pop()
            if len(rows) > room:
                left.append(rows.slice(room, len(rows)))
                rows = rows.slice(0, room)
            room -= len(rows)
            if not left:
                left.extend(one for one in [next(batches, None)] if one is not None)
            yield rows

    left.extend(one for one in [next(batches, None)] if one is not None)
    while left:
        yield shard()
