"""Token edits: changed views of a text, made from its token ids alone, in any language.

Consistency methods use masking of a share of the tokens as their strong view, and self-trained students use it as
noise. The student must then predict the same label from part of the evidence. No dictionary and no second model are
needed.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from sstext.data.tokens import prefix_tokens
from sstext.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


IGNORED = -100  # target of a token that is not predicted, as everywhere in transformers


def view_rng(seed: int, row: int, draw: int, view: int) -> np.random.Generator:
    """The random generator for one view of one row, a pure function of four counters.

    No state passes from one row to the next. A resumed run, a different number of workers and a different order of the
    rows draw the same numbers, and no generator state needs to be saved.

    Args:
        seed: the run's seed.
        row: number of the text in the corpus.
        draw: how many times the text was drawn before, or the step.
        view: number of the view within this draw.

    >>> view_rng(0, 7, 2, 1).random() == view_rng(0, 7, 2, 1).random()
    True
    """
    return np.random.default_rng((seed, row, draw, view))


@dataclass(frozen=True)
class TokenEdits:
    """Cut one span of the n ordinary tokens, swap pairs of the other tokens, then drop some tokens and mask some.

    Special tokens are never changed or counted: ordinary tokens on both sides of a special token are neighbors. At
    least one ordinary token is always left. If all of them would be dropped, one of them, drawn at random, stays.

    Args:
        mask: probability that a remaining token is replaced by the mask token, independent for each token, in [0, 1].
        drop: probability that a token is left out, independent for each token, in [0, 1].
        swap: share of the tokens outside the span that are swapped, in [0, 1]: ⌊swap · n/2 + u⌋ disjoint pairs, u
            uniform in [0, 1). Partners are drawn from the whole text.
        cutoff: share of the tokens in the span, in [0, 1]: round(cutoff · n) consecutive tokens, at most n − 1. All
            starts are equally likely. The span is left out; the paper sets its embeddings to zero and keeps the
            positions.
        mask_id: id of the mask token; required if `mask` is above 0.
        special_ids: ids that are never edited (start, end, padding, …). If the mask token is one of them, a mask token
            that is already in the text cannot be dropped. Masking it changes nothing in either case.
        kept: number of tokens at the beginning that are never edited or counted, because they are a prefix.

    Raises:
        UserError: if a share is outside [0, 1], or `mask` is above 0 without a mask token.

    Source: drop, swap: Wei & Zou 2019 (EDA), random deletion and swap; cutoff: Shen et al. 2020, span cutoff.

    >>> edits = TokenEdits(mask=1.0, mask_id=4, special_ids=frozenset({2, 3}))
    >>> edits([2, 17, 25, 3], view_rng(0, 0, 0, 0))
    [2, 4, 4, 3]
    """

    mask: float = 0.15
    drop: float = 0.0
    swap: float = 0.0
    cutoff: float = 0.0
    mask_id: int | None = None
    special_ids: frozenset[int] = frozenset()
    kept: int = 0

    def __post_init__(self) -> None:
        for name in ("mask", "drop", "swap", "cutoff"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"edits: expected a share between 0 and 1 for {name}, found {getattr(self, name)}")
        if self.mask > 0 and self.mask_id is None:
            raise UserError(
                f"edits: mask={self.mask}: expected a tokenizer with a mask token, found none; "
                f"use mask=0 and drop tokens instead, for example drop={self.mask}"
            )

    @classmethod
    def for_tokenizer(cls, tokenizer: "PreTrainedTokenizerBase", *, prefix: str = "", **shares: float) -> "TokenEdits":
        """The edits for the ids of a tokenizer. Its special tokens, including the unknown token, are never edited.

        Args:
            prefix: what every text begins with. It is never edited.
            **shares: `mask`, `drop`, `swap`, `cutoff`.

        Raises:
            UserError: if a share is outside [0, 1], or `mask` is above 0 and the tokenizer has no mask token.
        """
        special = frozenset(tokenizer.all_special_ids)
        kept = prefix_tokens(tokenizer, prefix)
        return cls(**shares, mask_id=tokenizer.mask_token_id, special_ids=special, kept=kept)

    def __call__(self, ids: Sequence[int] | np.ndarray, rng: np.random.Generator) -> list[int]:
        """Return the edited ids of one text; `ids` is not changed.

        Args:
            ids: token ids of one text without padding, (T,).
            rng: random generator, see `view_rng`. It draws 2·T numbers for drop and mask, then those for cutoff and
                swap.
        """
        tokens = np.array(ids, dtype=np.int64)
        ordinary = _ordinary(tokens, self._special, self.kept)
        drop_draw, mask_draw = rng.random((2, len(tokens)))
        gone = np.zeros_like(ordinary)
        if self.cutoff:
            gone[self._span(np.flatnonzero(ordinary), rng)] = True
        if self.swap:
            one, other = self._pairs(np.flatnonzero(ordinary & ~gone), rng)
            tokens[one], tokens[other] = tokens[other], tokens[one]
        if self.mask_id is not None:
            tokens[ordinary & (mask_draw < self.mask)] = self.mask_id
        left = ordinary & ~gone
        dropped = left & (drop_draw < self.drop)
        if dropped.any() and dropped.sum() == left.sum():
            # If all are dropped, their draws are still exchangeable, so each token is equally likely to have the
            # largest.
            dropped[np.where(left, drop_draw, -1.0).argmax()] = False
        return tokens[~(gone | dropped)].tolist()

    def _span(self, places: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The places of the span that is cut, among the places of the ordinary tokens."""
        length = min(round(self.cutoff * len(places)), len(places) - 1)
        if length < 1:
            return places[:0]
        start = rng.integers(len(places) - length + 1)
        return places[start : start + length]

    def _pairs(self, places: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The places of the tokens that are swapped, and the places of their partners."""
        # The number is rounded at random, so that the expected share is the same for short and long texts.
        pairs = min(int(self.swap * len(places) / 2 + rng.random()), len(places) // 2)
        chosen = rng.permutation(places)
        return chosen[:pairs], chosen[pairs : 2 * pairs]

    @cached_property
    def _special(self) -> np.ndarray:
        return np.array(sorted(self.special_ids), dtype=np.int64)


@dataclass(frozen=True)
class MaskedTokens:
    """Inputs and targets of masked language modeling: hide some tokens of a text and keep the originals as targets.

    Each ordinary token is chosen independently with probability `share`. If none is chosen, one is drawn at random. Of
    the chosen tokens, 80 % become the mask token, 10 % become a random ordinary token, and 10 % stay.

    Args:
        mask_id: id of the mask token.
        vocabulary: all ids of the vocabulary. Random tokens are drawn uniformly from the ids that are not special.
        special_ids: ids that are never chosen and never inserted (start, end, padding, …).
        share: probability that a token is chosen, in [0, 1].
        kept: number of tokens at the beginning that are never chosen, because they are a prefix.

    Source: Devlin et al. 2019 (BERT), section 3.1 and appendix A.1.

    >>> masked = MaskedTokens(mask_id=4, vocabulary=range(30), special_ids=frozenset({2, 3, 4}))
    >>> masked([2, 17, 25, 3], view_rng(0, 0, 0, 0))
    ([2, 17, 4, 3], [-100, -100, 25, -100])
    """

    mask_id: int
    vocabulary: Collection[int]
    special_ids: frozenset[int] = frozenset()
    share: float = 0.15
    kept: int = 0

    @classmethod
    def for_tokenizer(cls, tokenizer: "PreTrainedTokenizerBase", *, prefix: str = "") -> "MaskedTokens":
        """The masking for the ids of a tokenizer. Its special tokens, including the unknown token, are never chosen.

        Args:
            prefix: what every text begins with. Its tokens are never chosen.

        Raises:
            UserError: if the tokenizer has no mask token.
        """
        if tokenizer.mask_token_id is None:
            raise UserError(
                "masked language modeling: expected a tokenizer with a mask token, found none; choose another encoder, "
                "or leave reconstruction out"
            )
        vocabulary = tuple(tokenizer.get_vocab().values())
        special, kept = frozenset(tokenizer.all_special_ids), prefix_tokens(tokenizer, prefix)
        return cls(tokenizer.mask_token_id, vocabulary, special, kept=kept)

    def __call__(self, ids: Sequence[int] | np.ndarray, rng: np.random.Generator) -> tuple[list[int], list[int]]:
        """Return the ids with some tokens hidden, and the targets: the original id if chosen, `IGNORED` otherwise.

        Args:
            ids: token ids of one text without padding, (T,); they are not changed.
            rng: random generator, see `view_rng`; it draws 3·T numbers.
        """
        tokens = np.array(ids, dtype=np.int64)
        ordinary = _ordinary(tokens, self._special, self.kept)
        choice, fate = rng.random((2, len(tokens)))
        substitutes = rng.choice(self._ordinary_vocabulary, len(tokens))
        chosen = ordinary & (choice < self.share)
        if ordinary.any() and not chosen.any():
            # If none is chosen, their draws are still exchangeable, so each token is equally likely to have the
            # smallest.
            chosen[np.where(ordinary, choice, np.inf).argmin()] = True
        targets = np.where(chosen, tokens, IGNORED)
        tokens[chosen & (fate < 0.8)] = self.mask_id
        replaced = chosen & (fate >= 0.9)
        tokens[replaced] = substitutes[replaced]
        return tokens.tolist(), targets.tolist()

    @cached_property
    def _special(self) -> np.ndarray:
        return np.array(sorted(self.special_ids), dtype=np.int64)

    @cached_property
    def _ordinary_vocabulary(self) -> np.ndarray:
        return np.array(sorted(set(self.vocabulary) - self.special_ids), dtype=np.int64)


def _ordinary(tokens: np.ndarray, special: np.ndarray, kept: int) -> np.ndarray:
    """Mask (T,) of the tokens that are not special, after the first `kept` ones."""
    ordinary = ~(tokens[:, None] == special).any(axis=1)
    ordinary[:kept] = False
    return ordinary
