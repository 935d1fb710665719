"""Texts that a run leaves to be labeled next."""

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from sstext.data.labeling_tasks import LabelingTask, write_labeling_tasks
from sstext.evaluation.calibration import Correction
from sstext.progress import SILENT
from sstext.pseudolabels.texts_to_label import AT_RANDOM, UNSURE
from sstext.run import to_label
from sstext.run.to_label import write_texts_to_label

#: Rows of which the model is unsure, and rows on which a chain contradicts it.
DOUBTFUL, DISPUTED = range(10, 20), range(20, 30)


def outputs(count: int) -> np.ndarray:
    """Logits of two classes, and embeddings in 60 dimensions, each text unlike the others."""
    logits = np.tile([6.0, 0.0], (60, 1))
    logits[DOUBTFUL] = [0.1, 0.0]
    return np.concatenate([logits, np.eye(60)], axis=1)[:count]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A finished run on 60 texts, of which the first one is labeled."""
    texts = [f"text {number}" for number in range(60)]
    rows = SimpleNamespace(
        unlabeled=SimpleNamespace(texts=Dataset.from_dict({"text": texts})), zero_shot=False, classes=["a", "b"],
        labeled=SimpleNamespace(texts=Dataset.from_dict({"text": ["text 0"]})),
    )  # fmt: skip
    tokens = SimpleNamespace(
        corpus=Dataset.from_dict({"number": range(60)}), labeled=Dataset.from_dict({"number": [0]})
    )
    whole = SimpleNamespace(
        config=SimpleNamespace(seed=0, precision="fp32", device="cpu"), texts=rows, tokens=tokens, reporter=SILENT,
        tokenizer=None, students=SimpleNamespace(load=lambda stage: stage),
    )  # fmt: skip

    def score(model: Any, some: Any, *_: Any, **__: Any) -> np.ndarray:
        found = outputs(60)[some["number"][:]]
        return found[:, :2] if model == "final" else found  # the model, or what embeds with it

    def predicted_by_chains(_: Any, places: np.ndarray) -> list[np.ndarray]:
        contradicts = np.isin(places, DISPUTED)
        return [np.zeros(len(places), dtype=int), contradicts.astype(int)]

    monkeypatch.setattr(to_label, "score", score)
    monkeypatch.setattr(to_label, "Embedder", lambda model, with_logits: ("embedder of", model))
    monkeypatch.setattr(to_label, "predicted_by_chains", predicted_by_chains)
    return SimpleNamespace(whole=whole, directory=SimpleNamespace(path=tmp_path))


def test_uncertain_and_disputed_texts_are_chosen_and_a_quarter_at_random(run: Any) -> None:
    """Guards an uncertainty of the wrong sign, chains that are not compared, rows that are taken for positions, and labeled
    texts that are chosen again."""
    assert write_texts_to_label(run, "final", Correction()) == 20, "ten for each class"  # type: ignore[arg-type]
    with (run.directory.path / "to_label.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    unsure = {int(row["text"].split()[1]) for row in rows if row["reason"] == UNSURE}
    at_random = {int(row["text"].split()[1]) for row in rows if row["reason"] == AT_RANDOM}
    assert len(at_random) == 5
    assert unsure <= {*DOUBTFUL, *DISPUTED}
    assert unsure >= {*DOUBTFUL} - at_random, "those of which nobody is sure come first"
    assert 0 not in unsure | at_random
    sure = {row["text"]: (row["predicted_label"], float(row["probability"])) for row in rows}
    assert all(sure[f"text {row}"] == ("a", 0.525) for row in unsure & {*DOUBTFUL})


def test_labels_that_a_person_has_given_are_kept(run: Any) -> None:
    """Guards hours of work: a run whose test rows change is measured again in the same folder."""
    file = run.directory.path / "to_label.csv"
    write_labeling_tasks(file, [LabelingTask("a", UNSURE), LabelingTask("b", UNSURE)])
    before = file.read_bytes()
    assert write_texts_to_label(run, "final", Correction()) == 2  # type: ignore[arg-type]
    assert file.read_bytes() == before
    file.write_bytes("text,label\nGröße,a\n".encode("cp1252"))
    assert write_texts_to_label(run, "final", Correction()) == 0, "a file of a spreadsheet does not end a run"  # type: ignore[arg-type]


def test_without_other_texts_nothing_is_written(run: Any) -> None:
    """Guards a file without a row, and a run without a corpus."""
    run.whole.texts.labeled.texts = run.whole.texts.unlabeled.texts
    assert write_texts_to_label(run, "final", Correction()) == 0  # type: ignore[arg-type]
    run.whole.tokens.corpus = None
    assert write_texts_to_label(run, "final", Correction()) == 0  # type: ignore[arg-type]
    assert not list(run.directory.path.iterdir())
