"""`auto`, the default method."""

from sstext.objective.objective import Objective
from sstext.objective.regularizers import SupervisedContrast
from sstext.objective.targets import Soft
from sstext.pseudolabels.admission import Admission


def auto(contrast: float = 10.0, temperature: float = 0.1) -> tuple[Objective, Admission]:
    """What the evidence supports: classes are pulled apart first, on the labels, then the corpus joins round by round.

    L = mean H(y, p) + c · L_contrast over the labels in round 1 (supervised contrast of pooled rows); L = mean H(y, p) over the
    labels and the corpus from round 2 on, y = what the last student predicts of a text, aligned to --prior. Round 0 is plain
    fine-tuning, to compare with: --folds says whether the later rounds are better, and which of them is shipped.

    When: always, unless you know better; the default. Its ingredients and what did not help: recipes/benchmark/LOG.md.

    Source: ours, of Khosla et al. 2020, "Supervised Contrastive Learning", eq. 2, and Berthelot et al. 2020 (ReMixMatch),
    section 3.1

    Args:
        contrast: c (Khosla: the contrast alone comes first, without H; at 1, H pulls the embeddings that the probe reads).
        temperature: τ of the contrast (Khosla: .1).
    """
    return Objective(regularizers=[SupervisedContrast(contrast, temperature)]), Admission(
        target=Soft(), quotas="none", labels_first=True, start_only=True, probe=True, follows_options=True
    )
