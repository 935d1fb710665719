"""Why a run held out no labeled rows, and what would help. Without them, it can neither check nor estimate anything."""

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
