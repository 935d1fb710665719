"""Part and Signals: what every part may rely on."""

from dataclasses import FrozenInstanceError

import pytest
import torch
from torch import nn

from sstext.errors import UserError
from sstext.objective.part import Part, Signals, class_shares, dropout_off, last_of_each, yes_or_no


class NeedsLabels(Part):
    """A part that reads a field which unlabeled steps may lack."""


def test_a_missing_signal_is_named_with_the_part() -> None:
    """Guards against `'NoneType' has no attribute …` from deep inside a method."""
    with pytest.raises(UserError, match="NeedsLabels needs 'labels', which this step does not have"):
        NeedsLabels().need(Signals(torch.ones(1, 2)), "labels")


def test_a_signal_that_is_there_is_handed_over() -> None:
    """Canary for the test above: `need` does not refuse everything, not even an empty tensor."""
    labels = torch.empty(0, dtype=torch.long)
    assert NeedsLabels().need(Signals(torch.ones(0, 2), labels=labels), "labels") is labels


def test_map_reaches_every_tensor_and_nothing_else() -> None:
    """Guards against a signal that is not gathered over processes: its statistics would be of one process alone."""
    names = ("probs", "student_logits", "ids", "labeled_logits", "labels", "variance")
    tensors = {name: torch.ones(1, 2) for name in names}
    mapped = Signals(**tensors, progress=0.5).map(lambda tensor: torch.cat([tensor, tensor]))
    assert all(len(getattr(mapped, name)) == 2 for name in tensors)
    assert mapped.progress == 0.5
    assert set(tensors) | {"progress"} == set(vars(mapped))  # a new field belongs into this test
    assert Signals(torch.ones(1, 2)).map(torch.neg).labels is None


def test_signals_are_frozen() -> None:
    """Guards against a part that rewrites what the next one reads."""
    with pytest.raises(FrozenInstanceError):
        Signals(torch.ones(1, 2)).progress = 1.0  # type: ignore[misc]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.long])
def test_state_is_float32_and_saved(dtype: torch.dtype) -> None:
    """Guards against state in the model's type, and against state that a checkpoint misses."""
    part = Part()
    part.add_state("count", torch.ones(3, dtype=dtype))
    assert part.state_dict()["count"].dtype == torch.float32
    assert not list(part.parameters())  # state is no weight: an optimizer must not see it


def test_a_part_without_state_needs_no_hooks() -> None:
    """`bind` and `observe` do nothing unless a part says otherwise."""
    part = Part()
    part.bind(2, 10)
    part.bind_student(nn.Identity())
    part.observe(Signals(torch.ones(1, 2)))
    part.after_step(nn.Identity(), 0.5)
    assert not part.state_dict()


def test_the_last_visit_of_a_row_counts() -> None:
    """Guards state per row against the order in which a device writes: rows 3 and 5 come twice, row 4 once."""
    assert last_of_each(torch.tensor([3, 5, 4, 5, 3])).tolist() == [2, 3, 4]
    assert last_of_each(torch.tensor([9, 8])).tolist() == [0, 1]
    assert last_of_each(torch.tensor([], dtype=torch.long)).tolist() == []


@pytest.mark.parametrize("training", [True, False])
def test_dropout_off_restores_the_mode_after_an_error(training: bool) -> None:
    """Guards against a student that trains without dropout ever after."""
    student, modes = nn.Sequential(nn.Dropout()).train(training), []

    def fail() -> None:
        with dropout_off(student):
            modes.append(student[0].training)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [*modes, student[0].training] == [False, training]


class Numbers(Part):
    """A part with every kind of attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.share, self.rows, self.sure, self.word = 0.5, 3, False, "easy"
        self.shares, self.nothing, self._private = [0.5, 0.5], None, 7
        self.of = nn.Identity()
        self.add_state("mean", torch.tensor(0.5))


def test_a_part_shows_its_own_numbers() -> None:
    """Guards `print(objective)`: the settings, and neither state nor what torch keeps beside them (`training`)."""
    assert Numbers().extra_repr() == "share=0.5, rows=3, sure=False, word='easy'"
    assert repr(NeedsLabels()) == "NeedsLabels()"


@pytest.mark.parametrize("value", ["maybe", 1, None, []])
def test_truth_values_are_no_words(value: object) -> None:
    """Guards `--method-args warmup=maybe`, which would count as true."""
    assert yes_or_no("warmup", False) is False
    with pytest.raises(UserError, match="warmup: expected true or false, found"):
        yes_or_no("warmup", value)


@pytest.mark.parametrize("value", [0.5, "ab", [], [0.5, 0], [0.5, "x"], {"a": 1}])
def test_class_shares_are_a_list_of_numbers(value: object) -> None:
    """Guards `--method-args prior=.5` against Python's own error."""
    assert class_shares("prior", (0.75, 0.25)) == [0.75, 0.25]
    with pytest.raises(UserError, match="prior: expected"):
        class_shares("prior", value)
