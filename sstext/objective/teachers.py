"""Teachers: they label the unlabeled rows."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sstext.modeling.length_groups import logits_in_length_groups
from sstext.objective.part import Part, Signals, dropout_off, in_range, last_of_each, yes_or_no


class Teacher(Part):
    """Student and unlabeled rows → the teacher's probabilities (N, C), float32, without gradient.

    Attributes:
        has_weights: whether the teacher has weights of its own, beside those of the student.
    """

    has_weights = False

    def weights(self) -> dict[str, Tensor]:
        """The teacher's own weights, by the names of the student's. Empty before a training, and without weights."""
        return {}

    def forward(self, student: nn.Module, unlabeled: Mapping[str, Any]) -> Tensor:
        raise NotImplementedError


class Self(Teacher):
    """The student itself labels the weak view, with dropout off.

    Args:
        dropout: label with dropout on, as the Π-model does.
    """

    def __init__(self, dropout: bool = False) -> None:
        super().__init__()
        self.dropout = dropout

    @torch.no_grad()
    def forward(self, student: nn.Module, unlabeled: Mapping[str, Any]) -> Tensor:
        with dropout_off(student, not self.dropout):
            return F.softmax(logits_in_length_groups(student, unlabeled["weak"], student).float(), -1)


class EMA(Teacher):
    """A moving average of the student's weights labels the weak view, with dropout off.

    θ′ ← m θ′ + (1 − m) θ after every optimizer step. θ′ starts at the student's initial weights. Only trained weights
    are averaged, in float32. The other weights are the student's.

    *Relations*: with decay 0 it is `Self`.

    Source: Tarvainen & Valpola 2017 (Mean Teacher), section 2 and appendix B (.99 while the loss is ramped up, .999 after).

    Args:
        decay: m after the ramp.
        ramp_decay: m during the ramp. The student improves fast early on, so the teacher should forget fast.
        ramp: length of the ramp, as a share of the training.
        warm: start with the arithmetic mean of the student's weights, m = min(m, 1 − 1/(s + 1)) after s steps. The
            released code does this, the paper does not.
    """

    has_weights = True
    steps: Tensor

    def __init__(self, decay: float = 0.999, ramp_decay: float = 0.99, ramp: float = 0.4, warm: bool = False) -> None:
        super().__init__()
        self.decay, self.ramp_decay = in_range("decay", decay, 0, 1), in_range("ramp_decay", ramp_decay, 0, 1)
        self.ramp, self.warm = in_range("ramp", ramp, 0, 1), yes_or_no("warm", warm)
        self._names: dict[str, str] = {}

    def weights(self) -> dict[str, Tensor]:
        return {name: self.get_buffer(buffer) for buffer, name in self._names.items()}

    def bind_student(self, student: nn.Module) -> None:
        self.add_state("steps", torch.tensor(0.0))
        self._names = {f"weight {name}".replace(".", "/"): name for name, _ in _trained(student)}
        for (_, parameter), buffer in zip(_trained(student), self._names, strict=True):
            self.add_state(buffer, parameter.detach().clone())

    def after_step(self, student: nn.Module, progress: float) -> None:
        momentum = self.ramp_decay if progress < self.ramp else self.decay
        if self.warm:
            momentum = min(momentum, 1 - 1 / (float(self.steps) + 1))
        self.steps += 1
        weights = dict(_trained(student))
        averaged = [self.get_buffer(buffer) for buffer in self._names]
        current = [weights[name].detach().float() for name in self._names.values()]
        torch._foreach_lerp_(averaged, current, 1 - momentum)

    @torch.no_grad()
    def forward(self, student: nn.Module, unlabeled: Mapping[str, Any]) -> Tensor:
        weights = dict(_trained(student))
        averaged = {name: self.get_buffer(buffer).to(weights[name].dtype) for buffer, name in self._names.items()}

        def teacher(**inputs: Any) -> Any:
            return torch.func.functional_call(student, averaged, kwargs=inputs)

        with dropout_off(student):
            return F.softmax(logits_in_length_groups(teacher, unlabeled["weak"], student).float(), -1)


class History(Teacher):
    """The moving average of the student's predictions for a row on earlier visits.

    Z ← α Z + (1 − α) z after every visit. The label is Z/(1 − α^t) after t visits, and zeros before the first visit.
    State: N × C numbers in float32.

    Source: Laine & Aila 2017 (temporal ensembling), algorithm 2.

    Args:
        momentum: α.

    >>> history = History(momentum=.5); history.bind(2, 3)
    >>> history.observe(Signals(torch.zeros(1, 2), torch.tensor([[.75, .25]]).log(), torch.tensor([1])))
    >>> history(nn.Identity(), {"ids": torch.tensor([1, 2])})  # row 2 has no visit yet
    tensor([[0.7500, 0.2500],
            [0.0000, 0.0000]])
    """

    average: Tensor
    visits: Tensor

    def __init__(self, momentum: float = 0.6) -> None:
        super().__init__()
        self.momentum = in_range("momentum", momentum, 0, 1 - 1e-6)

    def bind(self, num_classes: int, num_rows: int) -> None:
        self.add_state("average", torch.zeros(num_rows, num_classes))
        self.add_state("visits", torch.zeros(num_rows))

    def observe(self, signals: Signals) -> None:
        ids, logits = self.need(signals, "ids"), self.need(signals, "student_logits")
        last = last_of_each(ids)
        rows, predicted = ids[last], F.softmax(logits[last].float(), -1)
        self.average[rows] = torch.lerp(self.average[rows], predicted, 1 - self.momentum)
        self.visits[rows] += 1

    @torch.no_grad()
    def forward(self, student: nn.Module, unlabeled: Mapping[str, Any]) -> Tensor:
        rows = unlabeled["ids"]
        bias = 1 - self.momentum ** self.visits[rows]
        return self.average[rows] / bias.clamp_min(1 - self.momentum)[:, None]


def _trained(student: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, parameter) for name, parameter in student.named_parameters() if parameter.requires_grad]
