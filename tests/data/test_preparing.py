"""From the user's files to a run's rows: each read once, tokenized once, and every complaint before training."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from notes import Notes
from transformers import AutoTokenizer

from sstext.config.run_config import RunConfig
from sstext.config.spelling import spelled_as
from sstext.data import preparing
from sstext.data.preparing import read_texts, tokenize_texts
from sstext.data.run_sources import fingerprints, sources
from sstext.data.tokens import VIEW_INPUTS
from sstext.errors import UserError
from sstext.progress import Reporter


@pytest.fixture
def task(tiny_task: Callable[[Path], Any], tmp_path: Path) -> Any:
    return tiny_task(tmp_path)


def config_of(task: Any, **changes: Any) -> RunConfig:
    files = {
        "labeled": task.labeled,
        "unlabeled": task.unlabeled,
        "dev": task.dev,
        "test": task.test,
        "audit": task.answers,
    }
    return RunConfig(**{name: str(path) for name, path in files.items()} | changes)


def read(config: RunConfig, folder: Path, reporter: Reporter | None = None, **data: Any) -> preparing.Texts:
    return read_texts(
        config,
        sources(config, **data),
        folder / "data" / "unlabeled.arrow",
        reporter or Notes(),
        needs_corpus=config.rounds != 0,
    )


def test_data_at_hand_take_the_place_of_files(task: Any) -> None:
    """Guards against a data set that is given in Python and then not read."""
    given = Dataset.from_dict({"text": ["a"], "label": ["b"]})
    named = sources(config_of(task, dev=None), labeled=given)
    assert named["labeled"] is given
    assert named["unlabeled"] == str(task.unlabeled)
    assert list(named) == ["labeled", "unlabeled", "test", "audit"]


def test_data_under_an_unknown_name_are_refused(task: Any) -> None:
    """Guards against `train(config, development=rows)`, which would train without the development rows."""
    with pytest.raises((TypeError, UserError), match="development"):
        sources(config_of(task), development=Dataset.from_dict({"text": ["a"], "label": ["b"]}))


def test_fingerprints_follow_the_content_and_nothing_else(task: Any) -> None:
    """Guards continuing: an edited file is another one, a file that was written again with the same bytes is not."""
    named = sources(config_of(task))
    before = fingerprints(named)
    task.dev.write_bytes(task.dev.read_bytes())
    assert fingerprints(named) == before
    task.dev.write_text(task.dev.read_text().replace("account", "refund", 1))
    after = fingerprints(named)
    assert {name for name in named if before[name] != after[name]} == {"dev"}


def test_all_labeled_rows_share_the_classes_of_training(task: Any) -> None:
    """Guards against class numbers that mean another class in the development or test rows."""
    task.dev.write_text("text,label\nmoney back,refund\n")  # alone, its only class would be number 0
    texts = read(config_of(task), task.dev.parent)
    assert texts.classes == ["account", "delivery", "refund"]
    assert texts.dev is not None
    assert texts.dev.texts["label"][:] == [2]
    assert (len(texts.labeled.texts), len(texts.unlabeled.texts), len(texts.test.texts)) == (12, 60, 30)


def test_audit_labels_stay_with_their_texts(task: Any) -> None:
    """Guards the pseudo-label precision where the corpus has rows without text, which are skipped."""
    task.unlabeled.write_text('{"text": "first"}\n{"text": ""}\n{"text": "third"}\n{"text": "fourth"}\n')
    task.answers.write_text("label\nrefund\nnever read\naccount\ndelivery\n")
    notes = Notes()
    texts = read(config_of(task), task.dev.parent, notes)
    assert texts.unlabeled.texts["row"][:] == [0, 2, 3]
    assert texts.audit.tolist() == [2, 0, 1]
    assert "unlabeled: skipped 1 row without text" in notes.said


@pytest.mark.parametrize("name", ["labeled", "unlabeled"])
def test_what_cannot_be_done_without(name: str, task: Any) -> None:
    """Guards the message for a forgotten flag: it names the flag."""
    with pytest.raises(UserError, match=f"^{name}: no {name} texts; give (data|unlabeled)="):
        read(config_of(task, **{name: None}), task.dev.parent)


def test_plain_fine_tuning_needs_no_corpus(task: Any) -> None:
    """Guards `--rounds 0`."""
    texts = read(config_of(task, unlabeled=None, audit=None, rounds=0), task.dev.parent)
    assert texts.unlabeled is None
    assert texts.audit is None


def test_the_corpus_is_read_once(task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a continued run against reading millions of rows again, and against losing the count of skipped ones."""
    first = read(config_of(task), task.dev.parent)
    monkeypatch.setattr(preparing, "load_unlabeled", lambda *_, **__: pytest.fail("the corpus was read again"))
    again = read(config_of(task), task.dev.parent)
    assert again.unlabeled.texts.to_dict() == first.unlabeled.texts.to_dict()
    assert again.unlabeled.total == 60
    assert again.unlabeled.notes == first.unlabeled.notes


def test_a_corpus_that_was_half_read_is_read_again(task: Any) -> None:
    """Guards against a kill between the Arrow file and its counts."""
    read(config_of(task), task.dev.parent)
    counted = task.dev.parent / "data" / "unlabeled.json"
    assert json.loads(counted.read_text())["total"] == 60
    counted.unlink()
    assert len(read(config_of(task), task.dev.parent).unlabeled.texts) == 60


def tokens_of(task: Any, encoder: Path, notes: Notes, **changes: Any) -> preparing.Tokens:
    config = config_of(task, **changes)
    folder = task.dev.parent
    return tokenize_texts(
        read(config, folder), AutoTokenizer.from_pretrained(encoder), 64, config, folder / "data", notes
    )


def test_the_length_is_chosen_from_the_corpus_and_said(task: Any, tiny_encoder: Path) -> None:
    """Guards the 95th percentile: one text of a hundred words must not set the length, and what is cut is counted."""
    rows = [{"text": "money back please"}] * 59 + [{"text": "money " * 100}]
    task.unlabeled.write_text("".join(json.dumps(row) + "\n" for row in rows))
    notes = Notes()
    tokens = tokens_of(task, tiny_encoder, notes)
    assert tokens.max_length == 8  # 3 words and 2 special tokens, up to a multiple of 8
    assert notes.said[0] == "max length: 8 tokens (95 % of the texts are not longer; the encoder reads up to 64)"
    assert max(map(len, tokens.corpus["input_ids"])) == 8
    assert tokens.truncated["unlabeled"] == 1
    assert "unlabeled: 1 of 60 texts was cut to 8 tokens for training" in notes.said


def test_a_length_that_was_asked_for_is_taken_within_the_limit(task: Any, tiny_encoder: Path) -> None:
    """Guards `--max-length`, in both directions."""
    notes = Notes()
    assert tokens_of(task, tiny_encoder, notes, max_length=6).max_length == 6
    assert notes.said[0] == "max length: 6 tokens (as set; the encoder reads up to 64)"
    assert tokens_of(task, tiny_encoder, Notes(), max_length=512).max_length == 64


def test_tokens_keep_labels_and_row_numbers(task: Any, tiny_encoder: Path) -> None:
    """Guards what training reads: `labels` for labeled rows, `row` of the user's file for the corpus."""
    tokens = tokens_of(task, tiny_encoder, Notes())
    assert tokens.labeled["labels"][:] == [0] * 4 + [1] * 4 + [2] * 4
    assert sorted(set(tokens.dev["labels"][:])) == [0, 1, 2]
    np.testing.assert_array_equal(tokens.corpus["row"][:], np.arange(60))
    assert "labels" not in tokens.corpus.column_names


def test_paraphrases_reach_the_tokens_of_the_corpus_alone(task: Any, tiny_encoder: Path) -> None:
    """Guards `--views` from the file to what training reads; scoring reads other columns, labeled rows have no such one."""
    rows = [
        json.dumps({"text": "money back", "one": "refund", "two": None}),
        json.dumps({"text": "", "one": "skipped"}),
    ]
    rows += [json.dumps({"text": "late", "two": " "})]
    task.unlabeled.write_text("\n".join(rows))
    changes: dict[str, Any] = {"views": ["one,two"], "audit": None, "max_length": 8}
    tokens = tokens_of(task, tiny_encoder, Notes(), **changes)
    words = AutoTokenizer.from_pretrained(tiny_encoder)
    read = [
        [words.decode(each["input_ids"], skip_special_tokens=True) for each in row]
        for row in tokens.corpus[VIEW_INPUTS]
    ]
    assert read == [["refund"], ["late"]]
    assert VIEW_INPUTS not in tokens.labeled.column_names + tokens.dev.column_names
    again = tokens_of(task, tiny_encoder, Notes(), **changes)  # from the Arrow files of the first time
    assert again.corpus[:] == tokens.corpus[:]


def test_columns_of_paraphrases_without_a_corpus_are_said(task: Any) -> None:
    """Guards an option that is silently without effect."""
    notes = Notes()
    read(config_of(task, unlabeled=None, audit=None, rounds=0, views=["one"]), task.dev.parent, notes)
    assert "views: not read, because there are no unlabeled texts" in notes.said


def test_texts_are_tokenized_once(task: Any, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a continued run against tokenizing the corpus again."""
    first = tokens_of(task, tiny_encoder, Notes())
    monkeypatch.setattr(
        preparing.TextEncoder, "__call__", lambda *_: pytest.fail("texts were tokenized again"), raising=True
    )
    again = tokens_of(task, tiny_encoder, Notes())
    assert again.corpus["input_ids"][:] == first.corpus["input_ids"][:]
    assert again.truncated == first.truncated


SAMPLE = {"labels_per_class": 2, "unlabeled": 15, "test": 9}


def sampled(task: Any, folder: Path, **changes: Any) -> preparing.Texts:
    """The 30 rows of the test file as data that are all labeled."""
    given = {"labeled": str(task.test), "sample": SAMPLE} | changes
    notes = Notes()
    texts = read(RunConfig(**given), folder, notes)
    assert any("sample (seed 0): 6 labeled rows, 2 of each class, and 15 unlabeled rows" in n for n in notes.said)
    return texts


@pytest.mark.parametrize("kind", ["csv", "saved", "hub"])
def test_a_sample_hides_the_labels_of_the_corpus(
    kind: str, task: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From any kind of source: no text has two parts, and the audit knows the true class of every unlabeled text."""
    rows = Dataset.from_csv(str(task.test), cache_dir=str(tmp_path / "cache"))
    truth = dict(zip(rows["text"][:], rows["label"][:], strict=True))
    source = str(task.test)
    if kind == "saved":
        source = str(tmp_path / "saved")
        rows.save_to_disk(source)
    elif kind == "hub":
        (tmp_path / "bench" / "toy").mkdir(parents=True)
        for part in ("train", "test"):
            rows.to_parquet(tmp_path / "bench" / "toy" / f"{part}.parquet")
        monkeypatch.setenv("SSTEXT_BENCH_DATA", str(tmp_path / "bench"))
        source = "someone/toy"
    texts = sampled(task, tmp_path / "out", labeled=source)
    assert texts.unlabeled is not None
    assert texts.test is not None
    assert texts.audit is not None
    corpus = texts.unlabeled.texts["text"][:]
    assert texts.counts() == {"labeled": 6, "unlabeled": 15, "test": 9}
    assert len({*texts.labeled.texts["text"], *corpus, *texts.test.texts["text"]}) == 30
    assert [texts.classes[i] for i in texts.audit] == [truth[text] for text in corpus]
    for part in (texts.labeled, texts.test):
        assert [texts.classes[i] for i in part.texts["label"]] == [truth[text] for text in part.texts["text"]]
    assert np.bincount(texts.labeled.texts["label"][:]).tolist() == [2, 2, 2]
    assert "label" not in texts.unlabeled.texts.column_names


def test_a_sample_can_be_too_large_for_the_steps(task: Any, tmp_path: Path) -> None:
    """Guards labels beside other texts, and a part that nobody hears of."""
    config, notes = RunConfig(labeled=str(task.test), sample=SAMPLE), Notes()
    texts = read_texts(config, sources(config), tmp_path / "unlabeled.arrow", notes, at_most=10)
    assert texts.counts()["unlabeled"] == 10
    assert texts.counts()["unlabeled_left_out"] == 5
    assert notes.said[-1].startswith("unlabeled: 10 of these texts are used, drawn at random")
    with task.test.open(newline="") as file:
        truth = {row["text"]: row["label"] for row in csv.DictReader(file)}
    assert texts.audit is not None
    assert texts.unlabeled is not None
    found = [texts.classes[number] for number in texts.audit]
    assert found == [truth[text] for text in texts.unlabeled.texts["text"]]


def test_a_sample_follows_the_seed_and_a_test_file_does_not(task: Any, tmp_path: Path) -> None:
    """Guards seeds that all see the same labels, and figures of two seeds that are on other test rows."""
    one = sampled(task, tmp_path / "one", test=str(task.dev))
    notes = Notes()
    two = read(RunConfig(labeled=str(task.test), test=str(task.dev), sample=SAMPLE, seed=1), tmp_path / "two", notes)
    assert one.labeled.texts["text"][:] != two.labeled.texts["text"][:]
    assert one.test is not None
    assert two.test is not None
    assert len(one.test.texts) == 9
    assert one.test.texts["text"][:] == two.test.texts["text"][:]


def test_a_sample_is_continued_on_the_same_corpus(task: Any, tmp_path: Path) -> None:
    """The corpus comes from its Arrow file: texts and audit labels must still belong together."""
    first, again = (sampled(task, tmp_path / "out") for _ in range(2))
    assert first.unlabeled is not None
    assert again.unlabeled is not None
    assert first.unlabeled.texts.to_dict() == again.unlabeled.texts.to_dict()
    assert np.array_equal(first.audit, again.audit)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unlabeled": "corpus.jsonl", "audit": "a.csv"}, "sample: .* leave out unlabeled and audit"),
        ({"views": ["back"]}, "sample: a sample has no paraphrases; leave out views"),
        ({"sample": SAMPLE | {"tests": 1}}, "sample: unknown key 'tests'; the keys are"),
    ],
)
def test_what_does_not_go_with_a_sample(changes: dict[str, Any], message: str, task: Any, tmp_path: Path) -> None:
    """Guards labels that are taken for hidden while another file brings the unlabeled texts."""
    with pytest.raises(UserError, match=message):
        sampled(task, tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


# One file, and rows that are held out


def one_file(folder: Path, rows: list[str]) -> Path:
    file = folder / "tickets.csv"
    file.write_text("\n".join(["text,label,again", *rows]) + "\n", encoding="utf-8")
    return file


def test_rows_without_a_label_are_the_corpus(tmp_path: Path) -> None:
    """Guards one file for all: which rows go where, and the true labels of those without one."""
    file = one_file(tmp_path, ["a,x,", "b,,say b", "c,y,", ",x,", "d,,", "e,,say e"])
    notes = Notes()
    texts = read(RunConfig(data=str(file), views=["again"]), tmp_path, notes)
    assert texts.labeled.texts["text"][:] == ["a", "c"]
    assert texts.unlabeled is not None
    assert texts.unlabeled.texts["text"][:] == ["b", "d", "e"]
    assert texts.unlabeled.texts["row"][:] == [1, 4, 5]
    assert texts.unlabeled.texts["view_texts"][:] == [["say b"], [], ["say e"]]
    assert f"labeled: 2 texts from {file}, text column 'text', label column 'label'" in notes.said
    assert f"unlabeled: 3 texts from {file} (no label)" in notes.said
    assert texts.counts() == {"labeled": 2, "unlabeled": 3}
    true = one_file(tmp_path / "data", [f",{label}," for label in "xyxyxy"])
    assert read(RunConfig(data=str(file), audit=str(true)), tmp_path / "audit").audit.tolist() == [1, 0, 1]


def test_rows_without_a_label_join_other_unlabeled_texts(tmp_path: Path, task: Any) -> None:
    """Guards places in the sources, which the audit needs, and an audit that is too short."""
    file = one_file(tmp_path, ["a,0,", "b,-1,", "c,1,"])
    notes = Notes()
    texts = read(config_of(task, labeled=str(file), dev=None, test=None, audit=None), tmp_path, notes)
    assert texts.unlabeled is not None
    assert texts.unlabeled.texts["row"][-2:] == [59, 61]
    assert any("(no label: '-1'); if this is a class, give unlabeled_value=\"\"" in note for note in notes.said)
    with pytest.raises(UserError, match=r"audit: .* 1 of them are rows of labeled without a label"):
        read(config_of(task, labeled=str(file), dev=None, test=None), tmp_path / "other")
    alone = config_of(task, labeled=str(file), dev=None, test=None, audit=None, unlabeled_value="")
    texts = read(alone, tmp_path / "third")
    assert texts.classes == ["-1", "0", "1"]


def test_a_corpus_of_labeled_texts_alone_stays(task: Any, tmp_path: Path) -> None:
    """Guards a person who gives the same rows twice, or who has labeled the whole corpus: this is no reason to end."""
    rows = Dataset.from_dict({"text": ["one", "two", "three", "four"], "label": ["a", "b", "a", "b"]})
    config, notes = config_of(task, labeled=None, unlabeled=None, dev=None, test=None, audit=None), Notes()
    texts = read(config, tmp_path, notes, labeled=rows, unlabeled=rows)
    assert texts.unlabeled is not None
    assert texts.unlabeled.texts["text"][:] == ["one", "two", "three", "four"]
    assert any(
        note.startswith("unlabeled: all 4 texts are labeled, too, so that they bring little") for note in notes.said
    )


def test_one_source_has_one_name(task: Any) -> None:
    """Guards two files of which one is never read."""
    with pytest.raises(UserError, match=r"data: give data .* or labeled, not both"):
        sources(config_of(task, data="all.csv"))
    with spelled_as("flags"), pytest.raises(UserError, match=r"data: give --data .* or --labeled, not both"):
        sources(config_of(task, labeled=None), data={"text": ["a"]}, labeled={"text": ["a"]})
    assert sources(RunConfig(data="all.csv")) == {"labeled": "all.csv"}


def test_a_test_file_that_is_the_training_file_is_refused(task: Any, tmp_path: Path) -> None:
    """Guards figures that mean nothing, for tests and for the choice of a model; a few common texts are a doubt."""
    for name in ("test", "dev"):
        with pytest.raises(
            UserError, match=rf"^{name}: .* all 12 texts are labeled training texts, too; .*allow_overlap=True"
        ):
            read(config_of(task, **{name: str(task.labeled)}), tmp_path / name)
    with pytest.raises(UserError, match=r"^test: .* all 12 texts are development texts"):
        read(config_of(task, test=str(task.dev)), tmp_path / "both")
    notes = Notes()
    texts = read(config_of(task, test=str(task.labeled), allow_overlap=True), tmp_path / "allowed", notes)
    assert texts.overlap == {"test": 12}
    assert "test: all 12 texts are labeled training texts, too: the figures say nothing about new texts" in notes.said
    task.test.write_text("\n".join(task.labeled.read_text().splitlines()[:4]) + "\n")  # a part of the training texts
    texts = read(config_of(task), tmp_path / "part", notes)
    assert texts.overlap == {"test": 3}
    assert "test: all 3 texts are labeled training texts, too: the figures say nothing about new texts" in notes.said
    task.test.write_text(task.dev.read_text() + task.labeled.read_text().splitlines()[1] + "\n")
    texts = read(config_of(task), tmp_path / "some", notes)
    assert texts.overlap == {"test": 1}
    assert any("test: 1 of 13 texts are labeled training texts, too: they make" in note for note in notes.said)
