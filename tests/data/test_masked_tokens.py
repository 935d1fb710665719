"""Masked language modeling: the rule of BERT, ordinary tokens alone, and targets exactly where something is asked."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_edits import CLS, MASK, SENTENCE, SEP, SPECIAL, chinese, five_sigma, text

from sstext.data.edits import IGNORED, MaskedTokens, view_rng
from sstext.errors import UserError

VOCABULARY = range(100_000)


def hide(share: float = 0.15, vocabulary: Any = VOCABULARY) -> MaskedTokens:
    return MaskedTokens(mask_id=MASK, vocabulary=vocabulary, special_ids=SPECIAL, share=share)


def test_hidden_tokens_follow_the_rule_of_bert():
    """Of n tokens .15 are chosen, of these .8 masked, .1 replaced, .1 unchanged, within five standard deviations.

    Guards 80/10/10 of all tokens instead of the chosen ones, and targets where nothing is asked.
    """
    ids = text(60_000)
    changed, targets = hide()(ids, view_rng(0, 0, 0, 0))
    chosen = [place for place, target in enumerate(targets) if target != IGNORED]
    assert abs(len(chosen) / 60_000 - 0.15) < five_sigma(0.15, 60_000)
    assert all(targets[place] == ids[place] for place in chosen)
    assert all(changed[place] == ids[place] for place in set(range(len(ids))) - set(chosen))
    shares = Counter("masked" if changed[place] == MASK else changed[place] == ids[place] for place in chosen)
    for fate, share in (
        ("masked", 0.8),
        (False, 0.1),
        (True, 0.1),
    ):  # a word is replaced by itself once in 100,000 times
        assert abs(shares[fate] / len(chosen) - share) < five_sigma(share, len(chosen)), fate


def test_random_tokens_are_ordinary_ones_each_alike():
    """Guards special tokens, and ids that the tokenizer does not have, planted in a text."""
    vocabulary = [*SPECIAL, 11, 40, 70, 90]
    changed, targets = hide(share=1.0, vocabulary=vocabulary)([50] * 20_000, view_rng(0, 0, 0, 0))
    planted = Counter(changed) - Counter({MASK: 20_000, 50: 20_000})
    assert set(planted) == {11, 40, 70, 90}
    assert all(abs(count / 20_000 - 0.025) < five_sigma(0.025, 20_000) for count in planted.values())
    assert set(targets) == {50}


def test_at_least_one_token_is_hidden_drawn_evenly():
    """Four tokens, at a share of 0: one of them each time. Guards short texts that teach nothing, and a favored first word."""
    hide_one = hide(share=0.0, vocabulary=range(30))
    targets = np.array([hide_one(text(4), view_rng(0, row, 0, 0))[1] for row in range(2_000)])
    assert set((targets != IGNORED).sum(axis=1)) == {1}
    shares = (targets != IGNORED).mean(axis=0)[1:5]
    assert np.abs(shares - 0.25).max() < five_sigma(0.25, 2_000)


@pytest.mark.parametrize("ids", [[], [CLS, SEP], [CLS, MASK, SEP]])
def test_where_no_token_is_ordinary_nothing_is_hidden(ids: list[int]):
    """Guards a special token as the "at least one", and a mask that stands in the text as a target."""
    assert hide(share=1.0)(ids, view_rng(0, 0, 0, 0)) == (ids, [IGNORED] * len(ids))


def slow_hide(ids: list[int], rng: Any, share: float, vocabulary: list[int]) -> tuple[list[int], list[int]]:
    """The rule, token by token."""
    choice, fate = rng.random((2, len(ids)))
    substitutes = rng.choice(sorted(set(vocabulary) - SPECIAL), len(ids))
    ordinary = [place for place, token in enumerate(ids) if token not in SPECIAL]
    chosen = [place for place in ordinary if choice[place] < share]
    if ordinary and not chosen:
        chosen = [min(ordinary, key=lambda place: choice[place])]
    changed, targets = list(ids), [IGNORED] * len(ids)
    for place in chosen:
        targets[place] = ids[place]
        if fate[place] < 0.8:
            changed[place] = MASK
        elif fate[place] >= 0.9:
            changed[place] = substitutes[place]
    return changed, targets


def test_hidden_tokens_are_those_of_a_slow_loop():
    """Guards the vectorized rule on texts of all lengths, and the input, which stays as it is."""
    rng = np.random.default_rng(0)
    vocabulary = list(range(30))
    for row in range(300):
        ids = np.array([CLS, *rng.integers(0, 30, size=rng.integers(0, 12)), SEP])
        before, share = ids.tolist(), float(rng.random())
        got = hide(share, vocabulary)(ids, view_rng(0, row, 0, 0))
        assert got == slow_hide(before, view_rng(0, row, 0, 0), share, vocabulary)
        assert ids.tolist() == before


def test_tokenizer_gives_mask_vocabulary_and_special_ids(tiny_encoder: Path):
    """Guards targets that are special tokens, and random ones beyond the embedding table."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    mask = MaskedTokens.for_tokenizer(tokenizer)
    assert mask.mask_id == tokenizer.mask_token_id
    assert mask.share == 0.15
    assert sorted(mask.vocabulary) == list(range(len(tokenizer)))
    assert mask.special_ids == frozenset(tokenizer.all_special_ids)
    ids = tokenizer("my parcel is late")["input_ids"]
    changed, targets = mask(ids, view_rng(0, 0, 0, 0))
    assert (changed[0], changed[-1], targets[0], targets[-1]) == (ids[0], ids[-1], IGNORED, IGNORED)


def test_masked_language_modeling_wants_a_mask_token(tiny_encoder: Path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    tokenizer.mask_token = None
    with pytest.raises(
        UserError, match=r"expected a tokenizer with a mask token, found none; .* leave reconstruction out"
    ):
        MaskedTokens.for_tokenizer(tokenizer)


def test_text_without_spaces_is_hidden_by_its_characters():
    """Masked language modeling of a Chinese text: the targets are the characters that stood there."""
    tokenizer = chinese()
    ids = tokenizer(SENTENCE)["input_ids"]
    mask = MaskedTokens.for_tokenizer(tokenizer)
    hidden = Counter()
    for draw in range(200):
        changed, targets = mask(ids, view_rng(0, 0, draw, 0))
        assert all(target in (IGNORED, token) for target, token in zip(targets, ids, strict=True))
        hidden.update(tokenizer.convert_ids_to_tokens([target for target in targets if target != IGNORED]))
        assert all(new == old for new, old, target in zip(changed, ids, targets, strict=True) if target == IGNORED)
    assert set(hidden) == set(SENTENCE)
