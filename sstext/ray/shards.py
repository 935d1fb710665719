"""Shards: parts of the input, each of which one actor reads, labels and writes as one parquet file."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sstext.data.formats import read_rows
from sstext.data.tables import parquet_batches
from sstext.data.writers import schema_of, table_of
from sstext.errors import MachineError, UserError
from sstext.inference.shard_folder import ROWS_PER_SHARD, is_parquet, shard_name
from sstext.ray.callable import Classifier
from sstext.ray.cluster import ROWS_PER_BATCH
from sstext.storage.disk import writing
from sstext.storage.whole import written_whole

#: Bytes of a shard before compression, for long texts.
BYTES_PER_SHARD = 2**28
#: What helps where rows do not fit parquet, the only format of these shards.
REMEDY = "correct the rows, or leave --engine ray out and write shards of jsonl"
#: Columns of what `ShardScorer` returns.
DONE = ("number", "rows", "cut", "error", "kind")


@dataclass(frozen=True)
class Shard:
    """A part of the input.

    Attributes:
        number: its place among all shards, from 0.
        source: the file.
        begin, rows: rows `begin` … `begin + rows` of a parquet file; None: all rows of a file of another format.
    """

    number: int
    source: str
    begin: int = 0
    rows: int | None = None

    @property
    def name(self) -> str:
        """The name of its file. Sorted by name, shards are in the order of the input.

        >>> Shard(7, "corpus/a.parquet").name
        'part-00000007.parquet'
        """
        return shard_name(self.number, "parquet")


def shards_of(files: Sequence[Path], rows_per_shard: int = ROWS_PER_SHARD) -> list[Shard]:
    """Divide files into shards. Rows of a parquet file can be found, so it may be several; any other file is one.

    Args:
        rows_per_shard: most rows of a shard. There are fewer where texts are long (`BYTES_PER_SHARD`).

    Raises:
        UserError: a parquet file is not readable, or no file has a row.
    """
    shards = list[Shard]()
    for file in files:
        source = str(file.absolute())
        if not is_parquet(file):
            shards.append(Shard(len(shards), source))
            continue
        try:
            known = pq.read_metadata(file)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{file}: not a readable parquet file ({error})") from None
        size = _rows_that_fit(known, rows_per_shard)
        for begin in range(0, known.num_rows, size):
            shards.append(Shard(len(shards), source, begin, min(size, known.num_rows - begin)))
    if not shards:
        raise UserError("input: expected at least one row, found none")
    return shards


def _rows_that_fit(known: pq.FileMetaData, rows_per_shard: int) -> int:
    total = sum(known.row_group(number).total_byte_size for number in range(known.num_row_groups))
    return max(1, min(rows_per_shard, BYTES_PER_SHARD * known.num_rows // total if total else rows_per_shard))


def tables_of(
    shard: Shard, encoding: str = "utf-8", types: Mapping[str, pa.DataType] | None = None
) -> Iterator[pa.Table]:
    """The rows of a shard, `ROWS_PER_BATCH` at a time. A parquet file keeps the types of its columns.

    Args:
        types: types that columns of parquet files get instead, so that all shards have the same ones.

    Raises:
        UserError: it cannot be read, its rows have different columns, or a column has values of several types.
    """
    if shard.rows is not None:
        yield from parquet_batches(shard.source, shard.begin, shard.rows, ROWS_PER_BATCH, types)
        return
    schema: pa.Schema | None = None
    for rows in read_rows(shard.source, encoding=encoding, batch_size=ROWS_PER_BATCH):
        if schema is None:
            schema = schema_of(rows.columns, shard.source, remedy=REMEDY)
        yield table_of(rows.columns, schema, shard.source, REMEDY)


class ShardScorer:
    """Reads, labels and writes shards: the callable of the engine, one per actor.

    Args:
        output: folder for the shards. Each appears whole or not at all.
        encoding: encoding of text files.
        types: see `tables_of`.
        **classifier: arguments of `sstext.ray.Classifier`.

    Attributes:
        attempts: how often a shard is begun. Ray begins one again whenever its process has died, also if it dies each time.
    """

    attempts = 5

    def __init__(
        self, output: str, encoding: str, types: Mapping[str, pa.DataType] | None = None, **classifier: Any
    ) -> None:
        self.output, self.encoding, self.types = Path(output), encoding, types
        self._refused: UserError | None = None
        try:
            self.classifier = Classifier(**classifier)
        except UserError as error:
            # Ray reports an actor whose constructor raises as dead, and starts it again.
            self._refused = error

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Label shards, given as columns of `as_row`.

        Returns:
            The columns `DONE`, one row per shard: its number; rows that were labeled; texts that were cut; the message and the
            class of a `UserError`, or nothing. It is not raised, because Ray Data would add lines of its own to the message,
            and let actors live on.
        """
        done: dict[str, list] = {name: [] for name in DONE}
        columns = (batch[name] for name in ("number", "source", "begin", "rows"))
        for number, source, begin, rows in zip(*columns, strict=True):
            shard = Shard(int(number), str(source), int(begin), None if rows < 0 else int(rows))
            for name, value in zip(DONE, (shard.number, *self._tried(shard)), strict=True):
                done[name].append(value)
        return {name: np.asarray(values) for name, values in done.items()}

    def _tried(self, shard: Shard) -> tuple[int, int, str, str]:
        try:
            if self._refused is not None:
                raise self._refused
            before = self.classifier.model.truncated
            return self._write(shard), self.classifier.model.truncated - before, "", ""
        except UserError as error:
            return 0, 0, str(error), type(error).__name__

    def _write(self, shard: Shard) -> int:
        """Label a shard and write its file. Returns the number of rows."""
        attempts = self._count_attempt(shard)
        tables = map(self._labeled(shard), tables_of(shard, self.encoding, self.types))
        first = next(tables)  # an input that is refused leaves nothing
        rows = 0
        with (
            written_whole(self.output / shard.name, recorded=False) as partial,
            pq.ParquetWriter(partial, first.schema, compression="zstd") as writer,
        ):
            for table in chain([first], tables):
                writer.write_table(table)
                rows += len(table)
        attempts.unlink(missing_ok=True)
        return rows

    def _count_attempt(self, shard: Shard) -> Path:
        """Note on disk that a shard is begun. Returns the file, which has one character per attempt.

        Raises:
            MachineError: too many attempts have ended with the death of their process.
        """
        file = self.output / f".{shard.name}.attempts"
        with writing(file), file.open("a", encoding="utf-8") as opened:
            if opened.tell() >= self.attempts:
                end = f", rows {shard.begin} to {shard.begin + shard.rows}" if shard.rows is not None else ""
                raise MachineError(
                    f"{shard.source}{end}: {self.attempts} processes ended while they labeled this, possibly because memory "
                    "ran out; give fewer workers, or cut texts with max_length"
                )
            opened.write(".")
        return file

    def _labeled(self, shard: Shard) -> Any:
        def label(table: pa.Table) -> pa.Table:
            try:
                return self.classifier(table)
            except UserError as error:
                raise UserError(str(error).replace("the batch", shard.source, 1)) from None

        return label


def as_row(shard: Shard) -> dict[str, Any]:
    """A shard as a row of a data set of Ray, in which no value is missing."""
    return asdict(shard) | {"rows": -1 if shard.rows is None else shard.rows}


def size_of(model: str) -> int:
    """Bytes of the weights in a folder, 0 for a model on the Hub."""
    return sum(file.stat().st_size for file in Path(model).glob("*.safetensors")) if os.path.isdir(model) else 0
