"""Methods that learn from confident predictions. They differ in the threshold and in the use of the label."""

from collections.abc import Sequence

from sstext.objective.adaptive import Curriculum, LossThreshold, Relative, SelfAdaptive, SoftThenHard
from sstext.objective.divergences import cross_entropy, kl
from sstext.objective.objective import Objective
from sstext.objective.part import in_range
from sstext.objective.ramps import cosine_ramp, linear_ramp
from sstext.objective.regularizers import Fairness, StrongLabels
from sstext.objective.targets import Align, AlignToLabeled, Hard, Sharpen
from sstext.objective.teachers import Self
from sstext.objective.views import Same, View, as_view
from sstext.objective.weights import Gaussian, Threshold, TrainingSignalAnnealing


def pseudo_label(threshold: float = 0.95, strength: float = 1.0, ramp: float = 0.4) -> Objective:
    """A confident prediction for a text becomes the label of the same text.

    L_u = mean 1[max q ≥ τ] · H(argmax q, p), faded in by min(1, t / (ramp · T)).

    When: a simple method is needed for comparison. With few labels it does harm more often than it helps.

    Source: Lee 2013, "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method", eqs. 15–16.

    Args:
        threshold: τ (paper: none; .95 is the usual choice in later work).
        strength: λ after the ramp (paper: 3).
        ramp: share of the training over which λ rises.
    """
    return Objective(
        teacher=Self(), target=Hard(), weight=Threshold(threshold), view=Same(),
        divergence=cross_entropy, strength=strength, ramp=linear_ramp(ramp),
    )  # fmt: skip


def uda(
    threshold: float = 0.8,
    temperature: float = 0.4,
    annealing: str = "linear",
    view: str | View = "augmented",
    strength: float = 1.0,
    ramp: float = 0.0,
) -> Objective:
    """Sharpened predictions become the target of a changed copy of the text.
    Labeled rows that are already confident are left out at first (training signal annealing).

    L_u = mean 1[max q ≥ τ] · KL(q^(1/T)/Σ q^(1/T) ‖ Q). A labeled row counts only while the probability of its class is
    below η = a (1 − 1/C) + 1/C, a = t/T (linear), e^{5(t/T − 1)} (exp) or 1 − e^{−5t/T} (log).

    If rounds start from the previous student, training signal annealing starts again in every round.

    When: there are good paraphrases (--views), and so few labels that the student overfits them.

    Source: Xie et al. 2020, "Unsupervised Data Augmentation for Consistency Training", eqs. 1–2 (sections 3.2, A).

    Args:
        threshold: τ (paper: .8).
        temperature: T (paper: .4).
        annealing: linear, exp, log or none (paper: by task, exp for few labels).
        view: augmented, same, noise or adversarial (paper: back-translation; give paraphrases with --views).
        strength: λ (paper: 1).
        ramp: share of the training over which λ rises (paper: none).
    """
    return Objective(
        teacher=Self(), target=Sharpen(temperature), weight=Threshold(threshold), view=as_view(view), divergence=kl,
        strength=strength, ramp=linear_ramp(ramp), label_weight=TrainingSignalAnnealing(annealing),
    )  # fmt: skip


def fixmatch(
    threshold: float = 0.95, view: str | View = "augmented", strength: float = 1.0, ramp: float = 0.0
) -> Objective:
    """A confident prediction for a text becomes the label of a changed copy of the text.

    L_u = mean 1[max q ≥ τ] · H(argmax q, Q), Q = the student on the strong view.

    When: classes are about equally hard, and confident predictions are mostly right.

    Source: Sohn et al. 2020, "FixMatch", eqs. 3–4.

    Args:
        threshold: τ (paper: .95).
        view: augmented, same, noise or adversarial (paper: strong augmentation).
        strength: λ_u (paper: 1).
        ramp: share of the training over which λ rises (paper: none).
    """
    return Objective(
        teacher=Self(), target=Hard(), weight=Threshold(threshold), view=as_view(view),
        divergence=cross_entropy, strength=strength, ramp=linear_ramp(ramp),
    )  # fmt: skip


def flexmatch(
    threshold: float = 0.95,
    warmup: bool = True,
    view: str | View = "augmented",
    strength: float = 1.0,
    ramp: float = 0.0,
) -> Objective:
    """FixMatch with a lower threshold for classes that are harder to learn.

    L_u = mean 1[max q ≥ T(q̂)] · H(q̂, Q), q̂ = argmax q, T(c) = M(β(c)) τ, M(x) = x/(2 − x), β(c) = σ(c)/max{max σ, N − Σ σ},
    σ(c) = number of corpus rows whose last prediction above τ was c. T starts at 0, so every row counts at first.

    When: some classes are learned later than others, and the training visits the corpus several times. At first every
    row counts.

    Source: Zhang et al. 2021, "FlexMatch: Boosting Semi-Supervised Learning with Curriculum Pseudo Labeling", eqs. 5–11.

    Args:
        threshold: τ (paper: .95).
        warmup: use the term N − Σ σ, the number of rows without any confident prediction so far (paper: yes).
        view: augmented, same, noise or adversarial (paper: strong augmentation).
        strength: λ (paper: 1).
        ramp: share of the training over which λ rises (paper: none).
    """
    return Objective(
        teacher=Self(), target=Hard(), weight=Curriculum(threshold, warmup), view=as_view(view),
        divergence=cross_entropy, strength=strength, ramp=linear_ramp(ramp),
    )  # fmt: skip


def dash(
    c: float = 1.0001,
    gamma: float = 1.27,
    floor: float = 0.05,
    warmup: float = 0.1,
    interval: float = 0.05,
    temperature: float = 0.5,
    view: str | View = "augmented",
    strength: float = 1.0,
) -> Objective:
    """A row counts if the loss on its pseudo-label is below a threshold that falls during training.

    L_u = mean 1[H(q̃, q) ≤ ρ] · H(q̃, Q), ρ = max(c · γ^{−k} · ρ₀, floor), ρ₀ = mean labeled loss after the warm-up,
    k = number of reductions so far, q̃ = q sharpened by T. When ρ reaches its floor, q̃ becomes hard.

    When: confidence is badly calibrated, so no fixed threshold fits.

    Source: Xu et al. 2021, "Dash: Semi-Supervised Learning with Dynamic Thresholding", eqs. 5–7 and algorithm 1.

    Args:
        c: factor of ρ₀ (paper: 1.0001).
        gamma: γ (paper: 1.27).
        floor: the smallest ρ, at which labels become hard (paper: .05).
        warmup: share of the training on labeled rows only, before ρ₀ is measured.
        interval: share of the training between two reductions of ρ (paper: by epochs).
        temperature: T (paper: .5).
        view: augmented, same, noise or adversarial (paper: strong augmentation).
        strength: λ (paper: 1).
    """
    weight = LossThreshold(c=c, gamma=gamma, floor=floor, warmup=warmup, interval=interval, temperature=temperature)
    return Objective(
        teacher=Self(), target=SoftThenHard(weight), weight=weight, view=as_view(view),
        divergence=cross_entropy, strength=strength,
    )  # fmt: skip


def adamatch(
    factor: float = 0.9,
    momentum: float = 0.999,
    view: str | View = "augmented",
    strength: float = 1.0,
    ramp: float = 0.5,
) -> Objective:
    """The threshold follows the confidence on labeled rows.
    Pseudo-labels are aligned to the class shares of the labeled rows.

    L_u = mean 1[max q′ ≥ c] · H(q′, Q) · ½ (1 − cos(min(π, 2πt/T))), q′ = Norm(q · E[p_labeled]/E[q]), c = factor × the
    mean over labeled rows of max p. Each labeled row is used unchanged and as a changed copy. Random logit
    interpolation is left out, because it is meant for batch normalization.

    When: the labels have the same class shares as the corpus, or the corpus comes from another domain.

    Source: Berthelot et al. 2022, "AdaMatch: A Unified Approach to Semi-Supervised Learning and Domain Adaptation", eqs. 1–7.

    Args:
        factor: τ, the threshold as a fraction of the labeled confidence (paper: .9).
        momentum: momentum of both expectations (paper: 0, only the current batch; released code: running means). It is
            high here because batches have few rows.
        view: augmented, same, noise or adversarial (paper: strong augmentation).
        strength: λ after the ramp (paper: 1).
        ramp: share of the training over which λ rises as a cosine (paper: .5).
    """
    aligned = AlignToLabeled(momentum)
    return Objective(
        teacher=Self(), target=aligned, weight=Relative(factor, of=aligned), view=as_view(view), divergence=cross_entropy,
        strength=strength, ramp=cosine_ramp(ramp), regularizers=[StrongLabels()],
    )  # fmt: skip


def softmatch(
    momentum: float = 0.999,
    n_sigma: float = 1.0,
    prior: Sequence[float] | None = None,
    view: str | View = "augmented",
    strength: float = 1.0,
    ramp: float = 0.0,
) -> Objective:
    """Every prediction counts, but less if its confidence is below the mean.

    L_u = mean w · H(argmax q, Q), w = the truncated Gaussian of max q′, q′ = Norm(q · u / E[q]). The label comes from
    q.

    When: the training has thousands of steps (or a ramp). At first every row counts, although the head is not trained
    yet.

    Source: Chen et al. 2023, "SoftMatch", eqs. 5–9.

    Args:
        momentum: m of all moving averages (paper: .999).
        n_sigma: 2 gives the weights of the released code, which divides σ² by 4.
        prior: (C,) class shares u (paper: uniform). Give the true shares if the classes are imbalanced.
        view: augmented, same, noise or adversarial (paper: strong augmentation).
        strength: λ (paper: 1).
        ramp: share of the training over which λ rises (paper: none).
    """
    return Objective(
        teacher=Self(), target=Hard(), weight=Gaussian(momentum, n_sigma, of=Align(prior, momentum)), view=as_view(view),
        divergence=cross_entropy, strength=strength, ramp=linear_ramp(ramp),
    )  # fmt: skip


def freematch(
    momentum: float = 0.999,
    fairness: float = 0.01,
    view: str | View = "augmented",
    strength: float = 1.0,
    ramp: float = 0.0,
) -> Objective:
    """The threshold of each class rises with the mean confidence. A fairness loss prevents collapse.

    L_u = mean 1[max q ≥ T(q̂)] · H(q̂, Q), T(c) = τ p̃(c)/max p̃ with moving averages τ of the mean confidence and p̃
    of the mean prediction. Added is w_f · Σ_c a(c) log b(c), a and b = the mean prediction ÷ its histogram, for all
    rows (a) and for the selected rows (b).

    When: the training has thousands of steps (or a ramp). The threshold starts at 1/C, so every row counts at first.

    Source: Wang et al. 2023, "FreeMatch: Self-adaptive Thresholding for Semi-supervised Learning", eqs. 5–12.

    Args:
        momentum: λ of the moving averages (paper: .999).
        fairness: w_f (paper: .01 to .05 by data set; on text .001).
        view: augmented, same, noise or adversarial (paper: strong augmentation).
        strength: w_u (paper: 1).
        ramp: share of the training over which w_u rises (paper: none).
    """
    weight, w_f = SelfAdaptive(momentum), in_range("fairness", fairness, 0)
    return Objective(
        teacher=Self(), target=Hard(), weight=weight, view=as_view(view), divergence=cross_entropy,
        strength=strength, ramp=linear_ramp(ramp), regularizers=[Fairness(weight, w_f)] if w_f else [],
    )  # fmt: skip
