"""The configurations of `recipes/accelerate/`, as far as they can be started on CPUs."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from safetensors.torch import load_file
from torch.distributed.run import get_args_parser
from transformers import AutoConfig

from sstext.errors import UserError
from sstext.processes import refuse_parts_of_models

FOLDER = Path(__file__).parent.parent / "recipes" / "accelerate"
SLURM = FOLDER / "slurm.sh"
FLAGS = [
    *("--method", "class-balanced", "--rounds", "1", "--steps", "6", "--round-steps", "4", "--batch-size", "12"),
    *("--method-args", "stop_agreement=1.1", "round_batch_size=8", "--precision", "fp32", "--device", "cpu"),
]


def started(command: Sequence[object], **environment: str) -> subprocess.CompletedProcess:
    """A finished program, whatever its end."""
    settings = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    return subprocess.run(
        list(map(str, command)), env=settings, capture_output=True, text=True, check=False, timeout=300
    )


def launched(config: str, program: Sequence[object]) -> subprocess.CompletedProcess:
    """`accelerate launch` with a configuration of ours, in two processes."""
    options = ["--config_file", FOLDER / config, "--num_processes", "2", "--main_process_port", "0"]
    return started([sys.executable, "-m", "accelerate.commands.launch", *options, *program])


@pytest.fixture(scope="module")
def files(tiny_task: Callable, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    task = tiny_task(tmp_path_factory.mktemp("task"))
    return [*("--labeled", task.labeled, "--unlabeled", task.unlabeled, "--dev", task.dev, "--encoder", tiny_encoder)]


@pytest.mark.parametrize(
    ("name", "section"), [("ddp", None), ("fsdp", "fsdp_config"), ("deepspeed_zero2", "deepspeed_config")]
)
def test_a_configuration_has_only_keys_that_accelerate_knows(name: str, section: str | None) -> None:
    """Guards a misspelled key, which `accelerate launch` would pass over in silence."""
    read = load_config_from_file(str(FOLDER / f"{name}.yaml"))
    assert read.distributed_type == {"ddp": "MULTI_GPU", "fsdp": "FSDP"}.get(name, "DEEPSPEED")
    if section is not None:
        flags = {action.dest for action in launch_command_parser()._actions}
        given = getattr(read, section)
        assert given
        assert {key if key.startswith("fsdp") or name != "fsdp" else f"fsdp_{key}" for key in given} <= flags


@pytest.mark.distributed
def test_sharded_weights_are_whole_in_the_run(files: list[object], tmp_path: Path) -> None:
    """With the configurations ddp and fsdp: the same best students, and whole models.

    Guards a model with a part of the weights, an architecture that nobody can load, and the best checkpoint, which
    `Trainer` does not find if FSDP writes it in parts.
    """
    for name, program in (
        ("ddp", ["-m", "sstext"]),
        ("fsdp", [Path(__file__).with_name("sharded_job.py")]),
    ):
        ended = launched(f"{name}.yaml", [*program, "train", *files, *FLAGS, "--output", tmp_path / name])
        assert ended.returncode == 0, ended.stderr[-3000:]
    for model in ("baseline/model", "round_1/model", "model"):
        whole, sharded = (load_file(tmp_path / name / model / "model.safetensors") for name in ("ddp", "fsdp"))
        assert whole.keys() == sharded.keys()
        for key, weight in whole.items():
            if "key.bias" not in key:  # its gradient is rounding
                assert sharded[key].shape == weight.shape
                assert (weight - sharded[key]).abs().max() < 1e-5, (model, key)
    assert AutoConfig.from_pretrained(tmp_path / "fsdp" / "model").architectures == ["BertForSequenceClassification"]


@pytest.mark.distributed
def test_deepspeed_says_what_is_missing(files: list[object], tmp_path: Path) -> None:
    """Guards a start that hangs or ends in silence."""
    if find_spec("deepspeed") is not None:
        pytest.skip("DeepSpeed is installed")
    ended = launched("deepspeed_zero2.yaml", ["-m", "sstext", "train", *files, *FLAGS, "--output", tmp_path / "out"])
    assert ended.returncode != 0
    assert "DeepSpeed is not" in ended.stderr


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize(
    "more",
    [
        ("--method", "class-balanced", "--method-args", "stop_agreement=1.1", "round_batch_size=8"),
        ("--method", "softmatch", "--method-args", "momentum=0.5"),
        ("--method", "mean-teacher"),
        ("gradient_accumulation_steps=2", "--method", "class-balanced"),  # more of --training-args
    ],
    ids=["class-balanced", "softmatch", "mean-teacher", "accumulation"],
)
def test_two_processes_of_deepspeed_train_as_one(
    tiny_task: Callable, tiny_encoder: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    """ZeRO-2 on CPUs, with its own optimizer and its own exchange of gradients: the students of one process.

    Guards gradients that DeepSpeed scales, clips or adds up otherwise, a plugin that is not used, and models in parts.
    """
    can_start_deepspeed()
    task = tiny_task(tmp_path)
    program = ["train", "--labeled", task.labeled, "--unlabeled", task.unlabeled, "--test", task.test]
    # SGD: Adam would blow rounding up to the size of a step.
    program += ["--encoder", tiny_encoder, "--training-args", "optim=sgd", *more, "--rounds", "2", "--keep", "0.3"]
    program += ["--learning-rate", "0.05", "--head-learning-rate", "0.05", "--dropout", "0", "--batch-size", "12"]
    program += ["--steps", "6", "--round-steps", "6", "--precision", "fp32", "--device", "cpu", "--output"]
    one, two = tmp_path / "one", tmp_path / "two"
    ended = started([sys.executable, "-m", "sstext", *program, one])
    assert ended.returncode == 0, ended.stderr[-3000:]
    ended = launched("deepspeed_zero2.yaml", [Path(__file__).with_name("zero_job.py"), *program, two])
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert set(re.findall("trained: (.*)", ended.stderr)) == {"DeepSpeedZeroOptimizer, stage 2, 2 processes"}
    models = sorted(file.relative_to(one) for file in one.rglob("model.safetensors"))
    assert {"round_1", "round_2"} < {file.parts[0] for file in models}
    for file in models:
        alone, shared = load_file(one / file), load_file(two / file)
        assert alone.keys() == shared.keys()
        assert max((alone[name] - shared[name]).abs().max().item() for name in alone) < 1e-5, file
    results = [json.loads((run / "results.json").read_text()) for run in (one, two)]
    assert [record["per_class"] for record in results[0]["rounds"]] == [
        record["per_class"] for record in results[1]["rounds"]
    ]
    scores = [run["test"]["self_trained"]["metrics"]["nll"]["score"] for run in results]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)


@pytest.mark.slow
@pytest.mark.distributed
def test_deepspeed_skips_a_step_that_is_not_finite(tiny_encoder: Path, tmp_path: Path) -> None:
    """It takes its step before `Trainer` looks at the gradients. Guards weights of NaN, and a step that is not counted."""
    can_start_deepspeed()
    ended = launched("deepspeed_zero2.yaml", [Path(__file__).with_name("skipping_job.py"), tiny_encoder, tmp_path])
    assert ended.returncode == 0, ended.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"process-{number}.json").read_text()) for number in range(2))
    assert first == second
    assert first["skipped"] == 1
    assert np.isfinite(first["weights"]).all()


def can_start_deepspeed() -> None:
    """Skip a test where DeepSpeed is missing, or what it builds its exchange between processes on CPUs with."""
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed; pip install deepspeed")
    if shutil.which("c++") is None:
        pytest.skip("DeepSpeed needs a compiler on CPUs")


def test_models_in_parts_are_refused() -> None:
    """Guards students of which all processes but the first one have no weights when they score."""
    sharded = {"ACCELERATE_USE_FSDP": "true", "FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}
    with pytest.raises(UserError, match="fsdp_cpu_ram_efficient_loading: expected false"):
        refuse_parts_of_models(sharded)
    staged = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}
    with pytest.raises(UserError, match="zero_stage: expected at most 2"):
        refuse_parts_of_models(staged)
    refuse_parts_of_models(sharded | {"FSDP_CPU_RAM_EFFICIENT_LOADING": "false"})
    refuse_parts_of_models(staged | {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"})
    refuse_parts_of_models({"FSDP_CPU_RAM_EFFICIENT_LOADING": "true"})


def test_the_script_for_slurm_has_flags_of_torchrun() -> None:
    """Guards a script that no shell can read, and flags that torchrun does not have."""
    assert started(["bash", "-n", SLURM]).returncode == 0
    command = SLURM.read_text(encoding="utf-8").partition("srun torchrun")[2]
    flags = re.findall(r"(?<=\s)(--[a-z-]+)", command)
    known = {flag for action in get_args_parser()._actions for flag in action.option_strings}
    assert len(flags) == 6
    assert set(flags) <= known


@pytest.mark.distributed
def test_two_machines_of_slurm_train_one_run(files: list[object], tmp_path: Path) -> None:
    """The script, with this machine as both of a cluster's: guards machines that do not meet, or that both own the run."""
    programs = {
        "scontrol": "echo localhost",
        "torchrun": f'exec {sys.executable} -m torch.distributed.run "$@"',
        "srun": '"$@" & first=$!\n"$@" & second=$!\nwait $first && wait $second',
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    settings = {"SLURM_JOB_NODELIST": "here[1-2]", "SLURM_NNODES": "2", "SLURM_GPUS_ON_NODE": "1", "SLURM_JOB_ID": "7"}
    settings |= {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "PORT": str(free_port())}
    ended = started(["bash", SLURM, *files, *FLAGS, "--output", tmp_path / "out"], **settings)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert json.loads((tmp_path / "out" / "results.json").read_text())["chosen"]["model"]
    assert ended.stderr.count("classes: ") == 1, "one process of both machines reports"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return int(found.getsockname()[1])
