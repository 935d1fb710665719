"""Texts → token ids: once, to Arrow files on disk."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sstext.data.columns import VIEW_TEXTS, check_views, paraphrases
from sstext.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from sstext.progress import Tick


#: Rows per Arrow file: an interrupted tokenization goes on at the file it was writing.
SHARD_ROWS = 200_000


#: Texts that are looked at to choose a length.
SAMPLE_ROWS = 10_000


#: Column with the inputs of every paraphrase of a row.
VIEW_INPUTS = "view_inputs"


def choose_max_length(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str], limit: int, seed: int = 0) -> int:
    """The 95th percentile of the texts' lengths in tokens, rounded up to a multiple of 8, within `limit`.

    Args:
        texts: the corpus (a column of a data set: only a sample of it is read).
        limit: what the encoder can read, see `length_limit`.
    """
    rows = np.arange(len(texts))
    if len(rows) > SAMPLE_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(len(rows), SAMPLE_ROWS, replace=False))
    sample = [texts[int(row)] for row in rows]
    # Texts far beyond the limit are cut: their exact length changes nothing.
    lengths = [len(ids) for ids in tokenizer(sample, truncation=True, max_length=limit)["input_ids"]]
    return min(limit, max(8, 8 * math.ceil(float(np.percentile(lengths, 95)) / 8)))


class TextEncoder:
    """A batch of texts → columns of token ids, each text cut at `max_length`.

    Args:
        max_length: T, in tokens, special tokens included.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", max_length: int) -> None:
        self.tokenizer, self.max_length = tokenizer, max_length

    def __call__(self, texts: Sequence[str]) -> dict[str, list]:
        """Token ids and the tokenizer's other inputs but the attention mask (padding makes it), and `truncated`."""
        encoded = self.tokenizer(list(texts), truncation=True, max_length=self.max_length)
        columns = {name: encoded[name] for name in encoded if name != "attention_mask"}
        if encoded.is_fast:
            columns["truncated"] = [bool(one.overflowing) for one in encoded.encodings or []]
        else:  # slow tokenizers do not tell: a text of exactly the limit counts as cut
            columns["truncated"] = [len(ids) >= self.max_length for ids in encoded["input_ids"]]
        return columns

    def paraphrases(self, own: Mapping[str, list], texts: Sequence[Sequence[str]]) -> list[list[dict[str, np.ndarray]]]:
        """The inputs of every paraphrase of a batch of rows.

        Args:
            own: columns of the rows' own texts: a row without a paraphrase has itself as its only one.
            texts: the paraphrases of each row.
        """
        names = [name for name in own if name != "truncated"]
        flat = iter(_records(self([text for row in texts for text in row]), names) if any(texts) else [])
        return [[next(flat) for _ in row] or [itself] for row, itself in zip(texts, _records(own, names), strict=True)]


def with_view_texts(rows: "Dataset", views: Sequence[str], name: str) -> "Dataset":
    """A data set with columns of paraphrases → one with all of them in `VIEW_TEXTS`, which `tokenize` reads.

    Args:
        views: the columns.
        name: what the data set is called in messages.

    Raises:
        UserError: one of the columns is missing or holds no texts.
    """
    from datasets import List, Value

    check_views(views, rows.column_names, name)
    texts = paraphrases({view: rows[view][:] for view in views}, views, lambda i: f"{name}: row {i + 1}")
    others = [view for view in views if view != "text"]
    return rows.remove_columns(others).add_column(VIEW_TEXTS, texts, feature=List(Value("string")))


def _records(columns: Mapping[str, list], names: Sequence[str]) -> list[dict[str, np.ndarray]]:
    # 32 bits: Arrow would take 64 for integers inside of records.
    rows = zip(*(columns[name] for name in names), strict=True)
    return [dict(zip(names, (np.asarray(values, np.int32) for values in row), strict=True)) for row in rows]


def tokenize(
    texts: "Dataset",
    encoder: TextEncoder,
    *,
    cache: Path | None = None,
    name: str = "texts",
    tick: "Tick | None" = None,
) -> "Dataset":
    """A data set with a `text` column → one with token ids, `labels` where there was a `label`, other columns kept.

    Args:
        texts: N rows with `text`, and perhaps `label` (C class numbers) and `VIEW_TEXTS` (lists of paraphrases, which become
            `VIEW_INPUTS`).
        encoder: what tokenizes.
        cache: folder of the Arrow files; files that are there already are taken. None: in memory.
        name: how the files are called.
        tick: told the number of rows after every batch.

    Raises:
        UserError: there is no `text` column.
    """
    from datasets import concatenate_datasets

    if "text" not in texts.column_names:
        raise UserError(f"expected a column 'text' or tokenized 'input_ids', found the columns {texts.column_names}")
    if "label" in texts.column_names:
        texts = texts.rename_column("label", "labels")

    read = ["text"] + [VIEW_TEXTS] * (VIEW_TEXTS in texts.column_names)

    def encode(batch: list[str], paraphrases: list[list[str]] | None = None) -> dict[str, list]:
        columns = encoder(batch)
        if paraphrases is not None:
            columns[VIEW_INPUTS] = encoder.paraphrases(columns, paraphrases)
        if tick is not None:
            tick(len(batch))
        return columns

    shards = max(1, math.ceil(len(texts) / SHARD_ROWS))
    parts = []
    for shard in range(shards):
        label = f"{name}-{shard:05d}-of-{shards:05d}-length-{encoder.max_length}"
        where: dict[str, Any] = {"keep_in_memory": True}
        if cache is not None:
            cache.mkdir(parents=True, exist_ok=True)
            where = {"cache_file_name": str(cache / f"{label}.arrow"), "load_from_cache_file": True}
        rows = texts.select(range(shard * SHARD_ROWS, min(len(texts), (shard + 1) * SHARD_ROWS)))
        # A fingerprint of our own: hashing the tokenizer is slow, and `tick` cannot be hashed.
        parts.append(
            rows.map(encode, input_columns=read, batched=True, remove_columns=read, new_fingerprint=label, **where)
        )
    return concatenate_datasets(parts) if shards > 1 else parts[0]
