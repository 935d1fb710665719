"""A probe: logistic regression on a student's embeddings. It supports a head that was trained on few labels.

After a few steps on few labels, the embeddings already separate the classes, but the new head does not. With 10 labels
per class, head and probe together were right up to 7 points more often than the head (recipes/benchmark/LOG.md). The
probe is used only to make pseudo-labels. The final model is an ordinary classifier.
"""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sstext.evaluation.calibration import matching_temperature
from sstext.inference.scoring import score
from sstext.modeling.embedder import Embedder
from sstext.modeling.reading import write_linear
from sstext.progress import Tick
from sstext.pseudolabels.embeddings import NOT_KEPT, Embeddings
from sstext.pseudolabels.regression import ClassTexts, centered, fit_regression, nearest_description


class WithProbe(nn.Module):
    """The combined prediction of head and probe: ½ log softmax(head ÷ T) + ½ log softmax(W z + b), (N, C).

    Args:
        classifier: a sequence classifier with C classes.
        weight, bias: W (C, D) and b (C,) of the probe.
        temperature: T, the head's temperature.
    """

    def __init__(self, classifier: Any, weight: Tensor, bias: Tensor, temperature: float = 1.0) -> None:
        super().__init__()
        self.embedder = Embedder(classifier, with_logits=True)
        self.config, self.temperature = classifier.config, temperature
        self.weight: Tensor
        self.bias: Tensor
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.train(classifier.training)

    def forward(self, **inputs: Any) -> Any:
        head, embedded = self.embedder(**inputs).logits.tensor_split([self.config.num_labels], -1)
        probe = F.log_softmax(F.linear(embedded, self.weight, self.bias), -1)
        return SimpleNamespace(logits=(F.log_softmax(head / self.temperature, -1) + probe) / 2)


def with_regression(
    model: Any,
    labeled: Any,
    tokenizer: Any,
    *,
    class_texts: Any = None,
    weight: float = 0.0,
    precision: str = "fp32",
    kept: Embeddings = NOT_KEPT,
) -> None:
    """Make the head of a classifier a regression on its embeddings, in place.

    The embeddings are those that the head reads: without their mean over the features, and of length 1.

    Args:
        model: a classifier whose head reads embeddings (`sstext.modeling.reading`), on its device.
        labeled, tokenizer, class_texts, weight, precision: see `with_probe`.
        kept: where embeddings are kept. Default: nowhere.
    """
    beside = None
    if class_texts is not None and weight > 0:
        embedded = read_embeddings(model, class_texts, tokenizer, precision, kept)
        beside = ClassTexts(embedded, np.asarray(class_texts["labels"][:]))
    labels, embedded = np.asarray(labeled["labels"][:]), read_embeddings(model, labeled, tokenizer, precision, kept)
    fitted = fit_regression(embedded, labels, model.config.num_labels, beside, weight)
    write_linear(model, torch.tensor(fitted.weight), torch.tensor(fitted.bias))


def regression_logits(
    model: Any,
    heads: Sequence[tuple[Tensor, Tensor]],
    rows: Any,
    tokenizer: Any,
    *,
    precision: str = "fp32",
    kept: Embeddings = NOT_KEPT,
    tick: Tick | None = None,
) -> np.ndarray:
    """What K regressions on the same encoder predict for rows: W z + b of each, side by side, (N, K · C) float32.

    Args:
        model: one of their classifiers, on its device.
        heads: W (C, D) and b (C,) of each regression, see `sstext.modeling.reading.read_linear`.
        rows, tokenizer, precision, tick: see `sstext.inference.scoring.score`.
        kept: see `with_regression`.
    """
    weights, biases = (torch.cat(parts).float().cpu().numpy() for parts in zip(*heads, strict=True))
    return read_embeddings(model, rows, tokenizer, precision, kept, tick) @ weights.T + biases


def with_descriptions(
    model: Any, described: Any, tokenizer: Any, *, precision: str = "fp32", kept: Embeddings = NOT_KEPT
) -> None:
    """Make the head of a classifier the zero-shot classifier of descriptions (`nearest_description`), in place.

    Args:
        model: see `with_regression`.
        described: tokenized descriptions with `labels`, at least one of every class.
        tokenizer, precision: see `with_probe`.
        kept: see `with_regression`.
    """
    embedded = read_embeddings(model, described, tokenizer, precision, kept)
    found = nearest_description(ClassTexts(embedded, np.asarray(described["labels"][:])), model.config.num_labels)
    write_linear(model, torch.tensor(found.weight), torch.tensor(found.bias))


def read_embeddings(
    model: Any,
    rows: Any,
    tokenizer: Any,
    precision: str = "fp32",
    kept: Embeddings = NOT_KEPT,
    tick: Tick | None = None,
) -> np.ndarray:
    """The embeddings that the head of a classifier reads, (N, D): without their mean over the features, and of length 1."""
    return centered(kept.of(model, rows, tokenizer, precision=precision, tick=tick))


def with_probe(
    classifier: Any,
    labeled: Any,
    unlabeled: Any,
    tokenizer: Any,
    *,
    class_texts: Any = None,
    weight: float = 0.0,
    precision: str = "fp32",
) -> WithProbe:
    """Fit a probe on labeled rows, and combine it with a classifier's head, which gets a temperature.

    The temperature is chosen so that the head agrees best with the probe on unlabeled rows. The head's own confidence
    is not reliable: it is too low after a few steps, and too high after many steps on the same few labels. The penalty
    keeps the probe's confidence moderate (measured in recipes/benchmark/LOG.md).

    Args:
        classifier: a sequence classifier with C classes, on its device.
        labeled: B tokenized rows with `labels` from at least two classes. A class without rows gets probability 0.
        unlabeled: some tokenized rows of the corpus.
        class_texts: tokenized names or descriptions of the classes with `labels`, or None.
        weight: of the class texts, see `fit_regression`.
        tokenizer, precision: see `sstext.inference.scoring.score`.
    """
    device, classes = next(classifier.parameters()).device, classifier.config.num_labels
    embedder = Embedder(classifier, with_logits=True)

    def embedded(rows: Any) -> tuple[np.ndarray, np.ndarray]:
        head, embeddings = np.split(score(embedder, rows, tokenizer, precision=precision), [classes], -1)
        return head, embeddings

    beside = None
    if class_texts is not None and weight > 0:
        beside = ClassTexts(embedded(class_texts)[1], np.asarray(class_texts["labels"][:]))
    probe = fit_regression(embedded(labeled)[1], np.asarray(labeled["labels"][:]), classes, beside, weight)
    head, embeddings = embedded(unlabeled)
    temperature = matching_temperature(head, probe.probabilities(embeddings))
    weights, bias = (torch.tensor(part, dtype=torch.float32, device=device) for part in (probe.weight, probe.bias))
    return WithProbe(classifier, weights, bias, temperature)
