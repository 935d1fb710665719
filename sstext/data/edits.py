"""Token edits: the changed view of a text in any language, made of its ids alone.

Masking a share of the tokens is the strong view of the consistency methods and the noise of a self-trained student: it
asks for the same label with part of the evidence gone. It needs no dictionary and no second model.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from sstext.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


IGNORED = -100  # target of a token that is not to be predicted, as everywhere in transformers


def view_rng(seed: int, row: int, draw: int, view: int) -> np.random.Generator:
    """The random numbers of one view of one row, a pure function of four counters.

    Nothing is carried from one row to the next: a resumed run, another number of workers or another order of the rows
    draws the same numbers, and there is no generator state to save.

    Args:
        seed: the run's seed.
        row: which text, counted over the corpus.
        draw: how many times the text has come up before, or the step.
        view: which of a draw's views.

    >>> view_rng(0, 7, 2, 1).random() == view_rng(0, 7, 2, 1).random()
    True
    """
    return np.random.default_rng((seed, row, draw, view))


@dataclass(frozen=True)
class TokenEdits:
    """Cut one span of the n ordinary tokens, let pairs of the others change places, then drop some and mask some.

    Special tokens are not touched and count for nothing: between two of them, or around one, ordinary tokens are neighbors.
    One ordinary token is always left; where dropping would take the last ones, one of them, drawn at random, stays.

    Args:
        mask: probability that a token that stays is replaced by the mask token, each on its own, in [0, 1].
        drop: probability that a token is left out, each on its own, in [0, 1].
        swap: share of the tokens outside the span that change places with another one, in [0, 1]: ⌊swap · n/2 + u⌋ disjoint
            pairs, u uniform in [0, 1), partners drawn from anywhere in the text.
        cutoff: length of the span as a share, in [0, 1]: round(cutoff · n) consecutive tokens, at most n − 1, each start
            alike. They are left out; the paper blanks their embeddings and leaves the positions.
        mask_id: id of the mask token; needed where `mask` is above 0.
        special_ids: ids that are never edited (start, end, padding, …). Where the mask token is among them, a mask that
            already stands in a text can not be dropped; masking it changes nothing in either case.

    Raises:
        UserError: a share outside [0, 1], or masking without a mask token.

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
    def for_tokenizer(cls, tokenizer: "PreTrainedTokenizerBase", **shares: float) -> "TokenEdits":
        """The edits for the ids of a tokenizer; its special tokens, the unknown one among them, stay as they are.

        Args:
            **shares: `mask`, `drop`, `swap`, `cutoff`.

        Raises:
            UserError: a share outside [0, 1], or masking with a tokenizer that has no mask token.
        """
        return cls(**shares, mask_id=tokenizer.mask_token_id, special_ids=frozenset(tokenizer.all_special_ids))

    def __call__(self, ids: Sequence[int] | np.ndarray, rng: np.random.Generator) -> list[int]:
        """Return the edited ids of one text; `ids` (T,) stay as they are.

        Args:
            ids: token ids of one text without padding, (T,).
            rng: where the random numbers come from, see `view_rng`: 2·T for drop and mask, then those of cutoff and swap.
        """
        tokens = np.array(ids, dtype=np.int64)
        ordinary = _ordinary(tokens, self._special)
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
            # Given that all were dropped, their draws are still exchangeable: the largest one falls on each alike.
            dropped[np.where(left, drop_draw, -1.0).argmax()] = False
        return tokens[~(gone | dropped)].tolist()

    def _span(self, places: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The places that are cut out of those of the ordinary tokens."""
        length = min(round(self.cutoff * len(places)), len(places) - 1)
        if length < 1:
            return places[:0]
        start = rng.integers(len(places) - length + 1)
        return places[start : start + length]

    def _pairs(self, places: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The places of the tokens that change places, and those of their partners."""
        # Rounded at random, so that short texts are swapped as often as long ones.
        pairs = min(int(self.swap * len(places) / 2 + rng.random()), len(places) // 2)
        chosen = rng.permutation(places)
        return chosen[:pairs], chosen[pairs : 2 * pairs]

    @cached_property
    def _special(self) -> np.ndarray:
        return np.array(sorted(self.special_ids), dtype=np.int64)


@dataclass(frozen=True)
class MaskedTokens:
    """What masked language modeling asks: some tokens of a text are hidden, and what stood there is to be said.

    Each ordinary token is chosen with probability `share`, on its own; where none is, one drawn at random. Of the chosen ones
    80 % become the mask token, 10 % a random ordinary token, and 10 % stay.

    Args:
        mask_id: id of the mask token.
        vocabulary: all ids of the vocabulary; a random token is one of them that is not special, each alike.
        special_ids: ids that are neither chosen nor written (start, end, padding, …).
        share: probability that a token is chosen, in [0, 1].

    Source: Devlin et al. 2019 (BERT), section 3.1 and appendix A.1.

    >>> masked = MaskedTokens(mask_id=4, vocabulary=range(30), special_ids=frozenset({2, 3, 4}))
    >>> masked([2, 17, 25, 3], view_rng(0, 0, 0, 0))
    ([2, 17, 4, 3], [-100, -100, 25, -100])
    """

    mask_id: int
    vocabulary: Collection[int]
    special_ids: frozenset[int] = frozenset()
    share: float = 0.15

    @classmethod
    def for_tokenizer(cls, tokenizer: "PreTrainedTokenizerBase") -> "MaskedTokens":
        """The rule for the ids of a tokenizer; its special tokens, the unknown one among them, are never chosen.

        Raises:
            UserError: the tokenizer has no mask token.
        """
        if tokenizer.mask_token_id is None:
            raise UserError(
                "masked language modeling: expected a tokenizer with a mask token, found none; choose another encoder, "
                "or leave reconstruction out"
            )
        vocabulary = tuple(tokenizer.get_vocab().values())
        return cls(tokenizer.mask_token_id, vocabulary, frozenset(tokenizer.all_special_ids))

    def __call__(self, ids: Sequence[int] | np.ndarray, rng: np.random.Generator) -> tuple[list[int], list[int]]:
        """Return the ids with some of them hidden, and the targets: what stood there, `IGNORED` everywhere else.

        Args:
            ids: token ids of one text without padding, (T,); they stay as they are.
            rng: where the 3·T random numbers come from, see `view_rng`.
        """
        tokens = np.array(ids, dtype=np.int64)
        ordinary = _ordinary(tokens, self._special)
        choice, fate = rng.random((2, len(tokens)))
        substitutes = rng.choice(self._ordinary_vocabulary, len(tokens))
        chosen = ordinary & (choice < self.share)
        if ordinary.any() and not chosen.any():
            # Given that none was chosen, their draws are still exchangeable: the smallest one falls on each alike.
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


def _ordinary(tokens: np.ndarray, special: np.ndarray) -> np.ndarray:
    """Which of the tokens (T,) are not special."""
    return ~(tokens[:, None] == special).any(axis=1)
