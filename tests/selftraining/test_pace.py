"""The estimate of a plan against the work of its run: counted in tokens, so that no test depends on the speed of a machine."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import CLASS_WORDS, NOISE_WORDS
from transformers import BertModel

from sstext.config.run_config import RunConfig
from sstext.run.opening import open_chain
from sstext.run.train import train
from sstext.selftraining import choice, loop
from sstext.selftraining import pace as pace_module
from sstext.selftraining.pace import Pace
from sstext.selftraining.verdict import Gain, Verdict

Quick = Callable[..., RunConfig]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """`counted.tokens`: padded tokens that have passed the encoder since the pace was measured, three times if the pass has a
    gradient (backward, it is twice the work). It is the clock of the measurement, too. `counted.measuring`: those before."""
    found, forward, measure = SimpleNamespace(tokens=0), BertModel.forward, Pace.measure

    def counting(self: Any, input_ids: Any = None, *args: Any, **kwargs: Any) -> Any:
        found.tokens += input_ids.numel() * (3 if torch.is_grad_enabled() else 1)
        return forward(self, input_ids, *args, **kwargs)

    def measured(chain: Any) -> Pace:
        made = measure(chain)
        found.measuring, found.tokens = made.measuring, 0
        return replace(made, measuring=0.0)

    monkeypatch.setattr(BertModel, "forward", counting)
    monkeypatch.setattr(pace_module, "_now", lambda device: float(found.tokens))
    monkeypatch.setattr(Pace, "measure", measured)
    return found


@pytest.fixture
def _all_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run goes through all of its stages, and chooses the last one, as the plan has it. On twelve labels it often stops."""
    better = Gain(0.1, 0.1, 0.1)
    monkeypatch.setattr(loop, "judge", lambda *_: [Verdict(None, None), Verdict(better, None)])
    monkeypatch.setattr(choice, "choose", lambda records, *_: (records[-1].index, "it is the last one"))


SLOW = pytest.mark.slow


@pytest.mark.usefixtures("_all_stages")
@pytest.mark.parametrize("options", [
    {"method": "auto", "folds": 2},
    {"method": "class-balanced", "rounds": 2},
    {"method": "auto", "method_args": {}, "labeled": None, "descriptions": CLASS_WORDS, "test": None},
    pytest.param({"method": "auto", "folds": 2, "descriptions": "names", "test": None}, marks=SLOW),
    pytest.param({"method": "auto", "folds": 2, "method_args": {"plain": True}}, marks=SLOW),
    pytest.param({"method": "auto", "folds": 2, "rounds": 2}, marks=SLOW),
    pytest.param({"method": "auto", "folds": 2, "rounds": 0}, marks=SLOW),
    pytest.param({"method": "auto", "folds": 0}, marks=SLOW),
    pytest.param({"method": "auto", "dev": "dev.csv", "training_args": {"early_stopping_patience": 99}}, marks=SLOW),
    pytest.param({"method": "softmatch", "folds": 2}, marks=SLOW),
    pytest.param({"method": "ust", "method_args": {"passes": 4}}, marks=SLOW),
    pytest.param({"method": "noisy-student", "folds": 3}, marks=SLOW),
    pytest.param({"method": "supervised", "regularizers": {"r-drop": 1.0}, "folds": 2, "rounds": 0}, marks=SLOW),
], ids=str)  # fmt: skip
def test_the_estimate_is_the_work_of_the_run(
    options: dict[str, Any], tiny_run: Quick, tiny_files: Any, tmp_path: Path, counted: SimpleNamespace
) -> None:
    """Guards parts of a run that have no price (probes, regressions, held-out rows, test rows), parts that are priced twice,
    batches that are shorter than the others, and steps of a method that reads unlabeled rows at the price of plain ones."""
    if "dev" in options:
        options = options | {"dev": str(tiny_files.dev)}
    train(tiny_run(tmp_path / "out", budget="99h", **options))
    expected = json.loads((tmp_path / "out" / "plan.json").read_text())["seconds"]
    assert expected / counted.tokens == pytest.approx(1, abs=0.12)


def test_every_kind_of_step_is_measured_once(tiny_run: Quick, tmp_path: Path, counted: SimpleNamespace) -> None:
    """Guards a stage without a price, a regression with one (it has no steps), and a short run that takes longer than planned
    because its pace is measured."""
    whole = open_chain(tiny_run(tmp_path / "out", method="auto", folds=2, rounds=2))
    pace = Pace.measure(whole)
    assert list(pace.steps) == ["regression", "start", "round 1", "round 2", "baseline"]
    assert pace.steps["regression"] == 0
    assert pace.steps["round 1"] == pace.steps["round 2"] > pace.steps["baseline"] > 0, "32 rows a step, and 16"
    assert pace.exact == pace.text > 0
    assert not list((tmp_path / "out").glob("**/checkpoints")), "nothing is left of it"
    assert counted.measuring > 4 * pace.steps["round 1"], "a warm-up and three steps at least"
    longer = replace(pace, measuring=100.0)
    assert longer.seconds(whole, whole.plan) == pytest.approx(pace.seconds(whole, whole.plan) + 100.0)


def test_steps_are_priced_with_all_unlabeled_rows(tiny_run: Quick, tmp_path: Path, counted: SimpleNamespace) -> None:
    """Guards a budget that is overrun: a new head is not confident of any text, and a trained one is."""
    prices = [
        Pace.measure(
            open_chain(tiny_run(tmp_path / str(at), method="fixmatch", method_args={"threshold": at}, folds=0))
        )
        for at in (0.0, 1.1)
    ]
    assert prices[0].steps == prices[1].steps


@pytest.mark.slow
@pytest.mark.usefixtures("_all_stages")
@pytest.mark.parametrize(
    ("labels", "corpus", "start", "final"),
    [(64, 1_000, 24, 62), (240, 3_000, 90, 187), (64, 100_000, 24, 2_000), (2_000, 1_000, 500, 62)],
)
def test_the_estimate_holds_for_many_rows(
    labels: int, corpus: int, start: int, final: int, tiny_run: Quick, tmp_path: Path, counted: SimpleNamespace
) -> None:
    """Texts of 4 to 40 words, and as many steps as they get by default: start, final model and corpus have other shares of the
    work than with twelve labels. Guards numbers of steps that are not those of the trainings."""
    rng = np.random.default_rng(0)

    def texts(count: int) -> list[tuple[str, str]]:
        classes = list(CLASS_WORDS)
        return [
            (" ".join(rng.choice(f"{CLASS_WORDS[label]} {NOISE_WORDS}".split(), rng.integers(4, 41))), label)
            for label in (classes[row % 3] for row in range(count))
        ]

    for name, count in (("labeled", labels), ("test", 200)):
        lines = [f"{text},{label}\n" for text, label in texts(count)]
        (tmp_path / f"{name}.csv").write_text("".join(["text,label\n", *lines]))
    (tmp_path / "unlabeled.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text, _ in texts(corpus)))
    files = {name: str(next(tmp_path.glob(f"{name}.*"))) for name in ("labeled", "test", "unlabeled")}
    options = {"method": "auto", "folds": 2, "steps": None, "round_steps": None, "budget": "99999h"}
    found = train(tiny_run(tmp_path / "out", **files, **options))
    steps = [record["steps"] for record in found["rounds"]]
    assert steps == [0, 2 * start, final], (
        "24 passes over the labels of a chain, 500 steps at most; 1.5 over the corpus, 2,000 at most"
    )
    expected = json.loads((tmp_path / "out" / "plan.json").read_text())["seconds"]
    assert expected / counted.tokens == pytest.approx(1, abs=0.1)
