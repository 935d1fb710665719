"""Class texts in a run: which labels choose their weight, where they are read, and that weight 0 changes nothing."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from notes import Notes
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

from sstext.config.run_config import RunConfig
from sstext.data import preparing
from sstext.data.order import random_rows
from sstext.errors import UserError
from sstext.inference.scoring import score
from sstext.modeling.embedder import Embedder
from sstext.pseudolabels import class_texts
from sstext.pseudolabels.class_texts import WeighedClassTexts
from sstext.pseudolabels.regression import WEIGHTS, ClassTexts, WeightChoice, choose_weight
from sstext.reporting.before_training import class_texts_said
from sstext.run.opening import open_chain
from sstext.run.results import class_texts_record
from sstext.selftraining.chain import Chain
from sstext.selftraining.cross_fitting import make_run
from sstext.storage.run_folder import MODEL

DESCRIPTIONS = {
    "account": ["password login profile", "username locked verify email"],
    "delivery": ["parcel courier late tracking", "shipped address arrive"],
    "refund": "money return charged twice",
}


@pytest.fixture
def opened(tiny_run: Callable[..., RunConfig], tmp_path: Path) -> Callable[..., Chain]:
    """`opened(name, **changes)`: the chain with all labels of a run of auto, nothing trained."""

    def open_one(name: str, reporter: Any = None, **changes: Any) -> Chain:
        options = {"method": "auto", "folds": 2, "prior": "uniform", "descriptions": DESCRIPTIONS} | changes
        config = tiny_run(tmp_path / name, **options)
        config.method_args = {}
        return open_chain(config, reporter or Notes())

    return open_one


def with_weight(chain: Chain, weight: float) -> Chain:
    """The same chain, with another weight of its class texts."""
    assert chain.class_texts is not None
    found = replace(chain.class_texts)
    found.__dict__["choice"] = replace(chain.class_texts.choice, weight=weight)
    return replace(chain, class_texts=found)


def test_the_rows_of_another_chain_have_no_say() -> None:
    """Guards the honesty of held-out predictions: whatever the held-out rows are, the weight of a chain is the same."""
    rng, own = np.random.default_rng(0), np.array([0, 1, 3, 4, 6, 7, 9, 10])
    labels = np.repeat(np.arange(2), 6)
    rows, texts = rng.normal(size=(12, 4)) / 2 + np.eye(4)[labels], ClassTexts(np.eye(4)[:2], np.arange(2))
    whole = WeighedClassTexts("names", None, texts, np.arange(12), rows, labels, 2)
    others = np.setdiff1d(np.arange(12), own)
    changed_rows, changed_labels = rows.copy(), labels.copy()
    changed_rows[others], changed_labels[others] = -rows[others], 1 - labels[others]
    changed = replace(whole, labeled=changed_rows, labels=changed_labels)
    assert changed.choice.losses != whole.choice.losses, "canary"
    assert changed.for_rows(own).choice == whole.for_rows(own).choice == choose_weight(rows[own], labels[own], 2, texts)


def test_many_labels_are_a_random_part(
    opened: Callable[..., Chain], tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards hours of embedding in a run of many labels, and embeddings beside the label of another row."""
    chain = opened("out")
    monkeypatch.setattr(class_texts, "ROWS", 7)
    encoder, tokenizer = AutoModel.from_pretrained(tiny_encoder), AutoTokenizer.from_pretrained(tiny_encoder)
    labeled, seed = chain.tokens.labeled, 3
    few = WeighedClassTexts.weigh(
        encoder, chain.tokens.class_texts, labeled, tokenizer, kind="names", classes=3, seed=seed
    )
    expected = random_rows(12, 7, seed)
    np.testing.assert_array_equal(few.rows, expected)
    np.testing.assert_array_equal(few.labels, np.asarray(labeled["labels"][:])[expected])
    embedded = score(Embedder(encoder), labeled, tokenizer)
    np.testing.assert_allclose(few.labeled, embedded[expected], atol=1e-6)
    part = few.for_rows(np.arange(6))
    np.testing.assert_allclose(part.labeled, embedded[[row for row in expected if row < 6]], atol=1e-6)
    assert len(part.labels) == len(part.labeled) < 7


def test_the_weight_of_each_chain_is_recorded_and_said(opened: Callable[..., Chain]) -> None:
    """Guards the record of results.json, and descriptions of the tiny task that must help: they have its words."""
    notes = Notes()
    chain = opened("out", notes)
    record = class_texts_record(chain)
    assert record is not None
    assert record["kind"] == "descriptions"
    assert list(record["log_loss"]) == [f"{weight:g}" for weight in WEIGHTS]
    assert record["weight"] == float(min(record["log_loss"], key=lambda weight: record["log_loss"][weight])) > 0
    said = [note for note in notes.said if note.startswith("class descriptions: used with the weight of ")]
    assert len(said) == 1
    assert f"{record['log_loss']['0']:.3f} without" in said[0]
    for one in make_run(chain, chain.plan).chains:
        assert one.class_texts is not None
        assert set(one.class_texts.rows) & set(_positions(chain, one.held_out)) == set()
        assert len(one.class_texts.rows) == len(one.tokens.labeled)


def _positions(chain: Chain, rows: Any) -> list[int]:
    """The positions of some rows among all labeled rows."""
    ids = chain.tokens.labeled["input_ids"][:]
    return [ids.index(one) for one in rows["input_ids"][:]]


def test_permuted_descriptions_are_not_used(opened: Callable[..., Chain]) -> None:
    """The same texts at other classes, in a run: the weight is 0, and a sentence says so."""
    texts, notes = list(DESCRIPTIONS.values()), Notes()
    chain = opened("out", notes, descriptions=dict(zip(DESCRIPTIONS, texts[1:] + texts[:1], strict=True)))
    assert chain.class_texts is not None
    assert chain.class_texts.weight == 0
    assert any(note.startswith("class descriptions: not used (log-loss of held-out labels: ") for note in notes.said)


@pytest.mark.parametrize("stage", ["regression", "start"])
def test_weight_zero_is_no_texts_bit_for_bit(stage: str, opened: Callable[..., Chain]) -> None:
    """Guards a run that pays for descriptions that it does not use; with a weight, the student is another one."""
    made = opened("zero", steps=3, round_steps=3)
    chains = [opened("none", steps=3, round_steps=3, descriptions="none"), with_weight(made, 0.0)]
    chains.append(with_weight(opened("used", steps=3, round_steps=3), 4.0))
    students = []
    for chain in chains:
        one = chain.plan.named(stage)
        chain.fit(one)
        students.append(load_file(chain.students.folder(one) / MODEL / "model.safetensors"))
    none, zero, used = students
    assert chains[0].class_texts is None
    assert all(none[name].equal(zero[name]) for name in none)
    assert not all(none[name].equal(used[name]) for name in none)


@pytest.mark.parametrize(
    ("weight", "labeled", "times"), [(4.0, 300, [4, 2, 2, 4]), (16.0, 15, [5, 2, 2, 5]), (2.0, 2, [1, 1, 1, 1])]
)
def test_texts_are_rows_of_the_start_as_often_as_they_weigh(weight: float, labeled: int, times: list[int]) -> None:
    """Guards a start in which ten labels of a class outweigh a description that the regression trusts like sixteen.

    min(w, B / C) rows per class, which its texts share: 4, then 15 / 3 = 5 (2.5 is rounded to 2), then one each.
    """
    rows = Dataset.from_dict({"input_ids": [[1], [2], [3], [4]], "labels": [0, 1, 1, 2]})
    told = WeighedClassTexts("names", rows, *[None] * 4, classes=3)  # type: ignore[arg-type]
    told.__dict__["choice"] = WeightChoice(weight, {})
    found = told.as_rows(labeled)
    assert [found["input_ids"][:].count([number]) for number in (1, 2, 3, 4)] == times
    assert all(
        label == [0, 1, 1, 2][ids[0] - 1] for ids, label in zip(found["input_ids"], found["labels"], strict=True)
    )


def test_only_methods_that_read_class_texts_weigh_them(opened: Callable[..., Chain]) -> None:
    """Guards a sentence about names in the record of a run that never read them, and the time to weigh them."""
    chain = opened("out", method="class-balanced", folds=0, rounds=1, descriptions="names")
    assert chain.class_texts is None
    assert class_texts_record(chain) is None


def test_names_that_are_codes_are_in_the_record(opened: Callable[..., Chain], tiny_files: Any, tmp_path: Path) -> None:
    """Guards a report and a card that are silent about names which could not be used."""
    numbers = tmp_path / "numbers.csv"
    with Path(tiny_files.labeled).open(newline="") as file, numbers.open("w", newline="") as other:
        rows = list(csv.DictReader(file))
        names = sorted({row["label"] for row in rows})
        csv.writer(other).writerows(
            [["text", "label"], *([row["text"], f"c{names.index(row['label'])}"] for row in rows)]
        )
    chain = opened("codes", labeled=str(numbers), test=None, descriptions="names")
    record = class_texts_record(chain)
    assert record == {"kind": "names", "weight": 0.0, "log_loss": {}, "why": "some are numbers or codes"}
    assert class_texts_said(record) == "not used, because some are numbers or codes"
    assert class_texts_record(opened("none", labeled=str(numbers), test=None, descriptions="none")) is None


def test_a_run_is_not_continued_with_other_descriptions(opened: Callable[..., Chain], tmp_path: Path) -> None:
    """The file and the mapping alike: half of the stages would have learned from other texts."""
    file = tmp_path / "classes.yaml"
    file.write_text("account: a login\ndelivery: a parcel\nrefund: money\n")
    opened("file", descriptions=str(file))
    opened("file", descriptions=str(file))
    file.write_text("account: a login\ndelivery: a parcel\nrefund: a return\n")
    with pytest.raises(UserError, match=r"belongs to a run on other data \(descriptions changed\)"):
        opened("file", descriptions=str(file))
    opened("mapping")
    with pytest.raises(UserError, match="belongs to another run, with other options"):
        opened("mapping", descriptions=DESCRIPTIONS | {"refund": "a return"})


def test_what_is_cut_is_said_in_words(opened: Callable[..., Chain], monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the name of a variable in a message, and texts of classes that lose their end because the texts are short."""
    notes = Notes()
    opened("whole", notes, max_length=5)
    assert "labeled: 12 of 12 texts were cut to 5 tokens for training" in notes.said
    assert not [note for note in notes.said if note.startswith("class descriptions: ") and " were cut to " in note]
    monkeypatch.setattr(preparing, "LONGEST_CLASS_TEXT", 5)
    opened("out", notes, max_length=5)
    assert "class descriptions: 3 of 5 texts were cut to 5 tokens for training" in notes.said
    monkeypatch.setattr(preparing, "LONGEST_CLASS_TEXT", 4)
    opened("names", notes, max_length=4, descriptions="names")
    assert any(note.startswith("class names: ") and " of 6 texts were cut to 4 " in note for note in notes.said)
