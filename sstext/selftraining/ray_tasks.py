"""Train the chains of a stage as tasks of Ray, on as many machines as the cluster has.

A task does what a worker does (`sstext.selftraining.workers.work`). It leaves its results in the folder of its chain, which all
nodes see under the same path. If its process dies, Ray begins it again, and it continues from its last checkpoint.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from sstext.config.run_config import RunConfig
from sstext.config.spelling import spelled
from sstext.errors import MachineError
from sstext.progress import Reporter
from sstext.ray.cluster import errors_explained, join_cluster, no_node_has, nodes_of, room_on
from sstext.selftraining.workers import Figures, Job, heard, signals, work

#: Seconds between two looks at the messages of the tasks.
EVERY = 0.2


@dataclass(frozen=True)
class Share:
    """What each task takes, and how many run at a time."""

    at_a_time: int
    num_cpus: int
    num_gpus: int


def share_of(config: RunConfig, nodes: Sequence[Mapping[str, float]], tasks: int, threads: int) -> Share:
    """Divide a cluster among tasks.

    A task has as many threads as a training on this machine, because another number of threads gives other sums of float32. It
    has fewer if no node has as many cores, or if `workers` tasks share the cores. With GPUs, it has one GPU, and only the cores
    of nodes with a GPU count.

    Args:
        nodes: what each node has, for example `[{"CPU": 8, "GPU": 1}]`.
        tasks: number of tasks.
        threads: threads of a training on this machine.

    Raises:
        UserError: no node has what a task takes. Ray would wait for one.

    >>> share_of(RunConfig(), [{"CPU": 8}, {"CPU": 8}], 3, threads=8)
    Share(at_a_time=3, num_cpus=8, num_gpus=0)
    >>> share_of(RunConfig(workers=2), [{"CPU": 2}], 3, threads=2)
    Share(at_a_time=2, num_cpus=1, num_gpus=0)
    >>> share_of(RunConfig(), [{"CPU": 16, "GPU": 4}], 3, threads=8)
    Share(at_a_time=3, num_cpus=4, num_gpus=1)
    >>> share_of(RunConfig(), [{"CPU": 64}, {"CPU": 8, "GPU": 1}], 3, threads=32)
    Share(at_a_time=3, num_cpus=8, num_gpus=1)
    """
    at_a_time = min(tasks, config.workers or tasks)
    num_gpus = int(
        config.device == "cuda" or (config.device == "auto" and any(node.get("GPU", 0) >= 1 for node in nodes))
    )
    room = sum(room_on(nodes, 1, num_gpus))
    if not room:
        remedy = f"choose another {spelled('device')}" if num_gpus else "give nodes cores (ray start --num-cpus)"
        raise no_node_has("a training", 1, num_gpus, nodes, remedy)
    side_by_side = 1 if config.workers is None else min(at_a_time, room)
    wanted = room if num_gpus else side_by_side  # all GPUs can work at a time
    threads = max(1, min(threads, int(max(node.get("CPU", 0) for node in nodes))))
    while threads > 1 and sum(room_on(nodes, threads, num_gpus)) < wanted:
        threads -= 1
    return Share(at_a_time, threads, num_gpus)


def fit_in_tasks(todo: Sequence[Job]) -> Figures:
    """Do the jobs. Returns the figures of each chain. Ray stays connected until the program ends, for the next stage.

    Raises:
        KeyboardInterrupt: a signal stopped it, and every training has written a checkpoint.
        UserError: ray is not installed, or a task raised one. It is a `MachineError` if its process died again and again.
    """
    if not todo:
        return {}
    ray, _ = join_cluster()
    from ray.util.queue import Queue

    share = share_of(todo[0].chain.config, nodes_of(ray), len(todo), torch.get_num_threads())
    waiting, running = list(range(len(todo))), dict[Any, int]()
    trouble: list[BaseException] = []
    with errors_explained(ray), signals(lambda number: None) as stopped:
        messages = Queue(actor_options={"num_cpus": 0})
        task = ray.remote(num_cpus=share.num_cpus, num_gpus=share.num_gpus)(_do)
        try:
            cancelled = False
            while running or (waiting and not trouble and not stopped):
                while waiting and len(running) < share.at_a_time and not trouble and not stopped:
                    number = waiting.pop(0)
                    running[task.remote(_job(todo[number], share.num_cpus), messages, number)] = number
                if not running:
                    break
                if (stopped or trouble) and not cancelled:
                    cancelled = True
                    for reference in running:  # KeyboardInterrupt is raised there, so that it writes a checkpoint
                        ray.cancel(reference, force=False)
                ended, _ = ray.wait(list(running), timeout=EVERY)
                found = _hear(messages, todo)  # after the wait: a task that has ended has sent all
                found += [
                    error for reference in ended if (error := _ended(ray, reference, todo[running.pop(reference)]))
                ]
                if not stopped:
                    trouble += found
        except BaseException:
            for reference in running:
                ray.cancel(reference, force=False)
            if running:
                ray.wait(list(running), num_returns=len(running))  # they write checkpoints
            raise
        finally:
            for job in todo:
                job.lines.close()
            messages.shutdown()
    if stopped:
        raise KeyboardInterrupt
    if trouble:
        raise trouble[0]
    return {job.chain.number: job.figures_in_order() for job in todo}


def _job(job: Job, threads: int) -> tuple:
    """What a task needs, see `work`."""
    config = replace(job.chain.config, workers=1, engine="local")
    return replace(job.chain, config=config, reporter=Reporter(quiet=True)), job.stage, threads


class _Mailbox:
    """Sends the messages of a task to the run."""

    def __init__(self, messages: Any, number: int) -> None:
        self.messages, self.number = messages, number

    def send(self, message: Any) -> None:
        self.messages.put((self.number, message))


def _do(job: tuple, messages: Any, number: int) -> None:
    """The task."""
    work(_Mailbox(messages, number), job)


def _hear(messages: Any, todo: Sequence[Job]) -> list[BaseException]:
    """Handle the messages that have arrived. Returns the errors among them."""
    waiting = messages.qsize()
    news = messages.get_nowait_batch(waiting) if waiting else []
    failed = [heard(todo[number], *message) for number, message in news]
    return [error for error in failed if error is not None]


def _ended(ray: Any, reference: Any, job: Job) -> BaseException | None:
    """Handle the end of a task. Returns an error if it has not finished its job, or None."""
    try:
        ray.get(reference)
    except ray.exceptions.TaskCancelledError:
        return None
    except ray.exceptions.RayTaskError as error:  # not from the training, whose errors are messages
        return RuntimeError(f"{job.name}:\n{error}")
    except ray.exceptions.RayError as error:
        return MachineError(
            f"{job.name}: its task failed ({type(error).__name__}), possibly because memory ran out on its node; run the same "
            "command again to resume"
        )
    return None
