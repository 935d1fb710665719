"""What the loss of labeled rows knows of the class frequencies: logit adjustment and class weights."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from sstext.data.batching import label_shares
from sstext.errors import UserError, nearest
from sstext.training.rows import labels_of


def shares_in_batches(labeled: Any, pseudo_labeled: Any, classes: int, gold_share: float) -> np.ndarray:
    """Class shares (C,) of the rows in a batch. Labeled and pseudo-labeled rows are mixed by `gold_share`."""
    shares = label_shares(labels_of(labeled), classes)
    if pseudo_labeled is None:
        return shares
    return gold_share * shares + (1 - gold_share) * label_shares(labels_of(pseudo_labeled), classes)


def class_weights(given: Any, shares: np.ndarray, id2label: Mapping[int, str]) -> np.ndarray | None:
    """The weights (C,) of the classes in the loss of labeled rows, or None if all are equal by default.

    balanced: w_c = 1 / (C π_c), which is n / (C n_c) for n labels, n_c of them in class c (as in scikit-learn).

    Args:
        given: `balanced`, a mapping of class name or number → weight (other classes have weight 1), or None.
        shares: (C,) class shares π.
        id2label: number → class name.

    Raises:
        UserError: no such class, or a weight that is no number of at least 0.

    >>> class_weights("balanced", np.array([0.75, 0.25]), {0: "no", 1: "yes"})
    array([0.66666667, 2.        ])
    >>> class_weights({"yes": 3}, np.array([0.75, 0.25]), {0: "no", 1: "yes"})
    array([1., 3.])
    """
    if given is None:
        return None
    if given == "balanced":
        return 1 / (len(shares) * shares)
    weights = np.ones(len(shares))
    for key, weight in given.items():
        weights[_number_of(key, id2label)] = weight
    if not weights.any():
        raise UserError("class_weight: expected at least one class with a weight above 0, found none")
    return weights


def _number_of(key: Any, id2label: Mapping[int, str]) -> int:
    """The number of a class that is given by its name, or by its number."""
    numbers = {name: int(number) for number, name in id2label.items()}
    if str(key) in numbers:
        return numbers[str(key)]
    if str(key).isdecimal() and int(key) < len(numbers):
        return int(key)
    raise UserError(f"class_weight: no class {key!r}; {nearest(str(key), numbers)}")
