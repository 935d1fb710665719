"""`auto`, the default method: all of it."""

from functools import partial

from sstext.methods.method import HEAD, HEAD_AND_PROBE, PROVEN, Method, Schedule, Stage
from sstext.methods.rounds import FOLDS, baseline, kind_of_label, regression
from sstext.objective.objective import Objective
from sstext.objective.part import yes_or_no
from sstext.objective.regularizers import SupervisedContrast
from sstext.pseudolabels.admission import Admission

#: Schedule of the start. More steps on 20 labels made it certain, and often wrong (recipes/benchmark/LOG.md).
START = Schedule(passes=24, least=16, most=500, batch_size=32, learning_rate=1e-4, of_rounds=True)


def auto(contrast: float = 10.0, temperature: float = 0.1, labels: str = "soft", plain: bool = False) -> Method:
    """Separates the classes on the labeled rows and their names first, then learns from the corpus with soft pseudo-labels.

    L = mean H(y, p) + c · L_contrast over the labeled rows in the start (supervised contrast of pooled rows), and
    L = mean H(y, p) in the round, with the label y of labeled rows, and the aligned prediction of the teachers for the corpus.
    H is the cross-entropy. The stage before the start has no steps: it is a logistic regression on the embeddings of the
    encoder as it was pretrained. The head of the start begins as this regression. Names or descriptions of the classes are
    rows of regression and start, if held-out labels show that they help. Head and probe of the start label the corpus together.
    A probe is a logistic regression on the embeddings.

    With folds, each chain trains regression and start without one fold of the labels. Held-out predictions choose between the
    two and calibrate their labels. If the start is chosen, its labels and those of the regression are averaged. Their weights
    come from the same predictions (`sstext.selftraining.teachers`). One student learns from the average.

    Without labels, the first stage compares texts with descriptions of the classes (`nearest_description`), and one student
    learns from its labels. Nothing is checked then.

    When: by default. Its ingredients, and what did not help: recipes/benchmark/LOG.md.

    Source: ours, based on Khosla et al. 2020, "Supervised Contrastive Learning", eq. 2; Berthelot et al. 2020 (ReMixMatch),
    section 3.1; for names and descriptions, Gao et al. 2023 (arXiv 2305.02239)

    Args:
        contrast: weight c of the contrastive loss (Khosla trains it alone first; with c = 1, cross-entropy dominates the
            embeddings that the probe reads).
        temperature: τ of the contrastive loss (Khosla: .1).
        labels: soft or hard pseudo-labels.
        plain: whether the chains also train plain fine-tuning. It is then checked on held-out labels, too, and can be the
            teacher. It costs a training per chain.
    """
    objective = partial(_contrasted, contrast, temperature)
    objective()  # its arguments are checked now
    start = Stage(
        "start", objective, START,
        labels_with=HEAD_AND_PROBE, chooses_reading=True, regression_head=True, reads_class_texts=True,
    )  # fmt: skip
    grow = Stage(
        "round", Objective,
        Schedule(passes=1.5, least=60, most=2_000, batch_size=32, learning_rate=1e-4, of_rounds=True),
        selection=Admission(target=kind_of_label(labels)), labels_with=HEAD, chooses_reading=True,
    )  # fmt: skip
    return Method(
        (regression(), *([baseline(HEAD)] if yes_or_no("plain", plain) else []), start),
        round=grow,
        rounds=1,
        keep=(1.0,),
        folds=FOLDS,
        expected_gain=PROVEN,
        follows_shares=True,
        teaches_once=True,
        plain=baseline(),
    )


def _contrasted(contrast: float, temperature: float) -> Objective:
    return Objective(regularizers=[SupervisedContrast(contrast, temperature)])
