"""A probe: logistic regression on a student's embeddings. It supports a head that was trained on few labels.

After a few steps on few labels, the embeddings already separate the classes, but the new head does not. With 10 labels
per class, head and probe together were right up to 7 points more often than the head (recipes/benchmark/LOG.md). The
probe is used only to make pseudo-labels. The final model is an ordinary classifier.
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

#: Inverse strength of the probe's penalty, per class, because more classes need larger weights. It changes the probe's
#: confidence, but hardly its accuracy (recipes/benchmark/LOG.md).
PENALTY = 1.5


#: Logit of a class without labeled rows.
UNLIKELY = -1e4


class Embedder(nn.Module):
    """Returns normalized mean-pooled last hidden states (N, D) of an encoder or classifier as `logits`.

    Args:
        model: an encoder or a classifier.
        with_logits: put the classifier's C logits first, from the same pass: (N, C + D).
    """

    def __init__(self, model: Any, *, with_logits: bool = False) -> None:
        super().__init__()
        self.model, self.with_logits = model, with_logits
        columns = model.config.hidden_size + (model.config.num_labels if with_logits else 0)
        self.config = SimpleNamespace(num_labels=columns)  # the number of columns that `score` allocates
        self.train(model.training)  # `score` restores the mode of this module

    def forward(self, **inputs: Any) -> Any:
        outputs = self.model(**inputs, output_hidden_states=True)
        pooled = mean_pooled(last_hidden_states(outputs, self.model), inputs["attention_mask"])
        parts = [outputs.logits.float()] if self.with_logits else []
        return SimpleNamespace(logits=torch.cat([*parts, F.normalize(pooled.float(), dim=-1)], -1))


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


def with_probe(classifier: Any, labeled: Any, unlabeled: Any, tokenizer: Any, *, precision: str = "fp32") -> WithProbe:
    """Fit a probe on labeled rows, and combine it with a classifier's head, which gets a temperature.

    The temperature is chosen so that the head agrees best with the probe on unlabeled rows. The head's own confidence
    is not reliable: it is too low after a few steps, and too high after many steps on the same few labels. The penalty
    keeps the probe's confidence moderate (measured in recipes/benchmark/LOG.md).

    Args:
        classifier: a sequence classifier with C classes, on its device.
        labeled: B tokenized rows with `labels` from at least two classes. A class without rows gets probability 0.
        unlabeled: some tokenized rows of the corpus.
        tokenizer, precision: see `sstext.inference.scoring.score`.
    """
    device, classes = next(classifier.parameters()).device, classifier.config.num_labels
    embedder, labels = Embedder(classifier, with_logits=True), np.asarray(labeled["labels"][:])
    embedded = score(embedder, labeled, tokenizer, precision=precision)[:, classes:]
    fitted = LogisticRegression(C=PENALTY * classes, max_iter=1_000).fit(embedded, labels)
    weight, bias = fitted.coef_, fitted.intercept_
    if len(weight) == 1:  # with two classes, scikit-learn returns only the second class
        weight, bias = np.concatenate([np.zeros_like(weight), weight]), np.concatenate([[0.0], bias])
    of_classes = np.zeros((classes, embedded.shape[1])), np.full(classes, UNLIKELY)
    for of_class, known in zip(of_classes, (weight, bias), strict=True):
        of_class[fitted.classes_] = known
    weight, bias = of_classes
    head, embedded = np.split(score(embedder, unlabeled, tokenizer, precision=precision), [classes], -1)
    temperature = matching_temperature(head, softmax(embedded.astype(np.float64) @ weight.T + bias))
    weight, bias = (torch.tensor(part, dtype=torch.float32, device=device) for part in (weight, bias))
    return WithProbe(classifier, weight, bias, temperature)
