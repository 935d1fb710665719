"""How a cluster is divided, and what stands where ray is missing."""

import os
import subprocess
import sys
import types
from typing import Any

import pytest

import sstext.ray
from sstext.config.run_config import RunConfig
from sstext.errors import MachineError, UserError
from sstext.ray.cluster import errors_explained, imported_ray, pool_for
from sstext.selftraining.ray_tasks import Share, share_of


def test_the_package_imports_neither_ray_nor_torch() -> None:
    """Guards `import sstext.ray` on machines without ray, and the command line's start."""
    code = "import sys, sstext.ray; sys.exit(bool({'ray', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert dir(sstext.ray) == ["Classifier", "Pool", "nodes_of", "pool_for", "predict_shards"]
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        sstext.ray.nope  # noqa: B018


@pytest.mark.parametrize(
    ("resources", "given", "expected"),
    [
        ({"CPU": 2}, {}, (2, 1, 0, 4000)),
        ({"CPU": 8, "GPU": 2}, {}, (2, 4, 1, 4000)),
        ({"CPU": 4, "GPU": 4}, {}, (4, 1, 1, 4000)),
        ({"CPU": 64, "GPU": 2}, {"num_gpus": 0}, (64, 1, 0, 4000)),
        ({"CPU": 8}, {"num_cpus": 4}, (2, 4, 0, 4000)),
        ({"CPU": 8}, {"actors": 3, "batch_size": 64}, (3, 1, 0, 64)),
        ({"CPU": 8, "memory": 4.5e9}, {"model_bytes": 250_000_000}, (3, 1, 0, 4000)),
        ({"CPU": 8, "memory": 1e8}, {}, (1, 1, 0, 4000)),
        ([{"CPU": 64}, {"CPU": 2, "GPU": 1}], {}, (1, 2, 1, 4000)),
        ([{"CPU": 3}, {"CPU": 3}], {"num_cpus": 2}, (2, 2, 0, 4000)),
        ([{"CPU": 8, "memory": 2.5e9}, {"CPU": 1, "memory": 64e9}], {}, (3, 1, 0, 4000)),
    ],
)
def test_a_pool_takes_what_there_is(resources: Any, given: dict, expected: tuple) -> None:
    """Guards cores and GPUs that idle, actors that no node can hold, and given numbers that are replaced."""
    pool = pool_for(resources, **given)
    assert (pool.actors, pool.num_cpus, pool.num_gpus, pool.batch_size) == expected


@pytest.mark.parametrize(
    ("resources", "given", "message"),
    [
        (
            {"CPU": 2},
            {"num_gpus": 1},
            r"an actor takes 1 CPU and 1 GPU, and no node has that \(found '2 CPU and 0 GPU'\)",
        ),
        ({"CPU": 2}, {"num_cpus": 3}, "an actor takes 3 CPU, and no node has that"),
        ([{"CPU": 2}, {"CPU": 2}], {"num_cpus": 3}, "an actor takes 3 CPU, and no node has that"),
        ([{"CPU": 64}, {"CPU": 2, "GPU": 1}], {"num_cpus": 4}, "an actor takes 4 CPU and 1 GPU, and no node has that"),
        ({"CPU": 2}, {"actors": 0}, "actors: expected at least 1, found 0"),
        ({}, {}, "an actor takes 1 CPU, and no node has that"),
    ],
)
def test_what_no_node_has_is_refused(resources: Any, given: dict, message: str) -> None:
    """Guards a job that waits for ever for a resource that never comes."""
    with pytest.raises(UserError, match=message):
        pool_for(resources, **given)


def test_a_training_takes_what_one_node_has() -> None:
    """Guards a run that waits for ever: 32 cores and a GPU are in the cluster, but not on one node."""
    nodes = [{"CPU": 64}, {"CPU": 8, "GPU": 1}]
    assert share_of(RunConfig(), nodes, 3, threads=32) == Share(3, 8, 1)
    assert share_of(RunConfig(device="cpu"), nodes, 3, threads=32) == Share(3, 32, 0)
    assert share_of(RunConfig(workers=3), [{"CPU": 8}, {"CPU": 8}], 3, threads=8) == Share(3, 4, 0), "two on a node"
    for device, found in (
        ("cuda", [{"CPU": 8}]),
        ("auto", [{"CPU": 8}, {"GPU": 1}]),
        ("cpu", [{"GPU": 1}]),
        ("cpu", []),
    ):
        with pytest.raises(UserError, match=r"ray: a training takes 1 CPU.*, and no node has that"):
            share_of(RunConfig(device=device), found, 3, threads=8)


def test_a_missing_ray_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"ray is not installed; run pip install 'sstext\[ray\]'"):
        imported_ray()


def test_a_folder_called_ray_is_not_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python imports any folder of this name. Guards an AttributeError as the message."""
    monkeypatch.setitem(sys.modules, "ray", types.ModuleType("ray"))
    with pytest.raises(UserError, match="ray is not installed"):
        imported_ray()


def test_usage_is_not_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray reports usage unless it is told not to. A choice of the user stays."""
    module = types.ModuleType("ray")
    module.is_initialized = bool  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", module)
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    imported_ray()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    imported_ray()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "1"


def test_errors_of_ray_are_one_sentence_and_faults_of_the_code_are_not() -> None:
    """Guards a page of Ray's words, and a traceback that is hidden."""
    ray = types.SimpleNamespace(exceptions=types.SimpleNamespace(RayError=_RayError, RayTaskError=_RayTaskError))
    gone = pytest.raises(MachineError, match=r"^ray: the node is gone; run the same command again to go on$")
    with gone, errors_explained(ray):
        raise _RayError("Some words\n  the node is gone\n\n")
    with pytest.raises(_RayTaskError), errors_explained(ray):
        raise _RayTaskError("Traceback")
    with pytest.raises(MachineError, match="no connection to the cluster"), errors_explained(ray):
        raise ConnectionError("refused")


class _RayError(Exception):
    pass


class _RayTaskError(_RayError):
    pass
