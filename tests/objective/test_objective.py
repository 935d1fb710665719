"""Objective: the loss by hand on a student whose logits are a table, its gradient, and what the parts observe."""

import math
import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sstext.errors import UserError
from sstext.methods.confidence import fixmatch, pseudo_label, softmatch
from sstext.methods.registry import build
from sstext.objective.divergences import kl
from sstext.objective.objective import Objective
from sstext.objective.part import Part, Signals
from sstext.objective.ramps import linear_ramp
from sstext.objective.regularizers import Entropy
from sstext.objective.targets import Align, Hard, Soft
from sstext.objective.teachers import EMA, Self
from sstext.objective.weights import Gaussian, Threshold

# Row of the table → the student's probabilities for a text of this token.
LABELED_ROW, SURE, UNSURE, SURE_EDITED, UNSURE_EDITED = range(5)
PROBS = torch.tensor([[0.8, 0.2], [0.96, 0.04], [0.9, 0.1], [0.5, 0.5], [0.25, 0.75]])
LABELED = {"input_ids": torch.tensor([[LABELED_ROW]])}
LABELS = torch.tensor([0])
UNLABELED = {
    "weak": {"input_ids": torch.tensor([[SURE], [UNSURE]])},
    "strong": {"input_ids": torch.tensor([[SURE_EDITED], [UNSURE_EDITED]])},
    "ids": torch.tensor([0, 1]),
}
LOSS_LABELED = -math.log(0.8)  # .223144
LOSS_FIXMATCH = math.log(2) / 2  # the sure row alone is above .95, the mean is over both


class Table(nn.Module):
    """A student whose logits are looked up: softmax(log p) = p, and the gradient falls on the row that was read."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.logits = nn.Parameter(PROBS.log().to(dtype))
        self.passes = 0

    def forward(self, input_ids: Tensor) -> SimpleNamespace:
        self.passes += 1
        return SimpleNamespace(logits=self.logits[input_ids[:, 0]])


class Seen(Part):
    """A part that keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Signals] = []

    def observe(self, signals: Signals) -> None:
        self.steps.append(signals)


def step(objective: Objective, student: Table | None = None, **settings: Any) -> Any:
    """One micro-batch of one labeled row and two unlabeled ones."""
    objective.bind(2, 2)
    return objective(student if student is not None else Table(), LABELED, LABELS, None, UNLABELED, **settings)


def gradient(objective: Objective, **settings: Any) -> Tensor:
    student = Table()
    step(objective, student, **settings).total.backward()
    assert student.logits.grad is not None
    return student.logits.grad


def means(components: Mapping[str, tuple[Tensor, int]]) -> dict[str, float]:
    return {name: float(total) / count for name, (total, count) in components.items()}


def test_fixmatch_by_hand() -> None:
    """L = −ln .8 + ½ ln 2 = .569718: guards against a mean over the kept rows (.916291), which FixMatch does not take."""
    losses = step(fixmatch())
    assert losses.total.item() == pytest.approx(LOSS_LABELED + LOSS_FIXMATCH, abs=1e-6)
    assert means(losses.components) == pytest.approx(
        {"loss_labeled": LOSS_LABELED, "loss_unlabeled": LOSS_FIXMATCH, "kept_share": 0.5, "mean_weight": 0.5}
    )
    assert {name: count for name, (_, count) in losses.components.items()} == {
        "loss_labeled": 1, "loss_unlabeled": 2, "kept_share": 2, "mean_weight": 2,
    }  # fmt: skip
    torch.testing.assert_close(losses.logits, PROBS[[LABELED_ROW]].log())


def test_fixmatch_gradient_by_hand() -> None:
    """p − y on the labeled row, ½ (Q − q̂) on the sure row's edited view, nothing elsewhere.

    Guards against a gradient through the teacher (the weak rows), through a row of weight 0, and against none at all.
    """
    expected = torch.zeros(5, 2)
    expected[LABELED_ROW] = torch.tensor([-0.2, 0.2])
    expected[SURE_EDITED] = torch.tensor([-0.25, 0.25])
    torch.testing.assert_close(gradient(fixmatch()), expected)


def test_pseudo_label_by_hand() -> None:
    """Half a ramp, the same view: L = −ln .8 + ½ · ½ · (−ln .96), gradient ½ · ½ · (p − q̂) = [−.01, .01] on the row."""
    expected = torch.zeros(5, 2)
    expected[LABELED_ROW] = torch.tensor([-0.2, 0.2])
    expected[SURE] = torch.tensor([-0.01, 0.01])
    assert step(pseudo_label(), progress=0.2).total.item() == pytest.approx(
        LOSS_LABELED - 0.25 * math.log(0.96), abs=1e-6
    )
    torch.testing.assert_close(gradient(pseudo_label(), progress=0.2), expected)


def test_softmatch_by_hand() -> None:
    """The step's own statistics weigh it, the label is that of the unaligned q.

    m = .5: max q {.96, .9}: μ = .5 · .5 + .5 · .93 = .715, σ² = .5 + .5 · .0018 = .5009. E[q] = [.715, .285]:
    q′ ∝ [.96/.715, .04/.285] → max .905361 ≥ μ: w = 1; q′ ∝ [.9/.715, .1/.285] → .782012 ≥ μ: w = 1.
    L_u = ½ (−ln .5 − ln .25) = 1.039721.
    """
    losses = step(softmatch(momentum=0.5))
    assert means(losses.components)["loss_unlabeled"] == pytest.approx(1.039721, abs=1e-5)


def test_softmatch_weight_by_hand_below_the_mean() -> None:
    """E[q] at m = 0 is the batch's mean [.93, .07], μ = .93, σ² = .0018.

    q′₁ ∝ [.96/.93, .04/.07] → .643678, q′₂ ∝ [.9/.93, .1/.07] → .403846 for class 0, so that max q′₂ = .596154 is class 1:
    w₁ = exp(−.286322²/.0036), w₂ = exp(−.333846²/.0036): all but 0. n_sigma = .05 widens σ² to .72:
    w₁ = exp(−.0819803/1.44) = .944660, w₂ = exp(−.111453/1.44) = .925524; both targets stay class 0 = argmax q:
    L_u = ½ (.944660 ln 2 + .925524 ln 4) = .968923. Guards against the aligned class as the label (.460522).
    """
    losses = step(softmatch(momentum=0.0, n_sigma=0.05))
    assert means(losses.components)["mean_weight"] == pytest.approx((0.944660 + 0.925524) / 2, abs=1e-5)
    assert means(losses.components)["kept_share"] == 1.0  # rows that count at all, however little
    assert means(losses.components)["loss_unlabeled"] == pytest.approx(0.968923, abs=1e-5)


def test_soft_targets_have_no_gradient() -> None:
    """KL to a soft target falls on the student's view alone: guards against a teacher that is taught by its pupil."""
    objective = Objective(teacher=Self(), target=Soft(), divergence=kl)
    got = gradient(objective)
    assert got[[SURE, UNSURE]].count_nonzero() == 0
    edited = [SURE_EDITED, UNSURE_EDITED]
    torch.testing.assert_close(got[edited], (PROBS[edited] - PROBS[[SURE, UNSURE]]) / 2, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("threshold", "kept"), [(1.01, 0.0), (0.95, 0.5), (0.0, 1.0)])
def test_threshold_limits(threshold: float, kept: float) -> None:
    """Above 1 no row is learned from, at 0 every row is: the second keeps the first from being vacuous."""
    losses = step(fixmatch(threshold=threshold))
    got = means(losses.components)
    assert got["kept_share"] == kept
    wanted = {0.0: 0.0, 0.5: LOSS_FIXMATCH, 1.0: (math.log(2) + math.log(4)) / 2}[kept]
    assert got["loss_unlabeled"] == pytest.approx(wanted, abs=1e-6)


def test_strength_zero_is_supervised_training() -> None:
    """λ = 0: the same loss and the same gradient as without any unlabeled text."""
    assert step(fixmatch(strength=0.0)).total.equal(step(build("supervised")).total)
    assert gradient(fixmatch(strength=0.0)).equal(gradient(build("supervised")))
    assert not gradient(fixmatch()).equal(gradient(build("supervised")))


def test_strength_and_ramp_scale_the_unlabeled_loss_alone() -> None:
    """λ = 3 at half the ramp: L = L_labeled + 1.5 L_u."""
    objective = fixmatch(strength=3.0, ramp=0.5)
    assert step(objective, progress=0.25).total.item() == pytest.approx(LOSS_LABELED + 1.5 * LOSS_FIXMATCH, abs=1e-6)
    assert step(objective, progress=0.0).total.item() == pytest.approx(LOSS_LABELED, abs=1e-6)
    assert step(objective, progress=1.0).total.item() == pytest.approx(LOSS_LABELED + 3 * LOSS_FIXMATCH, abs=1e-6)


def test_linear_ramp() -> None:
    """0 at the start, 1 from `length` on and never more; no length, no ramp."""
    ramp = linear_ramp(0.4)
    assert [ramp(progress) for progress in (0.0, 0.1, 0.2, 0.4, 1.0)] == pytest.approx([0, 0.25, 0.5, 1, 1])
    assert linear_ramp(0.0)(0.0) == 1.0


@pytest.mark.parametrize("name", ["supervised", "fixmatch"])
def test_without_unlabeled_rows_the_loss_is_the_labeled_one(name: str) -> None:
    """Guards `prediction_step`, which brings batches without "unlabeled"; neither teacher nor state is touched."""
    student = Table()
    losses = build(name)(student, LABELED, LABELS)
    assert losses.total.item() == pytest.approx(LOSS_LABELED, abs=1e-6)
    assert set(losses.components) == {"loss_labeled"}
    assert student.passes == 1


def test_supervised_training_ignores_unlabeled_rows() -> None:
    """Guards against paying for, or learning from, rows that play no part."""
    student = Table()
    assert step(build("supervised"), student).total.item() == pytest.approx(LOSS_LABELED, abs=1e-6)
    assert student.passes == 1


def test_one_pass_of_the_teacher_and_one_joint_pass() -> None:
    """Guards against a wrapped student that is called twice with gradient: several devices would wait forever."""
    student, unwrapped = Table(), Table()
    step(fixmatch(), student, unwrapped=unwrapped)
    assert (student.passes, unwrapped.passes) == (1, 1)


def test_row_weights_and_the_whole_batch() -> None:
    """Weights 1 and ½ on −ln .8 and −ln .04: their sum over **two** rows, not over the weights' sum."""
    rows = {"input_ids": torch.tensor([[LABELED_ROW], [SURE]])}
    losses = Objective()(Table(), rows, torch.tensor([0, 1]), torch.tensor([1.0, 0.5]))
    expected = (-math.log(0.8) - 0.5 * math.log(0.04)) / 2
    assert losses.total.item() == pytest.approx(expected, abs=1e-6)
    assert means(losses.components)["loss_labeled"] == pytest.approx(expected, abs=1e-6)


def test_soft_labels() -> None:
    """H([.75, .25], [.8, .2]) = −.75 ln .8 − .25 ln .2 = .569718; one-hot rows are the classes they stand for."""
    soft = Objective()(Table(), LABELED, torch.tensor([[0.75, 0.25]]))
    assert soft.total.item() == pytest.approx(-0.75 * math.log(0.8) - 0.25 * math.log(0.2), abs=1e-6)
    one_hot = Objective()(Table(), LABELED, torch.tensor([[1.0, 0.0]]))
    assert one_hot.total.item() == pytest.approx(LOSS_LABELED, abs=1e-6)


def test_parts_see_the_classes_of_soft_labels() -> None:
    """Guards a part that counts classes, where a round trains on probabilities."""
    objective, seen = fixmatch(), Seen()
    objective.seen = seen
    objective(Table(), LABELED, torch.tensor([[0.25, 0.75]]), None, UNLABELED)
    labels = seen.steps[0].labels
    assert labels is not None
    assert labels.tolist() == [1]


def test_bfloat16_logits_give_a_float32_loss() -> None:
    """Guards against losses and labels rounded to three digits under automatic mixed precision."""
    losses = step(fixmatch(), Table(torch.bfloat16))
    assert losses.total.dtype == torch.float32
    assert all(total.dtype == torch.float32 for total, _ in losses.components.values())
    assert losses.total.item() == pytest.approx(LOSS_LABELED + LOSS_FIXMATCH, abs=5e-3)


def test_signals_are_detached_and_complete() -> None:
    """Guards against a graph kept alive by state, and against a part that lacks what the step knows."""
    objective, seen = fixmatch(), Seen()
    objective.seen = seen
    step(objective, progress=0.5)
    signals = seen.steps[0]
    assert len(seen.steps) == 1
    for name, shape in {
        "probs": (2, 2),
        "student_logits": (2, 2),
        "ids": (2,),
        "labeled_logits": (1, 2),
        "labels": (1,),
    }.items():
        assert getattr(signals, name).shape == shape
        assert not getattr(signals, name).requires_grad
    torch.testing.assert_close(signals.probs, PROBS[[SURE, UNSURE]])
    torch.testing.assert_close(signals.student_logits, PROBS[[SURE_EDITED, UNSURE_EDITED]].log())
    assert signals.progress == 0.5


def test_parts_observe_the_rows_of_every_process() -> None:
    """Two processes with the same rows: max q {.96, .9} twice, mean .93, unbiased variance 4 · .03²/3 = .0012.

    Guards against statistics of one process, for which the variance of its two rows alone would be .0018. The loss stays
    the mean over this process's own rows.
    """
    objective = softmatch(momentum=0.0)
    losses = step(objective, gather=lambda rows: torch.cat([rows, rows]))
    assert isinstance(objective.weight, Gaussian)
    assert objective.weight.mean.item() == pytest.approx(0.93, abs=1e-6)
    assert objective.weight.variance.item() == pytest.approx(0.0012, abs=1e-6)
    assert losses.components["loss_unlabeled"][1] == 2
    step(objective)
    assert objective.weight.variance.item() == pytest.approx(0.0018, abs=1e-6)


def test_a_part_that_two_others_share_observes_once() -> None:
    """E[q] = .9 · [.5, .5] + .1 · [.93, .07] = [.543, .457]; a second update in the same step would give [.5817, …]."""
    shared = Align(momentum=0.9)
    objective = Objective(teacher=Self(), target=shared, weight=Gaussian(momentum=0.9, of=shared), divergence=kl)
    assert objective.parts().count(shared) == 1
    step(objective)
    torch.testing.assert_close(shared.mean_probs, torch.tensor([0.543, 0.457]))


def test_state_of_all_parts_is_saved_with_the_objective() -> None:
    """Guards against a checkpoint that misses a nested part, and a resume that starts its averages again."""
    one, other = softmatch(momentum=0.9), softmatch(momentum=0.9).bind(2, 2)
    step(one)
    assert set(one.state_dict()) == {"weight.mean", "weight.variance", "weight.of.mean_probs", "weight.of.target_prior"}
    other.load_state_dict(one.state_dict())
    assert all(value.equal(one.state_dict()[name]) for name, value in other.state_dict().items())
    assert other.state_dict()["weight.mean"].item() == pytest.approx(0.543, abs=1e-6)
    assert not list(one.parameters())


class Nosy(Threshold):
    """A weight that wants a signal which this step lacks."""

    def forward(self, signals: Signals) -> Tensor:
        return self.need(signals, "student_logits")[:, 0]


def test_a_missing_signal_is_named() -> None:
    """Between rounds only `probs` is known: guards against a weight that fails there without saying why."""
    with pytest.raises(UserError, match="Nosy needs 'student_logits', which this step does not have"):
        Nosy()(Signals(PROBS))


def test_a_negative_strength_is_refused() -> None:
    """Guards against a student that is taught to disagree."""
    with pytest.raises(UserError, match="strength: expected a number at least 0, found -1"):
        Objective(strength=-1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"teacher": "EMA"}, "teacher: expected a Teacher, such as teachers.EMA(), found 'EMA'"),
        ({"teacher": EMA}, "teacher: expected a Teacher, such as teachers.EMA(), found the class EMA: call it"),
        ({"target": Threshold()}, "target: expected a Target, such as targets.Hard(), found Threshold()"),
        ({"weight": 0.95}, "weight: expected a Weight, such as weights.Threshold(0.95), found 0.95"),
        ({"view": "same"}, "view: expected a View, such as views.Augmented(), found 'same'"),
        ({"divergence": "kl"}, "divergence: expected a function of logits and target, such as divergences.kl, found 'kl'"),
        ({"divergence": None}, "divergence: expected a function of logits and target, such as divergences.kl, found None"),
        ({"ramp": 0.4}, "ramp: expected a function of progress, such as ramps.linear_ramp(0.4), found 0.4"),
        ({"label_weight": Hard()}, "label_weight: expected a Weight, such as weights.TrainingSignalAnnealing(), found Hard()"),
        ({"regularizers": ["entropy"]}, "regularizers: expected a list of Regularizers, such as [regularizers.Entropy(0.1)], "
         "found 'entropy'"),
        ({"regularizers": {"entropy": 1}}, "found {'entropy': 1}"),
        ({"regularizers": Entropy()}, "found Entropy()"),
    ],
)  # fmt: skip
def test_what_is_no_part_of_an_axis_is_refused_by_name(wrong: dict[str, Any], message: str) -> None:
    """Guards names in the place of parts, which would fail deep inside the first step."""
    with pytest.raises(UserError, match=re.escape(message)):
        Objective(**wrong)


def test_an_objective_shows_what_it_is_made_of() -> None:
    """Guards `print(objective)`: numbers of every part, divergence and strength."""
    shown = repr(Objective(teacher=EMA(0.99), target=Align(momentum=0.9), divergence=kl, strength=0.5))
    assert "divergence=kl, strength=0.5\n" in shown
    assert "(teacher): EMA(decay=0.99, ramp_decay=0.99, ramp=0.4, warm=False)\n" in shown
    assert "(target): Align(momentum=0.9)\n" in shown
