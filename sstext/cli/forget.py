"""`sstext forget`."""

import argparse
from pathlib import Path
from typing import Any

from sstext.cli.flags import add_run_command
from sstext.plain import plain


def add_forget(commands: Any) -> None:
    add_run_command(
        commands,
        "forget",
        run_forget,
        help="delete all texts of a run and keep its model",
        description="Deletes what holds texts in the folder of a run: the corpus and its tokens, predictions of labeled rows, "
        "the report, and texts to label. All models, the figures and the states of the training stay. Your own files are not "
        "touched. A run that is not finished can then only go on by reading its texts again.",
    )


def run_forget(parsed: argparse.Namespace) -> None:
    """`sstext forget`."""
    from sstext.run.sharing import in_units
    from sstext.run.verifying import forget
    from sstext.storage.run_folder import RunDirectory

    deleted, run = forget(parsed.folder), RunDirectory(parsed.folder)
    said = [
        f"deleted {one.path} ({one.files} file{'s' if one.files != 1 else ''}, {in_units(one.bytes)})"
        for one in deleted
    ]
    said = said or [f"{run.path}: no file holds texts."]
    if run.results.is_file() and run.model.is_dir():
        said.append(f"The model is in {run.model} and can be used as before.")
    else:
        said.append(
            "This run is not finished and has no model. It cannot go on without its texts: the `sstext train` command that "
            f"began it would read them again, and keep them in the folder. Delete {run.path} if you do not want to go on."
        )
    beside = Path(f"{parsed.folder.rstrip('/')}.labeled.csv")
    if beside.is_file():
        said.append(
            f"{beside} still holds the labeled texts of this run. To go on from the run, `sstext train {run.path} --more` and "
            "`sstext suggest --run` need it; otherwise, delete it."
        )
    for line in said:
        print(plain(line))
