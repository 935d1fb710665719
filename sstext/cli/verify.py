"""`sstext verify`."""

import argparse
from pathlib import Path
from typing import Any

from sstext.cli.flags import add_run_command
from sstext.errors import UserError
from sstext.plain import plain


def add_verify(commands: Any) -> None:
    add_run_command(
        commands,
        "verify",
        run_verify,
        help="check the files of a run for damage",
        description="Compares length and hash of all files of a run with its manifest. For every damaged file, it says what to "
        "delete, and what the same `sstext train` command then repeats. JSON files of the model may have been edited; this is "
        "said, and is no damage. The exit code is 0 if there is no damage, and 2 if there is.",
    )


def run_verify(parsed: argparse.Namespace) -> None:
    """`sstext verify`."""
    from sstext.run.sharing import in_units
    from sstext.run.verifying import verify

    found = verify(parsed.folder)
    for problem in found.problems:
        print(plain(problem))
    for name in found.edited:
        print(plain(f"{Path(parsed.folder, name)} was edited; it can be read, and is used as it is now"))
    if found.problems:
        raise UserError(
            f"verify: {parsed.folder} is damaged in {len(found.problems)} of {found.files:,} files; see above"
        )
    which = f"the other {found.files - len(found.edited):,}" if found.edited else f"all {found.files:,}"
    print(plain(f"{parsed.folder}: {which} files are as they were written ({in_units(found.bytes)} in all)."))
