"""`eval_teacher` and `save_teacher`: whose weights are evaluated, kept as best and saved, and that both can be resumed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contract import labeled_texts, make_trainer, weights
from safetensors.torch import load_file

from sstext.errors import UserError
from sstext.training.trainer import SemiSupervisedTrainer

HEAD = "classifier.weight"


def trainer_of(encoder: Path, output: Path, **arguments: Any) -> SemiSupervisedTrainer:
    """A mean teacher that forgets slowly enough to differ from its student."""
    given = {"method_args": {"decay": 0.9, "ramp_decay": 0.9}, "learning_rate": 1e-2, "per_device_train_batch_size": 2}
    return make_trainer(encoder, output, "mean-teacher", **given | {"max_steps": 2} | arguments)


def head_of_teacher(trainer: SemiSupervisedTrainer) -> torch.Tensor:
    return trainer._weights_of_teacher()[HEAD]


def saved_head(folder: Path) -> torch.Tensor:
    return load_file(folder / "model.safetensors")[HEAD]


def test_the_teacher_is_evaluated_and_saved_if_it_is_asked_for(tiny_encoder: Path, tmp_path: Path) -> None:
    """The logits of the evaluation are those of the saved weights; the student is as before. Guards a swap that stays."""
    trainer = trainer_of(tiny_encoder, tmp_path)
    trainer.train()
    student, logits, losses = weights(trainer).clone(), {}, {}
    for teacher in (False, True):
        trainer.args.eval_teacher = teacher
        logits[teacher] = trainer.predict(labeled_texts()).predictions
        losses[teacher] = trainer.evaluate(labeled_texts())["eval_loss"]
        trainer.save_model(str(tmp_path / str(teacher)))  # save_teacher is as eval_teacher
        assert torch.equal(weights(trainer), student)
        for name, weight in load_file(tmp_path / str(teacher) / "model.safetensors").items():
            expected = trainer._weights_of_teacher() if teacher else trainer.model.state_dict()
            assert torch.equal(weight, expected[name]), name
        model = type(trainer.model).from_pretrained(tmp_path / str(teacher))
        trainer.model, kept = model, trainer.model
        trainer.args.eval_teacher = False
        np.testing.assert_array_equal(trainer.predict(labeled_texts()).predictions, logits[teacher])
        trainer.model = kept
    assert losses[False] != losses[True]
    trainer.args.eval_teacher, trainer.args.save_teacher = True, False
    trainer.save_model(str(tmp_path / "student"))
    assert torch.equal(saved_head(tmp_path / "student"), trainer.model.classifier.weight)


def test_before_a_training_both_are_the_same(tiny_encoder: Path, tmp_path: Path) -> None:
    """The average begins at the student: guards an error in `eval_on_start` and in an evaluation before the training."""
    losses = [
        trainer_of(tiny_encoder, tmp_path, eval_teacher=teacher).evaluate(labeled_texts())["eval_loss"]
        for teacher in (False, True)
    ]
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("eval_teacher", "save_teacher"),
    [
        (True, None),
        (False, True),
        pytest.param(True, False, marks=pytest.mark.slow),
        pytest.param(False, None, marks=pytest.mark.slow),
    ],
)
def test_resuming_ends_in_the_same_bits(
    eval_teacher: bool, save_teacher: bool | None, tiny_encoder: Path, tmp_path: Path
) -> None:
    """Guards a student that goes on from the teacher's weights, which are those of the checkpoint's model."""
    settings: dict[str, Any] = {
        "eval_teacher": eval_teacher, "save_teacher": save_teacher, "save_strategy": "steps", "save_steps": 1,
    }  # fmt: skip
    whole = trainer_of(tiny_encoder, tmp_path / "whole", **settings)
    whole.train()
    checkpoint = tmp_path / "whole" / "checkpoint-1"
    resumed = trainer_of(tiny_encoder, tmp_path / "resumed", **settings)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert torch.equal(weights(whole), weights(resumed))
    assert torch.equal(head_of_teacher(whole), head_of_teacher(resumed))
    last = saved_head(tmp_path / "whole" / "checkpoint-2")
    expected = head_of_teacher(whole) if whole.saves_teacher else whole.model.classifier.weight
    assert torch.equal(last, expected)
    assert not torch.equal(head_of_teacher(whole), whole.model.classifier.weight), "the two do not differ"


@pytest.mark.parametrize("save_only_model", [False, True])
def test_the_best_teacher_is_kept(save_only_model: bool, tiny_encoder: Path, tmp_path: Path) -> None:
    """The best step is the first one here: afterwards, its teacher is evaluated and saved, and not that of the last step."""
    scores = iter([1.0, 0.0, 0.0])
    trainer = trainer_of(
        tiny_encoder, tmp_path, eval_teacher=True, save_strategy="steps", save_steps=1, eval_strategy="no",
        load_best_model_at_end=False, save_only_model=save_only_model,
    )  # fmt: skip
    trainer.compute_metrics = lambda _: {"score": next(scores)}
    trainer.eval_dataset = trainer._tokenized(labeled_texts(), "eval_dataset")
    args = trainer.args
    args.eval_strategy, args.eval_steps, args.load_best_model_at_end = "steps", 1, True
    args.metric_for_best_model, args.greater_is_better = "score", True
    trainer.train()
    best = saved_head(tmp_path / "checkpoint-1")
    assert torch.equal(head_of_teacher(trainer), best)
    assert not torch.equal(saved_head(tmp_path / "checkpoint-2"), best)
    trainer.save_model(str(tmp_path / "model"))
    assert torch.equal(saved_head(tmp_path / "model"), best)
    assert torch.equal(trainer.model.classifier.weight, best) == save_only_model, "the student is that of the best step"


def test_the_choice_is_said_and_needs_a_teacher(
    tiny_encoder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Guards an option without an effect."""
    trainer_of(tiny_encoder, tmp_path, save_teacher=True)
    said = [record.getMessage() for record in caplog.records if record.name.startswith("sstext")]
    assert said == [
        "mean-teacher: the student's weights are evaluated (eval_teacher), and the teacher's (averaged) weights are saved "
        "(save_teacher)"
    ]
    for option in ("eval_teacher", "save_teacher"):
        with pytest.raises(
            UserError, match=f"{option}: softmatch has no teacher with weights of its own; leave it out"
        ):
            make_trainer(tiny_encoder, tmp_path, "softmatch", **{option: True})
