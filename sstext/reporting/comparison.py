"""What labeled rows say of a run: the shipped model against plain fine-tuning, and how sure the model may be."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sstext.evaluation.calibration import softmax
from sstext.evaluation.metrics import METRICS, bootstrap
from sstext.reporting.run_files import RunFiles

#: Enough for two digits of an interval.
RESAMPLES = 2000


@dataclass(frozen=True)
class Evidence:
    """Predictions for N labeled rows, probabilities (N, C) each.

    Attributes:
        rows: what they are, for people: "400 test rows".
        texts: (N,).
        labels: (N,) classes.
        final: of the model that is shipped, or of the chosen round; calibrated.
        uncalibrated: the same before calibration; None where nothing is known of it, or it changed nothing.
        supervised: of plain fine-tuning, calibrated.
        caveat: why these rows flatter; empty where they do not.
    """

    rows: str
    texts: Any
    labels: np.ndarray
    final: np.ndarray
    uncalibrated: np.ndarray | None
    supervised: np.ndarray | None
    caveat: str


def evidence_of(run: RunFiles) -> Evidence | None:
    """The best rows there are: of a test file, else those that chains held out, else development rows."""
    return _on_test_rows(run) or _on_held_out_rows(run)


def _on_test_rows(run: RunFiles) -> Evidence | None:
    found = run.predictions("test", expected=bool(run.results.get("test")))
    if found is None or not found.logits.keys() & {"supervised", "final"}:
        return None
    supervised, final = found.logits.get("supervised"), found.logits.get("final")
    temperature = run.results.get("chosen", {}).get("temperature")
    calibrated = None if supervised is None else softmax(supervised, run.rounds[0]["temperature"])
    if final is None:  # plain fine-tuning is what is shipped
        final, temperature = supervised / run.rounds[0]["temperature"], run.rounds[0]["temperature"]
    return Evidence(
        rows=f"{len(found.labels):,} test rows",
        texts=found.texts,
        labels=found.labels,
        final=softmax(final),
        uncalibrated=None if temperature in (None, 1) else softmax(final * temperature),
        supervised=calibrated,
        caveat="",
    )


def _on_held_out_rows(run: RunFiles) -> Evidence | None:
    measured_on_dev = bool(run.rounds[0].get("metrics"))
    name = "out_of_fold" if run.cross_fitted else "dev"
    expected = run.finished and (run.cross_fitted or measured_on_dev) and not run.results.get("test")
    found = run.predictions(name, expected=expected)
    if found is None or f"round_{run.chosen}" not in found.logits:
        return None
    temperatures = {f"round_{record['index']}": record["temperature"] for record in run.rounds}
    shipped = f"round_{run.chosen}"
    rows, caveat = f"{len(found.labels):,} labeled rows that its student never saw", ""
    if not run.cross_fitted:
        rows = f"{len(found.labels):,} development rows"
        caveat = "They also ended the training and chose the round, so that they flatter it."
    return Evidence(
        rows=rows,
        texts=found.texts,
        labels=found.labels,
        final=softmax(found.logits[shipped], temperatures[shipped]),
        uncalibrated=None if temperatures[shipped] == 1 else softmax(found.logits[shipped]),
        supervised=softmax(found.logits["round_0"], temperatures["round_0"]) if "round_0" in found.logits else None,
        caveat=f"{caveat} The temperature was fitted on these very rows.".strip(),
    )


@dataclass(frozen=True)
class Comparison:
    """Plain fine-tuning against what is shipped.

    Attributes:
        rows: on what, for people.
        supervised, final: metric → {"score", and "confidence_interval" where there is one}.
        gain: difference of the accuracies, row by row: (score, low, high); None where single predictions are not there.
    """

    rows: str
    supervised: dict[str, Any]
    final: dict[str, Any]
    gain: tuple[float, float, float] | None


def compare(run: RunFiles, evidence: Evidence | None, seed: int = 0) -> Comparison | None:
    """Compare on test rows, else on rows that were held out; None where nothing was measured."""
    gain = None
    if evidence is not None and evidence.supervised is not None:
        gain = paired_gain(evidence.supervised, evidence.final, evidence.labels)
    test = run.results.get("test")
    if test:
        final = test.get("self_trained", test["supervised"])
        rows = f"{test['supervised']['rows']:,} test rows"
        return Comparison(rows, test["supervised"]["metrics"], final["metrics"], gain)
    if evidence is not None and evidence.supervised is not None:
        both = (evidence.supervised, evidence.final)
        supervised, final = (bootstrap(METRICS, one, evidence.labels, resamples=RESAMPLES, seed=seed) for one in both)
        return Comparison(evidence.rows, supervised, final, gain)
    kind = "out_of_fold" if run.cross_fitted else "metrics"
    first, last = run.rounds[0].get(kind), run.rounds[run.chosen].get(kind)
    if not first or not last:
        return None
    rows = "labeled rows that their students never saw" if run.cross_fitted else "the development rows"
    supervised, final = ({name: {"score": value} for name, value in one.items()} for one in (first, last))
    return Comparison(rows, supervised, final, None)


def paired_gain(supervised: np.ndarray, final: np.ndarray, labels: np.ndarray) -> tuple[float, float, float]:
    """Accuracy of the final model minus that of plain fine-tuning on the same rows, with its 95 % interval.

    d_i ∈ {−1, 0, 1} is the difference in row i; the interval is d̄ ± 1.96 s/√N. Rows of which both are right or both are wrong
    tell nothing, which is why it is narrower than the two intervals side by side suggest.

    Args:
        supervised, final: (N, C) probabilities.
        labels: (N,) classes.

    >>> one, two = np.array([[.9, .1], [.9, .1]]), np.array([[.9, .1], [.1, .9]])
    >>> [round(value, 2) for value in paired_gain(one, two, np.array([0, 1]))]
    [0.5, -0.48, 1.48]
    """
    difference = (final.argmax(-1) == labels).astype(float) - (supervised.argmax(-1) == labels)
    mean = float(difference.mean())
    error = float(difference.std(ddof=1) / len(difference) ** 0.5) if len(difference) > 1 else float("inf")
    return mean, mean - 1.96 * error, mean + 1.96 * error
