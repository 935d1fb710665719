"""Fills the generated parts of the guides: the tables of methods and of options.

python recipes/guide/make.py [--check]

Every table is between two markers, for example <!-- methods --> and <!-- /methods -->. With --check, nothing is
written, and the exit code is 1 if a page is out of date.
"""

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any

from sstext import RunConfig
from sstext.methods.catalog import markdown_table

GUIDE = Path(__file__).parent


def options_table() -> str:
    """All options of a run as Markdown: a heading and a table for each group, in the order of the groups."""
    known = {spec.name: spec for spec in fields(RunConfig) if "help" in spec.metadata}
    parts, seen = [], set()
    for group in reversed(RunConfig.__mro__):
        if not is_dataclass(group) or group is RunConfig:
            continue
        own = [spec.name for spec in fields(group) if spec.name in known and spec.name not in seen]
        seen.update(own)
        rows = [f"| `{name}` | {_default(known[name])} | {_cell(known[name].metadata['help'])} |" for name in own]
        title = (group.__doc__ or group.__name__).splitlines()[0].rstrip(".")
        parts.append("\n".join([f"## {title}", "", "| option | default | meaning |", "|---|---|---|", *rows]))
    return "\n\n".join(parts)


def _default(spec: Field) -> str:
    """The default of an option as people would type it; – if there is none.

    >>> _default(next(spec for spec in fields(RunConfig) if spec.name == "batch_size"))
    '`16`'
    """
    default: Any = spec.default_factory() if spec.default_factory is not MISSING else spec.default
    if default is None or default == [] or default == {}:
        return "–"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{' '.join(map(str, default)) if isinstance(default, list) else default}`"


def _cell(text: str) -> str:
    """A text that may stand in a cell of a Markdown table.

    >>> _cell("hard|soft, <name>")
    'hard\\\\|soft, &lt;name>'
    """
    return text.replace("|", "\\|").replace("<", "&lt;")


#: Page → marker → what makes the text between the markers.
GENERATED: dict[str, dict[str, Callable[[], str]]] = {
    "methods.md": {"methods": markdown_table},
    "options.md": {"options": options_table},
}


def made(page: str) -> str:
    """The text of a page with its generated parts made anew.

    Raises:
        ValueError: the page lacks the markers of a part.
    """
    text = (GUIDE / page).read_text(encoding="utf-8")
    for name, make in GENERATED[page].items():
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        found = re.search(f"{start}.*?{end}", text, re.DOTALL)
        if found is None:
            raise ValueError(f"{page}: expected the markers {start} and {end}; add them where the table belongs")
        text = f"{text[: found.start()]}{start}\n{make()}\n{end}{text[found.end() :]}"
    return text


def main(arguments: Sequence[str]) -> int:
    """Write the pages, or only compare them; 1 if `--check` finds a difference."""
    outdated = [page for page in GENERATED if made(page) != (GUIDE / page).read_text(encoding="utf-8")]
    if "--check" in arguments:
        print("\n".join(f"{page} is out of date: python recipes/guide/make.py" for page in outdated) or "up to date")
        return int(bool(outdated))
    for page in outdated:
        (GUIDE / page).write_text(made(page), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
