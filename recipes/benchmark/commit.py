"""Which code is measured."""

import subprocess
from pathlib import Path


def commit() -> str:
    """The commit that is measured, marked where the package differs from it."""

    def git(*command: str) -> subprocess.CompletedProcess[str]:
        folder = str(Path(__file__).parents[2])
        return subprocess.run(["git", "-C", folder, *command], capture_output=True, text=True, check=False)

    head = git("rev-parse", "--short", "HEAD").stdout.strip()
    changed = git("status", "--porcelain", "--", "sstext").stdout.strip()
    return (head or "unknown") + ("-dirty" if changed else "")
