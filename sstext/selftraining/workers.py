"""Train the chains of a stage side by side, each in its own process: on its own GPU, or on a part of the cores.

Chains never mix, so they do not wait for each other. A process leaves its results in the folder of the chain. The loop
finds the finished trainings and scores there, and does itself what is missing. A worker is `python -m
sstext.selftraining.worker`, not a fork: this works from scripts and notebooks, and a forked process could not use a
GPU. It dies with its run.
"""

import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, Protocol, TypeAlias

import torch
from accelerate import PartialState

from sstext.config.run_config import RunConfig
from sstext.config.spelling import spelled
from sstext.errors import MachineError, UserError, is_out_of_memory
from sstext.inference.devices import calm_libraries, resolve_device
from sstext.interrupts import on_interrupt
from sstext.methods.method import Stage
from sstext.progress import Reporter, Tick
from sstext.selftraining.chain import Chain
from sstext.selftraining.student_store import Fit

#: The kinds of messages that a worker sends.
NOTE, BEGIN, TICK, END, FIGURES, DONE, FAILED, STOPPED = range(8)
#: Number of a chain → its figures, each with its step.
Figures: TypeAlias = dict[int, list[tuple[Mapping[str, Any], int]]]


def workers_for(config: RunConfig) -> int:
    """Number of chains that train at a time: `workers`, or one per GPU. It is 1 if a launcher has started several processes."""
    if PartialState().num_processes > 1:
        return 1
    if config.workers is not None:
        return config.workers
    return max(1, torch.cuda.device_count()) if _any_gpu(config) else 1


def _any_gpu(config: RunConfig) -> bool:
    """Whether the run trains on a GPU, and any GPU will do."""
    return resolve_device(config.device).type == "cuda" and ":" not in config.device


def fit_side_by_side(chains: Sequence[Chain], stage: Stage) -> list[Fit]:
    """Train the students of a stage, one per chain. `workers_for` gives the number of processes at a time.

    With `engine: ray`, each is a task on a Ray cluster instead (`sstext.selftraining.ray_tasks`).

    Raises:
        KeyboardInterrupt: a signal stopped it, and every training has written a checkpoint.
        UserError: a worker raised one. It is a `MachineError` if memory ran out, or if it ended without a message.
    """
    todo = [Job(chain, stage) for chain in chains if not chain.students.is_fitted(stage)]
    workers = min(workers_for(chains[0].config), len(todo))
    figures: Figures = {}
    if chains[0].config.engine == "ray":
        from sstext.selftraining.ray_tasks import fit_in_tasks  # only here: it needs ray

        figures = fit_in_tasks(todo)
    elif workers > 1:
        figures = _in_processes(todo, workers)
    found = []
    for chain in chains:
        for values, step in figures.get(chain.number, ()):  # chain by chain: a logger's steps only grow
            chain.reporter.figures(values, step)
        found.append(chain.fit(stage))
    return found


@dataclass
class Job:
    """A training: the input of a worker, and its figures so far, by their step and names."""

    chain: Chain
    stage: Stage
    process: Any = None
    slot: int = 0
    figures: dict[tuple[int, tuple[str, ...]], Mapping[str, Any]] = field(default_factory=dict)
    lines: ExitStack = field(default_factory=ExitStack)
    tick: Tick | None = None
    ended: bool = False

    @property
    def name(self) -> str:
        return self.chain.students.phase(self.stage, "training")

    def figures_in_order(self) -> list[tuple[Mapping[str, Any], int]]:
        return [(values, step) for (step, _), values in self.figures.items()]


def _in_processes(todo: Sequence[Job], workers: int) -> Figures:
    """Do the jobs, `workers` at a time. Returns the figures of each chain."""
    waiting, running, free = list(todo), dict[Connection, Job](), list(range(workers))
    trouble: list[BaseException] = []
    with _signals_handed_on(running) as stopped:
        while True:
            while waiting and free and not trouble and not stopped:
                job = waiting.pop(0)
                running[_started(job, free.pop(0), workers)] = job
            if not running:
                break
            ready: Any = wait(list(running))
            for pipe in ready:
                job, failed = running[pipe], None
                try:
                    failed = heard(job, *pipe.recv())
                except (EOFError, ConnectionResetError):
                    failed = _ended(job)
                    free.append(job.slot)
                    del running[pipe]
                if failed is not None and not stopped:
                    trouble.append(failed)
                    if len(trouble) == 1:
                        _stop(running)
    if stopped:
        raise KeyboardInterrupt
    if trouble:
        raise trouble[0]
    return {job.chain.number: job.figures_in_order() for job in todo}


def _started(job: Job, slot: int, workers: int) -> Connection:
    """Start a worker and send it its job."""
    ours, theirs = Pipe()
    config = replace(job.chain.config, workers=1)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    if _any_gpu(job.chain.config):
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        gpus = visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
        environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    job.slot = slot
    job.process = subprocess.Popen(
        [sys.executable, "-m", "sstext.selftraining.worker", str(theirs.fileno())],
        env=environment,
        pass_fds=[theirs.fileno()],
        start_new_session=True,  # Ctrl-C reaches only the run, which passes it on once
    )
    theirs.close()
    chain = replace(job.chain, config=config, reporter=Reporter(quiet=True))
    with suppress(OSError):  # it has ended already, and `_ended` reports it
        ours.send((chain, job.stage, max(1, torch.get_num_threads() // workers)))
    return ours


def heard(job: Job, kind: int, *content: Any) -> BaseException | None:
    """Handle a message of a worker. Returns its error, or None."""
    reporter = job.chain.reporter
    if kind == NOTE:
        reporter.note(*content)
    elif kind == BEGIN:
        job.lines.close()  # a task that Ray has begun again has ended no phase
        job.tick = job.lines.enter_context(reporter.phase(*content))
    elif kind == TICK and job.tick is not None:
        job.tick(*content)
    elif kind == END:
        job.lines.close()
    elif kind == FIGURES:
        values, step = content
        # A task that Ray has begun again repeats the steps since its last checkpoint, and their figures.
        job.figures[step, tuple(values)] = values
    elif kind in (DONE, STOPPED, FAILED):
        job.lines.close()
        job.ended = True
        if kind == FAILED:
            return content[0]
    return None


def _ended(job: Job) -> BaseException | None:
    """Handle the end of a worker. Returns an error if it has not finished its job, or None."""
    code = job.process.wait()
    if job.ended:
        return None
    job.lines.close()
    return MachineError(
        f"{job.name}: its process ended with the code {code}, possibly because memory ran out; run the same command again "
        f"with fewer {spelled('workers')} to resume"
    )


@contextmanager
def signals(hand_on: Callable[[int], object]) -> Iterator[list[int]]:
    """Call `hand_on` with the number of each Ctrl-C and SIGTERM, which do nothing else. Yields the signals that arrived."""
    came: list[int] = []

    def handler(number: int, frame: Any) -> None:
        came.append(number)
        hand_on(number)

    with on_interrupt(handler):
        yield came


@contextmanager
def _signals_handed_on(running: Mapping[Connection, Job]) -> Iterator[list[int]]:
    """Pass Ctrl-C and SIGTERM on to the workers, which write checkpoints. Yields the signals that arrived."""
    with signals(lambda number: _stop(running, number)) as came:
        try:
            yield came
        except BaseException:
            _stop(running)
            for pipe, job in running.items():
                with suppress(EOFError, OSError):
                    while True:  # it writes its checkpoint, and its messages must be read
                        pipe.recv()
                job.process.wait()
            raise


def _stop(running: Mapping[Connection, Job], number: int = signal.SIGINT) -> None:
    for job in running.values():
        if not job.ended:
            with suppress(ProcessLookupError):
                job.process.send_signal(number)


class Sender(Protocol):
    """Takes the messages of a worker."""

    def send(self, message: Any, /) -> object: ...


class Sent(Reporter):
    """A reporter that sends everything to the process of the run. If that process has ended, the work stops as after Ctrl-C."""

    def __init__(self, pipe: Sender) -> None:
        super().__init__(quiet=True)
        self._pipe, self._heard = pipe, True

    def send(self, *message: Any) -> None:
        """Send a message, unless the other process has ended."""
        try:
            if self._heard:
                self._pipe.send(message)
        except OSError:
            self._heard = False
            signal.raise_signal(signal.SIGINT)

    def note(self, message: str) -> None:
        self.send(NOTE, message)

    @contextmanager
    def phase(self, name: str, total: int | None, unit: str, done: int = 0) -> Iterator[Tick]:
        self.send(BEGIN, name, total, unit, done)
        try:
            yield lambda n=1: self.send(TICK, n)
        finally:
            self.send(END)

    def figures(self, values: Mapping[str, Any], step: int = 0) -> None:
        self.send(FIGURES, dict(values), step)


def work(pipe: Sender, job: Any) -> None:
    """Do a job: train the student of a stage, and score the rows that the loop needs next. Messages go through the pipe."""
    calm_libraries()
    chain, stage, threads = job
    torch.set_num_threads(threads)
    reporter = Sent(pipe)
    chain = replace(chain, reporter=reporter)
    name = chain.students.phase(stage, "training")
    try:
        chain.fit(stage)
        if chain.held_out is not None:
            chain.students.score_held_out(stage, chain.plan.judges_probe(stage))
        if chain.tokens.corpus is not None and chain.students.scores_all(stage):
            chain.students.scores(stage)
    except KeyboardInterrupt:
        reporter.send(STOPPED)
    except UserError as error:
        reporter.send(FAILED, error)
    except Exception as error:
        if is_out_of_memory(error):
            reporter.send(FAILED, MachineError(f"{name}: memory ran out ({' '.join(str(error).split())[:200]})"))
        else:
            reporter.send(FAILED, RuntimeError(f"{name}:\n{traceback.format_exc()}"))
    else:
        reporter.send(DONE)
