"""Regularizers: further losses that any method can add, each with its own strength."""

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
    """A further loss: outputs of a step → tensors. Each tensor is averaged over its rows, and the averages are added.

    A loss that uses means over a batch (a scalar) gathers rows with gradient. Several processes then compute the same
    value as one process.

    Attributes:
        blocks: the blocks of rows that it needs.
        pooled: whether it reads `Outputs.features`.
        class_runs: number of consecutive labeled rows of the same class, if it compares rows of a class. Default: 1,
            any order.

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
        """Whether these blocks are enough to compute it. A batch without unlabeled rows may lack some of its blocks."""
        return set(self.blocks) <= set(blocks)

    def head_only(self, progress: float) -> bool:
        """Whether only its token head is trained at this point, and the encoder is not."""
        return False


class Entropy(Regularizer):
    """Makes predictions on unlabeled rows confident.

    L = mean H(p), p = the student's prediction on the unchanged row.

    Source: Grandvalet & Bengio 2005, eq. 6; with VAT: Miyato et al. 2018, eq. 13.

    >>> Entropy()(Outputs({"weak": torch.zeros(2, 4)}))  # log 4 for each row
    (tensor([1.3863, 1.3863]),)
    """

    blocks = (WEAK,)

    def forward(self, outputs: Outputs) -> tuple[Tensor, ...]:
        return (entropy(outputs.logits[WEAK]),)


class Clustering(Regularizer):
    """Makes each prediction on unlabeled rows confident, and all of them together balanced over the classes.

    L = mean H(p) + balance · KL(p̄ ‖ u), p̄ = mean p over the unlabeled rows of all processes.

    *Relations*: with balance 1 and u uniform, log C minus the mutual information of row and class; with balance 0, `Entropy`.

    Source: Krause et al. 2010 (RIM); Hu et al. 2017 (IMSAT), clustering loss −(μ H(Y) − H(Y|X)) with balance = μ.

    Args:
        strength: its factor in the total loss.
        balance: weight of the balance term relative to the confidence term.
        prior: (C,) class shares u. Default: uniform.

    >>> clustering = Clustering(); clustering.bind(2, 1)
    >>> clustering(Outputs({"weak": torch.tensor([[9., -9.], [-9., 9.]])}))[1]  # confident, and one row per class
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
        # If the mean of a class underflows to 0, its term is 0 and its gradient is finite.
        divergence = (mean * (mean.clamp_min(torch.finfo(mean.dtype).tiny).log() - self.class_shares.log())).sum()
        return entropy(logits), self.balance * divergence


class RDrop(Regularizer):
    """Two dropout passes of every row must agree, and both must predict its label.

    L = mean H(y, p₂) + α · mean ½ (KL(p₁ ‖ p₂) + KL(p₂ ‖ p₁)), with gradient through both passes. H(y, p₁) is the
    objective's labeled loss. For unlabeled rows, the mean of the second term is added.

    Source: Liang et al. 2021, "R-Drop", eqs. 2–4; on unlabeled rows: ours.

    Args:
        alpha: α. It does not scale H(y, p₂), so `strength` stays 1.
        unlabeled: also apply the second term to unlabeled rows.
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
    """Also trains on a changed copy of every labeled row.

    L = mean H(label, P), P = the student's prediction on the copy.

    Source: Berthelot et al. 2022 (AdaMatch), section 3.3: labeled rows have a weak and a strong view; both losses are
    added.
    """

    blocks = (LABELED_STRONG,)

    def forward(self, outputs: Outputs) -> tuple[Tensor, ...]:
        return (label_loss(outputs, LABELED_STRONG),)


class Fairness(Regularizer):
    """Keeps predictions on the selected rows diverse. The loss is negative, as in the paper.

    L = Σ_c a_c log b_c, a = SumNorm(p̃/h̃), b = SumNorm(p̄/h̄), 1/0 → 0. p̃ and h̃ = moving averages of the teacher's
    mean prediction and of the histogram of its predicted classes; p̄ and h̄ = the student's, over the **selected** rows
    (weight above 0) of all processes. If no row is selected, the loss is 0.

    Source: Wang et al. 2023 (FreeMatch), eqs. 9–11; log(b + 1e-12) as in the released code.

    Args:
        of: the part that holds p̃ and h̃, as buffers `mean_probs` and `histogram`, both (C,) (`SelfAdaptive`).
        strength: its factor in the total loss, w_f.
    """

    blocks = (UNLABELED,)

    def __init__(self, of: Part, strength: float = 0.01) -> None:
        super().__init__(strength)
        self.of = of

    def forward(self, outputs: Outputs) -> tuple[Tensor, ...]:
        if outputs.weight is None:
            raise UserError("Fairness needs a teacher that selects rows, and this objective has none")
        probs = outputs.gather(outputs.logits[UNLABELED].float().softmax(-1))  # (N, C)
        selected = outputs.gather((outputs.weight > 0).float())  # (N,)
        predicted = F.one_hot(probs.argmax(-1), probs.shape[-1]).float()
        a = _normalized_ratio(self.of.get_buffer("mean_probs"), self.of.get_buffer("histogram"))
        b = _normalized_ratio(selected @ probs, selected @ predicted)  # sums, because the number of rows cancels
        return ((a * (b + 1e-12).log()).sum() * (selected.sum() > 0),)


class SupervisedContrast(Regularizer):
    """Moves the embeddings of one class close together, and those of different classes apart.

    L = mean_i −1/|P_i| Σ_{p ∈ P_i} log (exp(z_i·z_p/τ) / Σ_{a ≠ i} exp(z_i·z_a/τ)) over the labeled rows and the
    selected unlabeled rows (weight above 0; their class is argmax of the target) of all processes. z = the row's
    mean-pooled last hidden states, normalized to length 1. P_i = the other rows of i's class. If P_i is empty, the
    row's loss is 0.

    Source: Khosla et al. 2020, "Supervised Contrastive Learning", eq. 2 (L_out).

    Args:
        strength: its factor in the total loss.
        temperature: τ (paper: .1).
    """

    blocks = (LABELED,)  # unlabeled rows are added if the method uses them
    pooled = True
    class_runs = 4

    def __init__(self, strength: float = 0.1, temperature: float = 0.1) -> None:
        super().__init__(strength)
        self.temperature = in_range("temperature", temperature, 1e-3)

    def forward(self, outputs: Outputs) -> tuple[Tensor, ...]:
        labels = outputs.labels.argmax(-1) if outputs.labels.dim() == 2 else outputs.labels
        features, kept = outputs.features[LABELED], None
        if outputs.weight is not None and outputs.target is not None and UNLABELED in outputs.features:
            features = torch.cat([features, outputs.features[UNLABELED]])
            labels = torch.cat([labels, outputs.target.argmax(-1)])
            given = outputs.weight.new_ones(len(outputs.labels))
            kept = outputs.gather(torch.cat([given, outputs.weight])) > 0
        z = outputs.gather(F.normalize(features.float(), dim=-1))  # (K, D)
        return (contrast(z, outputs.gather(labels), self.temperature, kept),)


class Reconstruction(Regularizer):
    """Predicts masked tokens of unlabeled rows from the other tokens: masked language modeling.

    L = mean over rows of the mean over a row's masked tokens of −log p(token). Without masked tokens, a row's loss is
    0. The vocabulary head (`sstext.modeling.token_head`) is new. At first its gradient is noise, so it is trained
    alone.

    Source: Devlin et al. 2019 (BERT), section 3.1; on the task's own texts: Gururangan et al. 2020, section 4.

    Args:
        strength: its factor in the total loss.
        head_first: share of the training in which the encoder gets no gradient from this loss.
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
            raise UserError("Reconstruction needs masked tokens, and this step has none")
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
    """H(label, p) of each labeled row in a block, times its row weight, (B,)."""
    loss = F.cross_entropy(outputs.logits[block].float(), outputs.labels, reduction="none")
    return loss if outputs.row_weights is None else loss * outputs.row_weights


def contrast(z: Tensor, labels: Tensor, temperature: float, kept: Tensor | None = None) -> Tensor:
    """Mean supervised contrastive loss (see `SupervisedContrast`) of normalized rows.

    Args:
        z: (K, D) rows.
        labels: (K,) their classes.
        temperature: τ.
        kept: (K,) False for rows that are left out. They are masked, because to select the others would wait for the device.
    """
    z, itself = z.float(), torch.eye(len(z), dtype=torch.bool, device=z.device)
    left_out = itself if kept is None else itself | ~kept
    # Not −∞: for a single row, the softmax would be 0/0.
    similarity = (z @ z.T / temperature).masked_fill(left_out, torch.finfo(z.dtype).min)
    log_share = similarity.log_softmax(-1)  # (K, K)
    positive = (labels[:, None] == labels) & ~left_out
    losses = -(log_share.where(positive, 0).sum(-1) / positive.sum(-1).clamp_min(1))
    return losses.mean() if kept is None else losses.where(kept, 0).sum() / kept.sum()


def _normalized_ratio(above: Tensor, below: Tensor) -> Tensor:
    """above/below, scaled to the sum 1, with 1/0 → 0; (C,) each."""
    ratio = torch.where(below > 0, above / torch.where(below > 0, below, 1), 0)
    return ratio / ratio.sum().clamp_min(1e-12)


#: Name → loss that any method can add. Its first argument is the number in `--regularizers NAME=NUMBER`.
REGULARIZERS: dict[str, Callable[[float], Regularizer]] = {
    "entropy": Entropy,
    "clustering": Clustering,
    "reconstruction": Reconstruction,
    "r-drop": RDrop,
    "supervised-contrast": SupervisedContrast,
    "strong-labels": StrongLabels,
}
