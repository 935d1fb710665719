"""Published methods as compositions: one documented function per paper, each returns an `Objective`."""

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sstext.errors import UserError
from sstext.objective.divergences import cross_entropy
from sstext.objective.objective import Objective, linear_ramp
from sstext.objective.targets import Align, Hard
from sstext.objective.teachers import Self
from sstext.objective.views import Augmented, Same
from sstext.objective.weights import Gaussian, Threshold


def supervised() -> Objective:
    """Fine-tuning on the labeled (and, between rounds, pseudo-labeled) rows alone.

    L = mean H(label, p). Unlabeled rows play no part inside a step; the round loop may still use them.
    """
    return Objective()


def pseudo_label(threshold: float = 0.95, strength: float = 1.0, ramp: float = 0.4) -> Objective:
    """Confident predictions on a text become its label, on that same text.

    L_u = mean 1[max q ≥ τ] · H(argmax q, p), faded in by min(1, t / (ramp · T)).

    Source: Lee 2013, "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method", eqs. 15–16.

    Args:
        threshold: τ; the paper has none, .95 is the usual choice in later work.
        strength: λ after the ramp (the paper: 3).
        ramp: share of the training over which λ rises.
    """
    return Objective(
        teacher=Self(), target=Hard(), weight=Threshold(threshold), view=Same(),
        divergence=cross_entropy, strength=strength, ramp=linear_ramp(ramp),
    )  # fmt: skip


def fixmatch(threshold: float = 0.95, strength: float = 1.0, ramp: float = 0.0) -> Objective:
    """Confident predictions on a text become the label of a changed copy of it.

    L_u = mean 1[max q ≥ τ] · H(argmax q, Q), Q = the student on the strong view.

    Source: Sohn et al. 2020, "FixMatch", eqs. 3–4.

    Args:
        threshold: τ (paper: .95).
        strength: λ_u (paper: 1).
        ramp: share of the training over which λ rises (paper: none).
    """
    return Objective(
        teacher=Self(), target=Hard(), weight=Threshold(threshold), view=Augmented(),
        divergence=cross_entropy, strength=strength, ramp=linear_ramp(ramp),
    )  # fmt: skip


def softmatch(
    momentum: float = 0.999,
    n_sigma: float = 1.0,
    prior: Sequence[float] | None = None,
    strength: float = 1.0,
    ramp: float = 0.0,
) -> Objective:
    """Every prediction counts, the less the further its confidence lies below the usual one.

    L_u = mean w · H(argmax q, Q), w the truncated Gaussian of max q′, q′ = Norm(q · u / E[q]); the label is that of q.

    Source: Chen et al. 2023, "SoftMatch", eqs. 5–9.

    Args:
        momentum: m of all moving averages (paper: .999).
        n_sigma: 2 gives the weights of the released code, which divides σ² by 4.
        prior: (C,) class shares u (paper: uniform; give the true ones where classes are imbalanced).
        strength: λ (paper: 1).
        ramp: share of the training over which λ rises (paper: none).
    """
    return Objective(
        teacher=Self(), target=Hard(), weight=Gaussian(momentum, n_sigma, of=Align(prior, momentum)), view=Augmented(),
        divergence=cross_entropy, strength=strength, ramp=linear_ramp(ramp),
    )  # fmt: skip


#: Name on the command line → the function that composes the method.
METHODS: dict[str, Callable[..., Objective]] = {
    "supervised": supervised,
    "pseudo-label": pseudo_label,
    "fixmatch": fixmatch,
    "softmatch": softmatch,
}


def build(name: str, arguments: Mapping[str, Any] | None = None) -> Objective:
    """The objective of a named method, its arguments checked against the signature first.

    Raises:
        UserError: no such method or argument (the nearest names are given), or a value out of range.

    >>> build("fixmatch", {"threshold": .9}).weight.threshold
    0.9
    """
    method = METHODS.get(name)
    if method is None:
        raise UserError(f"method: no method {name!r}; {_nearest(name, METHODS)}")
    known = inspect.signature(method).parameters
    for argument in arguments or {}:
        if argument not in known:
            raise UserError(f"method_args: {name} has no argument {argument!r}; {_nearest(argument, known)}")
    try:
        return method(**(arguments or {}))
    except (TypeError, UserError) as error:
        raise UserError(f"method_args of {name}: {error}") from None


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    nearest = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"did you mean {', '.join(nearest)}?" if nearest else f"there are {', '.join(known) or 'none'}"
