"""Notes and progress lines: what is printed where, and when nothing is."""

import io
import sys
from types import SimpleNamespace

import pytest

from sstext import progress
from sstext.progress import SILENT, Reporter


class Terminal(io.StringIO):
    """A stderr that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def run(reporter: Reporter) -> None:
    reporter.note("read 12 rows")
    with reporter.phase("scoring", total=10, unit="text", done=4) as tick:
        tick()
        tick(5)


def test_notes_go_to_stderr_and_progress_to_terminals_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """Guards a pipe: stdout carries predictions, and a log file no control characters."""
    run(Reporter())
    assert capsys.readouterr() == ("", "read 12 rows\n")


def test_a_terminal_sees_one_line_per_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupted phase goes on where it was: 4 + 1 + 5 of 10."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    run(Reporter())
    shown = terminal.getvalue()
    assert shown.count("\n") == 2
    assert "scoring: 100%" in shown.splitlines()[-1].split("\r")[-1]
    assert "10/10" in shown


@pytest.mark.parametrize("reporter", [Reporter(quiet=True), SILENT])
def test_quiet_is_silent_on_a_terminal_too(monkeypatch: pytest.MonkeyPatch, reporter: Reporter) -> None:
    """Guards `--quiet`: the result alone is printed."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    run(reporter)
    assert terminal.getvalue() == ""


def test_a_log_file_gets_a_sentence_a_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards a run that is silent for half an hour where nobody has a terminal. 20 steps in 100 s are .2 a second."""
    clock = iter([0.0, 0.0, 59.0, 100.0, 110.0, 200.0])
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with Reporter().phase("baseline: training", 50, "step", done=10) as tick:
        tick(10)
        tick(10)
        tick(1)
    said = capsys.readouterr().err.splitlines()
    assert said == ["baseline: training: 30 of 50 steps, 0.2 a second, 1 min 40 s left"]
