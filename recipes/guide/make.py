"""Fills the generated parts of the guides and of CONTRIBUTING.md: the tables of methods, options, conventions and floors.

python recipes/guide/make.py [--check]

Every table is between two markers, for example <!-- methods --> and <!-- /methods -->. With --check, nothing is
written, and the exit code is 1 if a page is out of date.
"""

import ast
import importlib.util
import re
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import Field
from functools import partial
from pathlib import Path
from typing import Any

from sstext.cli.train import GROUPS
from sstext.config.options import default_of, options
from sstext.config.run_config import RunConfig
from sstext.methods.catalog import markdown_table

GUIDE = Path(__file__).parent
ROOT = GUIDE.parents[1]


def options_table() -> str:
    """All options of a run as Markdown: a heading and a table for each group of `sstext train --help-all`."""
    known = options(RunConfig)
    parts = []
    for group in GROUPS:
        rows = [
            f"| `{name}` | {_default(known[name])} | {_cell(known[name].metadata['help'])} |" for name in options(group)
        ]
        title = (group.__doc__ or group.__name__).splitlines()[0].rstrip(".")
        parts.append("\n".join([f"## {title}", "", "| option | default | what it does |", "|---|---|---|", *rows]))
    return "\n\n".join(parts)


def conventions_table(rows: str) -> str:
    """A table of trainer_conventions.py as Markdown: METHODS, CONSTRUCTOR or ARGUMENTS."""
    spec = importlib.util.spec_from_file_location("trainer_conventions", GUIDE / "trainer_conventions.py")
    assert spec is not None
    assert spec.loader is not None
    listed = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(listed)
    return listed.table(getattr(listed, rows))


def floors() -> dict[str, int]:
    """Package or module of sstext → its floor in the contract that `lint-imports` checks; the top floor comes first.

    >>> floors()["errors"], floors()["config"]
    (1, 2)
    """
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    names = [re.findall(r"sstext\.(\w+)", layer) for layer in layers]
    return {name: len(layers) - place for place, layer in enumerate(names) for name in layer}


def floors_table() -> str:
    """The floors as Markdown, with the first line of the docstring of each package."""
    rows = [f"| {floor} | `{name}` | {_cell(_described(name))} |" for name, floor in floors().items()]
    return "\n".join(["| floor | package | what it has |", "|---|---|---|", *rows])


def _described(name: str) -> str:
    """The first line of the docstring of a package or module of sstext.

    >>> _described("storage").endswith(".")
    True
    """
    package = ROOT / "sstext" / name
    file = package / "__init__.py" if package.is_dir() else package.with_suffix(".py")
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    if not text:
        raise ValueError(f"{file}: expected a docstring that says what it has, found none")
    return text.splitlines()[0]


def _default(spec: Field) -> str:
    """The default of an option as people would type it; "computed" if the run computes it, – if there is none.

    >>> _default(options(RunConfig)["batch_size"]), _default(options(RunConfig)["edits"])
    ('`16`', '`mask=0.15 drop=0.0 swap=0.0 cutoff=0.0`')
    >>> _default(options(RunConfig)["folds"]), _default(options(RunConfig)["test"])
    ('computed', '–')
    """
    default: Any = default_of(spec)
    if spec.metadata["computed"]:
        return "computed"
    if default is None or default == [] or default == {}:
        return "–"
    if isinstance(default, dict):
        return f"`{' '.join(f'{name}={value}' for name, value in default.items())}`"
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
    "trainer_conventions.md": {
        "methods of Trainer": partial(conventions_table, "METHODS"),
        "arguments of Trainer": partial(conventions_table, "CONSTRUCTOR"),
        "TrainingArguments": partial(conventions_table, "ARGUMENTS"),
    },
    "../../CONTRIBUTING.md": {"floors": floors_table},
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
        names = [Path(page).name for page in outdated]
        print("\n".join(f"{name} is out of date: python recipes/guide/make.py" for name in names) or "up to date")
        return int(bool(outdated))
    for page in outdated:
        (GUIDE / page).write_text(made(page), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
