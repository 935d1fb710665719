"""`--profile`: where the time of a command went."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sstext.cli.console import is_first_process, new_console, new_table
from sstext.errors import UserError
from sstext.profiling import Profile, profiled


@contextmanager
def shown(folder: str | None) -> Iterator[None]:
    """Profile the block if a folder is given, and print the table at its end, on stderr: stdout may be the predictions.

    Of several processes, the first one is profiled.

    Raises:
        UserError: the folder cannot be made.
    """
    if folder is None or not is_first_process():
        yield
        return
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"profile: expected a folder to write to, and {folder} cannot be made ({error})") from error
    os.environ.setdefault(
        "KINETO_LOG_LEVEL", "6"
    )  # the profiler of torch would print a line when each trace begins and ends
    with profiled(folder) as profile:
        yield
    show(profile)


def show(profile: Profile) -> None:
    """Print the seconds and shares of the sections."""
    table = new_table("Where the time went")
    table.add_column("section")
    table.add_column("seconds", justify="right")
    table.add_column("share", justify="right")
    for name, share in profile.shares().items():
        table.add_row(name, f"{profile.seconds[name]:.2f}", f"{share:.1%}")
    console = new_console(stderr=True)
    console.print(table)
    console.print(f"Profile: {profile.folder}")
