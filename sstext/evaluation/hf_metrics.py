"""The metrics of `sstext.evaluation.metrics` as `evaluate.Metric` classes. They need no network.

>>> Accuracy(keep_in_memory=True).compute(predictions=[0, 1], references=[0, 0])
{'accuracy': 0.5}
"""

from typing import Any

import evaluate
from datasets import Features, List, Value
from numpy.typing import ArrayLike

from sstext.evaluation.metrics import measure


class _Metric(evaluate.Metric):
    """Predictions are probabilities (N, C), or classes (N,) if the metric needs no probabilities."""

    scores: tuple[str, ...]  #: names for `measure`

    def _info(self) -> evaluate.MetricInfo:
        kinds = (Value("int64"), List(Value("float64")))
        features = [Features(predictions=kind, references=Value("int64")) for kind in kinds]
        return evaluate.MetricInfo(description=type(self).__doc__ or "", citation="", features=features)

    def _compute(self, predictions: ArrayLike, references: ArrayLike) -> dict[str, Any]:
        return {name: measure(name, predictions, references).tolist() for name in self.scores}


class Accuracy(_Metric):
    """Share of rows whose predicted class is the reference."""

    scores = ("accuracy",)


class F1(_Metric):
    """Harmonic mean of precision and recall, averaged over classes in three ways."""

    scores = ("macro_f1", "micro_f1", "weighted_f1")


class PrecisionRecall(_Metric):
    """Precision and recall of each class, as two lists that begin with class 0."""

    scores = ("precision", "recall")


class MatthewsCorrelation(_Metric):
    """Correlation of predicted and actual class."""

    scores = ("matthews_correlation",)


class NegativeLogLikelihood(_Metric):
    """Mean −log p(reference), in nats."""

    scores = ("nll",)


class BrierScore(_Metric):
    """Mean squared distance between the probabilities and the one-hot reference."""

    scores = ("brier",)


class ExpectedCalibrationError(_Metric):
    """Gap between confidence and accuracy over 15 bins of equal mass."""

    scores = ("expected_calibration_error",)
