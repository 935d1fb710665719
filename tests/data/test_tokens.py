"""Tokens: lengths chosen by the rule, cuts counted exactly, and nothing tokenized twice."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

from sstext.data import tokens
from sstext.data.columns import VIEW_TEXTS
from sstext.data.tokens import VIEW_INPUTS, TextEncoder, choose_max_length, prefix_tokens, tokenize, with_view_texts
from sstext.errors import UserError
from sstext.modeling.pretrained import length_limit, tell_limit


@pytest.fixture(scope="module")
def tokenizer(tiny_encoder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_encoder)


def text(length: int) -> str:
    """A text of `length` tokens, the two special ones included."""
    return " ".join(["money"] * (length - 2))


def data_set(n: int, **columns: list[Any]) -> Dataset:
    return Dataset.from_dict({"text": [text(3 + i) for i in range(n)], **columns})


class Counter:
    """A tick that remembers how many rows it was told."""

    def __init__(self) -> None:
        self.rows = 0

    def __call__(self, n: int = 1) -> None:
        self.rows += n


# Lengths


@pytest.mark.parametrize(
    ("model_type", "positions", "pad_token_id", "tokenizer_limit", "limit"),
    [
        ("bert", 512, 0, 64, 64),
        ("bert", 64, 0, 512, 64),
        ("bert", 512, 5, 10**30, 512),
        ("roberta", 514, 1, 10**30, 512),
        ("xlm-roberta", 514, 1, 10**30, 512),
        ("camembert", 514, 1, 10**30, 512),
        ("xlnet", -1, 5, 128, 128),
    ],
)
def test_length_limit(model_type: str, positions: int, pad_token_id: int, tokenizer_limit: int, limit: int) -> None:
    """Guards against an index error inside RoBERTa, whose first position is pad_token_id + 1."""
    config: Any = SimpleNamespace(
        model_type=model_type, max_position_embeddings=positions, pad_token_id=pad_token_id
    )  # as PretrainedConfig
    named: Any = SimpleNamespace(model_max_length=tokenizer_limit)
    assert length_limit(named, config) == limit
    tell_limit(named, config)
    assert named.model_max_length == limit, "a saved tokenizer cuts where the encoder ends, in `pipeline`, too"


def test_length_limit_of_a_model_without_positions(tokenizer: Any) -> None:
    """Relative positions (T5, DeBERTa): only the tokenizer knows a limit."""
    config: Any = SimpleNamespace(model_type="t5", pad_token_id=0)
    assert length_limit(tokenizer, config) == 64
    unlimited: Any = SimpleNamespace(model_max_length=10**30)
    tell_limit(unlimited, config)
    assert unlimited.model_max_length == 10**30, "nothing is cut where nothing must be"


@pytest.mark.parametrize(
    ("lengths", "limit", "chosen"),
    [
        ([10] * 97 + [60] * 3, 64, 16),  # the longest 3 % do not count
        ([10] * 90 + [42] * 10, 64, 48),  # the longest 10 % do
        ([16] * 100, 64, 16),  # a multiple of 8 is not rounded further
        ([17] * 100, 64, 24),
        ([40] * 100, 30, 30),  # within the limit, though that is no multiple of 8
        ([3] * 100, 64, 8),
        ([3], 4, 4),
    ],
)
def test_max_length_is_the_95th_percentile(tokenizer: Any, lengths: list[int], limit: int, chosen: int) -> None:
    """Guards against padding to the longest text, and against a length that the encoder can not read."""
    assert choose_max_length(tokenizer, [text(length) for length in lengths], limit) == chosen


def test_only_a_sample_of_a_large_corpus_is_read(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a corpus pulled into memory to choose a length; the sample is the same every time."""
    monkeypatch.setattr(tokens, "SAMPLE_ROWS", 5)

    class Column(Sequence):
        def __init__(self) -> None:
            self.read: list[int] = []

        def __len__(self) -> int:
            return 1000

        def __getitem__(self, row: Any) -> str:
            self.read.append(row)
            return text(10)

    columns = Column(), Column()
    assert {choose_max_length(tokenizer, column, 64) for column in columns} == {16}
    assert columns[0].read == columns[1].read
    assert len(set(columns[0].read)) == 5


# Encoding


def test_truncated_is_exact(tokenizer: Any) -> None:
    """A text of exactly max_length is whole: guards against counting it, and against counting the special tokens twice."""
    columns = TextEncoder(tokenizer, 8)([text(7), text(8), text(9), text(40), ""])
    assert columns["truncated"] == [False, False, True, True, False]
    assert [len(ids) for ids in columns["input_ids"]] == [7, 8, 8, 8, 2]
    assert set(columns) == {"input_ids", "token_type_ids", "truncated"}


def test_a_prefix_comes_before_every_text_and_its_tokens_count(tokenizer: Any) -> None:
    """Guards paraphrases without the prefix, and texts that are longer than the maximum by the length of the prefix."""
    prefix, texts = "please hello ", ["money", "my parcel is late"]
    encoder = TextEncoder(tokenizer, 6, prefix)
    columns = encoder(texts)
    assert columns["input_ids"] == [
        tokenizer(prefix + text, truncation=True, max_length=6)["input_ids"] for text in texts
    ]
    assert columns["truncated"] == [False, True]
    assert encoder.paraphrases(columns, [["money"], []])[0][0]["input_ids"].tolist() == columns["input_ids"][0]
    assert choose_max_length(tokenizer, [text(8)] * 4, 64) == 8
    assert choose_max_length(tokenizer, [text(8)] * 4, 64, prefix=prefix) == 16
    assert [prefix_tokens(tokenizer, one) for one in ("", prefix, "please ")] == [0, 3, 2]


def test_a_cut_text_keeps_its_end_token(tokenizer: Any) -> None:
    """Guards against slicing ids by hand."""
    ids = TextEncoder(tokenizer, 6)([text(30)])["input_ids"][0]
    assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)


# Data sets


def test_tokenize_keeps_rows_labels_and_other_columns(tokenizer: Any) -> None:
    """Guards against labels that move, and a `text` column carried along for nothing."""
    rows = tokenize(data_set(5, label=[4, 3, 2, 1, 0], source=list("abcde")), TextEncoder(tokenizer, 6))
    assert set(rows.column_names) == {"input_ids", "token_type_ids", "truncated", "labels", "source"}
    assert rows["labels"][:] == [4, 3, 2, 1, 0]
    assert rows["source"][:] == list("abcde")
    assert [len(ids) for ids in rows["input_ids"]] == [3, 4, 5, 6, 6]
    assert rows["truncated"][:] == [False] * 4 + [True]


def test_shards_are_the_whole(tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """10 rows in shards of 4: guards against rows lost or doubled where files meet; every row is ticked once."""
    whole = tokenize(data_set(10), TextEncoder(tokenizer, 32))
    monkeypatch.setattr(tokens, "SHARD_ROWS", 4)
    tick = Counter()
    sharded = tokenize(data_set(10), TextEncoder(tokenizer, 32), cache=tmp_path, name="corpus", tick=tick)
    assert sharded.to_dict() == whole.to_dict()
    assert tick.rows == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"corpus-0000{shard}-of-00003-length-32.arrow" for shard in range(3)
    ]


def test_what_is_cached_is_not_tokenized_again(tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a corpus tokenized in every round; another length is another cache."""
    monkeypatch.setattr(tokens, "SHARD_ROWS", 4)
    ticks = [Counter() for _ in range(3)]
    first, second, shorter = (
        tokenize(data_set(10), TextEncoder(tokenizer, length), cache=tmp_path, tick=tick)
        for length, tick in zip((32, 32, 8), ticks, strict=True)
    )
    assert [tick.rows for tick in ticks] == [10, 0, 10]
    assert second.to_dict() == first.to_dict()
    assert max(map(len, shorter["input_ids"])) == 8


def test_an_interrupted_tokenization_goes_on_at_its_shard(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the second of three shards: the first is kept, and no half-written file is taken for a whole one."""
    monkeypatch.setattr(tokens, "SHARD_ROWS", 4)
    encoder = TextEncoder(tokenizer, 32)

    class Killed(TextEncoder):
        def __call__(self, texts: Sequence[str]) -> dict[str, list]:
            if text(3 + 4) in texts:
                raise KeyboardInterrupt
            return super().__call__(texts)

    with pytest.raises(KeyboardInterrupt):
        tokenize(data_set(10), Killed(tokenizer, 32), cache=tmp_path)
    tick = Counter()
    resumed = tokenize(data_set(10), encoder, cache=tmp_path, tick=tick)
    assert tick.rows == 6
    assert resumed.to_dict() == tokenize(data_set(10), encoder).to_dict()


# Paraphrases


def inputs(tokenizer: Any, texts: list[str], length: int) -> list[dict[str, list[int]]]:
    """Every text tokenized by itself."""
    encoded = [tokenizer(one, truncation=True, max_length=length) for one in texts]
    return [{name: one[name] for name in ("input_ids", "token_type_ids")} for one in encoded]


def test_paraphrases_are_tokenized_beside_their_text(tokenizer: Any) -> None:
    """Guards paraphrases of a neighbor, one that is longer than the model reads, and a row without any: it has itself."""
    texts = [["late parcel", text(30)], [], ["money"]]
    rows = tokenize(data_set(3, **{VIEW_TEXTS: texts}), TextEncoder(tokenizer, 8))
    assert VIEW_TEXTS not in rows.column_names
    expected = [texts[0], [text(4)], texts[2]]
    assert rows[VIEW_INPUTS][:] == [inputs(tokenizer, each, 8) for each in expected]
    assert rows["truncated"][:] == [False] * 3
    assert rows["input_ids"][:] == tokenize(data_set(3), TextEncoder(tokenizer, 8))["input_ids"][:]


def test_a_batch_without_any_paraphrase_is_like_the_others(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first 1,000 rows have none: guards an Arrow type that is guessed from them; ids are 32 bits, as those of texts."""
    texts = [[]] * 1_500 + [["late parcel"]] * 2
    rows = Dataset.from_dict({"text": ["money"] * 1_502, VIEW_TEXTS: texts})
    for shard_rows in (10_000, 1_000):
        monkeypatch.setattr(tokens, "SHARD_ROWS", shard_rows)
        read = tokenize(rows, TextEncoder(tokenizer, 8), cache=tmp_path / str(shard_rows))
        assert read[VIEW_INPUTS][1_499:1_502] == [
            inputs(tokenizer, [one], 8) for one in ("money", *["late parcel"] * 2)
        ]
        assert str(read.features[VIEW_INPUTS].feature["input_ids"].feature.dtype) == "int32"
    assert (
        tokenize(rows.select(range(5)), TextEncoder(tokenizer, 8))[VIEW_INPUTS][:]
        == [inputs(tokenizer, ["money"], 8)] * 5
    )


def test_columns_of_a_data_set_become_its_paraphrases(tokenizer: Any) -> None:
    """Guards data sets given in Python: the same paraphrases as from a file, also where the first rows have none."""
    rows = data_set(3, one=[None, "A", "B"], two=["", "C", " "], three=[1, 2, 3])
    read = with_view_texts(rows, ["one", "two"], "unlabeled_dataset")
    assert read.column_names == ["text", "three", VIEW_TEXTS]
    assert read[VIEW_TEXTS][:] == [[], ["A", "C"], ["B"]]
    own = with_view_texts(rows, ["text"], "unlabeled_dataset")
    assert own[VIEW_TEXTS][:] == [[one] for one in own["text"][:]]
    with pytest.raises(UserError, match=r"unlabeled_dataset: no column 'four'; found 'text', 'one', 'two', 'three'"):
        with_view_texts(rows, ["one", "four"], "unlabeled_dataset")
    with pytest.raises(UserError, match=r"unlabeled_dataset: row 2: expected a text, found list"):
        with_view_texts(data_set(2, one=[None, ["a"]]), ["one"], "unlabeled_dataset")


def test_rows_without_text_are_refused(tokenizer: Any) -> None:
    """Guards against a KeyError that does not say which columns there are."""
    with pytest.raises(UserError, match=r"expected a column 'text'.* found the columns \['body', 'label'\]"):
        tokenize(Dataset.from_dict({"body": ["a"], "label": [0]}), TextEncoder(tokenizer, 8))


@pytest.mark.parametrize(
    ("kind", "positions", "limit", "expected"),
    [
        ("bert", 512, 10**30, 512),
        ("mpnet", 514, 10**30, 512),
        ("xlm-roberta", 514, 512, 512),
        ("t5", None, 10**30, 4096),
        ("bert", 512, 128, 128),
    ],
)
def test_limits_of_other_encoders(kind: str, positions: int | None, limit: int, expected: int) -> None:
    """Guards against positions that do not exist, and against a tokenizer's 10³⁰ that no tokenizer can count to."""
    from types import SimpleNamespace as Stub

    config = Stub(model_type=kind, max_position_embeddings=positions, pad_token_id=1)
    assert length_limit(Stub(model_max_length=limit), config) == expected  # type: ignore[arg-type]


def test_an_empty_text_has_a_token() -> None:
    """Guards a batch of no tokens at all, which no model reads: tokenizers of decoders add none."""
    words = Tokenizer(WordLevel({"late": 0, "<end>": 1}, unk_token="<end>"))
    words.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", pad_token="<end>")
    assert TextEncoder(tokenizer, 8)(["late", "", "late late", " "])["input_ids"] == [[0], [1], [0, 0], [1]]
