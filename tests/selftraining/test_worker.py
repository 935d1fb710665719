"""The process of a worker ends with its run."""

import os
import pickle
import signal
import subprocess
import sys
import time
from multiprocessing.connection import Pipe
from types import SimpleNamespace
from typing import Any

from sstext.progress import Reporter
from sstext.selftraining.worker import ORPHAN
from sstext.selftraining.workers import FIGURES, Job, heard


class Slow:
    """Takes a minute to unpickle, as the imports of a job take seconds."""

    def __reduce__(self) -> tuple:
        return time.sleep, (60,)


def test_a_worker_whose_run_was_killed_ends_at_once() -> None:
    """Guards workers that go on beside the next run in the same folder, also while they are still importing."""
    ours, theirs = Pipe()
    worker = subprocess.Popen(
        [sys.executable, "-m", "sstext.selftraining.worker", str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    theirs.close()
    ours.send_bytes(pickle.dumps(Slow()))
    assert worker.poll() is None
    ours.close()  # as the system does it for a killed process
    try:
        assert worker.wait(timeout=50) == ORPHAN
    finally:
        if worker.poll() is None:
            os.kill(worker.pid, signal.SIGKILL)


def test_figures_of_a_task_that_was_begun_again_are_kept_once() -> None:
    """Ray begins a task again at its checkpoint. Guards steps that a logger gets twice, and steps that go back."""
    stage: Any = None
    chain: Any = SimpleNamespace(reporter=Reporter(quiet=True))
    job = Job(chain, stage)
    for step, values in (
        (2, {"loss": 0.9}),
        (2, {"accuracy": 0.5}),
        (3, {"loss": 0.8}),
        (2, {"loss": 0.7}),
        (3, {"loss": 0.6}),
    ):
        heard(job, FIGURES, values, step)
    assert job.figures_in_order() == [({"loss": 0.7}, 2), ({"accuracy": 0.5}, 2), ({"loss": 0.6}, 3)]
