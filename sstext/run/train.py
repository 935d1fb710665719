"""One run: files in, run folder out. What `sstext train` does, and what Python calls to do the same."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sstext.config.run_config import RunConfig
from sstext.errors import UserError
from sstext.processes import is_main_process, wait_for_everyone
from sstext.progress import SILENT, Reporter
from sstext.reporting import REPORT, write_report
from sstext.run.measuring import peak_memory
from sstext.run.opening import open_run
from sstext.run.results import card
from sstext.run.shipping import shipped_results
from sstext.selftraining.budget import in_budget, price
from sstext.selftraining.cross_fitting import Run
from sstext.selftraining.loop import run_rounds
from sstext.selftraining.record import Round, sentence
from sstext.storage.run_folder import RunDirectory
from sstext.storage.whole import write_whole
from sstext.training.loggers import tracked


def train(config: RunConfig, *, reporter: Reporter = SILENT, **data: Any) -> dict[str, Any]:
    """Run everything: the rounds, the choice of the model, `model/`, the test rows, `results.json`.

    The same call continues an interrupted run, and of a finished one it returns the results.

    Args:
        config, reporter, **data: see `sstext.run.train.train.self_train`.

    Returns:
        The content of `results.json`.

    Raises:
        UserError: data, options or folder that cannot be used, before anything is trained.
    """
    began = time.monotonic()
    with tracked(config, reporter) as reporter:
        reporter.take_times()  # of another run, perhaps
        run = in_budget(open_run(config, reporter, **data), reporter)
        directory = run.directory
        if directory.results.exists():
            reporter.note(f"{directory.path}: this run is finished, here are its results")
        else:
            with timed(directory, reporter, began):
                results = shipped_results(run, self_trained(run))
            if is_main_process():
                results |= {**directory.times(), "peak_memory_mib": peak_memory()}
                write_whole(directory.model / "README.md", card(config, directory, results))
                directory.write_results(results)
        if is_main_process() and config.report and not (directory.path / REPORT).exists():
            make_report(directory, reporter)
        wait_for_everyone()
        return directory.read_results()


@contextmanager
def timed(directory: RunDirectory, reporter: Reporter, began: float) -> Iterator[None]:
    """Keep the time that the block takes, and its phases, in the run's folder, also where it is interrupted."""
    try:
        yield
    finally:
        if is_main_process():
            directory.add_times(reporter.take_times(), time.monotonic() - began)


def make_report(directory: RunDirectory, reporter: Reporter) -> None:
    """Write `report.html`; a run is finished also where that fails."""
    try:
        write_report(directory.path)
    except Exception as error:  # whatever it is, the results are there
        reporter.note(f"there is no report ({error}); `sstext report {directory.path}` tries again")


def self_trained(run: Run) -> list[Round]:
    """All rounds of a run, those of an interrupted call too; a sentence is said of each new one."""
    reporter, directory = run.whole.reporter, run.directory
    done = len(directory.rounds())
    if done:
        reporter.note(f"continuing {directory.path}: {done} round{'s are' if done > 1 else ' is'} done")
    elif run.cross_fitted and run.whole.config.budget is None:
        reporter.note(price(run))
    rounds = []
    for record in run_rounds(run):
        rounds.append(record)
        if len(rounds) > done:
            reporter.note(sentence(record))
    return rounds


def self_train(config: RunConfig, *, reporter: Reporter = SILENT, **data: Any) -> Iterator[Round]:
    """Self-train in `config.output`, one round at a time.

    Rounds that an earlier, interrupted call finished are yielded from their records. Whoever stops asking for rounds stops
    the run; the same call continues it. Source: Yarowsky 1995; Lee 2013; Xie et al. 2020 (Noisy Student), algorithm 1.

    Args:
        config: all options.
        reporter: where notes and progress of this package go (default: nowhere; the libraries' own follow their settings).
        **data: `labeled`, `unlabeled`, `dev`, `test`, `audit` as data sets, in the place of the files in `config`.

    Raises:
        UserError: data, options or folder that cannot be used, before anything is trained.

    ```python
    for round in self_train(RunConfig(labeled="my.csv", unlabeled="corpus.jsonl", encoder="demo", output="out")):
        print(round.index, round.admitted, round.metrics)
    ```
    """
    if config.budget is not None:
        raise UserError("budget: only a whole run can be cut to a time; call sstext.train, or leave it out")
    with tracked(config, reporter) as reporter:
        yield from run_rounds(open_run(config, reporter, **data))
