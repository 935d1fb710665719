"""Every option once, with its help beside it; free of torch, so that `sstext --help` answers at once.

The command line, the YAML files, the run directory's config.yaml and `SemiSupervisedTrainingArguments` are all made from
the fields below: a new option is one field here and the line of code that reads it.
"""

import math
import re
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import yaml

from sstext.config.options import checked, default_of, option, options
from sstext.errors import UserError


@dataclass
class DataOptions:
    """Where the texts come from."""

    labeled: str | None = option(
        None, "labeled texts: csv, tsv, json(l), parquet, a saved data set or a Hub name[:split]"
    )
    unlabeled: str | None = option(None, "unlabeled texts: the same formats, or txt with one text a line")
    dev: str | None = option(None, "labeled development rows: early stopping, choice of the round, temperature")
    test: str | None = option(None, "labeled test rows: only measured on, never chosen by")
    audit: str | None = option(None, "true labels of the unlabeled texts, row by row: only to audit pseudo-labels")
    sample: dict[str, Any] = option(
        {},
        "KEY=VALUE …, to try it on data that are all labeled: labels_per_class=10 unlabeled=2000 test=1000 "
        "hides the labels of the unlabeled rows",
    )
    text_column: str | None = option(None, "column with the text (guessed by name where not given)")
    label_column: str | None = option(None, "column with the label (guessed by name where not given)")
    encoding: str = option("utf-8", "encoding of text files")
    max_length: int | None = option(
        None,
        "tokens of a text that are read "
        "(default: training reads the corpus's 95th percentile, prediction up to the model's limit)",
    )


@dataclass
class EncoderOptions:
    """The pretrained encoder and what of it is trained."""

    encoder: str | None = option(None, "pretrained encoder: a directory, a Hub name, or `demo` (English, extra `demo`)")
    revision: str | None = option(None, "branch, tag or commit of a Hub encoder")
    freeze_embeddings: bool = option(False, "keep the embedding layer as it was pretrained")
    freeze_layers: int = option(0, "keep the first K transformer layers as they were pretrained")
    dropout: float | None = option(None, "dropout of the encoder and the head (default: the encoder's own)")


@dataclass
class TrainingOptions:
    """How a model is fine-tuned, in round 0 and in every further round."""

    steps: int | None = option(
        None,
        "optimizer steps of round 0 (default: 20 passes over the labels, within 60 … 500; at least 120 with a loss on "
        "unlabeled texts)",
    )
    round_steps: int | None = option(
        None,
        "optimizer steps of a further round (default: 3 passes over the kept rows, within 120 … 2,000; with auto, 1.5, and as "
        "much of a larger corpus is read as they have room for)",
    )
    batch_size: int = option(16, "labeled rows per step of round 0, over all devices")
    round_batch_size: int = option(32, "labeled and kept rows per step of a further round, over all devices")
    learning_rate: float = option(2e-4, "peak learning rate of the encoder in round 0")
    round_learning_rate: float = option(1e-4, "peak learning rate of the encoder in a further round")
    head_learning_rate: float | None = option(1e-3, "peak learning rate of the new head (none: the encoder's)")
    weight_decay: float = option(0.01, "weight decay (AdamW)")
    warmup: float = option(0.1, "share of the steps over which the rate rises; it falls linearly afterwards")
    eval_steps: int | None = option(
        None, "steps between evaluations on the development rows (default: a sixth of the steps)"
    )
    patience: int = option(3, "evaluations without a gain after which training stops (with development rows)")
    save_steps: int = option(
        50, "steps between checkpoints, from which a killed run goes on (with development rows: every evaluation)"
    )
    precision: str = option("auto", "auto: bf16 where the device has it natively", ("auto", "fp32", "bf16", "fp16"))
    device: str = option("auto", "auto, cpu, cuda, cuda:N or mps")
    seed: int = option(0, "seed of everything random")
    training_args: dict[str, Any] = option({}, "KEY=VALUE … handed to transformers.TrainingArguments as they are")


@dataclass
class SemiSupervisedOptions:
    """What a student is asked on unlabeled text while it trains.

    These are fields of `SemiSupervisedTrainingArguments` too.
    """

    method: str = option(
        "supervised", "method, inside a step, between rounds or both, see `sstext methods` (supervised: none)"
    )
    method_args: dict[str, Any] = option({}, "KEY=VALUE … handed to the method, for example threshold=0.9")
    regularizers: dict[str, Any] = option(
        {}, "NAME=STRENGTH … further losses beside the method's, see `sstext methods`, for example entropy=0.1"
    )
    unlabeled_batch_ratio: float = option(
        2.0, "unlabeled rows per labeled row in a step (methods other than supervised)"
    )
    unsupervised_strength: float | None = option(
        None, "λ, the weight of the unlabeled loss (default: the method's own)"
    )
    gold_share: float = option(0.25, "share of gold rows in every batch of a round")
    logit_adjustment: float = option(
        0.0, "τ of logit adjustment: 1 makes classes with few labels as likely to be predicted as others (0: none)"
    )
    class_runs: int | None = option(
        None, "gold rows of a class that follow each other (default: 4 where supervised contrast compares them, else 1)"
    )
    token_mask: float = option(0.15, "share of tokens masked in a changed view")
    token_drop: float = option(0.0, "share of tokens dropped in a changed view")
    token_swap: float = option(0.0, "share of tokens that change places with another one in a changed view")
    token_cutoff: float = option(0.0, "share of tokens cut out of a changed view in one piece")
    views: list[str] = option(
        [], "columns of the unlabeled texts with paraphrases, a,b or a b: a changed view starts from one of them"
    )


@dataclass
class SelfTrainingOptions:
    """How the round loop grows the training set."""

    rounds: int | None = option(
        None,
        "rounds of pseudo-labels after those on labels alone (default: 1 with auto, which adds a last student, else 3)",
    )
    keep: list[float] | None = option(
        None,
        "share of the corpus kept in their order; the last one goes on (default: 1 with auto, else .3 .5 .7; 1 with soft "
        "pseudo-labels: every row, no quotas)",
    )
    prior: Any = option(
        "auto",
        "class shares of the corpus, which pseudo-labels are aligned to: uniform, labeled, CLASS=SHARE …, "
        "or auto (labeled shares; where the labels are balanced, estimated from what is predicted)",
    )
    min_confidence: float = option(0.0, "probability below which a row is never kept")
    alignment: bool = option(True, "align the mean of the corpus predictions to the prior before selecting")
    pseudo_labels: str | None = option(
        None,
        "train on the predicted class, or on the predicted probabilities (default: soft with auto, else hard)",
        ("hard", "soft"),
    )
    start: str = option("previous", "what the student of a further round starts from", ("previous", "pretrained"))
    stop_agreement: float = option(
        0.999, "stop where at least this share of the corpus keeps its predicted class (above 1: never)"
    )
    folds: int | None = option(
        None,
        "chains, each self-trained without one fold of the labels, whose predictions on it calibrate the model and choose the "
        "round (default: 3 with auto, where 6 texts or more are not alone in their class and there are no development rows; "
        "else 0, none)",
    )


@dataclass
class RunOptions:
    """One run."""

    output: str | None = option(None, "folder of the run; the same command continues an interrupted one")
    budget: str | None = option(
        None, "time that the run may take on this machine, for example 10m: steps, rounds and folds are cut to it"
    )
    report_to: list[str] = option(
        [],
        "loggers that see the run as it goes, for example tensorboard wandb mlflow (whatever Accelerate or Trainer knows)",
    )
    workers: int | None = option(
        None,
        "chains that train side by side, each in a process of its own (default: one per GPU; on a CPU 1: where it has many "
        "cores, more are faster)",
    )
    report: bool = option(True, "make report.html at the end, one page to look at")
    dry_run: bool = option(False, "print the plan (rows, steps, estimated time) and stop")
    quiet: bool = option(False, "print the result alone")


#: Least and greatest value of the options that are numbers.
RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("token_mask", "token_drop", "token_swap", "token_cutoff"), (0, 1)),
    **dict.fromkeys(("gold_share", "min_confidence", "warmup", "dropout"), (0, 1)),
    **dict.fromkeys(("learning_rate", "round_learning_rate", "head_learning_rate", "weight_decay"), (0, math.inf)),
    **dict.fromkeys(
        ("rounds", "freeze_layers", "unsupervised_strength", "stop_agreement", "folds", "logit_adjustment"),
        (0, math.inf),
    ),
    **dict.fromkeys(("batch_size", "round_batch_size", "save_steps", "patience", "class_runs"), (1, math.inf)),
    **dict.fromkeys(("steps", "round_steps", "eval_steps", "workers"), (1, math.inf)),
    "seed": (0, 2**32 - 1),
    "max_length": (4, math.inf),
    "unlabeled_batch_ratio": (1e-6, math.inf),
}


@dataclass
class RunConfig(RunOptions, SelfTrainingOptions, SemiSupervisedOptions, TrainingOptions, EncoderOptions, DataOptions):
    """Everything that `sstext train` can be told: flat, so that a YAML key, a flag and a field are one name."""

    #: Fields that may differ when a run is continued: they change what is shown, not what is computed.
    UNRECORDED: ClassVar[tuple[str, ...]] = ("output", "report_to", "workers", "report", "dry_run", "quiet")

    method: str = option("auto", options(SemiSupervisedOptions)["method"].metadata["help"])

    def __post_init__(self) -> None:
        for name, spec in options(RunConfig).items():
            setattr(self, name, checked(name, getattr(self, name), spec))
        self._check_ranges()

    def _check_ranges(self) -> None:
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                bounds = f"at least {low}" if high == math.inf else f"a share between {low} and {high}"
                raise UserError(f"{name}: expected {bounds}, found {value}")
        if self.keep is not None and (not self.keep or any(not 0 < share <= 1 for share in self.keep)):
            raise UserError(f"keep: expected shares above 0 and up to 1, one per round, found {self.keep}")
        if self.budget is not None:
            seconds_of(self.budget)
        if self.gold_share == 0 and self.rounds != 0:
            raise UserError("gold_share: expected more than 0, so that no batch is without gold rows, found 0")

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """The default of every option."""
        return {name: default_of(spec) for name, spec in options(cls).items()}

    def to_yaml(self) -> str:
        """The resolved run, enough to repeat it (without what only changes the display)."""
        kept = {name: value for name, value in asdict(self).items() if name not in self.UNRECORDED}
        return yaml.safe_dump(kept, sort_keys=True, allow_unicode=True)


def seconds_of(budget: str) -> float:
    """A time as people write it, in seconds.

    Raises:
        UserError: it is none.

    >>> seconds_of("90s"), seconds_of("10m"), seconds_of("1.5h"), seconds_of("1h30m")
    (90.0, 600.0, 5400.0, 5400.0)
    """
    parts = re.fullmatch(r"(?:([\d.]+)h)?(?:([\d.]+)m)?(?:([\d.]+)s)?", budget.strip())
    try:
        found = [float(part) if part else 0.0 for part in parts.groups()] if parts else []
    except ValueError:
        found = []
    total = sum(number * unit for number, unit in zip(found, (3600, 60, 1), strict=False))
    if not total > 0:
        raise UserError(f"budget: expected a time such as 10m, 90s or 1h30m, found {budget!r}")
    return total
