"""What `sstext methods` prints."""

from collections.abc import Iterable
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from sstext.cli.console import new_console, new_table
from sstext.errors import UserError
from sstext.methods.catalog import BESIDE, Entry, entry, pages, regularizer_entry
from sstext.methods.registry import METHODS, LoopArguments, build, compose
from sstext.objective.regularizers import REGULARIZERS


def show_methods(name: str | None) -> None:
    """Print one row per method and further loss, or one of them with its formula, arguments and paper."""
    console = new_console()
    if name is not None:
        for page in pages(name):
            _show_page(console, page)
        return
    title = "Methods (sstext train --method NAME --method-args KEY=VALUE …; more: sstext methods NAME)"
    table = new_table(title, collapse_padding=True)
    found = [entry(name) for name in METHODS]
    _add_names(table, "method", METHODS)
    table.add_column("idea", overflow="fold")
    longest = max(len(word) for page in found for word in page.paper.split())
    table.add_column("paper", max_width=longest)  # the idea gets the remaining width
    for title in ("where", "tasks"):
        table.add_column(title, no_wrap=True)
    for page in found:
        table.add_row(page.name, page.idea, page.paper, page.stage, page.tasks)
    console.print(table)
    further = new_table(
        "Further losses that any method can add (--regularizers NAME=STRENGTH …; more: sstext methods NAME)"
    )
    _add_names(further, "regularizer", REGULARIZERS)
    further.add_column("idea", overflow="fold")
    for page in map(regularizer_entry, REGULARIZERS):
        further.add_row(page.name, page.idea)
    console.print(further)


def _add_names(table: Table, title: str, names: Iterable[str]) -> None:
    """Add a column of names. People type them, so they are never cut."""
    table.add_column(title, no_wrap=True, min_width=max(map(len, names)))


def _show_page(console: Console, found: Entry) -> None:
    console.print(f"{found.name}: {found.idea}", highlight=False)
    console.print()
    rows = {
        "formula": found.formula, "composition": found.composition, "when": found.when, "source": found.source,
        "where": found.stage, "tasks": found.tasks,
    }  # fmt: skip
    table = new_table("", show_header=False)
    for title, text in rows.items():
        if text:
            table.add_row(title, text)
    console.print(table)
    if found.stage != BESIDE and (shared := ", ".join(_shared_arguments(found))):
        console.print(f"This method also takes {shared} (see recipes/guide/methods.md).", highlight=False)
    if not found.arguments:
        console.print("No further arguments.")
        return
    given = "--method-args KEY=VALUE …"
    if found.stage == BESIDE:
        given = f"--regularizers {found.name}=X sets the first; the others in Python"
    arguments = new_table(f"Arguments ({given})")
    _add_names(arguments, "argument", [argument.name for argument in found.arguments])
    arguments.add_column("default", no_wrap=True)
    arguments.add_column("what it does, and what the paper has", overflow="fold")
    for argument in found.arguments:
        arguments.add_row(argument.name, str(argument.default), argument.help)
    console.print(arguments)


def _shared_arguments(found: Entry) -> list[str]:
    """The arguments of `LoopArguments` that a method takes beside its own.

    >>> _shared_arguments(entry("ust"))
    ['min_confidence', 'start', 'stop_agreement', 'round_batch_size', 'round_learning_rate']
    >>> _shared_arguments(entry("supervised"))  # it has no rounds
    []
    """
    if compose(found.name).round is None:
        return []
    own = {argument.name for argument in found.arguments}
    usual = {**asdict(LoopArguments()), "strength": 1.0}
    return [name for name, value in usual.items() if name not in own and _takes(found.name, name, value)]


def _takes(method: str, argument: str, value: object) -> bool:
    try:
        build(method, {argument: value})
    except UserError:
        return False
    return True
