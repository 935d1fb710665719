"""`--dry-run`: what a run would do, and about how long it would take."""

import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sstext.config.run_config import RunConfig, seconds_of
from sstext.data.preparing import fingerprints, sources
from sstext.inference.devices import resolve_device, resolve_precision
from sstext.progress import SILENT, Reporter
from sstext.run.opening import open_chain
from sstext.selftraining.budget import Pace, cut, folds_of
from sstext.storage.run_folder import RunDirectory


@dataclass(frozen=True)
class Plan:
    """What a run is going to do, measured on a few batches and written nowhere."""

    rows: dict[str, int]
    classes: list[str]
    max_length: int
    device: str
    precision: str
    steps: list[int]
    seconds: float
    method: str = ""
    folds: int = 0
    left_out: list[str] = field(default_factory=list)


def plan(config: RunConfig, *, reporter: Reporter = SILENT, **data: Any) -> Plan:
    """What `train` would do and about how long it would take: a few batches are timed, nothing is left on disk.

    Raises:
        UserError: as `train`.
    """
    if config.output is not None:
        RunDirectory(config.output).check(config.to_yaml(), fingerprints(sources(config, **data)), config.defaults())
    with tempfile.TemporaryDirectory(prefix="sstext-plan-") as scratch:
        chain = open_chain(replace(config, output=str(Path(scratch) / "out")), reporter, **data)
        budget = seconds_of(config.budget) if config.budget is not None else float("inf")
        made = cut(chain, Pace.measured(chain), folds_of(chain), budget)
        device = resolve_device(config.device)
        return Plan(
            rows=chain.texts.counts(),
            classes=chain.texts.classes,
            max_length=chain.tokens.max_length,
            device=device.type,
            precision=resolve_precision(config.precision, device),
            steps=made.steps,
            seconds=made.seconds,
            method=config.method,
            folds=made.folds,
            left_out=made.left_out + (["nothing more: even this takes longer"] if made.seconds > budget else []),
        )
