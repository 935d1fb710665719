"""Compute logits in batches of similar cost, divided over all processes."""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather
from accelerate.utils.memory import clear_device_cache
from torch import nn

from sstext.config.spelling import spelled
from sstext.data.batching import INPUTS
from sstext.errors import MachineError, is_out_of_memory
from sstext.inference.devices import TOKENS_PER_BATCH, autocast
from sstext.modeling.finite import refuse_bad_outputs
from sstext.profiling import SCORING, section, step
from sstext.progress import Tick
from sstext.storage.mapped import give_back

#: Share of the tokens of a batch that may be padding. Less padding saves more than a few more batches cost.
PADDING = 0.03
#: A batch below this share of its largest size takes further rows, however much padding that makes: small batches are slow.
SMALL = 1 / 8


def plan_batches(lengths: Sequence[int] | np.ndarray, tokens_per_batch: int) -> list[np.ndarray]:
    """Group rows of similar length into batches of at most `tokens_per_batch` padded tokens, longest first.

    A batch ends, too, where a shorter row would make more than a share `PADDING` of it padding, unless it is `SMALL`. The
    longest rows come first, so that memory peaks at the start. Every row is in exactly one batch.

    >>> [batch.tolist() for batch in plan_batches([1, 9, 2, 8], 18)]
    [[1], [3], [2], [0]]
    >>> [batch.tolist() for batch in plan_batches([30, 30, 30, 10, 10, 10], 160)]
    [[0, 1, 2], [3, 4, 5]]
    """
    lengths = np.asarray(lengths)
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        longest = max(1, int(lengths[order[start]]))
        rows = order[start : start + max(1, tokens_per_batch // longest)]
        padded = longest * np.arange(1, len(rows) + 1)
        full = (padded - np.cumsum(lengths[rows]) > PADDING * padded) & (padded > SMALL * tokens_per_batch)
        size = max(1, int(full.argmax())) if full.any() else len(rows)
        batches.append(rows[:size])
        start += size
    return batches


def in_batches_that_fit(
    lengths: Sequence[int] | np.ndarray, tokens_per_batch: int, forward: Callable[[np.ndarray], object]
) -> Iterator[int]:
    """Call `forward` with the rows of each batch of `plan_batches`. Yields the number of rows of each finished batch.

    If memory runs out, the rows that are left are planned again, in batches of half as many tokens as the one that failed.

    Raises:
        MachineError: memory runs out for a single row.
    """
    lengths = np.asarray(lengths)
    waiting = deque(plan_batches(lengths, tokens_per_batch))
    while waiting:
        batch = waiting[0]
        if _fits(forward, batch):
            yield len(waiting.popleft())
            continue
        if len(batch) == 1:
            raise MachineError(
                f"memory ran out for a single text of {lengths[batch[0]]:,} tokens; cut texts with {spelled('max_length')}, or "
                "use a smaller model"
            )
        clear_device_cache(garbage_collection=True)
        left = np.concatenate(waiting)
        half = int(lengths[batch[0]]) * (len(batch) // 2)
        waiting = deque(left[some] for some in plan_batches(lengths[left], half))


def _fits(forward: Callable[[np.ndarray], object], batch: np.ndarray) -> bool:
    """Call `forward`. Returns whether there was enough memory. The error, which holds on to tensors, is gone by then."""
    try:
        forward(batch)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    return True


@section(SCORING)
@torch.inference_mode()
def score(
    model: nn.Module,
    rows: Any,
    tokenizer: Any,
    *,
    precision: str = "fp32",
    tokens_per_batch: int | None = None,
    dropout: bool = False,
    tick: Tick | None = None,
) -> np.ndarray:
    """Logits of tokenized rows, (N, C) float32, in the order of the rows.

    Under `accelerate launch`, every process scores a share, and all processes get the whole result. If memory runs out, the
    rows of a batch are scored again in halves, and later batches are as small.

    Args:
        model: a sequence classifier, on its device.
        rows: N rows with `input_ids` (a data set, or a list of dicts).
        tokenizer: pads the batches.
        precision: fp32, bf16 or fp16.
        tokens_per_batch: padded tokens per forward pass. Default: depends on the device.
        dropout: whether the model's dropout is on, as in training. The masks use torch's global random numbers.
        tick: called with the estimated number of rows in all processes after every batch of this process.

    Raises:
        UserError: a logit is NaN or infinite.
        MachineError: memory runs out for a single row.
    """
    state, device = PartialState(), device_of(model)
    budget = tokens_per_batch or TOKENS_PER_BATCH.get(device.type, 16_384)
    mine = np.arange(state.process_index, len(rows), state.num_processes)
    features = _features(rows, mine)
    give_back(rows)
    share = math.ceil(len(rows) / state.num_processes)  # a gather needs equal shapes, so shorter shares are padded
    logits = torch.zeros(share, model.config.num_labels, device=device)  # type: ignore[union-attr, arg-type]
    training = model.training
    model.train(dropout)

    def forward(batch: np.ndarray) -> None:
        inputs = tokenizer.pad([features[row] for row in batch], return_tensors="pt").to(device)
        with step("scoring"), autocast(device, precision):
            logits[torch.from_numpy(batch).to(device)] = model(**inputs).logits.float().to(device)

    try:
        for done in in_batches_that_fit([len(feature["input_ids"]) for feature in features], budget, forward):
            if tick is not None:
                tick(done * state.num_processes)  # other processes are about as far
    finally:
        model.train(training)
    if state.num_processes > 1:
        shares = gather(logits).view(state.num_processes, share, -1)
        logits = shares.transpose(0, 1).reshape(-1, shares.shape[-1])  # row = share row × processes + process
    found = logits[: len(rows)].cpu().numpy()
    refuse_bad_outputs(found, precision)
    return found


def device_of(model: nn.Module) -> torch.device:
    """The device of a model's inputs: that of its first weights which are on one."""
    found = (part.device for part in model.parameters() if part.device.type != "meta")  # those on disk are on none
    return next(found, torch.device("cpu"))


def _features(rows: Any, chosen: np.ndarray) -> list[dict[str, list]]:
    """The inputs of the chosen rows. A data set is read by columns, which is twenty times faster than by rows."""
    if not hasattr(rows, "column_names"):
        return [{name: rows[row][name] for name in INPUTS if name in rows[row]} for row in chosen]
    names = [name for name in INPUTS if name in rows.column_names]
    columns = rows.select_columns(names)[chosen.tolist()]
    return [dict(zip(names, values, strict=True)) for values in zip(*(columns[name] for name in names), strict=True)]
