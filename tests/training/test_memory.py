"""Memory that runs out: micro-batches are split, and the steps stay those of whole ones up to rounding."""

from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import torch
from contract import WHOLE_BATCH, make_trainer, weights

from sstext.errors import UserError
from sstext.training.memory import split
from sstext.training.trainer import SemiSupervisedTrainer


def limit(trainer: SemiSupervisedTrainer, most: int, error: Exception | None = None) -> list[int]:
    """Let each pass with more than `most` rows fail. Returns the list of the sizes of the passes that train."""
    usual, sizes = trainer.model.forward, []

    @wraps(usual)
    def forward(*arguments: Any, **inputs: Any) -> Any:
        if torch.is_grad_enabled():
            sizes.append(len(inputs["input_ids"]))
            if sizes[-1] > most:
                raise error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return usual(*arguments, **inputs)

    trainer.model.forward = forward
    return sizes


@pytest.mark.parametrize(
    ("method", "most", "more"),
    [
        ("supervised", 3, {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 6}),
        ("fixmatch", 20, {}),
    ],
)
def test_parts_make_the_steps_of_whole_batches(
    tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, most: int, more: dict[str, Any]
) -> None:
    """Guards parts that count too much, gradients that count twice, and rows that are left out.

    fixmatch: a pass has 12 labeled and 24 unlabeled rows, and half of them in two parts.
    """
    monkeypatch.setattr("sstext.modeling.length_groups.PASS_COST", 1e9)  # one pass for rows of all lengths
    settings = WHOLE_BATCH | {"max_steps": 2} | more
    whole = make_trainer(tiny_encoder, tmp_path / "whole", method, **settings)
    limit(whole, 1_000)
    whole.train()
    parts = make_trainer(tiny_encoder, tmp_path / "parts", method, **settings)
    said: list[str] = []
    parts.say = said.append
    sizes = limit(parts, most)
    parts.train()
    assert max(sizes) > most, "memory ran out"
    assert max(sizes[-2:]) <= most
    assert len(said) == 1
    assert "each batch is now computed in 2 parts" in said[0]
    torch.testing.assert_close(weights(parts), weights(whole), rtol=0, atol=1e-6)
    logged = [trainer.state.log_history[0] for trainer in (whole, parts)]
    losses = [name for name in logged[0] if name.startswith("loss")]
    assert len(losses) == (1 if method == "supervised" else 3)
    for name in losses:
        assert logged[0][name] == pytest.approx(logged[1][name], abs=1e-6), name


def test_rows_that_are_computed_twice_are_logged_once(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards component losses in which the rows before a failure count double: memory runs out in the second micro-batch."""
    settings = WHOLE_BATCH | {"max_steps": 1, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 6}
    found = []
    for name, fails in (("whole", False), ("parts", True)):
        trainer = make_trainer(tiny_encoder, tmp_path / name, "fixmatch", **settings)
        trainer.say = lambda message: None
        usual, calls = trainer.compute_loss, 0

        def compute_loss(*arguments: Any, usual: Any = usual, fails: bool = fails, **keywords: Any) -> Any:
            nonlocal calls
            calls, loss = calls + 1, usual(*arguments, **keywords)
            if fails and calls == 2:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return loss

        trainer.compute_loss = compute_loss
        counts: dict[str, float] = {}
        logging = trainer.log

        def log(
            *arguments: Any, logging: Any = logging, trainer: Any = trainer, counts: Any = counts, **more: Any
        ) -> None:
            counts |= {name: float(sums[1]) for name, sums in trainer.components_so_far().items()}
            logging(*arguments, **more)

        trainer.log = log
        trainer.train()
        assert calls == (2 + 4 if fails else 2)
        found.append(counts)
    assert found[0]["loss_labeled"] == 12
    assert found[1] == found[0]


def test_a_backward_pass_that_ends_half_way_leaves_nothing_behind(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards the gradients that a failed backward pass has written, and those of the micro-batches before it in the step."""
    settings = WHOLE_BATCH | {"max_steps": 1, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 6}
    found = []
    for name, fails in (("whole", False), ("parts", True)):
        trainer = make_trainer(tiny_encoder, tmp_path / name, "supervised", **settings)
        calls = 0

        def hook(gradient: Any, fails: bool = fails) -> None:
            nonlocal calls
            calls += 1
            if fails and calls == 2:  # the second micro-batch
                raise RuntimeError(
                    "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
                )

        trainer.say = lambda message: None
        trainer.model.bert.embeddings.LayerNorm.weight.register_hook(
            hook
        )  # the last gradients are those of the first layers
        trainer.train()
        assert calls == (2 + 4 if fails else 2)
        found.append(weights(trainer))
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-6)


def test_other_errors_and_a_single_row_that_does_not_fit_are_raised(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards against an endless split, and against an error of the model that is taken for too little memory."""
    trainer = make_trainer(tiny_encoder, tmp_path, "supervised")
    limit(trainer, 0, RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        trainer.train()
    trainer = make_trainer(tiny_encoder, tmp_path, "supervised")
    trainer.say = lambda message: None
    sizes = limit(trainer, 0)
    with pytest.raises(UserError, match="memory ran out for the smallest possible batch; give a smaller batch_size"):
        trainer.train()
    assert sizes == [4, 2, 1]


def test_parts_cover_every_row_once() -> None:
    batch = {
        "labels": torch.arange(7),
        "unlabeled": {"ids": torch.arange(10), "weak": {"input_ids": torch.ones(10, 2)}},
    }
    parts = [split(batch, part, 3) for part in range(3)]
    assert torch.cat([part["labels"] for part in parts]).tolist() == list(range(7))
    assert torch.cat([part["unlabeled"]["ids"] for part in parts]).tolist() == list(range(10))
    assert [len(part["unlabeled"]["weak"]["input_ids"]) for part in parts] == [3, 3, 4]
