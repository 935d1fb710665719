"""Teachers: they label without a gradient and leave the student as they found it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sstext.errors import UserError
from sstext.objective.part import Signals
from sstext.objective.teachers import EMA, History, Self

ROWS = {"weak": {"input_ids": torch.tensor([[2, 10, 11, 12, 13, 3]])}, "ids": torch.tensor([0])}


class Recorder(nn.Module):
    """A student of constant bfloat16 logits that remembers the mode of its pass, and fails where told."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor([[2.0, 0.0]], dtype=torch.bfloat16))
        self.inner, self.fails = nn.Dropout(0.5), fails
        self.seen: list[tuple[bool, bool]] = []

    def forward(self, input_ids: Tensor) -> SimpleNamespace:
        self.seen.append((self.training, self.inner.training))
        if self.fails:
            raise RuntimeError("out of memory")
        return SimpleNamespace(logits=self.bias.expand(len(input_ids), 2))


@pytest.fixture(scope="module")
def student(tiny_encoder: Path) -> Any:
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(
        tiny_encoder, num_labels=3, hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5
    )


def test_without_dropout_a_row_has_one_label(student: Any) -> None:
    """Guards against labels drawn with the student's noise: one text, two targets."""
    student.train()
    assert Self()(student, ROWS).equal(Self()(student, ROWS))


def test_dropout_noise_where_it_is_the_methods_point(student: Any) -> None:
    """Guards against a Π-model whose two passes are one: its loss would be zero."""
    student.eval()
    teacher = Self(dropout=True)
    assert not teacher(student, ROWS).equal(teacher(student, ROWS))


def test_a_teacher_gives_probabilities_in_float32_without_gradient() -> None:
    """softmax([2, 0]) = [.880797, .119203]: guards against logits, bfloat16 targets, and a gradient through them."""
    with torch.enable_grad():
        probs = Self()(Recorder(), ROWS)
    assert (probs.dtype, probs.requires_grad) == (torch.float32, False)
    torch.testing.assert_close(probs, torch.tensor([[0.880797, 0.119203]]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dropout", [True, False])
def test_the_students_mode_is_restored(dropout: bool, training: bool, fails: bool) -> None:
    """Guards against a student that trains without dropout ever after, also where the pass itself fails."""
    student = Recorder(fails).train(training)
    try:
        Self(dropout)(student, ROWS)
    except RuntimeError:
        assert fails
    assert student.seen == [(dropout, dropout)]
    assert (student.training, student.inner.training) == (training, training)
    assert torch.is_grad_enabled()


class Bias(nn.Module):
    """A student whose logits are its one weight, for any row; `frozen` is no trained weight."""

    def __init__(self, *logits: float, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.head = nn.Module()
        self.head.bias = nn.Parameter(torch.tensor(logits, dtype=dtype))
        self.frozen = nn.Parameter(torch.zeros(len(logits), dtype=dtype), requires_grad=False)

    def forward(self, input_ids: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=(self.head.bias + self.frozen).expand(len(input_ids), -1))


def follow(teacher: EMA, student: Bias, *steps: list[float], progress: float = 1.0) -> Tensor:
    """Bind the teacher, move the student through `steps`, and return the averaged weight."""
    teacher.bind_student(student)
    for values in steps:
        student.head.bias.data = torch.tensor(values, dtype=student.head.bias.dtype)
        teacher.after_step(student, progress)
    return teacher.get_buffer("weight head/bias")


def test_the_average_of_the_weights_over_two_steps() -> None:
    """m = .9: [0, 0] → [1, 0] gives [.1, 0]; → [2, 1] gives .9 · .1 + .2 = [.29, .1].

    Guards against a doubled update, m and 1 − m exchanged, and a first value that is zero instead of the student's.
    """
    average = follow(EMA(decay=0.9), Bias(0.0, 0.0), [1.0, 0.0], [2.0, 1.0])
    torch.testing.assert_close(average, torch.tensor([0.29, 0.1]))
    torch.testing.assert_close(follow(EMA(decay=0.9), Bias(1.0, 3.0)), torch.tensor([1.0, 3.0]))


def test_the_average_labels_and_not_the_student() -> None:
    """softmax([.29, .1]) = [.547358, .452642]; the student alone would say softmax([2, 1]) = [.731059, …]."""
    teacher, student = EMA(decay=0.9), Bias(0.0, 0.0)
    follow(teacher, student, [1.0, 0.0], [2.0, 1.0])
    torch.testing.assert_close(teacher(student, ROWS), torch.tensor([[0.547358, 0.452642]]), atol=1e-6, rtol=0)
    torch.testing.assert_close(student.head.bias.data, torch.tensor([2.0, 1.0]))  # left as it was


def test_decay_zero_is_the_student_itself(student: Any) -> None:
    """EMA(0) ≡ Self on a real encoder, in the ramp and after it; EMA(.5) is not: the canary."""
    for decay, same in ((0.0, True), (0.5, False)):
        teacher = EMA(decay=decay, ramp_decay=decay)
        teacher.bind_student(student)
        before = {name: parameter.detach().clone() for name, parameter in student.named_parameters()}
        with torch.no_grad():
            for parameter in student.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        for progress in (0.1, 0.9):
            teacher.after_step(student, progress)
            assert teacher(student, ROWS).equal(Self()(student, ROWS)) == same
        student.load_state_dict(before, strict=False)


def test_the_teacher_forgets_faster_in_the_ramp() -> None:
    """ramp_decay .5 before t/T = .4: [1, 0] gives .5; decay .9 from there on: .9 · .5 + .1 = .55."""
    teacher, student = EMA(decay=0.9, ramp_decay=0.5, ramp=0.4), Bias(0.0, 0.0)
    teacher.bind_student(student)
    student.head.bias.data = torch.tensor([1.0, 0.0])
    teacher.after_step(student, 0.39)
    assert teacher.get_buffer("weight head/bias")[0].item() == pytest.approx(0.5)
    teacher.after_step(student, 0.4)
    assert teacher.get_buffer("weight head/bias")[0].item() == pytest.approx(0.55)


def test_a_warm_start_is_the_plain_mean() -> None:
    """After steps 1, 2, 3 from 0 the mean of the students is (1 + 2 + 3)/3: m = 0, 1/2, 2/3 (the released code)."""
    average = follow(EMA(decay=0.999, warm=True), Bias(0.0), [1.0], [2.0], [3.0])
    assert average.item() == pytest.approx(2.0)


def test_only_trained_weights_are_averaged_in_float32() -> None:
    """Guards against 1 − .999 that underflows in bfloat16, and against a copy of frozen weights."""
    student = Bias(0.0, 0.0, dtype=torch.bfloat16)
    teacher = EMA()
    average = follow(teacher, student, [1.0, 0.0])
    assert average.dtype == torch.float32
    assert average[0].item() == pytest.approx(0.001, rel=1e-3)
    assert set(teacher.state_dict()) == {"steps", "weight head/bias"}
    assert not list(teacher.parameters())
    assert teacher(student, ROWS).dtype == torch.float32


def test_the_average_of_a_float64_student_is_the_slow_loop() -> None:
    """50 steps of both decays: the state stays float32. Guards `lerp` of two types, which torch refuses, and ramp and decay
    exchanged."""
    generator = torch.Generator().manual_seed(0)
    steps = torch.randn(50, 3, generator=generator, dtype=torch.float64)
    teacher, student = EMA(decay=0.95, ramp_decay=0.6, ramp=0.4), Bias(0.1, 0.2, 0.3, dtype=torch.float64)
    teacher.bind_student(student)
    average = [0.1, 0.2, 0.3]
    for i, values in enumerate(steps):
        student.head.bias.data = values
        teacher.after_step(student, i / 50)
        m = 0.6 if i < 20 else 0.95
        average = [m * old + (1 - m) * new for old, new in zip(average, values.tolist(), strict=True)]
    found = teacher.get_buffer("weight head/bias")
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx(average, rel=0, abs=1e-6)


def test_the_average_survives_a_checkpoint() -> None:
    """Guards against a teacher that starts again from the student when a run is continued."""
    one, other, student = EMA(decay=0.9), EMA(decay=0.9), Bias(0.0, 0.0)
    follow(one, student, [1.0, 0.0])
    other.bind_student(student)
    assert not other(student, ROWS).equal(one(student, ROWS))
    other.load_state_dict(one.state_dict())
    assert other(student, ROWS).equal(one(student, ROWS))


def history(*visits: tuple[list[int], list[list[float]]], momentum: float = 0.5) -> History:
    """A history over 3 rows and 2 classes after visits (rows, probabilities)."""
    teacher = History(momentum)
    teacher.bind(2, 3)
    for ids, probs in visits:
        teacher.observe(Signals(torch.zeros(len(ids), 2), torch.tensor(probs).log(), torch.tensor(ids)))
    return teacher


def says(teacher: History, *ids: int) -> list[list[float]]:
    return teacher(nn.Identity(), {"ids": torch.tensor(ids)}).tolist()


def test_history_golden_values_of_two_visits() -> None:
    """α = .6: Z₁ = .4 · .9 = .36, Z₁/(1 − .6) = .9; Z₂ = .6 · .36 + .4 · .5 = .416, Z₂/(1 − .36) = .65.

    Guards against the bias towards zero, and against a correction by the number of steps instead of the row's visits.
    """
    one = history(([1], [[0.9, 0.1]]), momentum=0.6)
    assert says(one, 1)[0] == pytest.approx([0.9, 0.1], abs=1e-6)
    two = history(([1], [[0.9, 0.1]]), ([0], [[0.5, 0.5]]), ([1], [[0.5, 0.5]]), momentum=0.6)
    assert says(two, 1, 0) == [pytest.approx([0.65, 0.35], abs=1e-6), pytest.approx([0.5, 0.5], abs=1e-6)]


def test_a_row_without_history_is_unknown() -> None:
    """Zeros, which no distribution is: `Known` leaves such rows out."""
    assert says(history(([1], [[0.9, 0.1]])), 2, 0) == [[0.0, 0.0], [0.0, 0.0]]


def test_a_row_that_comes_twice_in_a_step_counts_with_its_last_visit() -> None:
    """Guards against a result that depends on the order of writes, and a visit that is counted twice."""
    teacher = history(([1, 0, 1], [[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]]))
    assert teacher.visits.tolist() == [1, 1, 0]
    assert says(teacher, 1)[0] == pytest.approx([0.2, 0.8], abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_history_is_the_slow_loop(dtype: torch.dtype) -> None:
    """Guards the vectorized form over 20 steps of 5 of 12 rows; the state stays float32."""
    torch.manual_seed(0)
    teacher, average, visits = History(0.6), [[0.0] * 3 for _ in range(12)], [0] * 12
    teacher.bind(3, 12)
    for _ in range(20):
        ids, logits = torch.randperm(12)[:5], (2 * torch.randn(5, 3)).to(dtype)
        teacher.observe(Signals(torch.zeros(5, 3), logits, ids))
        for row, probs in zip(ids.tolist(), logits.float().softmax(-1).tolist(), strict=True):
            visits[row] += 1
            average[row] = [0.6 * old + 0.4 * new for old, new in zip(average[row], probs, strict=True)]
    assert min(visits) > 1
    expected = [[z / (1 - 0.6**t) for z in row] for row, t in zip(average, visits, strict=True)]
    torch.testing.assert_close(torch.tensor(says(teacher, *range(12))), torch.tensor(expected), atol=1e-5, rtol=0)
    assert (teacher.average.dtype, teacher.visits.dtype) == (torch.float32, torch.float32)


@pytest.mark.parametrize(
    "make", [lambda: EMA(decay=1.1), lambda: EMA(ramp_decay=-0.1), lambda: EMA(ramp=2), lambda: History(1.0)]
)
def test_averages_that_can_not_work_are_refused(make: Any) -> None:
    """Guards against a teacher that never learns, or explodes."""
    with pytest.raises(UserError):
        make()
