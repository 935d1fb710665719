"""Confidence intervals of shares."""

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def wilson_interval(share: ArrayLike, rows: ArrayLike, confidence_level: float = 0.95) -> tuple[Floats, Floats]:
    """The interval of a share. It stays within [0, 1], and has a width also if the share is 0 or 1.

    Args:
        share: (...) in [0, 1].
        rows: (...) number of rows.
        confidence_level: in (0, 1).

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".

    >>> low, high = wilson_interval(1.0, 10)
    >>> round(float(low), 3), round(float(high), 3)
    (0.722, 1.0)
    """
    p, n, z = np.asarray(share, np.float64), np.asarray(rows), NormalDist().inv_cdf((1 + confidence_level) / 2)
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return (middle - half).clip(0, 1), (middle + half).clip(0, 1)
