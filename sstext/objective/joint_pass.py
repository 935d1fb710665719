"""One forward pass over all rows of a step.

With several devices, the model is then called once with gradient, as in `Trainer`. On a single CPU, rows of similar
length are processed together, see `sstext.modeling.length_groups`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sstext.data.edits import IGNORED
from sstext.modeling.length_groups import in_length_groups
from sstext.modeling.pooling import embeddings_of
from sstext.objective.outputs import LABELED, MASKED, UNLABELED, UNLABELED_AGAIN, Outputs
from sstext.objective.views import shifted_embeddings


def joint_pass(
    student: nn.Module,
    plain: nn.Module,
    blocks: Mapping[str, Mapping[str, Tensor]],
    *,
    rows: Tensor | None = None,
    shift: Tensor | None = None,
    token_targets: Tensor | None = None,
    pooled: bool = False,
    head_only: bool = False,
) -> Outputs:
    """Return the student's outputs for every block, with gradient.

    Args:
        student: the model that is trained, possibly wrapped for several devices.
        plain: the same model without its wrapper.
        blocks: name → inputs, all padded to one length T. The labeled rows come first, the view of the unlabeled rows
            second.
        rows: (M,) ascending positions of the unlabeled rows that are read. The logits of the others are 0, without gradient.
            Only for blocks without a second pass of these rows. Default: all.
        shift: (N, T, D) added to the token embeddings of the view (and of its second pass).
        token_targets: (N, T) original ids of the masked tokens in the block of masked rows, `IGNORED` elsewhere.
        pooled: also return the embeddings of the rows (`sstext.modeling.pooling.embeddings_of`).
        head_only: pass no gradient from the masked tokens to the encoder.
    """
    everyone = len(blocks[UNLABELED]["input_ids"]) if rows is not None else 0
    if rows is not None:
        blocks = {**blocks, UNLABELED: {name: values[rows] for name, values in blocks[UNLABELED].items()}}
    inputs: dict[str, Any] = _stack(list(blocks.values()))
    sizes = {name: len(rows["input_ids"]) for name, rows in blocks.items()}
    if pooled:
        inputs["output_hidden_states"] = True
    if MASKED in blocks and token_targets is not None:
        masked = {name: torch.zeros_like(rows["input_ids"], dtype=torch.bool) for name, rows in blocks.items()}
        masked[MASKED] = token_targets != IGNORED
        inputs |= {"masked": torch.cat(list(masked.values())), "head_only": head_only}
    if shift is not None and UNLABELED_AGAIN in blocks:
        shift = torch.cat([shift, shift])

    def read(outputs: Any, own: Mapping[str, Any]) -> tuple[Tensor, ...]:
        states = [embeddings_of(outputs, plain, own["attention_mask"])] if pooled else []
        return (outputs.logits, *states)

    tokens = None
    if student is plain and shift is None and MASKED not in blocks:
        read_rows = in_length_groups(student, inputs, read, plain)
    else:
        with shifted_embeddings(plain, shift, first=sizes[LABELED]):
            outputs = student(**inputs)
        read_rows, tokens = list(read(outputs, inputs)), outputs.token_logits if MASKED in blocks else None
    logits, *features = (_split(values, sizes) for values in read_rows)
    if rows is not None:
        own = logits[UNLABELED]
        logits[UNLABELED] = own.new_zeros(everyone, *own.shape[1:]).index_copy(0, rows, own)
    return Outputs(logits, features=features[0] if pooled else {}, tokens=tokens, token_targets=token_targets)


def _stack(blocks: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Concatenate several batches that are padded to the same length."""
    if len(blocks) == 1:
        return dict(blocks[0])
    return {name: torch.cat([block[name] for block in blocks]) for name in blocks[0]}


def _split(rows: Tensor, sizes: Mapping[str, int]) -> dict[str, Tensor]:
    return dict(zip(sizes, rows.split(list(sizes.values())), strict=True))
