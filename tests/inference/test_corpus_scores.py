"""Scoring a corpus: dropout passes by hand, and a killed pass goes on and ends in the same numbers."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoTokenizer

from sstext.data.tokens import TextEncoder, tokenize
from sstext.errors import UserError
from sstext.evaluation.calibration import softmax
from sstext.inference import corpus_scores as scoring
from sstext.inference.corpus_scores import score_passes_to_disk, score_to_disk, seeded, summarize_passes
from sstext.inference.scoring import score
from sstext.modeling.student import new_student

TEXTS = [
    "refund my money",
    "where is the parcel that was shipped last week",
    "password",
    "cancel the invoice today please",
]


@pytest.fixture(scope="module")
def tokenizer(tiny_encoder: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_encoder)


@pytest.fixture(scope="module")
def model(tiny_encoder: Path) -> Any:
    """A classifier with dropout; its head is new, which makes predictions no less distinct."""
    student = new_student(str(tiny_encoder), ["a", "b", "c"], seed=0, dropout=0.2)
    torch.nn.init.normal_(student.classifier.weight, std=0.3, generator=torch.Generator().manual_seed(0))
    return student.eval()


@pytest.fixture(scope="module")
def rows(tokenizer: Any) -> Dataset:
    texts = [TEXTS[i % 4] + " again" * (i % 7) for i in range(25)]
    return tokenize(Dataset.from_dict({"text": texts}), TextEncoder(tokenizer, 64))


# One pass


def test_an_interrupted_pass_is_not_repeated(
    model: Any, rows: Dataset, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards hours of scoring: what was written down before a kill is taken, the rest is scored, nothing is pickled."""
    monkeypatch.setattr(scoring, "CHUNK_ROWS", 10)
    arguments = (model, rows, tokenizer, tmp_path / "round_0")
    sizes: list[int] = []

    def counted(fail_at: int) -> Callable[..., np.ndarray]:
        def scored(model: Any, chunk: Dataset, tokenizer: Any, **options: Any) -> np.ndarray:
            if len(sizes) == fail_at:
                raise KeyboardInterrupt
            sizes.append(len(chunk))
            return score(model, chunk, tokenizer, **options)

        return scored

    monkeypatch.setattr(scoring, "score", counted(fail_at=1))
    with pytest.raises(KeyboardInterrupt):
        score_to_disk(*arguments)
    assert not (tmp_path / "round_0/scores.npy").exists()
    monkeypatch.setattr(scoring, "score", counted(fail_at=99))
    np.testing.assert_allclose(score_to_disk(*arguments), score(*arguments[:3]), atol=1e-6)
    assert sizes == [10, 10, 5]  # the first chunk once, before the kill
    assert [path.name for path in (tmp_path / "round_0").iterdir()] == ["scores.npy"]
    np.load(tmp_path / "round_0/scores.npy", allow_pickle=False)
    score_to_disk(*arguments)
    assert sizes == [10, 10, 5]  # a finished pass is read, not repeated


def test_batches_that_do_not_fit_are_scored_in_halves(model: Any, rows: Dataset, tokenizer: Any) -> None:
    """Guards rows that are lost or in another order, and batches that stay too large for the rest of the corpus."""
    usual, tokens, most = model.forward, list[int](), 24

    def limited(**inputs: Any) -> Any:
        tokens.append(inputs["input_ids"].numel())
        if tokens[-1] > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return usual(**inputs)

    whole, ticks = score(model, rows, tokenizer), list[int]()
    model.forward = limited
    try:
        found = score(model, rows, tokenizer, tick=lambda n=1: ticks.append(n))
        failed = [size for size in tokens if size > most]
        assert len(failed) >= 2
        assert tokens[: len(failed)] == failed, "later batches are as small as the first one that fits"
        assert all(2 * later <= earlier for earlier, later in pairwise(failed))
        most = 0
        with pytest.raises(
            UserError, match=r"memory ran out for a single text of \d+ tokens; cut texts with max_length"
        ):
            score(model, rows, tokenizer)
        assert not model.training
    finally:
        del model.forward
    np.testing.assert_allclose(found, whole, atol=1e-6)
    assert sum(ticks) == 25


def test_logits_that_are_not_finite_are_refused(model: Any, rows: Dataset, tokenizer: Any, tmp_path: Path) -> None:
    """Guards every path at once: scores of a corpus, held-out rows, probes and predictions all come from here."""
    bias = model.classifier.bias.data.clone()
    model.classifier.bias.data[1] = float("nan")
    try:
        with pytest.raises(
            UserError, match="for 25 of 25 rows, the first of which is row 0; compute in precision fp32"
        ):
            score(model, rows, tokenizer, precision="bf16")
        with pytest.raises(UserError, match="expected finite outputs"):
            score_to_disk(model, rows, tokenizer, tmp_path)
    finally:
        model.classifier.bias.data[:] = bias
    assert not list(tmp_path.iterdir())


# Several passes with dropout


def slow(logits: np.ndarray) -> np.ndarray:
    """Mean, variance of its class, and BALD of (T, N, C) logits, row by row and class by class in float64."""
    found = []
    for row in range(logits.shape[1]):
        q = [np.exp(z - z.max()) / np.exp(z - z.max()).sum() for z in logits[:, row].astype(np.float64)]
        mean = sum(q) / len(q)
        label = int(np.argmax(mean))
        variance = sum((p[label] - mean[label]) ** 2 for p in q) / len(q)
        entropies = [-sum(p * np.log(p) for p in one if p > 0) for one in q]
        bald = -sum(p * np.log(p) for p in mean if p > 0) - sum(entropies) / len(q)
        found.append([*mean, variance, bald])
    return np.array(found)


def test_mean_variance_and_disagreement_by_hand() -> None:
    """q = (.9, .1), (.5, .5): q̄ = (.7, .3); Var of the first class = ((.2)² + (.2)²)/2 = .04; H(q̄) = .610864, H = .325083 and
    .693147: BALD = .610864 − .509115 = .101749. Guards an unbiased variance (.08), and that of another class."""
    table = summarize_passes(np.log([[[0.9, 0.1]], [[0.5, 0.5]]]))
    np.testing.assert_allclose(np.exp(table[0, :2]), [0.7, 0.3], rtol=1e-6)
    np.testing.assert_allclose(table[0, 2:], [0.04, 0.101749], rtol=1e-5)


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_passes_are_the_slow_loop(scale: float) -> None:
    """Guards running figures that drift from those of all passes at once; the label may be another class in every pass."""
    logits = scale * np.random.default_rng(0).normal(size=(7, 50, 4)).astype(np.float32)
    table, expected = summarize_passes(logits), slow(logits)
    assert table.dtype == np.float32
    np.testing.assert_allclose(softmax(table[:, :4]), expected[:, :4], atol=1e-6)
    np.testing.assert_allclose(table[:, 4:], expected[:, 4:], atol=2e-6)
    assert len(set(table[:, :4].argmax(-1))) == 4


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_float64_passes_are_the_slow_loop(scale: float) -> None:
    """Within 1e-6, at probabilities in float32: guards against digits that are lost on the way, and a float64 table."""
    logits = scale * np.random.default_rng(1).normal(size=(7, 50, 4))
    table, expected = summarize_passes(logits), slow(logits)
    assert (logits.dtype, table.dtype) == (np.float64, np.float32)
    np.testing.assert_allclose(softmax(table[:, :4]), expected[:, :4], rtol=0, atol=1e-6)
    np.testing.assert_allclose(table[:, 4:], expected[:, 4:], rtol=0, atol=1e-6)
    assert expected[:, 5].max() > 1e-3


def test_a_small_variance_keeps_its_digits() -> None:
    """Logits 8 ± .01: Var ≈ 1e-11, below what a difference of two float32 sums could hold, and its logarithm is a weight."""
    logits = np.zeros((30, 1, 2), np.float32)
    logits[:, 0, 0] = 8 + 0.01 * (-1.0) ** np.arange(30)
    assert summarize_passes(logits)[0, 2] == pytest.approx(slow(logits)[0, 2], rel=0.05)
    assert slow(logits)[0, 2] < 2e-11


def test_passes_that_agree_have_no_variance_and_no_disagreement() -> None:
    """Without dropout: exactly 0, not a little less; extreme logits stay finite."""
    logits = np.array([[[0.3, 0.1, 0.2], [1e4, 0.0, -1e4], [5.0, 5.0, 5.0]]] * 3, np.float32)
    table = summarize_passes(logits)
    assert np.isfinite(table).all()
    np.testing.assert_array_equal(table[:, 3], 0)
    np.testing.assert_allclose(table[:, 4], 0, atol=2e-7)
    assert (table[:, 4] >= 0).all()
    np.testing.assert_allclose(softmax(table[:, :3]), softmax(logits[0]), atol=1e-6)


def test_passes_are_those_of_a_loop_over_the_model(model: Any, rows: Dataset, tokenizer: Any, tmp_path: Path) -> None:
    """Guards masks that are the same in all passes, a temperature that is forgotten, and rows in another order."""
    torch.manual_seed(7)
    before = torch.get_rng_state()
    table = score_passes_to_disk(model, rows, tokenizer, tmp_path / "p.npy", passes=3, seed=5, temperature=2.0)
    assert torch.equal(torch.get_rng_state(), before)  # the training's dropout is none of ours
    logits = []
    for turn in range(3):
        with seeded(torch.device("cpu"), 5, 0, turn, 0):
            logits.append(score(model, rows, tokenizer, dropout=True) / 2.0)
    np.testing.assert_allclose(softmax(table[:, :3]), slow(np.array(logits))[:, :3], atol=1e-6)
    np.testing.assert_allclose(table[:, 3:], slow(np.array(logits))[:, 3:], atol=2e-6)
    assert (table[:, 3] > 1e-6).all()
    assert not np.allclose(*logits[:2])
    assert not model.training
    other = score_passes_to_disk(model, rows, tokenizer, tmp_path / "q.npy", passes=3, seed=6, temperature=2.0)
    assert not np.allclose(table, other)


def test_without_dropout_passes_are_one_score(
    tiny_encoder: Path, rows: Dataset, tokenizer: Any, tmp_path: Path
) -> None:
    """The limit: the mean is the prediction, and nothing varies."""
    plain = new_student(str(tiny_encoder), ["a", "b", "c"], seed=0, dropout=0.0)
    table = score_passes_to_disk(plain, rows, tokenizer, tmp_path / "p.npy", passes=2, seed=0)
    np.testing.assert_allclose(softmax(table[:, :3]), softmax(score(plain, rows, tokenizer)), atol=1e-6)
    np.testing.assert_array_equal(table[:, 3], 0)


@pytest.mark.parametrize("stop", [1, 3, 8])
def test_interrupted_passes_end_in_the_same_bits(
    stop: int, model: Any, rows: Dataset, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three chunks of 10, 10 and 5 rows, two passes each, killed in the middle of one; what was written is not repeated."""
    monkeypatch.setattr(scoring, "CHUNK_ROWS", 20)
    monkeypatch.setattr("sstext.inference.scoring.TOKENS_PER_BATCH", {"cpu": 64})  # several batches a chunk
    asked: dict[str, Any] = {"passes": 2, "seed": 1}
    whole = score_passes_to_disk(model, rows, tokenizer, tmp_path / "whole.npy", **asked)
    ticks = 0

    def killed(n: int = 1) -> None:
        nonlocal ticks
        ticks += 1
        if ticks == stop:
            raise KeyboardInterrupt

    file = tmp_path / "cut" / "passes.npy"
    with pytest.raises(KeyboardInterrupt):
        score_passes_to_disk(model, rows, tokenizer, file, **asked, tick=killed)
    assert not file.exists()
    torch.rand(stop)  # wherever the interrupted run left the random numbers
    counted: list[int] = []
    again = score_passes_to_disk(model, rows, tokenizer, file, **asked, tick=lambda n=1: counted.append(n))
    np.testing.assert_array_equal(again, whole)
    assert sum(counted) == 50  # every row of both passes, found or computed
    assert [path.name for path in file.parent.iterdir()] == ["passes.npy"]


def test_a_seed_begins_anew_and_leaves_no_trace() -> None:
    """Guards against masks that depend on what was drawn before, and against a training that they change."""
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    draws = []
    for seed in ((1, 2), (1, 2), (2, 1)):
        with seeded(torch.device("cpu"), *seed):
            draws.append(torch.rand(4))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(torch.rand(2), expected)
