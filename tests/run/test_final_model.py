"""The final model of a run whose chains only make teachers: whichever stage teaches, and wherever the chains end."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sstext.config.run_config import RunConfig
from sstext.inference.classifier import Classifier
from sstext.reporting import write_report
from sstext.run.train import train
from sstext.selftraining import loop
from sstext.selftraining.planning import make_plan, method_of

Quick = Callable[..., RunConfig]


def run_of(tiny_run: Quick, output: Path, **changes: Any) -> dict[str, Any]:
    """A run of two chains that make teachers."""
    arguments = changes.pop("method_args", {})
    config = tiny_run(output, method="auto", rounds=None, folds=2, prior="uniform", **changes)
    config.method_args = arguments
    return train(config)


def chosen_to_teach(monkeypatch: pytest.MonkeyPatch, position: int) -> None:
    """Let held-out labels prefer a stage."""
    for module in ("sstext.selftraining.loop", "sstext.run.shipping"):
        monkeypatch.setattr(f"{module}.choose_stage", lambda run, records: (position, "it is better"))


def test_a_regression_that_is_preferred_is_the_model(
    tiny_run: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards harm: students of a regression were worse than the regression. No start is trained with all labels then."""
    chosen_to_teach(monkeypatch, 0)
    results = run_of(tiny_run, tmp_path / "out", test=None)
    assert [record["stage"] for record in results["rounds"]] == ["regression", "start"]
    expected = {"round": 0, "stage": "regression", "model": "regression", "judged": 0}
    assert {key: results["chosen"][key] for key in expected} == expected
    assert "the regression itself is the model" in results["chosen"]["why"]
    assert not (tmp_path / "out" / "all_labels" / "start").exists()
    own, first = (
        Classifier.from_pretrained(tmp_path / "out" / path, device="cpu")
        for path in ("model", "all_labels/regression/model")
    )
    texts = ["money charged twice", "my parcel is late"]
    temperature, shift = results["chosen"]["temperature"], results["chosen"]["shift"]
    assert list(shift) == own.classes
    expected_logits = first.logits(texts) / temperature + np.array(list(shift.values()))
    np.testing.assert_allclose(own.logits(texts), expected_logits, atol=2e-4)  # the shift is rounded in the results
    assert write_report(tmp_path / "out").exists()


@pytest.mark.slow
def test_chains_may_end_before_their_last_stage(
    tiny_run: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards the place of the final model among the records: with a stage that never ran before it, it was looked up beyond
    their end, after everything was trained."""
    usual = loop.reason_to_stop

    def stops(run: Any, stage: Any, *rest: Any) -> str | None:
        return "it has collapsed" if stage.name == "baseline" else usual(run, stage, *rest)

    monkeypatch.setattr(loop, "reason_to_stop", stops)
    chosen_to_teach(monkeypatch, 1)
    results = run_of(tiny_run, tmp_path / "out", method_args={"plain": True})
    assert [(r["index"], r["stage"]) for r in results["rounds"]] == [(0, "regression"), (1, "baseline"), (2, "final")]
    assert (results["chosen"]["round"], results["chosen"]["stage"]) == (2, "final")
    assert results["chosen"]["judged"] == 1
    assert write_report(tmp_path / "out").exists()


def test_whichever_stage_teaches_the_final_model_is_the_first_round() -> None:
    """Guards `--keep` with several shares, of which an earlier teacher would get the last one, or none."""
    method = method_of(RunConfig(method="auto", keep=[0.25, 0.5], method_args={"plain": True}))
    plan = make_plan(RunConfig(), labeled=64, corpus=1000, folds=2, method=method)
    assert [stage.name for stage in plan.stages] == ["regression", "baseline", "start"]
    assert [plan.keep_after(stage) for stage in plan.stages] == [0.25, 0.25, 0.25]
