"""Chains as tasks of Ray: the same bits as without, failures with a name, a task that dies is begun again."""

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from runs import AtTick, of_chains
from test_workers import SAME, Told, contents

from sstext.config.run_config import RunConfig
from sstext.errors import UserError
from sstext.run.train import open_run, train
from sstext.selftraining import ray_tasks
from sstext.selftraining.workers import TICK, work

pytest.importorskip("ray", reason="ray is not installed; pip install 'sstext[ray]'")
pytestmark = pytest.mark.slow  # every task imports torch
Quick = Callable[..., RunConfig]


@pytest.fixture(scope="module")
def quick(tiny_task: Callable[[Path], Any], tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Quick:
    """`quick(output, **changes)`: options of a run with two chains and two short rounds."""
    task = tiny_task(tmp_path_factory.mktemp("task"))
    return partial(of_chains, task, tiny_encoder, folds=2)


@pytest.fixture(scope="module")
def expected(quick: Quick, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run without Ray leaves."""
    folder = tmp_path_factory.mktemp("local") / "out"
    train(quick(folder))
    return contents(folder)


def test_the_same_bits_and_words_as_without_ray(
    local_ray: Any, quick: Quick, expected: dict[str, bytes], tmp_path: Path
) -> None:
    """Guards other threads or seeds in a task, results that stay in it, and progress and figures that are lost."""
    told = Told()
    train(quick(tmp_path / "out", engine="ray"), reporter=told)
    assert contents(tmp_path / "out") == expected
    assert {path.rsplit("/")[-1] for path in expected} <= set(SAME)
    assert {f"chain {k}, {stage}: training" for k in (1, 2) for stage in ("start", "round 1")} <= set(told.phases)
    assert {name.split("/")[0] for name, _ in told.numbers} >= {"chain_1", "chain_2"}


class _Doomed(ray_tasks._Mailbox):
    """Ends the process of the task at the third step of a training, unless a file says that this has happened."""

    def __init__(self, messages: Any, number: int, died: Path) -> None:
        super().__init__(messages, number)
        self.died, self.ticks = died, 0

    def send(self, message: Any) -> None:
        super().send(message)
        self.ticks += message[0] == TICK
        if self.ticks == 3 and not self.died.exists():
            self.died.touch()
            os._exit(1)


def test_a_task_whose_process_dies_goes_on_from_its_checkpoint(
    local_ray: Any, quick: Quick, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a node does that is taken away. Guards work that is lost, and a run that ends with it."""
    died = tmp_path / "died"

    def doomed(job: tuple, messages: Any, number: int) -> None:
        work(_Doomed(messages, number, died), job)

    monkeypatch.setattr(ray_tasks, "_do", doomed)
    train(quick(tmp_path / "out", engine="ray"))
    assert died.exists()
    assert contents(tmp_path / "out") == expected


def test_one_interruption_stops_all_and_the_run_goes_on(
    local_ray: Any, quick: Quick, expected: dict[str, bytes], tmp_path: Path
) -> None:
    """Ctrl-C in the run reaches the tasks, which write checkpoints. Guards tasks that go on, and a lost training."""
    ctrl_c = AtTick("chain 1, round 1: training", 3, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        train(quick(tmp_path / "out", engine="ray"), reporter=ctrl_c)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    chain = tmp_path / "out" / "chain_1" / "round_1"
    assert not (chain / "fit.json").exists()
    assert list((chain / "checkpoints").glob("checkpoint-*")), "what the task had done is kept"
    train(quick(tmp_path / "out"))  # without Ray: the engine may differ when a run continues
    assert contents(tmp_path / "out") == expected


def test_what_a_task_raises_arrives(local_ray: Any, quick: Quick, tmp_path: Path) -> None:
    """Guards an error of Ray as the message. The stage's folder is a file: no training can begin in it."""
    config = quick(tmp_path / "out", engine="ray")
    folder = open_run(config).chains[1].directory.path
    folder.mkdir(parents=True)
    (folder / "regression").write_text("")
    with pytest.raises(UserError, match=r"chain_2/regression/model: cannot be written, because File exists"):
        train(config)
