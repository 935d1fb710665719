"""Every example in a docstring of the package is run as it stands."""

import doctest
import pkgutil
from importlib import import_module

import pytest

import sstext

# `__main__` is a program: importing it runs the command line.
MODULES = sorted(
    module.name for module in pkgutil.walk_packages(sstext.__path__, "sstext.") if not module.name.endswith(".__main__")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    """Guards against documentation that has drifted from the code."""
    failed, _ = doctest.testmod(import_module(name))
    assert failed == 0, f"see above, or run: python -m doctest on {name}"


def test_there_are_examples() -> None:
    """Canary: guards against a walk that finds no module, or a parser that finds no example."""
    tests = [test for name in MODULES for test in doctest.DocTestFinder().find(import_module(name))]
    assert sum(len(test.examples) for test in tests) >= 20
    assert "sstext.objective.weights" in MODULES
