"""Helpers for runs with several processes: which one writes files, sharing a value, and waiting for the others."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from sstext.errors import UserError


@contextmanager
def main_process_first(device: torch.device) -> Iterator[bool]:
    """Run the block on the first process of each machine, then on the others. Yields whether this is the main process.

    Args:
        device: device of the computation. It decides how the processes communicate.
    """
    state = PartialState(cpu=device.type == "cpu")
    with state.local_main_process_first():
        yield state.is_main_process


def is_first_of(device: torch.device) -> bool:
    """Whether this process writes the files, if it has not computed anything yet.

    Args:
        device: device of the computation. It decides how the processes communicate.
    """
    return PartialState(cpu=device.type == "cpu").is_main_process


def is_main_process() -> bool:
    """Whether this process writes the files."""
    return PartialState().is_main_process


def number_of_processes(device: torch.device) -> int:
    """Number of processes that run together under `accelerate launch`, 1 otherwise.

    Args:
        device: device of the computation. It decides how the processes communicate.
    """
    return int(PartialState(cpu=device.type == "cpu").num_processes)


def from_main_process(value: Any) -> Any:
    """Return the `value` of the first process to all processes, so that all make the same decision about the disk."""
    found = [value]
    broadcast_object_list(found)
    return found[0]


def wait_for_everyone() -> None:
    """Wait until all processes have reached this call."""
    PartialState().wait_for_everyone()


def refuse_parts_of_models(settings: Mapping[str, str] = os.environ) -> None:
    """Refuse settings of a launcher that leave a process without a whole model. Students are trained in parts, but score whole.

    Args:
        settings: environment variables, as `accelerate launch` sets them from its configuration.

    Raises:
        UserError: names the key of the configuration.
    """

    def is_on(name: str, default: str) -> bool:
        return settings.get(name, default).lower() in ("1", "true", "yes", "on")

    if is_on("ACCELERATE_USE_FSDP", "false") and is_on("FSDP_CPU_RAM_EFFICIENT_LOADING", "false"):
        raise UserError(
            "fsdp_cpu_ram_efficient_loading: expected false in the configuration of accelerate, found true: every process "
            "scores texts with a whole model; see recipes/accelerate/fsdp.yaml"
        )
    if is_on("ACCELERATE_USE_DEEPSPEED", "false") and settings.get("ACCELERATE_DEEPSPEED_ZERO_STAGE") == "3":
        raise UserError(
            "zero_stage: expected at most 2 in the configuration of accelerate, found 3: every process scores texts with a "
            "whole model; see recipes/accelerate/deepspeed_zero2.yaml"
        )
