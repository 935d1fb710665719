"""One run, from files to a run folder: what `sstext train` does, and the same from Python."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from sstext.config.run_config import RunConfig
from sstext.errors import UserError
from sstext.inference.devices import resolve_device
from sstext.processes import is_first_of, is_main_process, wait_for_everyone
from sstext.progress import SILENT, Reporter
from sstext.reporting.report import write_report_of_owner
from sstext.run.continuing import finished_run
from sstext.run.measuring import peak_memory
from sstext.run.opening import open_chain
from sstext.run.results import card
from sstext.run.shipping import choose_and_measure
from sstext.selftraining.budget import plan_in_budget, price
from sstext.selftraining.cross_fitting import Run, make_run
from sstext.selftraining.loop import run_stages
from sstext.selftraining.record import StageRecord, sentence
from sstext.storage.ownership import owned
from sstext.storage.run_folder import REPORT, RunDirectory
from sstext.storage.whole import write_whole
from sstext.training.loggers import tracked


def train(
    config: RunConfig,
    *,
    reporter: Reporter = SILENT,
    report: bool = True,
    before: str | Path | None = None,
    **data: Any,
) -> dict[str, Any]:
    """Run everything: the stages, the choice of the model, `model/`, the test rows, `results.json`.

    The same call continues an interrupted run. For a finished run, it returns the results.

    Args:
        config, reporter, **data: see `self_train`.
        report: whether report.html is written at the end.
        before: folder of a finished run with similar options. Its trainings are not repeated where they would be the same.

    Returns:
        The content of `results.json`.

    Raises:
        UserError: data, options or folder that cannot be used, before anything is trained.
    """
    began = time.monotonic()
    with tracked(config, reporter) as reporter, one_owner(config):
        reporter.take_times()  # the times of an earlier run in this process
        run = open_run(config, reporter, before, **data)
        directory = run.directory
        if directory.results.exists():
            reporter.note(f"{directory.path}: this run is finished; these are its results")
        else:
            with timed(directory, reporter, began):
                results = choose_and_measure(run, run_all_stages(run))
            if is_main_process():
                results |= {**directory.times(), "peak_memory_mib": peak_memory()}
                text = card(run.whole.config, directory, results)
                write_whole(directory.model / "README.md", text, recorded=False)  # people may edit it
                directory.write_results(results)
        if is_main_process() and report and not (directory.path / REPORT).exists():
            make_report(directory, reporter)
        wait_for_everyone()
        return directory.read_results()


@contextmanager
def timed(directory: RunDirectory, reporter: Reporter, began: float) -> Iterator[None]:
    """Keep the time of the block and of its phases in the folder of the run, even if the block is interrupted."""
    try:
        yield
    except BaseException:
        with suppress(UserError):  # a disk that is full is named by the first error
            _add_times(directory, reporter, began)
        raise
    _add_times(directory, reporter, began)


def _add_times(directory: RunDirectory, reporter: Reporter, began: float) -> None:
    if is_main_process():
        directory.add_times(reporter.take_times(), time.monotonic() - began)


@contextmanager
def one_owner(config: RunConfig) -> Iterator[None]:
    """Own the folder of a run in this block. Of several processes that a launcher has started, the first one owns it.

    Raises:
        UserError: another run works there, or it cannot be written to.
    """
    if config.output is None or not is_first_of(resolve_device(config.device)):
        yield
        return
    with owned(Path(config.output)):
        yield


def make_report(directory: RunDirectory, reporter: Reporter) -> None:
    """Write `report.html`. If that fails, the run is finished all the same."""
    try:
        write_report_of_owner(directory.path)
    except Exception as error:  # the results are there, whatever the error is
        reporter.note(f"the report could not be written ({error}); `sstext report {directory.path}` tries again")


def open_run(config: RunConfig, reporter: Reporter = SILENT, before: str | Path | None = None, **data: Any) -> Run:
    """The chains of a run, with a plan that fits its budget.

    Args:
        before: see `train`.

    Raises:
        UserError: see `self_train`.
    """
    earlier = finished_run(before, "before").path.absolute() if before is not None else None
    whole = replace(open_chain(config, reporter, **data), earlier=earlier)
    return make_run(whole, plan_in_budget(whole, reporter))


def run_all_stages(run: Run) -> list[StageRecord]:
    """Run all stages, and report each new one in a sentence. The records of an interrupted call come first."""
    reporter, directory = run.whole.reporter, run.directory
    done = len(directory.rounds())
    if done:
        reporter.note(f"continuing {directory.path}: {done} stage{'s are' if done > 1 else ' is'} done")
    elif run.cross_fitted and run.whole.config.budget is None:
        reporter.note(price(run.whole))
    records = []
    for record in run_stages(run):
        records.append(record)
        if len(records) > done:
            reporter.note(sentence(record))
    return records


def self_train(config: RunConfig, *, reporter: Reporter = SILENT, **data: Any) -> Iterator[StageRecord]:
    """Self-train in `config.output`, one stage at a time.

    Stages that an earlier, interrupted call has finished are yielded from their records. The run pauses if no further stage is
    asked for; the same call continues it. Source: Yarowsky 1995; Lee 2013; Xie et al. 2020 (Noisy Student), algorithm 1.

    Args:
        config: all options.
        reporter: receives notes and progress of this package. Default: they are dropped. Libraries follow their own settings.
        **data: `labeled`, `unlabeled`, `dev`, `test`, `audit` as data sets, instead of the files in `config`.

    Raises:
        UserError: data, options or folder that cannot be used, before anything is trained.

    ```python
    for record in self_train(RunConfig(labeled="my.csv", unlabeled="corpus.jsonl", encoder="demo", output="out")):
        print(record.stage, record.admitted, record.metrics)
    ```
    """
    if config.budget is not None:
        raise UserError("budget: only a whole run can be cut to a time; call sstext.train, or leave it out")
    with tracked(config, reporter) as reporter, one_owner(config):
        yield from run_stages(open_run(config, reporter, **data))
