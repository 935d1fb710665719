"""What the student sees of an unlabeled row."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from sstext.objective.part import Part


class View(Part):
    """Picks or makes the student's inputs; `strong` asks the batches for a changed copy of every unlabeled row."""

    strong = False

    def prepare(self, student: nn.Module, unlabeled: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """The inputs of the student's forward pass for the unlabeled rows."""
        raise NotImplementedError


class Same(View):
    """The student sees what the teacher saw."""

    def prepare(self, student: nn.Module, unlabeled: Mapping[str, Any]) -> Mapping[str, Tensor]:
        return unlabeled["weak"]


class Augmented(View):
    """The student sees a copy with token edits (`sstext.augment.edits`), drawn anew at every visit."""

    strong = True

    def prepare(self, student: nn.Module, unlabeled: Mapping[str, Any]) -> Mapping[str, Tensor]:
        return unlabeled["strong"]
