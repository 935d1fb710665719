"""Catalog: what `sstext methods` and README.md say of a method is what the code composes."""

import pytest

from sstext.catalog import composition, entry, markdown_table, regularizer_entries
from sstext.errors import UserError
from sstext.objective.methods import METHODS
from sstext.objective.objective import Objective
from sstext.objective.regularizers import REGULARIZERS, Entropy
from sstext.objective.teachers import Self


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_whole_entry(name: str) -> None:
    """Guards the docstrings' format: a section that is not found would leave an empty line on the screen."""
    found = entry(name)
    assert found.idea.endswith(".")
    assert found.formula.startswith("L")
    assert found.when.endswith(".")
    assert found.tasks == "single-label"
    assert found.source or name == "supervised"
    assert all(argument.help.endswith(".") for argument in found.arguments), found.arguments


def test_an_entry_reads_the_signature_and_the_docstring() -> None:
    """Guards against a default or an explanation that is another argument's."""
    found = {argument.name: argument for argument in entry("fixmatch").arguments}
    assert list(found) == ["threshold", "view", "strength", "ramp"]
    assert (found["threshold"].default, found["threshold"].help) == (0.95, "τ (paper: .95).")
    assert found["ramp"].help == "share of the training over which λ rises (paper: none)."
    assert entry("supervised").arguments == []
    assert entry("fixmatch").source.startswith("Sohn et al. 2020")


def test_an_unknown_method_is_named_with_the_nearest() -> None:
    """Guards `sstext methods fixmach`."""
    with pytest.raises(UserError, match="no method 'fixmach'; did you mean fixmatch"):
        entry("fixmach")


def test_compositions() -> None:
    """Guards the table of README.md: axes in their order, and what is added to them."""
    assert composition(Objective()) == "labels alone"
    assert composition(Objective(teacher=Self())) == "Self · Hard · Everyone · Augmented · cross_entropy"
    assert composition(Objective(regularizers=[Entropy()])) == "Augmented + Entropy"
    assert entry("softmatch").composition == "Self · Hard · Gaussian · Augmented · cross_entropy"


def test_the_table_has_a_line_per_method() -> None:
    """Guards against a cell that breaks the table."""
    lines = markdown_table().splitlines()
    assert len(lines) == 2 + len(METHODS)
    assert {line.count("|") for line in lines} == {5}


def test_regularizers_are_listed_with_their_effect() -> None:
    """Guards against a loss that nobody finds."""
    assert [name for name, _ in regularizer_entries()] == list(REGULARIZERS)
    assert all(effect for _, effect in regularizer_entries())
