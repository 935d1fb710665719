"""Figures: what their legends claim."""

import numpy as np
import pytest

from sstext.reporting.curves import reliability
from sstext.reporting.figures import reliability_diagram


@pytest.mark.parametrize(
    ("calibrated", "labels"),
    [(True, ["before calibration", "after calibration"]), (False, ["chosen model"])],
)
def test_a_model_that_was_not_calibrated_has_one_curve_and_no_after(calibrated: bool, labels: list[str]) -> None:
    """Guards against "after calibration" on a model whose temperature is 1."""
    found = reliability(np.array([[0.7, 0.3]] * 40), np.array([0, 0, 1, 0] * 10))
    (axes,) = reliability_diagram(found, found if calibrated else None).axes
    assert axes.get_legend_handles_labels()[1] == ["confidence = accuracy", *labels]
