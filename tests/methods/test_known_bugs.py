"""Bugs found in public implementations of these methods, each with the tests here that would catch it.

Where a bug has no home in a part's own tests, its test stands below.
"""

import ast
import math
from pathlib import Path

import pytest
import torch
from contract import LABELED, LABELS, PROBS, STRONG, WEAK, Table, prepared, rows, step
from torch.nn import functional as F

from sstext.objective.teachers import EMA

TESTS = Path(__file__).parents[1]
OBJECTIVE, CONTRACT = "objective/test_objective.py", "methods/test_contract.py"
TRAINED, HERE = "methods/test_method_contract.py", "methods/test_known_bugs.py"

#: What went wrong elsewhere → the tests that guard against it here.
BUGS: dict[str, tuple[str, ...]] = {
    "temperature silently ignored when probabilities are passed": (
        f"{HERE}::test_temperature_reaches_the_target",
        f"{HERE}::test_temperature_reaches_the_student",
    ),
    "KL weighted by 1 − mask": (
        f"{HERE}::test_the_divergence_counts_where_the_mask_is_1",
        f"{OBJECTIVE}::test_fixmatch_gradient_by_hand",
    ),
    "teacher equal to student, so that the consistency loss is zero": (
        f"{HERE}::test_a_consistency_loss_is_not_zero",
        f"{CONTRACT}::test_the_unlabeled_loss_teaches_the_view_and_nothing_else",
    ),
    "softmax applied twice": (
        f"{HERE}::test_softmax_is_applied_once",
        f"{OBJECTIVE}::test_fixmatch_by_hand",
    ),
    "thresholds from the evaluation set": (f"{TRAINED}::test_evaluating_changes_no_state",),
    "mean pooling over padding": (f"{CONTRACT}::test_a_text_is_worth_the_same_alone_and_in_a_padded_batch",),
    "state updated twice per step": (
        f"{CONTRACT}::test_parts_observe_once_per_micro_batch",
        f"{OBJECTIVE}::test_a_part_that_two_others_share_observes_once",
    ),
    "unlabeled loss without gradient": (
        f"{CONTRACT}::test_the_unlabeled_loss_teaches_the_view_and_nothing_else",
        f"{CONTRACT}::test_every_row_that_a_method_uses_teaches",
    ),
    'labels of "unlabeled" rows required': (f"{TRAINED}::test_labels_of_unlabeled_rows_are_not_read",),
    "training-signal annealing masks by the maximal probability": (
        f"{HERE}::test_annealing_masks_by_the_probability_of_the_right_class",
    ),
    "a loss that grows with the accumulation steps": (
        "training/test_trainer.py::test_accumulating_gradients_changes_nothing",
        f"{TRAINED}::test_accumulation_equals_one_batch_unless_rows_are_compared",
    ),
}


@pytest.mark.parametrize(("bug", "tests"), BUGS.items())
def test_every_known_bug_has_its_test(bug: str, tests: tuple[str, ...]) -> None:
    """Guards the list: a test that was renamed or dropped leaves its bug unguarded."""
    for test in tests:
        file, name = test.split("::")
        tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{bug}: {test}"


@pytest.mark.parametrize(("temperature", "sharp"), [(1.0, [0.9, 0.06, 0.04]), (0.5, [0.99362, 0.004416, 0.001963])])
def test_temperature_reaches_the_target(temperature: float, sharp: list[float]) -> None:
    """UDA hands its target probabilities, not logits: q² = [.81, .0036, .0016], ÷ .8152. At T = 1 they stay as they are."""
    objective, seen = prepared("uda", Table(), temperature=temperature)
    step(objective, Table())
    torch.testing.assert_close(objective.target(seen.steps[0].probs)[0], torch.tensor(sharp), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["uda", "dash"])
def test_temperature_reaches_the_student(name: str) -> None:
    """Guards against a temperature that is taken, and changes no loss."""
    losses = []
    for temperature in (0.4, 0.9):
        objective, _ = prepared(name, student := Table(), temperature=temperature)
        losses.append(step(objective, student).components["loss_unlabeled"][0])
    assert (losses[0] - losses[1]).abs() > 1e-2


def test_the_divergence_counts_where_the_mask_is_1() -> None:
    """UDA at τ = .85, T = 1 keeps the first of four rows: L_u = ¼ KL([.9, .06, .04] ‖ [.5, .3, .2]).

    = ¼ (.9 ln 1.8 + .06 ln .2 + .04 ln .2) = .092016; the other three rows would give .106477 (1 − mask).
    """
    objective, _ = prepared("uda", student := Table(), threshold=0.85, temperature=1.0)
    total, count = step(objective, student).components["loss_unlabeled"]
    expected = (0.9 * math.log(1.8) + 0.1 * math.log(0.2)) / 4
    assert float(total) / count == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["pi-model", "temporal-ensembling", "mean-teacher", "vat"])
def test_a_consistency_loss_is_not_zero(name: str) -> None:
    """Two passes under noise, an average of other days or a push differ: guards against a teacher that shares the student's
    pass, its weights or its noise, and so agrees with everything."""
    objective, _ = prepared(name, student := Table(dropout=0.3))
    for _ in range(2):
        total = step(objective, student).components["loss_unlabeled"][0]
    assert total > 1e-3


def test_the_moving_average_keeps_weights_of_its_own() -> None:
    """Guards against an average that points at the student's tensors: θ moves by 1, θ′ by 1 − m = .5."""
    objective, _ = prepared("mean-teacher", student := Table(), decay=0.5, ramp_decay=0.5)
    assert isinstance(objective.teacher, EMA)
    with torch.no_grad():
        student.embeddings.weight += 1
    objective.after_step(student, progress=0.5)
    torch.testing.assert_close(objective.teacher.get_buffer("weight embeddings/weight"), PROBS.log() + 0.5)


def test_softmax_is_applied_once() -> None:
    """The teacher's probabilities are the table's, and the labeled loss is −ln of them; twice would give max q .539, not .9."""
    objective, seen = prepared("fixmatch", student := Table())
    losses = step(objective, student)
    torch.testing.assert_close(seen.steps[0].probs, PROBS[WEAK])
    assert seen.steps[0].student_logits is not None
    torch.testing.assert_close(seen.steps[0].student_logits, PROBS[STRONG].log())
    total, count = losses.components["loss_labeled"]
    assert float(total) / count == pytest.approx(float(F.nll_loss(PROBS[LABELED].log(), LABELS)), abs=1e-6)


def test_annealing_masks_by_the_probability_of_the_right_class() -> None:
    """At t/T = .25, η = .25 · ⅔ + ⅓ = .5. Labels 1, 1, 0 have .25, .5 and .38: the second is learned already.

    The first row is sure (.6) of a wrong class and must be learned; masking by the maximal probability would drop it, keep
    the third alone, and never correct the first. L = (−ln .25 − ln .38)/2 = 1.176938.
    """
    objective, _ = prepared("uda", student := Table(), threshold=1.1, annealing="linear")
    unlabeled = {"weak": rows(WEAK), "strong": rows(STRONG), "ids": torch.arange(4), "keys": torch.arange(4)}
    losses = objective(student, rows(LABELED), torch.tensor([1, 1, 0]), None, unlabeled, progress=0.25)
    assert losses.total.item() == pytest.approx(-(math.log(0.25) + math.log(0.38)) / 2, abs=1e-5)
