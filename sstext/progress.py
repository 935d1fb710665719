"""Progress messages on stderr: one line per phase, with a rate and the remaining time."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from tqdm import tqdm

from sstext.plain import plain_message

#: Seconds between two messages about a phase if the output is not a terminal.
EVERY = 60.0


class Tick(Protocol):
    """Advances a progress line by `n` units."""

    def __call__(self, n: int = 1) -> object: ...


class Reporter:
    """Notes and progress lines of one run.

    Progress lines appear on a terminal. In a file or a pipe, there is one message per minute instead. Notes, of one
    sentence each, appear everywhere. With `quiet`, nothing is printed; it is set for all processes except the first.

    >>> Reporter(quiet=True).note("never seen")
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self._times: dict[str, float] = {}

    def note(self, message: str) -> None:
        """Print one note."""
        if not self.quiet:
            print(plain_message(message), file=sys.stderr, flush=True)

    def phase(self, name: str, total: int | None, unit: str, done: int = 0) -> AbstractContextManager[Tick]:
        """Show one progress line while the block runs. It yields a function to call when units are done.

        Args:
            name: name of the phase, for example "round 1: training".
            total: units in the whole phase, or None if the number is unknown.
            unit: "step", "text", ….
            done: units that an interrupted run has already finished.
        """
        return self._timed_line(name, total, unit, done)

    @contextmanager
    def _timed_line(self, name: str, total: int | None, unit: str, done: int) -> Iterator[Tick]:
        disable = True if self.quiet else None  # for tqdm, None means "only on a terminal"
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
                yield bar.update if self.quiet or sys.stderr.isatty() else self._make_tick(name, total, unit, done)
        finally:
            self._times[name] = self._times.get(name, 0.0) + time.monotonic() - began

    def _make_tick(self, name: str, total: int | None, unit: str, done: int) -> Tick:
        """Make a tick that prints a note once a minute, with the units done, the rate and the remaining time."""
        began = noted = time.monotonic()
        units = done

        def tick(n: int = 1) -> None:
            nonlocal noted, units
            units += n
            now = time.monotonic()
            if now - noted < EVERY:
                return
            noted, rate = now, (units - done) / (now - began)
            of, left = (f" of {total:,}", f", {duration((total - units) / rate)} left") if total else ("", "")
            self.note(f"{name}: {units:,}{of} {unit}s, {rate:.3g} a second{left}")

        return tick

    def figures(self, values: Mapping[str, Any], step: int = 0) -> None:
        """Report measured values, name → number. Here it does nothing; the loggers in `sstext.training.loggers` use it.

        Args:
            values: name → number.
            step: optimizer steps of the current training. Default: 0, between trainings.
        """

    def trained(self, steps: int) -> None:
        """Report that a training has ended, and the number of its optimizer steps."""

    def take_times(self) -> dict[str, float]:
        """Seconds by phase since the last call. Repeated phases are added up.

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
    """Format a duration.

    >>> duration(42), duration(125), duration(7300)
    ('42 s', '2 min 5 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
