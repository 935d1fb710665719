"""What a person sees while waiting: one line per phase with a rate and the time left, on stderr."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from tqdm import tqdm

#: Seconds between two sentences about a phase, where there is no terminal for a line that moves.
EVERY = 60.0


class Tick(Protocol):
    """Tells a progress line that `n` more units are done."""

    def __call__(self, n: int = 1) -> object: ...


class Reporter:
    """Notes and progress lines of one run.

    Progress lines appear on a terminal; in a file or a pipe a sentence a minute stands for them. Notes (a sentence each) appear
    everywhere. `quiet` silences all of it, and so does every process but the first.

    >>> Reporter(quiet=True).note("never seen")
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self._times: dict[str, float] = {}

    def note(self, message: str) -> None:
        """Print one sentence."""
        if not self.quiet:
            print(message, file=sys.stderr, flush=True)

    def phase(self, name: str, total: int | None, unit: str, done: int = 0) -> AbstractContextManager[Tick]:
        """Show one progress line while the block runs; call what it yields as units get done.

        Args:
            name: what is going on, for example "round 1: training".
            total: units in the whole phase, None where that is not known.
            unit: "step", "text", ….
            done: units that an interrupted run had already finished.
        """
        return self._timed_line(name, total, unit, done)

    @contextmanager
    def _timed_line(self, name: str, total: int | None, unit: str, done: int) -> Iterator[Tick]:
        disable = True if self.quiet else None  # None: tqdm's word for "only on a terminal"
        began = time.monotonic()
        try:
            with tqdm(
                total=total,
                initial=done,
                desc=name,
                unit=f" {unit}s",
                disable=disable,
                dynamic_ncols=True,
                mininterval=0.2,
            ) as bar:
                yield bar.update if self.quiet or sys.stderr.isatty() else self._minutely(name, total, unit, done)
        finally:
            self._times[name] = self._times.get(name, 0.0) + time.monotonic() - began

    def _minutely(self, name: str, total: int | None, unit: str, done: int) -> Tick:
        """A tick that notes, once a minute, how far a phase is, at which rate, and how long it takes still."""
        began = said = time.monotonic()
        units = done

        def tick(n: int = 1) -> None:
            nonlocal said, units
            units += n
            now = time.monotonic()
            if now - said < EVERY:
                return
            said, rate = now, (units - done) / (now - began)
            of, left = (f" of {total:,}", f", {duration((total - units) / rate)} left") if total else ("", "")
            self.note(f"{name}: {units:,}{of} {unit}s, {rate:.3g} a second{left}")

        return tick

    def figures(self, values: Mapping[str, Any], step: int = 0) -> None:
        """Tell what was measured, name → number: nobody here, the loggers in `sstext.training.loggers`.

        Args:
            step: optimizer steps of the training that goes on; 0 between trainings.
        """

    def trained(self, steps: int) -> None:
        """Tell that a training is over, and how many optimizer steps it made."""

    def take_times(self) -> dict[str, float]:
        """Seconds by phase since this was last asked, a phase that came twice in one.

        >>> reporter = Reporter(quiet=True)
        >>> with reporter.phase("scoring", 1, "text") as tick:
        ...     tick()
        >>> list(reporter.take_times()), reporter.take_times()
        (['scoring'], {})
        """
        times, self._times = self._times, {}
        return times


SILENT = Reporter(quiet=True)


def duration(seconds: float) -> str:
    """A duration for people.

    >>> duration(42), duration(125), duration(7300)
    ('42 s', '2 min 5 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
