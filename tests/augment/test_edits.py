"""Token edits: the right shares, nothing but ordinary tokens, and the same numbers for the same counters."""

from pathlib import Path

import numpy as np
import pytest

from sstext.augment.edits import TokenEdits, view_rng
from sstext.errors import UserError

CLS, SEP, MASK = 2, 3, 4
SPECIAL = frozenset({0, 1, CLS, SEP, MASK})


def edits(mask: float = 0.0, drop: float = 0.0) -> TokenEdits:
    return TokenEdits(mask=mask, drop=drop, mask_id=MASK, special_ids=SPECIAL)


def text(length: int) -> list[int]:
    """[CLS], `length` different ordinary tokens, [SEP]."""
    return [CLS, *range(10, 10 + length), SEP]


def five_sigma(share: float, draws: int) -> float:
    """Bound on |observed share − share| that a right binomial breaks for one seed in two million."""
    return 5 * (share * (1 - share) / draws) ** 0.5


def test_masked_share_is_the_one_asked_for():
    """Guards against masking over all tokens, specials included, or by another probability."""
    masked = edits(mask=0.15)(text(20_000), view_rng(0, 0, 0, 0))
    assert len(masked) == 20_002
    assert abs(masked.count(MASK) / 20_000 - 0.15) < five_sigma(0.15, 20_000)


def test_dropping_comes_before_masking():
    """Of n tokens (1 − drop)·n stay and mask·(1 − drop)·n of them are masked: the two are independent."""
    edited = edits(mask=0.4, drop=0.25)(text(20_000), view_rng(1, 0, 0, 0))
    assert abs((len(edited) - 2) / 20_000 - 0.75) < five_sigma(0.75, 20_000)
    assert abs(edited.count(MASK) / 20_000 - 0.3) < five_sigma(0.3, 20_000)


def test_what_stays_keeps_its_order():
    """Guards against a shuffle: the survivors are a subsequence of the text."""
    edited = edits(drop=0.5)(text(200), view_rng(0, 3, 0, 0))
    assert edited[1:-1] == sorted(edited[1:-1])
    assert 2 < len(edited) < 202


@pytest.mark.parametrize(("mask", "drop"), [(1.0, 0.0), (0.5, 0.5), (1.0, 1.0)])
def test_special_tokens_are_never_edited(mask: float, drop: float):
    """Guards against a student that sees a text without its start or end, where a head reads the start."""
    ids = [CLS, 10, 11, SEP, 12, 13, SEP]
    for row in range(50):
        edited = edits(mask, drop)(ids, view_rng(0, row, 0, 0))
        assert [token for token in edited if token in (CLS, SEP)] == [CLS, SEP, SEP]
        assert edited[0] == CLS
        assert edited[-1] == SEP


def test_no_edit_is_the_identity():
    """Guards the limit mask = drop = 0, also without a mask token, and the plain list that the collator pads."""
    unchanged = TokenEdits(mask=0.0)(np.array(text(30)), view_rng(0, 0, 0, 0))
    assert unchanged == text(30)
    assert type(unchanged) is list
    assert type(unchanged[0]) is int


def test_mask_one_masks_every_ordinary_token():
    assert edits(mask=1.0)(text(30), view_rng(0, 0, 0, 0)) == [CLS, *[MASK] * 30, SEP]


def test_drop_one_keeps_one_token_drawn_evenly():
    """Guards against an empty text, and against one that always keeps its first word."""
    kept = [edits(drop=1.0)(text(4), view_rng(0, row, 0, 0)) for row in range(2_000)]
    assert {len(ids) for ids in kept} == {3}
    shares = np.bincount([ids[1] - 10 for ids in kept], minlength=4) / 2_000
    assert np.abs(shares - 0.25).max() < five_sigma(0.25, 2_000)


@pytest.mark.parametrize("ids", [[], [CLS, SEP]])
def test_text_without_ordinary_tokens_stays_as_it_is(ids: list[int]):
    """Guards against keeping "one token of none", which would raise on an empty text."""
    assert edits(mask=1.0, drop=1.0)(ids, view_rng(0, 0, 0, 0)) == ids


def test_the_text_itself_is_not_changed():
    """Guards the cached corpus: a view that wrote into its input would edit the text for good."""
    ids = np.array(text(30))
    edits(mask=1.0, drop=0.5)(ids, view_rng(0, 0, 0, 0))
    assert ids.tolist() == text(30)


def test_equal_counters_give_equal_views_and_each_counter_counts():
    """Guards exact resume, and views that repeat at every visit."""
    views = {
        counters: tuple(edits(mask=0.3, drop=0.2)(text(60), view_rng(*counters)))
        for counters in [(0, 5, 1, 0), (1, 5, 1, 0), (0, 6, 1, 0), (0, 5, 2, 0), (0, 5, 1, 1), (5, 0, 1, 0)]
    }
    assert len(set(views.values())) == len(views)
    assert tuple(edits(mask=0.3, drop=0.2)(text(60), view_rng(0, 5, 1, 0))) == views[0, 5, 1, 0]


def test_a_row_does_not_depend_on_the_rows_before_it():
    """Guards against a shared generator: row 7 after other texts, of other lengths, is row 7 alone."""
    edit = edits(mask=0.3, drop=0.2)
    alone = edit(text(40), view_rng(0, 7, 0, 0))
    in_company = [edit(text(length), view_rng(0, row, 0, 0)) for row, length in ((3, 5), (7, 40), (9, 300))]
    assert in_company[1] == alone


def test_tokenizer_gives_mask_and_special_ids(tiny_encoder: Path):
    """Guards the ids that edits work on: a wrong mask id would plant an ordinary word all over the text."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    edited = TokenEdits.for_tokenizer(tokenizer, mask=1.0)(
        tokenizer("my parcel is late")["input_ids"], view_rng(0, 0, 0, 0)
    )
    assert tokenizer.convert_ids_to_tokens(edited) == ["[CLS]", *["[MASK]"] * 4, "[SEP]"]


def test_text_without_spaces_is_edited_by_its_characters():
    """Guards "any language": a Chinese text has no blanks, and yet shares of it are masked and dropped."""
    from transformers import BertTokenizer

    sentence = "我的包裹还没有到请问什么时候可以收到"
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(sentence)]
    tokenizer = BertTokenizer(vocab={token: index for index, token in enumerate(tokens)})
    edit = TokenEdits.for_tokenizer(tokenizer, mask=0.3, drop=0.2)
    ids = tokenizer(sentence)["input_ids"]
    assert len(ids) == len(sentence) + 2
    views = [tokenizer.convert_ids_to_tokens(edit(ids, view_rng(0, 0, draw, 0))) for draw in range(500)]
    draws = 500 * len(sentence)
    assert abs(sum(view.count("[MASK]") for view in views) / draws - 0.24) < five_sigma(0.24, draws)
    assert {token for view in views for token in view} == {"[CLS]", "[SEP]", "[MASK]", *sentence}


def test_tokenizer_without_a_mask_token_is_refused_with_the_remedy(tiny_encoder: Path):
    """Guards against silent views without any change (GPT-like tokenizers have no mask token)."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    tokenizer.mask_token = None
    with pytest.raises(UserError, match=r"mask token, found none; set token_mask=0 .* token_drop=0\.15"):
        TokenEdits.for_tokenizer(tokenizer, mask=0.15)
    dropped = TokenEdits.for_tokenizer(tokenizer, mask=0.0, drop=1.0)(
        tokenizer("my parcel")["input_ids"], view_rng(0, 0, 0, 0)
    )
    assert len(dropped) == 3


@pytest.mark.parametrize(("name", "shares"), [("token_mask", {"mask": 1.2}), ("token_drop", {"drop": -0.1})])
def test_share_outside_zero_to_one_is_refused_by_its_option(name: str, shares: dict[str, float]):
    with pytest.raises(UserError, match=f"{name}: expected a share between 0 and 1"):
        TokenEdits(mask_id=MASK, **shares)
