"""Passes in groups of similar length: the best split, the same values and gradients as one pass, and when there is one."""

from itertools import combinations, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sstext.modeling import length_groups as module
from sstext.modeling.length_groups import in_length_groups, length_groups, logits_in_length_groups
from sstext.modeling.student import new_student
from sstext.objective.joint_pass import joint_pass
from sstext.objective.outputs import LABELED, UNLABELED

LENGTHS = [3, 12, 4, 11, 3, 40]


def batch(lengths: list[int], side: str = "right") -> dict[str, Tensor]:
    """Rows of random tokens, padded to the longest."""
    ids = torch.randint(5, 20, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    mask = mask if side == "right" else mask.flip(1)
    return {"input_ids": ids * mask, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}


@pytest.fixture
def student(tiny_encoder: Path) -> Any:
    return new_student(str(tiny_encoder), ["a", "b", "c"], seed=0).eval()


def calls(model: torch.nn.Module) -> list[tuple[int, ...]]:
    """A list to which every forward pass adds the shape of its token ids."""
    shapes: list[tuple[int, ...]] = []
    model.register_forward_pre_hook(
        lambda module, args, given: shapes.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    return shapes


@pytest.mark.parametrize("cost", [0, 3, 20, 1000])
def test_the_split_is_the_cheapest_of_all(cost: float) -> None:
    """Every way to cut six sorted rows is tried by hand. Guards against a greedy or shifted split."""
    lengths = np.array(LENGTHS)
    ordered = sorted(LENGTHS)

    def price(edges: tuple[int, ...]) -> float:
        cuts = [0, *edges, len(ordered)]
        return sum((last - first) * ordered[last - 1] + cost for first, last in pairwise(cuts))

    inner = range(1, len(ordered))
    best = min(price(edges) for count in range(len(ordered)) for edges in combinations(inner, count))
    groups = length_groups(lengths, cost)
    assert sum(len(rows) * lengths[rows].max() + cost for rows in groups) == best
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(lengths)))


def test_values_and_gradients_are_those_of_one_pass(student: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits, pooled states and all gradients, in float64. Guards rows that come back in another order."""
    blocks = {LABELED: batch(LENGTHS), UNLABELED: batch(LENGTHS[::-1])}
    shapes = calls(student)
    found = []
    student.double()
    for cost in (1e9, 1.0):
        monkeypatch.setattr(module, "PASS_COST", cost)
        student.zero_grad()
        outputs = joint_pass(student, student, blocks, pooled=True)
        values = [*outputs.logits.values(), *outputs.features.values()]
        weights = torch.linspace(-1, 1, len(LENGTHS))[:, None]  # every row counts differently
        sum((weights * value.square()).sum() for value in values).backward()  # type: ignore[union-attr]
        gradients = [p.grad.clone() for p in student.parameters() if p.grad is not None]
        found.append([value.detach() for value in values] + gradients)
    assert shapes[0] == (12, 40)
    assert shapes[1:] == [(4, 3), (2, 4), (2, 11), (2, 12), (2, 40)]
    for one, several in zip(*found, strict=True):
        torch.testing.assert_close(several, one, atol=1e-10, rtol=1e-10)


def test_one_lookup_of_embeddings_gets_the_gradient(student: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gradient as large as the vocabulary, once a step and not once a pass: what large vocabularies would pay for."""
    monkeypatch.setattr(module, "PASS_COST", 1.0)
    layer, shapes, lookups, reached = student.get_input_embeddings(), calls(student), [], []

    def remember(embedding: Any, asked: Any, output: Tensor) -> None:
        number = len(lookups)
        lookups.append(output.shape)
        output.register_hook(lambda gradient: reached.append(number))

    handle = layer.register_forward_hook(remember)
    logits = logits_in_length_groups(student, batch(LENGTHS), student)
    handle.remove()
    logits.sum().backward()
    assert len(shapes) > 2
    assert len(lookups) == 1 + len(shapes)
    assert reached == [0], "the lookup of all rows, and none of a pass"
    assert lookups[0][:2] == (6, 40)
    assert not layer._forward_hooks  # nothing stays behind


class Hashed(torch.nn.Module):
    """Has no table of embeddings, as an encoder of characters."""

    def __init__(self, found: Any) -> None:
        super().__init__()
        self.found, self.weight = found, torch.nn.Parameter(torch.ones(1))

    def get_input_embeddings(self) -> Any:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        sums = (input_ids * attention_mask).sum(1, keepdim=True)
        return SimpleNamespace(logits=self.weight * sums, shape=input_ids.shape)


@pytest.mark.parametrize(
    "found", [NotImplementedError("hashed"), torch.nn.Parameter(torch.ones(3, 4)), torch.nn.Identity()]
)
def test_encoders_without_a_plain_table_pass_in_groups_all_the_same(
    found: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CANINE hashes characters, Perceiver has a parameter, I-BERT's layer gives two tensors: guards round 1 of all three."""
    monkeypatch.setattr(module, "PASS_COST", 1.0)
    inputs = {name: value for name, value in batch(LENGTHS).items() if name != "token_type_ids"}
    logits = logits_in_length_groups(Hashed(found), inputs, Hashed(found))
    assert logits[:, 0].tolist() == inputs["input_ids"].sum(1).tolist()


@pytest.mark.parametrize(
    "why", ["padded on the left", "no mask", "equal lengths", "another shape", "compiled", "several processes"]
)
def test_what_gains_nothing_or_would_change_is_one_pass(
    student: Any, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against positions that move (padding on the left), and passes for nothing."""
    inputs = (
        batch(LENGTHS, "left")
        if why == "padded on the left"
        else batch([40] * 6 if why == "equal lengths" else LENGTHS)
    )
    if why == "no mask":
        inputs.pop("attention_mask")
    monkeypatch.setattr(module, "PASS_COST", 1.0)
    if why == "another shape":
        inputs["position_ids"] = torch.arange(40)[None]
    if why == "compiled":
        student._orig_mod = None
    if why == "several processes":
        monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    shapes = calls(student)
    logits = logits_in_length_groups(student, inputs, student)
    assert shapes == [(6, 40)]
    assert torch.equal(logits, student(**inputs).logits)


def test_rows_of_nothing_but_padding(student: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a pass over no token at all."""
    monkeypatch.setattr(module, "PASS_COST", 1.0)
    inputs = batch(LENGTHS)
    inputs["attention_mask"][0] = inputs["attention_mask"][4] = 0
    shapes = calls(student)
    assert logits_in_length_groups(student, inputs, student).shape == (6, 3)
    assert (2, 1) in shapes


def test_more_threads_make_fewer_passes(student: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one more pass costs does not shrink with the threads, what a token costs does."""
    counts = []
    for threads in (1, 1000):
        monkeypatch.setattr("torch.get_num_threads", lambda threads=threads: threads)
        monkeypatch.setattr(module, "PASS_COST", 1.0)
        shapes = calls(student)
        logits_in_length_groups(student, batch(LENGTHS), student)
        counts.append(len(shapes))
    assert counts[0] > counts[1] == 1


def test_frozen_embeddings_and_no_gradient_work_alike(student: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a lookup that is kept for a gradient that nobody asks for."""
    monkeypatch.setattr(module, "PASS_COST", 1.0)
    expected = student(**batch(LENGTHS)).logits.detach()
    with torch.no_grad():
        torch.testing.assert_close(logits_in_length_groups(student, batch(LENGTHS), student), expected)
    student.get_input_embeddings().requires_grad_(False)
    torch.testing.assert_close(logits_in_length_groups(student, batch(LENGTHS), student).detach(), expected)


def test_a_model_that_looks_up_something_else_keeps_its_own(student: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against embeddings of other tokens than the model asked for."""
    monkeypatch.setattr(module, "PASS_COST", 1.0)
    inputs = batch(LENGTHS)

    def next_token(input_ids: Tensor, **rest: Any) -> Any:
        return student(input_ids=(input_ids + 1).clamp_max(20), **rest)

    one = next_token(**inputs).logits
    (several,) = in_length_groups(next_token, inputs, lambda said, own: (said.logits,), student)
    torch.testing.assert_close(several, one)
