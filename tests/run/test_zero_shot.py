"""A run without labels: descriptions of the classes take their place, and nothing claims to be checked."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from runs import AtTick, contents, killed

from sstext.cli.main import main
from sstext.config.run_config import RunConfig
from sstext.data.loading import load_labeled
from sstext.errors import UserError
from sstext.inference.classifier import Classifier
from sstext.reporting.report import write_report
from sstext.run.dry_run import forecast
from sstext.run.opening import open_chain
from sstext.run.train import train

#: Not in the order of the alphabet, and not the same number for each class.
DESCRIPTIONS = {
    "refund": ["money return charged twice", "the invoice or the payment"],
    "delivery": "my parcel is late where is the courier",
    "account": ["password login", "email verify profile", "username locked"],
}


def zero_shot(tiny_run: Callable[..., RunConfig], output: Path, **changes: Any) -> RunConfig:
    usual = {"labeled": None, "test": None, "descriptions": DESCRIPTIONS, "method": "auto", "method_args": {}}
    return tiny_run(output, **usual | changes)


@pytest.fixture(scope="module")
def out(tiny_run: Callable[..., RunConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished run without labels, and without test rows."""
    folder = tmp_path_factory.mktemp("zero_shot") / "out"
    train(zero_shot(tiny_run, folder))
    return folder


def results_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def test_x(out: Path) -> None:
    print(sorted(p.name for p in out.iterdir()))
    r = results_of(out)
    print(json.dumps(r, indent=1)[:3000])
    print((out / "to_label.csv").read_text()[:1500])
    print((out / "model" / "README.md").read_text())
    assert 0
