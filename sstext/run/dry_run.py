"""`--dry-run`: what a run would do, and about how long it would take."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sstext.config.run_config import RunConfig, seconds_of
from sstext.data.run_sources import fingerprints, given_data, sources
from sstext.inference.devices import resolve_device, resolve_precision
from sstext.progress import SILENT, Reporter
from sstext.run.opening import open_chain, replaceable_sources
from sstext.run.results import described_method
from sstext.selftraining.budget import cut
from sstext.selftraining.pace import Pace
from sstext.selftraining.plan import Plan
from sstext.storage.run_folder import RunDirectory


@dataclass(frozen=True)
class Forecast:
    """What a run would do, measured on a few batches.

    Attributes:
        plan: the plan.
        rows: number of rows by kind.
        classes: their names.
        max_length: tokens of a text that are read.
        device, precision: device and precision of the run.
        method: the method with its arguments, in words.
        over_budget: whether the plan takes longer than the budget, although no plan is shorter.
        prefix: what is put before every text.
    """

    plan: Plan
    rows: dict[str, int]
    classes: list[str]
    max_length: int
    device: str
    precision: str
    method: str
    over_budget: bool = False
    prefix: str = ""


def forecast(config: RunConfig, *, reporter: Reporter = SILENT, **data: Any) -> Forecast:
    """Plan a run and estimate its time. A few batches are timed, and nothing is left on disk.

    Raises:
        UserError: as `train`.
    """
    data = given_data(**data)  # a stream can be read only once
    if config.output is not None:
        named, directory = sources(config, **data), RunDirectory(config.output)
        found, replaceable = fingerprints(named, config.descriptions), replaceable_sources(config, named, directory)
        directory.check(config.to_yaml(), found, config.defaults(), replaceable)
    with tempfile.TemporaryDirectory(prefix="sstext-plan-") as scratch:
        chain = open_chain(replace(config, output=str(Path(scratch) / "out")), reporter, **data)
        budget = seconds_of(config.budget) if config.budget is not None else float("inf")
        plan = cut(chain, Pace.measure(chain), budget)
        device = resolve_device(config.device)
        return Forecast(
            plan=plan,
            rows=chain.texts.counts(),
            classes=chain.texts.classes,
            max_length=chain.tokens.max_length,
            device=device.type,
            precision=resolve_precision(config.precision, device),
            method=described_method(config),
            over_budget=plan.seconds is not None and plan.seconds > budget,
            prefix=str(chain.config.prefix or ""),
        )
