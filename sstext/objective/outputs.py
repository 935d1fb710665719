"""The blocks of rows in one step, and the student's outputs for them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

# Blocks: the rows of a step's joint forward pass.
LABELED, UNLABELED = "labeled", "unlabeled"  # the labeled rows; the unlabeled rows as the view shows them


LABELED_AGAIN, UNLABELED_AGAIN = "labeled again", "unlabeled again"  # the same rows under another dropout mask


LABELED_STRONG, WEAK, MASKED = "labeled strong", "weak", "masked"  # changed labeled; unchanged, masked unlabeled rows


#: The order of the blocks in the joint pass. The view comes right after the labeled rows.
BLOCKS = (LABELED, UNLABELED, UNLABELED_AGAIN, LABELED_AGAIN, LABELED_STRONG, WEAK, MASKED)


OF_UNLABELED_ROWS = frozenset({UNLABELED, UNLABELED_AGAIN, WEAK, MASKED})


@dataclass(frozen=True)
class Outputs:
    """The student's outputs in one step, **with** gradient, by block. B labeled rows, N unlabeled rows, C classes.

    Attributes:
        logits: block → (B or N, C). They are 0 for unlabeled rows that the student did not read because they do not count.
        labels: (B,) classes, or (B, C) probabilities.
        row_weights: (B,) weight of each labeled row. Default: 1.
        features: block → (B or N, D) mean-pooled last hidden states, if a regularizer needs them.
        tokens: (M, V) vocabulary logits of the masked tokens of all rows, in row order.
        token_targets: (N, T) original ids of the masked tokens, `IGNORED` at every other token.
        weight: (N,) weight of each unlabeled row. None without a teacher.
        target: (N, C) what the student should predict. None without a teacher.
        progress: t/T.
        gather: concatenates rows over processes. The gradient flows to this process's rows.
    """

    logits: Mapping[str, Tensor]
    labels: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    row_weights: Tensor | None = None
    features: Mapping[str, Tensor] = field(default_factory=dict)
    tokens: Tensor | None = None
    token_targets: Tensor | None = None
    weight: Tensor | None = None
    target: Tensor | None = None
    progress: float = 0.0
    gather: Callable[[Tensor], Tensor] = lambda rows: rows
