"""Token edits: the changed view of a text in any language, made of its ids alone.

Masking a share of the tokens is the strong view of the consistency methods and the noise of a self-trained student: it
asks for the same label with part of the evidence gone. It needs no dictionary and no second model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from sstext.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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
    """Drop each ordinary token with probability `drop`, and mask each one that stays with probability `mask`.

    Tokens are edited independently of each other, and special ones not at all. Where all ordinary tokens would be
    dropped, one of them, drawn at random, stays.

    Args:
        mask: probability that a token that stays is replaced by the mask token, in [0, 1].
        drop: probability that a token is left out, in [0, 1].
        mask_id: id of the mask token; needed where `mask` is above 0.
        special_ids: ids that are never edited (start, end, padding, …). Where the mask token is among them, a mask that
            already stands in a text can not be dropped; masking it changes nothing in either case.

    Raises:
        UserError: a probability outside [0, 1], or masking without a mask token.

    >>> TokenEdits(mask=1.0, mask_id=4, special_ids=frozenset({2, 3}))([2, 17, 25, 3], view_rng(0, 0, 0, 0))
    [2, 4, 4, 3]
    """

    mask: float = 0.15
    drop: float = 0.0
    mask_id: int | None = None
    special_ids: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        for name, share in (("token_mask", self.mask), ("token_drop", self.drop)):
            if not 0 <= share <= 1:
                raise UserError(f"{name}: expected a share between 0 and 1, found {share}")
        if self.mask > 0 and self.mask_id is None:
            raise UserError(
                f"token_mask={self.mask}: expected a tokenizer with a mask token, found none; "
                f"set token_mask=0 and drop tokens instead, for example token_drop={self.mask}"
            )

    @classmethod
    def for_tokenizer(cls, tokenizer: "PreTrainedTokenizerBase", mask: float = 0.15, drop: float = 0.0) -> "TokenEdits":
        """The edits for the ids of a tokenizer; its special tokens, the unknown one among them, stay as they are.

        Raises:
            UserError: a probability outside [0, 1], or masking with a tokenizer that has no mask token.
        """
        return cls(mask, drop, tokenizer.mask_token_id, frozenset(tokenizer.all_special_ids))

    def __call__(self, ids: Sequence[int] | np.ndarray, rng: np.random.Generator) -> list[int]:
        """Return the edited ids of one text; `ids` (T,) stay as they are.

        Args:
            ids: token ids of one text without padding, (T,).
            rng: where the 2·T random numbers come from, see `view_rng`.
        """
        tokens = np.asarray(ids, dtype=np.int64)
        editable = ~(tokens[:, None] == self._special).any(axis=1)
        drop_draw, mask_draw = rng.random((2, len(tokens)))
        edited = tokens if self.mask_id is None else np.where(editable & (mask_draw < self.mask), self.mask_id, tokens)
        dropped = editable & (drop_draw < self.drop)
        if dropped.any() and dropped.sum() == editable.sum():
            # Given that all were dropped, their draws are still exchangeable: the largest one falls on each alike.
            dropped[np.where(editable, drop_draw, -1.0).argmax()] = False
        return edited[~dropped].tolist()

    @cached_property
    def _special(self) -> np.ndarray:
        return np.array(sorted(self.special_ids), dtype=np.int64)
