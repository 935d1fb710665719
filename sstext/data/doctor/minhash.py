"""Near duplicates: texts that share most of their characters, found without comparing all pairs.

A text is the set of its shingles, all runs of `SHINGLE` characters. The smallest hashes of two sets are equal as often as
the sets overlap (MinHash). Such minima are joined in bands: texts that agree in one band are compared in full.

Source: Broder 1997, "On the resemblance and containment of documents"; Leskovec, Rajaraman, Ullman, "Mining of Massive
Datasets", section 3.4 for bands.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

#: Characters of a shingle, and of a text that are read: a long text that begins like another one is its near duplicate.
SHINGLE, LONGEST = 5, 5_000
#: Share of their shingles that near duplicates have in common.
SIMILAR = 0.8
#: Bands, and minima in each. Two texts that overlap by .8 agree in a band with probability 1 − (1 − .8⁵)¹² = .99.
BANDS, ROWS = 12, 5
_BLOCK = 1 << 15  # shingles that are hashed at once, so that they stay in the cache
_MARKS = re.compile(r"""[\s.,;:!?…"'`´’‘“”„«»_-]+""")

_RNG = np.random.default_rng(0x5EED)
_FACTORS = _RNG.integers(1, 1 << 63, BANDS * ROWS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_SHIFTS = _RNG.integers(0, 1 << 63, BANDS * ROWS, dtype=np.uint64)
_POSITIONS = _RNG.integers(1, 1 << 63, SHINGLE, dtype=np.uint64) * np.uint64(2) + np.uint64(1)


def normalized(text: str) -> str:
    """A text without what people hardly notice: case, blanks, punctuation, and other bytes for the same letters.

    >>> normalized("  It's  LATE!! "), normalized("it s late"), normalized("?!")
    ('it s late', 'it s late', '?!')
    """
    folded = text.casefold() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()
    return _MARKS.sub(" ", folded).strip() or folded.strip()


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread the bits of hashes (the finalizer of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def bands(texts: Sequence[str]) -> NDArray[np.uint64]:
    """Hashes of the bands of N normalized texts, (N, `BANDS`).

    >>> found = bands(["where is my parcel now", "where is my parcel now", "money back"])
    >>> (found[0] == found[1]).all(), (found[0] == found[2]).any()
    (np.True_, np.False_)
    """
    cut = [text[:LONGEST].ljust(SHINGLE, "\0") for text in texts]
    ends = np.cumsum([len(text) for text in cut])
    codes = np.frombuffer("".join(cut).encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    last = len(codes) - SHINGLE + 1
    hashed = np.zeros(last, dtype=np.uint64)
    for place, factor in enumerate(_POSITIONS):
        hashed += codes[place : place + last] * factor
    inside = np.ones(len(codes), dtype=bool)  # shingles that do not begin in one text and end in the next one
    for back in range(1, SHINGLE):
        inside[ends - back] = False
    hashed = _mixed(hashed[inside[:last]])
    first = np.concatenate([[0], (ends - (SHINGLE - 1) * np.arange(1, len(cut) + 1))])
    found = np.empty((len(cut), BANDS), dtype=np.uint64)
    for begin, end in _blocks(first):
        values, starts = hashed[first[begin] : first[end]], first[begin:end] - first[begin]
        for band in range(BANDS):
            joined = np.zeros(end - begin, dtype=np.uint64)
            for number in range(band * ROWS, (band + 1) * ROWS):
                minima = np.minimum.reduceat(values * _FACTORS[number] + _SHIFTS[number], starts)
                joined = _mixed(joined * _FACTORS[0] + minima)
            found[begin:end, band] = joined
    return found


def _blocks(first: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Ranges of texts with about `_BLOCK` shingles. `first` is where those of each text begin, and where all end."""
    begin = 0
    while begin < len(first) - 1:
        end = max(begin + 1, int(np.searchsorted(first, first[begin] + _BLOCK, side="right")) - 1)
        yield begin, end
        begin = end


def similarity(first: str, second: str) -> float:
    """Share of the shingles of two normalized texts that are in both: |A ∩ B| ÷ |A ∪ B|.

    >>> similarity("money back", "money back"), similarity("money back", "money bags")  # 4 of 8
    (1.0, 0.5)
    """
    one, other = (_shingles(text) for text in (first, second))
    return len(one & other) / len(one | other)


def _shingles(text: str) -> set[str]:
    text = text[:LONGEST].ljust(SHINGLE, "\0")
    return {text[start : start + SHINGLE] for start in range(len(text) - SHINGLE + 1)}


class Groups:
    """Rows that belong together, as a forest: each row leads to an earlier one of its group (union-find)."""

    def __init__(self, size: int) -> None:
        self._parent = np.arange(size)

    def find(self, row: int) -> int:
        """The first row of a group."""
        parent = self._parent
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = int(parent[row])
        return row

    def join(self, one: int, other: int) -> None:
        one, other = sorted((self.find(one), self.find(other)))
        self._parent[other] = one

    def all(self) -> NDArray[np.int64]:
        """(N,) first row of the group of each."""
        parent = self._parent
        while (parent != (above := parent[parent])).any():
            parent = above
        self._parent = parent
        return parent


def group_similar(
    hashed: NDArray[np.uint64], sizes: NDArray, text_of: Callable[[int], str], groups: Groups, rows: NDArray[np.int64]
) -> None:
    """Join near duplicates. In each band, a row is compared with the first one of its bucket and with the one before it.

    Args:
        hashed: (N, `BANDS`) of all rows.
        sizes: (N,) characters of the normalized texts.
        text_of: normalized text of a row.
        groups: of all rows. It is changed.
        rows: those that are compared, for example one of each text.
    """
    lengths = sizes[rows]
    for band in range(hashed.shape[1]):
        own = hashed[rows, band]
        order = np.argsort(own, kind="stable")
        values = own[order]
        new = np.concatenate([[True], values[1:] != values[:-1]])
        first = order[np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))]
        for partner in (first, np.concatenate([order[:1], order[:-1]])):
            short, long = np.minimum(lengths[order], lengths[partner]), np.maximum(lengths[order], lengths[partner])
            # Texts whose lengths differ more cannot overlap so much.
            maybe = ~new & (np.minimum(short, LONGEST) + 8 >= SIMILAR * np.minimum(long, LONGEST))
            for one, other in zip(rows[order[maybe]].tolist(), rows[partner[maybe]].tolist(), strict=True):
                if groups.find(one) != groups.find(other) and similarity(text_of(one), text_of(other)) >= SIMILAR:
                    groups.join(one, other)
