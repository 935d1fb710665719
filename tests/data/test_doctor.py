"""The data doctor: every kind of fault is planted and found, and sound data have none."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sstext.cli.main import main
from sstext.data.doctor import languages, minhash
from sstext.data.doctor.examine import examined
from sstext.data.doctor.finding import Finding
from sstext.data.doctor.texts import Columns, Given
from sstext.run.checking import check

TOPICS = {
    "delivery": "parcel courier late address tracking arrived door street driver morning",
    "refund": "money bank invoice paid twice amount card month statement euro",
}


def sound(count: int = 40, seed: int = 0) -> list[tuple[str, str]]:
    """Rows without a fault: different texts of two classes, the same number of each."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        label = list(TOPICS)[number % 2]
        words = rng.choice(TOPICS[label].split(), 6, replace=False)
        rows.append(
            (f"{''.join(rng.choice(list('bcdfgklmnprst'), 9))} {' '.join(words)} {number * 7919 + seed}", label)
        )
    return rows


def write(path: Path, rows: list[tuple], header: tuple[str, ...] = ("text", "label")) -> str:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


Find = Callable[..., list[Finding]]


@pytest.fixture
def find(tmp_path: Path) -> Find:
    """Findings of rows by role. Several lists of rows are several files, such as data.csv and data1.csv."""

    def run(columns: Columns | None = None, **roles: Any) -> list[Finding]:
        given = []
        for role, rows in roles.items():
            for number, some in enumerate(rows if isinstance(rows[0], list) else [rows]):
                header = ("text", "label", "annotator")[: len(some[0])]
                given.append(Given(role, write(tmp_path / f"{role}{number or ''}.csv", some, header)))
        with examined(given, columns) as found:
            return found.findings

    return run


def counts(found: list[Finding]) -> list[tuple[str, str, int]]:
    return [(finding.kind, Path(finding.where).name, finding.count) for finding in found]


def test_sound_data_have_no_fault(find: Find) -> None:
    """Guards alarms without a fault, which people learn to ignore."""
    assert find(data=sound(), test=sound(20, 1), unlabeled=[(text,) for text, _ in sound(30, 2)]) == []


def test_leaks_of_every_pair(find: Find) -> None:
    """Guards each pair of roles: equal texts (blanks around them do not count) and nearly equal ones."""
    rows, test, dev = sound(), sound(20, 1), sound(20, 2)
    corpus = [(text,) for text, _ in sound(20, 3)]
    near = (rows[5][0].upper() + " !", rows[5][1])
    found = find(
        data=rows, dev=[*dev, rows[1]], unlabeled=[*corpus, (rows[2][0],), (test[3][0],), (dev[4][0],)],
        test=[*test, (f" {rows[0][0]} ", rows[0][1]), near, dev[0]],
    )  # fmt: skip
    assert counts(found) == [
        ("leak", "test", 1), ("near leak", "test", 1), ("leak", "test", 1), ("leak", "dev", 1), ("overlap", "test", 1),
        ("overlap", "dev", 1), ("overlap", "unlabeled", 1),
    ]  # fmt: skip
    place, other = found[0].examples[0]
    assert (Path(place.file).name, place.at, Path(other.file).name, other.at) == (
        "test.csv",
        "line 22",
        "data.csv",
        "line 2",
    )
    assert "development texts" in found[2].said


def test_repeats(find: Find) -> None:
    """Guards the number of copies beyond the first, and near copies that are counted as equal ones, or twice."""
    rows = sound()
    found = find(data=[*rows, rows[0], rows[0], (rows[3][0].replace(" ", "  ") + "...", rows[3][1])])
    assert counts(found) == [("duplicate", "labeled", 2), ("near duplicate", "labeled", 1)]
    assert [place.at for place in found[0].examples[0]] == ["line 2", "line 42", "line 43"]


def test_contradictions(find: Find) -> None:
    """Guards labels of equal and of near texts, in one file and across files, and the people who gave them."""
    rows, test = [(*row, "") for row in sound()], sound(20, 1)
    other = {"delivery": "refund", "refund": "delivery"}
    planted = [(rows[0][0], other[rows[0][1]], "ben"), (rows[1][0] + "?", other[rows[1][1]], "")]
    rows[0] = (*rows[0][:2], "ann, cem")
    found = find(data=[*rows, *planted], test=[*test, (rows[2][0], other[rows[2][1]])])
    wrong = [finding for finding in found if "contradiction" in finding.kind]
    assert counts(wrong) == [
        ("contradiction", "labeled", 1), ("contradiction", "labeled and test", 1), ("near contradiction", "labeled", 1)
    ]  # fmt: skip
    assert "line 2 'delivery' by ann, cem, line 42 'refund' by ben" in str(wrong[0])


@pytest.mark.parametrize(
    ("text", "kind", "where"),
    [
        ("  ", "empty", "data.csv"),
        ("...?!", "wordless", "labeled"),
        ("NaN", "wordless", "labeled"),
        ("Das Paket fÃ¼r MÃ¼ller kam nicht", "mojibake", "labeled"),
        ("I don\x92t have the parcel yet", "mojibake", "labeled"),
        ("the caf\ufffd has not got it", "lost characters", "labeled"),
        ("Tom &amp; Jerry wait &#39;here&#39;", "HTML entities", "labeled"),
        ("где моя посылка, её всё ещё нет", "script", "labeled"),
        ("word " * 400, "length", "labeled"),
    ],
)
def test_faults_of_a_text(find: Find, text: str, kind: str, where: str) -> None:
    """Guards each fault of a single text, and that it is called by one name only."""
    rows = sound()
    found = find(data=[*rows[:7], (text, "refund"), *rows[7:]])
    assert counts(found) == [(kind, where, 1)]
    assert found[0].examples[0][0].at == "line 9"


def test_sound_texts_in_other_languages_are_left_alone(find: Find) -> None:
    """Guards texts that only look like broken ones: umlauts, accents, emoji, quotes, and letters such as Ã alone."""
    words = ["über", "São", "ÃO", "façade", "“so”", "5€", "🙂🙂", "naïve—é"]
    rows = [(f"{text} {word}", label) for (text, label), word in zip(sound(8), words, strict=True)]
    assert find(data=rows) == []


GERMAN = [
    "Mein Paket ist seit zwei Wochen überfällig.",
    "Bitte erstatten Sie mir die Versandkosten für die Bestellung.",
]


def test_texts_in_another_language_of_the_same_script(find: Find, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a mix of languages that scripts do not show, a doubtful text that is given a language, another script that is
    reported twice, and the check without its extra."""
    english = [
        "where is the parcel that you sent to me last week",
        "please give me back the money for this broken lamp",
    ]
    rows = [(text, "refund") for text in ("ok 12", "где моя посылка, её всё ещё нет")]
    data = [*((f"{text} {number}", "refund") for number in range(5) for text in english), *rows]
    found = find(data=data, unlabeled=[(f"{text} {number}",) for number in range(2) for text in GERMAN])
    assert [one for one in counts(found) if one[0] in ("language", "script")] == [
        ("script", "labeled", 1), ("language", "unlabeled", 4)
    ]  # fmt: skip
    (language,) = (one for one in found if one.kind == "language")
    assert language.said == "4 of 4 texts are not in the language of most, which is en (de 4)"
    assert language.examples[0][0].text.startswith("Mein Paket")
    monkeypatch.setattr(languages, "_model", lambda: None)
    assert languages.languages_of(GERMAN) == ["", ""]
    found = find(data=data, unlabeled=[(text,) for text in GERMAN])
    assert not [one for one in found if one.kind == "language"]


def test_only_empty_texts(find: Find) -> None:
    """Guards checks that need at least one text."""
    assert counts(find(data=[("", "refund"), (" ", "delivery")], test=[("", "refund")])) == [
        ("empty", "data.csv", 2), ("empty", "test.csv", 1)
    ]  # fmt: skip


def test_constant_texts(find: Find) -> None:
    """Guards a text in many rows, in other spellings, too."""
    found = find(unlabeled=[*((text,) for text, _ in sound()), *[("No comment",), ("no comment.",)] * 3])
    assert counts(found) == [
        ("constant", "unlabeled", 6),
        ("duplicate", "unlabeled", 4),
        ("near duplicate", "unlabeled", 1),
    ]


def test_boilerplate_at_either_end(find: Find) -> None:
    """Guards a long beginning or end that different texts share, and its whole length."""
    head, tail = "This message was sent from the contact page: ", "\n-- the information in this mail is confidential"
    rows = [(head + 2 * text, label) for text, label in sound(10, 1)]
    found = find(data=[*sound(), *rows])
    assert counts(found) == [("boilerplate", "labeled", 10)]
    assert f"begin with the same {len(head)} characters" in found[0].said
    found = find(data=[*sound(), *((2 * text + tail, label) for text, label in sound(10, 1))])
    assert counts(found) == [("boilerplate", "labeled", 10)]
    assert f"end with the same {len(tail)} characters" in found[0].said


def test_class_sets(find: Find) -> None:
    """Guards classes that only some files have, near twins across files, and held-out rows without a label."""
    test = [("the door of the tower is open 5", "door"), ("a word with no class at all 77", ""), *sound(20, 1)[::2]]
    found = find(data=[sound(), sound(8, 2)[1::2], [("money is back at last 909", "Refund")]], test=test)
    assert ("class sets", "test", 1) in counts(found), "door"
    assert ("class sets", "test", 2) in counts(found), "refund and Refund"
    assert {where for kind, where, _ in counts(found) if kind == "class sets"} == {
        "test",
        "data.csv",
        "data1.csv",
        "data2.csv",
    }
    assert ("no label", "test", 1) in counts(found)
    (twins,) = (finding for finding in found if finding.kind == "near-twin classes")
    assert "'refund' and 'Refund'" in twins.said
    (single,) = (finding for finding in found if finding.kind == "single row")
    assert single.examples[0][0].label == "Refund"


def test_imbalance_and_one_class(find: Find) -> None:
    """Guards the ratio from which classes are imbalanced, and a file with a single class."""
    delivery, refund = sound(60)[::2], sound(60)[1::2]
    assert counts(find(data=[*delivery, *refund[:4]])) == []
    assert counts(find(data=[*delivery, *refund[:3]])) == [("imbalance", "labeled", 1)]
    assert counts(find(data=delivery)) == [("one class", "labeled", 1)]


def test_columns_that_are_something_else(find: Find, tmp_path: Path) -> None:
    """Guards scores as labels and a second column of texts: findings here, although a training refuses the first."""
    rows = sound()
    scores = [(text, f"{number / 7:.3f}") for number, (text, _) in enumerate(rows)]
    assert "scores" in {finding.kind for finding in find(data=scores)}
    file = write(
        tmp_path / "pairs.csv", [(*row, f"a second text {i}") for i, row in enumerate(rows)], ("text", "label", "reply")
    )
    with examined([Given("data", file)]) as found:
        assert counts(found.findings) == [("pairs", "pairs.csv", 40)]


def test_rows_without_a_label_are_the_corpus(find: Find) -> None:
    """Guards empty labels, −1 and the option that names another word."""
    rows = [(text, str(list(TOPICS).index(label))) for text, label in sound()]
    assert counts(find(data=[*rows, (rows[0][0], "-1"), (rows[1][0], "")])) == [("overlap", "unlabeled", 2)]
    named = [*sound(), (rows[0][0], "unknown")]
    assert counts(find(Columns(unlabeled_value="unknown"), data=named)) == [("overlap", "unlabeled", 1)]


def test_spellings_of_a_class_are_no_contradiction(find: Find) -> None:
    """Guards 0 and 0.0, in one file and across files, which a training reads as one class."""
    rows = [(text, f"{list(TOPICS).index(label)}") for text, label in sound()]
    floats = [(text, f"{label}.0") for text, label in rows]
    assert counts(find(data=[floats, rows[:10]], test=sound_like(rows))) == [("duplicate", "labeled", 10)]


def sound_like(rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(text, label) for (text, _), (_, label) in zip(sound(40, 9), rows, strict=True)]


def test_minhash_is_right_about_pairs_of_known_similarity() -> None:
    """Guards pairs that are missed or joined by chance: the banded search agrees with comparing all pairs."""
    rng = np.random.default_rng(1)
    texts = [" ".join(rng.choice(TOPICS["refund"].split(), 9)) + f" {i:04d}" for i in range(60)]
    for text in texts[:20]:  # one changed letter in about fifty characters: 10 of 60 shingles differ
        place = int(rng.integers(len(text)))
        texts.append(text[:place] + "#" + text[place + 1 :])
    groups = minhash.Groups(len(texts))
    lengths, rows = np.array([len(text) for text in texts]), np.arange(len(texts))
    minhash.group_similar(minhash.bands(texts), lengths, texts.__getitem__, groups, rows)
    slow = minhash.Groups(len(texts))
    for one in range(len(texts)):
        for other in range(one):
            if minhash.similarity(texts[one], texts[other]) >= minhash.SIMILAR:
                slow.join(one, other)
    assert groups.all().tolist() == slow.all().tolist()
    assert (slow.all()[60:] < 60).sum() >= 15, "most planted pairs are similar enough"


def test_bands_do_not_depend_on_the_batch() -> None:
    """Guards hashes that read over the end of a text, and blocks: very short, long and empty texts among others."""
    texts = ["", "a", "abcd", "abcde", "word " * 3000, "über 🙂 straße", *(text for text, _ in sound(8))]
    together = minhash.bands(texts * 3)
    for number, text in enumerate(texts * 3):
        assert (together[number] == minhash.bands([text])[0]).all(), text[:20]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards the exit codes, the lines, and the file for programs."""
    rows, report = sound(), tmp_path / "found.json"
    data, test = write(tmp_path / "data.csv", rows), write(tmp_path / "test.csv", [*sound(20, 1), rows[0]])
    assert main(["check", data, "--test", test, "--json", str(report), "--quiet"]) == 0
    shown = capsys.readouterr().out
    assert "labeled: classes: delivery (20), refund (20)" in shown
    assert f"test: 1 of 21 texts is also among the labeled training texts ({test} line 22, {data} line 2: " in shown
    assert shown.endswith("1 finding\n")
    written = json.loads(report.read_text(encoding="utf-8"))
    assert [(finding["kind"], finding["count"]) for finding in written["findings"]] == [("leak", 1)]
    assert written["findings"][0]["examples"][0][1]["at"] == "line 2"
    assert written["classes"]["labeled"] == {"delivery": 20, "refund": 20}
    for wrong, message in (
        ([], "expected at least one file"), ([str(tmp_path / "no.csv")], "no such file"),
        ([data, "--json", str(tmp_path)], "found a folder"),
        ([data, "--label-column", "topic"], "no source has a column 'topic'"),
    ):  # fmt: skip
        assert main(["check", *wrong, "--quiet"]) == 2
        assert message in capsys.readouterr().err


def read(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def test_fix_writes_copies_and_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards every change, and that sources and other rows stay as they are: the copies have no such fault any more."""
    rows, test = sound(), sound(20, 1)
    planted = [(" ", "refund"), rows[0], (rows[1][0], "delivery"), ("Das Paket fÃ¼r MÃ¼ller", "delivery"), test[2]]
    data = write(tmp_path / "data.csv", [*rows, *planted])
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"id": i, "text": text}) + "\n" for i, (text, _) in enumerate(rows[2:4])))
    held_out = write(tmp_path / "test.csv", [*test, (test[0][0], "refund")])
    before = [Path(file).read_bytes() for file in (data, corpus, held_out)]
    command = [
        "check",
        data,
        "--unlabeled",
        str(corpus),
        "--test",
        held_out,
        "--fix",
        str(tmp_path / "clean"),
        "--quiet",
    ]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "1 label removed, 8 rows left out, 1 text repaired" in shown
    assert [Path(file).read_bytes() for file in (data, corpus, held_out)] == before
    clean = tmp_path / "clean"
    copied = [(row["text"], row["label"]) for row in read(clean / "data.csv")]
    assert copied == [rows[0], (rows[1][0], ""), *rows[2:], ("Das Paket für Müller", "delivery")]
    assert [(row["text"], row["label"]) for row in read(clean / "test.csv")] == test[1:]
    assert (clean / "corpus.jsonl").read_text() == ""
    changes = {(Path(row["file"]).name, row["place"]): row["reason"] for row in read(clean / "changes.csv")}
    assert changes["data.csv", "line 42"] == "no text"
    assert changes["data.csv", "line 43"] == "a copy of an earlier row"
    assert changes["data.csv", "line 3"] == "different labels for one text: 'refund' and 'delivery'"
    assert changes["data.csv", "line 46"] == "also among the test rows"
    assert changes["corpus.jsonl", "line 1"] == "also among the labeled rows"
    assert changes["test.csv", "line 2"] == "different labels for one text: 'delivery' and 'refund'"
    assert main(command) == 2, "the folder has files now"
    assert "expected a new or empty folder" in capsys.readouterr().err


def test_fixed_copies_of_other_formats(tmp_path: Path) -> None:
    """Guards names and formats of copies: a packed file, an export, two files with one name, and nested columns."""
    import gzip

    rows = sound(6)
    packed = tmp_path / "data.csv.gz"
    packed.write_bytes(gzip.compress(Path(write(tmp_path / "data.csv", [*rows, rows[0]])).read_bytes()))
    (tmp_path / "other").mkdir()
    doccano = tmp_path / "other" / "data.json"
    doccano.write_text(
        json.dumps([{"id": i, "text": text + "!", "label": ["refund"]} for i, (text, _) in enumerate(sound(4, 1))])
    )
    again = write(tmp_path / "other" / "data.csv", sound(4, 2))
    found = check([packed, doccano, again], fix=tmp_path / "clean")
    assert found.changes == {"left out": 1}
    assert sorted(path.name for path in (tmp_path / "clean").iterdir()) == [
        "changes.csv", "data-2.csv", "data.csv", "data.json",
    ]  # fmt: skip
    assert [(row["text"], row["label"]) for row in read(tmp_path / "clean" / "data.csv")] == rows
    assert json.loads((tmp_path / "clean" / "data.json").read_text())[0]["label"] == ["refund"]


@pytest.mark.real
def test_the_known_leak(bench_data: Path) -> None:
    """Guards the 115 test texts of sms_spam that are in its training file."""
    found = check([bench_data / "sms_spam" / "train.parquet"], test=[bench_data / "sms_spam" / "test.parquet"]).findings
    assert next(finding.count for finding in found if finding.kind == "leak") == 115
