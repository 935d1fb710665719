"""Kill runs at random moments, continue them, and compare every file with a run that nothing interrupted.

    python tests/soak.py                      # for an hour
    python tests/soak.py --moments 30 --seed 1

A run is a process that is forked from this one, so that torch is imported only once. It is killed once or several times by
SIGKILL, SIGTERM or SIGINT, and then runs to its end. Every file but the times must be the same, and nothing may be left
over. The script prints a line for each kind of run, and exits with 1 at the first difference.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from conftest import write_tiny_encoder, write_tiny_task

from sstext.cli.main import main
from sstext.run.verifying import differences, verify

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
COMMON = ["train", "--steps=8", "--round-steps=8", "--learning-rate=5e-3", "--precision=fp32", "--device=cpu", "--no-report",
          "--quiet"]  # fmt: skip
OF_ROUNDS = ["--method=class-balanced", "--rounds=1"]
#: Kind of run → its flags.
KINDS = {
    "one chain, constant rate": [*OF_ROUNDS, "--folds=0", "--training-args", "lr_scheduler_type=constant", "save_steps=3"],
    "one chain, cosine": [*OF_ROUNDS, "--folds=0", "--training-args", "lr_scheduler_type=cosine", "save_steps=2"],
    "development rows, early stopping": [*OF_ROUNDS, "--dev=dev.csv", "--training-args", "eval_steps=1",
                                         "early_stopping_patience=2"],
    "three folds": ["--folds=3", "--rounds=1", "--training-args", "save_steps=3"],
}  # fmt: skip


@dataclass
class Kind:
    """A kind of run: its reference, and what was seen."""

    flags: list[str]
    reference: Path
    seconds: float
    seen: Counter = field(default_factory=Counter)


def started(flags: list[str], output: Path, log: Path) -> int:
    """Start a run. Returns the id of its process."""
    process = os.fork()
    if process:
        return process
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(handle, stream)
    code = 99
    try:
        code = main([*COMMON, *flags, "--output", str(output)])
    except KeyboardInterrupt:  # before the command has begun, or after it has ended
        code = 130
    finally:
        os._exit(code)
    return 0


def ended(process: int) -> int:
    """Wait for a run. Returns its exit code, negative if a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def whole(flags: list[str], output: Path, log: Path) -> float:
    """Run to the end. Returns the seconds that it took."""
    began = time.monotonic()
    code = ended(started(flags, output, log))
    if code != 0:
        raise SystemExit(f"{output}: exit code {code}\n{log.read_text()}")
    return time.monotonic() - began


def one_trial(kind: Kind, output: Path, log: Path, rng: np.random.Generator) -> list[str]:
    """Kill a run at random moments, and let it end. Returns what differs."""
    for _ in range(rng.integers(1, 4)):
        number = SIGNALS[rng.integers(len(SIGNALS))]
        process = started(kind.flags, output, log)
        time.sleep(float(rng.uniform(0.0, kind.seconds)))
        os.kill(process, number)
        code = ended(process)
        if code not in (0, 130, -number):
            return [f"exit code {code} after {number.name}\n{log.read_text()}"]
        kind.seen[number.name] += code != 0
    whole(kind.flags, output, log)
    said = log.read_text()
    # Python drops a Ctrl-C that arrives in the `__del__` of another library; the run then goes on to its end.
    if "Traceback" in said and "Exception ignored in" not in said:
        return [said]
    kind.seen["trials"] += 1
    return differences(kind.reference, output) + verify(output).problems


def soak(seconds: float, moments: int | None, seed: int) -> int:
    """Run trials until the time is over or there were enough kills. Returns the exit code."""
    rng, until = np.random.default_rng(seed), time.monotonic() + seconds
    folder = Path(tempfile.mkdtemp(prefix="sstext-soak-"))
    os.chdir(folder)
    write_tiny_task(folder)
    write_tiny_encoder(folder / "encoder")
    data = ["--labeled=labeled.csv", "--unlabeled=unlabeled.jsonl", "--test=test.csv", "--encoder=encoder"]
    kinds = {}
    for name, flags in KINDS.items():
        place = folder / f"reference-{len(kinds)}"
        kinds[name] = Kind([*data, *flags], place, whole([*data, *flags], place, folder / "log"))
    turn, found = 0, list[str]()
    while not found and time.monotonic() < until and (moments is None or kills(kinds) < moments):
        kind = list(kinds.values())[turn % len(kinds)]
        output, log = folder / f"trial-{turn}", folder / f"log-{turn}"
        found = one_trial(kind, output, log, rng)
        if not found:
            shutil.rmtree(output)
        turn += 1
    for name, kind in kinds.items():
        print(f"{name}: " + ", ".join(f"{count} {what}" for what, count in sorted(kind.seen.items())))
    if found:
        print(f"{output} differs from {kind.reference}:", *found, sep="\n  ")
        return 1
    print(f"{kills(kinds)} kills, no difference")
    shutil.rmtree(folder)
    return 0


def kills(kinds: dict[str, Kind]) -> int:
    """The kills so far that hit a running process."""
    return sum(count for kind in kinds.values() for name, count in kind.seen.items() if name != "trials")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600, help="Default: an hour.")
    parser.add_argument("--moments", type=int, help="Stop after this number of kills. Default: only the time counts.")
    parser.add_argument("--seed", type=int, default=0, help="Default: 0.")
    given = parser.parse_args()
    sys.exit(soak(given.seconds, given.moments, given.seed))
