"""Thresholds that learn: golden values of the papers, two steps each by hand, the order of learning and weighing, limits.

Dash has a file of its own, test_adaptive_dash.py; what holds for all of them stands in test_adaptive_contract.py.
"""

import math
from typing import Any

import pytest
import torch

from sstext.objective.adaptive import Curriculum, Relative, SelfAdaptive
from sstext.objective.part import Signals
from sstext.objective.targets import Align

DTYPES = [torch.float32, torch.float64, torch.bfloat16]


def bound(part: Any, num_classes: int = 2, num_rows: int = 4) -> Any:
    """The part and those that it is made of, ready for a corpus."""
    for module in part.modules():
        module.bind(num_classes, num_rows)
    return part


def visit(*rows: tuple[int, int, float]) -> Signals:
    """Corpus rows of two classes: (id, predicted class, max q)."""
    probs = [[top, 1 - top] if c == 0 else [1 - top, top] for _, c, top in rows]
    return Signals(torch.tensor(probs), ids=torch.tensor([row for row, _, _ in rows]))


def labeled(*correct: float, probs: list[list[float]] | None = None, progress: float = 0.0) -> Signals:
    """Labeled rows of two classes whose label has these probabilities, beside unlabeled ones."""
    p = torch.tensor([[value, 1 - value] for value in correct])
    q = torch.tensor(probs if probs is not None else [[0.5, 0.5]])
    return Signals(q, labeled_logits=p.log(), labels=torch.zeros(len(p), dtype=torch.long), progress=progress)


# Curriculum (FlexMatch)


def curriculum_by_loop(
    steps: list[Signals], rows: int, classes: int, threshold: float, warmup: bool
) -> list[list[float]]:
    """The weights of every step, in plain Python: all N rows are counted anew at each of them."""
    last: dict[int, int] = {}
    weights = []
    for step in steps:
        counts = [sum(c == known for known in last.values()) for c in range(classes)]
        below = max([*counts, rows - sum(counts)]) if warmup else max(counts)
        learned = [count / below if below else 1.0 for count in counts]
        asked = [threshold * share / (2 - share) for share in learned]
        predicted = [max(range(classes), key=lambda c, row=row: row[c]) for row in step.probs.tolist()]
        tops = [max(row) for row in step.probs.tolist()]
        weights.append([float(top >= asked[c]) for top, c in zip(tops, predicted, strict=True)])
        last |= {i: c for i, c, top in zip(step.ids.tolist(), predicted, tops, strict=True) if top >= threshold}
    return weights


@pytest.mark.parametrize(("warmup", "expected"), [(True, [0.63333, 0.10556]), (False, [0.95, 0.13571])])
def test_curriculum_golden_thresholds(warmup: bool, expected: list[float]) -> None:
    """N = 10, σ = [4, 1]. With warm-up β = σ/max(4, 5) = [.8, .2], without σ/4 = [1, .25]; T = .95 β/(2 − β).

    Guards the denominator, the convex map, and N as the whole corpus, not the batch.
    """
    part = bound(Curriculum(warmup=warmup), num_rows=10)
    rows = visit((0, 0, 0.99), (1, 0, 0.97), (2, 0, 0.96), (3, 0, 1.0), (4, 1, 0.98), (5, 1, 0.94))
    part.observe(rows)
    part.observe(rows)
    assert part.counts.tolist() == [4, 1]
    torch.testing.assert_close(part.thresholds, torch.tensor(expected), atol=1e-5, rtol=0)


def test_curriculum_weighs_a_step_by_the_counts_before_it() -> None:
    """Algorithm 1: thresholds, then labels. Guards the order, and a row that is counted for two classes.

    N = 4, τ = .8. At first T = [0, 0]; then σ = [2, 0]: β = [1, 0], T = [.8, 0]; row 1 goes over to class 1 and row 2 joins:
    σ = [1, 2], β = [.5, 1], T = [.8 · .5/1.5, .8] = [.26667, .8].
    """
    part = bound(Curriculum(threshold=0.8))
    first, second = visit((0, 0, 0.9), (1, 0, 0.85), (2, 1, 0.7)), visit((1, 1, 0.95), (2, 1, 0.82), (3, 0, 0.6))
    part.observe(first)
    assert (part(first).tolist(), part.counts.tolist()) == ([1, 1, 1], [2, 0])
    part.observe(second)
    assert (part(second).tolist(), part.counts.tolist()) == ([1, 1, 0], [1, 2])
    part.observe(visit((3, 0, 0.6)))
    torch.testing.assert_close(part.thresholds, torch.tensor([0.8 * 0.5 / 1.5, 0.8]))


def test_curriculum_without_warmup_when_a_row_changes_its_class() -> None:
    """β = σ/max σ, T = .8 β/(2 − β), of two steps in a row.

    Before the first: σ = [0, 0], T = [.8, .8], so that the unsure row 5 is left out. It finds σ = [4, 1]: β = [1, .25],
    T = [.8, .2/1.75] = [.8, .114286], and .79 is too little for class 0 alone. The second takes row 3 from class 0 to 1:
    σ = [3, 2], β = [1, ⅔], T = [.8, .8 · ⅔/(4/3)] = [.8, .4]. Guards a row that counts for both classes (σ = [4, 2], T =
    [.8, .266667]) or for its first one, and N − Σ σ = 5 as denominator (β = [.6, .4]).
    """
    part = bound(Curriculum(threshold=0.8, warmup=False), num_rows=10)
    first = visit((0, 0, 0.9), (1, 0, 0.85), (2, 0, 0.95), (3, 0, 0.8), (4, 1, 0.9), (5, 0, 0.6))
    second = visit((3, 1, 0.9), (6, 0, 0.79), (7, 1, 0.51))
    part.observe(first)
    torch.testing.assert_close(part.thresholds, torch.tensor([0.8, 0.8]))
    assert (part(first).tolist(), part.counts.tolist()) == ([1, 1, 1, 1, 1, 0], [4, 1])
    part.observe(second)
    torch.testing.assert_close(part.thresholds, torch.tensor([0.8, 0.114286]), atol=1e-6, rtol=0)
    assert (part(second).tolist(), part.counts.tolist()) == ([1, 0, 1], [3, 2])
    part.observe(visit((8, 0, 0.6)))
    torch.testing.assert_close(part.thresholds, torch.tensor([0.8, 0.4]))


def test_curriculum_remembers_the_last_confident_class() -> None:
    """A row that is unsure later still counts for its class (eq. 5 is of predictions at τ or above): guards against
    forgetting, and against > for ≥."""
    part = bound(Curriculum(threshold=0.75))
    part.observe(visit((0, 0, 0.75)))
    part.observe(visit((0, 1, 0.7499)))
    assert (part.counts.tolist(), part.last_class.tolist()) == ([1, 0], [0, -1, -1, -1])


def test_a_row_drawn_twice_counts_with_its_last_confident_visit() -> None:
    """Guards against a row that counts twice, and against the order in which a device happens to write."""
    part = bound(Curriculum(threshold=0.8))
    part.observe(visit((2, 0, 0.9), (1, 1, 0.9), (2, 1, 0.85), (2, 0, 0.6)))
    assert (part.counts.tolist(), part.last_class.tolist()) == ([0, 2], [-1, 1, 1, -1])


@pytest.mark.parametrize(("warmup", "expected"), [(True, [1, 1]), (False, [0, 1])])
def test_curriculum_before_any_confident_row(warmup: bool, expected: list[int]) -> None:
    """With warm-up all T are 0; without it they are τ, as for any equal counts: guards against 0/0."""
    part = bound(Curriculum(threshold=0.8, warmup=warmup))
    rows = visit((0, 0, 0.6), (1, 1, 0.8))
    assert part(rows).tolist() == expected  # also before the first observation
    part.observe(rows)
    assert part(rows).tolist() == expected


@pytest.mark.parametrize(
    ("threshold", "warmup", "expected"), [(0, True, 1), (0, False, 1), (1, True, 1), (1, False, 0)]
)
def test_curriculum_limits(threshold: float, warmup: bool, expected: int) -> None:
    """τ = 0 keeps every row; where τ is out of reach, nothing is ever learned: all rows with warm-up, none without."""
    part = bound(Curriculum(threshold, warmup))
    for _ in range(3):
        part.observe(rows := visit((0, 0, 0.99), (1, 1, 0.6), (2, 0, 0.5)))
        assert part(rows).tolist() == [expected] * 3


@pytest.mark.parametrize("warmup", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_curriculum_is_the_slow_loop(dtype: torch.dtype, warmup: bool) -> None:
    """Guards the counts that are kept step by step against a recount of the corpus, rows drawn twice included."""
    generator = torch.Generator().manual_seed(0)
    steps = [
        Signals(
            (3 * torch.randn(16, 4, generator=generator, dtype=torch.float64)).softmax(-1).to(dtype),
            ids=torch.randint(24, (16,), generator=generator),
        )
        for _ in range(12)
    ]
    part, weights = bound(Curriculum(0.8, warmup), num_classes=4, num_rows=24), []
    for step in steps:
        part.observe(step)
        weights.append(part(step).tolist())
    assert weights == curriculum_by_loop(steps, 24, 4, 0.8, warmup)
    assert 0.2 < torch.tensor(weights).mean() < 0.9  # both kinds of rows are there
    assert part.counts.tolist() == [(part.last_class == c).sum() for c in range(4)]
    assert (part.last_class.dtype, part.counts.dtype) == (torch.int32, torch.int64)


# SelfAdaptive (FreeMatch)


def test_freematch_golden_values_of_two_steps() -> None:
    """Guards τ, p̃, h̃ and T against the paper, and against a doubled update; λ = .9, C = 2, all start at .5.

    q = [[.9, .1], [.6, .4]]: τ = .45 + .1 · .75 = .525, p̃ = .45 + .1 · [.75, .25], h̃ = .45 + .1 · [1, 0].
    q = [[.2, .8], [.3, .7]]: τ = .4725 + .075 = .5475, p̃ = [.4725 + .025, .4275 + .075] = [.4975, .5025],
    h̃ = [.495, .505], T = [.5475 · .4975/.5025, .5475] = [.542052, .5475].
    """
    part = bound(SelfAdaptive(momentum=0.9))
    part.observe(Signals(torch.tensor([[0.9, 0.1], [0.6, 0.4]])))
    assert part.confidence.item() == pytest.approx(0.525, abs=1e-6)
    torch.testing.assert_close(part.mean_probs, torch.tensor([0.525, 0.475]))
    torch.testing.assert_close(part.histogram, torch.tensor([0.55, 0.45]))
    torch.testing.assert_close(part.thresholds, torch.tensor([0.525, 0.475]))
    part.observe(Signals(torch.tensor([[0.2, 0.8], [0.3, 0.7]])))
    assert part.confidence.item() == pytest.approx(0.5475, abs=1e-6)
    torch.testing.assert_close(part.mean_probs, torch.tensor([0.4975, 0.5025]))
    torch.testing.assert_close(part.histogram, torch.tensor([0.495, 0.505]))
    torch.testing.assert_close(part.thresholds, torch.tensor([0.542052, 0.5475]), atol=1e-6, rtol=0)


def test_freematch_learns_before_it_weighs() -> None:
    """λ = 0: T = [.75, .25] of this very step; the start, T = [.5, .5], would keep both rows."""
    part, rows = bound(SelfAdaptive(momentum=0.0)), Signals(torch.tensor([[0.9, 0.1], [0.6, 0.4]]))
    part.observe(rows)
    assert part(rows).tolist() == [1, 0]


def test_freematch_that_never_learns_keeps_every_row() -> None:
    """λ = 1: T stays at 1/C, and no maximum of C probabilities lies below; ≥, as a row of equal ones shows."""
    part, rows = bound(SelfAdaptive(momentum=1.0)), Signals(torch.tensor([[0.9, 0.1], [0.5, 0.5]]))
    part.observe(rows)
    assert part(rows).tolist() == [1, 1]


def test_freematch_of_rows_that_nobody_knows() -> None:
    """A batch of zeros (rows that a history has not seen) at λ = 0 leaves p̃ = 0: guards against 0/0."""
    part = bound(SelfAdaptive(momentum=0.0))
    part.observe(Signals(torch.zeros(3, 2)))
    assert part.thresholds.tolist() == [0, 0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_freematch_is_the_slow_loop(dtype: torch.dtype) -> None:
    """Guards the vectorized form; the state is float32 for any input, so that 1 − .999 does not vanish in bfloat16."""
    torch.manual_seed(0)
    batches = (2 * torch.randn(8, 32, 3, dtype=torch.float64)).softmax(-1).to(dtype)
    part, momentum = bound(SelfAdaptive(momentum=0.8), num_classes=3), 0.8
    tau, mean, shares = 1 / 3, [1 / 3] * 3, [1 / 3] * 3
    for batch in batches:
        part.observe(Signals(batch))
        rows = batch.tolist()
        tau = momentum * tau + (1 - momentum) * sum(map(max, rows)) / len(rows)
        for c in range(3):
            mean[c] = momentum * mean[c] + (1 - momentum) * sum(row[c] for row in rows) / len(rows)
            shares[c] = momentum * shares[c] + (1 - momentum) * sum(row.index(max(row)) == c for row in rows) / len(
                rows
            )
    asked = [share / max(mean) * tau for share in mean]
    assert part.confidence.item() == pytest.approx(tau, abs=1e-5)
    assert part.mean_probs.tolist() == pytest.approx(mean, abs=1e-5)
    assert part.histogram.tolist() == pytest.approx(shares, abs=1e-5)
    weight = part(Signals(batches[-1]))
    assert weight.tolist() == [float(max(row) >= asked[row.index(max(row))]) for row in batches[-1].tolist()]
    assert 0 < weight.float().mean() < 1


# Relative (AdaMatch)


def test_relative_follows_the_labeled_rows_of_this_batch() -> None:
    """c = .9 · (.8 + .6)/2 = .63, then .9 · .9 = .81: guards against the probability of the label (.8, .4) for the maximal
    one, against a threshold on unlabeled statistics, and against an average that the paper does not have."""
    part, q = bound(Relative()), [[0.64, 0.36], [0.38, 0.62], [0.18, 0.82]]
    part.observe(rows := labeled(0.8, 0.4, probs=q))
    assert part.confidence.item() == pytest.approx(0.7, abs=1e-6)
    assert part(rows).tolist() == [1, 0, 1]
    part.observe(rows := labeled(0.9, probs=q))
    assert part(rows).tolist() == [0, 0, 1]


def test_relative_with_a_moving_average() -> None:
    """m = .5 from 1/C = .5: .5 · .5 + .5 · .7 = .6, then .3 + .45 = .75."""
    part = bound(Relative(momentum=0.5))
    part.observe(labeled(0.8, 0.4))
    assert part.confidence.item() == pytest.approx(0.6, abs=1e-6)
    part.observe(labeled(0.9))
    assert part.confidence.item() == pytest.approx(0.75, abs=1e-6)


def test_relative_weighs_the_aligned_confidence() -> None:
    """E[q] = [.8, .2], so that [.8, .2] is aligned to [.5, .5], which is below c = .72; the plain .8 is above."""
    q = [[0.8, 0.2]]
    for of, expected in ((Align(momentum=0.0), [0]), (None, [1])):
        part = bound(Relative(of=of))
        for module in part.modules():
            module.observe(labeled(0.8, probs=q))
        assert part(labeled(0.8, probs=q)).tolist() == expected


@pytest.mark.parametrize(("factor", "expected"), [(0, [1, 1]), (0.75, [1, 1]), (1.25, [0, 1]), (2, [0, 0])])
def test_relative_limits(factor: float, expected: list[int]) -> None:
    """Factor 0 keeps every row, one that is out of reach none; the boundary counts (.75 · .8 = .6)."""
    part = bound(Relative(factor))
    part.observe(rows := labeled(0.8, probs=[[0.60001, 0.39999], [0.0, 1.0]]))
    assert part(rows).tolist() == expected


@pytest.mark.parametrize("dtype", DTYPES)
def test_relative_is_the_slow_loop(dtype: torch.dtype) -> None:
    """Guards the vectorized form, softmax of the labeled logits included."""
    torch.manual_seed(0)
    probs = torch.randn(64, 3, dtype=torch.float64).softmax(-1).to(dtype)
    logits = torch.randn(8, 3, dtype=torch.float64).to(dtype)
    part, rows = bound(Relative(), num_classes=3), Signals(probs, labeled_logits=logits)
    part.observe(rows)
    tops = [math.exp(max(row)) / sum(map(math.exp, row)) for row in logits.tolist()]
    asked = 0.9 * sum(tops) / len(tops)
    assert part(rows).tolist() == [float(max(row) >= asked) for row in probs.tolist()]
    assert 0 < part(rows).float().mean() < 1
