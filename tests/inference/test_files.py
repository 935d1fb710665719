"""Files through a classifier: no row lost, no column touched, and figures that are the classifier's own."""

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from notes import Notes
from transformers import AutoTokenizer

from sstext.cli.main import main
from sstext.data.formats import read_rows
from sstext.errors import UserError
from sstext.evaluation.bootstrap import evaluate_predictions
from sstext.inference import files as predicting
from sstext.inference.classifier import Classifier
from sstext.inference.files import evaluate_file, predict_file
from sstext.modeling.student import new_student
from sstext.progress import Reporter

CLASSES = ["account", "delivery", "refund"]
#: Empty, quoted, broken over lines, number-like and long cells: what files hold.
TEXTS = ["money back please", "", 'the "parcel", late', "login\nagain", "007", "courier " * 80]
IDS = ["01", "NA", "", "1e5", "x,y", "6"]


@pytest.fixture(scope="module")
def model(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier's folder; its head is new, which makes predictions no less distinct."""
    path = tmp_path_factory.mktemp("model")
    student = new_student(str(tiny_encoder), CLASSES, seed=0)
    torch.nn.init.normal_(student.classifier.weight, std=0.3, generator=torch.Generator().manual_seed(0))
    student.save_pretrained(path)
    AutoTokenizer.from_pretrained(tiny_encoder).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def classifier(model: Path) -> Classifier:
    return Classifier.from_pretrained(model, device="cpu")


def write(path: Path, columns: dict[str, list]) -> Path:
    """Rows in the format of the file's name, by other means than ours."""
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".txt":
        path.write_text("".join(f"{row['text']}\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


def read(path: Path) -> dict[str, list]:
    """All rows of a file as columns."""
    batches = list(read_rows(path))
    return {name: [value for batch in batches for value in batch.columns[name]] for name in batches[0].columns}


@pytest.mark.parametrize("output", ["csv", "tsv", "jsonl", "parquet", "txt"])
@pytest.mark.parametrize("source", ["csv", "tsv", "jsonl", "parquet", "txt"])
def test_every_format_in_and_out(source: str, output: str, classifier: Classifier, tmp_path: Path) -> None:
    """Guards rows, order and columns over all 25 pairs: what came in goes out as it was, with two columns more."""
    texts = [text.replace("\n", " ") for text in TEXTS] if source == "txt" else TEXTS
    given = {"id": IDS, "text": texts, "note": ["a"] * 6} if source != "txt" else {"text": texts}
    target = tmp_path / f"out.{output}"
    assert predict_file(classifier, write(tmp_path / f"in.{source}", given), target) == 6
    labels, confidence = classifier.predict(texts), classifier.predict_proba(texts).max(-1)
    found = read(target)
    if output == "txt":
        assert found == {"text": labels}
        return
    assert list(found) == [*given, "predicted_label", "confidence"]
    assert {name: found[name] for name in given} == given
    assert found["predicted_label"] == labels
    if output in ("csv", "tsv"):
        assert found["confidence"] == [f"{value:.4f}" for value in confidence]
    else:
        assert found["confidence"] == confidence.tolist(), "all digits"


@pytest.mark.parametrize("output", ["csv", "jsonl"])
def test_bytes_are_texts_where_a_format_has_no_bytes(output: str, classifier: Classifier, tmp_path: Path) -> None:
    """Guards the b'…' of Python, and a text with a broken character, which is labeled all the same."""
    source = write(tmp_path / "in.parquet", {"text": [b"late", b"caf\xe9"], "raw": [b"\xff", b"x"]})
    predict_file(classifier, source, tmp_path / f"out.{output}")
    found = read(tmp_path / f"out.{output}")
    assert (found["text"], found["raw"]) == (["late", "caf\ufffd"], ["\ufffd", "x"])
    assert found["predicted_label"] == classifier.predict(["late", "caf\ufffd"])


def test_rows_stream_in_batches_that_change_nothing(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards the seams between batches, and the columns that `--probabilities` adds."""
    source = write(tmp_path / "in.csv", {"text": TEXTS})
    outputs = []
    for size in (1_000, 4):
        monkeypatch.setattr(predicting, "ROWS_AT_ONCE", size)
        predict_file(classifier, source, tmp_path / f"{size}.csv", probabilities=True, digits=None)
        outputs.append(read(tmp_path / f"{size}.csv"))
    assert outputs[0].keys() == outputs[1].keys()
    names = [f"probability/{name}" for name in CLASSES]
    assert list(outputs[0]) == ["text", "predicted_label", "confidence", *names]
    shares = [np.array([output[name] for name in names], dtype=float).T for output in outputs]
    np.testing.assert_allclose(shares[0], shares[1], atol=1e-6)
    np.testing.assert_allclose(shares[0].sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(shares[0], classifier.predict_proba(TEXTS), atol=1e-6)
    np.testing.assert_array_equal(shares[0].max(1), np.array(outputs[0]["confidence"], dtype=float))


@pytest.mark.parametrize("taken", ["predicted_label", "confidence"])
def test_columns_that_are_there_already_are_not_overwritten(taken: str, classifier: Classifier, tmp_path: Path) -> None:
    """Guards the predictions of an earlier model."""
    source = write(tmp_path / "in.csv", {"text": ["a"], taken: ["b"]})
    with pytest.raises(UserError, match=f"in.csv: predictions would overwrite '{taken}'; rename or drop"):
        predict_file(classifier, source, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_a_bad_line_late_in_the_file_keeps_the_older_output(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against half an output that looks whole: batches were written before line 8 turned out to be wrong."""
    monkeypatch.setattr(predicting, "ROWS_AT_ONCE", 2)
    (tmp_path / "in.csv").write_text("text,id\n" + "money,1\n" * 6 + "money\n")
    (tmp_path / "out.csv").write_text("older")
    with pytest.raises(UserError, match=r"in\.csv: line 8: expected 2 cells"):
        predict_file(classifier, tmp_path / "in.csv", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "older"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv"]


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("none.csv", "out.csv", "no such file: .*none.csv"),
        ("in.csv", "none/out.csv", "no such folder"),
        ("in.csv", "out.xyz", "expected a file name that ends in"),
        ("in.doc", "out.csv", "in.doc: expected a file name that ends in"),
        (
            "two.csv",
            "out.csv",
            "two.csv: no text column was recognized .*found 'a', 'b'; name one with text_column=",
        ),
    ],
)
def test_what_cannot_be_read_or_written(
    source: str, target: str, message: str, classifier: Classifier, tmp_path: Path
) -> None:
    """Guards against tracebacks, and against an output file of nothing."""
    (tmp_path / "in.csv").write_text("text\nmoney\n")
    (tmp_path / "in.doc").write_text("text\nmoney\n")
    (tmp_path / "two.csv").write_text("a,b\n1,2\n")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match=message):
        predict_file(classifier, tmp_path / source, tmp_path / target)
    assert sorted(tmp_path.iterdir()) == before


def test_the_text_column_may_be_named(classifier: Classifier, tmp_path: Path) -> None:
    """Guards `--text-column` against the guess."""
    source = write(tmp_path / "in.csv", {"text": ["money", "money"], "reply": ["parcel late", "login"]})
    predict_file(classifier, source, tmp_path / "out.csv", text_column="reply")
    shares = classifier.predict_proba(["parcel late", "login"]).max(-1)
    assert read(tmp_path / "out.csv")["confidence"] == [f"{share:.4f}" for share in shares]


def test_the_input_is_never_overwritten(classifier: Classifier, tmp_path: Path) -> None:
    """Guards `predict model new.csv -o new.csv`, a slip that would replace the person's own file."""
    path = write(tmp_path / "in.csv", {"text": TEXTS})
    before = path.read_bytes()
    with pytest.raises(UserError, match="this is the input and would be overwritten"):
        predict_file(classifier, path, tmp_path / "." / "in.csv")
    assert path.read_bytes() == before


def test_texts_that_were_cut_are_counted(model: Path, tmp_path: Path) -> None:
    """Guards the note on long texts."""
    notes: list[str] = []
    reporter = Reporter(quiet=True)
    reporter.note = notes.append  # type: ignore[method-assign]
    classifier = Classifier.from_pretrained(model, device="cpu")
    predict_file(classifier, write(tmp_path / "in.csv", {"text": TEXTS}), tmp_path / "out.csv", reporter=reporter)
    assert notes == [
        "6 texts from column 'text'",
        "1 of 6 texts were cut to the 64 tokens that the model reads",
    ]


@pytest.mark.parametrize("problem_type", ["multi_label_classification", "regression"])
def test_a_model_without_one_label_per_text_is_said_or_refused(
    model: Path, tmp_path: Path, problem_type: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards a softmax over classes that do not exclude each other, and a `confidence` of 3.7."""
    classifier = Classifier.from_pretrained(model, device="cpu")
    classifier.model.config.problem_type = problem_type
    source, target, other = write(tmp_path / "in.csv", {"text": TEXTS}), tmp_path / "out.csv", tmp_path / "other"
    with pytest.raises(
        UserError, match=f"expected a model with one label per text, found problem_type='{problem_type}'"
    ):
        evaluate_file(classifier, source)
    classifier.save_pretrained(other)
    flags = ["-o", str(target), "--probabilities", "--digits", "all", "--device", "cpu"]
    code = main(["predict", str(other), str(source), *flags])
    said = capsys.readouterr().err
    if problem_type == "regression":
        assert code == 2
        assert "found a model with problem_type='regression'" in said
        assert not target.exists()
        return
    assert code == 0
    assert "the model is multi-label: each class has a probability of its own" in said
    found = read(target)
    shares = np.array([[float(value) for value in found[f"probability/{name}"]] for name in CLASSES]).T
    np.testing.assert_allclose(shares, 1 / (1 + np.exp(-classifier.logits(TEXTS).astype(float))), atol=1e-6)
    np.testing.assert_allclose(np.array(found["confidence"], dtype=float), shares.max(1), atol=1e-6)


# The commands


@pytest.mark.parametrize(
    ("given", "output_format", "expected"),
    [
        (b"text,id\nmoney,01\n", None, ["text", "id", "predicted_label", "confidence"]),
        (b'{"text": "money"}\n', "jsonl", ["text", "predicted_label", "confidence"]),
        (b"the money is late\n", "tsv", ["text", "predicted_label", "confidence"]),
    ],
)
def test_stdin_and_stdout(
    given: bytes,
    output_format: str | None,
    expected: list[str],
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Guards pipes: rows alone on stdout, in the format asked for; every note on stderr."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given)))
    flags = ["--output-format", output_format] if output_format else []
    assert main(["predict", str(model), "-", "-o", "-", "--device", "cpu", *flags]) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    if output_format == "jsonl":
        assert [list(json.loads(line)) for line in lines] == [expected]
    else:
        header, row = (line.split("\t" if output_format == "tsv" else ",") for line in lines)
        assert header == expected
        assert row[-2] in CLASSES
    assert "1 text from column 'text'" in shown.err


def test_digits_of_a_csv_are_chosen(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards `--digits`: two digits, all of them, and a mistake that is said before a model is loaded."""
    command = [
        "predict",
        str(model),
        str(write(tmp_path / "in.csv", {"text": TEXTS[:1]})),
        "--device",
        "cpu",
        "--probabilities",
    ]
    confidence = float(Classifier.from_pretrained(model, device="cpu").predict_proba(TEXTS[:1]).max())
    for digits, expected in (("2", f"{confidence:.2f}"), ("all", str(confidence))):
        assert main([*command, "--digits", digits, "--quiet"]) == 0
        _, _, shown, *probabilities = capsys.readouterr().out.splitlines()[1].split(",")
        assert shown == expected
        assert expected in probabilities
    with pytest.raises(SystemExit):
        main([*command, "--digits", "0"])
    assert "argument --digits: expected a number from 1 to 17 or `all`, found '0'" in capsys.readouterr().err


def test_the_folder_of_a_run_stands_for_its_model(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards `sstext predict out`, and a run that has no model yet: one line says which model is used, or what to do."""
    texts, run = str(write(tmp_path / "in.csv", {"text": TEXTS[:1]})), tmp_path / "out"
    run.mkdir()
    (run / "config.yaml").write_text("seed: 0\n")
    assert main(["predict", str(run), texts, "--device", "cpu"]) == 2
    assert f"{run}: this run has no model yet; finish it with the `sstext train` command" in capsys.readouterr().err
    shutil.copytree(model, run / "model")
    told = {}
    for folder in (run, run / "model"):
        assert main(["predict", str(folder), texts, "--device", "cpu"]) == 0
        told[folder] = capsys.readouterr()
    assert told[run].out == told[run / "model"].out
    said = f"{run} is the folder of a run; its model {run / 'model'} is used"
    assert told[run].err.splitlines().count(said) == 1
    assert said not in told[run / "model"].err
    write(tmp_path / "test.csv", {"text": TEXTS[:1], "label": ["refund"]})
    assert main(["evaluate", str(run), str(tmp_path / "test.csv"), "--device", "cpu", "--quiet"]) == 0


def test_evaluate_gives_the_classifiers_own_figures(
    model: Path,
    classifier: Classifier,
    tiny_task: Callable[[Path], Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Guards `sstext evaluate`: the same numbers as `evaluate_predictions` on `predict_proba`, on stdout or in a file."""
    task = tiny_task(tmp_path)
    table = read(task.test)
    labels = [CLASSES.index(name) for name in table["label"]]
    expected = evaluate_predictions(classifier.predict_proba(table["text"]), labels, CLASSES)
    assert evaluate_file(classifier, task.test) == expected
    expected = json.loads(json.dumps(expected))
    assert main(["evaluate", str(model), str(task.test), "--device", "cpu", "--json", "-"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == expected
    assert "test: 30 texts from" in shown.err
    assert main(["evaluate", str(model), str(task.test), "--device", "cpu", "--json", str(tmp_path / "r.json")]) == 0
    assert json.loads((tmp_path / "r.json").read_text()) == expected
    assert f"{expected['metrics']['accuracy']['score']:.1%} [".replace("%", "") in capsys.readouterr().out


def test_evaluate_refuses_a_label_that_the_model_has_not(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards the class numbers of another task."""
    (tmp_path / "test.csv").write_text("text,label\nmoney,refund\nmoney,refunds\n")
    assert main(["evaluate", str(model), str(tmp_path / "test.csv"), "--device", "cpu", "--json", "r.json"]) == 2
    error = capsys.readouterr().err
    assert "test.csv: line 3: unknown label 'refunds'" in error
    assert "did you mean 'refund'?" in error


# Abstaining


def test_rows_that_are_not_sure_enough_are_marked(model: Path, tmp_path: Path) -> None:
    """By the curve in the model's own config: `middle` is the least confidence whose precision is .8 or more."""
    classifier = Classifier.from_pretrained(model, device="cpu")
    middle = float(np.median(classifier.predict_proba(TEXTS).max(-1)))
    classifier.model.config.sstext = {"precision_curve": [[0.9, 0.95, 0.1], [middle, 0.8, 0.5], [0.2, 0.6, 1.0]]}
    classifier.model.save_pretrained(tmp_path / "again")
    classifier.tokenizer.save_pretrained(tmp_path / "again")
    again = Classifier.from_pretrained(tmp_path / "again", device="cpu")
    source, target = write(tmp_path / "in.csv", {"text": TEXTS}), tmp_path / "out.csv"
    notes = Notes()
    predict_file(again, source, target, target_precision=0.8, reporter=notes)
    with target.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["text", "predicted_label", "confidence", "abstain"]
    assert [row["abstain"] for row in rows] == [str(float(row["confidence"]) < middle) for row in rows]
    assert len({row["abstain"] for row in rows}) == 2, "canary: some rows are marked, others not"
    kept = sum(row["abstain"] == "False" for row in rows)
    said = f"{kept} of {len(rows)} texts have a confidence of {middle:.2f} or more; the column abstain marks the others"
    assert said in notes.said


@pytest.mark.parametrize(("curve", "precision", "message"), [
    (None, 0.9, "because no labeled rows were held out; add --folds 3, or give --dev, and train it again"),
    ([[0.9, 0.95, 0.1]], 0.99, "expected at most 0.950, the estimated precision of the most confident texts, found 0.99"),
    ([[0.9, 0.95, 0.1]], 95, "expected a share above 0 and up to 1, found 95"),
])  # fmt: skip
def test_a_precision_that_cannot_be_promised_is_refused(
    model: Path, tmp_path: Path, curve: Any, precision: float, message: str
) -> None:
    classifier = Classifier.from_pretrained(model, device="cpu")
    classifier.model.config.sstext = {"precision_curve": curve}
    with pytest.raises(UserError, match=message):
        predict_file(
            classifier, write(tmp_path / "in.csv", {"text": TEXTS}), tmp_path / "out.csv", target_precision=precision
        )
    assert not (tmp_path / "out.csv").exists()


def test_formulas_in_predictions_are_counted_and_quoted_if_asked(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards people who open predictions in a spreadsheet: a stranger's text may be a formula."""
    source = write(tmp_path / "in.csv", {"text": ["=1+1", "late"], "-note": ["-1", "@x"]})
    for flags, text in (([], "=1+1"), (["--excel-safe"], "'=1+1")):
        target = tmp_path / "out.csv"
        assert main(["predict", str(model), str(source), "-o", str(target), "--device", "cpu", *flags]) == 0
        rows = list(csv.reader(target.open(newline="")))
        assert rows[1][:2] == [text, "-1"]
        assert rows[0][1] == ("'-note" if flags else "-note")
        (line,) = (line for line in capsys.readouterr().err.splitlines() if "formula" in line)
        assert line.startswith(f"{target}: 3 cells begin like a formula")
