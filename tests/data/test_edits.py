"""Token edits: the right shares, nothing but ordinary tokens, and the same numbers for the same counters."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sstext.data.edits import IGNORED, MaskedTokens, TokenEdits, view_rng
from sstext.errors import UserError

CLS, SEP, MASK = 2, 3, 4
SPECIAL = frozenset({0, 1, CLS, SEP, MASK})


def edits(mask: float = 0.0, drop: float = 0.0, swap: float = 0.0, cutoff: float = 0.0) -> TokenEdits:
    return TokenEdits(mask=mask, drop=drop, swap=swap, cutoff=cutoff, mask_id=MASK, special_ids=SPECIAL)


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


@pytest.mark.parametrize(
    "shares", [(1, 0, 0, 0), (0.5, 0.5, 0, 0), (1, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (0.5, 0.5, 1, 0.5)]
)
def test_special_tokens_are_never_edited(shares: tuple[float, ...]):
    """Guards against a student that sees a text without its start or end, where a head reads the start."""
    ids = [CLS, 10, 11, SEP, 12, 13, SEP]
    for row in range(50):
        edited = edits(*shares)(ids, view_rng(0, row, 0, 0))
        assert len(edited) > 3
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
    assert edits(mask=1.0, drop=1.0, swap=1.0, cutoff=1.0)(ids, view_rng(0, 0, 0, 0)) == ids


def test_the_text_itself_is_not_changed():
    """Guards the cached corpus: a view that wrote into its input would edit the text for good."""
    ids = np.array(text(30))
    edits(mask=1.0, drop=0.5, swap=1.0, cutoff=0.5)(ids, view_rng(0, 0, 0, 0))
    assert ids.tolist() == text(30)


def test_draws_of_mask_and_drop_are_those_of_earlier_versions():
    """Guards exact resume over an update: recorded before swap and cut-off were there."""
    recorded = {
        (0, 5, 1, 0): [2, 10, 11, 4, 17, 18, 19, 21, 23, 4, 4, 4, 4, 29, 3],
        (1, 7, 0, 2): [2, 10, 11, 12, 4, 15, 4, 19, 20, 4, 4, 4, 4, 26, 27, 4, 3],
        (3, 0, 9, 1): [2, 10, 4, 4, 13, 14, 15, 4, 17, 4, 4, 22, 4, 24, 25, 26, 27, 4, 4, 3],
    }
    for counters, expected in recorded.items():
        assert edits(mask=0.3, drop=0.2)(text(20), view_rng(*counters)) == expected


# Swap


def moved(edited: list[int], original: list[int]) -> list[int]:
    """Places where another token stands than before."""
    return [place for place, pair in enumerate(zip(edited, original, strict=True)) if pair[0] != pair[1]]


def test_swapped_tokens_change_places_in_pairs():
    """.3 of 20 tokens are 3 pairs, each of two tokens that stand where the other stood: guards against a shuffle."""
    for row in range(50):
        edited = edits(swap=0.3)(text(20), view_rng(0, row, 0, 0))
        places = moved(edited, text(20))
        assert len(places) == 6
        assert sorted(edited) == sorted(text(20))
        partner = {place: edited[place] - 10 + 1 for place in places}  # token 10 + i stood at place 1 + i
        assert all(partner[partner[place]] == place for place in places)


@pytest.mark.parametrize(("length", "swap", "pairs"), [(5, 0.3, 0.75), (3, 0.2, 0.3), (40, 0.15, 3.0), (2, 0.5, 0.5)])
def test_the_swapped_share_holds_for_short_texts_too(length: int, swap: float, pairs: float):
    """⌊swap · n/2 + u⌋ has the mean swap · n/2: guards against short texts that are never swapped."""
    counts = [
        len(moved(edits(swap=swap)(text(length), view_rng(0, row, 0, 0)), text(length))) / 2 for row in range(2_000)
    ]
    assert set(counts) <= {np.floor(pairs), np.floor(pairs) + 1}
    assert abs(np.mean(counts) - pairs) <= five_sigma(pairs % 1, 2_000)


@pytest.mark.parametrize(("length", "stay"), [(1, 1), (2, 0), (5, 1), (6, 0)])
def test_swap_one_moves_every_token_that_has_a_partner(length: int, stay: int):
    """Guards the limit: of an odd number one stays, and a single token is no error."""
    for row in range(20):
        assert len(moved(edits(swap=1.0)(text(length), view_rng(0, row, 0, 0)), text(length))) == length - stay


def test_every_pair_is_swapped_alike():
    """One pair of 4 tokens: each of the 6 pairs in a sixth of the views. Guards against neighbors alone, or the first ones."""
    pairs = Counter(tuple(moved(edits(swap=0.5)(text(4), view_rng(0, row, 0, 0)), text(4))) for row in range(6_000))
    assert len(pairs) == 6
    assert max(abs(count / 6_000 - 1 / 6) for count in pairs.values()) < five_sigma(1 / 6, 6_000)


# Cut-off


@pytest.mark.parametrize(
    ("length", "cutoff", "cut"), [(10, 0.3, 3), (3, 0.15, 0), (4, 0.15, 1), (10, 1.0, 9), (2, 0.5, 1), (1, 1.0, 0)]
)
def test_one_span_of_the_rounded_share_is_cut_out(length: int, cutoff: float, cut: int):
    """round(cutoff · n) neighbors are gone, at most all but one, each start alike; the rest keeps its order.

    Guards against a drop of scattered tokens, and against an empty text.
    """
    starts: Counter[int] = Counter()
    for row in range(2_000):
        edited = edits(cutoff=cutoff)(text(length), view_rng(0, row, 0, 0))
        gone = sorted(set(text(length)) - set(edited))
        assert edited == [token for token in text(length) if token not in gone]
        assert gone == list(range(gone[0], gone[0] + cut)) if cut else gone == []
        starts[gone[0] if gone else 0] += 1
    possible = length - cut + 1 if cut else 1
    assert len(starts) == possible
    assert max(abs(count / 2_000 - 1 / possible) for count in starts.values()) <= five_sigma(1 / possible, 2_000)


def test_a_special_token_does_not_end_a_span():
    """[CLS] a b [SEP] c d [SEP] without b and c: guards spans that could never reach over the middle of a pair of texts."""
    views = {tuple(edits(cutoff=0.5)([CLS, 10, 11, SEP, 12, 13, SEP], view_rng(0, row, 0, 0))) for row in range(50)}
    assert views == {(CLS, SEP, 12, 13, SEP), (CLS, 10, SEP, 13, SEP), (CLS, 10, 11, SEP, SEP)}


def test_dropping_all_of_the_rest_keeps_one_of_it_drawn_evenly():
    """Half of 4 tokens cut, the other two dropped: one of these stays. Guards an empty text, and cut tokens that return."""
    kept: Counter[int] = Counter()
    for row in range(2_000):
        cut = edits(cutoff=0.5)(text(4), view_rng(0, row, 0, 0))
        left = edits(cutoff=0.5, drop=1.0)(text(4), view_rng(0, row, 0, 0))
        assert len(left) == 3
        kept[cut.index(left[1])] += 1
    assert abs(kept[1] / 2_000 - 0.5) < five_sigma(0.5, 2_000)


def slow(ids: list[int], rng: Any, *, mask: float, drop: float, swap: float, cutoff: float) -> list[int]:
    """The definition, token by token: cut, swap, drop, mask."""
    drop_draw, mask_draw = rng.random((2, len(ids)))
    places = [place for place, token in enumerate(ids) if token not in SPECIAL]
    cut: list[int] = []
    length = min(round(cutoff * len(places)), len(places) - 1)
    if length > 0:
        start = rng.integers(len(places) - length + 1)
        cut = places[start : start + length]
    left = [place for place in places if place not in cut]
    tokens = list(ids)
    if swap:
        pairs = min(int(swap * len(left) / 2 + rng.random()), len(left) // 2)
        order = [int(place) for place in rng.permutation(left)]
        for one, other in zip(order[:pairs], order[pairs : 2 * pairs], strict=True):
            tokens[one], tokens[other] = tokens[other], tokens[one]
    dropped = [place for place in left if drop_draw[place] < drop]
    if left and dropped == left:
        dropped.remove(max(left, key=lambda place: drop_draw[place]))
    return [
        MASK if place in places and mask_draw[place] < mask else token
        for place, token in enumerate(tokens)
        if place not in cut + dropped
    ]


def test_all_edits_together_are_those_of_a_slow_loop():
    """Guards the vectorized places: a swap with a cut token, a mask on a special one, an edit applied twice."""
    rng = np.random.default_rng(0)
    for row in range(300):
        ids = [CLS, *rng.integers(4, 20, size=rng.integers(0, 12)).tolist(), SEP, *rng.integers(5, 20, 4).tolist(), SEP]
        shares = dict(zip(("mask", "drop", "swap", "cutoff"), rng.random(4) * rng.integers(0, 2, 4), strict=True))
        assert edits(**shares)(ids, view_rng(0, row, 0, 0)) == slow(ids, view_rng(0, row, 0, 0), **shares), shares


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


def test_a_prefix_is_not_edited(tiny_encoder: Path):
    """Guards the prefix of an encoder: edits that ate it would show the student texts of another kind. All else is edited."""
    from transformers import AutoTokenizer

    tokenizer, prefix, rng = AutoTokenizer.from_pretrained(tiny_encoder), "please hello ", view_rng(0, 0, 0, 0)
    ids = tokenizer(prefix + "my parcel is late")["input_ids"]
    begin = ids[:3]
    masked = TokenEdits.for_tokenizer(tokenizer, prefix=prefix, mask=1.0)(ids, rng)
    assert masked == [*begin, *[tokenizer.mask_token_id] * 4, ids[-1]]
    dropped = TokenEdits.for_tokenizer(tokenizer, prefix=prefix, mask=0.0, drop=1.0)(ids, rng)
    assert dropped[:3] == begin
    assert len(dropped) == 5
    hide = MaskedTokens.for_tokenizer(tokenizer, prefix=prefix)
    targets = np.array([hide(ids, view_rng(0, 0, 0, view))[1] for view in range(40)])
    assert (targets[:, :3] == IGNORED).all()
    assert (targets[:, 3:-1] != IGNORED).any(0).all(), "canary"


SENTENCE = "我的包裹还没有到请问什么时候可以收到"


def chinese() -> Any:
    """A tokenizer that knows the characters of `SENTENCE`."""
    from transformers import BertTokenizer

    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(SENTENCE)]
    return BertTokenizer(vocab={token: index for index, token in enumerate(tokens)})


def test_text_without_spaces_is_edited_by_its_characters():
    """Guards "any language": a Chinese text has no blanks, and yet shares of it are masked and dropped."""
    sentence, tokenizer = SENTENCE, chinese()
    edit = TokenEdits.for_tokenizer(tokenizer, mask=0.3, drop=0.2)
    ids = tokenizer(sentence)["input_ids"]
    assert len(ids) == len(sentence) + 2
    views = [tokenizer.convert_ids_to_tokens(edit(ids, view_rng(0, 0, draw, 0))) for draw in range(500)]
    draws = 500 * len(sentence)
    assert abs(sum(view.count("[MASK]") for view in views) / draws - 0.24) < five_sigma(0.24, draws)
    assert {token for view in views for token in view} == {"[CLS]", "[SEP]", "[MASK]", *sentence}


def test_text_without_spaces_is_swapped_and_cut_by_its_characters():
    """A third of 18 characters are 3 pairs, a span of them 6 neighbors: guards edits that wait for a blank."""
    tokenizer = chinese()
    ids = tokenizer(SENTENCE)["input_ids"]
    edit = TokenEdits.for_tokenizer(tokenizer, mask=0.0, swap=1 / 3)
    swapped = [tokenizer.decode(edit(ids, view_rng(0, 0, draw, 0))[1:-1]).replace(" ", "") for draw in range(50)]
    assert all(Counter(view) == Counter(SENTENCE) for view in swapped)
    assert len(set(swapped)) == 50
    edit = TokenEdits.for_tokenizer(tokenizer, mask=0.0, cutoff=1 / 3)
    cut = {tokenizer.decode(edit(ids, view_rng(0, 0, draw, 0))[1:-1]).replace(" ", "") for draw in range(300)}
    assert cut == {SENTENCE[:start] + SENTENCE[start + 6 :] for start in range(13)}


def test_tokenizer_without_a_mask_token_is_refused_with_the_remedy(tiny_encoder: Path):
    """Guards against silent views without any change (GPT-like tokenizers have no mask token)."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    tokenizer.mask_token = None
    with pytest.raises(UserError, match=r"edits: mask=0\.15: .* mask token, found none; use mask=0 .* drop=0\.15"):
        TokenEdits.for_tokenizer(tokenizer, mask=0.15)
    dropped = TokenEdits.for_tokenizer(tokenizer, mask=0.0, drop=1.0)(
        tokenizer("my parcel")["input_ids"], view_rng(0, 0, 0, 0)
    )
    assert len(dropped) == 3


@pytest.mark.parametrize(
    ("name", "shares"),
    [
        ("mask", {"mask": 1.2}),
        ("drop", {"drop": -0.1}),
        ("swap", {"swap": 1.1}),
        ("cutoff", {"cutoff": float("nan")}),
    ],
)
def test_share_outside_zero_to_one_is_refused_by_its_option(name: str, shares: dict[str, float]):
    with pytest.raises(UserError, match=f"edits: expected a share between 0 and 1 for {name}, found"):
        TokenEdits(mask_id=MASK, **shares)
