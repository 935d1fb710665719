"""Class names: those of the labels name the classes of a nameless model, and other orders are brought into the model's own."""

from pathlib import Path
from typing import Any

import pytest
from contract import tiny_student
from datasets import ClassLabel, Dataset
from transformers import AutoTokenizer, BertConfig, pipeline

from sstext.errors import UserError
from sstext.training.arguments import SemiSupervisedTrainingArguments
from sstext.training.models import give_names
from sstext.training.rows import class_names, in_numbers_of_model
from sstext.training.trainer import SemiSupervisedTrainer

TEXTS = ["money return please", "parcel late", "password login"]
STRINGS = Dataset.from_dict({"text": TEXTS, "label": ["refund", "delivery", "account"]})
NAMES = ["account", "delivery", "refund"]


def encoded(names: list[str]) -> Dataset:
    """The same rows with a `ClassLabel` column whose numbers are in the order of `names`."""
    numbers = [names.index(name) for name in STRINGS["label"]]
    rows = Dataset.from_dict({"text": TEXTS, "label": numbers})
    return rows.cast_column("label", ClassLabel(names=names))


def trainer_of(encoder: Path, output: Path, rows: Any, model: Any = None, **more: Any) -> SemiSupervisedTrainer:
    args = SemiSupervisedTrainingArguments(str(output), use_cpu=True, report_to="none")
    if model is None and "model_init" not in more:
        model = tiny_student(encoder, 0.0)
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    return SemiSupervisedTrainer(model, args, train_dataset=rows, processing_class=tokenizer, **more)


@pytest.mark.parametrize(
    "rows", [STRINGS, encoded(NAMES), [dict(row) for row in STRINGS]], ids=["str", "names", "list"]
)
def test_labels_name_the_classes_of_a_nameless_model(rows: Any, tiny_encoder: Path, tmp_path: Path) -> None:
    """Sorted strings, or the names of a ClassLabel column, reach the saved model. Guards against LABEL_2 as an answer."""
    trainer = trainer_of(tiny_encoder, tmp_path, rows)
    assert trainer.model.config.id2label == dict(enumerate(NAMES))
    assert trainer.model.config.label2id == {name: number for number, name in enumerate(NAMES)}
    assert trainer.train_dataset["labels"][:] == [2, 1, 0]
    if isinstance(rows, list):  # once: the card and a pipeline have the names too
        trainer.create_model_card()
        trainer.save_model()
        assert "refund" in (tmp_path / "README.md").read_text(encoding="utf-8")
        assert pipeline("text-classification", str(tmp_path), device="cpu")("parcel late")[0]["label"] in NAMES


def test_a_named_model_keeps_its_order_and_rows_are_renumbered(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards labels that are right by number and wrong by name: a test set that was encoded by itself has its own order."""
    model = tiny_student(tiny_encoder, 0.0)
    model.config.id2label = {0: "refund", 1: "account", 2: "delivery"}
    model.config.label2id = {"refund": 0, "account": 1, "delivery": 2}
    trainer = trainer_of(
        tiny_encoder, tmp_path, encoded(NAMES), model, eval_dataset={"other": encoded(["refund", *NAMES[:2]])}
    )
    assert trainer.model.config.id2label[0] == "refund"
    assert trainer.train_dataset["labels"][:] == trainer.eval_dataset["other"]["labels"][:] == [0, 2, 1]
    assert trainer._tokenized(STRINGS, "eval_dataset")["labels"][:] == [0, 2, 1]


def test_names_of_other_classes_are_refused(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards a model of one task that is trained on the labels of another one, by number."""
    model = tiny_student(tiny_encoder, 0.0)
    model.config.id2label, model.config.label2id = {0: "no", 1: "yes", 2: "both"}, {"no": 0, "yes": 1, "both": 2}
    with pytest.raises(
        UserError, match=r"classes 'account', .* are not among those of the model \('no', 'yes', 'both'\)"
    ):
        trainer_of(tiny_encoder, tmp_path, STRINGS, model)
    with pytest.raises(UserError, match=r"has 2 classes \('a', 'b'\), but the model has 3; give num_labels=2"):
        give_names(BertConfig(num_labels=3), ["a", "b"])
    rows = Dataset.from_dict({"text": ["a"], "label": ["lost"]})
    with pytest.raises(UserError, match="eval_dataset: labels 'lost' are not among the classes of the model"):
        in_numbers_of_model(rows, "eval_dataset", BertConfig(id2label={0: "no", 1: "yes"}))


def test_numbers_are_no_names() -> None:
    """`class_encode_column` on a column of numbers names the classes "0", "1", …: guards a model with these names."""
    rows = Dataset.from_dict({"text": TEXTS, "label": [0, 1, 1]})
    assert class_names(rows) is None
    assert class_names(rows.cast_column("label", ClassLabel(names=["0", "1"]))) is None


def test_model_init_is_named_at_every_call(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards a search over hyperparameters, whose models are made anew in every trial."""
    trainer = trainer_of(tiny_encoder, tmp_path, STRINGS, model_init=lambda: tiny_student(tiny_encoder, 0.0))
    assert trainer.call_model_init().config.id2label[2] == trainer.model.config.id2label[2] == "refund"
