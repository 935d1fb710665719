"""Results on disk: a line of JSON per cell, appended whole, so that a killed run loses one cell at most."""

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from cells import key_of

from sstext.errors import UserError


def read_lines(path: Path) -> dict[str, dict[str, Any]]:
    """Key of a cell → its last result; the half line that a kill may leave at the end does not count.

    Raises:
        UserError: a line that is no result.
    """
    if not path.exists():
        return {}
    results = {}
    whole = path.read_text(encoding="utf-8").split("\n")[:-1]  # what no newline ends is half a line
    for number, line in enumerate(whole, 1):
        try:
            row = json.loads(line)
            results[key_of(row)] = row
        except (ValueError, KeyError, TypeError):
            raise UserError(
                f"{path}:{number}: expected the result of a cell, found {line[:60]!r}; delete the line"
            ) from None
    return results


def append_line(path: Path, row: dict[str, Any]) -> None:
    """Add a result, in the place of half a line where there is one; several processes may write to one file."""
    line = json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())
