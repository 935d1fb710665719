"""Ctrl-C and SIGTERM are one thing: work is stopped, and goes on later."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FrameType

#: What Ctrl-C sends, and what schedulers, containers and `kill` send.
SIGNALS = (signal.SIGINT, signal.SIGTERM)

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


def interruptible() -> AbstractContextManager[None]:
    """Raise KeyboardInterrupt on both signals in this block. Python does so on Ctrl-C alone.

    A launcher of several processes ends them by SIGTERM if one of them fails. A process that waits for another one cannot
    handle the signal in Python, so several processes keep their handlers.
    """
    return on_interrupt(signal.default_int_handler) if os.environ.get("WORLD_SIZE", "1") == "1" else nullcontext()
