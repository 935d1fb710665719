"""Loggers: a self-training run is one run in TensorBoard, W&B and the other trackers of Accelerate.

Names are stable. `train/…` is the student with all labels, `chain_k/…` is a student of chain k, `round/…` is the result
of a round, and `test/…` is the result on the test rows. The x-axis counts the optimizer steps of the run, over all
chains.
"""

import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from numbers import Real
from pathlib import Path
from typing import Any

from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, get_available_trackers
from transformers.integrations import INTEGRATION_TO_CALLBACK

from sstext.config.run_config import RunConfig
from sstext.errors import UserError, listed
from sstext.processes import is_main_process
from sstext.progress import Reporter, Tick
from sstext.storage.whole import write_whole

PROJECT = "sstext"


#: The loggers' folder in the run folder, and the file with the run's logger name, which a continued run uses again.
LOGS, RUN_ID = "logs", "run_id"


class TrackedReporter(Reporter):
    """A reporter that also sends figures to loggers. It starts them at the first figure, when the run has its folder.

    If a logger fails, it is left out from then on, with a note. The training continues.
    """

    def __init__(self, reporter: Reporter, config: RunConfig) -> None:
        super().__init__(reporter.quiet)
        self._reporter, self._config = reporter, config
        self._trackers: list[GeneralTracker] | None = None
        self._steps = 0

    # Output for people goes through the wrapped reporter.

    def note(self, message: str) -> None:
        """See `Reporter`."""
        self._reporter.note(message)

    def phase(self, name: str, total: int | None, unit: str, done: int = 0) -> AbstractContextManager[Tick]:
        """See `Reporter`."""
        return self._reporter.phase(name, total, unit, done)

    def take_times(self) -> dict[str, float]:
        """See `Reporter`."""
        return self._reporter.take_times()

    def figures(self, values: Mapping[str, Any], step: int = 0) -> None:
        """Send all numeric values to every logger."""
        numbers = {name: float(value) for name, value in values.items() if _is_number(value)}
        if not is_main_process() or not numbers:
            return
        for tracker in self._started():
            self._tried(tracker, lambda tracker: tracker.log(numbers, step=self._steps + step))

    def trained(self, steps: int) -> None:
        """Add finished steps to the x-axis."""
        self._steps += steps

    def finish(self) -> None:
        """Close the loggers."""
        for tracker in self._trackers or ():
            self._tried(tracker, lambda tracker: tracker.finish())
        self._trackers = None

    def _started(self) -> list[GeneralTracker]:
        if self._trackers is None:
            self._trackers = []
            for name in in_one_run(self._config.report_to):
                kind, arguments = LOGGER_TYPE_TO_CLASS[name], self._arguments(name)
                try:
                    tracker = kind(
                        PROJECT if name != "wandb" else os.environ.get("WANDB_PROJECT", PROJECT), **arguments
                    )
                    tracker.start()
                    _describe(tracker, self._config)
                    self._trackers.append(tracker)
                except Exception as error:  # a logger's service or network can raise anything
                    self.note(f"report_to: {name} does not start and is left out: {error}")
        return list(self._trackers)

    def _arguments(self, name: str) -> dict[str, Any]:
        folder = Path(str(self._config.output))
        if name == "wandb":
            return {"name": folder.name, "dir": str(folder), "id": _run_id(folder), "resume": "allow"}
        return {"logging_dir": str(folder / LOGS)} if LOGGER_TYPE_TO_CLASS[name].requires_logging_directory else {}

    def _tried(self, tracker: GeneralTracker, action: Any) -> None:
        try:
            action(tracker)
        except Exception as error:
            self.note(f"report_to: {tracker.name} failed and is switched off: {error}")
            self._trackers = [other for other in self._trackers or () if other is not tracker]


@contextmanager
def tracked(config: RunConfig, reporter: Reporter) -> Iterator[Reporter]:
    """The reporter of a run: `reporter` itself, or a reporter that also sends figures to the loggers in `report_to`.

    Raises:
        UserError: a logger is unknown, or its package is not installed.
    """
    check_loggers(config.report_to)
    if not in_one_run(config.report_to):
        yield reporter
        return
    sending = TrackedReporter(reporter, config)
    try:
        yield sending
    finally:
        sending.finish()


def check_loggers(names: Sequence[str]) -> None:
    """Check that all loggers are known and installed.

    Raises:
        UserError: a logger is unknown, or its package is not installed.
    """
    if list(names) == ["none"]:
        return
    known = [*LOGGER_TYPE_TO_CLASS, *sorted(set(INTEGRATION_TO_CALLBACK) - set(LOGGER_TYPE_TO_CLASS))]
    for name in names:
        if name not in known:
            raise UserError(f"report_to: expected names among {listed(known, limit=99)}, found {name!r}")
    for name in in_one_run(names):
        if name not in [str(getattr(kind, "value", kind)) for kind in get_available_trackers()]:
            raise UserError(f"report_to: the package of {name} is not installed; pip install {name}, or leave it out")


def in_one_run(names: Sequence[str]) -> list[str]:
    """The loggers that show the whole self-training as one run. `Trainer` reports to the others, one run per training.

    >>> in_one_run(["tensorboard", "codecarbon"])
    ['tensorboard']
    """
    return [name for name in names if name in LOGGER_TYPE_TO_CLASS]


def figures_of_round(record: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a round's record, with their names in the loggers.

    >>> figures_of_round({"index": 1, "coverage": .5, "metrics": {"macro_f1": .75}, "stopped_because": None})
    {'round/index': 1, 'round/coverage': 0.5, 'round/dev_macro_f1': 0.75}
    """
    groups = {"metrics": "dev_", "out_of_fold": "out_of_fold_", "gain": "gain_"}
    found = {f"round/{name}": value for name, value in record.items() if _is_number(value)}
    for name, prefix in groups.items():
        found |= {f"round/{prefix}{key}": value for key, value in (record.get(name) or {}).items()}
    return found


def figures_of_test(test: Mapping[str, Any]) -> dict[str, float]:
    """The figures measured on the test rows, with their names in the loggers.

    >>> figures_of_test({"supervised": {"metrics": {"accuracy": {"score": .5}}}})
    {'test/supervised_accuracy': 0.5}
    """
    return {
        f"test/{'' if model == 'self_trained' else f'{model}_'}{name}": figure["score"]
        for model, measured in test.items()
        for name, figure in measured["metrics"].items()
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _describe(tracker: GeneralTracker, config: RunConfig) -> None:
    if tracker.name == "tensorboard":  # its table of hyperparameters would be a separate run
        tracker.log({"config": "".join(f"    {line}\n" for line in config.to_yaml().splitlines())}, step=0)
        return
    plain = {
        name: value if isinstance(value, str | int | float) else str(value) for name, value in asdict(config).items()
    }
    tracker.store_init_configuration(plain)


def _run_id(folder: Path) -> str:
    """The logger's name of a run. It is drawn once, so a continued run also continues in the logger."""
    file = folder / RUN_ID
    if not file.exists():
        write_whole(file, uuid.uuid4().hex, recorded=False)
    return file.read_text(encoding="utf-8")
