"""Held-out rows that are training rows, too. Their figures say nothing about new texts."""

from collections.abc import Sequence

from sstext.config.spelling import spelled
from sstext.data.loading import Labeled
from sstext.errors import UserError


def _texts_of(rows: Labeled) -> list[str]:
    return [text.strip() for text in rows.texts["text"][:]]


def held_out_overlap(
    labeled: Labeled, dev: Labeled | None, test: Labeled | None, *, allowed: bool
) -> tuple[dict[str, int], list[str]]:
    """Texts that are held out for one purpose and used for another.

    Args:
        labeled: the training rows.
        allowed: the option `allow_overlap`.

    Returns:
        Test and development rows → number of their texts that are training texts; and notes.

    Raises:
        UserError: the test or the development texts are exactly the training texts, or the test texts are exactly the
            development texts, and this is not allowed.
    """
    found, notes = dict[str, int](), list[str]()
    pairs: Sequence[tuple[str, Labeled | None, str, Labeled | None]] = (
        ("test", test, "labeled training texts", labeled), ("dev", dev, "labeled training texts", labeled),
        ("test", test, "development texts", dev),
    )  # fmt: skip
    for what, rows, kind, others in pairs:
        if rows is None or others is None:
            continue
        own, there = _texts_of(rows), set(_texts_of(others))
        same = sum(text in there for text in own)
        if not same:
            continue
        if others is labeled:
            found[what] = same
        everything = same == len(own)
        which = f"all {same:,} texts" if everything else f"{same:,} of {len(own):,} texts"
        meaning = "the figures say nothing about new texts" if everything else "they make the figures look better"
        if set(own) == there and not allowed:
            raise UserError(
                f"{what}: expected texts that the run does not see otherwise, found that {which} are {kind}, too; give other "
                f"rows, leave out {spelled(what)}, or give {spelled('allow_overlap', True)}"
            )
        remedy = "" if everything else "; leave them out of one of the two"
        notes.append(f"{what}: {which} are {kind}, too: {meaning}{remedy}")
    return found, notes
