"""`sstext reproduce`."""

import argparse
from typing import Any

from sstext.cli.flags import add_quiet, add_run_command
from sstext.errors import UserError
from sstext.progress import Reporter


def add_reproduce(commands: Any) -> None:
    reproduce = add_run_command(
        commands,
        "reproduce",
        run_reproduce,
        finished=True,
        help="repeat a run and compare it bit for bit",
        description="Repeats a finished run in a new folder, with the same options and data, and compares all files but the "
        "times. The first run stays as it is. Nothing may differ on the same machine with the same versions. The exit code is "
        "0 if nothing differs, and 2 if something does.",
    )
    reproduce.add_argument("--output", metavar="FOLDER", help="Folder of the new run. Default: FOLDER-reproduced.")
    add_quiet(reproduce)


def run_reproduce(parsed: argparse.Namespace) -> None:
    """`sstext reproduce`."""
    from sstext.cli.console import is_first_process
    from sstext.inference.devices import calm_libraries
    from sstext.run.verifying import reproduce

    calm_libraries()
    found = reproduce(parsed.folder, parsed.output, reporter=Reporter(parsed.quiet or not is_first_process()))
    if not is_first_process():
        return
    for difference in found:
        print(difference)
    if found:
        raise UserError(
            f"reproduce: {len(found):,} files of {parsed.folder} differ (see above); the versions and the machine of a run are "
            "in results.json"
        )
    print(f"{parsed.folder}: the run was repeated, and all files are the same, bit for bit, apart from times.")
