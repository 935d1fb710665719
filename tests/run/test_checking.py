"""`sstext check` with an encoder, and its page."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sstext.cli.main import main
from sstext.data.doctor.examine import examined
from sstext.data.doctor.texts import Given
from sstext.run import checking_with_encoder
from sstext.run.checking import check
from sstext.run.checking_with_encoder import WithEncoder, encoder_findings, label_suspects, unlike


def write(path: Path, rows: list[tuple[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return path


def test_suspects_are_the_flipped_labels() -> None:
    """Guards the rule: a flipped label is found, an unsure row is not, and the most doubtful row comes first."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    probabilities = np.full((60, 3), 0.1) + 0.7 * np.eye(3)[labels] + rng.uniform(0, 0.01, (60, 3))
    probabilities /= probabilities.sum(1, keepdims=True)
    probabilities[8] = [0.4, 0.35, 0.25]  # labeled 2, but no class reaches its average
    given = labels.copy()
    given[[3, 10]] = 2
    probabilities[10] = [0.01, 0.98, 0.01]
    assert label_suspects(probabilities, given).tolist() == [10, 3]
    assert label_suspects(probabilities, labels).tolist() == []


def test_unlike_texts() -> None:
    """Guards that texts as far apart as labeled ones are not reported, and the order."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 8)) * 0.2 + np.eye(8)[0]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    outside = np.concatenate([rows[200:], np.eye(8)[1:3], -np.eye(8)[:1]])
    found = unlike(rows[:200], outside)
    assert found[0] == 102
    assert set(found[1:3]) == {100, 101}
    assert len(found) <= 3 + 4, "about one in a hundred by chance"


def test_with_an_encoder(tiny_files: Any, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards planted faults: a wrong label, a text that is too long, and a script that the vocabulary does not have."""
    with tiny_files.test.open(encoding="utf-8") as file:
        rows = [(row["text"], row["label"]) for row in csv.DictReader(file)]
    other = tiny_files.classes[(tiny_files.classes.index(rows[4][1]) + 1) % 3]
    labeled = write(tmp_path / "labeled.csv", [*rows[:4], (rows[4][0], other), *rows[5:]])
    corpus = write(
        tmp_path / "corpus.csv", [(f"{'ы' * 5} {number} щ", "") for number in range(25)] + [("a b " * 50, "")]
    )
    with examined([Given("data", labeled), Given("unlabeled", corpus)], lengths=False) as found:
        findings = list(encoder_findings(found.texts, WithEncoder(str(tiny_encoder), device="cpu")))
    kinds = {finding.kind: finding for finding in findings}
    assert (kinds["length"].where, kinds["length"].count) == ("unlabeled", 1)
    assert "longer than 64 tokens" in kinds["length"].said
    assert kinds["vocabulary"].count == 25
    assert "Cyrillic" in kinds["vocabulary"].said
    assert "line 6" in [group[0].at for group in kinds["label noise"].examples]
    assert kinds["label noise"].count <= 6, "most labels are right"
    assert "predicts another label for" in kinds["label noise"].said
    monkeypatch.setattr(checking_with_encoder, "BELIEVABLE", (kinds["label noise"].count - 0.5) / len(rows))
    with examined([Given("data", labeled)], lengths=False) as found:
        findings = list(encoder_findings(found.texts, WithEncoder(str(tiny_encoder), device="cpu")))
    assert "label noise" not in {finding.kind for finding in findings}, (
        "a model that doubts most labels knows too little"
    )


def test_the_vocabulary_is_checked_for_each_language(tiny_encoder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Guards a language that hides behind another one in the same script."""
    monkeypatch.setattr(
        checking_with_encoder,
        "languages_of",
        lambda texts: [{"b": "de", "a": "en", "c": ""}[text[0]] for text in texts],
    )
    rows = [(f"{word} {number}", "") for word in ("a a a a", "bqxz", "cqxz") for number in range(20)]
    with examined([Given("unlabeled", write(tmp_path / "corpus.csv", rows))], lengths=False) as found:
        findings = list(encoder_findings(found.texts, WithEncoder(str(tiny_encoder), device="cpu")))
    (said,) = (finding.said for finding in findings if finding.kind == "vocabulary")
    expected = (
        "the encoder's vocabulary does not cover 20 texts in the Latin script and the language de: 0.0% of the tokens"
    )
    assert said.startswith(expected), "2.8 tokens for each word; the same words of an unknown language may be names"


def test_the_page_is_escaped_and_the_flags_arrive(
    tiny_files: Any, tiny_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards texts that would run as a script, and a page that loads something."""
    text = "<script>alert('&amp;')</script>"
    rows = [(text, "<b>x</b>"), (text, "y"), ("quite another text", "y"), ("and one more of it", "<b>x</b>")]
    page = tmp_path / "found.html"
    check([write(tmp_path / "data.csv", rows)], html_file=page)
    shown = page.read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(&#39;&amp;amp;&#39;)&lt;/script&gt;" in shown
    assert "<script" not in shown
    assert "<b>x" not in shown
    assert "http" not in shown.replace("http-equiv", "")
    assert shown.count("<section>") == 3, "contradiction, entities, duplicate"
    command = ["check", str(tiny_files.labeled), "--encoder", str(tiny_encoder), "--max-length", "5", "--quiet"]
    assert main(command) == 0
    assert "are longer than 5 tokens" in capsys.readouterr().out
    assert main(["check", str(tiny_files.labeled), "--encoder", str(tmp_path / "none"), "--quiet"]) == 2


@pytest.mark.parametrize("option", ["--json", "--html"])
def test_what_is_checked_is_not_overwritten(option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards data that are lost by a slip of the keyboard."""
    file = tmp_path / "a.csv"
    file.write_text("text,label\na,x\nb,y\n")
    assert main(["check", str(file), option, str(tmp_path / "." / "a.csv")]) == 2
    assert f"{option[2:]}: expected another file than those that are checked" in capsys.readouterr().err
    assert file.read_text() == "text,label\na,x\nb,y\n"


@pytest.mark.parametrize("options", [("--json", "--fix"), ("--html", "--fix"), ("--json", "--html")])
def test_two_results_do_not_have_one_name(
    options: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards a result that replaces another one, or that is left behind by an error."""
    file, place = tmp_path / "a.csv", tmp_path / "found"
    file.write_text("text,label\na,x\nb,y\n")
    first, second = options
    assert main(["check", str(file), first, str(place), second, str(tmp_path / "." / "found")]) == 2
    assert f"{second[2:]}: expected another name than that of {first[2:]}" in capsys.readouterr().err
    assert not place.exists()


def test_numbers_are_read_as_a_training_reads_them(tmp_path: Path) -> None:
    """Guards class numbers that a table has made decimal: `1.0` is the class 1, which no row is called."""
    file = tmp_path / "a.csv"
    file.write_text("text,label\nfirst,1.0\nsecond,0.0\nthird,1.0\n")
    found = check([file])
    assert "labeled: classes: 1 (2), 0 (1)" in found.read
