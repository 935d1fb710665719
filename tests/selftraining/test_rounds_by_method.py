"""The round loop by the methods that have a rule of their own: limits, balance, noise, and a kill that changes nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import AtTick, contents, killed, pseudo_labels

from sstext.cli.main import main
from sstext.config.run_config import RunConfig
from sstext.errors import UserError
from sstext.progress import Reporter
from sstext.pseudolabels.alignment import CorpusScores
from sstext.run.opening import open_chain
from sstext.run.train import self_train

Quick = Callable[..., RunConfig]


@pytest.fixture(scope="module")
def quick(tiny_task: Callable[[Path], Any], tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Quick:
    """`quick(output, **changes)`: options of a run of two short rounds."""
    task = tiny_task(tmp_path_factory.mktemp("task"))

    def configure(output: Path, **changes: Any) -> RunConfig:
        options = {"labeled": str(task.labeled), "unlabeled": str(task.unlabeled), "encoder": str(tiny_encoder),
                   "output": str(output), "steps": 6, "round_steps": 6, "rounds": 2, "learning_rate": 5e-3,
                   "keep": [0.3, 0.5], "precision": "fp32", "device": "cpu"}  # fmt: skip
        arguments = {"round_learning_rate": 5e-3, "stop_agreement": 1.01} | changes.pop("method_args", {})
        return RunConfig(**options | changes, method_args=arguments)

    return configure


def test_self_training_without_a_threshold_takes_the_whole_corpus(quick: Quick, tmp_path: Path) -> None:
    """The limit τ = 0: every text, in every round, and no quota in its way."""
    rounds = list(self_train(quick(tmp_path / "out", method="self-training", method_args={"threshold": 0})))
    assert [record.admitted for record in rounds] == [0, 60, 60]
    assert [record.coverage for record in rounds] == [0, 1, 1]


def test_self_training_stops_where_its_threshold_is_out_of_reach(quick: Quick, tmp_path: Path) -> None:
    """The other limit; guards a sentence that names the option instead of the method's threshold."""
    (record,) = self_train(quick(tmp_path / "out", method="self-training", method_args={"threshold": 1.01}))
    assert record.stopped_because == "no text is predicted with a confidence of 1.01 or more"


def test_noisy_student_counts_a_row_that_joins_twice_once_in_the_coverage(quick: Quick, tmp_path: Path) -> None:
    """20 texts of each class are wanted, fewer are confident: guards a coverage beyond 1, and classes out of balance."""
    confident = {"threshold": 0.7}
    config = quick(tmp_path / "out", rounds=1, steps=30, keep=[1.0], method="noisy-student", method_args=confident)
    record = list(self_train(config))[1]
    distinct = len(set(pseudo_labels(tmp_path / "out", 1)["row"]))
    assert record.per_class == {"account": 20, "delivery": 20, "refund": 20}
    assert record.coverage == distinct / 60 < record.admitted / 60 == 1


@pytest.mark.parametrize("dropout", [0.1, 0.0])
def test_weights_of_ust_are_finite(dropout: float, quick: Quick, tmp_path: Path) -> None:
    """Without dropout no pass varies, and log(1/0) would make every loss infinite; with it, rows differ in their weight."""
    config = quick(tmp_path / "out", rounds=1, steps=30, method="ust", method_args={"passes": 3}, dropout=dropout)
    record = list(self_train(config))[1]
    kept = pseudo_labels(tmp_path / "out", 1)
    assert record.per_class == {"account": 6, "delivery": 6, "refund": 6}
    assert np.isfinite(kept["weight"]).all()
    assert (len(set(kept["weight"])) > 1) == (dropout > 0)
    assert max(kept["weight"]) <= -np.log(1e-10) + 1e-5
    log = [json.loads(line) for line in (tmp_path / "out" / "round_1" / "log.jsonl").read_text().splitlines()]
    assert all(np.isfinite(entry["train_loss"]) for entry in log if "train_loss" in entry)


@pytest.mark.parametrize(
    ("method", "arguments", "kills"),
    [
        ("ust", {"passes": 3, "subset": 50}, [("baseline: dropout passes", 3), ("round 1: training", 3)]),
        ("noisy-student", {}, [("round 1: scoring", 1)]),
        # A kill in a training of a later round: test_loop.py has it in the fast suite.
        pytest.param("self-training", {"threshold": 0.4}, [("round 2: training", 3)], marks=pytest.mark.slow),
        ("margin-history", {}, [("round 1: scoring", 1)]),
    ],
)
def test_an_interrupted_method_of_the_round_loop_ends_in_the_same_bits(
    method: str, arguments: dict[str, Any], kills: list[tuple[str, int]], quick: Quick, tmp_path: Path, monkeypatch: Any
) -> None:
    """Guards dropout masks and draws against a kill: they are of the seed, the stage, the chunk and the pass alone."""
    monkeypatch.setattr("sstext.inference.corpus_scores.CHUNK_ROWS", 60)  # 20 texts with three passes
    asked = {"method": method, "method_args": arguments, "training_args": {"save_steps": 2}}
    list(self_train(quick(tmp_path / "whole", **asked)))
    for phase, tick in kills:
        reporter = AtTick(phase, tick, killed)
        with pytest.raises(KeyboardInterrupt):
            list(self_train(quick(tmp_path / "out", **asked), reporter=reporter))
        assert reporter.ticks[phase] == tick
    assert len(list(self_train(quick(tmp_path / "out", **asked)))) == 3
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_methods_of_the_round_loop_want_rounds_and_say_which_options_they_do_not_read(
    quick: Quick, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards against a supervised run under another name, and against options that are dropped without a word."""
    noted: list[str] = []
    reporter = Reporter()
    reporter.note = noted.append  # type: ignore[method-assign]
    open_chain(quick(tmp_path / "dry", method="ust", method_args={"passes": 2}, dropout=0.0), reporter)
    assert any(note.startswith("ust: the encoder has no dropout, so all passes agree") for note in noted)
    for regularizers in ({}, {"entropy": 0.1}):
        with pytest.raises(UserError, match="method: ust needs rounds of pseudo-labels; give rounds=1 or more"):
            open_chain(quick(tmp_path / "refused", method="ust", rounds=0, regularizers=regularizers))
    with pytest.raises(UserError, match=r"rounds: supervised trains on the labels alone; .* class-balanced"):
        open_chain(quick(tmp_path / "refused", method="supervised", rounds=1))
    open_chain(quick(tmp_path / "out", method="self-training", keep=[0.1], prior="uniform"), Reporter())
    said = capsys.readouterr().err
    assert "prior has no effect: self-training selects rows in its own way" in said
    assert "keep has no effect: self-training" in said


@pytest.mark.parametrize(
    ("method", "noisy"), [("self-training", False), ("noisy-student", True), ("class-balanced", True)]
)
def test_token_edits_are_noise_of_the_students_that_want_it(
    method: str, noisy: bool, quick: Quick, tmp_path: Path
) -> None:
    """With all tokens masked or none: guards against classic self-training on noised texts, and a Noisy Student without."""
    logits = np.random.default_rng(0).normal(size=(60, 3))
    arguments = {} if method == "class-balanced" else {"threshold": 0.3}
    models = []
    for mask in (0.0, 1.0):
        settings = {"method": method, "method_args": arguments, "edits": {"mask": mask}, "dropout": 0.0, "steps": 1}
        chain = open_chain(quick(tmp_path / str(mask), **settings))
        baseline, first = chain.plan.stages[:2]
        chain.fit(baseline)
        chain.select_from(first, CorpusScores(logits), keep=first.keep)
        chain.fit(first)
        models.append(chain.students.load(first).state_dict())
    same = all(torch.equal(models[0][name], models[1][name]) for name in models[0])
    assert same == (not noisy)


@pytest.mark.parametrize(
    ("method", "arguments", "quality"),
    [
        ("self-training", "threshold=0.4", "hard"),
        ("noisy-student", "threshold=0.2", "soft"),
        ("ust", "passes=3", "weighted"),
    ],
)
def test_a_method_of_the_round_loop_is_one_flag(
    method: str, arguments: str, quality: str, quick: Quick, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards the whole way from the flag to a trained model, with the pseudo-labels that are each method's own."""
    (tmp_path / "recipe.yaml").write_text(quick(tmp_path / "out", rounds=1).to_yaml())
    flags = ["--output", str(tmp_path / "out"), "--method", method, "--method-args", arguments]
    assert main(["train", str(tmp_path / "recipe.yaml"), *flags]) == 0
    assert "Chosen: round 1" in capsys.readouterr().out
    kept = pseudo_labels(tmp_path / "out", 1)
    assert kept["row"]
    assert ("target" in kept) == (quality == "soft")
    assert (max(kept["weight"]) > 1) == (quality == "weighted")
    assert (tmp_path / "out" / "baseline" / "passes.npy").exists() == (method == "ust")
    assert (tmp_path / "out" / "model" / "model.safetensors").is_file()
