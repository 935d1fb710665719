"""Catalog: what `sstext methods` and README.md say of a method is what the code composes."""

import pytest

from sstext.errors import UserError
from sstext.methods.catalog import composition, entry, markdown_table, pages, regularizer_entry
from sstext.methods.registry import METHODS
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


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fixmach", r"no method or regularizer 'fixmach'; did you mean fixmatch"),
        ("clusterin", r"no method or regularizer 'clusterin'; did you mean clustering"),
        ("zzz", r"there are auto, .*, r-drop, .*, ust, entropy, clustering, .*, strong-labels$"),
    ],
)
def test_an_unknown_name_is_named_with_the_nearest(name: str, message: str) -> None:
    """Guards `sstext methods fixmach`, and a further loss that is not suggested."""
    with pytest.raises(UserError, match=message):
        pages(name)


def test_a_name_opens_the_pages_of_what_bears_it() -> None:
    """Guards `sstext methods clustering`, and r-drop, which is both."""
    found = {name: [(page.name, page.stage) for page in pages(name)] for name in ("vat", "clustering", "r-drop")}
    beside = "beside any method"
    assert found == {
        "vat": [("vat", "inside a step")],
        "clustering": [("clustering", beside)],
        "r-drop": [("r-drop", "inside a step"), ("r-drop", beside)],
    }


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


@pytest.mark.parametrize("name", REGULARIZERS)
def test_every_regularizer_has_a_whole_entry(name: str) -> None:
    """Guards the docstrings' format, examples and relations taken for formulas, and arguments that nobody explains."""
    found = regularizer_entry(name)
    assert found.idea.endswith(".")
    assert found.formula.startswith("L = ")
    assert found.source
    assert found.arguments
    assert all(argument.help.endswith(".") for argument in found.arguments), found.arguments
    assert not any(">>>" in argument.help for argument in found.arguments)


def test_the_entry_of_a_regularizer_reads_signature_and_docstring() -> None:
    """Guards defaults, and explanations that stand with the base class (the strength of `Entropy`)."""
    found = regularizer_entry("clustering")
    assert [(argument.name, argument.default, argument.help) for argument in found.arguments] == [
        ("strength", 0.1, "its factor in the total loss."),
        ("balance", 1.0, "weight of the balance term relative to the confidence term."),
        ("prior", None, "(C,) class shares u. Default: uniform."),
    ]
    assert found.formula.startswith("L = mean H(p) + balance · KL(p̄ ‖ u)")
    assert found.source.startswith("Krause et al. 2010 (RIM)")
    (strength,) = regularizer_entry("entropy").arguments
    assert (strength.default, strength.help) == (1.0, "its factor in the total loss.")
