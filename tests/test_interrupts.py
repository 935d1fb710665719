"""Ctrl-C and SIGTERM are one thing."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

import pytest

from sstext.cli import main as cli
from sstext.errors import UserError
from sstext.interrupts import SIGNALS, handle, handlers_kept, interruptible, restore


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(("command", "said"), [("train", "interrupted; the same command continues the run"),
                                               ("reproduce", "interrupted; the same command continues the run"),
                                               ("report", "interrupted")])  # fmt: skip
def test_a_command_says_that_it_was_stopped(
    number: int, command: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards a command that `kill` ends without a sentence while it reads, embeds or scores, when nothing trains."""
    former = signal.getsignal(number)
    monkeypatch.setattr(f"sstext.cli.{command}.run_{command}", lambda parsed: os.kill(os.getpid(), number))
    assert cli.main([command, "out"]) == cli.INTERRUPTED == 130
    assert capsys.readouterr().err.splitlines()[-1] == f"sstext: {said}"
    assert signal.getsignal(number) is former


def test_an_error_that_a_signal_caused_is_an_interrupt_and_another_one_stays() -> None:
    """Guards Ctrl-C while weights are read: compiled code made an error of it, which was reported as a damaged encoder."""

    def read(number: int | None) -> None:
        with interruptible():
            with suppress(KeyboardInterrupt):
                os.kill(os.getpid(), number or 0)  # signal 0 does nothing
            raise UserError("cannot load 'encoder'")

    with pytest.raises(KeyboardInterrupt) as caught:
        read(signal.SIGINT)
    assert isinstance(caught.value.__cause__, UserError)
    with pytest.raises(UserError):
        read(None)


def test_a_library_that_takes_the_signals_does_not_keep_them() -> None:
    """Guards `--engine ray`: Ray ended the program on SIGTERM, with the stack of its own code instead of a sentence."""
    with interruptible():
        ours = {number: signal.getsignal(number) for number in SIGNALS}
        with handlers_kept():
            for number in SIGNALS:
                signal.signal(number, lambda *_: sys.exit(15))
        assert {number: signal.getsignal(number) for number in SIGNALS} == ours


def test_a_signal_that_is_ignored_stays_so_and_threads_change_nothing() -> None:
    """Guards background jobs, which ignore Ctrl-C, and notebooks' threads, where Python forbids handlers."""
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruptible():
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, former)
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(handle(signal.default_int_handler)))
    thread.start()
    thread.join()
    assert found == [{}]
    changed = handle(lambda *_: None)
    assert set(changed) == set(SIGNALS)
    restore(changed)
    assert (signal.getsignal(signal.SIGINT), changed) == (former, {})


def test_of_several_processes_each_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards processes that wait for one that has failed: a handler of Python would never be called there."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    code = (
        "import os, signal\nfrom sstext.interrupts import interruptible\n"
        "with interruptible(): os.kill(os.getpid(), signal.SIGTERM)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGTERM, "")
