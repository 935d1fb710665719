"""Label files with a pool of actors: shards that are there are not labeled again."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from huggingface_hub import hf_hub_download

from sstext.data.many_files import every_file
from sstext.data.tables import types_of
from sstext.errors import MachineError, UserError
from sstext.inference.shard_folder import PART_ON_ITS_WAY, ROWS_PER_SHARD, claim, commit_in, is_parquet, job_of
from sstext.modeling.pretrained import explained
from sstext.progress import SILENT, Reporter
from sstext.ray.cluster import cluster, imported_ray, nodes_of, pool_for
from sstext.ray.shards import DONE, REMEDY, Shard, ShardScorer, as_row, shards_of, size_of
from sstext.storage.model_folder import find_model
from sstext.storage.ownership import owned
from sstext.storage.whole import remove


def predict_shards(
    model: str,
    inputs: Sequence[str | Path],
    output: str | Path,
    *,
    text_column: str | None = None,
    encoding: str = "utf-8",
    probabilities: bool = False,
    target_precision: float | None = None,
    device: str = "auto",
    precision: str = "fp32",
    max_length: int | None = None,
    revision: str | None = None,
    actors: int | None = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    rows_per_shard: int = ROWS_PER_SHARD,
    reporter: Reporter = SILENT,
) -> int:
    """Label files on a Ray cluster, as `sstext predict` does, and write the rows to a folder of parquet shards.

    The cluster is the one that the program has joined, that of `RAY_ADDRESS` or of this machine, or else one is started on
    this machine. All nodes must see the model, the files and the folder under the same paths. A shard appears whole or not
    at all. If an actor dies, Ray starts another one, which labels the shard again. If the program dies, the same call goes on.

    Args:
        model: folder of a run or of a model, or a name on the Hub.
        inputs: files in the formats of `sstext predict`, and folders of such files.
        output: the folder. It is made if it does not exist.
        text_column, probabilities, target_precision, device, precision, max_length, revision: see `sstext.ray.Classifier`.
        encoding: encoding of text files.
        actors, num_cpus, num_gpus: see `sstext.ray.Pool`. Default: what `pool_for` chooses.
        rows_per_shard: see `shards_of`.

    Returns:
        The number of rows that are in the folder.

    Raises:
        UserError: ray is not installed, an input cannot be read, types of parquet files do not go together, or the folder has
            files of something else.
    """
    imported_ray()
    found, output = find_model(model), Path(output).absolute()
    if found != model:
        reporter.note(f"{model} is the folder of a run; its model {found} is used")
    files = every_file(inputs, one_format=False)
    shards = shards_of(files, rows_per_shard)
    options: dict[str, Any] = {
        "text_column": text_column, "probabilities": probabilities, "target_precision": target_precision,
        "precision": precision, "max_length": max_length, "revision": revision,
    }  # fmt: skip
    commit = _commit_of(found, revision)
    job = job_of(found, files, commit=commit, engine="ray", encoding=encoding, rows=rows_per_shard, **options)
    with owned(output):
        claim(output, job)
        written = {file.name for file in output.iterdir()}  # one look at a folder that may be far away
        waiting = [shard for shard in shards if shard.name not in written]
        there = {shard.number: _rows(output / shard.name) for shard in shards if shard.name in written}
        if there:
            reporter.note(f"{len(there):,} of {len(shards):,} shards are in {output} already")
        arguments = {
            "output": str(output),
            "encoding": encoding,
            "types": types_of(files, REMEDY) if all(map(is_parquet, files)) else None,
            "model": job["model"]["name"],
            "device": device,
        } | options
        arguments["revision"] = commit or revision  # the same weights in each actor, also if the branch moves
        known = [shard.rows for shard in waiting]
        total = None if None in known else sum(filter(None, known)) + sum(there.values())
        cut = 0
        _remove_left(output)
        try:
            with reporter.phase("predicting", total, "text", sum(there.values())) as tick:
                for number, rows, longer in _labeled(waiting, arguments, actors, num_cpus, num_gpus, size_of(found)):
                    there[number] = rows
                    cut += longer
                    tick(rows)
        finally:
            _remove_left(output)
    done = sum(there.values())
    reporter.note(f"{done:,} text{'s' if done != 1 else ''} in {len(shards):,} shards in {output}")
    if cut:
        reporter.note(f"{cut:,} texts were cut to the tokens that the model reads")
    return done


def _commit_of(model: str, revision: str | None) -> str | None:
    """The commit of a model on the Hub; None for a folder."""
    if os.path.isdir(model):
        return None
    with explained(model):
        return commit_in(hf_hub_download(model, "config.json", revision=revision))


def _labeled(
    shards: Sequence[Shard],
    arguments: dict[str, Any],
    actors: int | None,
    num_cpus: float | None,
    num_gpus: float | None,
    model_bytes: int,
) -> Iterator[tuple[int, int, int]]:
    """Label shards. Yields the number of each that is written, its rows, and how many of its texts were cut."""
    if not shards:
        return
    with cluster() as ray, _quiet():
        pool = pool_for(nodes_of(ray), model_bytes=model_bytes, actors=actors, num_cpus=num_cpus, num_gpus=num_gpus)
        jobs = ray.data.from_items([as_row(shard) for shard in shards], override_num_blocks=len(shards))
        labeled = jobs.map_batches(
            ShardScorer,
            fn_constructor_kwargs=arguments,
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=pool.actors, initial_size=pool.actors),
            num_cpus=pool.num_cpus,
            num_gpus=pool.num_gpus,
        )
        with closing(iter(labeled.iter_batches(batch_size=None, prefetch_batches=0))) as batches:  # ends the actors
            for batch in batches:
                for number, rows, cut, error, kind in zip(*(batch[name].tolist() for name in DONE), strict=True):
                    if error:
                        raise (MachineError if kind == "MachineError" else UserError)(error)
                    yield number, rows, cut


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the messages and progress bars of Ray Data quiet, because sstext shows its own."""
    from ray.data import DataContext

    context, logger = DataContext.get_current(), logging.getLogger("ray.data")
    changed = {"enable_progress_bars": False, "print_on_execution_start": False}
    before, level = {name: getattr(context, name) for name in changed}, logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        for name, value in changed.items():
            setattr(context, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)
        logger.setLevel(level)


def _remove_left(output: Path) -> None:
    """Remove what dead actors have left. No other program works in the folder."""
    for left in output.glob(f"{PART_ON_ITS_WAY}*"):
        remove(left)


def _rows(file: Path) -> int:
    return pq.read_metadata(file).num_rows
