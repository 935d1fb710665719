"""The order of rows: keyed permutations, endless streams, and runs of one class."""

import math

import numpy as np

_MASK64 = (1 << 64) - 1


def _mix(value: int) -> int:
    """SplitMix64's finalizer: 64 bits in, 64 well-mixed bits out."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK64
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK64
    return value ^ (value >> 31)


def mixed(*parts: int) -> int:
    """Hash integers to one well-mixed number of 64 bits. Their order matters."""
    state = 0
    for part in parts:
        state = _mix(state ^ (part & _MASK64))
    return state


class KeyedPermutation:
    """A permutation of 0 … n−1 that is computed, not stored: O(1) time and memory for any n.

    A Feistel network of six rounds over the next even power of two, repeated until the result is below n (Black &
    Rogaway 2002).

    >>> sorted(KeyedPermutation(5, 7)(i) for i in range(5))
    [0, 1, 2, 3, 4]
    """

    def __init__(self, n: int, *key: int) -> None:
        if n < 1:
            raise ValueError(f"expected at least one row to permute, found {n}")
        self.n = n
        self._half = max(1, math.ceil((n - 1).bit_length() / 2))
        state = mixed(*key)
        self._keys = tuple(_mix(state + turn) for turn in range(1, 7))

    def __call__(self, index: int) -> int:
        if not 0 <= index < self.n:
            raise IndexError(f"expected an index below {self.n}, found {index}")
        low = (1 << self._half) - 1
        while True:
            left, right = index >> self._half, index & low
            for key in self._keys:
                left, right = right, left ^ (_mix(right ^ key) & low)
            index = (left << self._half) | right
            if index < self.n:
                return index


def random_rows(count: int, size: int, seed: int) -> np.ndarray:
    """Draw `size` of `count` rows, in ascending order. All sets are equally likely. No array of size `count` is made.

    >>> random_rows(3, 3, seed=0)
    array([0, 1, 2])
    """
    if size == count:
        return np.arange(count)
    place = KeyedPermutation(count, seed)
    return np.sort(np.fromiter((place(number) for number in range(size)), dtype=np.int64, count=size))


class RowStream:
    """An endless stream over n rows. Every pass visits each row once, in a new order.

    >>> rows = RowStream(3, seed=0, stream=0)
    >>> sorted(rows(i)[0] for i in range(3)), rows(4)[1]
    ([0, 1, 2], 1)
    """

    def __init__(self, n: int, *, seed: int, stream: int) -> None:
        self.n, self.key = n, (seed, stream)

    def __call__(self, index: int) -> tuple[int, int]:
        """The row at `index`, and how many times it was drawn before."""
        draw, position = divmod(index, self.n)
        return KeyedPermutation(self.n, *self.key, draw)(position), draw


class ClassRuns:
    """An endless stream over n labeled rows with short runs of rows of the same class.

    Every pass visits each row once. Each class is cut into runs of nearly equal length, at most `run` (with `run` 4, 5
    rows become 3 + 2). The runs are drawn again for every pass and come in random order. A batch then has several rows
    of each class in it, even if there are more classes than rows in a batch.

    Args:
        labels: (n,) classes.
        run: maximum number of consecutive rows of the same class.
        seed, stream: see `RowStream`.

    >>> rows = ClassRuns(np.array([0, 1, 0, 1]), run=2, seed=0, stream=0)
    >>> {tuple(sorted(rows(i)[0] for i in pair)) for pair in ((0, 1), (2, 3))} == {(0, 2), (1, 3)}
    True
    """

    def __init__(self, labels: np.ndarray, *, run: int, seed: int, stream: int) -> None:
        self.labels, self.run, self.key = np.asarray(labels), run, (seed, stream)
        self._pass: tuple[int, np.ndarray] = (-1, np.zeros(0, dtype=np.int64))

    def __call__(self, index: int) -> tuple[int, int]:
        """The row at `index`, and how many times it was drawn before."""
        draw, position = divmod(index, len(self.labels))
        if self._pass[0] != draw:
            self._pass = (draw, self._order(draw))
        return int(self._pass[1][position]), draw

    def _order(self, draw: int) -> np.ndarray:
        rng = np.random.default_rng((*self.key, draw))
        runs = []
        for number in np.unique(self.labels):
            rows = rng.permutation(np.flatnonzero(self.labels == number))
            runs += np.array_split(rows, math.ceil(len(rows) / self.run))
        return np.concatenate([runs[place] for place in rng.permutation(len(runs))])
