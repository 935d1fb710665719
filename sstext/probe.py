"""A probe: logistic regression on a student's embeddings, beside its own head, where few labels have trained the head.

After a few steps on few labels, rows of a class lie together before the new head can tell them apart: with 10 labels a class,
the labels of head and probe together were right up to 7 points more often than the head's (recipes/benchmark/LOG.md). The probe
only labels; what is trained on its labels and shipped is an ordinary classifier.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn import functional as F

from sstext.calibration import USUAL_TEMPERATURE
from sstext.heads import last_hidden_states
from sstext.inference import score
from sstext.objective.regularizers import mean_pooled

#: Inverse strength of the probe's penalty: between 1 and 100 it made no difference.
PENALTY = 10.0


class Embedder(nn.Module):
    """Mean-pooled last hidden states of a classifier, at length 1, in the place of its logits: (N, D)."""

    def __init__(self, classifier: Any) -> None:
        super().__init__()
        self.classifier = classifier
        self.config = SimpleNamespace(num_labels=classifier.config.hidden_size)  # what `score` allocates
        self.train(classifier.training)  # `score` leaves the mode of the whole as it found it

    def forward(self, **inputs: Any) -> Any:
        said = self.classifier(**inputs, output_hidden_states=True)
        pooled = mean_pooled(last_hidden_states(said, self.classifier), inputs["attention_mask"])
        return SimpleNamespace(logits=F.normalize(pooled.float(), dim=-1), said=said)


class WithProbe(nn.Module):
    """What a classifier's head and a probe say together: ½ log softmax(head ÷ T) + ½ log softmax(W z + b), (N, C).

    T is the usual temperature of a head that few labels have trained; the probe's penalty keeps it modest.

    Args:
        classifier: a sequence classifier with C classes.
        weight, bias: W (C, D) and b (C,) of the probe.
    """

    def __init__(self, classifier: Any, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.embedder, self.config = Embedder(classifier), classifier.config
        self.weight: Tensor
        self.bias: Tensor
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.train(classifier.training)

    def forward(self, **inputs: Any) -> Any:
        embedded = self.embedder(**inputs)
        head = F.log_softmax(embedded.said.logits.float() / USUAL_TEMPERATURE, -1)
        probe = F.log_softmax(F.linear(embedded.logits, self.weight, self.bias), -1)
        return SimpleNamespace(logits=(head + probe) / 2)


def with_probe(classifier: Any, labeled: Any, tokenizer: Any, *, precision: str = "fp32") -> WithProbe:
    """Fit a probe on labeled rows and put it beside a classifier's head.

    Args:
        classifier: a sequence classifier, on its device.
        labeled: B tokenized rows with `labels`; every class has one.
        tokenizer, precision: see `sstext.inference.score`.
    """
    device, labels = next(classifier.parameters()).device, np.asarray(labeled["labels"][:])
    embedded = score(Embedder(classifier), labeled, tokenizer, precision=precision)
    fitted = LogisticRegression(C=PENALTY, max_iter=1_000).fit(embedded, labels)
    weight, bias = fitted.coef_, fitted.intercept_
    if len(weight) == 1:  # two classes: the second one's log-odds
        weight, bias = np.concatenate([np.zeros_like(weight), weight]), np.concatenate([[0.0], bias])
    return WithProbe(classifier, *(torch.tensor(part, dtype=torch.float32, device=device) for part in (weight, bias)))
