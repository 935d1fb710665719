"""What every method must keep, whatever it is made of: one test per promise over METHODS, on students without a trainer.

A method that is added needs a line in SETTINGS (tests/contract.py), and nothing here.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from contract import (
    BATCH_STATISTICS,
    BETWEEN_ROUNDS,
    IN_STEP,
    LABELED,
    LABELED_STRONG,
    PROBS,
    SETTINGS,
    STRONG,
    TAUGHT,
    WEAK,
    Table,
    prepared,
    step,
    tiny_student,
)
from torch import Tensor, nn
from transformers import AutoTokenizer

from sstext.methods.registry import METHODS, build, compose
from sstext.objective.part import Signals
from sstext.objective.regularizers import REGULARIZERS
from sstext.objective.views import Adversarial
from sstext.objective.weights import Everyone, Gaussian, Known

EVERY_IN_STEP = pytest.mark.parametrize("name", IN_STEP)
EVERY_TAUGHT = pytest.mark.parametrize("name", TAUGHT)
# Three tokens and six: the short texts are padded where they meet the long ones.
TEXTS = {
    "labeled": ["my money", "the parcel is late today", "login"],
    "weak": ["my money return please", "parcel", "password login not again still still still", "refund charged"],
    "strong": ["my [MASK] return", "[MASK]", "password [MASK] again [MASK] still", "refund [MASK]"],
}


def test_every_method_has_a_setting() -> None:
    """Guards against a method that the contract passes over."""
    assert set(SETTINGS) == set(METHODS)
    assert set(BATCH_STATISTICS) <= set(METHODS)


@EVERY_TAUGHT
def test_settings_keep_some_rows_and_not_others(name: str, tiny_encoder: Path) -> None:
    """Canary: where every row counts in full, or none does, what follows would hold of itself."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    table, encoder = Table(), tiny_student(tiny_encoder, dropout=0.0).train()
    objective, seen = prepared(name, table)
    objective_of_texts, seen_of_texts = prepared(name, encoder)
    for _ in range(2):  # a history knows nothing of a first visit
        step(objective, table)
        texts_step(objective_of_texts, encoder, tokenizer)
    for weight in (objective.weight(seen.steps[-1]), objective_of_texts.weight(seen_of_texts.steps[-1])):
        if isinstance(objective.weight, Everyone | Known):
            assert weight.tolist() == [1, 1, 1, 1]
        elif isinstance(objective.weight, Gaussian):
            assert (weight > 0).all()
            assert weight.unique().numel() > 1
        else:
            assert set(weight.tolist()) == {0.0, 1.0}


@EVERY_IN_STEP
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extreme_logits_give_finite_losses_and_gradients(name: str, dtype: torch.dtype) -> None:
    """±10⁴, ties and one-hot rows, right and wrong ones: guards against log 0, 0/0 and 0 · ∞, also in the state."""
    high, low = [1e4, -1e4, 0], [-1e4, 1e4, -1e4]
    ties = [0, 0, 0], [-1e4, -1e4, -1e4], [1e4, 1e4, -1e4]
    patterns = torch.tensor([high, *ties, low, [0, -1e4, -1e4], [-90, 0, 90]])
    for shift in range(len(patterns)):  # every pattern meets every role
        logits = patterns.repeat(3, 1).roll(shift, 0)[: len(PROBS)]
        objective, seen = prepared(name, student := Table(logits.to(dtype), dropout=0.1))
        for progress in (0.0, 0.5, 1.0):
            student.zero_grad()
            losses = step(objective, student, progress)
            losses.total.backward()
            assert losses.total.isfinite()
            assert all(torch.as_tensor(total).isfinite() for total, _ in losses.components.values())
            assert student.embeddings.weight.grad is not None
            assert student.embeddings.weight.grad.isfinite().all()
            assert all(state.isfinite().all() for state in objective.state_dict().values())
            if name in TAUGHT:
                assert in_unit_range(objective.weight(seen.steps[-1]))


def in_unit_range(weight: Tensor) -> bool:
    return bool(((weight >= 0) & (weight <= 1)).all())


@EVERY_TAUGHT
def test_weights_lie_in_the_unit_interval_and_asking_changes_nothing(name: str) -> None:
    """Guards against rows that push the student away from their label, and against state that moves when it is read."""
    objective, seen = prepared(name, student := Table(dropout=0.1))
    for progress in (0.0, 0.3, 0.6, 0.9):
        step(objective, student, progress)
        before = {key: value.clone() for key, value in objective.state_dict().items()}
        first, again = (objective.weight(seen.steps[-1]) for _ in range(2))
        targets = objective.target(seen.steps[-1].probs)
        assert in_unit_range(first)
        assert torch.equal(first, again)
        assert (targets >= 0).all()
        assert all(torch.equal(value, before[key]) for key, value in objective.state_dict().items())


@pytest.mark.parametrize("name", BETWEEN_ROUNDS)
def test_weights_between_rounds(name: str) -> None:
    """Nobody counts less than nothing; more than 1 in UST alone, whose log(1/variance) has no bound."""
    admission = compose(name, SETTINGS[name]).selection
    assert admission is not None
    extremes = torch.tensor([[1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    variance = torch.tensor([0.25, 0.01, 1e-3, 1e-4, 0.0, 0.25])
    signals = Signals(torch.cat([PROBS[WEAK], extremes]), variance=variance)
    for part in admission.parts():
        part.bind(num_classes=3, num_rows=6)
        part.observe(signals)
    weight = admission.weight(signals)
    assert weight.isfinite().all()
    if name == "ust":
        assert (weight >= 0).all()
        assert (weight > 1).any()
    elif name == "margin-history":
        assert torch.equal(weight, signals.probs.amax(-1))
    elif name == "class-balanced":
        assert weight.tolist() == [1] * 6
    else:
        assert weight.tolist() == [1, 1, 0, 0, 1, 0]


@pytest.mark.parametrize("name", ["self-training", "noisy-student"])
def test_thresholds_between_rounds_have_their_limits(name: str) -> None:
    """Out of reach nobody joins, and at 0 everybody may."""
    for threshold, kept in ((1.1, 0.0), (0.0, 1.0)):
        admission = compose(name, {"threshold": threshold}).selection
        assert admission is not None
        assert admission.weight(Signals(PROBS[WEAK])).tolist() == [kept] * len(WEAK)


@EVERY_IN_STEP
def test_state_goes_through_a_state_dict(name: str) -> None:
    """Guards against state outside the buffers: a new objective that is given the old one's goes on to the same bits."""
    one, _ = prepared(name, student := Table())
    for progress in (0.1, 0.3):
        step(one, student, progress)
        with torch.no_grad():
            student.embeddings.weight[WEAK] *= 1.2
        one.after_step(student, progress)
    other, _ = prepared(name, student)
    other.load_state_dict({key: value.clone() for key, value in one.state_dict().items()})
    losses = [step(objective, student, 0.6) for objective in (one, other)]
    assert torch.equal(losses[0].total, losses[1].total)
    assert all(torch.equal(one.state_dict()[key], value) for key, value in other.state_dict().items())


@EVERY_IN_STEP
def test_parts_observe_once_per_micro_batch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against averages that move twice as fast as the paper's, where two parts share a third or nest it."""
    objective, seen = prepared(name, student := Table())
    calls: dict[int, int] = {}
    for part in objective.parts():

        def counted(signals: Any, part: Any = part, observe: Any = part.observe) -> None:
            calls[id(part)] = calls.get(id(part), 0) + 1
            observe(signals)

        monkeypatch.setattr(part, "observe", counted)
    for _ in range(3):
        step(objective, student)
    taught = name in TAUGHT
    assert len(seen.steps) == (3 if taught else 0)
    assert calls == ({id(part): 3 for part in objective.parts()} if taught else {})


# Where the gradient goes


def table_gradient(objective: Any, student: Table) -> Tensor:
    student.zero_grad()
    step(objective, student).total.backward()
    assert student.embeddings.weight.grad is not None
    return student.embeddings.weight.grad


@EVERY_TAUGHT
def test_the_unlabeled_loss_teaches_the_view_and_nothing_else(name: str) -> None:
    """Gradient on what the student sees of the kept rows, none through target, teacher, weight or perturbation.

    The reference holds all of these fixed: λ · ramp · mean w · D(z, q) has a gradient in z alone. Guards against an unlabeled
    loss without any gradient, and against a teacher that is taught by its pupil.
    """
    objective, seen = prepared(name, student := Table(dropout=0.3))
    del objective.regularizers[:]
    step(objective, student)  # a history knows nothing of a first visit
    got = table_gradient(objective, student)

    signals = seen.steps[-1]
    assert signals.student_logits is not None
    logits = signals.student_logits.clone().requires_grad_()
    weight, target = objective.weight(signals), objective.target(signals.probs)
    loss = objective.strength * objective.ramp(0.5) * (weight * objective.divergence(logits, target)).mean()
    (per_row,) = torch.autograd.grad(loss, logits)  # (N, C)
    expected = torch.zeros_like(got)
    expected[STRONG if objective.view.strong else WEAK] = per_row
    torch.testing.assert_close(got[WEAK + STRONG], expected[WEAK + STRONG], atol=1e-6, rtol=1e-5)
    kept = weight > 0
    assert kept.any()
    assert (per_row[kept].abs().sum(-1) > 1e-4).all()
    assert per_row[~kept].count_nonzero() == 0


@EVERY_IN_STEP
def test_every_row_that_a_method_uses_teaches(name: str) -> None:
    """Labeled rows always do; unlabeled ones in every method but the supervised one, if they count at all."""
    objective, _ = prepared(name, student := Table(dropout=0.3))
    step(objective, student)
    got = table_gradient(objective, student).abs().sum(-1)
    assert (got[LABELED] > 0).any()
    assert (got[WEAK + STRONG] > 1e-5).any() == (not objective.supervised)
    assert (got[LABELED_STRONG] > 0).all() == ("labeled strong" in objective.blocks)
    assert got[0] == 0  # padding


# Precision


@EVERY_IN_STEP
def test_state_stays_float32_in_bfloat16(name: str) -> None:
    """1 − .999 is 0 in bfloat16: guards against averages that stand still."""
    objective, _ = prepared(name, student := Table(PROBS.log().bfloat16()))
    for progress in (0.0, 0.5):
        step(objective, student, progress)
        objective.after_step(student, progress)
        state = [value for value in objective.state_dict().values() if value.is_floating_point()]
        assert {value.dtype for value in state} <= {torch.float32}
    keeps_state = {*BATCH_STATISTICS, "temporal-ensembling", "mean-teacher"} - {"uda", "auto"}
    assert bool(state) == (name in keeps_state)


def encoded(tokenizer: Any, texts: list[str], length: int) -> dict[str, Tensor]:
    return dict(tokenizer(texts, padding="max_length", max_length=length, return_tensors="pt"))


def texts_step(objective: Any, student: nn.Module, tokenizer: Any, row: int | None = None) -> Any:
    """A step on all of TEXTS in one padded batch, or on unlabeled row `row` beside the first labeled one, hardly padded."""
    chosen = slice(None) if row is None else slice(row, row + 1)
    weak, strong = TEXTS["weak"][chosen], TEXTS["strong"][chosen]
    labeled = TEXTS["labeled"] if row is None else TEXTS["labeled"][:1]
    length = 20 if row is None else max(len(tokenizer(text)["input_ids"]) for text in [*weak, *strong, *labeled])
    inputs = {"weak": encoded(tokenizer, weak, length), "strong": encoded(tokenizer, strong, length)}
    ids = torch.arange(4)[chosen]
    return objective(
        student,
        encoded(tokenizer, labeled, length),
        torch.tensor([2, 0, 1])[: len(labeled)],
        None,
        inputs | {"ids": ids, "keys": 10 + ids},
        strong=encoded(tokenizer, labeled, length),
        progress=0.5,
    )


@EVERY_IN_STEP
def test_automatic_mixed_precision_changes_losses_by_rounding_only(name: str, tiny_encoder: Path) -> None:
    """Every component within 1e-2 of float32, and so are the weights: guards against statistics and logarithms in bfloat16.

    No row lies so near a threshold that rounding carries it across: the kept shares are the same, and so they must be.
    """
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    components, weights = [], []
    for mixed in (False, True):
        objective, seen = prepared(name, student := tiny_student(tiny_encoder, dropout=0.0).train())
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            for _ in range(2):
                losses = texts_step(objective, student, tokenizer)
        losses.total.backward()
        assert losses.total.dtype == torch.float32
        components.append({key: float(total) / count for key, (total, count) in losses.components.items()})
        if name in TAUGHT:
            weights.append(objective.weight(seen.steps[-1]))
    assert components[1] == pytest.approx(components[0], abs=1e-2)
    assert components[1]["loss_labeled"] != components[0]["loss_labeled"], "bfloat16 was not used"
    if name in TAUGHT:
        torch.testing.assert_close(weights[1], weights[0], atol=1e-2, rtol=0)


@pytest.mark.parametrize("name", [name for name in REGULARIZERS if name != "reconstruction"])  # it wants masked rows
def test_further_losses_are_the_same_under_automatic_mixed_precision(name: str, tiny_encoder: Path) -> None:
    """Guards against products and fill values in bfloat16 (a contrast once could not even be filled), beside FreeMatch, whose
    fairness multiplies matrices, too."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    found = []
    for mixed in (False, True):
        student = tiny_student(tiny_encoder, dropout=0.0)
        objective = build("freematch", SETTINGS["freematch"], {name: 1.0}).bind(3, 4, student.train())
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed), torch.random.fork_rng():
            torch.manual_seed(0)
            losses = texts_step(objective, student, tokenizer)
        losses.total.backward()
        found.append({key: float(total) / count for key, (total, count) in losses.components.items()})
    assert found[1] == pytest.approx(found[0], abs=1e-2)
    assert len(found[0]) == 6


# Company


@EVERY_TAUGHT
def test_a_text_is_worth_the_same_alone_and_in_a_padded_batch(name: str, tiny_encoder: Path) -> None:
    """Padding and batch-mates change neither the label nor the prediction of a row, and, but for the methods that compare
    the rows of a batch, neither its weight nor its loss."""
    tokenizer, student = AutoTokenizer.from_pretrained(tiny_encoder), tiny_student(tiny_encoder, dropout=0.0).train()
    rows: tuple[int | None, ...] = (None, 0, 1, 2, 3)
    signals, weights, losses = [], [], []
    for row in rows:
        objective, seen = prepared(name, student)
        for _ in range(2):  # a history knows nothing of a first visit
            got = texts_step(objective, student, tokenizer, row)
        signals.append(seen.steps[-1])
        weights.append(objective.weight(seen.steps[-1]))
        losses.append(got.components["loss_unlabeled"][0])
    together, alone = signals[0], signals[1:]
    # The adversary's direction is the difference of two float32 predictions, of which four digits are left.
    rounding = 1e-3 if isinstance(objective.view, Adversarial) else 4e-6
    torch.testing.assert_close(torch.cat([one.probs for one in alone]), together.probs, atol=1e-6, rtol=0)
    logits = [one.student_logits for one in (*alone, together)]
    torch.testing.assert_close(torch.cat(logits[:-1]), logits[-1], atol=rounding, rtol=0)
    if name not in BATCH_STATISTICS or name == "uda":  # its labeled rows are compared, not these
        torch.testing.assert_close(torch.cat(weights[1:]), weights[0], atol=1e-6, rtol=0)
        torch.testing.assert_close(torch.stack(losses[1:]).sum(), losses[0], atol=rounding, rtol=0)


def test_r_drop_is_worth_the_same_alone_and_in_a_padded_batch(tiny_encoder: Path) -> None:
    """No dropout, but second passes (the later half of the rows) say twice the logits: guards a pass beside another row's."""
    tokenizer, student = AutoTokenizer.from_pretrained(tiny_encoder), tiny_student(tiny_encoder, dropout=0.0).train()

    def doubled(module: nn.Module, inputs: Any, said: Any) -> None:
        said.logits[len(said.logits) // 2 :] *= 2

    student.register_forward_hook(doubled)
    objective, _ = prepared("r-drop", student)
    steps = [texts_step(objective, student, tokenizer, row) for row in (None, 0, 1, 2, 3)]
    for text, label in zip(TEXTS["labeled"], [2, 0, 1], strict=True):
        steps.append(objective(student, encoded(tokenizer, [text], 8), torch.tensor([label])))
    together, *beside, first, second, third = (step.components["loss_rdrop"][0] for step in steps)
    unlabeled = torch.stack(beside) - first  # each stood beside the first labeled row
    torch.testing.assert_close(unlabeled.mean() + (first + second + third) / 3, together, atol=4e-6, rtol=0)
    assert unlabeled.min() > 1e-3
