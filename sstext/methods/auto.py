"""`auto`, the default method: all of it."""

from functools import partial

from sstext.methods.method import HEAD, HEAD_AND_PROBE, PROVEN, Method, Schedule, Stage
from sstext.methods.rounds import FOLDS, baseline, kind_of_label
from sstext.objective.objective import Objective
from sstext.objective.regularizers import SupervisedContrast
from sstext.pseudolabels.admission import Admission


def auto(contrast: float = 10.0, temperature: float = 0.1, labels: str = "soft") -> Method:
    """Pulls the classes apart on the labeled rows first, then adds the whole corpus with soft pseudo-labels.

    L = mean H(y, p). Baseline: over the labeled rows. Start: over the labeled rows, + c · L_contrast (supervised contrast of
    pooled rows). Round: y = the label on labeled rows, the teacher's aligned prediction on the corpus. H is the cross-entropy.
    Head and probe of the start label the corpus together. A probe is a logistic regression on the embeddings of the student.
    Held-out predictions decide which stage is used.

    When: by default. Its ingredients, and what did not help: recipes/benchmark/LOG.md.

    Source: ours, based on Khosla et al. 2020, "Supervised Contrastive Learning", eq. 2, and Berthelot et al. 2020 (ReMixMatch),
    section 3.1

    Args:
        contrast: weight c of the contrastive loss (Khosla trains it alone first; with c = 1, cross-entropy dominates the
            embeddings that the probe reads).
        temperature: τ of the contrastive loss (Khosla: .1).
        labels: soft or hard pseudo-labels.
    """
    objective = partial(_contrasted, contrast, temperature)
    objective()  # its arguments are checked now
    start = Stage(
        "start", objective, Schedule(passes=30, least=60, most=500, batch_size=32, learning_rate=1e-4, of_rounds=True),
        labels_with=HEAD_AND_PROBE,
    )  # fmt: skip
    grow = Stage(
        "round", Objective,
        Schedule(passes=1.5, least=60, most=2_000, batch_size=32, learning_rate=1e-4, of_rounds=True),
        selection=Admission(target=kind_of_label(labels)), labels_with=HEAD,
    )  # fmt: skip
    return Method(
        (baseline(), start), round=grow, rounds=1, keep=(1.0,), folds=FOLDS, expected_gain=PROVEN, follows_shares=True
    )


def _contrasted(contrast: float, temperature: float) -> Objective:
    return Objective(regularizers=[SupervisedContrast(contrast, temperature)])
