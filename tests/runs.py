"""What tests of whole runs share: interruptions, what a run leaves, and the flags of a short run."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from sstext.config.run_config import RunConfig
from sstext.progress import Reporter

#: Flags of a run of a second or two.
QUICK = (
    "--steps=4",
    "--round-steps=4",
    "--rounds=1",
    "--learning-rate=5e-3",
    "--precision=fp32",
    "--device=cpu",
    "--method=class-balanced",
)


class AtTick(Reporter):
    """Does something at one tick of one phase; counts the ticks of each."""

    def __init__(self, phase: str, tick: int, act: Callable[[], object]) -> None:
        super().__init__(quiet=True)
        self.when, self.act, self.ticks = (phase, tick), act, dict[str, int]()

    @contextmanager
    def phase(self, name: str, total: int | None, unit: str, done: int = 0) -> Iterator[Any]:
        def tick(n: int = 1) -> None:
            self.ticks[name] = self.ticks.get(name, 0) + 1
            if (name, self.ticks[name]) == self.when:
                self.act()

        yield tick


def of_chains(task: Any, encoder: Path, output: Path, folds: int, **changes: Any) -> RunConfig:
    """Options of a run of `auto` with chains and two short rounds."""
    options = {"labeled": str(task.labeled), "unlabeled": str(task.unlabeled), "folds": folds, "encoder": str(encoder),
               "output": str(output), "steps": 8, "round_steps": 6, "rounds": 2, "learning_rate": 5e-3,
               "method_args": {"round_learning_rate": 5e-3, "stop_agreement": 1.01}, "training_args": {"save_steps": 2},
               "precision": "fp32", "device": "cpu", "method": "auto"}  # fmt: skip
    return RunConfig(**options | changes)


def killed() -> None:
    raise KeyboardInterrupt


def contents(folder: Path) -> dict[str, Any]:
    """Everything that a run computes, to the bit, without the time that it took and the hashes of its options."""
    names = ("model.safetensors", "pseudo_labels.parquet", "scores.npy", "passes.npy")
    found: dict[str, Any] = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.name in names}
    for file in folder.rglob("fit.json"):
        found[str(file.relative_to(folder))] = {**json.loads(file.read_text()), "training_hash": "", "scores_hash": ""}
    return found | {"rounds": [{**record, "seconds": None} for record in records(folder)]}


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]


def pseudo_labels(folder: Path, number: int) -> dict[str, list]:
    """Those of a round, numbered from 1."""
    return pq.read_table(folder / f"round_{number}" / "pseudo_labels.parquet").to_pydict()
