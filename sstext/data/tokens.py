"""Texts → token ids, computed once and stored in Arrow files."""

import math
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sstext.data.columns import VIEW_TEXTS, check_views, paraphrases
from sstext.errors import UserError
from sstext.profiling import TOKENIZING, section
from sstext.storage.damage import reading
from sstext.storage.mapped import give_back, open_rows
from sstext.storage.whole import scratch_beside, written_whole

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from sstext.progress import Tick


#: Rows per Arrow file. An interrupted tokenization continues with the file that was being written.
SHARD_ROWS = 200_000


#: Maximum number of texts that are read to choose a length.
SAMPLE_ROWS = 10_000


#: Column that holds the inputs of every paraphrase of a row.
VIEW_INPUTS = "view_inputs"


def choose_max_length(
    tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str], limit: int, seed: int = 0, prefix: str = ""
) -> int:
    """The 95th percentile of the texts' lengths in tokens, rounded up to a multiple of 8, at most `limit`.

    Args:
        texts: the corpus, for example a column of a data set. Only a sample is read.
        limit: maximum number of tokens that the encoder can read, see `length_limit`.
        prefix: what is put before every text. Its tokens count.
    """
    rows = np.arange(len(texts))
    if len(rows) > SAMPLE_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(len(rows), SAMPLE_ROWS, replace=False))
    sample = [prefix + texts[int(row)] for row in rows]
    # Very long texts are cut at the limit, because their exact length does not change the result.
    lengths = [len(ids) for ids in tokenizer(sample, truncation=True, max_length=limit)["input_ids"]]
    return min(limit, max(8, 8 * math.ceil(float(np.percentile(lengths, 95)) / 8)))


class TextEncoder:
    """A batch of texts → columns of token ids. Each text is cut at `max_length`.

    Args:
        max_length: T in tokens, including special tokens and those of the prefix.
        prefix: what is put before every text.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", max_length: int, prefix: str = "") -> None:
        self.tokenizer, self.max_length, self.prefix = tokenizer, max_length, prefix

    def __call__(self, texts: Sequence[str]) -> dict[str, list]:
        """Token ids, the other inputs of the tokenizer except the attention mask (padding adds it), and `truncated`."""
        whole = [self.prefix + text for text in texts]
        with section(TOKENIZING):
            encoded = self.tokenizer(whole, truncation=True, max_length=self.max_length)
        columns = {name: encoded[name] for name in encoded if name != "attention_mask"}
        # Without special tokens, an empty text has no token at all, and no model reads that.
        if empty := [row for row, ids in enumerate(columns["input_ids"]) if not len(ids)]:
            columns = {name: [*values] for name, values in columns.items()}
            for name, row in product(columns, empty):
                columns[name][row] = [self._filler if name == "input_ids" else 0]
        if encoded.is_fast:
            columns["truncated"] = [bool(one.overflowing) for one in encoded.encodings or []]
        else:  # slow tokenizers do not report cuts, so a text of exactly the limit counts as cut
            columns["truncated"] = [len(ids) >= self.max_length for ids in encoded["input_ids"]]
        return columns

    @property
    def _filler(self) -> int:
        """The token of an empty text."""
        known = self.tokenizer
        ids = (known.eos_token_id, known.bos_token_id, known.unk_token_id, known.pad_token_id)
        return next((int(one) for one in ids if one is not None), 0)

    def paraphrases(self, own: Mapping[str, list], texts: Sequence[Sequence[str]]) -> list[list[dict[str, np.ndarray]]]:
        """The inputs of every paraphrase of a batch of rows.

        Args:
            own: columns of the rows' own texts. A row without a paraphrase counts as its own paraphrase.
            texts: the paraphrases of each row.
        """
        names = [name for name in own if name != "truncated"]
        flat = iter(_records(self([text for row in texts for text in row]), names) if any(texts) else [])
        return [[next(flat) for _ in row] or [itself] for row, itself in zip(texts, _records(own, names), strict=True)]


def prefix_tokens(tokenizer: "PreTrainedTokenizerBase", prefix: str) -> int:
    """Number of tokens that begin every text with a prefix, including special tokens before it. 0 without a prefix.

    A token that has the end of the prefix and the beginning of a text does not count: it differs between texts.
    """
    if not prefix:
        return 0
    texts = [tokenizer(prefix + text)["input_ids"] for text in ("", "a", "1")]
    same = [len(set(ids)) == 1 for ids in zip(*texts, strict=False)]
    return same.index(False) if False in same else len(same)


def with_view_texts(rows: "Dataset", views: Sequence[str], name: str) -> "Dataset":
    """Move the paraphrases of a data set from their columns to one column `VIEW_TEXTS`, which `tokenize` reads.

    Args:
        views: names of the columns.
        name: name of the data set in messages.

    Raises:
        UserError: if a column is missing or does not hold texts.
    """
    from datasets import List, Value

    check_views(views, rows.column_names, name)
    texts = paraphrases({view: rows[view][:] for view in views}, views, lambda i: f"{name}: row {i + 1}")
    others = [view for view in views if view != "text"]
    return rows.remove_columns(others).add_column(VIEW_TEXTS, texts, feature=List(Value("string")))


def _records(columns: Mapping[str, list], names: Sequence[str]) -> list[dict[str, np.ndarray]]:
    # int32, because Arrow uses 64 bits for Python integers inside records.
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
    """Replace the `text` column of a data set by token ids, and rename `label` to `labels`. Other columns are kept.

    Args:
        texts: N rows with `text`, and optionally `label` (class numbers) and `VIEW_TEXTS` (lists of paraphrases, which
            become `VIEW_INPUTS`).
        encoder: tokenizes a batch of texts.
        cache: folder of the Arrow files. Existing files are used. Default: in memory.
        name: beginning of the file names.
        tick: called with the number of rows of each finished batch.

    Raises:
        UserError: if there is no `text` column.
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
        rows = texts.select(range(shard * SHARD_ROWS, min(len(texts), (shard + 1) * SHARD_ROWS)))
        # The fingerprint is set here, because hashing the tokenizer is slow and `tick` cannot be hashed.
        settings: dict[str, Any] = {
            "input_columns": read,
            "batched": True,
            "remove_columns": read,
            "new_fingerprint": label,
        }
        if cache is None:
            parts.append(rows.map(encode, **settings, keep_in_memory=True))
            continue
        file = cache / f"{label}.arrow"
        if not file.exists():
            with written_whole(file, private=True) as partial, scratch_beside(file) as scratch:
                rows.map(encode, **settings, cache_file_name=str(scratch / file.name))
                (scratch / file.name).replace(partial)
            give_back(rows)
        with reading(file):
            parts.append(open_rows(file))
    return concatenate_datasets(parts) if shards > 1 else parts[0]
