"""What the contract tests share: a setting of every method, a student that is a table, and a trainer of the tiny encoder.

At these settings a method that has a threshold keeps some rows and not others, both of the table and of the tiny encoder:
where every row counts, or none does, a contract is easily kept.
"""

from copy import deepcopy
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer, set_seed

from sstext.methods.registry import METHODS, OF_ROUNDS, build, compose
from sstext.modeling.pooling import mean_pooled
from sstext.objective.objective import Losses, Objective
from sstext.objective.part import Part, Signals
from sstext.training.arguments import SemiSupervisedTrainingArguments
from sstext.training.trainer import SemiSupervisedTrainer

#: Method → its arguments. Averages forget fast, since the tests make a few steps only.
SETTINGS: dict[str, dict[str, Any]] = {
    "auto": {},
    "supervised": {},
    "pseudo-label": {"threshold": 0.4, "ramp": 0.1},
    "pi-model": {"ramp": 0.1},
    "temporal-ensembling": {"ramp": 0.1},
    "mean-teacher": {"decay": 0.9, "ramp_decay": 0.5, "strength": 10.0},
    "vat": {},
    "uda": {"threshold": 0.4, "annealing": "exp"},
    "fixmatch": {"threshold": 0.4},
    "flexmatch": {"threshold": 0.4, "warmup": False},
    "dash": {"gamma": 1.1, "warmup": 0.3, "interval": 0.3},
    "adamatch": {"momentum": 0.5, "ramp": 0.1},
    "softmatch": {"momentum": 0.5},
    "freematch": {"momentum": 0.5, "fairness": 0.1},
    "r-drop": {},
    "self-training": {"threshold": 0.4},
    "class-balanced": {},
    "margin-history": {},
    "noisy-student": {"threshold": 0.4},
    "ust": {},
}

#: Methods that share something among the rows of a batch → what it is. Two halves of a batch then are not the whole.
BATCH_STATISTICS = {
    "auto": "each row is contrasted with the others of its batch",
    "uda": "the labeled loss is divided by the labels that the annealing keeps",
    "flexmatch": "thresholds follow the classes of all rows seen so far, those of the first half included",
    "dash": "the bound follows the mean labeled loss",
    "adamatch": "averages of the predictions on labeled and on unlabeled rows, and the mean labeled confidence",
    "softmatch": "averages of prediction, confidence and its variance",
    "freematch": "averages of prediction, its histogram and confidence; fairness compares batch means",
}

#: Methods that do something of their own inside a step; those of the round loop alone train as `supervised` does.
IN_STEP = [name for name in METHODS if name == "supervised" or not build(name).plain]
#: Methods that do nothing of their own inside a step.
BETWEEN_ROUNDS = [name for name in OF_ROUNDS if compose(name).between_rounds]
#: Methods that let a teacher label the unlabeled rows inside a step.
TAUGHT = [name for name in METHODS if build(name).teacher is not None]

# The table: token → probabilities of a text of this token alone. Three classes.
PROBS = torch.tensor(
    [
        [0.34, 0.33, 0.33],  # padding
        *([0.60, 0.25, 0.15], [0.20, 0.50, 0.30], [0.38, 0.32, 0.30]),  # labeled rows
        *([0.45, 0.30, 0.25], [0.40, 0.20, 0.40], [0.30, 0.35, 0.35]),  # labeled rows, changed
        *([0.90, 0.06, 0.04], [0.80, 0.10, 0.10], [0.36, 0.33, 0.31], [0.30, 0.32, 0.38]),  # unlabeled rows
        *([0.50, 0.30, 0.20], [0.40, 0.35, 0.25], [0.20, 0.50, 0.30], [0.34, 0.30, 0.36]),  # unlabeled rows, changed
    ]
)
LABELED, LABELED_STRONG = [1, 2, 3], [4, 5, 6]
LABELS = torch.tensor([0, 1, 2])
WEAK, STRONG = [7, 8, 9, 10], [11, 12, 13, 14]


class Table(nn.Module):
    """A student whose logits are looked up; a text of several tokens has the mean of theirs.

    Args:
        logits: (V, C).
        dropout: in training, every pass and row adds a constant of its own to the logits, in place of dropout: passes
            differ, and the gradient stays what it is by hand.
    """

    def __init__(self, logits: Tensor | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        self.embeddings = nn.Embedding.from_pretrained(PROBS.log() if logits is None else logits.clone(), freeze=False)
        self.dropout, self.passes = dropout, 0

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embeddings

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **_: Any) -> SimpleNamespace:
        hidden = self.embeddings(input_ids)  # (N, T, C)
        if self.training:
            self.passes += 1
            size = self.dropout * (self.passes + torch.arange(len(hidden)) / len(hidden))
            hidden = hidden + (size[:, None] * torch.linspace(1, -1, hidden.shape[-1]))[:, None].to(hidden.dtype)
        return SimpleNamespace(logits=mean_pooled(hidden, attention_mask), hidden_states=(hidden,))


class Seen(Part):
    """A part that keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Signals] = []

    def observe(self, signals: Signals) -> None:
        self.steps.append(signals)


def rows(tokens: list[int]) -> dict[str, Tensor]:
    """Texts of one token each."""
    ids = torch.tensor(tokens)[:, None]
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def step(objective: Objective, student: nn.Module, progress: float = 0.5) -> Losses:
    """One micro-batch of three labeled and four unlabeled rows of the table."""
    unlabeled = {"weak": rows(WEAK), "strong": rows(STRONG), "ids": torch.arange(4), "keys": torch.arange(4)}
    strong = rows(LABELED_STRONG)
    return objective(student, rows(LABELED), LABELS, None, unlabeled, strong=strong, progress=progress)


def prepared(name: str, student: nn.Module, **arguments: Any) -> tuple[Objective, Seen]:
    """A method at its setting, bound to the four unlabeled rows of the table, and what its parts will be shown."""
    objective, seen = build(name, SETTINGS[name] | arguments), Seen()
    objective.seen = seen
    return objective.bind(num_classes=3, num_rows=4, student=student), seen


# The tiny task: 12 labeled rows, 24 unlabeled ones

TEXTS = ["my money return please", "the parcel is late today", "password login not again", "refund charged twice now"]


@cache
def labeled_texts() -> Dataset:
    """12 rows of three classes."""
    texts = [TEXTS[i % 3] + " very" * (i % 4) for i in range(12)]
    return Dataset.from_dict({"text": texts, "label": [i % 3 for i in range(12)]})


@cache
def unlabeled_texts() -> Dataset:
    """24 rows without a label."""
    return Dataset.from_dict({"text": [f"{TEXTS[i % 4]} {TEXTS[i // 6]}" + " still" * (i % 3) for i in range(24)]})


@cache
def _student(encoder: Path, dropout: float) -> Any:
    set_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(
        encoder, num_labels=3, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout
    )


def tiny_student(encoder: Path, dropout: float) -> Any:
    """The tiny encoder with a new head, the same at every call."""
    student = deepcopy(_student(encoder, dropout))
    set_seed(0)
    return student


@cache
def _tokenizer(encoder: Path) -> Any:
    return AutoTokenizer.from_pretrained(encoder)


def make_trainer(
    encoder: Path,
    output: Path,
    method: str | Objective,
    *,
    dropout: float = 0.1,
    unlabeled: Any = None,
    **arguments: Any,
) -> SemiSupervisedTrainer:
    """A trainer of the tiny task for six steps of 4 labeled and 8 unlabeled rows; `arguments` are fields of its arguments."""
    given = {"use_cpu": True, "per_device_train_batch_size": 4, "max_steps": 6, "logging_steps": 4, "learning_rate": 1e-3,
             "save_strategy": "no", "disable_tqdm": True, "seed": 3}  # fmt: skip
    if isinstance(method, str):
        given["method_args"] = SETTINGS[method]
    return SemiSupervisedTrainer(
        tiny_student(encoder, dropout),
        SemiSupervisedTrainingArguments(str(output), **(given | arguments)),
        train_dataset=labeled_texts(),
        unlabeled_dataset=unlabeled_texts() if unlabeled is None else unlabeled,
        processing_class=deepcopy(_tokenizer(encoder)),
        method=method,
    )


#: All 12 labeled and all 24 unlabeled rows in one step, so that their order plays no part; SGD, since Adam would blow
#: rounding up to the size of a step; no dropout.
WHOLE_BATCH: dict[str, Any] = {
    "dropout": 0.0, "per_device_train_batch_size": 12, "max_steps": 3, "optim": "sgd", "learning_rate": 0.05,
}  # fmt: skip


def weights(trainer: SemiSupervisedTrainer) -> Tensor:
    """All weights of the student in a row."""
    return torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])


def components(trainer: SemiSupervisedTrainer) -> dict[str, float]:
    """What the objective logged at the first time: means over the steps until then."""
    own = ("loss_", "kept_share", "mean_weight", "labels_used")
    return {name: value for name, value in trainer.state.log_history[0].items() if name.startswith(own)}
