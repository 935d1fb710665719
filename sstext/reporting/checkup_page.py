"""The findings of the data doctor as a page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sstext.reporting.pages import render_page
from sstext.storage.whole import write_whole

#: Examples of a finding on the page.
EXAMPLES = 20


def write_checkup_page(path: Path, read: Sequence[str], findings: Sequence[Mapping[str, Any]]) -> None:
    """Write a page with all findings and some examples of each.

    Args:
        read: sentences on the sources.
        findings: records of `sstext.data.doctor.finding.Finding`.
    """
    page = render_page("checkup.html", read=read, findings=findings, examples=EXAMPLES)
    write_whole(path, page, recorded=False)
