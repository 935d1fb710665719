"""A folder of shards: predictions for a large input, in files that appear whole or not at all."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sstext.errors import UserError, listed
from sstext.storage.manifest import digest_of
from sstext.storage.ownership import LOCK, OWNER
from sstext.storage.whole import remove_partials, write_whole

#: What is being labeled: the model, the files, the options. Readers of folders ignore names that begin with `_`.
JOB = "_sstext.json"
#: How names of what processes on other machines write begin. Whether these have ended is not known here.
PART_ON_ITS_WAY = ".part-"
#: Rows of a shard: about 20 minutes of a core, which a kill may cost. A corpus of 10⁹ texts is 10⁴ files.
ROWS_PER_SHARD = 100_000


def shard_name(number: int, format: str) -> str:
    """The name of a shard, by its place from 0. Sorted by name, shards are in the order of the input.

    >>> shard_name(7, "parquet")
    'part-00000007.parquet'
    """
    return f"part-{number:08}.{format}"


def is_parquet(file: Path) -> bool:
    """Whether the first bytes are those of parquet, whatever the name is, as `read_rows` decides it."""
    with file.open("rb") as opened:
        return opened.read(4) == b"PAR1"


def commit_in(file: str) -> str | None:
    """The commit that a file in the cache of the Hub belongs to.

    >>> commit_in(f"/hub/models--ada--m/snapshots/{'1' * 40}/config.json") == "1" * 40
    True
    """
    found = re.search(r"[/\\]snapshots[/\\]([0-9a-f]{40})[/\\]", file)
    return found and found[1]


def job_of(
    model: str, files: Sequence[Path], fingerprint: str | None = None, commit: str | None = None, **options: Any
) -> dict[str, Any]:
    """What a folder of shards is the result of. Two jobs that are equal have the same shards.

    Args:
        model: folder of the model, or its name on the Hub.
        files: the input, which is known by size and time of change.
        fingerprint: of another input.
        commit: that of a model on the Hub, where a branch may get other weights between two calls.
    """
    folder = Path(model)
    weights = [str(digest_of(file)) for file in sorted(folder.glob("*")) if file.suffix in (".safetensors", ".json")]
    if not folder.is_dir() and commit is not None:
        weights = [commit]
    known = [[str(file.absolute()), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    return {
        "model": {"name": str(folder.absolute()) if folder.is_dir() else model, "weights": weights},
        "files": known if fingerprint is None else [fingerprint],
        "options": options,
    }


def claim(folder: Path, job: Mapping[str, Any]) -> None:
    """Make sure that a folder is empty, or has shards of the same job. What killed processes have left is removed.

    Raises:
        UserError: it has other files, or shards of another job.
    """
    remove_partials(list(folder.iterdir()))
    names = (file.name for file in folder.iterdir() if file.name not in (JOB, LOCK, OWNER))
    files = sorted(name for name in names if not name.startswith(PART_ON_ITS_WAY))
    if files:
        before = _read(folder / JOB)
        if before is None or any(not name.startswith("part-") for name in files):
            raise UserError(
                f"output: expected an empty folder, or one with shards of the same command, found {listed(files)} in {folder}; "
                "choose another --output"
            )
        if changed := [key for key in job if before.get(key) != json.loads(json.dumps(job[key]))]:
            raise UserError(
                f"output: {folder} has predictions with other {' and '.join(changed)} ({JOB} there has them); choose another "
                "--output, or remove the folder"
            )
    write_whole(folder / JOB, json.dumps(job, indent=1, ensure_ascii=False) + "\n", recorded=False)


def _read(file: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
