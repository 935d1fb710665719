"""Logit adjustment: the loss of the labels by hand, and whose labels are counted."""

import math
from pathlib import Path

import pytest
import torch
from contract import WHOLE_BATCH, Table, labeled_texts, make_trainer, weights

from sstext.objective.objective import Objective


def test_logit_adjustment_by_hand() -> None:
    """Menon et al. 2021, eq. 10, at τ = 1 and π = (¾, ¼): equal logits cost −log π of the label; without it, log 2."""
    objective = Objective()
    student = Table(torch.zeros(2, 2))
    rows = {"input_ids": torch.tensor([[0], [1]]), "attention_mask": torch.ones(2, 1, dtype=torch.long)}
    plain = objective(student, rows, torch.tensor([0, 1])).total
    objective.label_shift = torch.tensor([0.75, 0.25]).log()
    adjusted = objective(student, rows, torch.tensor([0, 1])).total
    assert plain.item() == pytest.approx(math.log(2), abs=1e-6)
    assert adjusted.item() == pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2, abs=1e-6)
    assert "label_shift" not in objective.state_dict(), "a checkpoint need not hold what is counted anew"


def test_the_shift_follows_the_labels_of_a_batch(tiny_encoder: Path, tmp_path: Path) -> None:
    """12 labels, 4 a class, and 3 : 1 : 0 pseudo-labels at a gold share of .25: π = ¼ · ⅓ + ¾ · (3, 1, ½)/4.5, times τ."""
    settings = {"logit_adjustment": 2.0, "max_steps": 1}
    trainer = make_trainer(tiny_encoder, tmp_path / "labeled", "supervised", **settings)
    trainer.train()
    torch.testing.assert_close(trainer.training_objective.label_shift, torch.full((3,), 2 * math.log(1 / 3)))
    kept = labeled_texts().select(range(4)).remove_columns("label").add_column("label", [0, 0, 0, 1])
    trainer = make_trainer(tiny_encoder, tmp_path / "kept", "supervised", **settings)
    trainer.pseudo_labeled_dataset = trainer._tokenized(kept, "kept")
    trainer.train()
    shares = [0.25 / 3 + 0.75 * count / 4.5 for count in (3, 1, 0.5)]
    torch.testing.assert_close(
        trainer.training_objective.label_shift, torch.tensor([2 * math.log(share) for share in shares])
    )


def test_without_adjustment_plain_fine_tuning_stays_trainers_own(tiny_encoder: Path, tmp_path: Path) -> None:
    """τ = 0 is no adjustment, and no other path through the code; labels that are balanced shift all classes alike."""
    off, on = (
        make_trainer(tiny_encoder, tmp_path / str(tau), "supervised", logit_adjustment=tau, **WHOLE_BATCH)
        for tau in (0.0, 1.0)
    )
    assert (off.paired, on.paired) == (False, True)
    for trainer in (off, on):
        trainer.train()
    assert (weights(off) - weights(on)).abs().max() < 1e-5
