"""A text as token ids, or as text, turned into a changed view of itself."""

from sstext.data.edits import MaskedTokens, TokenEdits, view_rng

__all__ = ["MaskedTokens", "TokenEdits", "view_rng"]
