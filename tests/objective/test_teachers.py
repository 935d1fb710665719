"""Teachers: they label without a gradient and leave the student as they found it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sstext.objective.teachers import Self

IDS = {"input_ids": torch.tensor([[2, 10, 11, 12, 13, 3]])}


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
    assert Self()(student, IDS).equal(Self()(student, IDS))


def test_dropout_noise_where_it_is_the_methods_point(student: Any) -> None:
    """Guards against a Π-model whose two passes are one: its loss would be zero."""
    student.eval()
    teacher = Self(dropout=True)
    assert not teacher(student, IDS).equal(teacher(student, IDS))


def test_a_teacher_gives_probabilities_in_float32_without_gradient() -> None:
    """softmax([2, 0]) = [.880797, .119203]: guards against logits, bfloat16 targets, and a gradient through them."""
    with torch.enable_grad():
        probs = Self()(Recorder(), IDS)
    assert (probs.dtype, probs.requires_grad) == (torch.float32, False)
    torch.testing.assert_close(probs, torch.tensor([[0.880797, 0.119203]]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dropout", [True, False])
def test_the_students_mode_is_restored(dropout: bool, training: bool, fails: bool) -> None:
    """Guards against a student that trains without dropout ever after, also where the pass itself fails."""
    student = Recorder(fails).train(training)
    try:
        Self(dropout)(student, IDS)
    except RuntimeError:
        assert fails
    assert student.seen == [(dropout, dropout)]
    assert (student.training, student.inner.training) == (training, training)
    assert torch.is_grad_enabled()
