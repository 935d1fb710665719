"""Helpers for runs with several processes: which one writes files, sharing a value, and waiting for the others."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list


@contextmanager
def main_process_first(device: torch.device) -> Iterator[bool]:
    """Run the block on the first process of each machine, then on the others. Yields whether this is the main process.

    Args:
        device: device of the computation. It decides how the processes communicate.
    """
    state = PartialState(cpu=device.type == "cpu")
    with state.local_main_process_first():
        yield state.is_main_process


def is_main_process() -> bool:
    """Whether this process writes the files."""
    return PartialState().is_main_process


def from_main_process(value: Any) -> Any:
    """Return the `value` of the first process to all processes, so that all make the same decision about the disk."""
    found = [value]
    broadcast_object_list(found)
    return found[0]


def wait_for_everyone() -> None:
    """Wait until all processes have reached this call."""
    PartialState().wait_for_everyone()
