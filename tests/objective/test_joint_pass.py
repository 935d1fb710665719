"""The joint pass and what an objective adds to it: blocks, label weights and regularizers, by hand on a table of logits."""

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sstext.data.edits import IGNORED
from sstext.methods.registry import build
from sstext.modeling.pooling import mean_pooled
from sstext.objective import objective as objective_module
from sstext.objective.joint_pass import joint_pass
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
from sstext.objective.part import Signals
from sstext.objective.regularizers import Entropy, Regularizer, SupervisedContrast
from sstext.objective.teachers import Self
from sstext.objective.views import Same
from sstext.objective.weights import Threshold, Weight

LABELED_ROW, WEAK_ROW, STRONG_ROW = range(3)
PROBS = torch.tensor([[0.8, 0.2], [0.9, 0.1], [0.5, 0.5]])


def row(*tokens: int) -> dict[str, Tensor]:
    ids = torch.tensor(tokens)[:, None]
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


UNLABELED_ROWS = {"weak": row(WEAK_ROW), "strong": row(STRONG_ROW), "ids": torch.tensor([0])}


class Table(nn.Module):
    """Logits by token; remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(PROBS.log())
        self.asked: list[dict[str, Any]] = []

    def forward(self, input_ids: Tensor, **rest: Any) -> SimpleNamespace:
        self.asked.append({"input_ids": input_ids} | rest)
        hidden = input_ids[..., None].float()
        tokens = torch.zeros(int(rest["masked"].sum()), 7) if "masked" in rest else None
        return SimpleNamespace(logits=self.logits[input_ids[:, 0]], hidden_states=(None, hidden), token_logits=tokens)


class Asks(Regularizer):
    """A loss of 3 on each of two blocks, that remembers what it was given."""

    def __init__(self, *blocks: str, strength: float = 1.0, pooled: bool = False) -> None:
        super().__init__(strength)
        self.blocks, self.pooled = blocks, pooled
        self.given: list[Outputs] = []

    def forward(self, outputs: Outputs) -> tuple[Tensor, ...]:
        self.given.append(outputs)
        return torch.tensor([2.0, 4.0]), torch.tensor(3.0)


class Half(Weight):
    """Leaves the second of two labeled rows out."""

    def forward(self, signals: Signals) -> Tensor:
        assert signals.labels is not None
        return (torch.arange(len(signals.labels)) == 0).float()


def means(components: Mapping[str, tuple[Tensor, int]]) -> dict[str, float]:
    return {name: float(total) / count for name, (total, count) in components.items()}


def test_blocks_go_through_the_student_once_and_come_apart_again() -> None:
    """Guards against rows that are split at another place than they were put together."""
    student = Table()
    blocks = {LABELED: row(LABELED_ROW, LABELED_ROW), UNLABELED: row(STRONG_ROW), WEAK: row(WEAK_ROW, WEAK_ROW)}
    outputs = joint_pass(student, student, blocks)
    assert len(student.asked) == 1
    assert {name: logits.exp().tolist() for name, logits in outputs.logits.items()} == {
        LABELED: [pytest.approx([0.8, 0.2])] * 2,
        UNLABELED: [pytest.approx([0.5, 0.5])],
        WEAK: [pytest.approx([0.9, 0.1])] * 2,
    }
    assert outputs.features == {}
    assert "output_hidden_states" not in student.asked[0]


def test_features_are_means_over_the_tokens_of_a_row() -> None:
    """Tokens 1, 2 and padding: mean 1.5, not 1. Guards against mean pooling over padding."""
    inputs = {"input_ids": torch.tensor([[1, 2, 0]]), "attention_mask": torch.tensor([[1, 1, 0]])}
    student = Table()
    assert joint_pass(student, student, {LABELED: inputs}, pooled=True).features[LABELED].tolist() == [[1.5]]
    assert mean_pooled(torch.ones(1, 2, 3), torch.zeros(1, 2)).tolist() == [[0.0, 0.0, 0.0]]  # no token at all


def test_masked_tokens_are_marked_in_their_block_alone() -> None:
    """Guards against targets that are compared with the tokens of other rows."""
    student, targets = Table(), torch.tensor([[7], [IGNORED]])
    blocks = {LABELED: row(LABELED_ROW), WEAK: row(WEAK_ROW), MASKED: row(WEAK_ROW, WEAK_ROW)}
    outputs = joint_pass(student, student, blocks, token_targets=targets, head_only=True)
    assert student.asked[0]["masked"].flatten().tolist() == [False, False, True, False]
    assert student.asked[0]["head_only"] is True
    assert outputs.tokens is not None
    assert outputs.tokens.shape == (1, 7)


@pytest.mark.parametrize(
    ("objective", "blocks", "supervised", "plain", "strong"),
    [
        (Objective(), [LABELED], True, True, False),
        (Objective(label_weight=Half()), [LABELED], True, False, False),
        (Objective(teacher=Self()), [LABELED, UNLABELED], False, False, True),
        (Objective(teacher=Self(), view=Same()), [LABELED, UNLABELED], False, False, False),
        (Objective(regularizers=[Entropy()]), [LABELED, WEAK], False, False, False),
        (Objective(teacher=Self(), regularizers=[Entropy()]), [LABELED, UNLABELED, WEAK], False, False, True),
        (Objective(teacher=Self(), view=Same(), regularizers=[Entropy()]), [LABELED, UNLABELED], False, False, False),
        (Objective(regularizers=[Asks(LABELED_STRONG)]), [LABELED, LABELED_STRONG], True, False, True),
        (Objective(regularizers=[Asks(LABELED_AGAIN)]), [LABELED, LABELED_AGAIN], True, False, False),
        (Objective(regularizers=[Asks(UNLABELED_AGAIN)]), [LABELED, UNLABELED, UNLABELED_AGAIN], False, False, True),
    ],
)  # fmt: skip
def test_what_an_objective_asks_of_the_batches(
    objective: Objective, blocks: list[str], supervised: bool, plain: bool, strong: bool
) -> None:
    """Guards against rows that are passed without need, and against a loss that is left to plain `Trainer`."""
    assert (objective.blocks, objective.supervised, objective.plain) == (blocks, supervised, plain)
    assert objective.wants_strong == strong


def test_regularizers_are_added_with_their_strength() -> None:
    """½ · (mean of {2, 4} + 3) = 3 on top of −ln .8, and logged under the part's own name, without the strength."""
    losses = Objective(regularizers=[Asks(WEAK, strength=0.5)])(
        Table(), row(LABELED_ROW), torch.tensor([0]), None, UNLABELED_ROWS
    )
    assert losses.total.item() == pytest.approx(-math.log(0.8) + 3.0, abs=1e-6)
    assert means(losses.components)["loss_asks"] == pytest.approx(6.0)


def test_a_regularizer_knows_what_the_step_knows() -> None:
    """Guards against weights, targets or labels that do not arrive."""
    asks = Asks(UNLABELED, WEAK, pooled=True)
    objective = Objective(teacher=Self(), regularizers=[asks])
    objective(Table(), row(LABELED_ROW), torch.tensor([1]), torch.tensor([0.5]), UNLABELED_ROWS, progress=0.25)
    given = asks.given[0]
    assert given.weight is not None
    assert given.target is not None
    assert given.row_weights is not None
    assert (given.weight.tolist(), given.target.tolist()) == ([1.0], [[1.0, 0.0]])
    assert (given.labels.tolist(), given.row_weights.tolist(), given.progress) == ([1], [0.5], 0.25)
    assert set(given.features) == {LABELED, UNLABELED, WEAK}
    assert given.logits[UNLABELED].requires_grad


def test_entropy_moves_the_plain_row_alone() -> None:
    """∂H/∂z = −p (log p + H): H([.9, .1]) = .325083, gradient [−.19775, .19775] on the plain row, none on its label's."""
    student = Table()
    losses = Objective(regularizers=[Entropy()])(student, row(LABELED_ROW), torch.tensor([0]), None, UNLABELED_ROWS)
    losses.total.backward()
    assert means(losses.components)["loss_entropy"] == pytest.approx(0.325083, abs=1e-6)
    assert student.logits.grad is not None
    torch.testing.assert_close(student.logits.grad[WEAK_ROW], torch.tensor([-0.19775, 0.19775]), atol=1e-5, rtol=0)
    assert student.logits.grad[STRONG_ROW].count_nonzero() == 0


def test_without_unlabeled_rows_only_the_labeled_losses_count() -> None:
    """Guards `prediction_step`: a batch without "unlabeled" is no error, whatever the regularizers ask for."""
    losses = Objective(teacher=Self(), regularizers=[Entropy()])(Table(), row(LABELED_ROW), torch.tensor([0]))
    assert set(losses.components) == {"loss_labeled"}


def test_a_label_weight_divides_by_the_rows_that_count() -> None:
    """−ln .8 of the first row alone, not half of it: UDA divides by the kept count; nothing kept gives 0, not 0/0."""
    labeled, labels = row(LABELED_ROW, STRONG_ROW), torch.tensor([0, 1])
    losses = Objective(label_weight=Half())(Table(), labeled, labels)
    assert losses.total.item() == pytest.approx(-math.log(0.8), abs=1e-6)
    assert means(losses.components)["labels_used"] == 0.5

    class Nobody(Weight):
        def forward(self, signals: Signals) -> Tensor:
            return torch.zeros(2)

    assert Objective(label_weight=Nobody())(Table(), labeled, labels).total.item() == 0.0


def test_several_processes_share_the_count_of_the_labels() -> None:
    """Two processes, one of which keeps nothing: each divides by the ½ that is its share of the one kept row.

    The average of −ln .8/½ and 0 is what one process with all four rows computes.
    """

    def gather(rows: Tensor) -> Tensor:
        return torch.cat([rows, torch.zeros_like(rows)])

    losses = Objective(label_weight=Half())(Table(), row(LABELED_ROW, STRONG_ROW), torch.tensor([0, 1]), gather=gather)
    assert losses.total.item() == pytest.approx(-2 * math.log(0.8), abs=1e-6)


@pytest.mark.parametrize("threshold", [0.0, 0.6, 0.85, 1.1])
@pytest.mark.parametrize("method", ["fixmatch", "uda", "pseudo-label", "flexmatch"])
def test_rows_without_weight_are_not_read(monkeypatch: pytest.MonkeyPatch, method: str, threshold: float) -> None:
    """Guards the loss, its parts and the gradient when only the rows that count go through the student."""
    rows = torch.tensor([LABELED_ROW, WEAK_ROW, STRONG_ROW, WEAK_ROW])
    ids = {"input_ids": rows[:, None], "attention_mask": torch.ones(4, 1, dtype=torch.long)}
    unlabeled = {"weak": ids, "strong": ids, "ids": torch.arange(4), "keys": torch.arange(4)}
    found, passes = [], []
    for chosen in (True, False):
        monkeypatch.setattr(objective_module, "may_choose_rows", lambda *_, chosen=chosen: chosen)
        objective, table = (
            build(method, {"threshold": min(threshold, 1.0) if method == "flexmatch" else threshold}),
            Table(),
        )
        objective.bind(2, 4)
        for _ in range(2):  # the second step has the counts of the first one
            losses = objective(table, row(LABELED_ROW, STRONG_ROW), torch.tensor([0, 1]), None, unlabeled, progress=0.5)
            losses.total.backward()
        assert table.logits.grad is not None
        figures = {name: float(value) for name, (value, _) in losses.components.items()}
        found.append((losses.total.item(), table.logits.grad.tolist(), figures))
        passes.append([len(one["input_ids"]) for one in table.asked])
    assert found[0] == found[1]
    kept = int(found[0][2]["kept_share"])
    assert passes[0][-1] == 2 + kept
    assert passes[1][-1] == 2 + 4
    assert method == "flexmatch" or kept == sum(float(PROBS[one].max()) >= threshold for one in rows)


def test_rows_are_all_read_if_something_else_needs_them() -> None:
    """Guards regularizers of unlabeled rows, one's own weight that reads the student's answers, and a step that is timed."""

    class Own(Threshold):
        def forward(self, signals: Signals) -> Tensor:
            return self.need(signals, "student_logits")[:, 0] * 0

    every = Objective(Self(), weight=Threshold(1.1), view=Same())
    every.reads_all = True
    for objective in (
        Objective(Self(), weight=Threshold(1.1), view=Same(), regularizers=[Entropy()]),
        Objective(Self(), weight=Threshold(1.1), view=Same(), regularizers=[SupervisedContrast()]),
        Objective(Self(), weight=Own(), view=Same()),
        every,
    ):
        table = Table()
        objective(table, row(LABELED_ROW), torch.tensor([0]), None, UNLABELED_ROWS)
        assert [len(one["input_ids"]) for one in table.asked] == [1, 2]
