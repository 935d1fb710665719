"""`sstext report`."""

import argparse
from typing import Any

from sstext.cli.flags import add_run_command
from sstext.plain import plain


def add_report(commands: Any) -> None:
    add_run_command(
        commands,
        "report",
        run_report,
        help="write the report of a run: report.html",
        description="Writes report.html and report_figures into the folder of a run. No other process may work there.",
    )


def run_report(parsed: argparse.Namespace) -> None:
    """`sstext report`."""
    from sstext.reporting import write_report

    print(plain(write_report(parsed.folder)))
