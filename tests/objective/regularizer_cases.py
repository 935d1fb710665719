"""What the tests of the regularizers share: slow loops in plain Python, and parts and logits that are given."""

import math
from typing import Any

import torch
from torch import Tensor

from sstext.data.edits import IGNORED
from sstext.objective.part import Part
from sstext.objective.regularizers import Clustering


class Statistics(Part):
    """Moving averages as `SelfAdaptive` keeps them, given."""

    def __init__(self, mean_probs: list[float], histogram: list[float]) -> None:
        super().__init__()
        self.add_state("mean_probs", torch.tensor(mean_probs))
        self.add_state("histogram", torch.tensor(histogram))


def logits_of(*probs: list[float]) -> Tensor:
    """Logits whose softmax is these rows."""
    return torch.tensor(probs).log()


def clustering(num_classes: int, **arguments: Any) -> Clustering:
    part = Clustering(**arguments)
    part.bind(num_classes, 1)
    return part


def total(losses: tuple[Tensor, ...]) -> Tensor:
    """What `Objective` makes of a regularizer's losses."""
    return torch.stack([loss.mean() for loss in losses]).sum()


def softmax_by_loop(row: list[float]) -> list[float]:
    powers = [math.exp(value - max(row)) for value in row]
    return [power / sum(powers) for power in powers]


def entropy_by_loop(logits: Tensor) -> list[float]:
    return [-sum(p * math.log(p) for p in softmax_by_loop(row)) for row in logits.double().tolist()]


def balance_by_loop(logits: Tensor, shares: list[float]) -> float:
    rows = [softmax_by_loop(row) for row in logits.double().tolist()]
    mean = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    return sum(m * math.log(m / u) for m, u in zip(mean, shares, strict=True))


def fairness_by_loop(logits: Tensor, weight: Tensor, mean_probs: list[float], histogram: list[float]) -> float:
    rows = [softmax_by_loop(row) for row, w in zip(logits.double().tolist(), weight.tolist(), strict=True) if w > 0]
    classes = range(logits.shape[-1])
    mean = [sum(row[c] for row in rows) / len(rows) for c in classes]
    said = [sum(row.index(max(row)) == c for row in rows) / len(rows) for c in classes]
    a = [mean_probs[c] / histogram[c] for c in classes]
    b = [mean[c] / said[c] if said[c] else 0.0 for c in classes]
    return sum(a[c] / sum(a) * math.log(b[c] / sum(b) + 1e-12) for c in classes)


def contrast_by_loop(features: Tensor, labels: list[int], temperature: float) -> float:
    rows = [[value / math.sqrt(sum(v * v for v in row)) for value in row] for row in features.double().tolist()]
    anchors = []
    for i, anchor in enumerate(rows):
        powers = {
            a: math.exp(sum(x * y for x, y in zip(anchor, row, strict=True)) / temperature)
            for a, row in enumerate(rows)
            if a != i
        }
        positives = [p for p in powers if labels[p] == labels[i]]
        logs = [math.log(powers[p] / sum(powers.values())) for p in positives]
        anchors.append(-sum(logs) / len(logs) if logs else 0.0)
    return sum(anchors) / len(anchors)


def label_loss_by_loop(logits: Tensor, labels: Tensor, weights: list[float]) -> list[float]:
    """Labels are classes or class probabilities."""
    losses = []
    for row, label, weight in zip(logits.double().tolist(), labels.tolist(), weights, strict=True):
        shares = label if isinstance(label, list) else [float(c == label) for c in range(len(row))]
        p = softmax_by_loop(row)
        losses.append(-weight * sum(share * math.log(p[c]) for c, share in enumerate(shares)))
    return losses


def reconstruction_by_loop(tokens: Tensor, targets: Tensor) -> list[float]:
    said = iter(tokens.double().tolist())
    rows = []
    for row in targets.tolist():
        losses = [-math.log(softmax_by_loop(next(said))[token]) for token in row if token != IGNORED]
        rows.append(sum(losses) / len(losses) if losses else 0.0)
    return rows
