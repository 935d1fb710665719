"""Ctrl-C and SIGTERM are one thing: work is stopped, and goes on later."""

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import NoReturn

#: What Ctrl-C sends, and what schedulers, containers and `kill` send.
SIGNALS = (signal.SIGINT, signal.SIGTERM)

#: How long after a signal an error is taken for its effect.
SECONDS = 2.0

Handler = Callable[[int, FrameType | None], object]


@contextmanager
def on_interrupt(handler: Handler) -> Iterator[None]:
    """Call a function for both signals in this block, and the former ones afterwards.

    A signal that is ignored stays so: background jobs ignore Ctrl-C. Outside of the main thread, nothing changes.
    """
    former = handle(handler)
    try:
        yield
    finally:
        restore(former)


def handle(handler: Handler) -> dict[int, object]:
    """Call a function for both signals. Returns the former handlers for `restore`."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    wanted = [number for number in SIGNALS if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    return {number: signal.signal(number, handler) for number in wanted}


def restore(former: dict[int, object]) -> None:
    """Take the handlers of `handle` back."""
    for number, handler in former.items():
        signal.signal(number, handler)  # type: ignore[arg-type]
    former.clear()


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Install the present handlers again after this block, because a library replaces them, even without Python's knowledge."""
    former = {number: handler for number in SIGNALS if (handler := signal.getsignal(number)) is not None}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in former.items():
                signal.signal(number, handler)


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt on both signals in this block. Python does so on Ctrl-C alone.

    Compiled code, such as the readers of weights, may replace a KeyboardInterrupt by an error of its own, and that error may
    even be caught and reported as a damaged file. So an error within `SECONDS` of a signal becomes a KeyboardInterrupt again.

    A launcher of several processes ends them by SIGTERM if one of them fails. A process that waits for another one cannot
    handle the signal in Python, so several processes keep their handlers.
    """
    arrived = -math.inf

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        nonlocal arrived
        arrived = time.monotonic()
        raise KeyboardInterrupt

    alone = os.environ.get("WORLD_SIZE", "1") == "1"
    try:
        with on_interrupt(interrupt) if alone else nullcontext():
            yield
    except Exception as error:
        if time.monotonic() - arrived < SECONDS:
            raise KeyboardInterrupt from error
        raise
