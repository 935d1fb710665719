"""`peft_config`: what is trained, what is saved, and that an adapter works with the methods."""

from pathlib import Path
from typing import Any

import pytest
import torch
from contract import labeled_texts, tiny_student, unlabeled_texts
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DistilBertConfig

from sstext.errors import UserError
from sstext.inference.classifier import Classifier
from sstext.training.arguments import SemiSupervisedTrainingArguments
from sstext.training.models import with_adapter
from sstext.training.trainer import SemiSupervisedTrainer

peft = pytest.importorskip("peft")


def lora() -> Any:
    return peft.LoraConfig(r=2, lora_alpha=8)


def trainer_of(encoder: Path, output: Path, method: str = "supervised", **fields: Any) -> SemiSupervisedTrainer:
    given = {"use_cpu": True, "per_device_train_batch_size": 4, "max_steps": 2, "learning_rate": 1e-2, "report_to": "none",
             "save_strategy": "no", "disable_tqdm": True, "seed": 3}  # fmt: skip
    labels = labeled_texts().map(lambda row: {"name": "xyz"[row["label"]]}).remove_columns("label")
    return SemiSupervisedTrainer(
        tiny_student(encoder, 0.1),
        SemiSupervisedTrainingArguments(str(output), **given | fields),
        train_dataset=labels.rename_column("name", "label"),
        unlabeled_dataset=None if method == "supervised" else unlabeled_texts(),
        processing_class=AutoTokenizer.from_pretrained(encoder),
        method=method,
        peft_config=lora(),
    )


def trained(trainer: SemiSupervisedTrainer) -> dict[str, torch.Tensor]:
    parameters = trainer.accelerator.unwrap_model(trainer.model).named_parameters()
    return {name: weight.detach().clone() for name, weight in parameters if weight.requires_grad}


def test_only_the_adapter_and_the_head_are_trained_and_saved(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards a head that stays random, an encoder that moves, and a head without its own learning rate."""
    trainer = trainer_of(tiny_encoder, tmp_path, head_learning_rate=0.0, weight_decay=0.0)
    before, own = trained(trainer), trainer.model.state_dict()
    own = {name: value.clone() for name, value in own.items()}
    assert all("lora_" in name or "classifier.modules_to_save" in name for name in before)
    trainer.train()
    moved = {name for name, value in trainer.model.state_dict().items() if not torch.equal(value, own[name])}
    assert moved == {name for name in before if "lora_" in name}, "the head has rate 0, and everything else is frozen"
    trainer.save_model()
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json"} <= {
        file.name for file in tmp_path.iterdir()
    }
    assert not (tmp_path / "model.safetensors").exists()


def test_a_merged_model_is_an_ordinary_one_with_its_names(tiny_encoder: Path, tmp_path: Path) -> None:
    """It predicts as the model with the adapter does, which goes on with its training. Checkpoints keep the adapter."""
    trainer = trainer_of(tiny_encoder, tmp_path, merge_adapter=True, save_strategy="steps", save_steps=2)
    trainer.train()
    adapter = trained(trainer)
    trainer.save_model(str(tmp_path / "model"))
    assert all(torch.equal(value, adapter[name]) for name, value in trained(trainer).items())
    classifier = Classifier.from_pretrained(tmp_path / "model", device="cpu")
    assert classifier.classes == ["x", "y", "z"]
    texts = labeled_texts()["text"][:]
    expected = trainer.predict(labeled_texts().remove_columns("label")).predictions
    torch.testing.assert_close(torch.tensor(classifier.logits(texts)), torch.tensor(expected), atol=1e-5, rtol=0)
    assert (tmp_path / "checkpoint-2" / "adapter_model.safetensors").is_file()
    assert not (tmp_path / "checkpoint-2" / "model.safetensors").exists()


def test_a_teacher_averages_adapter_and_head_and_resumes(tiny_encoder: Path, tmp_path: Path) -> None:
    """Mean teacher: only trained weights are averaged; the saved adapter is the teacher's, and resuming changes nothing."""
    settings: dict[str, Any] = {"save_strategy": "steps", "save_steps": 1, "eval_teacher": True}
    whole = trainer_of(tiny_encoder, tmp_path / "whole", "mean-teacher", **settings)
    whole.train()
    teacher = {name: weight.clone() for name, weight in whole._weights_of_teacher().items()}
    assert set(teacher) == set(trained(whole))
    resumed = trainer_of(tiny_encoder, tmp_path / "resumed", "mean-teacher", **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-1"))
    for name, weight in trained(whole).items():
        assert torch.equal(weight, trained(resumed)[name]), name
        assert torch.equal(teacher[name], resumed._weights_of_teacher()[name]), name
    whole.save_model(str(tmp_path / "adapter"))
    loaded = peft.AutoPeftModelForSequenceClassification.from_pretrained(tmp_path / "adapter", num_labels=3)
    saved = dict(loaded.named_parameters())
    assert all(torch.equal(saved[name], weight) for name, weight in teacher.items())


@pytest.mark.slow
@pytest.mark.parametrize("method", ["vat", "fixmatch", "freematch", "auto"])
def test_methods_read_a_model_with_an_adapter(method: str, tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards passes through embeddings and hidden states that an adapter would hide; reconstruction adds a second head."""
    regularizers = {"reconstruction": 0.1} if method == "fixmatch" else {}
    trainer = trainer_of(tiny_encoder, tmp_path, method, regularizers=regularizers, head_learning_rate=1e-2)
    before = trained(trainer)
    trainer.train()
    after = trained(trainer)
    assert any(
        not torch.equal(weight, after.get(name, after.get(f"classifier.{name}"))) for name, weight in before.items()
    )
    trainer.save_model()
    assert (tmp_path / "adapter_config.json").is_file()


def test_a_head_of_two_layers_is_trained_as_a_whole() -> None:
    """DistilBERT's head has a new layer before its classifier, which peft alone would leave random and frozen."""
    sizes = {"vocab_size": 9, "dim": 4, "n_layers": 1, "n_heads": 2, "hidden_dim": 8, "num_labels": 3}
    model = AutoModelForSequenceClassification.from_config(DistilBertConfig(**sizes))
    config = peft.LoraConfig(r=2, target_modules=["q_lin"])
    names = {name for name, weight in with_adapter(model, config).named_parameters() if weight.requires_grad}
    assert any("pre_classifier.modules_to_save" in name for name in names)
    assert config.task_type is None, "the caller's configuration is not changed"


def test_what_does_not_fit_an_adapter_is_refused(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards an option without an effect, an adapter of an adapter, and a push that pipelines cannot read."""
    model = with_adapter(tiny_student(tiny_encoder, 0.0), lora())
    with pytest.raises(UserError, match="peft_config: the model has an adapter already"):
        with_adapter(model, lora())
    with pytest.raises(UserError, match="peft_config: expected task_type='SEQ_CLS', found 'CAUSAL_LM'"):
        with_adapter(tiny_student(tiny_encoder, 0.0), peft.LoraConfig(task_type="CAUSAL_LM"))
    args = SemiSupervisedTrainingArguments(str(tmp_path), use_cpu=True, merge_adapter=True)
    with pytest.raises(UserError, match="merge_adapter: the model has no adapter"):
        SemiSupervisedTrainer(tiny_student(tiny_encoder, 0.0), args)
    with pytest.raises(UserError, match="push_to_hub: an adapter alone has no configuration"):
        trainer_of(tiny_encoder, tmp_path).push_to_hub()
