"""`sstext suggest`: texts to label, without labels, with labels, and with a run."""

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sstext.cli.main import main
from sstext.cli.suggest import TOOLS, next_steps
from sstext.data import labeling_tasks
from sstext.data.labeling_tasks import LabelingTask
from sstext.errors import UserError
from sstext.inference.classifier import Classifier
from sstext.pseudolabels.texts_to_label import AT_RANDOM, TYPICAL, UNSURE
from sstext.run import suggesting
from sstext.run.suggesting import Suggestions, suggest
from sstext.storage.run_folder import RunDirectory


def read(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def texts_of(file: Path) -> list[str]:
    return [json.loads(line)["text"] for line in file.read_text(encoding="utf-8").splitlines()]


def test_without_labels(
    tiny_files: Any, tiny_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards the command: texts of the corpus, each once, a reason for each, and a label for none."""
    output = tmp_path / "to_label.csv"
    command = ["suggest", str(tiny_files.unlabeled), "-n", "12", "--encoder", str(tiny_encoder), "-o", str(output)]
    assert main(command) == 0
    rows = read(output)
    assert list(rows[0]) == ["text", "label", "reason"]
    assert len({row["text"] for row in rows} & set(texts_of(tiny_files.unlabeled))) == 12
    assert {row["label"] for row in rows} == {""}
    assert [row["reason"] for row in rows].count(AT_RANDOM) == 3
    assert [row["reason"] for row in rows].count(TYPICAL) == 9
    shown = capsys.readouterr()
    assert "12 texts to label: 9 because many texts are like them, 3 drawn at random." in shown.out
    assert f"Label them: sstext label {output}" in shown.out
    train = f"sstext train --labeled {output} --unlabeled {tiny_files.unlabeled} --encoder {tiny_encoder} --output out"
    assert f"Then train: {train}" in shown.out
    assert "embedding 60 texts took" in shown.err


def test_with_labels(tiny_files: Any, tiny_encoder: Path) -> None:
    """Guards the guesses of the regression, its default number of texts, and labeled texts that are chosen again."""
    first = suggest(str(tiny_files.unlabeled), encoder=str(tiny_encoder), labeled=str(tiny_files.labeled))
    assert len(first.tasks) == 30, "ten for each class"
    assert {task.guess for task in first.tasks} == set(tiny_files.classes)
    assert {task.reason for task in first.tasks} == {AT_RANDOM, UNSURE}
    assert first.model == f"regression on {tiny_encoder.name}"


def test_labeled_texts_are_not_chosen_again(tiny_files: Any, tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards the loop: what is in the labeled file, and copies of it, are left out."""
    texts = texts_of(tiny_files.unlabeled)
    labeled = tmp_path / "labeled.csv"
    with labeled.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(
            [("text", "label"), *((text, f"class {i % 2}") for i, text in enumerate(texts[:50]))]
        )
    found = suggest(str(tiny_files.unlabeled), encoder=str(tiny_encoder), labeled=str(labeled), count=40)
    assert {task.text for task in found.tasks} == set(texts[50:])


def test_one_file_with_labels_and_a_file_that_was_labeled(
    tiny_files: Any, tiny_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards labels that are in the file of the corpus, and were not read, and labels of a person that were written over."""
    one = tmp_path / "one.csv"
    labeled = [(row["text"], row["label"]) for row in read(tiny_files.labeled)]
    with one.open("w", encoding="utf-8", newline="") as file:
        rows = [*labeled, *((text, "") for text in texts_of(tiny_files.unlabeled)[:20])]
        csv.writer(file).writerows([("text", "label"), *rows])
    output = tmp_path / "to_label.csv"
    command = ["suggest", str(one), "-n", "20", "--encoder", str(tiny_encoder), "-o", str(output)]
    assert main(command) == 0
    shown = capsys.readouterr()
    assert "labeled: 12 texts" in shown.err
    assert f"Then write the labels into {one}, and train: sstext train {one} --encoder" in shown.out
    chosen = read(output)
    assert not {row["text"] for row in chosen} & {text for text, _ in labeled}
    with output.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), (chosen[0]["text"], "refund"), (chosen[1]["text"], "")])
    before = output.read_bytes()
    assert main(command) == 2
    assert f"output: {output} has 1 label already; give another --output" in capsys.readouterr().err
    assert output.read_bytes() == before


def test_a_run_names_its_corpus_its_classes_and_its_guesses(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards `--run`: the corpus of the run, the probabilities of its model, and pre-annotations for other tools."""
    found = suggest(run=finished_run)
    assert len(found.tasks) == 30
    classifier = Classifier.from_pretrained(finished_run / "model", max_length=32)
    texts = [task.text for task in found.tasks]
    assert [task.guess for task in found.tasks] == classifier.predict(texts)
    sure = classifier.predict_proba(texts).max(-1)
    np.testing.assert_allclose([task.probability for task in found.tasks], sure, atol=1e-5)
    assert found.model == "sstext, out"
    assert [task.text for task in suggest(run=finished_run, count=30).tasks] == texts
    output = finished_run.parent / "tasks.json"
    assert main(["suggest", f"--run={finished_run}", "-n4", "--to=label-studio", f"--output={output}", "--quiet"]) == 0
    assert len(json.loads(output.read_text(encoding="utf-8"))) == 4
    shown = capsys.readouterr().out
    assert "Label them in Label Studio, and export them, for example to labels.csv." in shown
    assert f"Then go on: sstext train {finished_run} --more labels.csv" in shown


def test_the_next_steps_name_the_columns_and_keep_labels_that_are_there() -> None:
    """Guards commands that end in an error: other columns in the corpus, blanks in a name, and labels that are forgotten."""
    given = {"to": "csv", "output": "to label.csv", "run": None, "labeled": None, "corpus": "c.csv", "encoder": "demo"}
    columns = {"text_column": "body", "label_column": None}
    assert next_steps(argparse.Namespace(**given), columns) == [
        "Label them: sstext label 'to label.csv' --text-column body",
        "Then train: sstext train --labeled 'to label.csv' --unlabeled c.csv --encoder demo --text-column body --output out",
    ]
    (_, then) = next_steps(argparse.Namespace(**given | {"labeled": "my.csv"}), columns)
    assert then == "Then add them to my.csv, and train with --labeled my.csv."
    tasks = [LabelingTask("a", AT_RANDOM, "refund", 0.5)]
    found = Suggestions(tasks, "model", ("refund", "my account"))
    assert next_steps(argparse.Namespace(**given), {}, found)[0] == (
        "Label them: sstext label 'to label.csv' --classes refund 'my account'"
    )
    (_, then) = next_steps(argparse.Namespace(**given, encoding="cp1252", prefix="query: "), {})
    assert "--encoder demo --encoding cp1252 --prefix 'query: ' --output out" in then


def test_disagreement_is_read_from_the_chains(tmp_path: Path) -> None:
    """Guards the rows of the corpus: the last stage that every chain has scored, at the places of the candidates."""
    (tmp_path / "rounds.jsonl").write_text('{"index": 0, "stage": "baseline"}\n{"index": 1, "stage": "start"}\n')
    logits = np.random.default_rng(0).normal(size=(2, 9, 3)).astype(np.float32)
    for number in (1, 2):
        (tmp_path / f"chain_{number}" / "start").mkdir(parents=True)
        np.save(tmp_path / f"chain_{number}" / "start" / "scores.npy", logits[number - 1])
    found = suggesting.predicted_by_chains(RunDirectory(tmp_path), np.array([4, 0]))
    np.testing.assert_array_equal(found, logits[:, [4, 0]].argmax(-1))
    (tmp_path / "chain_2" / "start" / "scores.npy").unlink()
    assert suggesting.predicted_by_chains(RunDirectory(tmp_path), np.array([4, 0])) == []


def test_candidates_are_said_and_kept_embeddings_are_used(
    tiny_files: Any,
    tiny_encoder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Guards a part of the corpus that stands for all of it without a word, and a corpus that is embedded twice."""
    command = ["suggest", str(tiny_files.unlabeled), "-n4", f"--encoder={tiny_encoder}", f"--cache={tmp_path / 'kept'}"]
    assert main([*command, "--candidates=20", f"--output={tmp_path / 'a.csv'}"]) == 0
    assert "candidates: 20 of 60 texts, drawn at random" in capsys.readouterr().err
    monkeypatch.setattr(suggesting, "score", lambda *_, **__: pytest.fail("embedded twice"))
    assert main([*command, "--candidates=20", f"--output={tmp_path / 'b.csv'}"]) == 0
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "corpus: no texts to choose from"),
        ({"corpus": "CORPUS"}, "encoder: no pretrained encoder; give --encoder"),
        ({"corpus": "CORPUS", "encoder": "ENCODER", "count": 0}, "count: expected at least 1, found 0"),
        ({"run": "nowhere"}, "run: expected the folder of a finished run"),
        ({"run": "RUN", "encoder": "ENCODER"}, "encoder: the run has its own"),
        ({"corpus": "CORPUS", "encoder": "nowhere/at all"}, "cannot load"),
    ],
)
def test_what_is_missing_is_said(
    arguments: dict[str, Any], message: str, tiny_files: Any, tiny_encoder: Path, finished_run: Path
) -> None:
    places = {"CORPUS": str(tiny_files.unlabeled), "ENCODER": str(tiny_encoder), "RUN": str(finished_run)}
    with pytest.raises(UserError, match=message):
        suggest(**{name: places.get(value, value) for name, value in arguments.items()})


def test_the_output_is_checked_before_anything_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    """Guards minutes of embedding for a file that cannot be written, and a list of tools that is written down twice."""
    assert main(["suggest", "nowhere.csv", "--to=doccano", "--output=a.csv"]) == 2
    assert "expected a file that ends in .jsonl for doccano" in capsys.readouterr().err
    assert tuple(labeling_tasks.TOOLS) == TOOLS
