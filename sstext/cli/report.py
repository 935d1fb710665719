"""`sstext report`."""

import argparse
from typing import Any


def add_report(commands: Any) -> None:
    report = commands.add_parser(
        "report",
        help="write the report of a run: report.html",
        description="Writes FOLDER/report.html and FOLDER/report_figures from the files of a run.",
    )
    report.set_defaults(handler=run_report)
    report.add_argument("folder", help="Folder of a run (--output of train), finished or not.")


def run_report(parsed: argparse.Namespace) -> None:
    """`sstext report`."""
    from sstext.reporting import write_report

    print(write_report(parsed.folder))
