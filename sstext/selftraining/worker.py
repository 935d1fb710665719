"""The process of a worker. It ends at once when its run has ended, however that happened.

Nothing heavy is imported before it watches its run: a worker that is still importing must end, too.
"""

import os
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any

from sstext.interrupts import interruptible

#: Exit code of a worker whose run has ended. Nobody reads it.
ORPHAN = 3


def receive_job(pipe: Connection) -> Any:
    """Return the job from the pipe. From then on, the process ends as soon as the other end of the pipe is closed.

    Nothing else is ever sent to a worker, and the system closes the pipe of a process that has ended. All files are
    written whole, so the process may end at any moment.
    """
    job = pipe.recv_bytes()
    threading.Thread(target=_end_with, args=(pipe,), daemon=True).start()
    return ForkingPickler.loads(job)  # this imports torch, which takes seconds


def _end_with(pipe: Connection) -> None:
    try:
        pipe.recv_bytes()
    except (EOFError, OSError):
        os._exit(ORPHAN)


def main(handle: int) -> None:
    """Do the job from a pipe."""
    pipe = Connection(handle)
    with suppress(KeyboardInterrupt), interruptible():
        job = receive_job(pipe)
        from sstext.selftraining.workers import work

        work(pipe, job)


if __name__ == "__main__":
    main(int(sys.argv[1]))
