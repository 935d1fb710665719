"""Methods that learn from what the teacher is sure of: they differ in how sure, and in what becomes of the label."""

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
    """Confident predictions on a text become its label, on that same text.

    L_u = mean 1[max q ≥ τ] · H(argmax q, p), faded in by min(1, t / (ramp · T)).

    When: as the baseline that others are measured by; with few labels it harms more often than it helps.

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


def uda(
    threshold: float = 0.8,
    temperature: float = 0.4,
    annealing: str = "linear",
    view: str | View = "augmented",
    strength: float = 1.0,
    ramp: float = 0.0,
) -> Objective:
    """Sharpened predictions teach a changed copy of the text, while the labels are let out little by little.

    L_u = mean 1[max q ≥ τ] · KL(q^(1/T)/Σ q^(1/T) ‖ Q); a labeled row counts while the probability of its class is below
    η = a (1 − 1/C) + 1/C, a = t/T (linear), e^{5(t/T − 1)} (exp) or 1 − e^{−5t/T} (log).

    With rounds that start from the previous student, every round lets the labels out anew.

    When: there are good paraphrases (--views), and so few labels that the student learns them by heart.

    Source: Xie et al. 2020, "Unsupervised Data Augmentation for Consistency Training", eqs. 1–2 (sections 3.2, A).

    Args:
        threshold: τ (paper: .8).
        temperature: T (paper: .4).
        annealing: linear, exp, log (paper: by task, exp where labels are few) or none.
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
    """Confident predictions on a text become the label of a changed copy of it.

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
    """FixMatch with a lower threshold for the classes that are harder to learn.

    L_u = mean 1[max q ≥ T(q̂)] · H(q̂, Q), q̂ = argmax q, T(c) = M(β(c)) τ, M(x) = x/(2 − x), β(c) = σ(c)/max{max σ, N − Σ σ},
    σ(c) = corpus rows whose last prediction above τ was c. T starts at 0: at first, every row counts.

    When: some classes are learned later than others, and the training visits the corpus several times: at first every row
    counts.

    Source: Zhang et al. 2021, "FlexMatch: Boosting Semi-Supervised Learning with Curriculum Pseudo Labeling", eqs. 5–11.

    Args:
        threshold: τ (paper: .95).
        warmup: the term N − Σ σ, rows that were never predicted with confidence (paper: yes).
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
    """Rows count while the loss of their own label is below a bound that falls as the training goes on.

    L_u = mean 1[H(q̃, q) ≤ ρ] · H(q̃, Q), ρ = max(c · γ^{−k} · ρ₀, floor), ρ₀ = the mean labeled loss after the warm-up, k =
    reductions so far; q̃ = q sharpened by T, and hard once ρ has reached its floor.

    When: confidence is badly calibrated, so that no fixed threshold fits.

    Source: Xu et al. 2021, "Dash: Semi-Supervised Learning with Dynamic Thresholding", eqs. 5–7 and algorithm 1.

    Args:
        c: factor of ρ₀ (paper: 1.0001).
        gamma: γ (paper: 1.27).
        floor: the least ρ, at which labels become hard (paper: .05).
        warmup: share of the training on labeled rows alone, before ρ₀ is taken.
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
    """The threshold follows the confidence on labeled rows, and the labels follow their class shares.

    L_u = mean 1[max q′ ≥ c] · H(q′, Q) · ½ (1 − cos(min(π, 2πt/T))), q′ = Norm(q · E[p_labeled]/E[q]), c = factor × the mean
    over labeled rows of max p; labeled rows enter as plain and as changed copy. Random logit interpolation is left out: it
    is for batch normalization.

    When: class shares of the labels are those of the corpus, or the corpus is of another domain.

    Source: Berthelot et al. 2022, "AdaMatch: A Unified Approach to Semi-Supervised Learning and Domain Adaptation", eqs. 1–7.

    Args:
        factor: of the labeled confidence, τ (paper: .9).
        momentum: of both expectations (paper: of the batch alone, 0; its code: running means; batches here are a few rows).
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
    """Every prediction counts, the less the further its confidence lies below the usual one.

    L_u = mean w · H(argmax q, Q), w the truncated Gaussian of max q′, q′ = Norm(q · u / E[q]); the label is that of q.

    When: the training has thousands of steps (or a ramp): at first every row counts, whatever the untrained head says of it.

    Source: Chen et al. 2023, "SoftMatch", eqs. 5–9.

    Args:
        momentum: m of all moving averages (paper: .999).
        n_sigma: 2 gives the weights of the released code, which divides σ² by 4.
        prior: (C,) class shares u (paper: uniform; give the true ones where classes are imbalanced).
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
    """The threshold rises with the usual confidence, class by class, and predictions are kept from collapsing.

    L_u = mean 1[max q ≥ T(q̂)] · H(q̂, Q), T(c) = τ p̃(c)/max p̃ with moving averages τ of the mean confidence and p̃ of the mean
    prediction; + w_f · Σ_c a(c) log b(c), a and b the mean prediction over its histogram, of all rows and of the kept ones.

    When: the training has thousands of steps (or a ramp): the threshold starts at 1/C, where every row counts.

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
