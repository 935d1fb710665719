"""`sstext train out --more labels.csv`: a new run with the labels of a finished one and further ones."""

import csv
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from notes import Notes

from sstext.cli.main import main
from sstext.data.labeling_tasks import AT_RANDOM
from sstext.errors import UserError
from sstext.run import accuracy
from sstext.run.continuing import go_on, what_it_brought
from sstext.run.suggesting import suggest
from sstext.storage.run_folder import RunDirectory

CLASSES = ("account", "delivery", "refund")


def write(file: Path, rows: list[tuple[str, ...]], header: tuple[str, ...] = ("text", "label", "reason")) -> Path:
    with file.open("w", encoding="utf-8", newline="") as opened:
        csv.writer(opened).writerows([header, *rows])
    return file


def read(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As people leave it: some rows are labeled, and some are not yet."""
    rows = [("courier late today", "delivery", AT_RANDOM), ("no label yet", "", "many texts are like it"),
            ("charged twice again", "refund", "many texts are like it")]  # fmt: skip
    return write(tmp_path_factory.mktemp("more") / "more.csv", rows)


def test_the_labels_join(finished_run: Path, more: Path, tmp_path: Path) -> None:
    """Guards labels that are lost or doubled, an option of the old run that is dropped, and the reasons of the choices."""
    config = go_on(finished_run, more, {"output": str(tmp_path / "next"), "seed": 7})
    assert config.method == "self-training"
    assert config.seed == 7
    assert config.labeled == str(tmp_path / "next.labeled.csv")
    rows = read(Path(config.labeled))
    before = read(finished_run.parent / "labeled.csv")
    assert rows[:12] == [{**row, "reason": ""} for row in before]
    assert rows[12:] == [
        {"text": "courier late today", "label": "delivery", "reason": AT_RANDOM},
        {"text": "charged twice again", "label": "refund", "reason": "many texts are like it"},
    ]
    assert not (tmp_path / "next").exists(), "nothing was trained"


def test_texts_without_a_label_stay_in_the_corpus(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards unlabeled rows of a labeled file that vanish, at the first or at the second time that a run goes on.

    The run has one file with both, alone or beside a corpus.
    """
    rows = [
        *((row["text"], row["label"]) for row in read(finished_run.parent / "labeled.csv")),
        ("one", ""),
        ("two", ""),
    ]
    both = write(tmp_path / "both.csv", rows, ("text", "label"))
    more = [write(tmp_path / f"{text}.csv", [(text, "refund")], ("text", "label")) for text in ("one", "another")]
    corpus = str(finished_run.parent / "unlabeled.jsonl")
    options = RunDirectory(finished_run).read_options()
    own = {name: value for name, value in options.items() if name not in ("labeled", "unlabeled", "audit")}
    for given, kept, unlabeled in (
        ({"data": str(both)}, [], str(both)),
        ({"data": str(both), "unlabeled": corpus}, ["two"], corpus),
        ({"labeled": str(both), "unlabeled": corpus}, ["two"], corpus),
        ({"labeled": str(both)}, ["two"], None),
    ):
        for number, labels in enumerate(more):
            monkeypatch.setattr(RunDirectory, "read_options", lambda self, given=given: own | given)
            config = go_on(
                finished_run, labels, {"output": str(tmp_path / f"out {len(list(tmp_path.iterdir()))} {number}")}
            )
            assert config.labeled is not None
            assert [row["text"] for row in read(Path(config.labeled)) if not row["label"]] == kept
            assert (config.data, config.unlabeled) == (None, unlabeled)
            given = {"labeled": config.labeled} | ({"unlabeled": unlabeled} if unlabeled else {})


def test_a_new_label_of_an_old_text_counts(finished_run: Path, tmp_path: Path) -> None:
    """Guards a text that stands in the file twice, with both labels."""
    old = read(finished_run.parent / "labeled.csv")[0]
    changed = write(tmp_path / "changed.csv", [(old["text"], "refund", ""), ("new text", "account", "")])
    rows = read(Path(str(go_on(finished_run, changed, {"output": str(tmp_path / "out")}).labeled)))
    assert len(rows) == 13
    assert rows[0] == {"text": old["text"], "label": "refund", "reason": ""}


def test_more_labels_may_be_of_one_class(finished_run: Path, tmp_path: Path) -> None:
    """Guards a person who has labeled a few texts, all of one class: the other classes are in the run."""
    changed = write(tmp_path / "more.csv", [("new text", "refund", ""), ("another text", "refund", "")])
    rows = read(Path(str(go_on(finished_run, changed, {"output": str(tmp_path / "out")}).labeled)))
    assert [row["text"] for row in rows[12:]] == ["new text", "another text"]


def test_more_labels_are_read_as_those_of_a_run(finished_run: Path, tmp_path: Path) -> None:
    """Guards texts that a person has rejected in an annotation tool, and labels that mean "no label"."""
    answers = [
        {"text": "sent twice", "label": "delivery", "answer": "accept"},
        {"text": "not this", "label": "refund", "answer": "reject"},
        {"text": "who knows", "label": "?", "answer": "accept"},
    ]
    file = tmp_path / "more.jsonl"
    file.write_text("".join(json.dumps(answer) + "\n" for answer in answers), encoding="utf-8")
    changes = {"output": str(tmp_path / "out"), "unlabeled_value": "?"}
    rows = read(Path(str(go_on(finished_run, file, changes).labeled)))
    assert rows[12:] == [{"text": "sent twice", "label": "delivery", "reason": ""}]


def test_chosen_texts_have_columns_of_their_own(finished_run: Path, more: Path, tmp_path: Path) -> None:
    """Guards a run whose files name their columns otherwise than `to_label.csv` does."""
    changes = {"output": str(tmp_path / "out"), "text_column": "body", "label_column": "topic"}
    rows = read(Path(str(go_on(finished_run, more, changes).labeled)))
    assert rows[12] == {"body": "courier late today", "topic": "delivery", "reason": AT_RANDOM}


def test_a_column_of_texts_may_be_named_reason(finished_run: Path, more: Path, tmp_path: Path) -> None:
    """Guards texts that are replaced by the reasons for their choice."""
    changes = {"output": str(tmp_path / "out"), "text_column": "reason"}
    rows = read(Path(str(go_on(finished_run, more, changes).labeled)))
    assert rows[12] == {"reason": "courier late today", "label": "delivery"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [("a text", "", "")],
            "expected labels in column 'label', found none; label some of the rows, for example with `sstext label`",
        ),
        ("old", "more.csv has no label that the run does not have already"),
    ],
)
def test_files_that_add_nothing_are_refused(rows: Any, message: str, finished_run: Path, tmp_path: Path) -> None:
    if rows == "old":
        rows = [(row["text"], row["label"], "") for row in read(finished_run.parent / "labeled.csv")]
    with pytest.raises(UserError, match=message):
        go_on(finished_run, write(tmp_path / "more.csv", rows), {"output": str(tmp_path / "out")})
    assert [file.name for file in tmp_path.iterdir()] == ["more.csv"]


def test_folders_that_are_no_finished_run(finished_run: Path, more: Path, tmp_path: Path, capsys: Any) -> None:
    """Guards the words for the three ways to mistake the command."""
    assert main(["train", str(tmp_path), f"--more={more}"]) == 2
    assert "expected the folder of a finished run" in capsys.readouterr().err
    assert main(["train", f"--more={more}"]) == 2
    assert "more: expected the folder of one run, found none" in capsys.readouterr().err
    assert main(["train", str(finished_run)]) == 2
    assert "give --more labels.csv to go on from it" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_trains_again_and_says_what_the_labels_brought(
    finished_run: Path, more: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards the whole command, and texts that are labeled now and are suggested again."""
    out = tmp_path / "out-2"
    assert main(["train", str(finished_run), f"--more={more}", f"--output={out}", "--no-report"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "With 14 labels instead of 12: accuracy on the test rows" in shown
    assert json.loads((out / "results.json").read_text())["rows"]["labeled"] == 14
    labeled = {row["text"] for row in read(tmp_path / "out-2.labeled.csv")}
    assert not labeled & {task.text for task in suggest(run=out, count=60).tasks}


def test_reasons_are_found_for_held_out_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the order: held-out rows are those of fold 1, then of fold 2; rows without a reason count as drawn."""
    rows = [
        ("a", "x", AT_RANDOM),
        ("b", "y", "many texts are like it"),
        ("c", "x", ""),
        ("d", "y", "many texts are like it"),
    ]
    labeled = write(tmp_path / "labeled.csv", rows)
    config = SimpleNamespace(labeled=str(labeled), data=None, text_column=None, encoding="utf-8")
    texts = SimpleNamespace(labeled=SimpleNamespace(texts={"text": ["a", "b", "c", "d"]}))
    run = SimpleNamespace(whole=SimpleNamespace(config=config, texts=texts), chains=[None, None])
    monkeypatch.setattr(accuracy, "rows_of_folds", lambda *_: [np.array([3, 0]), np.array([1, 2])])
    assert accuracy._drawn_at_random(run).tolist() == [False, True, False, True]
    config.labeled, config.data = None, str(labeled)
    assert accuracy._drawn_at_random(run).tolist() == [False, True, False, True], "one file for all texts"
    config.data = None
    assert accuracy._drawn_at_random(run).all(), "labels that Python passes have no reasons"


def test_several_files_contradictions_and_slips(finished_run: Path, tmp_path: Path) -> None:
    """Guards a file that is dropped without a word, a text with two labels, and a slip that becomes a class."""
    first = write(
        tmp_path / "first.csv", [("one more", "refund", ""), ("two more", "refund", ""), ("two more", "account", "")]
    )
    second = write(tmp_path / "second.csv", [("three more", "acount", ""), ("four more", "praise", "")])
    notes = Notes()
    config = go_on(finished_run, [str(first), str(second)], {"output": str(tmp_path / "out")}, reporter=notes)
    assert [row["label"] for row in read(Path(str(config.labeled)))[12:]] == ["refund", "account", "acount", "praise"]
    assert notes.said == [
        "more: 2 labeled texts join 12", "more: 1 text has several labels; the last one counts",
        "more: 2 labeled texts join 14", "more: new class 'acount' (1 text); did you mean 'account'?",
        "more: new class 'praise' (1 text)",
    ]  # fmt: skip


def test_a_run_that_is_refused_keeps_its_labels(finished_run: Path, more: Path, tmp_path: Path) -> None:
    """Guards the file of labels of a finished run against a command that goes on from the same run with other labels."""
    out = tmp_path / "next"
    labels = Path(str(go_on(finished_run, more, {"output": str(out)}).labeled))
    shutil.copytree(finished_run, out)
    before = labels.read_bytes()
    other = write(tmp_path / "other.csv", [("another text", "refund", "")])
    with pytest.raises(UserError, match="is a run with other labels"):
        go_on(finished_run, other, {"output": str(out)})
    assert labels.read_bytes() == before
    planned = go_on(finished_run, more, {"output": str(out)}, file=tmp_path / "planned.csv")
    assert planned.labeled == str(labels), "the same labels are there already, so that a plan has nothing to write"


def test_what_more_labels_brought_by_hand() -> None:
    """Guards figures that are compared though one of them is missing."""

    def results(labeled: int, estimate: float | None, test: float | None) -> dict[str, Any]:
        figures = {} if test is None else {"score": test, "confidence_interval": (test - 0.05, test + 0.05)}
        measured = {} if test is None else {"self_trained": {"metrics": {"accuracy": figures}}}
        estimated = None if estimate is None else {
            "value": estimate, "low": estimate - 0.1, "high": estimate + 0.1, "chosen": 7,
        }  # fmt: skip
        return {"rows": {"labeled": labeled}, "test": measured, "accuracy_estimate": estimated}

    assert what_it_brought(results(12, 0.5, 0.61), results(24, 0.625, 0.75)) == (
        "With 24 labels instead of 12: accuracy on the test rows 61.0% [56.0%, 66.0%] → 75.0% [70.0%, 80.0%] (95 % intervals)."
    )
    assert what_it_brought(results(12, 0.5, None), results(12, 0.625, 0.75)) == (
        "Before → now: estimated accuracy 50.0% [40.0%, 60.0%] → 62.5% [52.5%, 72.5%] (90 % intervals; they overlap, so this "
        "may be chance). The estimates may be too low: 7 of the labeled texts were chosen because they are difficult."
    )
    assert what_it_brought(results(0, None, None), results(24, 0.625, None)) == (
        "With 24 labels instead of 0: estimated accuracy 62.5% [52.5%, 72.5%] (90 % interval; not known before)."
    )
    assert what_it_brought(results(12, 0.5, None), results(24, None, None)) == ""
