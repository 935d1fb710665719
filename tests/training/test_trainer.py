"""SemiSupervisedTrainer: Trainer to the bit without unlabeled rows, and losses that mean what they say."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from sstext.errors import UserError
from sstext.methods.confidence import fixmatch
from sstext.methods.registry import METHODS
from sstext.training.arguments import SemiSupervisedTrainingArguments
from sstext.training.trainer import SemiSupervisedTrainer

TEXTS = ["my money return please", "the parcel is late today", "password login not again", "refund charged twice now"]


def student(tiny_encoder: Path, dropout: float = 0.1, num_labels: int = 3) -> Any:
    set_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(
        tiny_encoder, num_labels=num_labels, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout
    )


def labeled(n: int = 12) -> Dataset:
    return Dataset.from_dict(
        {"text": [TEXTS[i % 3] + " very" * (i % 4) for i in range(n)], "label": [i % 3 for i in range(n)]}
    )


def unlabeled(n: int = 20) -> Dataset:
    return Dataset.from_dict({"text": [TEXTS[i % 4] + " still" * (i % 5) for i in range(n)]})


def make(
    tiny_encoder: Path, output: Path, *, dropout: float = 0.1, kind: Any = SemiSupervisedTrainer, **settings: Any
) -> Any:
    """A trainer on the tiny task; settings that are fields of the arguments go there, the others to the trainer."""
    own = (
        "method",
        "unlabeled_dataset",
        "pseudo_labeled_dataset",
        "eval_dataset",
        "callbacks",
        "compute_metrics",
        "train_dataset",
    )
    given = {name: settings.pop(name) for name in own if name in settings}
    arguments = {"use_cpu": True, "per_device_train_batch_size": 4, "max_steps": 6, "logging_steps": 2, "learning_rate": 1e-2,
                 "save_strategy": "no", "disable_tqdm": True, "seed": 3} | settings  # fmt: skip
    args = SemiSupervisedTrainingArguments(str(output), **arguments)
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    given = {"train_dataset": labeled()} | given
    return kind(student(tiny_encoder, dropout), args, processing_class=tokenizer, **given)


def weights(trainer: Any) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])


def test_without_unlabeled_rows_it_is_trainer_to_the_bit(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards against a supervised baseline that is weaker, or just other, than plain fine-tuning."""
    ours = make(tiny_encoder, tmp_path / "a")
    ours.train()
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    tokens = labeled().map(lambda row: tokenizer(row["text"])).rename_column("label", "labels").remove_columns("text")
    settings = {"use_cpu": True, "per_device_train_batch_size": 4, "max_steps": 6, "learning_rate": 1e-2, "save_strategy": "no",
                "disable_tqdm": True, "seed": 3, "logging_steps": 2}  # fmt: skip
    plain = Trainer(
        student(tiny_encoder),
        TrainingArguments(str(tmp_path / "b"), **settings),
        DataCollatorWithPadding(tokenizer),
        tokens,
        processing_class=tokenizer,
    )
    before = weights(plain).clone()
    plain.train()
    assert torch.equal(weights(ours), weights(plain))
    assert not torch.equal(before, weights(plain)), "nothing was trained"


def test_accumulating_gradients_changes_nothing(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards against the loss that grows with the accumulation steps: 1, 2 and 4 micro-batches give one loss and gradient."""
    logs = {}
    for steps in (1, 2, 4):
        trainer = make(
            tiny_encoder, tmp_path / str(steps), dropout=0.0, method=fixmatch(threshold=0.0), unlabeled_dataset=unlabeled(),
            per_device_train_batch_size=8 // steps, gradient_accumulation_steps=steps, max_steps=2, logging_steps=1,
        )  # fmt: skip
        trainer.train()
        logs[steps] = [log for log in trainer.state.log_history if "loss" in log]
    for steps in (2, 4):
        for one, many in zip(logs[1], logs[steps], strict=True):
            for name in ("loss", "grad_norm", "loss_labeled", "loss_unlabeled", "kept_share"):
                assert many[name] == pytest.approx(one[name], rel=1e-4), (steps, name)


def test_threshold_out_of_reach_is_supervised_and_threshold_zero_is_not(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards against an unlabeled loss that leaks at weight 0, and against one that never acts."""
    # Batches of all 12 rows: their order plays no part. SGD: Adam would blow rounding up to the size of a step.
    plain = {"dropout": 0.0, "per_device_train_batch_size": 12, "optim": "sgd", "learning_rate": 0.1}
    settings = plain | {"unlabeled_dataset": unlabeled()}
    results = {}
    for threshold in (1.1, 0.0):
        trainer = make(tiny_encoder, tmp_path / str(threshold), method=fixmatch(threshold=threshold), **settings)
        trainer.train()
        results[threshold] = weights(trainer)
    supervised = make(tiny_encoder, tmp_path / "supervised", **plain)
    supervised.train()
    assert (results[1.1] - weights(supervised)).abs().max() < 1e-6
    assert (results[0.0] - weights(supervised)).abs().max() > 1e-3


def test_component_losses_are_logged_and_add_up(tiny_encoder: Path, tmp_path: Path) -> None:
    trainer = make(tiny_encoder, tmp_path, method=fixmatch(threshold=0.0, strength=0.5), unlabeled_dataset=unlabeled())
    trainer.train()
    log = trainer.state.log_history[0]
    assert log["loss"] == pytest.approx(
        log["loss_labeled"] + 0.5 * log["loss_unlabeled"], abs=1e-4
    )  # Trainer rounds its loss
    assert log["kept_share"] == log["mean_weight"] == 1.0


def test_bfloat16_changes_losses_by_rounding_only(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards against losses or statistics that are computed in bfloat16: within 1e-2 of float32, state still float32."""
    logs = {}
    for bf16 in (False, True):
        trainer = make(
            tiny_encoder, tmp_path / str(bf16), dropout=0.0, method="softmatch", unlabeled_dataset=unlabeled(),
            bf16=bf16, max_steps=1, logging_steps=1,
        )  # fmt: skip
        trainer.train()
        logs[bf16] = trainer.state.log_history[0]
        assert {value.dtype for value in trainer.training_objective.state_dict().values()} == {torch.float32}
    for name in ("loss_labeled", "loss_unlabeled", "mean_weight"):
        assert logs[True][name] == pytest.approx(logs[False][name], abs=1e-2), name
    assert logs[True]["loss_labeled"] != logs[False]["loss_labeled"], "bfloat16 was not used"


def test_strength_overrides_the_method(tiny_encoder: Path, tmp_path: Path) -> None:
    strength = {"strength": 0.25}
    trainer = make(tiny_encoder, tmp_path, method="fixmatch", unlabeled_dataset=unlabeled(), method_args=strength)
    assert trainer.training_objective.strength == 0.25


def test_unlabeled_batch_ratio_sets_the_rows_per_step(tiny_encoder: Path, tmp_path: Path) -> None:
    trainer = make(tiny_encoder, tmp_path, method="fixmatch", unlabeled_dataset=unlabeled(), unlabeled_batch_ratio=3)
    batch = next(iter(trainer.get_train_dataloader()))
    assert len(batch["labels"]) == 4
    assert len(batch["unlabeled"]["ids"]) == 12
    assert batch["unlabeled"]["strong"]["input_ids"].shape[1] == batch["input_ids"].shape[1]


def test_pseudo_labeled_rows_keep_their_share_and_weight(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards against batches without labeled rows, and against weights that are not used: weight 0 on them teaches nothing."""
    kept = unlabeled(9).add_column("label", [0, 1, 2] * 3).add_column("weight", [0.0] * 9)
    trainer = make(tiny_encoder, tmp_path, pseudo_labeled_dataset=kept, gold_share=0.25, edits={"mask": 0.0})
    loader = trainer.get_train_dataloader()
    for batch in loader:
        assert sorted(batch["weight"].tolist()) == [0.0, 0.0, 0.0, 1.0]
    trainer.train()
    assert trainer.state.log_history[0]["loss_labeled"] > 0


def test_soft_pseudo_labels_are_taken(tiny_encoder: Path, tmp_path: Path) -> None:
    kept = unlabeled(6).add_column("label", [[0.2, 0.3, 0.5]] * 6)
    trainer = make(tiny_encoder, tmp_path, pseudo_labeled_dataset=kept)
    batch = next(iter(trainer.get_train_dataloader()))
    assert batch["labels"].shape == (4, 3)
    assert torch.allclose(batch["labels"].sum(-1), torch.ones(4))
    trainer.train()


def test_head_learning_rate_moves_the_head_alone(tiny_encoder: Path, tmp_path: Path) -> None:
    trainer = make(tiny_encoder, tmp_path, learning_rate=0.0, head_learning_rate=1e-2, weight_decay=0.0)
    before = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    trainer.train()
    for name, value in trainer.model.named_parameters():
        assert torch.equal(value, before[name]) == (not name.startswith("classifier")), name


def test_it_evaluates_and_calls_back_as_trainer_does(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards eval_strategy by epoch, compute_metrics and callbacks in paired training."""
    epochs: list[float] = []

    class Count(TrainerCallback):
        def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            epochs.append(state.epoch)

    trainer = make(
        tiny_encoder, tmp_path, method="softmatch", unlabeled_dataset=unlabeled(), eval_dataset=labeled(6), callbacks=[Count()],
        compute_metrics=lambda prediction: {"rows": len(prediction.label_ids)}, eval_strategy="epoch", max_steps=-1,
        num_train_epochs=2,
    )  # fmt: skip
    trainer.train()
    evaluated = [log for log in trainer.state.log_history if "eval_rows" in log]
    assert [log["eval_rows"] for log in evaluated] == [6, 6]
    assert epochs == [1.0, 2.0]
    assert trainer.state.max_steps == 6  # 12 rows in batches of 4, twice


def test_every_epoch_brings_other_edits_and_the_same_rows(tiny_encoder: Path, tmp_path: Path) -> None:
    trainer = make(tiny_encoder, tmp_path, method="fixmatch", unlabeled_dataset=unlabeled(), edits={"mask": 0.5})
    loader = trainer.get_train_dataloader()
    seen = []
    for epoch in (0, 1, 0):
        loader.set_epoch(epoch)
        seen.append([batch["unlabeled"]["strong"]["input_ids"].tolist() for batch in loader])
    assert seen[0] == seen[2]
    assert seen[0] != seen[1]


def test_saved_models_hold_no_pickle(tiny_encoder: Path, tmp_path: Path) -> None:
    trainer = make(tiny_encoder, tmp_path)
    trainer.save_model(str(tmp_path / "model"))
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= names
    assert not any(name.endswith((".bin", ".pt", ".pkl", ".pth")) for name in names)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "softmatch"}, "softmatch learns from unlabeled text"),
        ({"method": "fixmach"}, "did you mean fixmatch"),
        ({"method": "fixmatch", "method_args": {"treshold": 1}}, "did you mean threshold"),
        ({"unlabeled_batch_ratio": 0}, "unlabeled_batch_ratio: expected at least 1e-06, found 0"),
        ({"gold_share": 0.0}, "gold_share: expected more than 0"),
        ({"train_dataset": Dataset.from_dict({"txt": ["a"], "label": [0]})}, "expected a column 'text' or 'input_ids'"),
        (
            {"train_dataset": Dataset.from_dict({"text": ["a"], "label": ["b"]})},
            r"1 classes \('b'\), but the model has 3",
        ),
    ],
)
def test_wrong_input_is_named(tiny_encoder: Path, tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(tiny_encoder, tmp_path, **settings)


def test_multi_label_models_are_refused_by_name(tiny_encoder: Path, tmp_path: Path) -> None:
    model = student(tiny_encoder)
    model.config.problem_type = "multi_label_classification"
    args = SemiSupervisedTrainingArguments(str(tmp_path), use_cpu=True)
    with pytest.raises(UserError, match="fixmatch supports single-label tasks"):
        SemiSupervisedTrainer(model, args, train_dataset=None, unlabeled_dataset=unlabeled(), method="fixmatch")


def test_string_labels_follow_the_models_names(tiny_encoder: Path, tmp_path: Path) -> None:
    model = student(tiny_encoder)
    model.config.label2id, model.config.id2label = {"a": 0, "b": 1, "c": 2}, {0: "a", 1: "b", 2: "c"}
    rows = Dataset.from_dict({"text": TEXTS[:3], "label": ["c", "a", "b"]})
    args = SemiSupervisedTrainingArguments(str(tmp_path), use_cpu=True)
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    trainer = SemiSupervisedTrainer(model, args, train_dataset=rows, processing_class=tokenizer)
    assert trainer.train_dataset["labels"][:] == [2, 0, 1]


def test_every_semi_supervised_option_is_an_argument_with_help() -> None:
    """Guards the promise that hyper-parameter search and loggers reach the options."""
    fields = SemiSupervisedTrainingArguments.__dataclass_fields__
    for name in ("method", "method_args", "unlabeled_batch_ratio", "gold_share", "edits", "head_learning_rate"):
        assert fields[name].metadata["help"], name
    assert set(METHODS) >= {"supervised", "pseudo-label", "fixmatch", "softmatch"}
    json.dumps(SemiSupervisedTrainingArguments("out", use_cpu=True).to_dict())


def test_evaluate_and_predict_take_raw_text(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards `trainer.evaluate(rows)` with rows that were not given at the start."""
    trainer = make(tiny_encoder, tmp_path)
    assert trainer.evaluate(labeled(6))["eval_loss"] > 0
    assert trainer.predict(labeled(6)).predictions.shape == (6, 3)


def test_hyper_parameter_search_reaches_the_method(tiny_encoder: Path, tmp_path: Path) -> None:
    """A trial sets fields of the arguments after the trainer was made: guards against an objective that stays the first one."""
    trainer = make(tiny_encoder, tmp_path, unlabeled_dataset=unlabeled())
    assert trainer.chosen_method == "r-drop"
    trainer.args.method, trainer.args.method_args = "fixmatch", {"threshold": 0.0, "strength": 0.5}
    trainer.train()
    assert trainer.paired
    assert trainer.training_objective.strength == 0.5
    assert trainer.state.log_history[0]["kept_share"] == 1.0
