"""Regularizers, each and all: slow loops, several processes as one, any order, extreme logits."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from regularizer_cases import (
    Statistics,
    balance_by_loop,
    clustering,
    contrast_by_loop,
    entropy_by_loop,
    fairness_by_loop,
    label_loss_by_loop,
    reconstruction_by_loop,
    softmax_by_loop,
    total,
)
from torch import Tensor

from sstext.objective.outputs import LABELED, LABELED_AGAIN, LABELED_STRONG, UNLABELED, UNLABELED_AGAIN, WEAK, Outputs
from sstext.objective.regularizers import (
    IGNORED,
    Entropy,
    Fairness,
    RDrop,
    Reconstruction,
    Regularizer,
    StrongLabels,
    SupervisedContrast,
)

DTYPES = [torch.float32, torch.float64, torch.bfloat16]


@pytest.mark.parametrize("dtype", DTYPES)
def test_clustering_is_the_slow_loop(dtype: torch.dtype) -> None:
    """Guards against arithmetic in the logits' own type: bfloat16 would be off in the third digit."""
    torch.manual_seed(0)
    logits = (3 * torch.randn(20, 4)).to(dtype)
    shares = [0.1, 0.2, 0.3, 0.4]
    entropies, balance = clustering(4, prior=shares)(Outputs({WEAK: logits}))
    assert entropies.tolist() == pytest.approx(entropy_by_loop(logits), rel=1e-4, abs=1e-6)
    assert balance.item() == pytest.approx(balance_by_loop(logits, shares), rel=1e-4)
    assert torch.equal(entropies, Entropy()(Outputs({WEAK: logits}))[0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_r_drop_is_the_slow_loop(dtype: torch.dtype) -> None:
    """Guards against a swapped or halved-twice divergence."""
    torch.manual_seed(0)
    first, second = (2 * torch.randn(2, 10, 3)).to(dtype).unbind()
    outputs = Outputs({LABELED: first, LABELED_AGAIN: second}, labels=torch.arange(10) % 3)
    expected = []
    for i, (one, two) in enumerate(zip(first.double().tolist(), second.double().tolist(), strict=True)):
        p, q = softmax_by_loop(one), softmax_by_loop(two)
        there = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        back = sum(b * math.log(b / a) for a, b in zip(p, q, strict=True))
        expected.append(-math.log(q[i % 3]) + 0.7 * (there + back) / 2)
    assert RDrop(0.7, unlabeled=False)(outputs)[0].tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_fairness_is_the_slow_loop(dtype: torch.dtype) -> None:
    """Guards against histograms over all rows, and against the statistics of one where the other's belong."""
    torch.manual_seed(0)
    logits, weight = (2 * torch.randn(30, 4)).to(dtype), (torch.rand(30) > 0.5).float()
    mean_probs, histogram = [0.4, 0.3, 0.2, 0.1], [0.1, 0.4, 0.3, 0.2]
    outputs = Outputs({UNLABELED: logits}, weight=weight, target=logits.softmax(-1))
    found = Fairness(Statistics(mean_probs, histogram))(outputs)[0].item()
    assert found == pytest.approx(fairness_by_loop(logits, weight, mean_probs, histogram), rel=1e-4)
    assert found < 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_contrast_is_the_slow_double_loop(dtype: torch.dtype) -> None:
    """Guards against an anchor that is its own positive or negative, and against the mean inside the logarithm (L_in)."""
    torch.manual_seed(0)
    features, labels = torch.randn(12, 5).to(dtype), [0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 0, 1]
    found = SupervisedContrast(temperature=0.3)(Outputs({}, torch.tensor(labels), features={LABELED: features}))[0]
    assert found.item() == pytest.approx(contrast_by_loop(features, labels, 0.3), rel=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("soft", [False, True])
def test_strong_labels_is_the_slow_loop(dtype: torch.dtype, weighted: bool, soft: bool) -> None:
    """Guards soft labels that turn hard, weights that are normalized or forgotten, and the loss of the plain rows."""
    torch.manual_seed(0)
    plain, copy = (2 * torch.randn(2, 10, 4)).to(dtype).unbind()
    labels = (2 * torch.randn(10, 4)).softmax(-1) if soft else torch.arange(10) % 4
    weights = torch.rand(10) if weighted else None
    outputs = Outputs({LABELED: plain, LABELED_STRONG: copy}, labels=labels, row_weights=weights)
    (found,) = StrongLabels()(outputs)
    expected = label_loss_by_loop(copy, labels, [1.0] * 10 if weights is None else weights.tolist())
    assert found.tolist() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert found.dtype == torch.float32


@pytest.mark.parametrize("dtype", DTYPES)
def test_reconstruction_is_the_slow_loop(dtype: torch.dtype) -> None:
    """Rows of 0 to 6 masked tokens: guards tokens that count for the next row, and the mean over all tokens or positions."""
    torch.manual_seed(0)
    targets = torch.full((8, 9), IGNORED)
    for row, count in enumerate([3, 0, 1, 6, 0, 2, 4, 0]):
        targets[row, torch.randperm(9)[:count]] = torch.randint(7, (count,))
    tokens = (2 * torch.randn(16, 7)).to(dtype)
    (found,) = Reconstruction()(Outputs({}, tokens=tokens, token_targets=targets))
    assert found.tolist() == pytest.approx(reconstruction_by_loop(tokens, targets), rel=1e-5, abs=1e-6)
    assert found.dtype == torch.float32


# What all of them must do


def everything(rows: int, labels: Tensor | None = None) -> Outputs:
    """A step with all blocks, drawn at random, leaves with gradient."""
    blocks = (LABELED, LABELED_AGAIN, LABELED_STRONG, UNLABELED, UNLABELED_AGAIN, WEAK)
    targets = torch.full((rows, 4), IGNORED)
    targets[:, 1] = torch.arange(rows) % 5
    targets[::2, 2] = 3
    return Outputs(
        {block: (2 * torch.randn(rows, 3)).requires_grad_() for block in blocks},
        labels=torch.arange(rows) % 3 if labels is None else labels,
        row_weights=torch.rand(rows),
        features={LABELED: torch.randn(rows, 4).requires_grad_(), UNLABELED: torch.randn(rows, 4).requires_grad_()},
        tokens=torch.randn(int((targets != IGNORED).sum()), 5).requires_grad_(),
        token_targets=targets,
        weight=(torch.rand(rows) > 0.4).float(),
        target=torch.rand(rows, 3).softmax(-1),
    )


def all_regularizers() -> list[Regularizer]:
    return [Entropy(), clustering(3, prior=[1, 2, 3]), RDrop(0.7), StrongLabels(), SupervisedContrast(), Reconstruction(),
            Fairness(Statistics([0.5, 0.3, 0.2], [0.2, 0.3, 0.5]))]  # fmt: skip


each = pytest.mark.parametrize("regularizer", all_regularizers(), ids=lambda part: type(part).__name__)


def leaves(outputs: Outputs) -> dict[str, Tensor]:
    """Everything with gradient, by name."""
    named = {f"logits {block}": rows for block, rows in outputs.logits.items()}
    named |= {f"features {block}": rows for block, rows in outputs.features.items()}
    return named | {"tokens": outputs.tokens}


def half(outputs: Outputs, which: int) -> Outputs:
    """What one of two processes sees of a step: half of all rows, as leaves of its own."""
    rows = len(outputs.labels) // 2
    own = slice(which * rows, (which + 1) * rows)
    masked = outputs.token_targets != IGNORED
    tokens = outputs.tokens[masked.nonzero()[:, 0] // rows == which]

    def cut(blocks: Any) -> dict[str, Tensor]:
        return {block: values[own].detach().requires_grad_() for block, values in blocks.items()}

    return replace(
        outputs, logits=cut(outputs.logits), features=cut(outputs.features), labels=outputs.labels[own],
        row_weights=outputs.row_weights[own], tokens=tokens.detach().requires_grad_(),
        token_targets=outputs.token_targets[own], weight=outputs.weight[own], target=outputs.target[own],
    )  # fmt: skip


def gather_of(process: int, calls: list[list[Tensor]]) -> Callable[[Tensor], Tensor]:
    """What a process' gather returns: the rows of both in `calls`, its own with gradient, once per process."""
    position = iter(range(len(calls[process])))

    def gather(rows: Tensor) -> Tensor:
        number = next(position)
        everyone = [recorded[number] for recorded in calls]
        if rows.requires_grad:
            everyone[process] = rows.detach() + 2 * (rows - rows.detach())
        return torch.cat(everyone)

    return gather


def recorded(regularizer: Regularizer, outputs: Outputs) -> list[Tensor]:
    """What a regularizer hands to gather, call by call."""
    calls: list[Tensor] = []

    def gather(rows: Tensor) -> Tensor:
        calls.append(rows.detach())
        return rows

    regularizer(replace(outputs, gather=gather))
    return calls


@each
def test_two_processes_are_one(regularizer: Regularizer) -> None:
    """Loss and averaged gradient of a batch in two halves are those of the whole: guards statistics of one process alone."""
    torch.manual_seed(1)
    whole = everything(8)
    halves = [half(whole, process) for process in (0, 1)]
    calls = [recorded(regularizer, outputs) for outputs in halves]
    loss = total(regularizer(whole))
    losses = [
        total(regularizer(replace(outputs, gather=gather_of(process, calls)))) for process, outputs in enumerate(halves)
    ]
    assert sum(losses).item() / 2 == pytest.approx(loss.item(), rel=1e-5)
    loss.backward()
    sum(losses).backward()
    used = 0
    for name, leaf in leaves(whole).items():
        if leaf.grad is None:
            continue
        used += 1
        averaged = torch.cat([leaves(outputs)[name].grad for outputs in halves]) / 2
        assert torch.allclose(averaged, leaf.grad, rtol=1e-4, atol=1e-6), name
        assert leaf.grad.abs().max() > 0, name
    assert used


@each
def test_pure_and_the_same_in_any_order(regularizer: Regularizer) -> None:
    """A second call says the same, and the loss of a batch does not depend on its order."""
    torch.manual_seed(2)
    outputs = everything(6)
    first = total(regularizer(outputs))
    assert torch.equal(first, total(regularizer(outputs)))
    order = [3, 0, 5, 1, 4, 2]
    masked = outputs.token_targets != IGNORED
    row = masked.nonzero()[:, 0]
    tokens = torch.cat([outputs.tokens[row == i] for i in order])
    shuffled = replace(
        outputs,
        logits={block: rows[order] for block, rows in outputs.logits.items()},
        features={block: rows[order] for block, rows in outputs.features.items()},
        labels=outputs.labels[order], row_weights=outputs.row_weights[order], tokens=tokens,
        token_targets=outputs.token_targets[order], weight=outputs.weight[order], target=outputs.target[order],
    )  # fmt: skip
    assert total(regularizer(shuffled)).item() == pytest.approx(first.item(), rel=1e-5)


@each
def test_extreme_logits_give_finite_losses_and_gradients(regularizer: Regularizer) -> None:
    """Guards against log 0 and 0 · ∞ where a class has underflowed, in the middle of a long run."""
    torch.manual_seed(3)
    outputs = everything(4)
    extreme = torch.tensor([[1e4, -1e4, 0.0]] * 4)
    with torch.no_grad():
        for rows in outputs.logits.values():
            rows.copy_(extreme)
        outputs.features[LABELED].zero_()  # a row without length has no direction
        outputs.tokens.copy_(torch.tensor([1e4, -1e4, 0.0, 0.0, 0.0]))
    loss = total(regularizer(outputs))
    loss.backward()
    assert math.isfinite(loss.item())
    assert all(leaf.grad is None or bool(leaf.grad.isfinite().all()) for leaf in leaves(outputs).values())
