"""What a trainer takes and refuses at its construction: arguments, models by name, rows, no method, typing mistakes."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from contract import labeled_texts, tiny_student, unlabeled_texts
from datasets import Dataset, DatasetDict
from torch.utils.data import IterableDataset
from transformers import AutoTokenizer, TrainingArguments

from sstext.errors import UserError
from sstext.training.arguments import SemiSupervisedTrainingArguments
from sstext.training.trainer import SemiSupervisedTrainer


def build(encoder: Path, output: Path, **given: Any) -> SemiSupervisedTrainer:
    """A trainer of the tiny task. Fields of the arguments are in `args`."""
    fields = {"use_cpu": True, "report_to": "none"} | given.pop("fields", {})
    given = {
        "model": tiny_student(encoder, 0.0),
        "train_dataset": labeled_texts(),
        "processing_class": AutoTokenizer.from_pretrained(encoder),
        "args": SemiSupervisedTrainingArguments(str(output), **fields),
    } | given
    return SemiSupervisedTrainer(**given)


def test_plain_training_arguments_keep_their_values(tiny_encoder: Path, tmp_path: Path) -> None:
    """Every value is that of the caller, also those that TrainingArguments derives; ours are the defaults."""
    plain = TrainingArguments(str(tmp_path), use_cpu=True, learning_rate=3e-4, eval_strategy="no", report_to="none")
    trainer = build(tiny_encoder, tmp_path, args=plain, method="fixmatch", unlabeled_dataset=unlabeled_texts())
    assert isinstance(trainer.args, SemiSupervisedTrainingArguments)
    ours = vars(trainer.args)
    assert {name: ours[name] for name in vars(plain)} == vars(plain)
    assert (trainer.args.unlabeled_batch_ratio, trainer.args.method_args) == (2.0, {})
    with pytest.raises(UserError, match="args: expected SemiSupervisedTrainingArguments, found dict"):
        build(tiny_encoder, tmp_path, args={"output_dir": "o"})


def test_a_model_by_name_has_the_classes_of_the_labels(tiny_encoder: Path, tmp_path: Path) -> None:
    """Its head has as many rows as there are labels, it is drawn from the seed, and its tokenizer comes with it."""
    rows = Dataset.from_dict({"text": ["a", "b", "c", "d"], "label": ["w", "x", "y", "z"]})
    given = {"model": str(tiny_encoder), "train_dataset": rows, "processing_class": None}
    heads = []
    for seed in (1, 1, 2):
        trainer = build(tiny_encoder, tmp_path, fields={"seed": seed}, **given)
        assert (trainer.model.config.num_labels, trainer.model.config.id2label[3]) == (4, "z")
        assert trainer.processing_class.vocab_size == AutoTokenizer.from_pretrained(tiny_encoder).vocab_size
        heads.append(trainer.model.classifier.weight.detach())
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    given["train_dataset"] = labeled_texts()
    drawn = {"model_init_kwargs": {"hidden_dropout_prob": 0.3}}
    config = build(tiny_encoder, tmp_path, fields=drawn, **given).model.config
    assert (config.num_labels, config.hidden_dropout_prob) == (3, 0.3)
    with pytest.raises(UserError, match="model_init_kwargs: they are for a model that is given by name"):
        build(tiny_encoder, tmp_path, fields=drawn)
    with pytest.raises(UserError, match="cannot load 'no/such-model'"):
        build(tiny_encoder, tmp_path, model="no/such-model")


class Stream(IterableDataset):
    """Rows that come one by one."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)


def test_listed_rows_are_rows(tiny_encoder: Path, tmp_path: Path) -> None:
    """Dictionaries and bare texts give the tokens of the same data set."""
    whole = build(tiny_encoder, tmp_path, method="fixmatch", unlabeled_dataset=unlabeled_texts())
    listed = build(
        tiny_encoder, tmp_path, method="fixmatch", train_dataset=labeled_texts().to_list(),
        eval_dataset=labeled_texts().to_list(), unlabeled_dataset=list(unlabeled_texts()["text"]),
    )  # fmt: skip
    for name in ("train_dataset", "unlabeled_dataset"):
        assert getattr(listed, name).to_list() == getattr(whole, name).to_list()
    assert listed.eval_dataset["labels"][:] == labeled_texts()["label"][:]


def test_tokenized_streams_are_for_plain_fine_tuning(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards `Trainer`'s own streams, which need no length if no rows are paired."""
    rows = Stream([{"input_ids": [2, 9, 3], "labels": 1}] * 4)
    fields = {"max_steps": 1, "per_device_train_batch_size": 2, "save_strategy": "no"}
    assert build(tiny_encoder, tmp_path, train_dataset=rows, fields=fields).train().global_step == 1
    with pytest.raises(UserError, match=re.escape("train_dataset: expected rows with a length, found a stream")):
        build(
            tiny_encoder,
            tmp_path,
            train_dataset=rows,
            fields=fields,
            method="fixmatch",
            unlabeled_dataset=unlabeled_texts(),
        )


NO_LABELS = Dataset.from_dict({"text": ["a", "b"]})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"train_dataset": NO_LABELS}, "train_dataset: expected a column 'label', found 'text'; give rows with labels here"),
        ({"train_dataset": Stream([{"text": "a", "label": 0}])}, "found a stream (Stream); read it first: Dataset.from_list"),
        ({"unlabeled_dataset": unlabeled_texts().to_iterable_dataset(), "method": "vat"}, "unlabeled_dataset: expected rows"),
        ({"train_dataset": DatasetDict(train=NO_LABELS)}, "train_dataset: expected one data set, found 'train'; choose one"),
        ({"train_dataset": []}, "train_dataset: expected at least one row, found none"),
        ({"unlabeled_dataset": [1, 2]}, "unlabeled_dataset: expected texts or dictionaries such as {'text': …}, found int"),
        ({"unlabeled_dataset": [{"text": "a"}, {"text": 3}]}, "unlabeled_dataset: the rows do not have the same columns"),
        ({"unlabeled_dataset": [{"text": "a"}, {"text": None}], "method": "vat"}, "row 2: expected a text, found None"),
        ({"train_dataset": [{"text": "a", "label": 3}]}, "expected classes from 0 to 2, found 3 in row 1; give num_labels"),
        ({"train_dataset": [{"text": "a", "label": -1}]}, "found -1 in row 1; if it means that a row has no label, give"),
        ({"train_dataset": [{"text": "a", "label": 0.5}]}, "found 0.5: regression is not supported"),
        ({"train_dataset": [{"text": "a", "label": 0}, {"text": "b", "label": None}]}, "row 2 has no label"),
        ({"unlabelled_dataset": NO_LABELS}, "no argument 'unlabelled_dataset'; did you mean unlabeled_dataset?"),
        ({"tokenizer": None}, "no argument 'tokenizer'; did you mean processing_class?"),
        ({"method": "fixmach", "unlabeled_dataset": NO_LABELS}, "no method 'fixmach'; did you mean fixmatch"),
        ({"method": "fixmatch"}, "fixmatch learns from unlabeled text; give unlabeled_dataset"),
        ({"fields": {"method_args": {"threshold": 0.9}}}, "method_args: arguments of which method? name it in method=…"),
        ({"fields": {"logit_adjustment": 1.0, "label_smoothing_factor": 0.1}}, "label_smoothing_factor is supported only"),
    ],
)  # fmt: skip
def test_wrong_input_is_one_error_with_a_remedy(
    given: dict[str, Any], message: str, tiny_encoder: Path, tmp_path: Path
) -> None:
    """Guards raw errors from the middle of a training, and options that are taken and not used."""
    with pytest.raises(UserError, match=re.escape(message)):
        build(tiny_encoder, tmp_path, **given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "fixmtach"}, "method: no method 'fixmtach'; did you mean fixmatch"),
        ({"metod": "fixmatch"}, "no argument 'metod'; did you mean method"),
        ({"learning_rat": 1e-3}, "no argument 'learning_rat'; did you mean learning_rate"),
    ],
)
def test_misspelled_arguments_are_refused(given: dict[str, Any], message: str) -> None:
    """Guards a misspelled method that is noticed hours later, when a trainer is made."""
    with pytest.raises(UserError, match=message):
        SemiSupervisedTrainingArguments("out", use_cpu=True, **given)


def test_unlabeled_rows_without_a_method_are_read_and_that_is_said(
    tiny_encoder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Guards unlabeled rows that are silently left out; a named method, and a further loss of these rows, is left alone."""
    rows: dict[str, Any] = {"unlabeled_dataset": unlabeled_texts()}
    trainer = build(tiny_encoder, tmp_path, **rows)
    assert (trainer.chosen_method, trainer.paired) == ("r-drop", True)
    assert len(next(iter(trainer.get_train_dataloader()))["unlabeled"]["ids"]) == 16
    assert [record.getMessage() for record in caplog.records if "without a method" in record.getMessage()] == [
        "unlabeled_dataset without a method: r-drop is used; name one with method=…, for example method='supervised' to train "
        "on the labeled rows alone"
    ]
    caplog.clear()
    assert build(tiny_encoder, tmp_path, method="supervised", **rows).paired is False
    entropy = build(tiny_encoder, tmp_path, fields={"regularizers": {"entropy": 0.1}}, **rows)
    assert entropy.chosen_method == build(tiny_encoder, tmp_path).chosen_method == "supervised"
    assert "without a method" not in caplog.text
