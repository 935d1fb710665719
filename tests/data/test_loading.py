"""Sources → data sets: every row checked, every choice told, nothing guessed silently."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from sstext.data.columns import VIEW_TEXTS
from sstext.data.corpus import AllLabeledError, WithoutLabel
from sstext.data.fingerprints import fingerprint
from sstext.data.loading import (
    class_names,
    load_audit,
    load_labeled,
    load_unlabeled,
    source_kind,
)
from sstext.data.writers import RowWriter
from sstext.errors import UserError

SAMPLE = Path(__file__).parents[2] / "data" / "support_tickets"


def write(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8", newline="")
    return path


@pytest.fixture
def labeled(tmp_path) -> Path:
    return write(tmp_path / "labeled.csv", "text,label\nhello,10\n  ,9\nbye, 9 \nagain,10\n")


def test_labeled_rows_keep_text_and_get_numeric_class_order(labeled):
    """Guards "9" < "10", labels with stray blanks, and that rows without text are counted."""
    read = load_labeled(labeled)
    assert read.classes == ["9", "10"]
    assert read.texts["text"][:] == ["hello", "bye", "again"]
    assert read.texts["label"][:] == [1, 0, 1]
    assert read.texts.features["label"].names == ["9", "10"]
    assert read.texts.features["text"].dtype == "string"
    assert read.notes == [
        f"labeled: 3 texts from {labeled}, text column 'text', label column 'label'",
        "labeled: skipped 1 row without text",
        "classes: 10 (2), 9 (1)",
        "labeled: only one row of '9'; label more texts of such a class, because a single one cannot be held out",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\na,\nb,\n", r"l.csv: expected labels in column 'label', found none"),
        ("text,label\na,x\nb,x\n", r"expected at least two classes, found only 'x'"),
        ("text,label\n,x\n,y\n", r"found only empty ones"),
        ("text,stars\na,1\nb,2\n", r"no label column was recognized .*'text', 'stars'.*label_column="),
        (
            "body,content,label\na,b,x\n",
            r"several columns may hold the text: 'body', 'content'; choose one with text_column=",
        ),
    ],
)
def test_labeled_mistakes_are_named(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        load_labeled(write(tmp_path / "l.csv", content))


def test_several_labels_and_odd_texts_are_refused_with_their_line(tmp_path):
    rows = '{"text": "a", "label": "x"}\n{"text": "b", "label": ["x", "y"]}\n'
    with pytest.raises(UserError, match=r"l.jsonl: line 2: expected one label per row"):
        load_labeled(write(tmp_path / "l.jsonl", rows))
    with pytest.raises(UserError, match=r"l.jsonl: line 1: expected a text, found dict"):
        load_labeled(write(tmp_path / "l.jsonl", '{"text": {"0": "a"}, "label": "x"}\n'))


def test_held_out_rows_use_the_training_classes(labeled):
    """Guards class ids: the same label must have the same id in training and test rows."""
    read = load_labeled(labeled, what="test", classes=["10", "8", "9"])
    assert read.classes == ["10", "8", "9"]
    assert read.texts["label"][:] == [0, 2, 0]
    assert "test: no row of '8'" in read.notes
    with pytest.raises(UserError, match=r"labeled.csv: line 2: unknown label '10'; the classes are '8', '9'"):
        load_labeled(labeled, what="test", classes=["8", "9"])


def test_one_column_cannot_be_both(labeled):
    with pytest.raises(UserError, match="both the text and the label"):
        load_labeled(labeled, text_column="label")


def test_class_names_are_stable():
    """Guards the class order against the order of the rows."""
    assert class_names(["b", "a", "b"]) == class_names(["a", "b"]) == ["a", "b"]
    assert class_names(["10", "-1", "9"]) == ["-1", "9", "10"]
    assert class_names(["10", "9", "x"]) == ["10", "9", "x"]
    assert class_names([True, False]) == ["False", "True"]


def test_class_label_features_keep_names_and_order(tmp_path):
    """Guards Hub data sets: their ids must mean what their card says; −1 stands for no label."""
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["world", "art", "sports"])}
    )
    data = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [2, 0]}, features=features)
    read = load_labeled(data)
    assert read.classes == ["world", "art", "sports"]
    assert read.texts["label"][:] == [2, 0]
    assert "labeled: no row of 'art'" in read.notes

    data.save_to_disk(tmp_path / "saved")
    assert source_kind(tmp_path / "saved") == "saved"
    assert load_labeled(tmp_path / "saved").texts[:] == read.texts[:]
    hidden = datasets.Dataset.from_dict({"text": ["a"], "label": [-1]}, features=features)
    with pytest.raises(UserError, match=r"row 1: expected a label"):
        load_labeled(hidden, classes=["world", "art", "sports"])


def test_splits_of_a_saved_data_set_are_named_after_a_colon(tmp_path):
    parts = {
        name: datasets.Dataset.from_dict({"text": [f"{name} a", "b"], "label": ["x", "y"]}) for name in ("train", "dev")
    }
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    assert load_labeled(tmp_path / "saved").texts["text"][0] == "train a"
    assert load_labeled(f"{tmp_path}/saved:dev").texts["text"][0] == "dev a"
    with pytest.raises(UserError, match=r"no split 'test'; found 'train', 'dev'"):
        load_labeled(tmp_path / "saved", split="test")


def test_source_kinds(tmp_path, labeled):
    """Guards a mistyped file from being sought on the Hub, and a folder without texts."""
    assert source_kind(labeled) == source_kind(str(labeled)) == "file"
    assert [source_kind(name) for name in ("imdb", "user/set", "imdb:train[:10%]")] == ["hub"] * 3
    assert source_kind(datasets.Dataset.from_dict({"text": ["a"]})) == "dataset"
    for missing in ("gone.csv", "./gone", "a/b/c", "user/gone.parquet", tmp_path / "gone"):
        with pytest.raises(UserError, match="no such file"):
            source_kind(missing)
    assert source_kind(tmp_path) == "files"
    (tmp_path / "plain").mkdir()
    with pytest.raises(UserError, match="expected a folder with files of texts"):
        source_kind(tmp_path / "plain")


def test_a_hub_failure_says_what_to_do():
    with pytest.raises(UserError, match=r"nobody/no-such-set \(split test\): .*download it, or give a file"):
        load_labeled("nobody/no-such-set:test")


def test_unlabeled_rows_remember_their_place(tmp_path):
    """Guards the audit and review: positions count every row of the file, those without text too."""
    source = write(tmp_path / "u.jsonl", '{"text": "a", "label": "x"}\n{"text": " "}\n{"label": "y"}\n{"text": "b"}\n')
    ticks: list[int] = []
    read = load_unlabeled(source, arrow_file=tmp_path / "run" / "u.arrow", tick=ticks.append)
    assert read.texts[:] == {"text": ["a", "b"], "row": [0, 3]}
    assert (read.total, sum(ticks)) == (4, 4)
    assert read.texts.features["row"].dtype == "int64"
    assert "unlabeled: skipped 2 rows without text" in read.notes
    assert "unlabeled: column 'label' is not read" in read.notes
    assert read.texts.cache_files == [{"filename": str(tmp_path / "run" / "u.arrow")}]


def test_labeled_texts_are_not_in_the_corpus(tmp_path):
    """Guards texts that are read twice, with their label and with a guess of it, after `sstext train out --more`.

    The places of the others must stay, because the true labels of the audit are found by them.
    """
    source = write(tmp_path / "u.jsonl", '{"text": "a"}\n{"text": ""}\n{"text": " b "}\n{"text": "c"}\n')
    besides = WithoutLabel({"text": ["d", "a"], "row": [1, 2]}, 3)
    read = load_unlabeled(source, arrow_file=tmp_path / "u.arrow", besides=besides, labeled=["a", "b"])
    assert read.texts[:] == {"text": ["c", "d"], "row": [3, 5]}
    assert read.rows == {"rows": 6, "kept": 2, "without text": 1, "labeled, too": 3}
    assert "unlabeled: 3 of these texts are labeled, too, and left out of the corpus" in read.notes
    with pytest.raises(AllLabeledError, match=r"all 3 texts are labeled, too.*rounds=0"):
        load_unlabeled(source, arrow_file=tmp_path / "v.arrow", labeled=["a", "b", "c"])
    assert not (tmp_path / "v.arrow").exists()


def test_positions_go_on_across_batches(tmp_path):
    """Guards the batch boundary: 2,500 rows are three batches."""
    source = write(tmp_path / "u.txt", "".join("\n" if i % 7 == 0 else f"text {i}\n" for i in range(2500)))
    read = load_unlabeled(source, arrow_file=tmp_path / "u.arrow")
    assert all(row["text"] == f"text {row['row']}" for row in read.texts)
    assert read.texts["row"][:] == [i for i in range(2500) if i % 7]


def test_plain_lines_need_no_column_name(tmp_path):
    """Guards a run whose --text-column names the labeled file's column while the corpus is a txt file."""
    source = write(tmp_path / "u.txt", "a\n")
    assert load_unlabeled(source, arrow_file=tmp_path / "u.arrow", text_column="body").texts["text"][:] == ["a"]


def test_a_corpus_that_breaks_off_leaves_no_arrow_file(tmp_path):
    """Guards a continued run from taking half a corpus for the whole."""
    source = write(tmp_path / "u.jsonl", '{"text": "a"}\n' * 1500 + "broken\n")
    with pytest.raises(UserError, match=r"u.jsonl: line 1501"):
        load_unlabeled(source, arrow_file=tmp_path / "u.arrow")
    with pytest.raises(UserError, match="found only empty ones"):
        load_unlabeled(write(tmp_path / "u.txt", "\n \n"), arrow_file=tmp_path / "u.arrow")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["u.jsonl", "u.txt"]


def test_audit_labels_follow_the_rows(tmp_path):
    source = write(tmp_path / "answers.csv", "answer\nx\nunheard of\ny\nx\n")
    found = load_audit(source, classes=["x", "y"], rows=np.array([3, 0, 2]), total=4)
    assert found.tolist() == [0, 0, 1]
    with pytest.raises(UserError, match=r"answers.csv: line 3: unknown label 'unheard of'"):
        load_audit(source, classes=["x", "y"], rows=np.array([0, 1]), total=4)
    for total in (3, 5):
        with pytest.raises(UserError, match=rf"expected {total} rows.*found 4"):
            load_audit(source, classes=["x", "y"], rows=np.array([0]), total=total)


def test_the_sample_loads_with_its_answers(tmp_path):
    """Guards the first command that a person types."""
    train = load_labeled(SAMPLE / "labeled.csv")
    test = load_labeled(SAMPLE / "test.csv", what="test", classes=train.classes)
    corpus = load_unlabeled(SAMPLE / "unlabeled.jsonl", arrow_file=tmp_path / "u.arrow")
    rows = np.asarray(corpus.texts["row"][:])
    answers = load_audit(SAMPLE / "unlabeled_answers.csv", classes=train.classes, rows=rows, total=corpus.total)
    assert (len(train.classes), len(train.texts), len(test.texts), len(answers)) == (8, 64, 400, 1136)
    assert set(answers.tolist()) == set(range(8))


def test_fingerprints_follow_the_content(tmp_path, monkeypatch):
    """Guards a run folder from being continued on other data; a copy of the same data is welcome."""
    a, b = write(tmp_path / "a.csv", "text\nhello\n"), write(tmp_path / "b.csv", "text\nhello\n")
    assert fingerprint(a) == fingerprint(str(b))
    write(b, "text\nhellO\n")
    assert fingerprint(a) != fingerprint(b)
    assert fingerprint("user/set:test") == "hub:user/set:test"
    one, two = (datasets.Dataset.from_dict({"text": [text]}) for text in "ab")
    assert fingerprint(one) == fingerprint(one) != fingerprint(two)

    monkeypatch.setattr("sstext.data.fingerprints._WHOLE", 20)
    monkeypatch.setattr("sstext.data.fingerprints._END", 4)
    large = write(tmp_path / "large.txt", "head" + "x" * 40 + "tail")
    whole = fingerprint(large)
    for changed in ("hEad" + "x" * 40 + "tail", "head" + "x" * 40 + "taiL", "head" + "x" * 41 + "tail"):
        assert fingerprint(write(large, changed)) != whole
    assert fingerprint(write(large, "head" + "y" * 40 + "tail")) == whole


def test_importing_is_quick():
    """Guards the start of `sstext predict` and `check`: torch and datasets load only when they are needed."""
    code = "import sys, sstext.data.loading; print({'torch', 'transformers', 'datasets'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_corpus_with_a_column_text_need_not_follow_the_labeled_files_names(tmp_path: Path) -> None:
    """`--text-column utterance` for the labeled file, and a corpus of {"text": …} rows: guards against a dead end."""
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"text": "late again", "id": 7}\n', encoding="utf-8")
    read = load_unlabeled(corpus, arrow_file=tmp_path / "a.arrow", text_column="utterance")
    assert read.texts["text"][:] == ["late again"]
    assert "text column 'text'" in read.notes[0]
    corpus.write_text('{"txt": "late again", "id": 7}\n', encoding="utf-8")
    with pytest.raises(UserError, match="no column 'utterance'"):
        load_unlabeled(corpus, arrow_file=tmp_path / "b.arrow", text_column="utterance")


def test_a_hub_name_reaches_the_library_with_its_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards Hub names where a network is: name and split as asked, the role's split otherwise, class names in their order."""
    asked: list[tuple[str, str]] = []
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["spam", "ham"])}
    )

    def load_dataset(name: str, split: str) -> datasets.Dataset:
        asked.append((name, split))
        return datasets.Dataset.from_dict({"text": ["free money", "see you"], "label": [0, 1]}, features=features)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    read = load_labeled("user/set:train[:10%]")
    assert read.classes == ["spam", "ham"]
    assert read.texts["label"][:] == [0, 1]
    load_labeled("user/set", what="dev", classes=read.classes, split="validation")
    assert asked == [("user/set", "train[:10%]"), ("user/set", "validation")]


ROWS = {
    "text": ["parcel late", "", "money back", "login"],
    "back": ["late parcel", "of no text", None, ""],
    "other": ["delayed", "too", "refund me", "  "],
}
PARAPHRASES = [["late parcel", "delayed"], ["refund me"], []]


def unlabeled_source(kind: str, folder: Path) -> Any:
    """ROWS as a source of one kind."""
    rows = datasets.Dataset.from_dict(ROWS)
    if kind == "data set":
        return rows
    if kind == "saved":
        rows.save_to_disk(folder / "saved")
        return folder / "saved"
    with RowWriter(folder / f"u.{kind}") as writer:
        writer.write(ROWS)
    return folder / f"u.{kind}"


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json", "parquet", "saved", "data set"])
def test_paraphrases_come_with_their_texts_from_any_source(kind: str, tmp_path: Path) -> None:
    """Guards paraphrases of another row where a row without text is skipped, and an empty cell as a paraphrase."""
    source = unlabeled_source(kind, tmp_path)
    read = load_unlabeled(source, arrow_file=tmp_path / "run" / "u.arrow", views=["back", "other"])
    assert read.texts[:] == {"text": ["parcel late", "money back", "login"], "row": [0, 2, 3], VIEW_TEXTS: PARAPHRASES}
    assert "unlabeled: 2 of 3 texts have a paraphrase in 'back', 'other'" in read.notes
    without = load_unlabeled(source, arrow_file=tmp_path / "run" / "v.arrow")
    assert without.texts.column_names == ["text", "row"]


def test_paraphrases_of_a_hub_data_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: datasets.Dataset.from_dict(ROWS))
    read = load_unlabeled("user/set:train", arrow_file=tmp_path / "u.arrow", views=["back", "other"])
    assert read.texts[VIEW_TEXTS][:] == PARAPHRASES


def test_columns_of_paraphrases_may_have_any_name(tmp_path: Path) -> None:
    """Guards against a clash with the corpus's own columns `text` and `row`."""
    source = write(tmp_path / "u.csv", "body,text,row\nlate,delayed,too late\n")
    read = load_unlabeled(source, arrow_file=tmp_path / "u.arrow", text_column="body", views=["text", "row"])
    assert read.texts[:] == {"text": ["late"], "row": [0], VIEW_TEXTS: [["delayed", "too late"]]}


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "saved", "data set"])
def test_a_column_of_paraphrases_that_is_not_there_leaves_nothing(kind: str, tmp_path: Path) -> None:
    """Guards a typo that would train without paraphrases, and half a corpus."""
    source = unlabeled_source(kind, tmp_path)
    with pytest.raises(UserError, match=r"no column 'bakc'; found 'text', 'back', 'other'; did you mean 'back'\?"):
        load_unlabeled(source, arrow_file=tmp_path / "run" / "u.arrow", views=["other", "bakc"])
    assert list((tmp_path / "run").iterdir()) == []


def test_the_first_paraphrase_may_come_late(tmp_path: Path) -> None:
    """A key that first appears in row 1,501 of a jsonl file is a column: guards against a refusal, and rows that move."""
    rows = ['{"text": "a"}\n'] * 1500 + ['{"text": "b", "back": "B"}\n', '{"text": "c"}\n']
    source = write(tmp_path / "u.jsonl", "".join(rows))
    read = load_unlabeled(source, arrow_file=tmp_path / "u.arrow", views=["back"])
    assert read.texts[VIEW_TEXTS][1498:] == [[], [], ["B"], []]
    with pytest.raises(UserError, match=r"u.jsonl: no column 'front'; found 'text', 'back'"):
        load_unlabeled(source, arrow_file=tmp_path / "v.arrow", views=["front"])


def test_a_table_without_the_column_is_refused_at_its_first_rows(tmp_path: Path) -> None:
    """Guards a large csv that would be read to its end before the message; here its end is broken."""
    source = write(tmp_path / "u.csv", "text,back\n" + "a,b\n" * 1500 + "a,b,c\n")
    with pytest.raises(UserError, match="no column 'front'"):
        load_unlabeled(source, arrow_file=tmp_path / "u.arrow", views=["front"])


def test_columns_without_any_paraphrase_are_refused(tmp_path: Path) -> None:
    """Guards a run that says `--views` and has none."""
    source = write(tmp_path / "u.csv", "text,back\na,\nb, \n")
    with pytest.raises(UserError, match=r"u.csv: expected paraphrases in 'back', found only empty ones"):
        load_unlabeled(source, arrow_file=tmp_path / "u.arrow", views=["back"])
    assert [path.name for path in tmp_path.iterdir()] == ["u.csv"]


def test_a_paraphrase_that_is_no_text_is_named_with_its_line(tmp_path: Path) -> None:
    source = write(tmp_path / "u.jsonl", '{"text": "a", "back": "b"}\n{"text": "a", "back": ["b", "c"]}\n')
    with pytest.raises(UserError, match=r"u.jsonl: line 2: expected a text, found list"):
        load_unlabeled(source, arrow_file=tmp_path / "u.arrow", views=["back"])
