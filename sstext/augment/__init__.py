"""A text as token ids, or as text, turned into a changed view of itself."""

from sstext.augment.edits import TokenEdits, view_rng

__all__ = ["TokenEdits", "view_rng"]
