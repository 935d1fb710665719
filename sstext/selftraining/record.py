"""The record of one round: a line of `rounds.jsonl`, and a sentence for people."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Round:
    """What happened in one round.

    Attributes:
        index: 0 is supervised fine-tuning.
        admitted: pseudo-labeled rows that its student was trained on, one that joined several times as often as it did.
        coverage: share of the corpus that joined (of the part of it that was drawn, where it is too large).
        per_class: their number by class.
        audit_precision: share of them whose pseudo-label is right, where true labels were given for audit.
        temperature: what calibrates its student, by out-of-fold or development rows, else as in `Fit`.
        agreement: share of the corpus with the same predicted class as one round before.
        metrics: accuracy and macro-F1 on the development rows.
        steps: optimizer steps, of all chains together.
        seconds: wall time of the round.
        stopped_because: why there is no further round; None where there is.
        estimated_precision: share of them that is expected to be right, by calibrated confidence (with folds).
        out_of_fold: log-loss (nats), accuracy and macro-F1 of labeled rows by students that never saw them (with folds).
        gain: in out-of-fold log-loss over supervised, rows weighed so that they stand for the corpus: observed, its standard
            error, and expected with what is known beforehand.
        refused: why it may not be chosen; None where it may.
        class_shares: of the classes predicted for the corpus (with folds).
        chain_agreement: share of the corpus of which two chains say the same (with folds).
        reads_corpus: whether its student learned from unlabeled text inside its steps, as a method of that kind asks.

    With folds, counts and shares are means over the chains.
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


def sentence(record: Round) -> str:
    """One round in a line, for people."""
    chains = " (all chains)" if record.out_of_fold else ""
    said = [f"round {record.index}: {record.steps} steps{chains} in {record.seconds:.0f} s"]
    if record.admitted:
        said.append(f"on {record.admitted:,} pseudo-labels ({record.coverage:.0%} of the corpus)")
    if record.audit_precision is not None:
        said.append(f"of which {record.audit_precision:.1%} are right")
    if record.out_of_fold:
        said.append("out-of-fold accuracy {accuracy:.1%}, log-loss {log_loss:.3f}".format(**record.out_of_fold))
    if record.metrics:
        said.append(f"development macro-F1 {record.metrics['macro_f1']:.3f}")
    return ", ".join(said) + (f"; stopped: {record.stopped_because}" if record.stopped_because else "")
