"""One batch in several passes, short rows apart from long ones: on a CPU, padding takes as long as text.

A batch of 32 short texts is half padding (questions: 13 tokens on average, 27 in the longest of 32). In groups of similar
length, each padded to its own longest row, the packaged encoder makes 1.4 to 1.7 times as many steps a second
(recipes/benchmark/LOG.md). What every row gives is the same, but for the dropout that it draws, and where an encoder mixes
padding in. An accelerator would rather have one large pass, and gets one; so do several processes, which must agree on the
number of passes, and compiled models, which would be compiled anew for every length.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

#: What one more pass costs, in tokens of text: 30 ms of small kernels beside .7 ms a token, measured on MiniLM with one
#: thread in float32. More threads make the tokens faster, and hardly the small kernels.
PASS_COST = 48


Read = Callable[[Any, Mapping[str, Any]], tuple[Tensor, ...]]


def in_length_groups(call: Callable[..., Any], inputs: Mapping[str, Any], read: Read, model: nn.Module) -> list[Tensor]:
    """What a model says of every row, (N, …) each, in as many passes as are fastest: one, but on a CPU.

    Args:
        call: the model, or what calls it.
        inputs: of the call, tensors (N, T) and what is no tensor; padded on the right, else they pass as a whole.
        read: what `call` returned, and the inputs that it had → tensors with a row for each of theirs.
        model: whose token embeddings are looked up once for all passes.
    """
    groups = _groups(inputs, model)
    if len(groups) == 1:
        return list(read(call(**inputs), inputs))
    said = []
    with _looked_up_once(model, inputs["input_ids"]) as next_rows:
        for rows in groups:
            length = max(1, int(inputs["attention_mask"][rows].sum(1).max()))
            own = {name: value[rows, :length] if isinstance(value, Tensor) else value for name, value in inputs.items()}
            next_rows(rows)
            said.append(read(call(**own), own))
    back = torch.cat(groups).argsort()
    return [torch.cat(parts)[back] for parts in zip(*said, strict=True)]


def logits_in_length_groups(call: Callable[..., Any], inputs: Mapping[str, Any], model: nn.Module) -> Tensor:
    """The logits of every row, (N, C), see `in_length_groups`."""
    return in_length_groups(call, inputs, lambda said, own: (said.logits,), model)[0]


def _groups(inputs: Mapping[str, Any], model: nn.Module) -> list[Tensor]:
    mask, ids = inputs.get("attention_mask"), inputs["input_ids"]
    everyone = [torch.arange(len(ids))]
    one_shape = all(value.shape == ids.shape for value in inputs.values() if isinstance(value, Tensor))
    if mask is None or mask.device.type != "cpu" or mask.dim() != 2 or not one_shape:
        return everyone
    if hasattr(model, "_orig_mod") or (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return everyone
    lengths = mask.sum(1)
    filled_from_the_left = torch.arange(mask.shape[1]) < lengths[:, None]
    if not torch.equal(mask.bool(), filled_from_the_left):
        return everyone  # padded on the left: positions would change
    cost = PASS_COST * torch.get_num_threads()
    return [torch.from_numpy(rows) for rows in length_groups(lengths.numpy(), cost)]


def length_groups(lengths: np.ndarray, cost: float) -> list[np.ndarray]:
    """Rows in groups of similar length, so that Σ (rows × longest + cost) over the groups is smallest.

    Args:
        lengths: of N rows, in tokens, (N,).
        cost: of a group, in tokens.

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
def _looked_up_once(model: nn.Module, input_ids: Tensor) -> Iterator[Callable[[Tensor], None]]:
    """Let every pass inside find the token embeddings of its rows, which it announces, in one lookup of all rows.

    The gradient of a lookup is as large as the vocabulary's embeddings, however few tokens there are: one per step is
    enough. Without a gradient, and where a model looks up something else than its input, or not in a plain table, its own
    lookup stands.
    """
    layer = _table_of(model)
    if layer is None or not torch.is_grad_enabled() or not layer.weight.requires_grad:
        yield lambda rows: None
        return
    table = layer(input_ids)  # (N, T, D)
    current = torch.arange(0)

    def announce(rows: Tensor) -> None:
        nonlocal current
        current = rows

    def found(module: nn.Module, asked: Any, embedded: Tensor) -> Tensor:
        ids = asked[0] if asked else None
        if ids is None or not torch.equal(ids, input_ids[current, : ids.shape[-1]]):
            return embedded
        return table[current, : ids.shape[-1]]

    handle = layer.register_forward_hook(found)
    try:
        yield announce
    finally:
        handle.remove()


def _table_of(model: nn.Module) -> nn.Embedding | None:
    """The model's token embeddings, where they are a plain table."""
    try:
        layer = model.get_input_embeddings()  # type: ignore[operator]
    except (AttributeError, NotImplementedError):  # no model of transformers; hashed characters
        return None
    return layer if isinstance(layer, nn.Embedding) else None
