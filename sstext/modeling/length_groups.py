"""Split a batch into groups of rows of similar length. On a CPU, padding takes as long as text.

Half of a batch of 32 short texts is padding (for questions: 13 tokens on average, 27 in the longest of 32 rows). With
groups of similar length, each padded to its own longest row, the packaged encoder makes 1.4 to 1.7 times the steps per
second (recipes/benchmark/LOG.md). The outputs are the same, except for the dropout masks, and unless an encoder mixes
padding into its outputs. The batch stays whole in three cases: on an accelerator, where one large pass is faster; with
several processes, which must make the same number of passes; and with compiled models, which would be compiled again
for every length.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

#: Cost of one more pass, in tokens of text: 30 ms of small kernels, compared with .7 ms per token, measured on MiniLM
#: with one thread in float32. More threads speed up the tokens, but hardly the small kernels.
PASS_COST = 48


Read = Callable[[Any, Mapping[str, Any]], tuple[Tensor, ...]]


def in_length_groups(call: Callable[..., Any], inputs: Mapping[str, Any], read: Read, model: nn.Module) -> list[Tensor]:
    """Compute a model's outputs for every row, (N, …) each, in the number of passes that is fastest on this device.

    Args:
        call: the model, or a function that calls it.
        inputs: arguments of the call, tensors (N, T) and other values. They are split only if they are padded on the
            right.
        read: function from the result of `call` and its inputs to tensors with one row per input row.
        model: the model, whose token embeddings are looked up once for all passes.
    """
    groups = _groups(inputs, model)
    if len(groups) == 1:
        return list(read(call(**inputs), inputs))
    outputs = []
    with _one_lookup(model, inputs["input_ids"]) as next_rows:
        for rows in groups:
            length = max(1, int(inputs["attention_mask"][rows].sum(1).max()))
            own = {name: value[rows, :length] if isinstance(value, Tensor) else value for name, value in inputs.items()}
            next_rows(rows)
            outputs.append(read(call(**own), own))
    back = torch.cat(groups).argsort()
    return [torch.cat(parts)[back] for parts in zip(*outputs, strict=True)]


def logits_in_length_groups(call: Callable[..., Any], inputs: Mapping[str, Any], model: nn.Module) -> Tensor:
    """The logits of every row, (N, C), see `in_length_groups`."""
    return in_length_groups(call, inputs, lambda output, own: (output.logits,), model)[0]


def may_choose_rows(ids: Tensor, model: nn.Module) -> bool:
    """Whether the number of rows in a pass may depend on their content: on a CPU, in one process, and not compiled."""
    alone = not (torch.distributed.is_available() and torch.distributed.is_initialized())
    return ids.device.type == "cpu" and alone and not hasattr(model, "_orig_mod")


def _groups(inputs: Mapping[str, Any], model: nn.Module) -> list[Tensor]:
    mask, ids = inputs.get("attention_mask"), inputs["input_ids"]
    one_group = [torch.arange(len(ids))]
    one_shape = all(value.shape == ids.shape for value in inputs.values() if isinstance(value, Tensor))
    if mask is None or mask.dim() != 2 or not one_shape or not may_choose_rows(ids, model):
        return one_group
    lengths = mask.sum(1)
    filled_from_the_left = torch.arange(mask.shape[1]) < lengths[:, None]
    if not torch.equal(mask.bool(), filled_from_the_left):
        return one_group  # with padding on the left, positions would change
    cost = PASS_COST * torch.get_num_threads()
    return [torch.from_numpy(rows) for rows in length_groups(lengths.numpy(), cost)]


def length_groups(lengths: np.ndarray, cost: float) -> list[np.ndarray]:
    """Group rows by length so that Σ (rows × longest + cost) over the groups is minimal.

    Args:
        lengths: (N,) lengths of the rows in tokens.
        cost: cost of one group, in tokens.

    >>> [rows.tolist() for rows in length_groups(np.array([60, 9, 10, 9, 10, 58]), cost=48)]
    [[1, 3, 2, 4], [5, 0]]
    """
    order = np.argsort(lengths, kind="stable")
    ordered = np.maximum(lengths[order], 1)
    best, start = np.zeros(len(order) + 1), np.zeros(len(order) + 1, dtype=int)
    for last in range(1, len(order) + 1):  # the last group of the first rows begins at `start`
        whole = best[:last] + np.arange(last, 0, -1) * ordered[last - 1] + cost
        start[last] = np.argmin(whole)
        best[last] = whole[start[last]]
    groups, last = [], len(order)
    while last:
        groups.append(order[start[last] : last])
        last = start[last]
    return groups[::-1]


@contextmanager
def _one_lookup(model: nn.Module, input_ids: Tensor) -> Iterator[Callable[[Tensor], None]]:
    """Look up the token embeddings of all rows once, for all passes inside the block.

    Yields a function that must be called with the rows of each pass before it.

    The gradient of a lookup has the size of the whole embedding table, even for few tokens, so one per step is enough.
    The model keeps its own lookup if there is no gradient, if it looks up other ids than its input, or if its
    embeddings are not a plain table.
    """
    layer = _table_of(model)
    if layer is None or not torch.is_grad_enabled() or not layer.weight.requires_grad:
        yield lambda rows: None
        return
    table = layer(input_ids)  # (N, T, D)
    current = torch.arange(0)

    def set_rows(rows: Tensor) -> None:
        nonlocal current
        current = rows

    def replace_lookup(module: nn.Module, arguments: Any, embedded: Tensor) -> Tensor:
        ids = arguments[0] if arguments else None
        if ids is None or not torch.equal(ids, input_ids[current, : ids.shape[-1]]):
            return embedded
        return table[current, : ids.shape[-1]]

    handle = layer.register_forward_hook(replace_lookup)
    try:
        yield set_rows
    finally:
        handle.remove()


def _table_of(model: nn.Module) -> nn.Embedding | None:
    """The token embeddings of the model if they are a plain table, otherwise None."""
    try:
        layer = model.get_input_embeddings()  # type: ignore[operator]
    except (AttributeError, NotImplementedError):  # not a transformers model, or hashed characters
        return None
    return layer if isinstance(layer, nn.Embedding) else None
