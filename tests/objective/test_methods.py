"""Methods: what each name composes, and that every one is documented and guarded against typos."""

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from sstext.errors import UserError
from sstext.objective.divergences import cross_entropy
from sstext.objective.methods import METHODS, build
from sstext.objective.objective import Objective
from sstext.objective.targets import Align, Hard
from sstext.objective.teachers import Self
from sstext.objective.views import Augmented, Same
from sstext.objective.weights import Gaussian, Threshold

EVERY = pytest.mark.parametrize(("name", "method"), METHODS.items(), ids=list(METHODS))


@EVERY
def test_every_method_is_documented(name: str, method: Callable[..., Objective]) -> None:
    """`sstext methods` prints these docstrings: effect, formula, paper with its equation, and each argument."""
    text = inspect.getdoc(method) or ""
    assert re.match(r"[A-Z].*\.$", text.splitlines()[0])
    assert re.search(r"^L(_u)? = .", text, re.MULTILINE)
    if name != "supervised":
        assert re.search(r"^Source: .+ (19|20)\d\d.+ eqs?\. \d", text, re.MULTILINE)
    for argument in inspect.signature(method).parameters:
        assert re.search(rf"^    {argument}: \S", text, re.MULTILINE), f"{name} does not document {argument}"


@EVERY
def test_every_method_can_be_built_with_its_defaults(name: str, method: Callable[..., Objective]) -> None:
    """Guards against an argument without a default, and against a default that a part refuses."""
    objective = build(name).bind(num_classes=3, num_rows=10)
    assert objective.supervised == (name == "supervised")
    assert build(name, {}) is not build(name)  # state is never shared between two runs


@pytest.mark.parametrize(
    ("name", "target", "weight", "view", "early"),
    [
        ("pseudo-label", Hard, Threshold, Same, 0.5),
        ("fixmatch", Hard, Threshold, Augmented, 1.0),
        ("softmatch", Hard, Gaussian, Augmented, 1.0),
    ],
)
def test_the_axes_of_each_method(name: str, target: type, weight: type, view: type, early: float) -> None:
    """The table of methods.md: guards against drift from the papers (strength 1; the ramp at t/T = .2)."""
    objective = build(name)
    axes = (objective.teacher, objective.target, objective.weight, objective.view)
    assert tuple(map(type, axes)) == (Self, target, weight, view)
    assert objective.teacher is not None
    assert objective.teacher.dropout is False
    assert (objective.divergence, objective.strength) == (cross_entropy, 1.0)
    assert (objective.ramp(0.2), objective.ramp(0.4)) == (early, 1.0)


def test_paper_defaults() -> None:
    """Guards the constants: τ = .95; m = .999 everywhere; σ as in the paper's equation, not as in the released code."""
    assert build("fixmatch").weight.threshold == build("pseudo-label").weight.threshold == 0.95
    weight = build("softmatch").weight
    assert isinstance(weight, Gaussian)
    assert isinstance(weight.of, Align)
    assert (weight.momentum, weight.of.momentum, weight.n_sigma) == (0.999, 0.999, 1.0)


def test_arguments_reach_their_parts() -> None:
    """Guards against an argument that is accepted and forgotten."""
    objective = build("softmatch", {"momentum": 0.5, "n_sigma": 2, "prior": [3, 1], "strength": 0.25, "ramp": 0.5})
    weight = objective.bind(2, 1).weight
    assert isinstance(weight, Gaussian)
    assert isinstance(weight.of, Align)
    assert (weight.momentum, weight.of.momentum, weight.n_sigma, objective.strength) == (0.5, 0.5, 2, 0.25)
    torch.testing.assert_close(weight.of.target_prior, torch.tensor([0.75, 0.25]))
    assert objective.ramp(0.25) == 0.5
    assert build("pseudo-label", {"threshold": 0.8, "ramp": 0}).ramp(0.0) == 1.0


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("fixmach", {}, "method: no method 'fixmach'; did you mean fixmatch"),
        ("zzz", {}, "no method 'zzz'; there are supervised, pseudo-label, fixmatch, softmatch"),
        ("fixmatch", {"treshold": 0.9}, "method_args: fixmatch has no argument 'treshold'; did you mean threshold"),
        ("fixmatch", {"zzz": 1}, "fixmatch has no argument 'zzz'; there are threshold, strength, ramp"),
        ("supervised", {"threshold": 0.9}, "supervised has no argument 'threshold'; there are none"),
        ("fixmatch", {"threshold": "high"}, "method_args of fixmatch: "),
        ("fixmatch", {"threshold": -1}, "method_args of fixmatch: threshold: expected a number at least 0, found -1"),
        ("fixmatch", {"strength": -1}, "strength: expected a number at least 0, found -1"),
        ("softmatch", {"n_sigma": 0}, "n_sigma: expected a number at least 0.001, found 0"),
    ],
)
def test_wrong_names_and_values_are_refused(name: str, arguments: dict[str, Any], message: str) -> None:
    """Guards against a typo that trains another method than the one asked for."""
    with pytest.raises(UserError, match=re.escape(message)):
        build(name, arguments)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("softmatch", {"momentum": 2}),
        ("softmatch", {"momentum": "x"}),
        ("softmatch", {"prior": [1, -1]}),
        ("fixmatch", {"ramp": "x"}),
        ("fixmatch", {"threshold": float("nan")}),
    ],
)
def test_values_that_can_not_work_are_refused_before_training(name: str, arguments: dict[str, Any]) -> None:
    """Guards against NaN weights, or an error of Python's, an hour into a run."""
    with pytest.raises(UserError):
        build(name, arguments).bind(2, 1)
