"""Methods that train for consistent predictions: under noise, over time, or on a changed text."""

from sstext.objective.divergences import kl, squared_error
from sstext.objective.objective import Objective
from sstext.objective.part import in_range
from sstext.objective.ramps import linear_ramp, sigmoid_ramp
from sstext.objective.regularizers import Entropy, RDrop
from sstext.objective.targets import Soft
from sstext.objective.teachers import EMA, History, Self
from sstext.objective.views import Adversarial, Same, View, as_view
from sstext.objective.weights import Known


def pi_model(strength: float = 2.0, ramp: float = 0.25) -> Objective:
    """Two passes with different dropout must agree.

    L_u = mean ‖p̃ − p‖²/C, p̃ and p = the student on the same text under two dropout masks, faded in by
    exp(−5 (1 − t/(ramp · T))²). The gradient flows only through p. In the paper it flows through both passes.

    When: a text cannot be changed in any other way. It is the weakest and cheapest method of its family.

    Source: Laine & Aila 2017, "Temporal Ensembling for Semi-Supervised Learning", algorithm 1.

    Args:
        strength: w_max (paper: 100 × labeled share of all rows; 2 % labeled are meant here).
        ramp: share of the training over which the loss rises (paper: 80 of 300 epochs).
    """
    return Objective(
        teacher=Self(dropout=True), target=Soft(), view=Same(),
        divergence=squared_error, strength=strength, ramp=sigmoid_ramp(ramp),
    )  # fmt: skip


def temporal_ensembling(momentum: float = 0.6, strength: float = 2.0, ramp: float = 0.25) -> Objective:
    """The student must agree with the average of its predictions for a text on earlier visits.

    L_u = mean ‖Z/(1 − α^t) − p‖²/C with Z ← α Z + (1 − α) p after every visit t of a row, faded in by
    exp(−5 (1 − t/(ramp · T))²). A row does not count on its first visit (paper: no row counts in the first epoch). The
    training must therefore visit the unlabeled rows more than once.

    When: the corpus is small enough to be visited many times. The method stores N × C numbers.

    Source: Laine & Aila 2017, "Temporal Ensembling for Semi-Supervised Learning", algorithm 2.

    Args:
        momentum: α (paper: .6).
        strength: w_max (paper: 100 × labeled share of all rows; 2 % labeled are meant here).
        ramp: share of the training over which the loss rises (paper: 80 of 300 epochs).
    """
    return Objective(
        teacher=History(momentum), target=Soft(), weight=Known(), view=Same(),
        divergence=squared_error, strength=strength, ramp=sigmoid_ramp(ramp),
    )  # fmt: skip


def mean_teacher(
    decay: float = 0.999,
    ramp_decay: float = 0.99,
    warm: bool = False,
    view: str | View = "augmented",
    strength: float = 100.0,
    ramp: float = 0.4,
) -> Objective:
    """The student must agree with a teacher whose weights are a moving average of the student's.

    L_u = mean ‖q − Q‖²/C, q = the prediction of the averaged weights θ′ ← m θ′ + (1 − m) θ on the weak view, faded in
    by exp(−5 (1 − t/(ramp · T))²). The saved model is the student.

    When: the training has thousands of steps. After 60 steps, 76 % of the teacher's weights still come from the start
    (unless warm is set).

    Source: Tarvainen & Valpola 2017, "Mean teachers are better role models", section 2 and appendix B.

    Args:
        decay: m after the ramp (paper: .999).
        ramp_decay: m during the ramp (paper: .99).
        warm: start with the arithmetic mean of the student's weights, as the released code does (paper: no).
        view: augmented, same, noise or adversarial (paper: another noise and augmentation of the same input).
        strength: w_max (paper: 100).
        ramp: share of the training over which the loss rises (paper: 40,000 of 100,000 steps).
    """
    return Objective(
        teacher=EMA(decay, ramp_decay, ramp, warm), target=Soft(), view=as_view(view),
        divergence=squared_error, strength=strength, ramp=sigmoid_ramp(ramp),
    )  # fmt: skip


def vat(
    epsilon: float = 0.02, xi: float = 0.001, entropy: float = 1.0, strength: float = 1.0, ramp: float = 0.0
) -> Objective:
    """The prediction must not change under a small worst-case (adversarial) change of the embeddings.

    L_u = mean KL(q ‖ p(e + r)) + c · mean H(p(e)), r = ε ‖e‖ g/‖g‖₂ from one power iteration, per row.

    When: token edits would change the meaning (short texts, single decisive words).

    Source: Miyato et al. 2018, "Virtual Adversarial Training", eqs. 5–13 and algorithm 1; on embeddings: Miyato et al. 2017.

    Args:
        epsilon: ε, length of r relative to the row's embeddings (paper: absolute, on normalized embeddings; measured here).
        xi: ξ of the power iteration, relative too.
        entropy: c of the entropy term (paper: 1).
        strength: α (paper: 1).
        ramp: share of the training over which α rises (paper: none).
    """
    return Objective(
        teacher=Self(), target=Soft(), view=Adversarial(epsilon, xi), divergence=kl, strength=strength,
        ramp=linear_ramp(ramp), regularizers=[Entropy(in_range("entropy", entropy, 0))] if entropy else [],
    )  # fmt: skip


def r_drop(alpha: float = 1.0, unlabeled: bool = True) -> Objective:
    """Two dropout passes of every row must agree, and both must predict its label.

    L = mean [H(y, p₁) + H(y, p₂)] + α · mean ½ (KL(p₁ ‖ p₂) + KL(p₂ ‖ p₁)). The second mean includes unlabeled rows.

    When: there is little unlabeled text, because the method also regularizes the labeled rows.

    Source: Liang et al. 2021, "R-Drop: Regularized Dropout for Neural Networks", eqs. 2–4; on unlabeled rows: ours.

    Args:
        alpha: α (paper: 5 for translation; .1, .5 or 1 for GLUE).
        unlabeled: also apply the second term to unlabeled rows (the paper has none).
    """
    return Objective(view=Same(), regularizers=[RDrop(alpha, unlabeled)])
