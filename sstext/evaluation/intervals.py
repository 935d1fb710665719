"""Confidence intervals of shares, of means of bounded values, and of differences between two shares of the same rows.

These rules are also sound at the edges, where all rows agree. A bootstrap gives an interval without a width there, because
every resample equals the sample.
"""

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


def bounded_mean_interval(
    mean: ArrayLike, rows: ArrayLike, largest: float, confidence_level: float = 0.95
) -> tuple[Floats, Floats]:
    """A conservative interval of the mean of values in [0, m]: m × the interval of the share mean / m.

    Values in [0, m] vary most if each of them is 0 or m. The mean of others is therefore known at least as well as a share.

    Args:
        mean: (...) in [0, m].
        rows: (...) number of rows, or the effective number if the rows have weights.
        largest: m, the largest possible value.
        confidence_level: in (0, 1).

    Source: Bhatia and Davis 2000, "A better bound on the variance" (the variance is at most mean × (m − mean)), with Wilson's
    interval.

    >>> [round(float(end), 3) for end in bounded_mean_interval(2.0, 10, 2.0)]
    [1.445, 2.0]
    """
    low, high = wilson_interval(np.asarray(mean) / largest, rows, confidence_level)
    return largest * low, largest * high


def effective_rows(weights: ArrayLike) -> float:
    """Number of equally weighted rows that are worth as much as weighted rows: n = (Σ_i w_i)² / Σ_i w_i².

    Args:
        weights: (N,) how often each row counts.

    Source: Kish 1965, "Survey Sampling", section 8.2.

    >>> effective_rows([1, 1, 1, 1]), effective_rows([1, 0, 0, 1])
    (4.0, 2.0)
    """
    w = np.asarray(weights, np.float64)
    return float(w.sum() ** 2 / (w**2).sum())


def paired_difference_interval(
    gained: int, lost: int, rows: int, confidence_level: float = 0.95
) -> tuple[float, float]:
    """The interval of the difference between the accuracies of two models on the same rows, (gained − lost) / rows.

    It has the differences Δ for which (b − c − NΔ) / √(N (2 q + Δ (1 − Δ))) is within ±z. b is the number of gained rows, c
    that of lost ones, and q the most probable share of lost rows if the difference is Δ. It has a width also if the models
    are right on the same rows: [−z²/(N + z²), z²/(N + z²)].

    Args:
        gained: number of rows on which only the second model is right.
        lost: number of rows on which only the first model is right.
        rows: N, number of all rows, at least 1.
        confidence_level: in (0, 1).

    Source: Tango 1998, "Equivalence test and confidence interval for the difference in proportions for the paired-sample
    design".

    >>> [round(end, 3) for end in paired_difference_interval(0, 0, 60)]
    [-0.06, 0.06]
    >>> [round(end, 3) for end in paired_difference_interval(9, 2, 60)]
    [0.01, 0.235]
    """
    z = NormalDist().inv_cdf((1 + confidence_level) / 2)

    def exceeds(difference: float) -> bool:
        """Whether a difference is further than z standard errors from the observed one."""
        b = -gained - lost + (2 * rows - gained + lost) * difference
        q = (np.sqrt(b**2 + 8 * rows * lost * difference * (1 - difference)) - b) / (4 * rows)
        variance = rows * (2 * q + difference * (1 - difference))
        return bool((gained - lost - rows * difference) ** 2 > z**2 * max(variance, 0.0))

    ends, observed = [], (gained - lost) / rows
    for outside in (-1.0, 1.0):
        inside = observed
        for _ in range(60):  # bisection: the width is 2⁻⁵⁹ at the end
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if exceeds(middle) else (middle, outside)
        ends.append(inside)
    return ends[0], ends[1]
