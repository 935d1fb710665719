"""A file that a person labels row by row."""

import csv
import errno
import json
from pathlib import Path

import pytest

from sstext.data.label_file import LabelFile
from sstext.errors import UserError

ROWS = [
    ("text", "label", "reason", "predicted_label"),
    ("late, again\nand again", "", "drawn at random", "delivery"),
    ("money back", "refund", "", "refund"),
    ("locked", "", "many texts are like it", "account"),
    ("  ", "", "", ""),
    ("0123", "", "", "delivery"),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "to_label.csv"
    with file.open("w", encoding="utf-8", newline="") as opened:
        csv.writer(opened, lineterminator="\n").writerows(ROWS)
    return file


def labels(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as opened:
        return [row["label"] for row in csv.DictReader(opened)]


def test_texts_come_in_order_and_every_label_is_on_disk_at_once(path: Path) -> None:
    """Guards a label that is lost by a kill: the file is read anew after each."""
    file = LabelFile(path)
    assert file.classes == ["account", "delivery", "refund"]
    assert (file.done, file.total) == (1, 4)
    current = file.current()
    assert current is not None
    assert (current.row, current.text, current.guess, current.reason) == (0, ROWS[1][0], "delivery", "drawn at random")
    file.give(0, " delivery ")
    assert labels(path) == ["delivery", "refund", "", "", ""]
    assert (again := LabelFile(path).current()) is not None
    assert again.row == 2, "another session goes on there"
    file.give(2, "new class")
    file.give(4, "account")
    assert file.current() is None
    assert file.classes[-1] == "new class"
    with path.open(encoding="utf-8", newline="") as opened:
        rows = list(csv.reader(opened))
    assert [(one[0], *one[2:]) for one in rows] == [(one[0], *one[2:]) for one in ROWS], "only labels have changed"


def test_skip_and_undo(path: Path) -> None:
    """Guards the order: a skipped text comes last, what is taken back is shown again, and a former label returns."""
    file = LabelFile(path)
    assert not file.undo()
    file.skip(0)
    assert file.current().row == 2  # type: ignore[union-attr]
    file.give(2, "account")
    file.give(1, "account")
    assert file.undo()
    assert labels(path)[1] == "refund"
    assert file.undo()
    assert labels(path)[2] == ""
    assert file.current().row == 2  # type: ignore[union-attr]
    file.give(2, "account")
    file.give(4, "account")
    assert file.current().row == 0, "the skipped one is left"  # type: ignore[union-attr]
    for _ in range(3):
        assert file.undo()
    assert file.current().row == 0  # type: ignore[union-attr]
    assert labels(path) == ["", "refund", "", "", ""]


def test_a_write_that_fails_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the old file, and a label that is shown as given but is not on disk."""
    file, before = LabelFile(path), path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(UserError, match="because the disk is full; make room"):
            file.give(0, "delivery")
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    assert file.current().row == 0  # type: ignore[union-attr]
    assert not file.undo(), "nothing was done"
    file.give(0, "delivery")
    assert labels(path)[0] == "delivery"


def test_another_program_is_noticed(path: Path) -> None:
    """Guards labels of a second session that the first one would overwrite."""
    file, other = LabelFile(path), LabelFile(path)
    other.give(0, "delivery")
    with pytest.raises(UserError, match="another program has changed the file"):
        file.give(2, "account")
    assert labels(path)[0] == "delivery"


def test_jsonl_and_given_classes(tmp_path: Path) -> None:
    """Guards a format without cells, a key that is missing in a row, and the order of the classes that are named."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "label": null}\n{"text": "b", "label": "x", "id": 7}\n', encoding="utf-8")
    file = LabelFile(path, ["z", "x", " "])
    assert file.classes == ["z", "x"]
    file.give(0, "z")
    assert [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] == [
        {"text": "a", "label": "z", "id": None}, {"text": "b", "label": "x", "id": 7},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "text\nx\n", "no label column"),
        ("a.csv", "text,label\n", "expected at least one row, found none"),
        ("a.csv", "text,label\n ,\n", "found only empty ones"),
        ("a.txt", "x\n", "a txt file has no column for labels"),
        ("a.jsonl", '{"text": "a", "label": ["x", "y"]}\n', "row 1: expected one label per row"),
        ("b.csv", None, "no such file"),
    ],
)
def test_files_that_cannot_be_labeled(name: str, content: str | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        LabelFile(tmp_path / name)


@pytest.mark.parametrize("label", ["", "  ", "two\nlines"])
def test_labels_that_are_none(label: str, path: Path) -> None:
    file, before = LabelFile(path), path.read_bytes()
    with pytest.raises(UserError, match="expected the name of a class"):
        file.give(0, label)
    with pytest.raises(UserError, match="row: expected one of 5 rows, found 9"):
        file.give(9, "x")
    assert path.read_bytes() == before


LATER = "x" * 70_000  # beyond the first bytes, which usually tell the encoding


@pytest.mark.parametrize(
    ("written", "given"),
    [("utf-8", "cp1252"), ("utf-8-sig", "cp1252"), ("utf-8-sig", "utf-8"), ("utf-16", "utf-8"), ("cp1252", "cp1252")],
)
@pytest.mark.parametrize("before", ["", LATER])
def test_a_file_keeps_its_encoding(written: str, given: str, before: str, tmp_path: Path) -> None:
    """Guards labels and texts that come back in another encoding, or without the mark that a spreadsheet needs."""
    path = tmp_path / "a.csv"
    rows = f"text,label\n{before},\nGrüße,Größe\n"
    path.write_bytes(rows.encode(written))
    file = LabelFile(path, encoding=given)
    assert file.classes == ["Größe"]
    file.give(0, "Café") if before else file.give(1, "Café")
    expected = rows.replace(f"{before},\n", f"{before},Café\n", 1) if before else rows.replace("Größe", "Café")
    assert path.read_bytes() == expected.encode(written)


def test_what_an_encoding_does_not_have_is_one_error_and_changes_nothing(tmp_path: Path) -> None:
    """Guards a byte that is read as something else, and a label that the file cannot hold."""
    path = tmp_path / "a.csv"
    path.write_bytes("text,label\nGrüße,a\n".encode("cp1252"))
    with pytest.raises(UserError, match=r"line 2: expected utf-8, found byte 0xfc; give the encoding of the file"):
        LabelFile(path)
    file, before = LabelFile(path, encoding="cp1252"), path.read_bytes()
    with pytest.raises(UserError, match="'退' cannot be written in cp1252"):
        file.give(0, "退款")
    assert path.read_bytes() == before
    assert file.labels == ["a"]
    path.write_bytes(b"text,label\nGr\x81,a\n")
    with pytest.raises(UserError, match=r"line 2: expected cp1252, found byte 0x81"):
        LabelFile(path, encoding="cp1252")
