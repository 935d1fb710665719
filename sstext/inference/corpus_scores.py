"""Score a corpus to disk, in one pass or in several passes with dropout. A killed run resumes at the next chunk."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from torch import nn

from sstext.inference.scoring import score
from sstext.progress import Tick
from sstext.storage.chunks import computed_in_chunks
from sstext.storage.run_folder import SCORES

#: Rows that are scored before their result is stored. A killed run repeats at most this number of rows.
CHUNK_ROWS = 20_000


def score_to_disk(
    model: nn.Module,
    rows: Any,
    tokenizer: Any,
    directory: Path,
    *,
    precision: str = "fp32",
    tick: Tick | None = None,
) -> np.ndarray:
    """Like `score`, but the result is stored every `CHUNK_ROWS` rows, so that an interrupted pass can be resumed.

    Returns:
        (N, C) float32, mapped from `directory/scores.npy`.
    """
    columns = int(model.config.num_labels)  # type: ignore[union-attr, arg-type]
    return computed_to_disk(
        lambda some: score(model, some, tokenizer, precision=precision, tick=tick), rows, columns, directory, tick
    )


def computed_to_disk(
    compute: Callable[[Any], np.ndarray], rows: Any, columns: int, directory: Path, tick: Tick | None = None
) -> np.ndarray:
    """Scores (N, columns) of all rows, computed and stored every `CHUNK_ROWS` rows, and mapped from `directory/scores.npy`.

    Args:
        compute: function from n rows to their scores (n, columns).
        rows: N rows of a data set.
        columns: number of columns.
        directory: folder of the file.
        tick: called with the number of rows that an interrupted call has already computed.
    """

    def of_rows(start: int, end: int) -> np.ndarray:
        return compute(rows.select(range(start, end)))

    return computed_in_chunks(directory / SCORES, (len(rows), columns), CHUNK_ROWS, of_rows, done=tick)


def score_passes_to_disk(
    model: nn.Module,
    rows: Any,
    tokenizer: Any,
    file: Path,
    *,
    passes: int,
    seed: int,
    temperature: float = 1.0,
    precision: str = "fp32",
    tick: Tick | None = None,
) -> np.ndarray:
    """Summarize `passes` predictions with dropout for every row, in the columns of `summarize_passes`.

    The dropout masks depend on (seed, chunk, pass, process), so a resumed call gives the same numbers. A chunk takes
    about the same time as a chunk of `score_to_disk`.

    Args:
        model, rows, tokenizer, precision: see `score`.
        file: file of the result.
        passes: number of passes.
        seed: seed of the masks.
        temperature: T of softmax(logits / T), the same for every pass.
        tick: called with the number of rows, in every pass.

    Returns:
        (N, C + 2) float32, mapped from the file.
    """
    device = next(model.parameters()).device

    def summarize_rows(start: int, end: int) -> np.ndarray:
        chunk = rows.select(range(start, end))

        def score_once(turn: int) -> np.ndarray:
            with seeded(device, seed, start, turn, PartialState().process_index):
                return score(model, chunk, tokenizer, precision=precision, dropout=True, tick=tick) / temperature

        return summarize_passes(score_once(turn) for turn in range(passes))

    def tick_passes(n: int = 1) -> None:
        if tick is not None:
            tick(n * passes)

    shape = (len(rows), int(model.config.num_labels) + 2)  # type: ignore[union-attr, arg-type]
    return computed_in_chunks(file, shape, -(-CHUNK_ROWS // passes), summarize_rows, done=tick_passes)


def summarize_passes(logits: Iterable[np.ndarray]) -> np.ndarray:
    """Mean prediction, variance and disagreement of T passes over N rows. Only one pass is in memory at a time.

    q̄ = mean q_t. Var = mean (q_t[c] − q̄[c])² for the class c = argmax q̄; as in the paper's code, the mean divides by
    T. BALD = H(q̄) − mean H(q_t) in nats, at least 0. Mean and squared deviations are updated pass by pass (Welford
    1962). The difference of two running sums would lose all digits in float32 if the passes agree.

    Args:
        logits: T arrays (N, C).

    Returns:
        (N, C + 2) float32: log q̄ (whose softmax is q̄), Var, BALD.

    Source: Mukherjee & Awadallah 2020 (UST), BALD before eq. 7; Houlsby et al. 2011, eq. 2.

    >>> summarize_passes(np.log([[[.9, .1]], [[.5, .5]]])).round(3)  # q̄ = .7, .3; Var = .04
    array([[-0.357, -1.204,  0.04 ,  0.102]], dtype=float32)
    """
    mean, squares, entropy = np.float32(0), np.float32(0), np.float32(0)
    turn = 0
    for turn, values in enumerate(logits, 1):
        z = np.asarray(values, dtype=np.float32)
        log_q = z - z.max(-1, keepdims=True)
        log_q = log_q - np.log(np.exp(log_q).sum(-1, keepdims=True))
        q = np.exp(log_q)
        change = q - mean
        mean = mean + change / np.float32(turn)
        squares = squares + change * (q - mean)
        entropy = entropy - ((q * log_q).sum(-1) + entropy) / np.float32(turn)
    log_mean = np.log(np.maximum(mean, np.finfo(np.float32).tiny))
    label = np.argmax(mean, -1, keepdims=True)
    variance = np.take_along_axis(squares, label, -1) / np.float32(turn)
    disagreement = np.maximum(-(mean * log_mean).sum(-1) - entropy, 0)
    return np.concatenate([log_mean, variance, disagreement[:, None]], -1)


@contextlib.contextmanager
def seeded(device: torch.device, *seed: int) -> Iterator[None]:
    """Seed torch's random numbers inside the block. Afterwards, the earlier generator state is restored."""
    devices = range(torch.cuda.device_count()) if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]))
        yield
