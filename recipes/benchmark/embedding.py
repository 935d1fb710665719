"""Embeddings of texts by an encoder as it was pretrained: every text once, however many cells read it."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xxhash
from transformers import AutoModel, AutoTokenizer

from sstext.inference.devices import resolve_device, resolve_precision
from sstext.inference.scoring import score
from sstext.modeling.embedder import Embedder
from sstext.storage.whole import write_array_whole

#: Environment variable that names a folder in which embeddings are kept from one process to the next. Default: none are.
CACHE = "SSTEXT_BENCH_CACHE"
_known: dict[tuple[str, int], dict[int, np.ndarray]] = {}


def embed(texts: Sequence[str], encoder: str, max_length: int) -> np.ndarray:
    """Mean-pooled embeddings of length 1, (N, D). Those that are known are not computed again.

    Args:
        encoder: folder or Hub name.
        max_length: tokens of a text that are read.
    """
    folder = os.environ.get(CACHE)
    key = (encoder, max_length)
    if key not in _known:
        _known[key] = _read(folder, key) if folder else {}
    known = _known[key]
    keys = [xxhash.xxh3_64_intdigest(text.encode()) for text in texts]
    if missing := {number: text for number, text in zip(keys, texts, strict=True) if number not in known}:
        known |= zip(missing, _embed(list(missing.values()), *key), strict=True)
        if folder:
            _write(folder, key, known)
    return np.stack([known[number] for number in keys])


def _embed(texts: Sequence[str], encoder: str, max_length: int) -> np.ndarray:
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    device = resolve_device()
    model = Embedder(AutoModel.from_pretrained(encoder).to(device))
    ids = tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
    return score(model, [{"input_ids": one} for one in ids], tokenizer, precision=resolve_precision("auto", device))


def _files(folder: str, key: tuple[str, int]) -> tuple[Path, Path]:
    name = f"{xxhash.xxh3_64_hexdigest(key[0].encode())}-{key[1]}"
    return Path(folder, f"{name}-texts.npy"), Path(folder, f"{name}-rows.npy")


def _read(folder: str, key: tuple[str, int]) -> dict[int, np.ndarray]:
    texts, rows = _files(folder, key)
    if not (texts.exists() and rows.exists()):
        return {}
    return dict(zip(np.load(texts).tolist(), np.load(rows), strict=False))


def _write(folder: str, key: tuple[str, int], known: dict[int, np.ndarray]) -> None:
    texts, rows = _files(folder, key)
    write_array_whole(texts, np.array(list(known), dtype=np.uint64))
    write_array_whole(rows, np.stack(list(known.values())))
