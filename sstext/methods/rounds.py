"""Methods of the round loop: they decide which rows of the scored corpus the next student is trained on.

Inside a step they are supervised (`auto` adds a contrast of the classes): what is theirs is the `Admission` between two rounds.
"""

from sstext.errors import UserError
from sstext.objective.objective import Objective
from sstext.objective.targets import Hard, Soft
from sstext.objective.weights import Confidence, InverseVariance, Threshold
from sstext.pseudolabels.admission import Admission, Order, easy, hard

SAMPLING: dict[str, Order] = {"easy": easy, "hard": hard}


def self_training(threshold: float = 0.95) -> tuple[Objective, Admission]:
    """What the last student predicts with confidence is labeled for the next one, round by round.

    L = mean H(y, p) over labeled rows (x, y), and rows of the corpus with max q ≥ τ and y = argmax q, q = the last student.
    Every round labels the corpus anew; there are no quotas, no alignment and no token edits.

    When: as the baseline of the round loop; confidence must mean something, and classes be about equally hard.

    Source: Scudder 1965, "Probability of Error of Some Adaptive Pattern-Recognition Machines"; Yarowsky 1995, "Unsupervised
    Word Sense Disambiguation Rivaling Supervised Methods", section 4, step 3.

    Args:
        threshold: τ (papers: by task; .95 is usual in later work). --keep, --prior, --alignment and --pseudo-labels
            play no part.
    """
    return Objective(), Admission(
        weight=Threshold(threshold), target=Hard(), quotas="none", align=False, noise=False
    )  # fmt: skip


def margin_history() -> tuple[Objective, Admission]:
    """Rows join whose label has not flipped, those first that were clear in every round, each as much as its label is worth.

    L = mean w · H(y, p) over labeled rows (w = 1), and rows of the corpus with y = argmax q, the same as one round before, and
    w = q[y]; q = the last student, calibrated and aligned. Of every class its quota of rows, those with the largest mean margin
    first: M = mean over rounds r of q_r[y] − max over c ≠ y of q_r[c].

    When: over several rounds (--rounds 3), with quotas; labels are right a little more often than by confidence (LOG.md).

    Source: ours, of Pleiss et al. 2020, "Identifying Mislabeled Data using the Area Under the Margin Ranking", section 3, and
    Sosea and Caragea 2023, "MarginMatch: Improving Semi-Supervised Learning with Pseudo-Margins", section 3 (both of logits,
    over the steps of one training, with a threshold)

    How sure q is, a regression on the embeddings says (`sstext.pseudolabels.probe`), or development rows; the first student
    labels together with it.
    """
    return Objective(), Admission(weight=Confidence(), probe=True, history=True, follows_options=True)


def noisy_student(threshold: float = 0.3, labels: str = "soft") -> tuple[Objective, Admission]:
    """The last student, without noise, labels the corpus for the next one, which reads it with noise.

    L = mean H(y, P) over labeled rows (x, y), and as many rows of every class with max q ≥ τ and y = q, q = the last student;
    P = the next one with dropout, on texts with token edits. The most confident rows of a class come first; a class with
    too few has them several times.

    When: the corpus is large, classes are balanced or should count alike, and predictions are fairly calibrated.

    Source: Xie et al. 2020, "Self-training with Noisy Student improves ImageNet classification", algorithm 1 and section 3.1.

    Args:
        threshold: τ (paper: .3, of 1,000 classes). How many rows there are, --keep says (paper: 130 M of 300 M images).
            --prior, --alignment and --pseudo-labels play no part.
        labels: soft or hard (paper: soft; hard ones do as well on texts that are like the labeled ones).
    """
    targets = {"soft": Soft, "hard": Hard}
    if labels not in targets:
        raise UserError(f"labels: expected soft or hard, found {labels!r}")
    return Objective(), Admission(
        weight=Threshold(threshold), target=targets[labels](), quotas="equal", refill=True, align=False, noise=True
    )


def ust(
    passes: int = 30, subset: int | None = 16_384, sampling: str = "easy", alpha: float = 1.0
) -> tuple[Objective, Admission]:
    """Dropout passes say where the last student is unsure: surer rows are drawn more often, and count more.

    L = mean w · H(y, p) over labeled rows (w = 1), and rows of the corpus with y = argmax q̄, q̄ = mean q_t over T passes with
    dropout, w = α log(1 / Var q_t[y]). Every class gets as many rows, drawn with probability ∝ 1 − B (easy) or ∝ B (hard), B
    = H(q̄) − mean H(q_t); a class with too few has them several times.

    When: the encoder has dropout (--dropout), and time for T passes; confidence alone lets too much through.

    Source: Mukherjee and Awadallah 2020, "Uncertainty-aware Self-training for Few-shot Text Classification", eqs. 7–8 and
    section 3.

    Args:
        passes: T (paper: 30; its code has the encoder's dropout at .2). y is the mean's class (paper: the vote of the
            passes; code: the prediction without dropout). The temperature, if any, divides the logits of every pass.
        subset: rows that the passes are made over, drawn anew each round (code: 16,384; none: all). How many of them are
            drawn, --keep says (code: a quarter). --prior, --alignment and --pseudo-labels play no part.
        sampling: easy or hard (paper: both; code: easy).
        alpha: α (paper: 1; code: .1). Labeled rows count 1: at 1, kept rows count 12 to 23 and drown the labels; at .1 they
            do not.
    """
    if sampling not in SAMPLING:
        raise UserError(f"sampling: expected easy or hard, found {sampling!r}")
    if type(passes) is not int or passes < 2:
        raise UserError(f"passes: expected a whole number of at least 2 dropout passes, found {passes!r}")
    return Objective(), Admission(
        weight=InverseVariance(alpha), target=Hard(), order=SAMPLING[sampling], quotas="equal", refill=True,
        align=False, passes=passes, subset=subset, noise=False,
    )  # fmt: skip


#: Chains where nobody says how many: two, three and five came to the same (recipes/README.md); five cost more, and of two each
#: has but half of the labels.
FOLDS = 3
