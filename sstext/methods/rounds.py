"""Methods of the round loop: they select the rows of the scored corpus that the next student learns from.

Their trainings are plain fine-tuning. They differ in the selection between two rounds.
"""

from collections.abc import Callable
from dataclasses import replace

from sstext.errors import UserError
from sstext.methods.method import DROPOUT_PASSES, HEAD, HEAD_AND_PROBE, Method, Schedule, Stage
from sstext.objective.objective import Objective
from sstext.objective.targets import Hard, Soft, Target
from sstext.objective.weights import Confidence, InverseVariance, Threshold
from sstext.pseudolabels.admission import Admission, Order, easy, hard

#: Chains if the user does not say how many. Two, three and five came to the same (recipes/benchmark/RESULTS.md); five
#: cost more, and each of two has only half of the labels.
FOLDS = 3
SAMPLING: dict[str, Order] = {"easy": easy, "hard": hard}


def kind_of_label(name: str) -> Target:
    """The target of a name, soft or hard.

    >>> kind_of_label("soft")
    Soft()
    """
    kinds = {"soft": Soft, "hard": Hard}
    if name not in kinds:
        raise UserError(f"labels: expected soft or hard, found {name!r}")
    return kinds[name]()


def baseline(labels_with: str | None = None) -> Stage:
    """Plain fine-tuning on the labeled rows: 20 passes, at least 60 steps.

    With 40 labels, 120 steps were worse than 60 (recipes/benchmark/LOG.md).
    """
    return Stage("baseline", Objective, Schedule(passes=20, least=60, most=500), labels_with=labels_with)


def regression() -> Stage:
    """A logistic regression on the embeddings of the encoder as it was pretrained, and on the texts of the classes."""
    return Stage(
        "regression",
        Objective,
        Schedule(passes=0, least=0, most=0),
        chooses_reading=True,
        regression_head=True,
        reads_class_texts=True,
        labels_with=HEAD,
    )


def rounds_of(selection: Admission, objective: Callable[[], Objective] = Objective, labels_with: str = HEAD) -> Stage:
    """A round: three passes over the selected rows."""
    schedule = Schedule(passes=3, least=120, most=2_000, batch_size=32, learning_rate=1e-4, of_rounds=True)
    return Stage("round", objective, schedule, selection=selection, labels_with=labels_with)


def labels_alone(compared: bool = False) -> Method:
    """The baseline alone.

    Args:
        compared: whether a second training with further losses is compared with the baseline.
    """
    first = baseline()
    start = replace(first, name="start", schedule=replace(first.schedule, least=120))
    return Method((first, start) if compared else (first,), rounds=0)


def in_step(objective: Callable[[], Objective], labels: str = "hard", compared: bool = False) -> Method:
    """A method inside a step, and rounds of pseudo-labels that its students learn from beside it.

    Args:
        objective: makes what it minimizes.
        labels: soft or hard pseudo-labels.
        compared: whether a baseline comes first. Held-out predictions then tell whether the method is better.
    """
    start = Stage("start", objective, Schedule(passes=20, least=120, most=500), labels_with=HEAD)
    before = (baseline(),) if compared else ()
    grow = rounds_of(Admission(target=kind_of_label(labels)), objective)
    return Method((*before, start), round=grow, follows_shares=True)


def class_balanced(labels: str = "hard") -> Method:
    """Trains on the most confident rows of every class, more of them in each round.

    L = mean H(y, p) over labeled rows (x, y), and rows of the corpus with y = argmax q, q = the teacher, calibrated and
    aligned. Each class gets a quota of --keep of the corpus, by the class shares, most confident rows first.

    When: confidence ranks texts well, but no single threshold fits all classes.

    Source: Zou et al. 2018, "Unsupervised Domain Adaptation for Semantic Segmentation via Class-Balanced Self-Training",
    section 4.2 (there, every class gets the same share of its own predictions, and the share starts at .2 and grows by .05)

    Args:
        labels: soft or hard pseudo-labels (paper: hard). Soft ones with --keep 1 use every row, without quotas.
    """
    return Method((baseline(HEAD),), round=rounds_of(Admission(target=kind_of_label(labels))), follows_shares=True)


def self_training(threshold: float = 0.95) -> Method:
    """Trains on every text for which the teacher is confident, round by round.

    L = mean H(y, p) over labeled rows (x, y), and rows of the corpus with max q ≥ τ and y = argmax q, q = the teacher.
    Every round labels the corpus anew. There are no quotas, no alignment and no token edits.

    When: as the baseline of the round loop. It works if confidence is meaningful and all classes are about equally hard.

    Source: Scudder 1965, "Probability of Error of Some Adaptive Pattern-Recognition Machines"; Yarowsky 1995, "Unsupervised
    Word Sense Disambiguation Rivaling Supervised Methods", section 4, step 3.

    Args:
        threshold: τ (papers: by task; .95 is usual in later work). --keep and --prior have no effect.
    """
    selection = Admission(weight=Threshold(threshold), target=Hard(), quotas="none", align=False, noise=False)
    return Method((baseline(HEAD),), round=rounds_of(selection))


def margin_history(labels: str = "hard") -> Method:
    """Trains on texts whose label has not changed since the last round, those with the clearest history first.

    L = mean w · H(y, p) over labeled rows (w = 1), and rows of the corpus with y = argmax q, the same as one round before, and
    w = q[y]; q = the teacher, calibrated and aligned. Each class gets its quota of rows, those with the largest mean margin
    first: M = mean over rounds r of q_r[y] − max over c ≠ y of q_r[c].

    When: over several rounds (--rounds 3), with quotas. Its labels are right a little more often than by confidence (LOG.md).

    Source: ours, based on Pleiss et al. 2020, "Identifying Mislabeled Data using the Area Under the Margin Ranking", section 3,
    and Sosea and Caragea 2023, "MarginMatch: Improving Semi-Supervised Learning with Pseudo-Margins", section 3 (both use
    logits over the steps of one training, with a threshold)

    q is calibrated by a probe, a logistic regression on the embeddings of the student (`sstext.pseudolabels.probe`), or by
    development rows. Head and probe of the baseline label the corpus together.

    Args:
        labels: soft or hard pseudo-labels.
    """
    selection = Admission(target=kind_of_label(labels), weight=Confidence(), history=True)
    return Method((baseline(HEAD_AND_PROBE),), round=rounds_of(selection), follows_shares=True)


def noisy_student(threshold: float = 0.3, labels: str = "soft") -> Method:
    """An un-noised teacher labels the corpus; the next student trains on it with noise.

    L = mean H(y, P) over labeled rows (x, y), and the same number of rows of every class with max q ≥ τ and y = q, q = the
    teacher; P = the student with dropout, on texts with token edits. The most confident rows of a class come first. A class
    with too few rows repeats them.

    When: the corpus is large, classes are balanced or should count alike, and predictions are fairly calibrated.

    Source: Xie et al. 2020, "Self-training with Noisy Student improves ImageNet classification", algorithm 1 and section 3.1.

    Args:
        threshold: τ (paper: .3, of 1,000 classes). --keep sets the number of rows (paper: 130 M of 300 M images).
            --prior has no effect.
        labels: soft or hard pseudo-labels (paper: soft; hard ones do as well on texts that are like the labeled ones).
    """
    selection = Admission(
        weight=Threshold(threshold), target=kind_of_label(labels), quotas="equal", refill=True, align=False, noise=True
    )
    return Method((baseline(HEAD),), round=rounds_of(selection))


def ust(passes: int = 30, subset: int | None = 16_384, sampling: str = "easy", alpha: float = 1.0) -> Method:
    """Measures the teacher's uncertainty by dropout passes: more certain rows are drawn more often, and count more.

    L = mean w · H(y, p) over labeled rows (w = 1), and rows of the corpus with y = argmax q̄, q̄ = mean q_t over T passes with
    dropout, w = α log(1 / Var q_t[y]). Every class gets the same number of rows, drawn with probability ∝ 1 − B (easy) or ∝ B
    (hard), B = H(q̄) − mean H(q_t). A class with too few rows repeats them.

    When: the encoder has dropout (--dropout), there is time for T passes, and confidence alone selects too many wrong labels.

    Source: Mukherjee and Awadallah 2020, "Uncertainty-aware Self-training for Few-shot Text Classification", eqs. 7–8 and
    section 3.

    Args:
        passes: T (paper: 30; its code has the encoder's dropout at .2). y is the class of the mean (paper: the vote of the
            passes; code: the prediction without dropout). The temperature, if any, divides the logits of every pass.
        subset: rows that the passes are made over, drawn anew each round (code: 16,384; none: all). --keep sets how many of
            them are drawn (code: a quarter). --prior has no effect.
        sampling: easy or hard (paper: both; code: easy).
        alpha: α (paper: 1; code: .1). Labeled rows count 1. At α = 1, selected rows count 12 to 23 and outweigh the labels; at
            .1 they do not.
    """
    if sampling not in SAMPLING:
        raise UserError(f"sampling: expected easy or hard, found {sampling!r}")
    if type(passes) is not int or passes < 2:
        raise UserError(f"passes: expected a whole number of at least 2 dropout passes, found {passes!r}")
    selection = Admission(
        weight=InverseVariance(alpha), target=Hard(), order=SAMPLING[sampling], quotas="equal", refill=True,
        align=False, passes=passes, subset=subset, noise=False,
    )  # fmt: skip
    return Method((baseline(DROPOUT_PASSES),), round=rounds_of(selection, labels_with=DROPOUT_PASSES))
