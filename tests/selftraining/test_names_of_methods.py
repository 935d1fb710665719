"""Behavior follows from what a method is composed of, and never from its name, however the name is looked at.

What a run does follows from the stages that a method returns; `methods/` alone turns names into them. The test finds
comparisons, also of a name that is cut out of a longer one, and membership in a part of the methods (`method in OF_ROUNDS`).
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import sstext
from sstext.methods import registry
from sstext.methods.registry import METHODS

#: Tables that have some of the methods. Membership in all of them, `METHODS`, only tells whether there is such a method.
PARTS_OF_METHODS = {
    name
    for name, table in vars(registry).items()
    if name.isupper() and isinstance(table, dict) and METHODS.keys() > table.keys() and table
}
#: Version 0.1 recorded only the name of a method, and nothing of its composition.
KNOWS_RUNS_OF_VERSION_0_1 = {"reporting/run_files.py", "config/old_options.py"}


def is_method(node: ast.expr) -> bool:
    """Whether an expression is called a method, or is made from one.

    For example `config.method`, `results["method"]`, `results.get("method")`, or `config.method.split()[0]`.
    """
    if isinstance(node, ast.Name):
        return node.id == "method"
    if isinstance(node, ast.Subscript):
        return (isinstance(node.slice, ast.Constant) and node.slice.value == "method") or is_method(node.value)
    if isinstance(node, ast.Attribute):
        return node.attr == "method"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        keyed = node.func.attr == "get" and bool(node.args) and ast.unparse(node.args[0]) == "'method'"
        return keyed or is_method(node.func.value)
    return isinstance(node, ast.NamedExpr) and is_method(node.value)


def names_in(node: ast.expr, constants: dict[str, ast.expr]) -> bool:
    """Whether an expression has the name of a method in it, or is a table of some methods."""
    if isinstance(node, ast.Name) and node.id in constants:
        node = constants[node.id]
    parts = list(ast.walk(node))
    tables = {part.id for part in parts if isinstance(part, ast.Name)}
    tables |= {part.attr for part in parts if isinstance(part, ast.Attribute)}
    return bool(tables & PARTS_OF_METHODS) or any(
        isinstance(part, ast.Constant) and part.value in METHODS for part in parts
    )


def uses_of_a_name(source: str) -> Iterator[str]:
    """Every expression whose value depends on what a method is called."""
    tree = ast.parse(source)
    constants = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(is_method(side) for side in sides) and any(names_in(side, constants) for side in sides):
                yield ast.unparse(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in ("startswith", "endswith") and is_method(node.func.value):
                yield ast.unparse(node)
        elif isinstance(node, ast.Subscript) and is_method(node.slice) and names_in(node.value, {}):
            yield ast.unparse(node)
        elif isinstance(node, ast.Match) and is_method(node.subject):
            yield f"match {ast.unparse(node.subject)}"


@pytest.mark.parametrize(
    "source",
    [
        'config.method.split()[0] == "auto"',
        'results["method"].partition(" ")[0] in SOME\nSOME = ("ust", "auto")',
        'results.get("method", "") != "auto"',
        "config.method in OF_ROUNDS",
        "method not in registry.IN_STEP",
        'method.startswith("noisy")',
        "OF_ROUNDS[config.method]",
        '(name := config.method) == "ust"',
        'config.method == "auto"',
        '"auto" != run.config.method',
        'method in ("ust", "auto")',
        'SOME = frozenset({"auto"})\nmethod not in SOME',
        'record["method"] == "auto"',
        'match config.method:\n    case "auto": pass',
    ],
)
def test_a_use_of_a_name_is_found(source: str) -> None:
    """Guards the next test against seeing nothing."""
    assert {"OF_ROUNDS", "IN_STEP"} <= PARTS_OF_METHODS
    assert len(list(uses_of_a_name(source))) == 1


@pytest.mark.parametrize(
    "source",
    ["config.method in METHODS", "method.name == 'auto'", "METHODS[config.method]", "method == 1", "x in OF_ROUNDS"],
)
def test_other_expressions_are_not(source: str) -> None:
    """Guards an alarm that people learn to pass over."""
    assert not list(uses_of_a_name(source))


def test_no_room_but_the_methods_looks_at_a_name() -> None:
    """Guards a new method, or another composition under an old name: what a run does would not follow from it."""
    package = Path(sstext.__file__).parent
    found = {
        str(file.relative_to(package)): list(uses_of_a_name(file.read_text(encoding="utf-8")))
        for file in sorted(package.rglob("*.py"))
        if file.parent.name != "methods"
    }
    assert len(found) > 50, "the package has moved"
    assert {file for file, uses in found.items() if uses} == KNOWS_RUNS_OF_VERSION_0_1, found
