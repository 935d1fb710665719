"""Where the time of a command goes: seconds of its sections, and a trace of a few steps.

Sections are marked where they are defined, and cost nothing unless a profile is being made.
"""

import csv
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

TOKENIZING, DATA, FORWARD, BACKWARD = "tokenizing", "waiting for data", "forward", "backward"
OPTIMIZER, SCORING, SAVING, OTHER = "optimizer", "scoring", "saving", "other"
#: All sections, in the order of the table.
SECTIONS = (TOKENIZING, DATA, FORWARD, BACKWARD, OPTIMIZER, SCORING, SAVING, OTHER)
#: The file with the seconds of the sections, in the folder of a profile.
TIMES = "times.csv"
#: Steps that a trace has.
TRACED = 3

_ACTIVE: ContextVar["Profile | None"] = ContextVar("profile", default=None)


class Profile:
    """Seconds of the sections, without those of sections inside of them.

    Attributes:
        folder: where the traces are written.
        seconds: section → seconds so far.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds = dict.fromkeys(SECTIONS, 0.0)
        self._open = [OTHER]
        self._since = time.perf_counter()
        self._steps: Counter[str] = Counter()
        self._tracer: Any = None
        self._traced = ""

    def mark(self) -> None:
        """Count the time since the last mark for the innermost open section."""
        _wait_for_device()
        now = time.perf_counter()
        self.seconds[self._open[-1]] += now - self._since
        self._since = now

    def enter(self, name: str) -> None:
        """Begin a section."""
        self.mark()
        self._open.append(name)

    def leave(self) -> None:
        """End the innermost section, and the trace of its steps: what comes between two scorings is not in it."""
        self.mark()
        if self._open.pop() == self._traced:
            self.end_trace()

    def shares(self) -> dict[str, float]:
        """Section → its share of all seconds. The shares have the sum 1."""
        total = sum(self.seconds.values()) or 1.0
        return {name: seconds / total for name, seconds in self.seconds.items()}

    def begin_step(self, kind: str, warm_up: int) -> None:
        """Begin a step of a kind. The first ones, after the warm-up, are traced."""
        self._steps[kind] += 1
        if self._tracer is None and self._steps[kind] == warm_up + 1:
            from torch.profiler import profile

            self._tracer, self._traced = profile(), kind
            self._tracer.__enter__()

    def end_step(self, kind: str, warm_up: int) -> None:
        """End a step of a kind."""
        if self._traced == kind and self._steps[kind] >= warm_up + TRACED:
            self.end_trace()

    def end_trace(self) -> None:
        """Write the trace that is being made, if there is one."""
        if self._tracer is not None:
            self._tracer.__exit__(None, None, None)
            self._tracer.export_chrome_trace(str(self.folder / f"{self._traced}.trace.json.gz"))
            self._tracer, self._traced = None, ""


@contextmanager
def section(name: str) -> Iterator[None]:
    """Count the time of the block, or of the decorated function, for a section."""
    profile = _ACTIVE.get()
    if profile is None:
        yield
        return
    profile.enter(name)
    try:
        yield
    finally:
        profile.leave()


@contextmanager
def step(kind: str, warm_up: int = 0) -> Iterator[None]:
    """A step of which there are many: a training step, or a batch that is scored. A few of them are traced.

    Args:
        kind: name of the trace.
        warm_up: number of first steps that are not traced.
    """
    profile = _ACTIVE.get()
    if profile is None:
        yield
        return
    profile.begin_step(kind, warm_up)
    try:
        yield
    finally:
        profile.end_step(kind, warm_up)


def enter_section(name: str) -> None:
    """Begin a section that `leave_section` ends, where there is no block."""
    if (profile := _ACTIVE.get()) is not None:
        profile.enter(name)


def leave_section() -> None:
    """End the innermost section."""
    if (profile := _ACTIVE.get()) is not None:
        profile.leave()


@contextmanager
def profiled(folder: str | Path) -> Iterator[Profile]:
    """Profile the block. The folder gets `times.csv`, and a trace of each kind of steps for chrome://tracing or Perfetto.

    Args:
        folder: is made if it does not exist.
    """
    made = Profile(Path(folder))
    made.folder.mkdir(parents=True, exist_ok=True)
    token = _ACTIVE.set(made)
    try:
        yield made
    finally:
        _ACTIVE.reset(token)
        made.mark()
        made.end_trace()
        with (made.folder / TIMES).open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["section", "seconds", "share"])
            for name, share in made.shares().items():
                rows.writerow([name, f"{made.seconds[name]:.3f}", f"{share:.4f}"])


def _wait_for_device() -> None:
    """Wait until a GPU has done its work: otherwise a section would end before its work is done."""
    import torch

    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
