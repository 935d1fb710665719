"""Other people's methods on the same rows, each with its own recommended settings; a peer is imported only where it runs.

A peer is a function of labeled and unlabeled texts, the texts to predict, the encoder's folder, the most tokens of a text and a
seed, which returns probabilities of the classes (N, C), in the order of their sorted names. Where it is told of the classes, it
reads rows that are made of that beside the labeled ones: see `told.py`.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from embedding import embed
from told import NOTHING, class_rows, template_rows
from transformers import AutoModel, AutoTokenizer

from sstext.inference.devices import resolve_device
from sstext.inference.scoring import score
from sstext.modeling.embedder import Embedder
from sstext.pseudolabels.regression import fit_regression

#: Bandwidth-free neighborhoods: with scikit-learn's default kernel (rbf, γ = 20) all rows of unit length are alike.
NEIGHBORS = 7


@dataclass(frozen=True)
class Task:
    """What a peer is given.

    Attributes:
        texts, labels: of the labeled rows; labels are class names.
        pool: unlabeled texts.
        asked: texts to predict.
        encoder: folder or Hub name.
        max_length: tokens of a text that are read.
        known: what is told of the classes, see `told.knowledge`.
    """

    texts: Sequence[str]
    labels: Sequence[str]
    pool: Sequence[str]
    asked: Sequence[str]
    encoder: str
    max_length: int
    seed: int
    known: Any = NOTHING

    @property
    def classes(self) -> list[str]:
        return sorted(set(self.labels))

    def beside(self, rows: tuple[list[str], list[str]]) -> "Task":
        """The same task with further labeled rows: texts and their classes."""
        texts, labels = rows
        return replace(self, texts=[*self.texts, *texts], labels=[*self.labels, *labels])

    def with_class_rows(self) -> "Task":
        """The texts of the classes are labeled rows like all others: a peer cannot weigh them."""
        return self.beside(class_rows(self.known, self.classes))

    def numbers(self) -> np.ndarray:
        """(B,) class of every labeled row."""
        return np.array([self.classes.index(label) for label in self.labels])

    def embedded(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean-pooled embeddings of length 1 of labeled rows, pool and asked rows, by the encoder as it was pretrained."""
        tokenizer = AutoTokenizer.from_pretrained(self.encoder)
        model = Embedder(AutoModel.from_pretrained(self.encoder).to(resolve_device()))

        def of(texts: Sequence[str]) -> np.ndarray:
            ids = tokenizer(list(texts), truncation=True, max_length=self.max_length)["input_ids"]
            return score(model, [{"input_ids": one} for one in ids], tokenizer)

        return of(self.texts), of(self.pool), of(self.asked)


def logistic_regression(task: Task) -> np.ndarray:
    """Logistic regression on frozen embeddings; scikit-learn's defaults."""
    from sklearn.linear_model import LogisticRegression

    task = task.with_class_rows()
    labeled, _, asked = task.embedded()
    return LogisticRegression(max_iter=1_000).fit(labeled, task.numbers()).predict_proba(asked)


def self_training_classifier(task: Task) -> np.ndarray:
    """scikit-learn's SelfTrainingClassifier around that regression; its defaults (threshold .75)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.semi_supervised import SelfTrainingClassifier

    task = task.with_class_rows()
    labeled, pool, asked = task.embedded()
    model = SelfTrainingClassifier(LogisticRegression(max_iter=1_000))
    return model.fit(*_with_pool(labeled, pool, task.numbers())).predict_proba(asked)


def label_spreading(task: Task) -> np.ndarray:
    """scikit-learn's LabelSpreading over the nearest neighbors of frozen embeddings."""
    from sklearn.semi_supervised import LabelSpreading

    task = task.with_class_rows()
    labeled, pool, asked = task.embedded()
    model = LabelSpreading(kernel="knn", n_neighbors=NEIGHBORS, max_iter=100)
    found = model.fit(*_with_pool(labeled, pool, task.numbers())).predict_proba(asked)
    return np.nan_to_num(found, nan=1 / found.shape[1]) + 1e-9  # rows that no label reaches: nothing is known


def setfit(task: Task) -> np.ndarray:
    """SetFit with its own defaults: one epoch of contrastive pairs, then a logistic regression; classes as template rows."""
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    task = task.beside(template_rows(task.known, task.classes))
    model = SetFitModel.from_pretrained(task.encoder, labels=task.classes)
    model.model_body.max_seq_length = task.max_length
    with tempfile.TemporaryDirectory(prefix="sstext-setfit-") as folder:
        arguments = TrainingArguments(output_dir=folder, seed=task.seed, report_to="none", show_progress_bar=False)
        rows = Dataset.from_dict({"text": list(task.texts), "label": task.numbers().tolist()})
        Trainer(model=model, args=arguments, train_dataset=rows).train()
    return np.asarray(model.predict_proba(list(task.asked), as_numpy=True))


def probe(task: Task) -> np.ndarray:
    """The regression of sstext on frozen embeddings: no peer, but what labeled rows are measured by where the rows differ."""
    labeled, asked = (embed(texts, task.encoder, task.max_length) for texts in (task.texts, task.asked))
    if len(task.classes) == 1:
        return np.ones((len(asked), 1))
    return fit_regression(labeled, task.numbers(), len(task.classes)).probabilities(asked)


#: Name in tables → peer.
PEERS: dict[str, Callable[[Task], np.ndarray]] = {
    "logistic regression (frozen)": logistic_regression,
    "SelfTrainingClassifier (frozen)": self_training_classifier,
    "LabelSpreading (frozen)": label_spreading,
    "SetFit": setfit,
}


def _with_pool(labeled: np.ndarray, pool: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([labeled, pool]), np.concatenate([numbers, np.full(len(pool), -1)])
