"""Names and descriptions of classes: what becomes a class text, what does not, and what is refused."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from sstext.cli.main import main
from sstext.data.descriptions import (
    class_texts,
    described_classes,
    descriptions_file,
    read_descriptions,
    texts_of_names,
)
from sstext.errors import UserError

ROOT = Path(__file__).parents[2]
CLASSES = ["no", "refund"]
TEXTS = {"no": ["Neither of these."], "refund": ["I want my money back: now.", "a return"]}


def written(folder: Path, name: str) -> Path:
    """The same descriptions in the format of a file name."""
    path, rows = folder / name, [(text, label) for label in reversed(TEXTS) for text in TEXTS[label]]
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("description", "class"), *rows])
    elif path.suffix == ".jsonl":
        lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
        path.write_text("\n".join(lines), encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps({"refund": TEXTS["refund"], "no": TEXTS["no"][0]}), encoding="utf-8")
    else:
        lines = ['refund: ["I want my money back: now.", a return]', "no: Neither of these."]
        path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["d.yaml", "d.YML", "d.csv", "d.jsonl", "d.json"])
def test_every_format_gives_the_same_texts_in_the_order_of_the_classes(name: str, tmp_path: Path) -> None:
    """Guards the order of the file against becoming the order of the classes, and a class `no` that YAML reads as false."""
    found = read_descriptions(str(written(tmp_path, name)), CLASSES)
    assert found == TEXTS
    assert list(found) == CLASSES


def test_texts_are_rows_with_the_numbers_of_their_classes() -> None:
    """Guards texts of one class that are learned as those of another."""
    rows = class_texts({"refund": TEXTS["refund"], "no": "Neither of these."}, CLASSES)
    assert rows is not None
    assert rows.texts.to_dict() == {"text": [*TEXTS["no"], *TEXTS["refund"]], "label": [0, 1, 1]}
    assert rows.texts.features["label"].names == CLASSES


@pytest.mark.parametrize(
    "classes",
    [["0", "1"], ["LABEL_0", "LABEL_1"], ["class a", "class b"], ["II", "IV"], ["refund", "B12"], ["#01", "#02"]],
)
def test_codes_are_never_used(classes: list[str]) -> None:
    """Guards names that say nothing, and one class that would be the only one without a text."""
    assert texts_of_names(classes) == {}
    assert class_texts("names", classes) is None


def test_names_are_read_as_words() -> None:
    rows = class_texts("names", ["damagedItem", "Sci/Tech"])
    assert rows is not None
    assert rows.texts["text"][:] == [
        "damaged item",
        "This text is damaged item.",
        "Sci Tech",
        "This text is Sci Tech.",
    ]
    assert class_texts("none", CLASSES) is None
    assert class_texts(None, CLASSES) is None, "an empty key of a recipe"


@pytest.mark.parametrize("option", ["names", "none", None, TEXTS])
def test_only_a_file_is_a_source(option: Any) -> None:
    """Guards the fingerprints of a run: words and mappings are in config.yaml."""
    assert descriptions_file(option) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"account": "a", "delivery": "b", "refunds": "c"},
            "found none of 'refund'; no text is labeled with 'refunds', which is described",
        ),
        ({"account": "a", "delivery": "b"}, "descriptions: expected a description of every class, found none of 'refund'"),
        ({"account": "a", "delivery": "b", "refund": " "}, "expected one text or several for the class 'refund', found ' '"),
        ({"account": "a", "delivery": "b", "refund": []}, "expected one text or several for the class 'refund', found []"),
        ({"account": "a", "delivery": "b", "refund": 5}, "expected one text or several for the class 'refund', found 5"),
        ({True: "a"}, "no text is labeled with 'True', which is described; put yes, no, true and false in quotes"),
        (["a", "b"], "descriptions: expected names, none, a file, or CLASS=TEXT … for every class, found ['a', 'b']"),
        ("nams", "descriptions: no such file: nams (looked for "),
        ("missing.yaml", "descriptions: no such file: missing.yaml (looked for "),
        (".", "descriptions: no such file: . (looked for "),
        ("bad.yaml", "bad.yaml: not valid YAML: "),
        ("twice.yaml", "twice.yaml: not valid YAML: 'refund' is given twice"),
        ("twice.json", "twice.json: 'refund' is given twice"),
        ("latin.yaml", "descriptions: latin.yaml cannot be read: "),
        ("list.yaml", "list.yaml: expected `class: description` lines, found a list"),
        ("empty.yaml", "empty.yaml: expected `class: description` lines, found nothing"),
        ("none.yaml", "none.yaml: expected one text or several for the class 'refund', found ''"),
        ("other.csv", "other.csv: expected a description of every class, found none of 'account', 'delivery', 'refund'"),
        ("part.csv", "part.csv: expected a description of every class, found none of 'delivery', 'refund'"),
        ("texts.csv", "texts.csv: no label column was recognized"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(
    given: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards a description that is silently ignored, and a message that leaves its reader searching."""
    monkeypatch.chdir(tmp_path)
    files = {
        "twice.yaml": "refund: a\nno: b\nrefund: c\n", "twice.json": '{"refund": "a", "no": "b", "refund": "c"}',
        "bad.yaml": "a: [1\n", "latin.yaml": "account: caf\xe9\n", "list.yaml": "- account\n", "empty.yaml": "",
        "none.yaml": "account: a\ndelivery: b\nrefund:\n", "other.csv": "text,label\na,refunds\nb,other\n",
        "part.csv": "text,label\na,account\nb,other\n,refund\n", "texts.csv": "text\na\n",
    }  # fmt: skip
    for name, content in files.items():
        Path(name).write_text(content, encoding="latin-1")
    with pytest.raises(UserError) as error:
        class_texts(given, ["account", "delivery", "refund"])
    assert message in str(error.value)


@pytest.mark.parametrize("name", ["mapping", "d.yaml", "d.csv"])
def test_a_described_class_without_labels_is_left_out_and_named(name: str, tmp_path: Path) -> None:
    """Guards the advice after a run without labels: a rare class may get none, and its description is still in the file."""
    more = {"zebra": ["a striped animal"], **TEXTS}
    source: Any = more
    if name.endswith(".yaml"):
        source = tmp_path / name
        source.write_text(json.dumps(more), encoding="utf-8")
    elif name.endswith(".csv"):
        source = written(tmp_path, name)
        with source.open("a", encoding="utf-8") as file:
            file.write("a striped animal,zebra\n")
    rows = class_texts(source, CLASSES)
    assert rows is not None
    assert rows.classes == CLASSES
    assert rows.texts["text"][:] == [*TEXTS["no"], *TEXTS["refund"]]
    assert rows.notes == ["descriptions: no text is labeled with 'zebra'; the model will not know this class"]
    complete = class_texts(TEXTS, CLASSES)
    assert complete is not None
    assert complete.notes == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["missing.yaml"], "descriptions: no such file: missing.yaml"),
        (["account=a", "delivery=b"], "descriptions: expected a description of every class, found none of 'refund'"),
    ],
)
@pytest.mark.parametrize("more", [[], ["--dry-run"]], ids=["run", "dry run"])
def test_nothing_is_left_of_a_run_with_wrong_descriptions(
    words: list[str], message: str, more: list[str], tiny_files: Any, tiny_encoder: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Both before the folder is claimed and after it: exit code 2, one line, no folder."""
    out = tmp_path / "out"
    files = ["--labeled", str(tiny_files.labeled), "--unlabeled", str(tiny_files.unlabeled)]
    run = ["train", *files, "--encoder", str(tiny_encoder), "--output", str(out), "--quiet", *more]
    assert main([*run, "--descriptions", *words]) == 2
    found = capsys.readouterr().err.splitlines()
    assert len(found) == 1
    assert found[0].startswith(f"sstext: error: {message}")
    assert not out.exists()


@pytest.mark.parametrize(
    "path", [*(ROOT / "recipes" / "descriptions").glob("*.yaml"), ROOT / "data" / "support_tickets" / "descriptions.yaml"],
    ids=lambda path: f"{path.parent.name}/{path.stem}",
)  # fmt: skip
def test_our_own_descriptions_can_be_read(path: Path) -> None:
    """Guards the files that people copy; those of the sample data have its classes."""
    import yaml

    classes = list(yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader))
    assert len(read_descriptions(path, classes)) >= 2
    labeled = path.with_name("labeled.csv")
    if labeled.exists():
        with labeled.open(encoding="utf-8", newline="") as file:
            assert {row["label"] for row in csv.DictReader(file)} == set(classes)


@pytest.mark.parametrize("name", ["d.yaml", "d.csv", "d.jsonl", "d.json"])
def test_without_labels_the_classes_are_those_of_the_file_in_its_order(name: str, tmp_path: Path) -> None:
    """Guards classes in the order of the alphabet, and a class `no` that YAML reads as false."""
    rows = described_classes(str(written(tmp_path, name)))
    assert rows.classes == ["refund", "no"]
    assert rows.texts["text"][:] == [*TEXTS["refund"], *TEXTS["no"]]
    assert rows.texts["label"][:] == [0, 0, 1]
    assert rows.texts.features["label"].names == ["refund", "no"]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"refund": "money"}, "at least two classes, found 'refund'"),
        ({}, "at least two classes, found"),
        ({"refund": "money", " ": "other"}, "a name for every class, found an empty one"),
        ({"refund": "money", "no": []}, "one text or several for the class 'no'"),
    ],
)
def test_without_labels_descriptions_must_name_the_classes(given: Any, found: str) -> None:
    """Guards a classifier of one class, and a class without a name or a text."""
    with pytest.raises(UserError, match=found):
        described_classes(given)


def test_without_labels_near_twins_among_the_classes_are_a_doubt() -> None:
    """Guards two classes of one meaning, between which nothing could tell."""
    (note,) = described_classes({"refund": "money", "Refund": "money back", "no": "neither"}).notes
    assert note.startswith("descriptions: 'refund' and 'Refund' are two classes, but their names are nearly the same")
    assert described_classes({"refund": "money", "no": "neither"}).notes == []


def test_a_json_table_of_descriptions_is_still_a_table(tmp_path: Path) -> None:
    """Guards a list of rows that is taken for a mapping."""
    path = tmp_path / "d.json"
    rows = [{"text": text, "label": label} for label, texts in TEXTS.items() for text in texts]
    path.write_text(json.dumps(rows), encoding="utf-8")
    assert read_descriptions(path, CLASSES) == TEXTS
