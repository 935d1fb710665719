"""SemiSupervisedTrainingArguments: `TrainingArguments` with our options as fields."""

from dataclasses import dataclass

from transformers import TrainingArguments

from sstext.config.options import checked, option, options
from sstext.config.run_config import DataOptions, SemiSupervisedOptions, TrainingOptions
from sstext.errors import UserError
from sstext.hub.publishing import refuse_whole_checkpoints


def _same_help(group: type, name: str) -> str:
    return options(group)[name].metadata["help"]


@dataclass
class SemiSupervisedTrainingArguments(SemiSupervisedOptions, TrainingArguments):
    """`TrainingArguments` with the semi-supervised options as fields, so that hyper-parameter search reaches them.

    All defaults of `TrainingArguments` stand. With 20–500 labels the new head wants a much larger rate than the encoder:
    `sstext train` uses `learning_rate=2e-4, head_learning_rate=1e-3`; here the head's rate is the encoder's unless given.

    >>> SemiSupervisedTrainingArguments("out", use_cpu=True).unlabeled_batch_ratio
    2.0
    """

    head_learning_rate: float | None = option(None, _same_help(TrainingOptions, "head_learning_rate"))
    max_length: int | None = option(None, _same_help(DataOptions, "max_length"))
    student_noise: bool = option(True, "token edits on labeled and pseudo-labeled rows, where there are such")

    def __post_init__(self) -> None:
        if not 0 < self.gold_share <= 1:
            raise UserError(f"gold_share: expected a share above 0 and up to 1, found {self.gold_share}")
        if self.unlabeled_batch_ratio <= 0:
            raise UserError(f"unlabeled_batch_ratio: expected more than 0, found {self.unlabeled_batch_ratio}")
        self.views = checked("views", self.views, options(SemiSupervisedOptions)["views"])
        super().__post_init__()
        refuse_whole_checkpoints(self.hub_strategy)
