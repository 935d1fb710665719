"""Chains in processes of their own: the same bits as one after the other, one interruption for all, failures with a name."""

import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from runs import AtTick, killed, of_chains

from sstext.config.run_config import RunConfig
from sstext.errors import MachineError, UserError
from sstext.progress import Reporter, Tick
from sstext.run.train import open_run, train
from sstext.selftraining import workers as side_by_side
from sstext.selftraining.workers import workers_for

pytestmark = pytest.mark.slow  # every training starts a Python
Quick = Callable[..., RunConfig]
SAME = ("model.safetensors", "pseudo_labels.parquet", "scores.npy", "held_out.npy", "averaged.npy", "fit.json")


class Told(Reporter):
    """Keeps the names of phases, and of figures with their steps."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.phases, self.numbers = list[str](), list[tuple[str, int]]()

    def phase(self, name: str, total: int | None, unit: str, done: int = 0) -> AbstractContextManager[Tick]:
        self.phases.append(name)
        return super().phase(name, total, unit, done)

    def figures(self, values: Any, step: int = 0) -> None:
        self.numbers += [(name, step) for name in values]


@pytest.fixture(scope="module")
def quick(tiny_task: Callable[[Path], Any], tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Quick:
    """`quick(output, **changes)`: options of a run with three chains and two short rounds."""
    task = tiny_task(tmp_path_factory.mktemp("task"))
    return partial(of_chains, task, tiny_encoder, folds=3)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.name in SAME}


@pytest.fixture(scope="module")
def expected(quick: Quick, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run with one chain after the other leaves."""
    folder = tmp_path_factory.mktemp("one") / "out"
    train(quick(folder))
    return contents(folder)


def test_the_same_bits_and_words_as_one_after_the_other(
    quick: Quick, expected: dict[str, bytes], tmp_path: Path
) -> None:
    """Three chains, two at a time. Guards trainings that see each other's seeds, and progress or figures that are lost."""
    told = Told()
    train(quick(tmp_path / "out", workers=2), reporter=told)
    assert contents(tmp_path / "out") == expected
    assert {f"chain {k}, {stage}: training" for k in (1, 2, 3) for stage in ("start", "round 1")} <= set(told.phases)
    assert "chain 3, start: scoring" in told.phases
    chains = [name.split("/")[0] for name, _ in told.numbers if name.startswith("chain_")]
    trainings = [chain for chain, _ in groupby(chains)]
    assert trainings == ["chain_1", "chain_2", "chain_3"] * 3, "in the order of the chains, stage by stage"


def test_teachers_side_by_side_make_the_same_student(quick: Quick, tmp_path: Path) -> None:
    """With one round, the chains only make teachers. Guards a regression that a worker scores the corpus with for nobody."""
    for name, workers in (("one", 1), ("three", 3)):
        train(quick(tmp_path / name, rounds=1, workers=workers))
    assert contents(tmp_path / "one") == contents(tmp_path / "three")
    assert not (tmp_path / "three" / "chain_1" / "regression" / "scores.npy").exists()


def test_one_interruption_stops_all_and_the_run_goes_on(
    quick: Quick, expected: dict[str, bytes], tmp_path: Path
) -> None:
    """Ctrl-C reaches the run, which hands it on: each worker writes a checkpoint. Guards orphans, and a lost training."""
    config = quick(tmp_path / "out", workers=2)
    ctrl_c = AtTick("chain 1, round 1: training", 3, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        train(config, reporter=ctrl_c)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not (tmp_path / "out" / "chain_3" / "round_1" / "fit.json").exists(), "nothing new is begun"
    train(config)
    assert contents(tmp_path / "out") == expected


def test_a_worker_that_dies_is_named_and_the_others_are_kept(
    quick: Quick, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the system's killer does it for memory. Guards a run that waits for ever, and work that is lost."""
    config, started = quick(tmp_path / "out", workers=2), side_by_side._started

    def doomed(job: Any, slot: int, workers: int) -> Any:
        pipe = started(job, slot, workers)
        if job.chain.number == 2:
            job.process.kill()
        return pipe

    monkeypatch.setattr(side_by_side, "_started", doomed)
    with pytest.raises(
        MachineError, match="chain 2, regression: training: its process ended with the code -9, possibly because"
    ):
        train(config)
    monkeypatch.undo()
    train(config)
    assert contents(tmp_path / "out") == expected


def test_a_worker_that_is_gone_before_it_has_its_job_is_named(
    quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where Python cannot start. Guards a broken pipe as the message."""
    monkeypatch.setattr(side_by_side.sys, "executable", "/bin/false")
    with pytest.raises(
        UserError, match=r"chain [12], regression: training: its process ended with the code 1, possibly"
    ):
        train(quick(tmp_path / "out", workers=2))


def test_what_a_worker_raises_arrives(quick: Quick, tmp_path: Path) -> None:
    """Guards a failure that is shown as a dead process. The stage's folder is a file: no training can begin in it."""
    config = quick(tmp_path / "out", workers=3)
    run = open_run(config)
    folder = run.chains[1].directory.path
    folder.mkdir(parents=True)
    (folder / "regression").write_text("")
    with pytest.raises(UserError, match=r"chain_2/regression/model: cannot be written, because File exists"):
        train(config)


def test_how_many_at_a_time(quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One on a CPU, one per GPU, as told, and one where a launcher has shared out the devices."""
    config = quick(tmp_path)
    assert workers_for(config) == 1
    assert workers_for(quick(tmp_path, workers=4)) == 4
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert workers_for(quick(tmp_path, device="auto")) == 2
    assert workers_for(quick(tmp_path, device="cuda:1")) == 1

    class Launched:
        num_processes = 2

    monkeypatch.setattr(side_by_side, "PartialState", Launched)
    assert workers_for(quick(tmp_path, workers=4)) == 1


def test_killed_while_it_waits(quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is raised in the run's own process while workers run (a notebook's stop) stops them, too. Guards orphans."""
    jobs, started = [], side_by_side._started

    def remembered(job: Any, slot: int, workers: int) -> Any:
        jobs.append(job)
        return started(job, slot, workers)

    monkeypatch.setattr(side_by_side, "_started", remembered)
    with pytest.raises(KeyboardInterrupt):
        train(quick(tmp_path / "out", workers=3), reporter=AtTick("chain 2, start: training", 1, killed))
    assert len(jobs) == 2 * 3, "the regressions, and the starts"
    assert all(job.process.poll() is not None for job in jobs)
