"""Methods: what each name composes, and that every one is documented and guarded against typos."""

import inspect
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from sstext.errors import UserError
from sstext.methods.method import HEAD, HEAD_AND_PROBE, PROVEN, UNPROVEN
from sstext.methods.registry import METHODS, OF_ROUNDS, build, compose
from sstext.objective.adaptive import Curriculum, LossThreshold, Relative, SelfAdaptive, SoftThenHard
from sstext.objective.divergences import cross_entropy, kl, squared_error
from sstext.objective.part import Signals
from sstext.objective.regularizers import Entropy, Fairness, RDrop, StrongLabels, SupervisedContrast
from sstext.objective.targets import Align, AlignToLabeled, Hard, Sharpen, Soft
from sstext.objective.teachers import EMA, History, Self
from sstext.objective.views import Adversarial, Augmented, EmbeddingNoise, Same
from sstext.objective.weights import (
    Confidence,
    Everyone,
    Gaussian,
    InverseVariance,
    Known,
    Threshold,
    TrainingSignalAnnealing,
)
from sstext.pseudolabels.admission import easy, hard, most_confident

EVERY = pytest.mark.parametrize(("name", "method"), METHODS.items(), ids=list(METHODS))

#: Methods that do nothing of their own inside a step.
BETWEEN_ROUNDS = set(OF_ROUNDS) - {"auto"}

#: Method → teacher, target, weight, view, divergence; label weight and regularizers where there are any.
AXES: dict[str, tuple[Any, ...]] = {
    "pseudo-label": (Self, Hard, Threshold, Same, cross_entropy),
    "pi-model": (Self, Soft, Everyone, Same, squared_error),
    "temporal-ensembling": (History, Soft, Known, Same, squared_error),
    "mean-teacher": (EMA, Soft, Everyone, Augmented, squared_error),
    "vat": (Self, Soft, Everyone, Adversarial, kl, Entropy),
    "uda": (Self, Sharpen, Threshold, Augmented, kl, TrainingSignalAnnealing),
    "fixmatch": (Self, Hard, Threshold, Augmented, cross_entropy),
    "flexmatch": (Self, Hard, Curriculum, Augmented, cross_entropy),
    "dash": (Self, SoftThenHard, LossThreshold, Augmented, cross_entropy),
    "adamatch": (Self, AlignToLabeled, Relative, Augmented, cross_entropy, StrongLabels),
    "softmatch": (Self, Hard, Gaussian, Augmented, cross_entropy),
    "freematch": (Self, Hard, SelfAdaptive, Augmented, cross_entropy, Fairness),
}

#: Method of the round loop → weight, target and order of its admission; quotas, refill, align, passes, noise.
ADMISSIONS: dict[str, tuple[Any, ...]] = {
    "self-training": (Threshold, Hard, most_confident, "none", False, False, 0, False),
    "class-balanced": (Everyone, Hard, most_confident, "prior", False, True, 0, True),
    "margin-history": (Confidence, Hard, most_confident, "prior", False, True, 0, True),
    "noisy-student": (Threshold, Soft, most_confident, "equal", True, False, 0, True),
    "ust": (InverseVariance, Hard, easy, "equal", True, False, 30, False),
}

#: Method → arguments that its paper (or methods.md, for a text) sets.
DEFAULTS: dict[str, dict[str, Any]] = {
    "auto": {"temperature": 0.1},
    "pseudo-label": {"threshold": 0.95, "strength": 1.0, "ramp": 0.4},
    "pi-model": {},
    "temporal-ensembling": {"momentum": 0.6},
    "mean-teacher": {"decay": 0.999, "ramp_decay": 0.99, "warm": False, "ramp": 0.4},
    "vat": {"entropy": 1.0, "strength": 1.0, "ramp": 0.0},
    "uda": {"threshold": 0.8, "temperature": 0.4, "strength": 1.0, "ramp": 0.0},
    "fixmatch": {"threshold": 0.95, "strength": 1.0, "ramp": 0.0},
    "flexmatch": {"threshold": 0.95, "warmup": True, "strength": 1.0, "ramp": 0.0},
    "dash": {"c": 1.0001, "gamma": 1.27, "floor": 0.05, "temperature": 0.5, "strength": 1.0},
    "adamatch": {"factor": 0.9, "momentum": 0.999, "strength": 1.0, "ramp": 0.5},
    "softmatch": {"momentum": 0.999, "n_sigma": 1.0, "prior": None, "strength": 1.0, "ramp": 0.0},
    "freematch": {"momentum": 0.999, "fairness": 0.01, "strength": 1.0, "ramp": 0.0},
    "r-drop": {"alpha": 1.0, "unlabeled": True},
    "self-training": {"threshold": 0.95},
    "class-balanced": {"labels": "hard"},
    "margin-history": {"labels": "hard"},
    "noisy-student": {"threshold": 0.3, "labels": "soft"},
    "ust": {"passes": 30, "sampling": "easy", "alpha": 1.0},
}

SIGMOID = math.exp(-5 * 0.5**2)  # half of a sigmoid ramp: .286505
#: Method → share of the training over which λ rises, and its factor when half of it is done.
RAMPS = {
    "pseudo-label": (0.4, 0.5),
    "pi-model": (0.25, SIGMOID),
    "temporal-ensembling": (0.25, SIGMOID),
    "mean-teacher": (0.4, SIGMOID),
    "adamatch": (0.5, 0.5),
}


@EVERY
def test_every_method_is_documented(name: str, method: Callable[..., Any]) -> None:
    """`sstext methods` prints these docstrings: effect, formula, paper with its equation, and each argument."""
    text = inspect.getdoc(method) or ""
    assert re.match(r"[A-Z].*\.$", text.splitlines()[0])
    assert re.search(r"^L(_u)? = .", text, re.MULTILINE)
    if name != "supervised":
        source = re.search(r"^Source: (.+?)(?:\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
        assert source, f"{name} names no paper"
        assert re.search(r"(19|20)\d\d\b.+\b(eqs?\.|algorithm|section) \d", source[1], re.DOTALL), source[1]
    for argument in inspect.signature(method).parameters:
        assert re.search(rf"^    {argument}: \S", text, re.MULTILINE), f"{name} does not document {argument}"


@EVERY
def test_every_method_can_be_built_with_its_defaults(name: str, method: Callable[..., Any]) -> None:
    """Guards against an argument without a default, and against a default that a part refuses."""
    objective = build(name).bind(num_classes=3, num_rows=10)
    assert objective.supervised == (name in ("supervised", "auto") or name in BETWEEN_ROUNDS)
    assert build(name, {}) is not build(name)  # state is never shared between two runs


@EVERY
def test_every_method_is_short(name: str, method: Callable[..., Any]) -> None:
    """CONTRIBUTING.md: a function beyond 60 lines asks to be split; guards compositions that grow code of their own."""
    assert len(inspect.getsource(method).splitlines()) <= 60


def test_every_method_is_in_the_tables() -> None:
    """Guards against a method that is composed and never looked at again."""
    assert set(METHODS) - BETWEEN_ROUNDS == {*AXES, "r-drop", "supervised", "auto"}
    assert set(METHODS) - {"supervised"} == set(DEFAULTS)
    assert set(ADMISSIONS) == BETWEEN_ROUNDS


@pytest.mark.parametrize("name", AXES)
def test_the_axes_of_each_method(name: str) -> None:
    """The table of the design: guards against drift from the papers."""
    objective = build(name)
    axes = [*map(type, (objective.teacher, objective.target, objective.weight, objective.view)), objective.divergence]
    label_weight = [] if objective.label_weight is None else [type(objective.label_weight)]
    assert tuple(axes + label_weight + [*map(type, objective.regularizers)]) == AXES[name]
    if isinstance(objective.teacher, Self):
        assert objective.teacher.dropout == (name == "pi-model")  # dropout noise is that method's point


@pytest.mark.parametrize("name", ["supervised", *ADMISSIONS])
def test_inside_a_step_the_round_loop_is_supervised(name: str) -> None:
    """The same table, between two rounds: guards against a method of the loop that also changes the steps."""
    assert build(name).plain
    admission = compose(name).selection
    if name == "supervised":
        assert admission is None
        return
    assert admission is not None
    parts = type(admission.weight), type(admission.target), admission.order
    rest = admission.quotas, admission.refill, admission.align, admission.passes, admission.noise
    assert (*parts, *rest) == ADMISSIONS[name]


def test_auto_is_a_regression_a_contrast_and_rounds_that_the_options_steer() -> None:
    """Guards against a contrast that is lost, a first round with pseudo-labels of plain fine-tuning, and a deaf --prior."""
    method = compose("auto")
    regression, start, grow = method.stages(rounds=1)
    assert [stage.name for stage in (regression, start, grow)] == ["regression", "start", "round 1"]
    assert [stage.learns_from for stage in (regression, start, grow)] == [None, None, "start"]
    assert [stage.labels_with for stage in (regression, start, grow)] == [HEAD, HEAD_AND_PROBE, HEAD]
    assert (regression.frozen, start.frozen, regression.schedule.steps(64)) == (True, False, 0)
    assert [stage.regression_head for stage in (regression, start, grow)] == [True, True, False]
    assert [stage.reads_class_texts for stage in (regression, start, grow)] == [True, True, False]
    assert grow.objective().plain
    for objective in (start.objective(), build("auto")):
        assert [*map(type, objective.regularizers)] == [SupervisedContrast]
        assert objective.blocks == ["labeled"]
    assert grow.selection is not None
    assert (grow.selection.align, grow.selection.quotas, grow.keep) == (True, "none", 1.0)
    assert [stage.name for stage in compose("ust").stages(rounds=1)] == ["baseline", "round 1"]
    contrast = build("auto", {"contrast": 0.5, "temperature": 0.2}).regularizers[0]
    assert (contrast.strength, contrast.temperature) == (0.5, 0.2)
    half, unaligned = compose("auto", keep=[0.5]).selection, compose("auto", align=False).selection
    assert half is not None
    assert half.quotas == "prior"
    assert unaligned is not None
    assert not unaligned.align


def test_plain_fine_tuning_of_auto_is_beside_the_stages_or_one_of_them() -> None:
    """Guards the baseline of the test rows, the argument that makes it a stage, and an encoder without a linear head: there it
    takes the place of the regression, and no head begins as one."""
    method = compose("auto")
    assert method.plain is not None
    assert (method.plain.name, method.plain.objective().plain) == ("baseline", True)
    among = compose("auto", {"plain": True}).stages(rounds=1)
    assert [stage.name for stage in among] == ["regression", "baseline", "start", "round 1"]
    further = compose("auto", {"plain": True}, regularizers={"entropy": 0.1}).stages(rounds=1)
    assert [stage.objective().plain for stage in further] == [True, True, False, False], "a loss joins what is compared"
    instead = method.without_frozen()
    assert [stage.name for stage in instead.stages(rounds=1)] == ["baseline", "start", "round 1"]
    assert not any(stage.regression_head for stage in instead.stages(rounds=1))
    assert instead.plain is None


@pytest.mark.parametrize("name", METHODS)
def test_without_labels_only_a_stage_that_reads_descriptions_can_teach(name: str) -> None:
    """Guards a run that trains on a few descriptions as if they were labels, a gain that is expected of it, and folds."""
    found = compose(name).without_labels()
    if not any(stage.frozen for stage in compose(name).first):
        assert found is None
        return
    assert found is not None
    assert [stage.name for stage in found.stages(rounds=1)] == ["zero-shot", "round 1"]
    assert (found.folds, found.plain, found.expected_gain) == (0, None, UNPROVEN)
    assert found.stages(rounds=1)[1].learns_from == "zero-shot"
    assert not found.teacher.with_probe, "a probe would be fitted on labels"


def test_only_auto_as_it_was_measured_is_expected_to_gain() -> None:
    """Guards a belief in a composition that nobody has measured; batch sizes and learning rates are no other composition."""
    assert compose("auto").expected_gain is PROVEN
    assert compose("auto", {"round_batch_size": 8, "contrast": 10.0}).expected_gain is PROVEN
    for name in OF_ROUNDS.keys() - {"auto"}:
        assert compose(name).expected_gain is UNPROVEN
    for arguments in ({"contrast": 1.0}, {"labels": "hard"}, {"min_confidence": 0.5}, {"start": "pretrained"}):
        assert compose("auto", arguments).expected_gain is UNPROVEN, arguments
    assert compose("auto", regularizers={"entropy": 0.1}).expected_gain is UNPROVEN
    assert compose("auto", keep=[0.5]).expected_gain is UNPROVEN
    assert compose("auto", align=False).expected_gain is UNPROVEN


def test_a_method_inside_a_step_is_compared_with_a_baseline_if_it_is_asked_for() -> None:
    """Guards a comparison of a method with itself, a baseline that has its loss, and a second plain training."""
    start, grow = compose("fixmatch").stages(rounds=1)
    assert (start.name, start.objective().plain, grow.objective().plain) == ("start", False, False)
    baseline, start, _ = compose("fixmatch", compared=True).stages(rounds=1)
    assert (baseline.name, baseline.objective().plain) == ("baseline", True)
    assert (start.name, start.objective().plain) == ("start", False)
    assert [stage.name for stage in compose("supervised", compared=True).stages(rounds=0)] == ["baseline"]
    baseline, start = compose("supervised", regularizers={"entropy": 0.1}, compared=True).stages(rounds=0)
    assert baseline.objective().plain
    assert [*map(type, start.objective().regularizers)] == [Entropy]


def test_arguments_of_the_loop_reach_the_stages() -> None:
    """Guards an argument that every method takes, and that is accepted and forgotten."""
    asked = {
        "min_confidence": 0.6, "start": "pretrained", "stop_agreement": 0.9,
        "round_batch_size": 8, "round_learning_rate": 1e-3,
    }  # fmt: skip
    for name in OF_ROUNDS:
        usual, method = compose(name), compose(name, asked)
        grow, first = method.stages(rounds=1)[-1], method.stages(rounds=1)[0]
        assert grow.selection is not None
        assert grow.selection.min_confidence == 0.6
        assert (grow.schedule.batch_size, grow.schedule.learning_rate) == (8, 1e-3)
        assert (first.schedule.batch_size, first.schedule.learning_rate) == (16, 2e-4)
        assert (grow.starts_from, usual.stages(rounds=1)[-1].starts_from) == (None, usual.teacher.name)
        assert (method.stop_agreement, usual.stop_agreement) == (0.9, 0.999)
    soft, hard_ones = compose("fixmatch", {"labels": "soft"}).selection, compose("fixmatch").selection
    assert soft is not None
    assert hard_ones is not None
    assert [type(soft.target), type(hard_ones.target)] == [Soft, Hard]
    assert build("fixmatch", {"strength": 0.5}).strength == build("uda", {"strength": 0.5}).strength == 0.5
    assert compose("pi-model", {"strength": 0.5}).teacher.objective().strength == 0.5


def test_r_drop_is_a_regularizer_of_all_rows() -> None:
    """Guards against a teacher that it does not have, and against two passes of the labeled rows alone."""
    objective = build("r-drop")
    assert objective.teacher is None
    assert [*map(type, objective.regularizers)] == [RDrop]
    assert objective.blocks == ["labeled", "unlabeled", "unlabeled again", "labeled again"]
    assert build("r-drop", {"unlabeled": False}).supervised


@pytest.mark.parametrize("name", DEFAULTS)
def test_paper_defaults(name: str) -> None:
    """Guards the constants of the papers against a hand that tunes."""
    parameters = inspect.signature(METHODS[name]).parameters
    assert {argument: parameters[argument].default for argument in DEFAULTS[name]} == DEFAULTS[name]


@pytest.mark.parametrize("name", AXES)
def test_ramps(name: str) -> None:
    """How λ rises: 0 (or e⁻⁵) at the start, its value half-way up, 1 afterwards; most methods have none."""
    length, half = RAMPS.get(name, (0.0, 1.0))
    ramp = build(name).ramp
    assert ramp(length / 2) == pytest.approx(half)
    assert [ramp(length), ramp(1.0)] == [1.0, 1.0]
    if length:
        assert ramp(0.0) == pytest.approx(math.exp(-5) if half == SIGMOID else 0.0)


def test_parts_that_share_state_are_one() -> None:
    """Guards against a weight that aligns with averages of its own, and a target that never turns hard."""
    adamatch, dash, freematch = build("adamatch"), build("dash"), build("freematch")
    assert isinstance(adamatch.weight, Relative)
    assert adamatch.weight.of is adamatch.target
    assert any(part is dash.weight for part in dash.target.modules())
    (fairness,) = freematch.regularizers
    assert isinstance(fairness, Fairness)
    assert fairness.of is freematch.weight


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
    teacher = build("mean-teacher", {"decay": 0.5, "ramp_decay": 0.25, "warm": True, "ramp": 0.1}).teacher
    assert isinstance(teacher, EMA)
    assert (teacher.decay, teacher.ramp_decay, teacher.ramp, teacher.warm) == (0.5, 0.25, 0.1, True)
    annealing = build("uda", {"annealing": "none"}).label_weight
    assert annealing is not None
    sure = Signals(
        torch.ones(1, 2), labeled_logits=torch.tensor([[99.0, -99.0]]), labels=torch.tensor([0]), progress=0.1
    )
    assert annealing(sure).tolist() == [1.0]
    noisy, uncertain = (
        compose("noisy-student", {"labels": "hard"}).selection,
        compose("ust", {"passes": 2, "sampling": "hard"}).selection,
    )
    assert noisy is not None
    assert isinstance(noisy.target, Hard)
    assert uncertain is not None
    assert (uncertain.passes, uncertain.order) == (2, hard)
    assert len(build("freematch", {"fairness": 0}).regularizers) == len(build("vat", {"entropy": 0}).regularizers) == 0


@pytest.mark.parametrize("name", [name for name in AXES if "view" in inspect.signature(METHODS[name]).parameters])
def test_the_view_is_an_argument(name: str) -> None:
    """`view=noise` and a view of one's own: guards against a method that takes the argument and keeps its own view."""
    assert isinstance(build(name, {"view": "noise"}).view, EmbeddingNoise)
    own = Adversarial(epsilon=0.5)
    assert build(name, {"view": own}).view is own
    with pytest.raises(UserError, match=f"method_args of {name}: view: expected one of "):
        build(name, {"view": "nois"})


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("fixmach", {}, "method: no method 'fixmach'; did you mean fixmatch"),
        ("zzz", {}, "no method 'zzz'; there are auto, supervised, "),
        ("fixmatch", {"treshold": 0.9}, "method_args: fixmatch has no argument 'treshold'; did you mean threshold"),
        ("fixmatch", {"zzz": 1}, "fixmatch has no argument 'zzz'; there are threshold, view, strength, ramp"),
        (
            "supervised",
            {"threshold": 0.9},
            "supervised has no argument 'threshold'; there are labels, min_confidence, ",
        ),
        ("fixmatch", {"threshold": "high"}, "method_args of fixmatch: "),
        ("fixmatch", {"threshold": -1}, "method_args of fixmatch: threshold: expected a number at least 0, found -1"),
        ("fixmatch", {"strength": -1}, "strength: expected a number at least 0, found -1"),
        ("r-drop", {"strength": 0.5}, "r-drop: it has no pseudo-label loss, so strength has no effect; remove it"),
        ("auto", {"strength": 0.5}, "auto: it has no pseudo-label loss, so strength has no effect; remove it"),
        ("fixmatch", {"labels": "softly"}, "method_args of fixmatch: labels: expected soft or hard, found 'softly'"),
        ("ust", {"labels": "soft"}, "ust has no argument 'labels'"),
        ("auto", {"min_confidence": 1.5}, "method_args of auto: min_confidence: expected a number"),
        ("auto", {"start": "zero"}, "method_args of auto: start: expected previous or pretrained, found 'zero'"),
        ("auto", {"stop_agreement": -1}, "method_args of auto: stop_agreement: expected a number at least 0, found -1"),
        ("auto", {"round_batch_size": 0}, "round_batch_size: expected a whole number of at least 1, found 0"),
        ("auto", {"round_batch_size": 2.5}, "round_batch_size: expected a whole number of at least 1, found 2.5"),
        ("auto", {"round_learning_rate": -1}, "round_learning_rate: expected a number at least 0, found -1"),
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
        ("temporal-ensembling", {"momentum": 1.0}),
        ("mean-teacher", {"decay": 1.5}),
        ("vat", {"xi": 0}),
        ("uda", {"annealing": "cosine"}),
        ("uda", {"temperature": 0}),
        ("dash", {"gamma": 0.5}),
        ("dash", {"interval": 0}),
        ("adamatch", {"momentum": -0.1}),
        ("freematch", {"momentum": 2}),
        ("r-drop", {"alpha": -1}),
        ("self-training", {"threshold": -1}),
        ("noisy-student", {"labels": "softly"}),
        ("ust", {"passes": 1}),
        ("ust", {"sampling": "random"}),
    ],
)
def test_values_that_can_not_work_are_refused_before_training(name: str, arguments: dict[str, Any]) -> None:
    """Guards against NaN weights, or an error of Python's, an hour into a run."""
    with pytest.raises(UserError):
        build(name, arguments).bind(2, 1)


def test_regularizers_are_added_by_name() -> None:
    """Guards against a strength that is forgotten, and a name that nothing knows."""
    objective = build("fixmatch", regularizers={"entropy": 0.25, "strong-labels": 2})
    assert [(type(one), one.strength) for one in objective.regularizers] == [(Entropy, 0.25), (StrongLabels, 2)]
    with pytest.raises(UserError, match="regularizers: no regularizer 'entrpy'; did you mean entropy"):
        build("fixmatch", regularizers={"entrpy": 1})
    with pytest.raises(UserError, match="regularizers: entropy: strength: expected a number at least 0, found -1"):
        build("fixmatch", regularizers={"entropy": -1})
