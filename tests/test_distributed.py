"""Two processes do what one does: the same batches, the same statistics, the same scores."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

FLAGS = [
    *("--steps", "6", "--round-steps", "6", "--rounds", "2", "--keep", "0.3", "0.5", "--stop-agreement", "1.1"),
    # All 12 labeled rows in a batch: plain Trainer repeats rows where the last batch of an epoch cannot be shared out.
    *("--precision", "fp32", "--device", "cpu", "--dropout", "0", "--batch-size", "12", "--round-batch-size", "8"),
    # SGD: Adam would blow rounding up to the size of a step.
    *("--training-args", "optim=sgd", "--learning-rate", "0.05", "--head-learning-rate", "0.05"),
]


def train(processes: int, output: Path, task: object, encoder: Path, *more: str) -> dict:
    launcher = [sys.executable, "-m"]
    if processes > 1:
        launcher += ["torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), "-m"]
    files = ["--labeled", task.labeled, "--unlabeled", task.unlabeled, "--test", task.test]  # type: ignore[attr-defined]
    command = [*launcher, "sstext", "train", *files, "--encoder", encoder, "--output", output, *FLAGS, *more]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [str(part) for part in command], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads((output / "results.json").read_text())


@pytest.mark.distributed
@pytest.mark.parametrize("method", ["supervised", "softmatch"])
def test_two_processes_train_select_and_score_as_one(
    tiny_encoder: Path, tiny_task: Callable, tmp_path: Path, method: str
) -> None:
    """Guards against batches that are not shared out, statistics of one process only, and shuffled scores."""
    task = tiny_task(tmp_path)
    more = ("--method", method, "--method-args", "momentum=0.5") if method == "softmatch" else ()
    one = train(1, tmp_path / "one", task, tiny_encoder, *more)
    two = train(2, tmp_path / "two", task, tiny_encoder, *more)
    assert [record["per_class"] for record in one["rounds"]] == [record["per_class"] for record in two["rounds"]]
    for index in range(3):
        folder = f"round_{index}/model/model.safetensors"
        alone, shared = load_file(tmp_path / "one" / folder), load_file(tmp_path / "two" / folder)
        assert max((alone[name] - shared[name]).abs().max().item() for name in alone) < 1e-5, index
    scores = [run["test"]["self_trained"]["metrics"]["nll"]["score"] for run in (one, two)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)
