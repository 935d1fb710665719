"""Why a run held out no labeled rows, and what would help. Without them, it can neither check nor estimate anything."""

from collections.abc import Mapping
from typing import Any

from sstext.errors import UserError
from sstext.evaluation.calibration import confidence_for

#: Reasons, as `results.json` and the `config.json` of a model have them (`nothing_held_out`).
NO_LABELS, BUDGET, FEW_LABELS, METHOD, NOT_ASKED = "no labels", "budget", "few labels", "method", "not asked for"

#: Reason → what is missing, as a clause.
CAUSES = {
    NO_LABELS: "no text was labeled",
    BUDGET: "the budget was too short to hold out labeled rows",
    FEW_LABELS: "there were too few labels to hold any out",
    METHOD: "the method cannot hold out labeled rows",
    NOT_ASKED: "no labeled rows were held out",
}
#: Reason → what to do, as an imperative. Development rows help in any case.
REMEDIES = {
    NO_LABELS: "label some texts",
    BUDGET: "give a larger --budget",
    FEW_LABELS: "label more texts",
    METHOD: "choose another --method",
    NOT_ASKED: "add --folds 3",
}


def cause_and_remedy(reason: str | None) -> tuple[str, str]:
    """What is missing, and what to do. Runs of earlier versions have no reason.

    >>> cause_and_remedy("few labels")
    ('there were too few labels to hold any out', 'label more texts')
    >>> cause_and_remedy(None)
    ('no labeled rows were held out', 'add --folds 3')
    """
    known = reason if reason in CAUSES else NOT_ASKED
    return CAUSES[known], REMEDIES[known]


def threshold_for(known: Mapping[str, Any], precision: float) -> float:
    """The lowest confidence at which predictions have at least a precision, as estimated in training.

    Args:
        known: what the configuration of a model keeps of its training: `precision_curve`, and why there is none.
        precision: a share.

    Raises:
        UserError: if there is no estimate, or no threshold has this precision.
    """
    if not 0 < precision <= 1:
        raise UserError(f"target precision: expected a share above 0 and up to 1, found {precision}")
    curve = known.get("precision_curve")
    if not curve:
        cause, remedy = cause_and_remedy(known.get("nothing_held_out"))
        raise UserError(
            f"target precision: this model has no estimate of its precision, because {cause}; {remedy}, or give --dev, and "
            "train it again"
        )
    found = confidence_for(curve, precision)
    if found is None:
        best = max(share for _, share, _ in curve)
        raise UserError(
            f"target precision: expected at most {best:.3f}, the estimated precision of the most confident texts, "
            f"found {precision}"
        )
    return found
