"""Who labels the unlabeled rows."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sstext.objective.part import Part


class Teacher(Part):
    """Student and weak view → the probabilities that the student is taught, (N, C), float32, without gradient."""

    def forward(self, student: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        raise NotImplementedError


class Self(Teacher):
    """The student itself, dropout off, labels the weak view.

    Args:
        dropout: label with dropout noise, where that is the method's point (Π-model).
    """

    def __init__(self, dropout: bool = False) -> None:
        super().__init__()
        self.dropout = dropout

    @torch.no_grad()
    def forward(self, student: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        training = student.training
        student.train(self.dropout)
        try:
            return F.softmax(student(**inputs).logits.float(), -1)
        finally:
            student.train(training)
