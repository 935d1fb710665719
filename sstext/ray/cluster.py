"""The cluster: start or join Ray, see what it has, and divide it among actors.

Ray reports usage to its makers unless it is told not to. Where sstext starts it, it is told.
"""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sstext.errors import MachineError, UserError, listed
from sstext.interrupts import handlers_kept

#: Rows of a batch: those that `sstext predict` reads at once, so that texts are sorted by length in the same groups.
ROWS_PER_BATCH = 4_000
#: Bytes of an actor beside its model: Python, torch, and the rows of a batch.
BYTES_OF_ACTOR = 10**9
#: Most cores beside a GPU. They tokenize, and a tokenizer gains little from more.
CORES_PER_GPU = 4


@dataclass(frozen=True)
class Pool:
    """How the actors of a pool divide a cluster.

    Attributes:
        actors: most actors at a time. Each has a model of its own.
        num_cpus, num_gpus: what each actor takes.
        batch_size: rows per call.
    """

    actors: int
    num_cpus: float
    num_gpus: float
    batch_size: int

    def arguments(self) -> dict[str, Any]:
        """The arguments of `map_batches` for this pool. It begins with one actor and grows, as far as reading leaves room."""
        from ray.data import ActorPoolStrategy

        return {
            "compute": ActorPoolStrategy(min_size=1, max_size=self.actors),
            "num_cpus": self.num_cpus,
            "num_gpus": self.num_gpus,
            "batch_size": self.batch_size,
        }


def pool_for(
    resources: Mapping[str, float] | Sequence[Mapping[str, float]],
    *,
    model_bytes: int = 0,
    actors: int | None = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    batch_size: int | None = None,
) -> Pool:
    """Choose the pool for a cluster. What is given is taken as it is, and the rest follows from it.

    With GPUs, an actor takes one GPU and up to `CORES_PER_GPU` cores. Without, it takes one core, because several models
    with one thread each label more texts per second than one model with several. There are as many actors as
    fit, also into the memory: `BYTES_OF_ACTOR` and twice the model each.

    Args:
        resources: what each node has, see `nodes_of`: CPU, GPU, memory in bytes. A mapping, such as that of
            `ray.cluster_resources()`, is taken as one node.
        model_bytes: size of the weights.
        actors, num_cpus, num_gpus, batch_size: see `Pool`.

    Raises:
        UserError: no node has what one actor takes, or a number is not above 0.

    >>> pool_for({"CPU": 8, "memory": 32e9})
    Pool(actors=8, num_cpus=1, num_gpus=0, batch_size=4000)
    >>> pool_for({"CPU": 32, "GPU": 4})
    Pool(actors=4, num_cpus=4, num_gpus=1, batch_size=4000)
    >>> pool_for({"CPU": 32, "GPU": 4}, num_gpus=0.5)
    Pool(actors=8, num_cpus=4, num_gpus=0.5, batch_size=4000)
    >>> pool_for({"CPU": 8, "memory": 10e9}, model_bytes=2 * 10**9).actors  # 5 GB each
    2
    >>> pool_for([{"CPU": 64}, {"CPU": 2, "GPU": 1}])  # the cores of the first node are not beside the GPU
    Pool(actors=1, num_cpus=2, num_gpus=1, batch_size=4000)
    """
    nodes = [resources] if isinstance(resources, Mapping) else list(resources)
    if num_gpus is None:
        num_gpus = 1 if any(node.get("GPU", 0) for node in nodes) else 0
    if num_cpus is None:
        beside = [
            node["CPU"] * num_gpus // node["GPU"]
            for node in nodes
            if num_gpus and node.get("GPU", 0) >= num_gpus and node.get("CPU", 0) >= 1
        ]
        num_cpus = min(CORES_PER_GPU, max(1, min(beside))) if beside else 1
    for name, value, least in (("actors", actors, 1), ("num_cpus", num_cpus, 0), ("num_gpus", num_gpus, 0),
                               ("batch_size", batch_size, 1)):  # fmt: skip
        if value is not None and value < least:
            raise UserError(f"{name}: expected at least {least}, found {value}")
    room = room_on(nodes, num_cpus, num_gpus)
    if not any(room):
        raise no_node_has("an actor", num_cpus, num_gpus, nodes)
    if actors is None:
        each = BYTES_OF_ACTOR + 2 * model_bytes
        held = [
            min(fit, int(node["memory"] // each)) if "memory" in node else fit
            for fit, node in zip(room, nodes, strict=True)
        ]
        actors = max(1, sum(held))
    return Pool(actors, _whole(num_cpus), _whole(num_gpus), batch_size or ROWS_PER_BATCH)


def room_on(nodes: Sequence[Mapping[str, float]], num_cpus: float, num_gpus: float) -> list[int]:
    """How many actors or tasks fit on each node at a time, by what one of them takes.

    >>> room_on([{"CPU": 64}, {"CPU": 8, "GPU": 2}], 4, 1)
    [0, 2]
    """
    needed = {name: share for name, share in (("CPU", num_cpus), ("GPU", num_gpus)) if share}
    return [min((int(node.get(name, 0) // share) for name, share in needed.items()), default=1) for node in nodes]


def no_node_has(
    what: str, num_cpus: float, num_gpus: float, nodes: Sequence[Mapping[str, float]], remedy: str = "give fewer"
) -> UserError:
    """The error for what fits on no node: Ray would wait for such a node without a word."""
    needed = " and ".join(f"{share:g} {name}" for name, share in (("CPU", num_cpus), ("GPU", num_gpus)) if share)
    kinds = dict.fromkeys(f"{node.get('CPU', 0):g} CPU and {node.get('GPU', 0):g} GPU" for node in nodes)
    return UserError(
        f"ray: {what} takes {needed}, and no node has that (found {listed(list(kinds)) if kinds else 'no node'}); {remedy}, or "
        "start such a node"
    )


def nodes_of(ray: Any) -> list[dict[str, float]]:
    """What each node of the cluster has: CPU, GPU, memory in bytes."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _whole(number: float) -> float:
    return int(number) if number == int(number) else number


def imported_ray() -> Any:
    """The module `ray`.

    Raises:
        UserError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # an actor without a GPU sees those of its node
    try:
        import ray
        from ray import is_initialized  # noqa: F401 – any folder called `ray` can be imported
    except ImportError:
        raise UserError("the engine ray is not installed; run pip install 'sstext[ray]'") from None
    return ray


def join_cluster() -> tuple[Any, bool]:
    """Return the module `ray`, connected, and whether Ray was started or joined by this call.

    The cluster is the one that this program has joined already, that of `RAY_ADDRESS` or of this machine (`ray start`), or one
    that is started on this machine.

    Raises:
        UserError: ray is not installed.
        MachineError: there is no connection.
    """
    ray = imported_ray()
    if ray.is_initialized():
        return ray, False
    # On SIGTERM, Ray would print the stack of its own code and end the program.
    with errors_explained(ray), handlers_kept():
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    return ray, True


@contextmanager
def cluster() -> Iterator[Any]:
    """Yield the module `ray`, connected for this block, see `join_cluster` and `errors_explained`."""
    ray, ours = join_cluster()
    try:
        with errors_explained(ray):
            yield ray
    finally:
        if ours:
            ray.shutdown()


@contextmanager
def errors_explained(ray: Any) -> Iterator[None]:
    """Raise errors of Ray as a `MachineError`, except those of the code that it runs."""
    try:
        yield
    except ray.exceptions.RayTaskError:
        raise  # it has the traceback of a fault in the code
    except ray.exceptions.RayError as error:
        raise MachineError(f"ray: {_line(error)}; run the same command again to go on") from None
    except ConnectionError as error:
        raise MachineError(f"ray: no connection to the cluster ({_line(error)}); look at `ray status`") from None


def _line(error: BaseException) -> str:
    """The last line of an error with something in it: there, Ray puts what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
