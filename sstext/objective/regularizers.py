"""What else is asked of the student: losses that any method can add, each with a strength of its own."""

from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from sstext.data.edits import IGNORED
from sstext.errors import UserError
from sstext.objective.outputs import (
    LABELED,
    LABELED_AGAIN,
    LABELED_STRONG,
    MASKED,
    UNLABELED,
    UNLABELED_AGAIN,
    WEAK,
    Outputs,
)
from sstext.objective.part import Part, class_shares, in_range, yes_or_no


class Regularizer(Part):
    """A further loss: outputs of a step → tensors, each of which is averaged over its rows; the averages are added.

    A loss over batch means (a scalar) gathers with gradient, so that several processes compute what one would.

    Attributes:
        blocks: rows that must pass through the student for it.
        pooled: whether it reads `Outputs.features`.
        class_runs: labeled rows of a class that should follow each other, since it compares them; 1: any order.

    Args:
        strength: its factor in the total loss.
    """

    blocks: tuple[str, ...] = ()
    pooled = False
    class_runs = 1

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__()
        self.strength = in_range("strength", strength, 0)

    def forward(self, outputs: Outputs) -> tuple[Tensor, ...]:
        raise NotImplementedError

    def serves(self, blocks: Collection[str]) -> bool:
        """Whether it has something to say of these blocks: a batch without unlabeled rows lacks some of its own."""
        return set(self.blocks) <= set(blocks)

    def head_only(self, progress: float) -> bool:
        """Whether a token head that it brings learns alone for now, without moving the encoder."""
        return False


class Entropy(Regularizer):
    """Unlabeled rows are predicted with confidence.

    L = mean H(p), p = the student on the plain row.

    Source: Grandvalet & Bengio 2005, eq. 6; with VAT: Miyato et al. 2018, eq. 13.

    >>> Entropy()(Outputs({"weak": torch.zeros(2, 4)}))  # log 4 for each row
    (tensor([1.3863, 1.3863]),)
    """

    blocks = (WEAK,)

    def forward(self, outputs: Outputs) -> tuple[Tensor, ...]:
        return (entropy(outputs.logits[WEAK]),)


class Clustering(Regularizer):
    """Unlabeled rows fall into clusters: each is predicted with confidence, all together in balance.

    L = mean H(p) + balance · KL(p̄ ‖ u), p̄ = mean p over the unlabeled rows of all processes.

    *Relations*: with balance 1 and u uniform, log C minus the mutual information of row and class; with balance 0, `Entropy`.

    Source: Krause et al. 2010 (RIM); Hu et al. 2017 (IMSAT), whose clustering loss −(μ H(Y) − H(Y|X)) it is, balance = μ.

    Args:
        strength: its factor in the total loss.
        balance: how much the balance counts beside the confidence.
        prior: (C,) class shares u; None is uniform.

    >>> clustering = Clustering(); clustering.bind(2, 1)
    >>> clustering(Outputs({"weak": torch.tensor([[9., -9.], [-9., 9.]])}))[1]  # confident, and one row a class
    tensor(0.)
    """

    blocks = (WEAK,)
    class_shares: Tensor

    def __init__(self, strength: float = 0.1, balance: float = 1.0, prior: Sequence[float] | None = None) -> None:
        super().__init__(strength)
        self.balance = in_range("balance", balance, 0)
        self.prior = None if prior is None else class_shares("prior", prior)

    def bind(self, num_classes: int, num_rows: int) -> None:
        shares = torch.tensor(self.prior if self.prior is not None else [1 / num_classes] * num_classes)
        if len(shares) != num_classes:
            raise UserError(f"Clustering: expected a prior of {num_classes} class shares, found {len(shares)}")
        self.add_state("class_shares", shares / shares.sum())

    def forward(self, outputs: Outputs) -> tuple[Tensor, ...]:
        logits = outputs.logits[WEAK]
        mean = outputs.gather(logits.float().softmax(-1)).mean(0)  # (C,)
        # Where a class has underflowed to 0, its term is 0 and its gradient finite.
        divergence = (mean * (mean.clamp_min(torch.finfo(mean.dtype).tiny).log() - self.class_shares.log())).sum()
        return entropy(logits), self.balance * divergence


class RDrop(Regularizer):
    """Two dropout passes of every row predict the same, and both predict its label.

    L = mean H(y, p₂) + α · mean ½ (KL(p₁ ‖ p₂) + KL(p₂ ‖ p₁)), with gradient through both passes; H(y, p₁) is the objective's
    own loss of the labeled rows. Unlabeled rows add the second term's mean over themselves.

    Source: Liang et al. 2021, "R-Drop", eqs. 2–4; on unlabeled rows: ours.

    Args:
        alpha: α. It is no factor of H(y, p₂), so that `strength` stays 1.
        unlabeled: also ask it of unlabeled rows.
    """

    def __init__(self, alpha: float = 1.0, unlabeled: bool = True) -> None:
        super().__init__()
        self.alpha, self.unlabeled = in_range("alpha", alpha, 0), yes_or_no("unlabeled", unlabeled)
        self.blocks = (LABELED, LABELED_AGAIN, *((UNLABELED, UNLABELED_AGAIN) if unlabeled else ()))

    def serves(self, blocks: Collection[str]) -> bool:
        return LABELED_AGAIN in blocks  # in a batch without unlabeled rows, the labeled ones still count

    def forward(self, outputs: Outputs) -> tuple[Tensor, ...]:
        logits = outputs.logits
        labeled = self.alpha * symmetric_kl(logits[LABELED], logits[LABELED_AGAIN])  # (B,)
        losses = [label_loss(outputs, LABELED_AGAIN) + labeled]
        if UNLABELED_AGAIN in logits:
            losses.append(self.alpha * symmetric_kl(logits[UNLABELED], logits[UNLABELED_AGAIN]))  # (N,)
        return tuple(losses)


class StrongLabels(Regularizer):
    """Labeled rows are predicted right on a changed copy, too.

    L = mean H(label, P), P = the student on the copy.

    Source: Berthelot et al. 2022 (AdaMatch), section 3.3: labeled rows enter as weak and strong view, and both losses add.
    """

    blocks = (LABELED_STRONG,)

    def forward(self, outputs: Outputs) -> tuple[Tensor, ...]:
        return (label_loss(outputs, LABELED_STRONG),)


class Fairness(Regularizer):
    """Predictions of the selected rows are kept diverse; negative by design, as the paper writes it.

    L = Σ_c a_c log b_c, a = SumNorm(p̃/h̃), b = SumNorm(p̄/h̄), 1/0 → 0: p̃ and h̃ = moving averages of the teacher's mean
    prediction and of the histogram of its classes, p̄ and h̄ = the same of the student, over the **selected** rows (weight
    above 0) of all processes. Without any, 0.

    Source: Wang et al. 2023 (FreeMatch), eqs. 9–11; log(b + 1e-12) as in the released code.

    Args:
        of: the part that keeps p̃ and h̃, as buffers `mean_probs` and `histogram`, both (C,) (`SelfAdaptive`).
        strength: its factor in the total loss, w_f.
    """

    blocks = (UNLABELED,)

    def __init__(self, of: Part, strength: float = 0.01) -> None:
        super().__init__(strength)
        self.of = of

    def forward(self, outputs: Outputs) -> tuple[Tensor, ...]:
        if outputs.weight is None:
            raise UserError("Fairness wants a teacher that selects rows, and this objective has none")
        probs = outputs.gather(outputs.logits[UNLABELED].float().softmax(-1))  # (N, C)
        selected = outputs.gather((outputs.weight > 0).float())  # (N,)
        said = F.one_hot(probs.argmax(-1), probs.shape[-1]).float()
        a = _normalized_ratio(self.of.get_buffer("mean_probs"), self.of.get_buffer("histogram"))
        b = _normalized_ratio(selected @ probs, selected @ said)  # sums: the number of rows would cancel
        return ((a * (b + 1e-12).log()).sum() * (selected.sum() > 0),)


class SupervisedContrast(Regularizer):
    """Rows of one class lie close together, rows of different classes apart.

    L = mean_i −1/|P_i| Σ_{p ∈ P_i} log (exp(z_i·z_p/τ) / Σ_{a ≠ i} exp(z_i·z_a/τ)) over the labeled rows and the kept
    unlabeled ones (weight above 0; their class is argmax of the target) of all processes; z = the row's mean-pooled last
    hidden states, at length 1; P_i = the other rows of i's class; a row without any counts 0.

    Source: Khosla et al. 2020, "Supervised Contrastive Learning", eq. 2 (L_out).

    Args:
        strength: its factor in the total loss.
        temperature: τ (paper: .1).
    """

    blocks = (LABELED,)  # unlabeled rows take part where the method looks at them
    pooled = True
    class_runs = 4

    def __init__(self, strength: float = 0.1, temperature: float = 0.1) -> None:
        super().__init__(strength)
        self.temperature = in_range("temperature", temperature, 1e-3)

    def forward(self, outputs: Outputs) -> tuple[Tensor, ...]:
        labels = outputs.labels.argmax(-1) if outputs.labels.dim() == 2 else outputs.labels
        features, kept = outputs.features[LABELED], torch.ones_like(labels, dtype=torch.float32)
        if outputs.weight is not None and outputs.target is not None and UNLABELED in outputs.features:
            features = torch.cat([features, outputs.features[UNLABELED]])
            labels = torch.cat([labels, outputs.target.argmax(-1)])
            kept = torch.cat([kept, (outputs.weight > 0).float()])
        everywhere = outputs.gather(kept) > 0  # processes have equally many rows, but not equally many kept ones
        z = outputs.gather(F.normalize(features.float(), dim=-1))[everywhere]  # (K, D)
        return (contrast(z, outputs.gather(labels)[everywhere], self.temperature),)


class Reconstruction(Regularizer):
    """Masked tokens of unlabeled rows are predicted from what is left: masked language modeling.

    L = mean over rows of the mean over a row's masked tokens of −log p(token); a row without any counts 0. The vocabulary
    head is new (`sstext.modeling.token_head`), and noise to the encoder until it has learned: at first it learns alone.

    Source: Devlin et al. 2019 (BERT), section 3.1; on the task's own texts: Gururangan et al. 2020, section 4.

    Args:
        strength: its factor in the total loss.
        head_first: share of the training in which the encoder gets no gradient from it.
    """

    blocks = (MASKED,)

    def __init__(self, strength: float = 0.1, head_first: float = 0.3) -> None:
        super().__init__(strength)
        self.head_first = in_range("head_first", head_first, 0, 1)

    def head_only(self, progress: float) -> bool:
        return progress < self.head_first

    def forward(self, outputs: Outputs) -> tuple[Tensor, ...]:
        tokens, targets = outputs.tokens, outputs.token_targets
        if tokens is None or targets is None:
            raise UserError("Reconstruction wants masked tokens, and this step has none")
        masked = targets != IGNORED  # (N, T)
        per_token = F.cross_entropy(tokens.float(), targets[masked], reduction="none")  # (M,)
        row = masked.nonzero()[:, 0]
        sums = per_token.new_zeros(len(targets)).index_add(0, row, per_token)  # (N,)
        return (sums / masked.sum(1).clamp_min(1),)


def entropy(logits: Tensor) -> Tensor:
    """H(p) = −Σ_c p_c log p_c of p = softmax(logits), (N, C) → (N,), in float32."""
    log_p = logits.float().log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


def symmetric_kl(logits: Tensor, others: Tensor) -> Tensor:
    """½ (KL(p ‖ q) + KL(q ‖ p)) = ½ Σ_c (p_c − q_c)(log p_c − log q_c), (N, C) each → (N,), in float32."""
    log_p, log_q = logits.float().log_softmax(-1), others.float().log_softmax(-1)
    return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1) / 2


def label_loss(outputs: Outputs, block: str) -> Tensor:
    """H(label, p) of a block of labeled rows, each times its row weight, (B,)."""
    loss = F.cross_entropy(outputs.logits[block].float(), outputs.labels, reduction="none")
    return loss if outputs.row_weights is None else loss * outputs.row_weights


def contrast(z: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Mean supervised contrastive loss (see `SupervisedContrast`) of K rows of length 1 (K, D) and their classes (K,)."""
    z, itself = z.float(), torch.eye(len(z), dtype=torch.bool, device=z.device)
    # Not −∞: the softmax of a row that is alone would be 0/0.
    similarity = (z @ z.T / temperature).masked_fill(itself, torch.finfo(z.dtype).min)
    log_share = similarity.log_softmax(-1)  # (K, K)
    positive = (labels[:, None] == labels) & ~itself
    return -(log_share.where(positive, 0).sum(-1) / positive.sum(-1).clamp_min(1)).mean()


def _normalized_ratio(above: Tensor, below: Tensor) -> Tensor:
    """above/below, scaled to the sum 1, with 1/0 → 0; (C,) each."""
    ratio = torch.where(below > 0, above / torch.where(below > 0, below, 1), 0)
    return ratio / ratio.sum().clamp_min(1e-12)


#: Name → loss that any method can add; its first argument is the number that people give (`--regularizers NAME=NUMBER`).
REGULARIZERS: dict[str, Callable[[float], Regularizer]] = {
    "entropy": Entropy,
    "clustering": Clustering,
    "reconstruction": Reconstruction,
    "r-drop": RDrop,
    "supervised-contrast": SupervisedContrast,
    "strong-labels": StrongLabels,
}
