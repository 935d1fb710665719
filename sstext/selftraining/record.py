"""The record of one stage: a line of `rounds.jsonl`, and a sentence for people."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from sstext.storage.run_folder import ALL_DONE


@dataclass(frozen=True)
class StageRecord:
    """What happened in one stage. With folds, counts and shares are means over the chains.

    Attributes:
        index: position of the stage in the plan, from 0.
        admitted: number of pseudo-labeled rows in the training set; a repeated row counts each time.
        coverage: share of the corpus that was selected (of the part that was read, if the corpus is too large).
        per_class: number of pseudo-labeled rows by class.
        audit_precision: share of the pseudo-labels that are right, if true labels were given for an audit.
        temperature: temperature of the student, fitted on held-out or development rows. Without them, that of `Fit`.
        agreement: share of the corpus with the same predicted class as one stage before.
        metrics: accuracy and macro-F1 on the development rows.
        steps: optimizer steps, of all chains together.
        seconds: wall time of the stage.
        stopped_because: why training stops after this stage, or None.
        estimated_precision: share of the pseudo-labels that is expected to be right, by calibrated confidence (with folds).
        out_of_fold: log-loss (nats), accuracy and macro-F1 of the held-out predictions of the labeled rows (with folds).
        gain: gain in held-out log-loss over the baseline: "observed", "standard_error" and "expected", see
            `sstext.selftraining.verdict.Gain`. Rows are weighted by the class shares of the corpus.
        refused: why the stage may not be chosen, or None.
        class_shares: shares of the classes that are predicted for the corpus (with folds).
        chain_agreement: share of the corpus for which two chains predict the same class (with folds).
        reads_corpus: whether the student learns from unlabeled texts inside its steps.
        stage: name of the stage. Version 0.1 wrote none, because it called every training a round.
        labeled_by: what labeled the corpus for the stage, or None.
        skipped_steps: number of `steps` that were skipped, because their loss or gradients were not finite.
    """

    index: int
    admitted: int
    coverage: float
    per_class: dict[str, int]
    audit_precision: float | None
    temperature: float
    agreement: float | None
    metrics: dict[str, float]
    steps: int
    seconds: float
    stopped_because: str | None
    estimated_precision: float | None = None
    out_of_fold: dict[str, float] = field(default_factory=dict)
    gain: dict[str, float] | None = None
    refused: str | None = None
    class_shares: dict[str, float] = field(default_factory=dict)
    chain_agreement: float | None = None
    reads_corpus: bool = False
    stage: str = ""
    labeled_by: str | None = None
    skipped_steps: int = 0

    def __post_init__(self) -> None:
        if not self.stage:
            object.__setattr__(self, "stage", f"round {self.index}")

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> "StageRecord":
        """Read a line of `rounds.jsonl`. Fields that a later version has added are left out."""
        known = {spec.name for spec in fields(cls)}
        return cls(**{name: value for name, value in record.items() if name in known})


def sentence(record: StageRecord) -> str:
    """Describe a stage in one line."""
    chains = " (all chains)" if record.out_of_fold else ""
    work = f"{record.steps} steps" if record.steps else "fitted without steps"
    parts = [f"{record.stage}: {work}{chains} in {record.seconds:.0f} s"]
    if record.admitted:
        parts.append(f"{record.admitted:,} pseudo-labels ({record.coverage:.0%} of the corpus)")
    if record.audit_precision is not None:
        parts.append(f"{record.audit_precision:.1%} of them are right")
    if record.out_of_fold:
        parts.append("held-out accuracy {accuracy:.1%}, log-loss {log_loss:.3f}".format(**record.out_of_fold))
    if record.metrics:
        parts.append(f"development macro-F1 {record.metrics['macro_f1']:.3f}")
    end = "; training stops here" if record.stopped_because not in (None, ALL_DONE) else ""
    return ", ".join(parts) + end
