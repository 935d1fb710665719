"""Training items → batches. All rows that the student may read in one pass are padded to the same length."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from sstext.data.edits import IGNORED

Inputs = dict[str, torch.Tensor]


class PairedCollator:
    """Items of `TrainingRows` → one nested batch of B labeled and N unlabeled rows.

    The batch holds the inputs of the labeled rows (B, T each), `labels`, `weight` and optionally `strong` (inputs, B).
    If there are unlabeled rows, `unlabeled` holds `weak` and `strong` (inputs, N), `ids` and `keys` (N,), and
    optionally `masked` (inputs, N) and `masked_targets` (N, T). T is the same for all inputs. Rows without views
    (evaluation) are only padded.

    Args:
        pad: function from a list of inputs to padded tensors (for example `DataCollatorWithPadding`).
    """

    def __init__(self, pad: Callable[[list[dict[str, Any]]], Mapping[str, torch.Tensor]]) -> None:
        self.pad = pad

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        if "inputs" not in items[0]:
            return dict(self.pad(list(items)))  # type: ignore[arg-type]
        views = [view for item in items for view in item.get("unlabeled", [])]
        same = all(view["weak"] is view["strong"] for view in views)
        labeled, strong_labeled, weak, strong, masked = self._pad_together(
            [item["inputs"] for item in items],
            [item["strong"] for item in items if "strong" in item],
            [view["weak"] for view in views],
            [] if same else [view["strong"] for view in views],
            [view["masked"] for view in views if "masked" in view],
        )
        batch: dict[str, Any] = dict(labeled)
        batch["labels"] = stack_labels([item["labels"] for item in items])
        batch["weight"] = torch.tensor([item["weight"] for item in items])
        if strong_labeled:
            batch["strong"] = strong_labeled
        if views:
            batch["unlabeled"] = {"weak": weak, "strong": weak if same else strong}
            batch["unlabeled"]["ids"] = torch.tensor([view["id"] for view in views])
            batch["unlabeled"]["keys"] = torch.tensor([view["key"] for view in views])
        if masked:
            targets = [view["masked_targets"] for view in views]
            batch["unlabeled"] |= {"masked": masked, "masked_targets": _pad_targets(masked, targets)}
        return batch

    def _pad_together(self, *blocks: list[dict[str, Any]]) -> list[Inputs]:
        """Pad the rows of all blocks to the longest row. A block without rows stays empty."""
        whole = self.pad([row for block in blocks for row in block])
        padded: list[Inputs] = []
        first = 0
        for block in blocks:
            last = first + len(block)
            padded.append({name: values[first:last] for name, values in whole.items()} if block else {})
            first = last
        return padded


def _pad_targets(inputs: Inputs, values: Sequence[Sequence[int]]) -> torch.Tensor:
    """Pad one value per token of every row, (N, T), on the same side as the inputs."""
    padded = torch.full_like(inputs["input_ids"], IGNORED)
    padded[inputs["attention_mask"].bool()] = torch.tensor([value for row in values for value in row])
    return padded


def stack_labels(labels: Sequence[Any]) -> torch.Tensor:
    """Stack classes to (B,) int64. If some rows have probabilities, stack to (B, C) float32 with one-hot classes.

    >>> stack_labels([1, [.75, .25]])
    tensor([[0.0000, 1.0000],
            [0.7500, 0.2500]])
    """
    soft = next((label for label in labels if isinstance(label, Sequence | np.ndarray)), None)
    if soft is None:
        return torch.tensor([int(label) for label in labels])
    one_hot = np.eye(len(soft), dtype=np.float32)
    rows = [one_hot[label] if isinstance(label, int | np.integer) else label for label in labels]
    return torch.tensor(np.asarray(rows, dtype=np.float32))
