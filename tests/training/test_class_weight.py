"""`class_weight`: the weighted loss by hand, as torch and scikit-learn define it, and where it is refused."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contract import Table, make_trainer
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F

from sstext.config.run_config import RunConfig
from sstext.errors import UserError
from sstext.methods.registry import compose
from sstext.objective.objective import Objective
from sstext.objective.weights import TrainingSignalAnnealing
from sstext.run.train import train
from sstext.training.class_balance import class_weights
from sstext.training.stage_arguments import stage_arguments

PROBS = torch.tensor([[0.8, 0.2], [0.5, 0.5], [0.4, 0.6], [0.1, 0.9]])
ROWS = {"input_ids": torch.arange(4)[:, None], "attention_mask": torch.ones(4, 1, dtype=torch.long)}
LABELS = torch.tensor([0, 0, 0, 1])


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    """3 labels of class 0 and 1 of class 1: 4 / (2 · 3) = ⅔ and 4 / (2 · 1) = 2."""
    found = class_weights("balanced", np.array([0.75, 0.25]), {0: "no", 1: "yes"})
    np.testing.assert_allclose(found, [2 / 3, 2])
    np.testing.assert_allclose(found, compute_class_weight("balanced", classes=np.array([0, 1]), y=LABELS.numpy()))


def test_the_weighted_loss_by_hand() -> None:
    """⅔ (−log .8 − log .5 − log .4) + 2 (−log .9), divided by ⅔ · 3 + 2 = 4; it is the loss of torch with these weights.

    With probabilities as labels, a row has the mean weight of its classes: (½, ½) has (⅔ + 2) / 2 = 4/3."""
    objective, student = Objective(), Table(PROBS.log())
    objective.class_weight = torch.tensor([2 / 3, 2.0])
    losses = objective(student, ROWS, LABELS)
    by_hand = (2 / 3 * -math.log(0.8 * 0.5 * 0.4) + 2 * -math.log(0.9)) / 4
    assert losses.total.item() == pytest.approx(by_hand, abs=1e-6)
    assert losses.total.item() == pytest.approx(
        F.cross_entropy(PROBS.log(), LABELS, objective.class_weight).item(), abs=1e-6
    )
    total, count = losses.components["loss_labeled"]
    assert float(total / count) == pytest.approx(by_hand, abs=1e-6), "what is logged is the loss"

    soft = torch.tensor([[0.5, 0.5], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    first = -(math.log(0.8) + math.log(0.2)) / 2
    by_hand = (4 / 3 * first + 2 / 3 * -math.log(0.5 * 0.4) + 2 * -math.log(0.9)) / (4 / 3 + 2 / 3 * 2 + 2)
    assert objective(student, ROWS, soft).total.item() == pytest.approx(by_hand, abs=1e-6)
    objective.class_weight = torch.tensor([3.0, 3.0])
    plain = Objective()(student, ROWS, LABELS).total.item()
    assert objective(student, ROWS, LABELS).total.item() == pytest.approx(plain, abs=1e-6)


def test_row_weights_and_kept_rows_count_beside_class_weights() -> None:
    """Σ w r H ÷ Σ w for row weights r; a label weight leaves rows out of both sums."""
    objective, student, r = Objective(), Table(PROBS.log()), torch.tensor([1.0, 0.0, 0.5, 1.0])
    objective.class_weight = torch.tensor([2 / 3, 2.0])
    by_hand = (2 / 3 * (-math.log(0.8) - 0.5 * math.log(0.4)) + 2 * -math.log(0.9)) / 4
    assert objective(student, ROWS, LABELS, r).total.item() == pytest.approx(by_hand, abs=1e-6)
    annealed = Objective(label_weight=TrainingSignalAnnealing()).bind(2, 0)
    annealed.class_weight = objective.class_weight
    # At t/T = ½ the threshold is ½ · ½ + ½ = ¾: rows 0 and 3 are too well known, rows 1 and 2 count.
    losses = annealed(student, ROWS, LABELS, progress=0.5)
    assert losses.total.item() == pytest.approx(-math.log(0.5 * 0.4) / 2, abs=1e-6)


def test_a_trainer_counts_its_labels_and_reads_names(tiny_encoder: Path, tmp_path: Path) -> None:
    """12 labels, 4 of each class, weigh the same; a mapping names classes or their numbers, and the others weigh 1."""
    settings: dict[str, Any] = {"max_steps": 1, "logging_steps": 1}
    trainer = make_trainer(tiny_encoder, tmp_path, "supervised", class_weight="balanced", **settings)
    assert trainer.paired
    trainer.train()
    torch.testing.assert_close(trainer.training_objective.class_weight, torch.ones(3))
    trainer = make_trainer(tiny_encoder, tmp_path, "fixmatch", class_weight={"LABEL_2": 5, 0: 0.5}, **settings)
    trainer.train()
    assert trainer.training_objective.class_weight.tolist() == [0.5, 1.0, 5.0]
    assert "class_weight" not in trainer.training_objective.state_dict()
    with pytest.raises(UserError, match=r"class_weight: no class 'LABEL_3'; did you mean"):
        make_trainer(tiny_encoder, tmp_path, "supervised", class_weight={"LABEL_3": 1})
    with pytest.raises(UserError, match="class_weight: expected at least one class with a weight above 0"):
        make_trainer(tiny_encoder, tmp_path, "supervised", class_weight={0: 0, 1: 0, 2: 0})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("even", "class_weight: expected balanced, or a weight for each class such as refund=2, found 'even'"),
        ({"a": -1}, "class_weight: expected a number of at least 0 for a, found -1"),
        ({"a": True}, "class_weight: expected a number of at least 0 for a, found True"),
        ({}, "class_weight: expected balanced"),
        ("{a: 1}", "class_weight: expected JSON of a mapping"),
    ],
)
def test_weights_that_are_none_are_refused(given: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        RunConfig(class_weight=given)


def test_weights_as_people_write_them() -> None:
    """A word, a mapping, JSON, and nothing."""
    for given, found in (("balanced", "balanced"), ({"a": 2}, {"a": 2.0}), ('{"a": 2}', {"a": 2.0}), ("none", None)):
        assert RunConfig(class_weight=given).class_weight == found


def test_a_run_takes_them_and_names_a_wrong_class(tiny_run: Callable[..., Any], tmp_path: Path) -> None:
    """They reach the trainer of every stage; guards a class without a weight that is noticed after the first training."""
    config = tiny_run(tmp_path / "out", method="fixmatch", rounds=0, class_weight={"refunds": 2})
    stage = compose(config.method).stages(0)[0]
    made = stage_arguments(
        config, stage, steps=2, seed=0, max_length=8, has_development_rows=False, output=tmp_path / "stage"
    )
    assert made.class_weight == {"refunds": 2.0}
    with pytest.raises(UserError, match="class_weight: no class 'refunds'; did you mean refund"):
        train(config)
    assert not list(tmp_path.rglob("model.safetensors"))
