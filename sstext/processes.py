"""Several processes, one run: who writes the files, what the first one saw, and waiting for the others."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list


@contextmanager
def main_process_first(device: torch.device) -> Iterator[bool]:
    """Run the block on the first process of each machine, then on the others; yields whether this is the first.

    Args:
        device: what will be computed on: it decides how the processes talk to each other.
    """
    state = PartialState(cpu=device.type == "cpu")
    with state.local_main_process_first():
        yield state.is_main_process


def is_main_process() -> bool:
    """Whether this process writes the files."""
    return PartialState().is_main_process


def from_main_process(value: Any) -> Any:
    """What the first process has in the place of `value`: a look at the disk decides for all, or they would part ways."""
    found = [value]
    broadcast_object_list(found)
    return found[0]


def wait_for_everyone() -> None:
    """Wait until all processes are here."""
    PartialState().wait_for_everyone()
