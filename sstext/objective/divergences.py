"""Divergences of the student's prediction from its target: logits (N, C), target (N, C) → (N,), in float32."""

import torch
from torch import Tensor
from torch.nn import functional as F


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """H(q, p) = −Σ_c q_c log p_c with p = softmax(logits).

    >>> cross_entropy(torch.zeros(1, 2), torch.tensor([[1., 0.]]))  # log 2
    tensor([0.6931])
    """
    _same_shape(logits, target)
    return -(target.float() * F.log_softmax(logits.float(), -1)).sum(-1)


def kl(logits: Tensor, target: Tensor) -> Tensor:
    """KL(q ‖ p) = Σ_c q_c (log q_c − log p_c), with 0 log 0 = 0.

    *Relations*: cross_entropy minus the entropy of q. If q is hard, both are equal.

    >>> kl(torch.zeros(1, 2), torch.tensor([[.5, .5]]))
    tensor([0.])
    """
    target = target.float()
    return cross_entropy(logits, target) + torch.xlogy(target, target).sum(-1)


def squared_error(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over classes of (p_c − q_c)² (Laine & Aila 2017, algorithm 1: divided by C).

    >>> squared_error(torch.zeros(1, 2), torch.tensor([[1., 0.]]))
    tensor([0.2500])
    """
    _same_shape(logits, target)
    return (F.softmax(logits.float(), -1) - target.float()).square().mean(-1)


def _same_shape(logits: Tensor, target: Tensor) -> None:
    if logits.shape != target.shape:  # broadcasting would hide a transposed or hard-label target
        raise ValueError(f"expected a target of the logits' shape {tuple(logits.shape)}, found {tuple(target.shape)}")
