"""Tables into a Markdown page, between lines that mark their place."""

import re
from pathlib import Path

from sstext.errors import UserError


def write_between_markers(path: Path, name: str, content: str) -> None:
    """Put `content` between <!-- name --> and <!-- /name -->.

    Raises:
        UserError: the markers are not there.
    """
    text = path.read_text(encoding="utf-8")
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    found = re.search(f"{start}.*{end}", text, re.DOTALL)
    if found is None:
        raise UserError(f"{path}: expected the lines {start} and {end}; add them where the table belongs")
    path.write_text(text[: found.start()] + f"{start}\n{content}\n{end}" + text[found.end() :], encoding="utf-8")
