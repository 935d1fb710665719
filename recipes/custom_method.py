"""A method of one's own: parts that ship, one small part that is written here, and `SemiSupervisedTrainer`.

python recipes/custom_method.py [--method supervised] [--steps 240] [--seed 1]

Every part is one axis: who labels, which target, how much a row counts, what the student sees, how disagreement is
measured. A part of one's own is a class with a `forward`; state would be buffers, updated in `observe`
(see sstext/objective/weights.py). The data are the support tickets that ship: 64 labeled and 1,136 unlabeled.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from datasets import load_dataset
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer, EvalPrediction, set_seed

from sstext import Objective, SemiSupervisedTrainer, SemiSupervisedTrainingArguments
from sstext.evaluation.metrics import count_classes
from sstext.modeling.pretrained import encoder_path
from sstext.objective import targets, teachers, views
from sstext.objective.divergences import kl
from sstext.objective.part import Signals
from sstext.objective.ramps import linear_ramp
from sstext.objective.weights import Weight

DATA = Path(__file__).parents[1] / "data" / "support_tickets"


class Lead(Weight):
    """A row counts as far as its most probable class leads the second one: w = q₁ − q₂."""

    def forward(self, signals: Signals) -> Tensor:
        first, second = signals.probs.topk(2, dim=-1).values.unbind(-1)  # (N,) each
        return first - second


def my_method() -> Objective:
    """A slow copy of the student labels the texts; the student, which reads them masked, follows where that is clear."""
    return Objective(
        teacher=teachers.EMA(decay=0.98, ramp_decay=0.95, warm=True),
        target=targets.Sharpen(0.5),
        weight=Lead(),
        view=views.Augmented(),
        divergence=kl,
        strength=0.5,
        ramp=linear_ramp(0.5),
    )


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Train with the method and return the figures on the test rows."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--method", help="a method that ships, to compare with, for example supervised")
    options.add_argument("--encoder", default="demo")
    options.add_argument("--steps", type=int, default=120)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--output", default="out/custom_method")
    asked = options.parse_args(arguments)

    labeled = load_dataset("csv", data_files=str(DATA / "labeled.csv"), split="train").class_encode_column("label")
    unlabeled = load_dataset("json", data_files=str(DATA / "unlabeled.jsonl"), split="train")
    test = load_dataset("csv", data_files=str(DATA / "test.csv"), split="train").cast(labeled.features)
    names = labeled.features["label"].names
    encoder = encoder_path(asked.encoder)
    set_seed(asked.seed)  # draws the new head
    trainer = SemiSupervisedTrainer(
        AutoModelForSequenceClassification.from_pretrained(encoder, num_labels=len(names)),
        SemiSupervisedTrainingArguments(
            asked.output, max_steps=asked.steps, seed=asked.seed, per_device_train_batch_size=16, unlabeled_batch_ratio=2,
            learning_rate=2e-4, head_learning_rate=1e-3, warmup_steps=0.1, save_strategy="no", logging_steps=10,
        ),
        train_dataset=labeled, unlabeled_dataset=unlabeled, eval_dataset=test,
        processing_class=AutoTokenizer.from_pretrained(encoder),
        method=asked.method or my_method(), compute_metrics=figures,
    )  # fmt: skip
    print(trainer.training_objective)
    trainer.train()
    return trainer.evaluate()


def figures(predicted: EvalPrediction) -> dict[str, float]:
    """What is told of the test rows."""
    counts = count_classes(np.argmax(predicted.predictions, -1), predicted.label_ids)
    return {"accuracy": float(counts.accuracy), "macro_f1": float(counts.macro_f1)}


if __name__ == "__main__":
    print(main())
