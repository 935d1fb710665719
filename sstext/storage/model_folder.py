"""The folder of a model, by the name that a user gives."""

import os
from pathlib import Path

from sstext.errors import UserError
from sstext.storage.damage import check
from sstext.storage.run_folder import RunDirectory


def find_model(name: str) -> str:
    """The model behind a name: that of a run, if the name is the folder of one; otherwise the name, also one on the Hub.

    The files of a folder are checked.

    Raises:
        UserError: the run has no model yet, or a file is damaged.
    """
    run = RunDirectory(name)
    if run.holds_run():
        if not run.model.is_dir():
            raise UserError(
                f"{name}: this run has no model yet; finish it with the `sstext train` command that began it"
            )
        name = str(run.model)
    if os.path.isdir(name):
        check(Path(name), editable=True)
    return name
