"""Compares the chosen model with the baseline on labeled rows, and checks the chosen model's confidence."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sstext.evaluation.bootstrap import METRICS, bootstrap
from sstext.evaluation.calibration import softmax
from sstext.evaluation.intervals import paired_difference_interval
from sstext.reporting.run_files import RunFiles
from sstext.storage.run_folder import stage_name

#: Enough for two reliable digits of an interval.
RESAMPLES = 2000


@dataclass(frozen=True)
class Evidence:
    """Predictions for N labeled rows, probabilities (N, C) each.

    Attributes:
        rows: a description for the reader, for example "400 test rows".
        texts: (N,).
        labels: (N,) classes.
        chosen: predictions of the chosen model, or of its stage in the chains; calibrated.
        uncalibrated: `chosen` before calibration. None if it is unknown, or if calibration changed nothing.
        baseline: predictions of the baseline, calibrated.
        caveat: why figures on these rows are too optimistic. Empty if they are not.
        names: names of baseline and chosen model on these rows.
    """

    rows: str
    texts: Any
    labels: np.ndarray
    chosen: np.ndarray
    uncalibrated: np.ndarray | None
    baseline: np.ndarray | None
    caveat: str
    names: tuple[str, str] = ("baseline", "chosen model")


def evidence_of(run: RunFiles) -> Evidence | None:
    """Return predictions for test rows. Without test rows, use held-out rows of the chains, then development rows."""
    return _on_test_rows(run) or _on_held_out_rows(run)


def _on_test_rows(run: RunFiles) -> Evidence | None:
    found = run.predictions("test", expected=bool(run.results.get("test")))
    if found is None or not found.logits.keys() & {"supervised", "final"}:
        return None
    baseline, chosen = found.logits.get("supervised"), found.logits.get("final")
    temperature = run.results.get("chosen", {}).get("temperature")
    of_baseline = run.results.get("baseline_temperature", run.rounds[0]["temperature"])
    calibrated = None if baseline is None else softmax(baseline, of_baseline)
    if chosen is None:  # the chosen model is the baseline
        chosen, temperature = baseline / of_baseline, of_baseline
    return Evidence(
        rows=f"{len(found.labels):,} test rows",
        texts=found.texts,
        labels=found.labels,
        chosen=softmax(chosen),
        uncalibrated=None if temperature in (None, 1) else softmax(chosen * temperature),
        baseline=calibrated,
        caveat="",
        names=(run.baseline, "chosen model"),
    )


def _on_held_out_rows(run: RunFiles) -> Evidence | None:
    measured_on_dev = bool(run.rounds[0].get("metrics"))
    name = "out_of_fold" if run.cross_fitted else "dev"
    expected = run.finished and (run.cross_fitted or measured_on_dev) and not run.results.get("test")
    found = run.predictions(name, expected=expected)
    if found is None or f"round_{run.judged}" not in found.logits:
        return None
    temperatures = {f"round_{record['index']}": record["temperature"] for record in run.rounds}
    stage = f"round_{run.judged}"
    rows, caveat = f"{len(found.labels):,} held-out labeled rows", ""
    if not run.cross_fitted:
        rows = f"{len(found.labels):,} development rows"
        caveat = (
            "They were also used to stop training and to choose the model. These figures are therefore too optimistic."
        )
    return Evidence(
        rows=rows,
        texts=found.texts,
        labels=found.labels,
        chosen=softmax(found.logits[stage], temperatures[stage]),
        uncalibrated=None if temperatures[stage] == 1 else softmax(found.logits[stage]),
        baseline=softmax(found.logits["round_0"], temperatures["round_0"]) if "round_0" in found.logits else None,
        caveat=f"{caveat}{_whose(run)} The temperature was fitted on the same rows.".strip(),
        names=(run.first, _judged_name(run)),
    )


def _whose(run: RunFiles) -> str:
    """Whose predictions held-out ones are. Empty if they are those of the chosen stage."""
    if run.judged == run.chosen:
        return ""
    return f"The predictions are those of the {_judged_name(run)}, which has itself learned from all labeled rows."


def _judged_name(run: RunFiles) -> str:
    """What held-out predictions stand for the model: its own stage, or the one that taught the final model."""
    if run.judged == run.chosen:
        return "chosen model"
    return f"{stage_name(run.rounds[run.judged])} that taught the chosen model"


@dataclass(frozen=True)
class Comparison:
    """The figures of the baseline and of the chosen model.

    Attributes:
        rows: a description of the rows for the reader.
        baseline, chosen: metric → {"score", and "confidence_interval" if it is known}, of baseline and chosen model.
        gain: paired difference of the accuracies, (score, low, high). None without predictions for single rows.
        names: names of both for the reader.
        same: whether both are the same model.
        others: name → metric, as `baseline`, of models that were measured beside both.
    """

    rows: str
    baseline: dict[str, Any]
    chosen: dict[str, Any]
    gain: tuple[float, float, float] | None
    names: tuple[str, str] = ("baseline", "chosen model")
    same: bool = False
    others: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def models(self) -> dict[str, dict[str, Any]]:
        """Name → metrics of every model that is shown. The chosen model is the last one."""
        if self.same:
            return {**self.others, self.both: self.chosen}
        return {self.names[0]: self.baseline, **self.others, self.names[1]: self.chosen}

    @property
    def both(self) -> str:
        """One name for both, if they are the same model."""
        baseline, chosen = self.names
        return chosen if chosen.startswith(baseline) else f"{baseline} ({chosen})"


def compare(run: RunFiles, evidence: Evidence | None, seed: int = 0) -> Comparison | None:
    """Compare on test rows, or without them on held-out or development rows. Returns None if nothing was measured."""
    gain = None
    if evidence is not None and evidence.baseline is not None:
        gain = paired_gain(evidence.baseline, evidence.chosen, evidence.labels)
    test = run.results.get("test")
    if test:
        chosen = test.get("self_trained", test["supervised"])
        rows = f"{test['supervised']['rows']:,} test rows"
        names = (run.baseline, "chosen model")
        others = {name: test[name]["metrics"] for name in test if name not in ("supervised", "self_trained")}
        return Comparison(
            rows, test["supervised"]["metrics"], chosen["metrics"], gain, names, run.baseline_chosen, others
        )
    names, same = (run.first, _judged_name(run)), run.judged == 0
    if evidence is not None and evidence.baseline is not None:
        both = (evidence.baseline, evidence.chosen)
        baseline, chosen = (bootstrap(METRICS, one, evidence.labels, resamples=RESAMPLES, seed=seed) for one in both)
        return Comparison(evidence.rows, baseline, chosen, gain, names, same)
    kind = "out_of_fold" if run.cross_fitted else "metrics"
    first, last = run.rounds[0].get(kind), run.rounds[run.judged].get(kind)
    if not first or not last:
        return None
    rows = "held-out labeled rows" if run.cross_fitted else "the development rows"
    baseline, chosen = ({name: {"score": value} for name, value in one.items()} for one in (first, last))
    return Comparison(rows, baseline, chosen, None, names, same)


def paired_gain(baseline: np.ndarray, chosen: np.ndarray, labels: np.ndarray) -> tuple[float, float, float]:
    """Accuracy of the chosen model minus accuracy of the baseline on the same rows, with its 95 % interval.

    Only rows on which one of both is right and the other is wrong tell a difference. The interval is therefore narrower than
    the two separate intervals suggest. It has a width also if there are no such rows, see `paired_difference_interval`.

    Args:
        baseline, chosen: (N, C) probabilities of baseline and chosen model.
        labels: (N,) classes.

    >>> one, two = np.array([[.9, .1], [.9, .1]]), np.array([[.9, .1], [.1, .9]])
    >>> [round(value, 2) for value in paired_gain(one, two, np.array([0, 1]))]
    [0.5, -0.49, 0.91]
    """
    right, right_before = chosen.argmax(-1) == labels, baseline.argmax(-1) == labels
    gained, lost = int((right & ~right_before).sum()), int((right_before & ~right).sum())
    return (gained - lost) / len(labels), *paired_difference_interval(gained, lost, len(labels))
