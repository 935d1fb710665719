"""Planning: what a run will do, what it costs, and what a budget leaves of it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sstext.config.run_config import RunConfig
from sstext.progress import Reporter
from sstext.run.opening import open_run
from sstext.run.train import train
from sstext.selftraining import budget as planning
from sstext.selftraining.budget import Pace, cut, in_budget, planned_run, planned_steps
from sstext.selftraining.cross_fitting import Run

Quick = Callable[..., RunConfig]
#: 1 s a step of round 0, 2 s a further one, .1 s a text.
PACE = Pace(1.0, 2.0, 0.1)


@pytest.fixture(scope="module")
def quick(tiny_task: Callable[[Path], Any], tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Quick:
    task = tiny_task(tmp_path_factory.mktemp("task"))

    def configure(output: Path, **changes: Any) -> RunConfig:
        options = {"labeled": str(task.labeled), "unlabeled": str(task.unlabeled), "encoder": str(tiny_encoder),
                   "output": str(output), "steps": 10, "round_steps": 20, "precision": "fp32", "device": "cpu"}  # fmt: skip
        return RunConfig(**options | changes)

    return configure


@pytest.fixture(scope="module")
def run(quick: Quick, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """auto with its three folds: round 0, a round on labels alone, one with pseudo-labels; 60 unlabeled texts."""
    return open_run(quick(tmp_path_factory.mktemp("plan") / "out"))


def test_seconds_by_hand(run: Run) -> None:
    """Three chains of 10 + 20 + 20 steps, the last student the same: 4 · (10 · 1 + 40 · 2) = 360 s; texts: 3 chains score
    the corpus after rounds 1 and 2, the start on all labels for the last student: 7 · 60 · .1 = 42 s. One chain: 90 s, and a
    scoring after round 1: 6 s."""
    steps = planned_steps(run.whole)
    assert steps == [10, 20, 20]
    assert PACE.seconds(run.whole, steps, 3) == pytest.approx(360 + 42)
    assert PACE.seconds(run.whole, steps, 0) == pytest.approx(90 + 6)


@pytest.mark.parametrize(("budget", "steps", "rounds", "folds", "left_out"), [
    (1_000, [10, 20, 20], 1, 3, []),
    (401, [8, 17, 17], 1, 3, ["15% of the steps"]),
    (300, [10, 20, 20], 1, 2, ["1 of the chains"]),
    (250, [10, 20], 0, 3, ["all rounds of pseudo-labels"]),
    (200, [8, 17], 0, 3, ["15% of the steps", "all rounds of pseudo-labels"]),
    (60, [10, 20], 0, 0, ["all rounds of pseudo-labels", "folds (nothing tells harm from gain)"]),
    (20, [10], 0, 0, ["all rounds of pseudo-labels", "the start on the labels", "folds (nothing tells harm from gain)"]),
    (1, [5], 0, 0, ["50% of the steps", "all rounds of pseudo-labels", "the start on the labels",
                    "folds (nothing tells harm from gain)"]),
])  # fmt: skip
def test_a_budget_cuts_steps_then_rounds_then_folds(
    run: Run, budget: float, steps: list[int], rounds: int, folds: int, left_out: list[str]
) -> None:
    """Guards the order: folds go last, since nothing tells harm from gain without them; and a plan over its budget."""
    made = cut(run.whole, PACE, 3, budget)
    assert (made.steps, made.rounds, made.folds, made.left_out) == (steps, rounds, folds, left_out)
    assert made.seconds <= budget or budget == 1


def test_a_plan_is_what_is_trained(quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan is made once and recorded; a slower machine that continues the run goes by it."""
    monkeypatch.setattr(planning.Pace, "measured", lambda chain: PACE)
    notes: list[str] = []

    class Noting(Reporter):
        def note(self, message: str) -> None:
            notes.append(message)

    config = quick(tmp_path / "out", budget="3m20s")
    monkeypatch.setattr(planning, "planned_steps", lambda chain: [10, 20, 20])
    results = train(config, reporter=Noting())
    assert [record["steps"] for record in results["rounds"]] == [24, 51]
    said = "budget 3m20s: about 3 min 6 s; left out: 15% of the steps, all rounds of pseudo-labels"
    assert said in notes
    assert results["left_out"] == ["15% of the steps", "all rounds of pseudo-labels"]
    recorded = json.loads((tmp_path / "out" / "plan.json").read_text())
    monkeypatch.setattr(planning.Pace, "measured", lambda chain: Pace(100.0, 100.0, 100.0))
    again = in_budget(open_run(config))
    assert again.whole.planned_steps == tuple(recorded["steps"])
    assert again.chains[0].steps(1, 10_000) == 17


def test_a_plan_with_fewer_folds_shares_the_labels_out_anew(run: Run) -> None:
    """Two chains of six labels each: guards against the first two of three, which would leave a third unheld."""
    two = planned_run(run, replace(cut(run.whole, PACE, 3, 1_000), folds=2))
    assert [len(chain.held_out) for chain in two.chains] == [6, 6]
    assert two.whole.directory.path == run.whole.directory.path


def test_a_plan_of_plain_fine_tuning_alone_ends_with_it(run: Run) -> None:
    """Guards a start that half of its steps leave without any confidence, shipped because it came last."""
    alone = planned_run(run, cut(run.whole, PACE, 3, 20))
    assert (alone.whole.last_round, alone.whole.planned_steps, alone.cross_fitted) == (0, (10,), False)


def test_a_plan_without_folds_is_one_chain_in_the_runs_folder(run: Run) -> None:
    made = replace(cut(run.whole, PACE, 3, 1_000), folds=0, rounds=0)
    alone = planned_run(run, made)
    assert alone.chains == [alone.whole]
    assert alone.whole.directory.path == run.directory.path
    assert not alone.cross_fitted
