"""The plan of a run on its data: what it costs, what a budget leaves of it, and how its folder keeps it."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from sstext.config.run_config import RunConfig
from sstext.progress import Reporter
from sstext.run.opening import open_chain
from sstext.run.train import open_run, train
from sstext.selftraining import budget as budget_module
from sstext.selftraining.budget import Pace, cut, plan_in_budget
from sstext.selftraining.chain import Chain
from sstext.selftraining.cross_fitting import make_run
from sstext.selftraining.plan import Plan

Quick = Callable[..., RunConfig]
#: 1 s a step of the baseline, 2 s a further one, .1 s a text.
PACE = Pace({"baseline": 1.0, "start": 2.0, "round 1": 2.0}, 0.1)


@pytest.fixture(scope="module")
def quick(tiny_task: Callable[[Path], Any], tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Quick:
    task = tiny_task(tmp_path_factory.mktemp("task"))

    def configure(output: Path, **changes: Any) -> RunConfig:
        options = {"labeled": str(task.labeled), "unlabeled": str(task.unlabeled), "encoder": str(tiny_encoder),
                   "output": str(output), "steps": 10, "round_steps": 20, "precision": "fp32", "device": "cpu"}  # fmt: skip
        return RunConfig(**options | changes)

    return configure


@pytest.fixture(scope="module")
def chain(quick: Quick, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """auto with its three folds: baseline, start on labels alone, a round with pseudo-labels; 60 unlabeled texts."""
    return open_chain(quick(tmp_path_factory.mktemp("plan") / "out"))


def steps(plan: Plan) -> list[int]:
    return [plan.steps(stage) for stage in plan.stages]


# What it costs


def test_seconds_by_hand(chain: Chain) -> None:
    """Three chains of 10 + 20 + 20 steps, the final model the same: 4 · (10 · 1 + 40 · 2) = 360 s; texts: 3 chains score
    the corpus after the start and the round, the start on all labels for the final model: 7 · 60 · .1 = 42 s. One chain: 90 s,
    and a scoring after the start: 6 s."""
    assert steps(chain.plan) == [10, 20, 20]
    assert chain.plan.folds == 3
    assert PACE.seconds(chain, chain.plan) == pytest.approx(360 + 42)
    assert PACE.seconds(chain, replace(chain.plan, folds=0, final=None)) == pytest.approx(90 + 6)


def timed_by_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step takes a second."""
    seconds = count()
    monkeypatch.setattr(budget_module, "_now", lambda device: float(next(seconds)))


def test_a_method_inside_a_step_is_priced_where_it_reads_unlabeled_rows(
    quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """softmatch with two folds: its baseline reads labels alone. Its start and its round also pass two unlabeled rows per
    labeled one through teacher (a third of the work) and student: 1 + 2 · 4/3.

    Guards the fault of version 0.1, which priced stages by their position: `first = more · step(…, 0)` and
    `further = step(…)`, `more` from the method of the run. The baseline then cost 11/3 s a step here, and start and
    round 1 s, so that a budget was exceeded by those that are long.
    """
    timed_by_steps(monkeypatch)
    opened = open_chain(quick(tmp_path / "out", method="softmatch", folds=2, rounds=1))
    pace = Pace.measure(opened)
    assert pace.steps == {"baseline": 1.0, "start": pytest.approx(11 / 3), "round 1": pytest.approx(11 / 3)}
    # Two chains, and all labels: 3 · (10 · 1 + 10 · 11/3) s; their rounds, and the final model: 3 · 20 · 11/3 s.
    free = replace(pace, text=0.0)
    assert free.seconds(opened, opened.plan) == pytest.approx(3 * (10 + 10 * 11 / 3) + 3 * 20 * 11 / 3)
    alone = open_chain(quick(tmp_path / "alone", method="softmatch", folds=0, rounds=0))
    assert Pace.measure(alone).steps == {"start": pytest.approx(11 / 3)}, "without folds, there is no baseline"


def test_every_kind_of_step_is_measured(quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """auto's stages read no unlabeled rows inside a step. Guards a stage without a price."""
    timed_by_steps(monkeypatch)
    opened = open_chain(quick(tmp_path / "out", rounds=2))
    assert Pace.measure(opened).steps == dict.fromkeys(["baseline", "start", "round 1", "round 2"], 1.0)


# What a budget leaves


@pytest.mark.parametrize(("budget", "expected", "rounds", "folds", "left_out"), [
    (1_000, [10, 20, 20], 1, 3, []),
    (401, [8, 17, 17], 1, 3, ["15% of the steps"]),
    (300, [10, 20, 20], 1, 2, ["1 of the chains"]),
    (250, [10, 20], 0, 3, ["all rounds of pseudo-labels"]),
    (200, [8, 17], 0, 3, ["15% of the steps", "all rounds of pseudo-labels"]),
    (60, [10, 20], 0, 0, ["all rounds of pseudo-labels", "folds, so that self-training is not checked"]),
    (20, [10], 0, 0, ["all rounds of pseudo-labels", "the start on the labels", "folds, so that self-training is not checked"]),
    (1, [5], 0, 0, ["50% of the steps", "all rounds of pseudo-labels", "the start on the labels",
                    "folds, so that self-training is not checked"]),
])  # fmt: skip
def test_a_budget_cuts_steps_then_rounds_then_folds(
    chain: Chain, budget: float, expected: list[int], rounds: int, folds: int, left_out: list[str]
) -> None:
    """Guards the order: folds go last, since nothing tells harm from gain without them; and a plan over its budget."""
    made = cut(chain, PACE, budget)
    assert (steps(made), made.rounds, made.folds, list(made.left_out)) == (expected, rounds, folds, left_out)
    assert made.seconds is not None
    assert made.seconds <= budget or budget == 1
    assert (made.final is not None) == (rounds > 0)
    assert made.final is None or made.steps(made.final) == expected[-1]


def test_a_plan_is_what_is_trained(quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan is made once and recorded; a slower machine that continues the run goes by it."""
    monkeypatch.setattr(Pace, "measure", lambda chain: PACE)
    notes: list[str] = []

    class Noting(Reporter):
        def note(self, message: str) -> None:
            notes.append(message)

    config = quick(tmp_path / "out", budget="3m20s")
    results = train(config, reporter=Noting())
    assert [record["steps"] for record in results["rounds"]] == [24, 51]
    assert results["rounds"][-1]["stopped_because"] == "all rounds are done"
    said = "budget 3m20s: about 3 min 6 s; left out: 15% of the steps, all rounds of pseudo-labels"
    assert said in notes
    assert results["left_out"] == ["15% of the steps", "all rounds of pseudo-labels"]
    recorded = json.loads((tmp_path / "out" / "plan.json").read_text())
    monkeypatch.setattr(Pace, "measure", lambda chain: Pace(dict.fromkeys(PACE.steps, 100.0), 100.0))
    again = open_run(config)
    assert again.whole.plan == again.plan
    assert [(stage["name"], stage["steps"]) for stage in recorded["stages"]] == [("baseline", 8), ("start", 17)]
    assert again.plan.record() == recorded
    assert again.chains[0].steps(again.plan.stages[1], 10_000) == 17


def test_a_plan_with_fewer_folds_shares_the_labels_out_anew(chain: Chain) -> None:
    """Two chains of six labels each: guards against the first two of three, which would leave a third unheld."""
    two = make_run(chain, cut(chain, PACE, 300))
    assert [len(one.held_out) for one in two.chains] == [6, 6]
    assert two.whole.directory.path == chain.directory.path / "all_labels"
    assert two.directory.path == chain.directory.path


def test_a_plan_of_plain_fine_tuning_alone_ends_with_it(chain: Chain) -> None:
    """Guards a start that half of its steps leave without any confidence, chosen because it came last."""
    alone = make_run(chain, cut(chain, PACE, 20))
    assert ([stage.name for stage in alone.plan.stages], steps(alone.plan)) == (["baseline"], [10])
    assert alone.plan.last is alone.plan.baseline
    assert alone.whole.plan is alone.plan
    assert not alone.cross_fitted


def test_a_plan_without_folds_is_one_chain_in_the_runs_folder(chain: Chain) -> None:
    alone = make_run(chain, cut(chain, PACE, 60))
    assert alone.chains == [alone.whole]
    assert alone.whole.directory.path == alone.directory.path == chain.directory.path
    assert not alone.cross_fitted


# How it is kept


@pytest.mark.parametrize("budget", [None, "1000s"])
def test_the_plan_is_in_the_folder_of_every_run(
    budget: str | None, quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards `plan.json` of a run without a budget, which no measurement is made for, and a plan that is written twice."""
    monkeypatch.setattr(Pace, "measure", (lambda chain: PACE) if budget else None)
    config = quick(tmp_path / "out", budget=budget)
    file = tmp_path / "out" / "plan.json"
    run = open_run(config)
    recorded = json.loads(file.read_text(encoding="utf-8"))
    assert recorded == run.plan.record()
    assert [stage["name"] for stage in recorded["stages"]] == ["baseline", "start", "round 1", "final"]
    assert recorded["seconds"] == (None if budget is None else pytest.approx(402))
    written = file.stat().st_mtime_ns
    assert open_run(config).plan.record() == recorded
    assert file.stat().st_mtime_ns == written


def test_a_plan_of_version_0_1_in_the_folder_is_followed(quick: Quick, tmp_path: Path, monkeypatch: Any) -> None:
    """Guards an interrupted run with a budget: it is neither measured again nor given other steps by a newer version."""
    monkeypatch.setattr(Pace, "measure", None)
    opened = open_chain(quick(tmp_path / "out", budget="10m"))
    old = {"steps": [8, 17, 17], "rounds": 1, "folds": 2, "seconds": 1, "left_out": []}
    (tmp_path / "out" / "plan.json").write_text(json.dumps(old))
    made = plan_in_budget(opened)
    assert (steps(made), made.folds, made.rounds, made.seconds, made.left_out) == ([8, 17, 17], 2, 1, 1, ())
    assert made.final is not None
    assert made.steps(made.final) == 17
    assert json.loads((tmp_path / "out" / "plan.json").read_text()) == old
