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

from sstext.evaluation.calibration import matching_temperature, softmax
from sstext.inference.scoring import score
from sstext.modeling.pooling import last_hidden_states, mean_pooled

#: Inverse strength of the probe's penalty, per class: the more classes, the more a label has to stand out among. What is right
#: hardly depends on it, how sure the probe is does (recipes/benchmark/LOG.md).
PENALTY = 1.5


#: Logit of a class that the probe has seen no label of.
UNLIKELY = -1e4


class Embedder(nn.Module):
    """Mean-pooled last hidden states of an encoder or classifier, at length 1, in the place of its logits: (N, D).

    Args:
        model: with a head or without.
        with_logits: a classifier's C logits stand before them: (N, C + D), from one pass.
    """

    def __init__(self, model: Any, *, with_logits: bool = False) -> None:
        super().__init__()
        self.model, self.with_logits = model, with_logits
        columns = model.config.hidden_size + (model.config.num_labels if with_logits else 0)
        self.config = SimpleNamespace(num_labels=columns)  # what `score` allocates
        self.train(model.training)  # `score` leaves the mode of the whole as it found it

    def forward(self, **inputs: Any) -> Any:
        said = self.model(**inputs, output_hidden_states=True)
        pooled = mean_pooled(last_hidden_states(said, self.model), inputs["attention_mask"])
        parts = [said.logits.float()] if self.with_logits else []
        return SimpleNamespace(logits=torch.cat([*parts, F.normalize(pooled.float(), dim=-1)], -1))


class WithProbe(nn.Module):
    """What a classifier's head and a probe say together: ½ log softmax(head ÷ T) + ½ log softmax(W z + b), (N, C).

    Args:
        classifier: a sequence classifier with C classes.
        weight, bias: W (C, D) and b (C,) of the probe.
        temperature: T of the head.
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


def with_probe(classifier: Any, labeled: Any, unlabeled: Any, tokenizer: Any, *, precision: str = "fp32") -> WithProbe:
    """Fit a probe on labeled rows and put it beside a classifier's head, which is made as sure as the probe.

    The head's temperature is that at which it agrees best with the probe on unlabeled rows. A head alone does not know how sure
    it may be: after a few steps it is flat, after many on the same few labels it is certain, while the penalty keeps the probe
    modest (measured in recipes/benchmark/LOG.md).

    Args:
        classifier: a sequence classifier with C classes, on its device.
        labeled: B tokenized rows with `labels`, of two classes or more. A class without any gets no probability.
        unlabeled: some tokenized rows of the corpus.
        tokenizer, precision: see `sstext.inference.scoring.score`.
    """
    device, classes = next(classifier.parameters()).device, classifier.config.num_labels
    embedder, labels = Embedder(classifier, with_logits=True), np.asarray(labeled["labels"][:])
    embedded = score(embedder, labeled, tokenizer, precision=precision)[:, classes:]
    fitted = LogisticRegression(C=PENALTY * classes, max_iter=1_000).fit(embedded, labels)
    weight, bias = fitted.coef_, fitted.intercept_
    if len(weight) == 1:  # two classes: the second one's log-odds
        weight, bias = np.concatenate([np.zeros_like(weight), weight]), np.concatenate([[0.0], bias])
    of_classes = np.zeros((classes, embedded.shape[1])), np.full(classes, UNLIKELY)
    for of_class, known in zip(of_classes, (weight, bias), strict=True):
        of_class[fitted.classes_] = known
    weight, bias = of_classes
    head, embedded = np.split(score(embedder, unlabeled, tokenizer, precision=precision), [classes], -1)
    temperature = matching_temperature(head, softmax(embedded.astype(np.float64) @ weight.T + bias))
    weight, bias = (torch.tensor(part, dtype=torch.float32, device=device) for part in (weight, bias))
    return WithProbe(classifier, weight, bias, temperature)
