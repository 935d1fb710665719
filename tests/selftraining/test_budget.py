"""The plan of a run on its data: what it costs, what a budget leaves of it, and how its folder keeps it."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from sstext.config.run_config import RunConfig
from sstext.progress import Reporter
from sstext.run.opening import open_chain
from sstext.run.train import open_run, train
from sstext.selftraining import choice
from sstext.selftraining.budget import cut, price
from sstext.selftraining.chain import Chain
from sstext.selftraining.cross_fitting import make_run
from sstext.selftraining.pace import Pace, counter_of
from sstext.selftraining.plan import Plan
from sstext.selftraining.planning import make_plan
from sstext.selftraining.work import Counter, Work

Quick = Callable[..., RunConfig]
#: 1 s a step of the baseline, 2 s a further one, 10 ms a text. A regression has no steps, and the rest is free.
PACE = Pace({"regression": 0.0, "baseline": 1.0, "start": 2.0, "round 1": 2.0, "round 2": 2.0}, 0.01, exact=0.0)

COMPARISON = "the comparison with plain fine-tuning on the test rows"
#: The folds, left out of a plan with rounds and of one without.
NO_FOLDS, NO_CHECK = (f"the folds ({what} is then not checked)" for what in ("self-training", "the model"))


@pytest.fixture(scope="module", autouse=True)
def long_start() -> Iterator[None]:
    """The numbers below are those of a start that is as long as a round: 48 steps, cut to 20 by `round_steps`."""
    module = import_module("sstext.methods.auto")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "START", replace(module.START, least=48))
        yield


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
    """auto with its three folds: regression, start on labels alone, a final model; 60 unlabeled texts, no test rows."""
    return open_chain(quick(tmp_path_factory.mktemp("plan") / "out"))


def steps(plan: Plan) -> list[int]:
    return [plan.steps(stage) for stage in plan.stages]


# What it costs


def test_work_by_hand(chain: Chain) -> None:
    """12 labels in three folds, 60 texts. Guards what the estimate once left out: regressions, probes, samples and files.

    A chain has 8 labels. Its regression reads them (8) and predicts 4 held-out rows. Its start begins as a regression (8). A
    probe reads 8 labels and 60 texts, three times: for its temperature, for the held-out rows (and 4), and before the corpus
    (60), then in the precision of the run.

    The regressions of all chains read the same embeddings of a sample of the corpus (60, at most 512). With all labels,
    regression (12) and start (12 + 72) are trained, and label the corpus (72 + 60). The regressions label it together (60).
    The final model gets a temperature (72), and labels a sample twice.
    """
    counter = Counter(chain.plan)
    work = counter.chain()
    assert work.steps == {"start": 20}
    assert (work.texts, work.exact, work.fits) == (68 + 60, 8 + 4 + 8 + 68 + (68 + 4), 1 + 1 + 3)
    # regression: encoder, student; held-out rows; sample. start: encoder, calibration, held-out rows, corpus
    assert (work.reads, work.writes) == (3 + 4, 1 + 1 + 3)
    rest = counter.rest()
    assert rest.steps == {"start": 20, "round 1": 20}
    assert (rest.texts, rest.exact, rest.fits) == (60 + 72 + 60 + 60 + 60, 12 + 12 + 72 + 72 + 60, 1 + 2 + 1 + 1)
    told = Counter(chain.plan, told=3, weighs=True).chain()
    assert (told.exact - work.exact, told.texts - work.texts) == (4 * 3, 3), (
        "regressions and probes read texts of classes"
    )
    assert told.fits - work.fits == 5 * 5, "five weights in five folds"
    assert work + Work({"final": 1}, exact=2) == replace(work, steps={"start": 20, "final": 1}, exact=work.exact + 2)


def test_seconds_by_hand(chain: Chain) -> None:
    """Three chains and all labels start with 20 steps, the final model has 20 more: 5 · 20 · 2 = 200 s; 3 · 128 + 312 texts.
    One chain: 2 · 20 · 2 = 80 s, and 132 texts: the corpus after the start, and its probe."""
    assert steps(chain.plan) == [0, 20]
    assert chain.plan.folds == 3
    assert PACE.seconds(chain, chain.plan) == pytest.approx(200 + 6.96)
    assert PACE.seconds(chain, chain.plan.without_folds()) == pytest.approx(80 + 1.32)
    priced = replace(PACE, exact=1.0, fit=10.0, read=100.0, write=1000.0)
    both = [counter_of(chain, chain.plan).chain()] * 3 + [counter_of(chain, chain.plan).rest()]
    assert priced.seconds(chain, chain.plan) - PACE.seconds(chain, chain.plan) == pytest.approx(
        sum(work.exact + 10 * work.fits + 100 * work.reads + 1000 * work.writes for work in both)
    )


def test_seconds_of_chains_that_go_through_rounds(chain: Chain, quick: Quick, tmp_path: Path) -> None:
    """auto with two rounds: three chains of 20 + 20 + 20 steps, all labels with a start and a final model: 11 · 20 · 2 s; a
    chain scores a sample, the corpus with a probe, and twice more: 60 + 128 + 120 texts; all labels and the sample of the final
    model: 192. class-balanced: 3 · (10 + 20 · 2) + 10 + 20 · 2 s, two scorings in every chain, and a sample."""
    made = make_plan(quick(tmp_path / "out", rounds=2), labeled=12, corpus=60, folds=3)
    assert PACE.seconds(chain, made) == pytest.approx(440 + 9.96)
    other = make_plan(quick(tmp_path / "out", method="class-balanced", rounds=1), labeled=12, corpus=60, folds=3)
    assert PACE.seconds(chain, other) == pytest.approx(200 + 4.2)


def test_what_is_trained_for_the_test_rows_alone_has_its_price(chain: Chain) -> None:
    """Plain fine-tuning: 10 steps of 1 s, and a probe reads 72 rows; 30 test rows are read by it, by the regression and by the
    model. Guards a budget that is exceeded by a comparison, and one training that is paid for twice."""
    pace = replace(PACE, exact=0.1)

    def more(plan: Plan) -> float:
        return pace.seconds(chain, replace(plan, test=30)) - pace.seconds(chain, plan)

    assert more(chain.plan) == pytest.approx(10 + 7.2 + 3 * 30 * 0.1)
    other = make_plan(chain.config, labeled=12, corpus=60, folds=3, method=chain.plan.method.without_frozen())
    assert more(other) == pytest.approx(2 * 30 * 0.1), "it is the first stage"
    judged = make_plan(replace(chain.config, method_args={"plain": True}), labeled=12, corpus=60, folds=3)
    assert more(judged) == pytest.approx(3 * 30 * 0.1), "it is a stage, and paid for already"
    plain = chain.plan.method.plain
    assert plain is not None
    seeds = [replace(chain, plan=judged).students.seed(judged.named(name)) for name in ("baseline", "start")]
    assert seeds[0] == chain.students.seed(plain), "the same student, whether it is a stage or not"
    assert seeds[1] != seeds[0]


def test_the_price_of_a_run_without_folds_has_its_round(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the time of a run that would learn nothing from the corpus: 81 s, not the 40 s of a start alone."""
    monkeypatch.setattr(Pace, "measure", lambda chain: PACE)
    assert price(chain) == (
        "chains: 3 chains and a final model take about 3 min 27 s; with folds=0, it takes 1 min 21 s, but does not check "
        "whether self-training helps"
    )


def test_the_price_of_a_run_without_rounds_speaks_of_what_it_has(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a final model and self-training in the sentence of a run that has neither."""
    monkeypatch.setattr(Pace, "measure", lambda chain: PACE)
    said = price(replace(chain, plan=make_plan(replace(chain.config, rounds=0), labeled=12, corpus=60, folds=3)))
    assert said.startswith("chains: 3 chains and a model with all labels take about ")
    assert said.endswith(", but holds out no labels to check the model")


# What a budget leaves


@pytest.mark.parametrize(("budget", "expected", "rounds", "folds", "left_out"), [
    (1_000, [0, 20, 20], 1, 3, []),
    (200, [0, 17, 17], 1, 3, ["15% of the steps"]),
    (170, [0, 20, 20], 1, 2, ["1 of the chains"]),
    (160, [0, 17, 17], 1, 2, ["15% of the steps", "1 of the chains"]),
    (140, [0, 20, 20], 1, 0, [NO_FOLDS]),
    (80, [0, 17, 17], 1, 0, ["15% of the steps", NO_FOLDS]),
    (60, [0, 20], 0, 0, ["all rounds of pseudo-labels", NO_CHECK]),
    (20, [0], 0, 0, ["all rounds of pseudo-labels", "the start on the labels", NO_CHECK]),
])  # fmt: skip
def test_a_budget_cuts_steps_then_chains_then_rounds(
    chain: Chain, budget: float, expected: list[int], rounds: int, folds: int, left_out: list[str]
) -> None:
    """Guards the order: the corpus goes last, since it is what a run is for; and a plan over its budget. `expected`: the steps
    of the stages and of the final model."""
    made = cut(chain, PACE, budget)
    every = [stage for stage in (*made.stages, made.final) if stage is not None]
    assert ([made.steps(stage) for stage in every], made.rounds, made.folds) == (expected, rounds, folds)
    assert list(made.left_out) == left_out
    assert made.seconds is not None
    assert made.seconds <= budget
    assert (made.final is not None) == (folds > 0)


@pytest.mark.parametrize(("budget", "expected", "folds", "left_out"), [
    (219, [0, 20, 20], 3, []),
    (200, [0, 17, 17], 3, ["15% of the steps"]),
    (186, [0, 17, 17], 3, ["15% of the steps", COMPARISON]),
    (176, [0, 20, 20], 2, ["1 of the chains"]),
    (100, [0, 20, 20], 0, [NO_FOLDS]),
    (85, [0, 17, 17], 0, ["15% of the steps", NO_FOLDS]),
    (75, [0, 17, 17], 0, ["15% of the steps", COMPARISON, NO_FOLDS]),
    (5, [0], 0, [COMPARISON, "all rounds of pseudo-labels", "the start on the labels",
                 NO_CHECK]),
])  # fmt: skip
def test_a_budget_leaves_out_the_comparison_before_chains_and_never_shortens_it(
    chain: Chain, budget: float, expected: list[int], folds: int, left_out: list[str]
) -> None:
    """Plain fine-tuning for the test rows: 10 s. Guards a model that pays for a comparison, and one with half of a baseline."""
    made = cut(replace(chain, plan=replace(chain.plan, test=30)), PACE, budget)
    every = [stage for stage in (*made.stages, made.final) if stage is not None]
    assert ([made.steps(stage) for stage in every], made.folds) == (expected, folds)
    assert list(made.left_out) == left_out
    assert made.seconds is not None
    assert made.seconds <= budget
    assert (made.plain is None) == (COMPARISON in left_out)
    assert made.plain is None or made.steps(made.plain) == 10
    assert replace(chain.plan, test=30).cut_to(json.loads(json.dumps(made.record()))) == made, (
        "as a later call reads it"
    )


def test_a_budget_that_nothing_fits_gets_the_shortest_plan(quick: Quick, tmp_path: Path) -> None:
    """Half of plain fine-tuning. Guards an endless search, and a plan of no steps at all."""
    opened = open_chain(quick(tmp_path / "out", method="class-balanced", folds=2, rounds=1))
    made = cut(opened, PACE, 1)
    assert (steps(made), made.folds, made.seconds) == ([5], 0, 5.0)
    assert made.left_out == (
        "50% of the steps", "all rounds of pseudo-labels", NO_CHECK,
    )  # fmt: skip


@pytest.mark.slow
def test_a_plan_is_what_is_trained(quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan is made once and recorded; a slower machine that continues the run goes by it."""
    monkeypatch.setattr(Pace, "measure", lambda chain: PACE)
    monkeypatch.setattr(choice, "choose", lambda records, *_: (records[-1].index, "it was told to"))
    notes: list[str] = []

    class Noting(Reporter):
        def note(self, message: str) -> None:
            notes.append(message)

    config = quick(tmp_path / "out", budget="2m40s")
    results = train(config, reporter=Noting())
    assert [(record["stage"], record["steps"]) for record in results["rounds"]] == [
        ("regression", 0), ("start", 34), ("final", 17),
    ]  # fmt: skip
    assert results["rounds"][-1]["stopped_because"] == "all rounds are done"
    assert "budget 2m40s: about 2 min 22 s; left out: 15% of the steps, 1 of the chains" in notes
    assert results["left_out"] == ["15% of the steps", "1 of the chains"]
    recorded = json.loads((tmp_path / "out" / "plan.json").read_text())
    monkeypatch.setattr(Pace, "measure", lambda chain: Pace(dict.fromkeys(PACE.steps, 100.0), 100.0))
    again = open_run(config)
    assert again.whole.plan == again.plan
    assert len(again.chains) == again.plan.folds == 2
    assert [(stage["name"], stage["steps"]) for stage in recorded["stages"]] == [
        ("regression", 0), ("start", 17), ("final", 17),
    ]  # fmt: skip
    assert again.plan.record() == recorded
    assert again.chains[0].steps(again.plan.stages[1], 10_000) == 17
    assert again.plan.final is not None
    assert again.chains[0].steps(again.plan.final, 10_000) == 17


def test_a_plan_with_fewer_folds_shares_the_labels_out_anew(chain: Chain) -> None:
    """Two chains of six labels each: guards against the first two of three, which would leave a third unheld."""
    two = make_run(chain, cut(chain, PACE, 170))
    assert [len(one.held_out) for one in two.chains] == [6, 6]
    assert two.whole.directory.path == chain.directory.path / "all_labels"
    assert two.directory.path == chain.directory.path


def test_a_plan_of_a_regression_alone_ends_with_it(chain: Chain) -> None:
    """Guards a start that half of its steps leave without any confidence, chosen because it came last."""
    alone = make_run(chain, cut(chain, PACE, 20))
    assert ([stage.name for stage in alone.plan.stages], steps(alone.plan)) == (["regression"], [0])
    assert alone.plan.last is alone.plan.baseline
    assert alone.whole.plan is alone.plan
    assert not alone.cross_fitted
    assert not alone.plan.teaches_once


def test_a_plan_without_folds_is_one_chain_in_the_runs_folder(chain: Chain) -> None:
    """Guards a chain without a fold, and a round that goes with the chains."""
    alone = make_run(chain, cut(chain, PACE, 140))
    assert alone.chains == [alone.whole]
    assert [stage.name for stage in alone.plan.stages] == ["regression", "start", "round 1"]
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
    assert [stage["name"] for stage in recorded["stages"]] == ["regression", "start", "final"]
    assert recorded["seconds"] == (None if budget is None else pytest.approx(206.96))
    written = file.stat().st_mtime_ns
    assert open_run(config).plan.record() == recorded
    assert file.stat().st_mtime_ns == written
