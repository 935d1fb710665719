"""Ramps of the unlabeled loss: progress t/T in [0, 1] → a factor in [0, 1]."""

import math
from collections.abc import Callable

from sstext.objective.part import in_range

Ramp = Callable[[float], float]


def linear_ramp(length: float) -> Ramp:
    """min(1, progress / length): rises linearly over the first `length` of the training.

    >>> ramp = linear_ramp(.4); ramp(0.), ramp(.2), ramp(.8), linear_ramp(0.)(0.)
    (0.0, 0.5, 1.0, 1.0)
    """
    in_range("ramp", length, 0, 1)
    return lambda progress: 1.0 if length <= 0 else min(1.0, progress / length)


def sigmoid_ramp(length: float) -> Ramp:
    """exp(−5 (1 − min(1, progress / length))²): slow at first, then steep (Laine & Aila 2017, appendix A).

    >>> ramp = sigmoid_ramp(.4); round(ramp(0.), 6), ramp(.4), ramp(.8), sigmoid_ramp(0.)(0.)
    (0.006738, 1.0, 1.0, 1.0)
    """
    linear = linear_ramp(length)
    return lambda progress: math.exp(-5 * (1 - linear(progress)) ** 2)


def cosine_ramp(length: float) -> Ramp:
    """½ (1 − cos(π · min(1, progress / length))) (Berthelot et al. 2022, section 3.4, with length ½).

    >>> ramp = cosine_ramp(.5); ramp(0.), round(ramp(.25), 6), ramp(.5), ramp(1.), cosine_ramp(0.)(0.)
    (0.0, 0.5, 1.0, 1.0, 1.0)
    """
    linear = linear_ramp(length)
    return lambda progress: (1 - math.cos(math.pi * linear(progress))) / 2
