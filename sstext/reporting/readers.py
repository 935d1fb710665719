"""Readers of single files of a run folder. A file that is damaged or incomplete raises one of `UNREADABLE`."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from sstext.storage import damage
from sstext.storage.csv_cells import allow_long_cells

#: Errors from reading a damaged or incomplete file.
UNREADABLE = (*damage.UNREADABLE, csv.Error)


@dataclass(frozen=True)
class Predictions:
    """Predictions for N labeled texts, C classes.

    Attributes:
        texts: (N,) strings, as on disk.
        labels: (N,) classes.
        logits: column → (N, C).
    """

    texts: Any
    labels: np.ndarray
    logits: dict[str, np.ndarray]


@dataclass(frozen=True)
class Corpus:
    """The unlabeled texts. They are memory-mapped, and one text is read at a time, so the corpus may have any size."""

    texts: Any

    def __len__(self) -> int:
        return len(self.texts)

    def text(self, row: int) -> str:
        """The text at a position of the corpus."""
        return self.texts[int(row)].as_py()


def read_precision_curve(path: Path) -> list[list[float]]:
    """The curve of `sstext predict --target-precision` in the configuration of a model; empty without one."""
    return (read_mapping(path).get("sstext") or {}).get("precision_curve") or []


def read_mapping(path: Path) -> dict[str, Any]:
    """A YAML or JSON file with a mapping."""
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected a mapping")
    return found


def read_checkup(path: Path) -> dict[str, Any]:
    """What the quick check of the data found (`sstext.run.checkup`)."""
    found = json.loads(path.read_text(encoding="utf-8"))
    return {"rows": dict(found["rows"]), "classes": dict(found["classes"]), "findings": list(found["findings"])}


@dataclass(frozen=True)
class TextToLabel:
    """A row of `to_label.csv`. `guess` is the predicted class with its probability."""

    text: str
    guess: str
    reason: str


def read_texts_to_label(path: Path) -> list[TextToLabel]:
    """The rows of `to_label.csv` that have no label yet."""
    allow_long_cells()
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        if not {"text", "label"} <= set(rows.fieldnames or ()):
            raise ValueError(f"{path}: expected columns text and label")
        return [
            TextToLabel(row["text"], f"{row['predicted_label']} ({float(row['probability']):.0%})", row["reason"])
            for row in rows if row["text"] and not row["label"]
        ]  # fmt: skip


def read_lines(path: Path) -> list[dict[str, Any]]:
    """A file with one JSON object per line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def read_corpus(path: Path) -> Corpus:
    """The texts of a corpus that `datasets` has written. A text is loaded only when it is read."""
    return Corpus(pa.ipc.open_stream(pa.memory_map(str(path))).read_all().column("text"))


def read_predictions(path: Path, classes: Sequence[str]) -> Predictions:
    """Predictions for labeled texts. `classes` are the C names in the order of the logits."""
    table = pq.read_table(path)
    labels = pc.index_in(table["label"].cast(pa.string()), pa.array(list(classes)))
    if labels.null_count or not len(table):
        raise ValueError(f"{path}: expected rows with labels among {list(classes)}")
    logits = {}
    for name in table.column_names:
        if pa.types.is_list(table[name].type) or pa.types.is_fixed_size_list(table[name].type):
            flat = pc.list_flatten(table[name]).to_numpy()
            logits[name] = flat.astype(np.float64).reshape(len(table), len(classes))
            if not np.isfinite(logits[name]).all():
                raise ValueError(f"{path}: expected finite logits in {name}")
    return Predictions(table["text"], labels.to_numpy().astype(np.int64), logits)
