"""Weights of 16 bits: what a step does to them, and that a trainer says so."""

import logging

import pytest
import torch
from torch import nn
from transformers import TrainingArguments

from sstext.errors import UserError
from sstext.training import weights
from sstext.training.weights import check_weights


def stepped(dtype: torch.dtype, learning_rate: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights before and after a step of AdamW. The first gradient is 0."""
    weight = (torch.randn(2_000, generator=torch.Generator().manual_seed(0)) * 0.05).to(dtype).requires_grad_()
    before, gradient = weight.detach().clone(), torch.randn(2_000, generator=torch.Generator().manual_seed(1)) * 1e-3
    gradient[0] = 0
    weight.grad = gradient.to(dtype)
    torch.optim.AdamW([weight], lr=learning_rate, weight_decay=0.0).step()
    return before, weight.detach()


def test_what_is_said_of_sixteen_bits_is_so() -> None:
    """Guards the refusal and the warning against a torch in which they no longer hold."""
    changed = {}
    for dtype in (torch.bfloat16, torch.float32):
        before, after = stepped(dtype, 2e-5)
        changed[dtype] = float((before != after).float().mean())
    assert changed[torch.float32] > 0.99
    assert changed[torch.bfloat16] < 0.2, "most steps are lost"
    assert stepped(torch.float16, 2e-5)[1][0].isnan()
    assert not stepped(torch.float32, 2e-5)[1].isnan().any()


def test_trained_weights_of_sixteen_bits_are_refused_or_said(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards a model that transformers has loaded in the type of its file: it trains, badly, and nobody is told."""
    monkeypatch.setattr(weights, "logger", logging.getLogger("weights"))
    arguments = TrainingArguments("out", use_cpu=True)
    check_weights(nn.Linear(2, 2), arguments)
    assert not caplog.records
    check_weights(nn.Linear(2, 2).bfloat16(), arguments)
    assert "bfloat16: steps below about 0.2 % of a weight are lost" in caplog.text
    assert "dtype=torch.float32" in caplog.text
    with pytest.raises(UserError, match=r"float16 weights become NaN in training; load it .* give bf16=True"):
        check_weights(nn.Linear(2, 2).half(), arguments)
    check_weights(nn.Linear(2, 2).half().requires_grad_(False), arguments)
