"""Paraphrases that the user brings (`--views`), from a file or a data set to what a student reads."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from contract import labeled_texts, tiny_student
from datasets import Dataset
from runs import QUICK
from transformers import AutoTokenizer

from sstext.cli.main import main
from sstext.data.tokens import VIEW_INPUTS
from sstext.errors import UserError
from sstext.inference.scoring import score
from sstext.objective.views import Adversarial, EmbeddingNoise, View
from sstext.training.arguments import SemiSupervisedTrainingArguments
from sstext.training.trainer import SemiSupervisedTrainer

#: What no text of the tiny task says, and every paraphrase here does.
MARK = "verify verify"


@pytest.fixture
def place(tiny_task: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: the tiny task, its corpus with two columns of paraphrases, of which every third row has none."""
    task = tiny_task(tmp_path)
    rows = [json.loads(line) for line in task.unlabeled.read_text().splitlines()]
    for i, row in enumerate(rows):
        row |= {
            "back": f"{MARK} {row['text']}" if i % 3 else "",
            "reworded": f"{row['text']} {MARK}" if i % 3 == 1 else None,
        }
    task.unlabeled.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(encoder: Path, output: str, *more: str) -> list[str]:
    """`sstext train` on the tiny task."""
    data = ("--labeled=labeled.csv", "--unlabeled=unlabeled.jsonl", f"--encoder={encoder}", f"--output={output}")
    return ["train", *QUICK, *data, *more]


def model(folder: Path) -> bytes:
    """The bits of the student of the start: methods act there, and no kept row plays a part."""
    return (folder / "start" / "model" / "model.safetensors").read_bytes()


def test_a_run_reads_the_paraphrases(place: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`sstext train --views`: they change what a student learns, a run is repeated to the bit, and its folder goes on.

    Guards against an option that reaches nothing: without token edits the two views of a text are else the same.
    """
    fixmatch = ("--method=fixmatch", "--method-args", "threshold=0.1", "--edits", "mask=0", "--rounds=0")
    views = ("--views", "back,reworded")
    for output, more in (("plain", ()), ("views", views), ("again", views), ("one", ("--views", "back"))):
        said = main(train(tiny_encoder, output, *fixmatch, *more))
        assert said in (0, 1), capsys.readouterr().err  # after four steps, a model may predict one class
    assert model(place / "views") == model(place / "again")
    assert len({model(place / name) for name in ("plain", "views", "one")}) == 3
    assert "unlabeled: 40 of 60 texts have a paraphrase in 'back', 'reworded'" in capsys.readouterr().err
    assert "views:\n- back\n- reworded\n" in (place / "views" / "config.yaml").read_text()

    assert main(train(tiny_encoder, "views", *fixmatch, *views)) in (0, 1)
    assert "this run is finished" in capsys.readouterr().err
    assert main(train(tiny_encoder, "views", *fixmatch, "--views", "back")) == 2
    assert "views belongs to another run" in capsys.readouterr().err


def test_kept_rows_are_noised_with_paraphrases(place: Path, tiny_encoder: Path) -> None:
    """A round without a method: guards paraphrases that only the unlabeled rows of a step would have."""
    for output, more in (("plain", ()), ("views", ("--views", "back"))):
        assert main(train(tiny_encoder, output, "--edits", "mask=0", "--method=class-balanced", *more)) == 0
    baselines, students = (
        [(place / name / stage / "model" / "model.safetensors").read_bytes() for name in ("plain", "views")]
        for stage in ("baseline", "round_1")
    )
    assert baselines[0] == baselines[1]
    assert students[0] != students[1]


@pytest.mark.parametrize("name", ["unlabeled.csv", "unlabeled.jsonl"])
def test_a_wrong_column_is_one_message_and_leaves_nothing(
    name: str, place: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards against hours of training without paraphrases after a typo."""
    if name.endswith("csv"):
        (place / name).write_text("text,back,reworded\nlate,delayed,too late\n")
    before = set(place.rglob("*"))
    assert main(train(tiny_encoder, "out", f"--unlabeled={name}", "--views", "back,rewordet")) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert errors == [
        f"sstext: error: {name}: no column 'rewordet'; found 'text', 'back', 'reworded'; did you mean 'reworded'?"
    ]
    assert set(place.rglob("*")) == before


def test_a_method_without_changed_copies_says_so(
    place: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards `--views` without effect: plain fine-tuning reads no paraphrase, and is not refused."""
    assert main([*train(tiny_encoder, "out", "--views", "back"), "--method=supervised", "--rounds=0", "--dry-run"]) == 0
    assert "views has no effect: supervised makes no changed copies of texts" in capsys.readouterr().err


# The trainer


def corpus() -> Dataset:
    """Eight texts, with paraphrases that share no word with them; every fourth has none, every other one a single one."""
    one = ["", "parcel late", "courier late", "package late"] * 2
    two = [None, None, "address late", None] * 2
    return Dataset.from_dict({"text": ["money back please"] * 8, "one": one, "two": two, "label": ["unread"] * 8})


def trainer_of(encoder: Path, output: Path, unlabeled: Any, **arguments: Any) -> SemiSupervisedTrainer:
    """A trainer of the tiny encoder with fixmatch and no token edits."""
    given = {"use_cpu": True, "per_device_train_batch_size": 4, "max_steps": 2, "save_strategy": "no", "disable_tqdm": True,
             "edits": {"mask": 0.0}, "report_to": "none"} | arguments  # fmt: skip
    return SemiSupervisedTrainer(
        tiny_student(encoder, 0.1),
        SemiSupervisedTrainingArguments(str(output), **given),
        train_dataset=labeled_texts(),
        unlabeled_dataset=unlabeled,
        processing_class=AutoTokenizer.from_pretrained(encoder),
        method="fixmatch",
    )


def test_a_trainer_takes_columns_of_paraphrases(tiny_encoder: Path, tmp_path: Path) -> None:
    """Raw text and its paraphrases in Python: the teacher reads the text, the student a paraphrase, or the text without one."""
    trainer = trainer_of(tiny_encoder, tmp_path, corpus(), views="one,two")
    tokenizer, seen = AutoTokenizer.from_pretrained(tiny_encoder), set()
    for batch in trainer.get_train_dataloader():
        unlabeled = batch["unlabeled"]
        weak, strong = (
            tokenizer.batch_decode(unlabeled[name]["input_ids"], skip_special_tokens=True)
            for name in ("weak", "strong")
        )
        assert set(weak) == {"money back please"}
        seen |= {(int(row) % 4, text) for row, text in zip(unlabeled["ids"], strong, strict=True)}
    texts = {(0, "money back please"), (1, "parcel late"), (3, "package late")}
    assert texts <= seen <= texts | {(2, "courier late"), (2, "address late")}
    trainer.train()


def test_scores_do_not_read_paraphrases(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards a corpus that is scored with other columns in it."""
    rows, tokenizer = corpus(), AutoTokenizer.from_pretrained(tiny_encoder)
    read, plain = (trainer_of(tiny_encoder, tmp_path, rows, views=views).unlabeled_dataset for views in (["one"], []))
    assert VIEW_INPUTS in read.column_names
    scores = [score(tiny_student(tiny_encoder, 0.0), tokens, tokenizer) for tokens in (read, plain)]
    assert torch.equal(*map(torch.from_numpy, scores))


def test_a_trainer_says_which_paraphrases_it_misses(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards a mistyped column, and tokenized rows whose paraphrases nobody tokenized."""
    with pytest.raises(UserError, match=r"unlabeled_dataset: no column 'ones'; .* did you mean 'one'\?"):
        trainer_of(tiny_encoder, tmp_path, corpus(), views=["ones"])
    tokenized = trainer_of(tiny_encoder, tmp_path, corpus()).unlabeled_dataset
    with pytest.raises(UserError, match="views: unlabeled_dataset is tokenized, but its paraphrases are not"):
        trainer_of(tiny_encoder, tmp_path, tokenized, views=["one"])
    ready = trainer_of(tiny_encoder, tmp_path, corpus(), views=["one"]).unlabeled_dataset
    assert trainer_of(tiny_encoder, tmp_path, ready, views=["one"]).unlabeled_dataset is ready


# Chinese: the tiny encoder knows none of it, and every character is one [UNK]

CHINESE = {"text": "我的包裹还没有到", "回译": "包裹没到", "改写": "parcel 还在路上吗"}


def test_chinese_paraphrases_are_drawn_at_every_visit(place: Path, tiny_encoder: Path) -> None:
    """Columns with Chinese names and texts: 8 [UNK] are the text, which the teacher reads, 4 and 5 are its paraphrases.

    Guards a file that is not read as UTF-8, and a row with one paraphrase for good: most of 8 rows show both in 2 or 3 visits.
    """
    (place / "unlabeled.jsonl").write_text(8 * (json.dumps(CHINESE, ensure_ascii=False) + "\n"), encoding="utf-8")
    assert main(train(tiny_encoder, "out", "--method=fixmatch", "--views", "回译,改写")) == 0
    assert "views:\n- 回译\n- 改写\n" in (place / "out" / "config.yaml").read_text(encoding="utf-8")
    trainer = trainer_of(tiny_encoder, place, Dataset.from_list([CHINESE] * 8), views="回译,改写")
    unknown = AutoTokenizer.from_pretrained(tiny_encoder).unk_token_id
    drawn: list[set[int]] = [set() for _ in range(8)]
    for batch in trainer.get_train_dataloader():
        unlabeled = batch["unlabeled"]
        weak, strong = ((unlabeled[name]["input_ids"] == unknown).sum(1).tolist() for name in ("weak", "strong"))
        assert set(weak) == {8}
        for row, count in zip(unlabeled["ids"], strong, strict=True):
            drawn[row].add(count)
    assert set.union(*drawn) == {4, 5}
    assert sum(one == {4, 5} for one in drawn) >= 4


@pytest.mark.parametrize("view", [EmbeddingNoise(), Adversarial()], ids=["noise", "adversarial"])
def test_views_of_embeddings_on_chinese(view: View, tiny_encoder: Path) -> None:
    """Rows of one embedding again and again, down to a single character: guards 0/0, and a shift of the padding."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    inputs = tokenizer([CHINESE["text"], CHINESE["回译"], "路"], padding=True, return_tensors="pt")
    assert (inputs["input_ids"] == tokenizer.unk_token_id).sum(1).tolist() == [8, 4, 1]
    seen = view.prepare(tiny_student(tiny_encoder, 0.1), {"weak": inputs, "keys": torch.arange(3)})
    assert seen.shift is not None
    assert seen.shift.isfinite().all()
    assert torch.equal(seen.shift.abs().amax(-1) > 0, inputs["attention_mask"] > 0)
