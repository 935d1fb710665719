"""Views: which copy of a row the student is given, and how its embeddings are disturbed."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from contract import Table
from torch import Tensor, nn

from sstext.errors import UserError
from sstext.objective.divergences import kl
from sstext.objective.views import (
    VIEWS,
    Adversarial,
    Augmented,
    EmbeddingNoise,
    Same,
    as_view,
    normal,
    shifted_embeddings,
)

COPIES: Any = {"weak": {"input_ids": "weak"}, "strong": {"input_ids": "strong"}}


def rows(*lengths: int, keys: tuple[int, ...] = ()) -> dict[str, Any]:
    """Unlabeled rows of these lengths, padded together, the same tokens for a row of the same place."""
    width = max(lengths)
    ids = torch.tensor(
        [[10 + (7 * row + i) % 40 if i < n else 0 for i in range(width)] for row, n in enumerate(lengths)]
    )
    mask = torch.tensor([[int(i < n) for i in range(width)] for n in lengths])
    chosen = torch.tensor(keys or range(len(lengths)))
    return {"weak": {"input_ids": ids, "attention_mask": mask}, "keys": chosen, "ids": chosen}


@pytest.fixture(scope="module")
def student(tiny_encoder: Path) -> Any:
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(tiny_encoder, num_labels=3)


def test_same_is_what_the_teacher_saw() -> None:
    """Guards against a pseudo-label method that trains on edited text."""
    assert Same().prepare(nn.Identity(), COPIES).inputs is COPIES["weak"]


def test_augmented_is_the_strong_copy() -> None:
    """Guards against a consistency loss between a text and itself, which is almost zero."""
    assert Augmented().prepare(nn.Identity(), COPIES).inputs is COPIES["strong"]


def test_only_augmented_asks_for_edits() -> None:
    """Guards against a strong view that nobody edits: the trainer reads this flag."""
    assert {name: view.strong for name, view in VIEWS.items()} == {
        "same": False, "augmented": True, "noise": False, "adversarial": False,
    }  # fmt: skip


def test_a_view_by_name() -> None:
    """Guards `--method-args view=…`: every name gives its view, a view stays itself, a typo is refused."""
    assert all(type(as_view(name)) is view for name, view in VIEWS.items())
    noise = EmbeddingNoise(0.1)
    assert as_view(noise) is noise
    with pytest.raises(UserError, match="view: expected one of same, augmented, noise, adversarial, found 'strong'"):
        as_view("strong")


def test_the_noise_is_relative_to_the_row() -> None:
    """Embeddings 3 and 4 of two tokens, D = 1: rms = √12.5; the shift is .5 · √12.5 · z, and nothing at the padding."""
    embedding = nn.Embedding.from_pretrained(torch.tensor([[9.0], [3.0], [4.0]]))
    student = nn.Identity()
    student.get_input_embeddings = lambda: embedding  # type: ignore[method-assign]
    inputs = {"input_ids": torch.tensor([[1, 2, 0]]), "attention_mask": torch.tensor([[1, 1, 0]])}
    keys = torch.tensor([5])
    seen = EmbeddingNoise(0.5).prepare(student, {"weak": inputs, "keys": keys})
    expected = 0.5 * 12.5**0.5 * normal(keys, torch.zeros(1, 3, 1))
    expected[:, 2] = 0
    torch.testing.assert_close(seen.shift, expected)
    assert seen.inputs is inputs


def test_a_row_draws_the_same_numbers_in_any_company() -> None:
    """Guards against noise that depends on padding, the batch or the process; other keys draw other numbers."""
    alone = normal(torch.tensor([7]), torch.zeros(1, 4, 3))
    padded = normal(torch.tensor([1, 7]), torch.zeros(2, 6, 3))
    assert padded[1, :4].equal(alone[0])
    assert not padded[0, :4].equal(alone[0])
    many = normal(torch.arange(100), torch.zeros(100, 30, 4))
    assert many.mean().abs() < 0.03
    assert many.std().item() == pytest.approx(1, abs=0.03)


def test_the_shift_falls_on_its_rows_alone(student: Any) -> None:
    """Guards against disturbed labeled rows, rows off by one, and a hook that stays behind."""
    inputs = rows(4, 4, 4)["weak"]
    student.eval()
    plain = student(**inputs).logits
    with shifted_embeddings(student, torch.linspace(-1, 1, 64).view(1, 4, 16), first=1):
        shifted = student(**inputs).logits
    torch.testing.assert_close(shifted[[0, 2]], plain[[0, 2]])
    assert (shifted[1] - plain[1]).abs().max() > 1e-3
    assert student(**inputs).logits.equal(plain)
    with shifted_embeddings(student, torch.zeros(1, 4, 16), first=1):
        torch.testing.assert_close(student(**inputs).logits, plain)


def test_a_pass_that_never_looks_embeddings_up_is_refused(student: Any) -> None:
    """Guards against a view that silently changes nothing (a compiled model), or changes it twice."""
    message = "expected one lookup of token embeddings per pass, found 0"
    with pytest.raises(UserError, match=message), shifted_embeddings(student, torch.zeros(1, 4, 16)):
        pass


def divergence(student: Any, unlabeled: Any, shift: Tensor) -> Tensor:
    student.eval()
    with torch.no_grad():
        probs = student(**unlabeled["weak"]).logits.softmax(-1)
        with shifted_embeddings(student, shift):
            return kl(student(**unlabeled["weak"]).logits, probs)


def test_the_adversary_is_worse_than_chance(student: Any) -> None:
    """At equal length, the direction of one power iteration changes every prediction more than random ones do.

    Guards against a gradient of the wrong sign or row, and against ξ too small for float32.
    """
    unlabeled = rows(5, 8, 6, 7)
    seen = Adversarial(epsilon=0.1).prepare(student, unlabeled)
    assert seen.shift is not None
    worst = divergence(student, unlabeled, seen.shift)
    mask = unlabeled["weak"]["attention_mask"].unsqueeze(-1)
    chance = []
    for draw in range(20):
        noise = normal(torch.arange(4) + 100 * draw, seen.shift) * mask
        scale = seen.shift.flatten(1).norm(dim=1) / noise.flatten(1).norm(dim=1)
        chance.append(divergence(student, unlabeled, noise * scale[:, None, None]))
    assert (worst > 2 * torch.stack(chance).mean(0)).all()


def test_the_length_is_relative_to_the_row_and_nothing_falls_on_padding(student: Any) -> None:
    """‖r‖ = ε ‖e‖ for every row: guards against a norm over the batch, and against perturbed padding."""
    unlabeled = rows(3, 8)
    seen = Adversarial(epsilon=0.25).prepare(student, unlabeled)
    assert seen.shift is not None
    mask = unlabeled["weak"]["attention_mask"].unsqueeze(-1)
    embedded = student.get_input_embeddings()(unlabeled["weak"]["input_ids"]) * mask
    torch.testing.assert_close(seen.shift.flatten(1).norm(dim=1), 0.25 * embedded.detach().flatten(1).norm(dim=1))
    assert seen.shift[0, 3:].count_nonzero() == 0
    assert not seen.shift.requires_grad


@pytest.mark.parametrize("gap", [10.0, 45.0, 50.0, 55.0, 60.0, 80.0, 300.0])
def test_the_adversary_of_a_certain_row_is_no_longer_than_any_other(gap: float) -> None:
    """The gradient of a row that is predicted with certainty has squares that underflow: its length was taken for 1e-30, and
    the perturbation became up to 2.6e5 times as long as the row."""
    student = Table(torch.tensor([[0.0, 0.0, 0.0], [gap, 0.0, 0.0]]))
    inputs = {"input_ids": torch.tensor([[1]]), "attention_mask": torch.tensor([[1]])}
    seen = Adversarial(epsilon=0.02).prepare(student, {"weak": inputs, "keys": torch.tensor([3])})
    assert seen.shift is not None
    assert seen.shift.isfinite().all()
    assert seen.shift.norm() <= 0.02 * gap * (1 + 1e-4)
    assert gap > 60 or seen.shift.norm() == pytest.approx(0.02 * gap, rel=1e-4)


def test_the_adversary_of_a_row_is_its_own(student: Any) -> None:
    """A row alone and in a padded batch is pushed the same way: guards against gradients over the batch."""
    both = Adversarial(xi=0.01).prepare(student, rows(8, 5)).shift
    unlabeled = rows(8, 5)
    short = {name: value[1:, :5] for name, value in unlabeled["weak"].items()}
    alone = Adversarial(xi=0.01).prepare(student, {"weak": short, "keys": torch.tensor([1])}).shift
    assert both is not None
    assert alone is not None
    torch.testing.assert_close(both[1, :5], alone[0], atol=1e-4, rtol=1e-3)


def test_the_adversary_by_hand() -> None:
    """Logits = (e, 0) of one token with one dimension: the gradient has one axis, so that r = ± ε ‖e‖.

    p = σ(e); KL grows on both sides of e, and the power iteration keeps the sign of its first direction.
    """

    class Line(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding.from_pretrained(torch.tensor([[2.0]]))

        def get_input_embeddings(self) -> nn.Module:
            return self.embedding

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
            e = self.embedding(input_ids)[:, 0]
            return SimpleNamespace(logits=torch.cat([e, torch.zeros_like(e)], 1))

    keys = torch.tensor([1, 2, 3, 4])
    inputs = {"input_ids": torch.zeros(4, 1, dtype=torch.long), "attention_mask": torch.ones(4, 1)}
    shift = Adversarial(epsilon=0.5).prepare(Line(), {"weak": inputs, "keys": keys}).shift
    first = normal(keys, torch.zeros(4, 1, 1)).sign()
    torch.testing.assert_close(shift, 0.5 * 2.0 * first)
    assert set(first.flatten().tolist()) == {-1.0, 1.0}  # both sides came up


def test_no_gradient_is_left_behind(student: Any) -> None:
    """Guards against a power iteration that fills the weights' gradients or leaves the student in evaluation mode."""
    student.zero_grad()
    student.train()
    with torch.no_grad():
        Adversarial().prepare(student, rows(4))
    assert student.training
    assert all(parameter.grad is None for parameter in student.parameters())


@pytest.mark.parametrize(
    "make", [lambda: EmbeddingNoise(-1), lambda: Adversarial(epsilon=-1), lambda: Adversarial(xi=0)]
)
def test_sizes_that_can_not_work_are_refused(make: Any) -> None:
    """Guards against 0/0 in the power iteration."""
    with pytest.raises(UserError):
        make()


def test_embeddings_of_another_order_are_refused(student: Any) -> None:
    """Guards XLNet, whose embeddings are tokens × rows × width: a shift would fall on the wrong numbers."""
    inputs = rows(4, 4)["weak"]
    message = "its embeddings are not rows × tokens × width; views that change embeddings need"
    with pytest.raises(UserError, match=message), shifted_embeddings(student, torch.zeros(4, 2, 16)):
        student(**inputs)
