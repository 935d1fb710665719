"""The blocks of rows that pass through the student in one step, and what the student returns for them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

# Blocks: the rows of a step's joint forward pass.
LABELED, UNLABELED = "labeled", "unlabeled"  # the labeled rows; the unlabeled rows as the view shows them


LABELED_AGAIN, UNLABELED_AGAIN = "labeled again", "unlabeled again"  # the same rows under another dropout mask


LABELED_STRONG, WEAK, MASKED = "labeled strong", "weak", "masked"  # changed labeled rows; plain, masked unlabeled rows


#: Their order in the joint pass: the view comes right after the labeled rows.
BLOCKS = (LABELED, UNLABELED, UNLABELED_AGAIN, LABELED_AGAIN, LABELED_STRONG, WEAK, MASKED)


OF_UNLABELED_ROWS = frozenset({UNLABELED, UNLABELED_AGAIN, WEAK, MASKED})


@dataclass(frozen=True)
class Outputs:
    """What the student said in one step, **with** gradient, block by block; B labeled rows, N unlabeled rows, C classes.

    Attributes:
        logits: block → (B or N, C).
        labels: (B,) classes, or (B, C) probabilities.
        row_weights: (B,) how much each labeled row counts; None: in full.
        features: block → (B or N, D) mean-pooled last hidden states, where a regularizer asks for them.
        tokens: (M, V) vocabulary logits of the masked tokens of all rows, in their order.
        token_targets: (N, T) what stood there; `IGNORED` at every other token.
        weight: (N,) how much each unlabeled row counts; None without a teacher.
        target: (N, C) what the teacher says; None without a teacher.
        progress: t/T.
        gather: concatenates rows over processes, with gradient to this process's own.
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
