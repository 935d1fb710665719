"""sstext: train a text classifier from a few labeled texts and many unlabeled ones.

Names are loaded when they are used: importing the package imports no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sstext.config.run_config import RunConfig
    from sstext.errors import UserError
    from sstext.inference.classifier import Classifier
    from sstext.methods import METHODS
    from sstext.modeling.pretrained import encoder_path
    from sstext.objective import Objective
    from sstext.run.train import self_train, train
    from sstext.selftraining.plan import Plan
    from sstext.selftraining.record import StageRecord
    from sstext.training.arguments import SemiSupervisedTrainingArguments
    from sstext.training.trainer import SemiSupervisedTrainer

_HOMES = {
    "METHODS": "sstext.methods",
    "Classifier": "sstext.inference.classifier",
    "Objective": "sstext.objective",
    "Plan": "sstext.selftraining.plan",
    "RunConfig": "sstext.config.run_config",
    "SemiSupervisedTrainer": "sstext.training.trainer",
    "SemiSupervisedTrainingArguments": "sstext.training.arguments",
    "StageRecord": "sstext.selftraining.record",
    "UserError": "sstext.errors",
    "encoder_path": "sstext.modeling.pretrained",
    "self_train": "sstext.run.train",
    "train": "sstext.run.train",
}

__all__ = [
    "METHODS", "Classifier", "Objective", "Plan", "RunConfig", "SemiSupervisedTrainer",
    "SemiSupervisedTrainingArguments", "StageRecord", "UserError", "encoder_path", "self_train", "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sstext' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
