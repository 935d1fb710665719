"""Regularizers: values derived by hand, limits, and where gradient flows."""

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from regularizer_cases import (
    Statistics,
    clustering,
    contrast_by_loop,
    logits_of,
    total,
)
from torch import Tensor, nn

from sstext.data.edits import IGNORED
from sstext.errors import UserError
from sstext.modeling.pooling import mean_pooled
from sstext.objective.objective import Objective
from sstext.objective.outputs import (
    LABELED,
    LABELED_AGAIN,
    LABELED_STRONG,
    MASKED,
    UNLABELED,
    UNLABELED_AGAIN,
    WEAK,
    Outputs,
)
from sstext.objective.regularizers import (
    REGULARIZERS,
    Clustering,
    Entropy,
    Fairness,
    RDrop,
    Reconstruction,
    StrongLabels,
    SupervisedContrast,
)
from sstext.objective.views import Same
from sstext.objective.weights import Threshold

# Values


def test_clustering_of_balanced_rows_is_their_entropy() -> None:
    """p = (¾, ¼) and (¼, ¾): p̄ is uniform, KL(p̄ ‖ u) = 0; H(¾, ¼) = log 4 − ¾ log 3 = .562335."""
    entropies, balance = clustering(2)(Outputs({WEAK: logits_of([0.75, 0.25], [0.25, 0.75])}))
    assert entropies.tolist() == pytest.approx([0.562335, 0.562335], abs=1e-6)
    assert balance.item() == pytest.approx(0, abs=1e-6)


def test_clustering_prices_imbalance() -> None:
    """p̄ = (¾, ¼): KL = ¾ log 1.5 + ¼ log .5 = .130812, twice that with balance 2, and 0 where the prior is (¾, ¼)."""
    outputs = Outputs({WEAK: logits_of([0.75, 0.25], [0.75, 0.25])})
    assert clustering(2)(outputs)[1].item() == pytest.approx(0.130812, abs=1e-6)
    assert clustering(2, balance=2.0)(outputs)[1].item() == pytest.approx(0.261624, abs=1e-6)
    assert clustering(2, prior=[3, 1])(outputs)[1].item() == pytest.approx(0, abs=1e-6)


def test_clustering_wants_a_prior_of_every_class() -> None:
    """Guards against shares that broadcast."""
    with pytest.raises(UserError, match="prior of 3 class shares, found 2"):
        Clustering(prior=[0.5, 0.5]).bind(3, 1)


def test_r_drop_of_labeled_rows() -> None:
    """p₁ = (¾, ¼), p₂ = (½, ½), y = 0: KL(p₁‖p₂) = .130812, KL(p₂‖p₁) = .143841, half their sum .137327; H(y, p₂) = log 2.

    α = 2: .693147 + 2 · .137327 = .967800; a row weight of ½ halves the label's part alone: .621227.
    """
    outputs = Outputs(
        {LABELED: logits_of([0.75, 0.25]), LABELED_AGAIN: logits_of([0.5, 0.5])}, labels=torch.tensor([0])
    )
    r_drop = RDrop(alpha=2.0, unlabeled=False)
    assert r_drop(outputs)[0].tolist() == pytest.approx([0.967800], abs=1e-5)
    weighted = replace(outputs, row_weights=torch.tensor([0.5]))
    assert r_drop(weighted)[0].tolist() == pytest.approx([0.621227], abs=1e-5)


def test_r_drop_takes_soft_labels() -> None:
    """Identical passes p = (.8, .2), y = (½, ½): −½ (log .8 + log .2) = .916291 and no divergence."""
    p = logits_of([0.8, 0.2])
    outputs = Outputs({LABELED: p, LABELED_AGAIN: p}, labels=torch.tensor([[0.5, 0.5]]))
    assert RDrop(unlabeled=False)(outputs)[0].tolist() == pytest.approx([0.916291], abs=1e-5)


def test_r_drop_of_unlabeled_rows_is_the_divergence_alone() -> None:
    """Guards against a label loss on rows without labels: α ½ (KL + KL) = 2 · .137327; 0 for identical passes."""
    same = logits_of([0.8, 0.2])
    outputs = Outputs(
        {LABELED: same, LABELED_AGAIN: same,
         UNLABELED: logits_of([0.75, 0.25], [0.3, 0.7]), UNLABELED_AGAIN: logits_of([0.5, 0.5], [0.3, 0.7])},
        labels=torch.tensor([0]),
    )  # fmt: skip
    assert RDrop(alpha=2.0)(outputs)[1].tolist() == pytest.approx([0.274653, 0], abs=1e-5)


def test_strong_labels_is_the_cross_entropy_of_the_copy() -> None:
    """−log of the label's probability on the **copy**, times the row weight: log 4 and ½ log 2."""
    outputs = Outputs(
        {LABELED: torch.zeros(2, 2), LABELED_STRONG: logits_of([0.75, 0.25], [0.5, 0.5])},
        labels=torch.tensor([1, 0]), row_weights=torch.tensor([1.0, 0.5]),
    )  # fmt: skip
    assert StrongLabels()(outputs)[0].tolist() == pytest.approx([math.log(4), math.log(2) / 2], abs=1e-6)


def fairness_outputs(weight: list[float]) -> Outputs:
    """Student rows (.9, .1), (.8, .2), (.4, .6), (.1, .9) with these weights."""
    logits = logits_of([0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.1, 0.9]).requires_grad_()
    return Outputs({UNLABELED: logits}, weight=torch.tensor(weight), target=torch.full((4, 2), 0.5))


def test_fairness_of_selected_rows() -> None:
    """a = SumNorm(.6/.75, .4/.25) = (⅓, ⅔); the first three rows: p̄ = (.7, .3), h̄ = (⅔, ⅓), b = SumNorm(1.05, .9) =
    (.538462, .461538); L = ⅓ log .538462 + ⅔ log .461538 = −.721806: negative by design.
    """
    fairness = Fairness(Statistics([0.6, 0.4], [0.75, 0.25]))
    assert fairness(fairness_outputs([1, 0.5, 1, 0]))[0].item() == pytest.approx(-0.721806, abs=1e-5)


def test_fairness_of_a_class_that_nobody_predicts() -> None:
    """h̄ = (1, 0) → b = (1, 0), 1/0 → 0: L = ⅔ log 1e-12 = −18.420681; h̃ = (1, 0) → a = (1, 0) → L = log 1 = 0."""
    outputs = fairness_outputs([1, 1, 0, 0])
    assert Fairness(Statistics([0.6, 0.4], [0.75, 0.25]))(outputs)[0].item() == pytest.approx(-18.420681, abs=1e-4)
    assert Fairness(Statistics([0.6, 0.4], [1.0, 0.0]))(outputs)[0].item() == pytest.approx(0, abs=1e-5)


def test_fairness_of_nothing_selected_is_zero_with_a_finite_gradient() -> None:
    """Guards against 0/0 and log 0 early in training, when no row has passed a threshold."""
    outputs = fairness_outputs([0, 0, 0, 0])
    loss = Fairness(Statistics([0.6, 0.4], [0.75, 0.25]))(outputs)[0]
    loss.backward()
    assert loss.item() == 0
    assert outputs.logits[UNLABELED].grad.tolist() == [[0, 0]] * 4


def test_fairness_wants_a_teacher() -> None:
    with pytest.raises(UserError, match="needs a teacher"):
        Fairness(Statistics([0.5, 0.5], [0.5, 0.5]))(Outputs({UNLABELED: torch.zeros(1, 2)}))


def test_fairness_shares_its_statistics() -> None:
    """Guards against statistics that observe a step twice: once as the weight, once as the regularizer's own."""
    shared = Threshold()
    objective = Objective(weight=shared, regularizers=[Fairness(shared)])
    assert [part for part in objective.parts() if part is shared] == [shared]


def contrast_outputs(features: list[list[float]], labels: list[int]) -> Outputs:
    return Outputs({}, torch.tensor(labels), features={LABELED: torch.tensor(features, requires_grad=True)})


def test_contrast_by_hand() -> None:
    """z₁ = z₂ ⊥ z₃, classes 0, 0, 1, τ = 1: two anchors say log(1 + e⁻¹) = .313262, the third has no positive and counts 0.

    Mean over all three: .208841, at any length of the features.
    """
    outputs = contrast_outputs([[2.0, 0.0], [0.5, 0.0], [0.0, 3.0]], [0, 0, 1])
    assert SupervisedContrast(temperature=1.0)(outputs)[0].item() == pytest.approx(0.208841, abs=1e-6)


def test_contrast_without_any_positive_is_zero_with_a_finite_gradient() -> None:
    """Guards against 0 · ∞ where a row is alone in the batch, or alone in its class."""
    for features, labels in (([[1.0, 2.0]], [0]), ([[1.0, 2.0], [2.0, 1.0]], [0, 1])):
        outputs = contrast_outputs(features, labels)
        loss = SupervisedContrast()(outputs)[0]
        loss.backward()
        assert loss.item() == 0
        assert outputs.features[LABELED].grad.abs().max() == 0


def test_contrast_takes_kept_unlabeled_rows_and_no_others() -> None:
    """Guards against rejected rows that serve as positives or negatives, and against the teacher's second-best class."""
    torch.manual_seed(0)
    labeled, unlabeled = torch.randn(3, 4), torch.randn(3, 4)
    outputs = Outputs(
        {}, torch.tensor([0, 1, 1]), features={LABELED: labeled, UNLABELED: unlabeled},
        weight=torch.tensor([0.2, 0.0, 1.0]), target=torch.tensor([[0.6, 0.4], [0.9, 0.1], [0.3, 0.7]]),
    )  # fmt: skip
    rows = torch.cat([labeled, unlabeled[[0, 2]]])
    expected = contrast_by_loop(rows, [0, 1, 1, 0, 1], 0.1)
    assert SupervisedContrast()(outputs)[0].item() == pytest.approx(expected, rel=1e-5)
    without_teacher = replace(outputs, weight=None, target=None)
    assert SupervisedContrast()(without_teacher)[0].item() == pytest.approx(
        contrast_by_loop(labeled, [0, 1, 1], 0.1), rel=1e-5
    )
    soft = replace(without_teacher, labels=torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]]))
    assert torch.equal(SupervisedContrast()(soft)[0], SupervisedContrast()(without_teacher)[0])


def reconstruction_outputs() -> Outputs:
    """Three rows: two masked tokens said with ½ and ¼, none, one said with ½."""
    targets = torch.full((3, 4), IGNORED)
    targets[0, 1], targets[0, 3], targets[2, 0] = 0, 1, 0
    tokens = logits_of([0.5, 0.5], [0.75, 0.25], [0.5, 0.5]).requires_grad_()
    return Outputs({MASKED: torch.zeros(3, 2)}, tokens=tokens, token_targets=targets)


def test_reconstruction_is_the_mean_of_every_row() -> None:
    """½ (log 2 + log 4) = 1.039721, 0 without any, log 2: guards against the mean over all tokens, where long rows win."""
    assert Reconstruction()(reconstruction_outputs())[0].tolist() == pytest.approx([1.039721, 0, 0.693147], abs=1e-6)


def test_reconstruction_without_masked_tokens_reaches_the_head() -> None:
    """Guards against a process that waits forever for gradients of weights that played no part."""
    tokens = torch.zeros(0, 5, requires_grad=True)
    loss = Reconstruction()(Outputs({}, tokens=tokens, token_targets=torch.full((2, 3), IGNORED)))[0]
    assert loss.tolist() == [0, 0]
    loss.sum().backward()
    assert tokens.grad is not None


def test_the_head_learns_alone_at_first() -> None:
    assert [Reconstruction(head_first=0.3).head_only(progress) for progress in (0.0, 0.29, 0.3, 1.0)] == [
        True, True, False, False,
    ]  # fmt: skip
    assert not Reconstruction(head_first=0.0).head_only(0.0)


def test_reconstruction_wants_masked_tokens() -> None:
    with pytest.raises(UserError, match="needs masked tokens"):
        Reconstruction()(Outputs({MASKED: torch.zeros(1, 2)}))


def test_padding_plays_no_part_in_the_mean() -> None:
    """Guards against mean pooling over padding, where a row's features depend on its batch-mates."""
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [99.0, 99.0]]])
    assert mean_pooled(hidden, torch.tensor([[1, 1, 0]])).tolist() == [[2, 3]]
    assert mean_pooled(hidden, torch.tensor([[0, 0, 0]])).tolist() == [[0, 0]], "an empty row is not 0/0"


# Relations and limits


def test_clustering_is_mutual_information() -> None:
    """With balance 1 and uniform shares: log C − (H(p̄) − mean H(p)). Guards against a sign."""
    torch.manual_seed(0)
    logits = torch.randn(50, 3)
    mean = logits.softmax(-1).mean(0)
    information = -(mean * mean.log()).sum() - Entropy()(Outputs({WEAK: logits}))[0].mean()
    loss = total(clustering(3)(Outputs({WEAK: logits})))
    assert loss.item() == pytest.approx(math.log(3) - information.item(), abs=1e-5)
    alone = total(clustering(3, balance=0.0)(Outputs({WEAK: logits})))
    assert torch.equal(alone, total(Entropy()(Outputs({WEAK: logits}))))


def test_descending_on_clustering_separates_and_balances() -> None:
    """Guards against a term with the wrong sign: rows that lean to one class end up confident, half of them in each."""
    logits = torch.tensor([[1.0, 0.0], [0.9, 0.0], [0.5, 0.0], [0.4, 0.0]], requires_grad=True)
    part = clustering(2, balance=2.0)
    for _ in range(200):
        (gradient,) = torch.autograd.grad(total(part(Outputs({WEAK: logits}))), logits)
        logits = (logits - 2 * gradient).detach().requires_grad_()
    probs = logits.softmax(-1)
    assert probs.amax(-1).min() > 0.9
    assert probs.argmax(-1).tolist() == [0, 0, 1, 1]


def test_gradient_flows_through_both_passes_of_r_drop() -> None:
    """Guards against a detached target, as consistency methods have one: R-Drop has none, on labeled rows and others."""
    torch.manual_seed(0)
    blocks = (LABELED, LABELED_AGAIN, UNLABELED, UNLABELED_AGAIN)
    logits = {block: torch.randn(2, 3, requires_grad=True) for block in blocks}
    labeled, unlabeled = RDrop()(Outputs(logits, labels=torch.tensor([0, 1])))
    unlabeled.sum().backward(retain_graph=True)
    assert [logits[block].grad is not None for block in blocks] == [False, False, True, True]
    labeled.sum().backward()
    assert all(logits[block].grad.abs().min() > 0 for block in blocks)


class TwoPasses(nn.Module):
    """Says of the rows of a joint pass what stands in a table, one after the other."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(table)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        return SimpleNamespace(logits=self.table[: len(input_ids)])


@pytest.mark.parametrize("alpha", [0.5, 3.0])
def test_the_objective_of_r_drop_is_the_papers(alpha: float) -> None:
    """Eq. 4: −log p₁(y) − log p₂(y) + α/2 (KL + KL). Guards against α on the second label loss, or half of both."""
    p, q = torch.tensor([0.75, 0.25]), torch.tensor([0.5, 0.5])
    student = TwoPasses(torch.stack([p, q]).log())
    row = {"input_ids": torch.zeros(1, 1, dtype=torch.long), "attention_mask": torch.ones(1, 1)}
    objective = Objective(view=Same(), regularizers=[RDrop(alpha, unlabeled=False)])
    loss = objective(student, row, torch.tensor([0])).total
    divergence = ((p * (p / q).log()).sum() + (q * (q / p).log()).sum()) / 2
    assert loss.item() == pytest.approx(-math.log(0.75) - math.log(0.5) + alpha * divergence.item(), abs=1e-6)


def test_the_number_of_r_drop_is_alpha() -> None:
    """`--regularizers r-drop=0.5`: guards against a factor on the label loss, too."""
    r_drop = REGULARIZERS["r-drop"](0.5)
    assert isinstance(r_drop, RDrop)
    assert (r_drop.alpha, r_drop.strength) == (0.5, 1.0)


@pytest.mark.parametrize("name", [name for name in REGULARIZERS if name != "r-drop"])
def test_the_number_of_the_others_is_their_strength(name: str) -> None:
    assert REGULARIZERS[name](0.25).strength == 0.25
    with pytest.raises(UserError, match="strength: expected a number at least 0"):
        REGULARIZERS[name](-1)


def test_rows_that_must_pass_through_the_student() -> None:
    """Guards against unlabeled rows that are asked for and not there, and against passes that nobody looks at."""
    asked = {name: (Objective(view=Same(), regularizers=[kind(1.0)])).blocks for name, kind in REGULARIZERS.items()}
    assert asked == {
        "entropy": [LABELED, WEAK],
        "clustering": [LABELED, WEAK],
        "reconstruction": [LABELED, MASKED],
        "r-drop": [LABELED, UNLABELED, UNLABELED_AGAIN, LABELED_AGAIN],
        "supervised-contrast": [LABELED],
        "strong-labels": [LABELED, LABELED_STRONG],
    }
    assert Objective(regularizers=[RDrop(unlabeled=False)]).supervised
    assert not Objective(regularizers=[RDrop()]).supervised
