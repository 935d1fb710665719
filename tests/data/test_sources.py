"""The Hub's data sets, and the folder that may replace them; other sources are tested with what reads them."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sstext.data.fingerprints import fingerprint, hub_split
from sstext.data.loading import load_labeled
from sstext.data.sources import replacement
from sstext.errors import UserError


def put(folder: Path, name: str, texts: Sequence[str], parts: Sequence[str] = ("train", "test")) -> None:
    (folder / name).mkdir(parents=True, exist_ok=True)
    for part in parts:
        rows = {"text": [f"{part} {text}" for text in texts], "label": ["a", "b"] * (len(texts) // 2)}
        pq.write_table(pa.table(rows), folder / name / f"{part}.parquet")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that SSTEXT_BENCH_DATA names."""
    put(tmp_path, "toy", ["one", "two"])
    put(tmp_path, "hate_offensive", ["three", "four"])
    monkeypatch.setenv("SSTEXT_BENCH_DATA", str(tmp_path))
    return tmp_path


def test_a_hub_name_is_read_from_the_folder_and_says_so(folder: Path) -> None:
    """By the last part of the name or by the table; guards a download where data lie at hand, and a silent one."""
    read = load_labeled("someone/toy")
    assert read.texts["text"][:] == ["train one", "train two"]
    assert "SSTEXT_BENCH_DATA, instead of someone/toy from the Hub" in read.notes[0]
    assert load_labeled("toy:test").texts["text"][0] == "test one"
    assert load_labeled("toy", split="test").texts["text"][0] == "test one"
    assert load_labeled("tdavidson/hate_speech_offensive").texts["text"][0] == "train three"


def test_other_sources_are_left_alone(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Guards a file named like a data set, and Hub names where no folder is named or holds them."""
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    Path("toy").write_text("x", encoding="utf-8")
    assert [replacement(source, "train") for source in ("toy", "someone/unheard_of")] == [None, None]
    assert replacement("someone/toy", "train") == folder / "toy" / "train.parquet"
    monkeypatch.delenv("SSTEXT_BENCH_DATA")
    assert replacement("someone/toy", "train") is None


@pytest.mark.parametrize("split", ["validation", "train[:10%]"])
def test_a_split_that_the_folder_lacks_is_not_fetched(folder: Path, split: str) -> None:
    """Guards a run on rows of two origins, some of which may be the same texts."""
    with pytest.raises(UserError, match=r"found 'train', 'test'; name one as someone/toy:SPLIT, or unset"):
        load_labeled(f"someone/toy:{split}")


def test_only_a_whole_split_of_the_hub_has_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a card against scores of other rows under a public name: a folder's in its place, a file's, some of a split."""
    assert hub_split(fingerprint("someone/toy", "test")) is None
    monkeypatch.delenv("SSTEXT_BENCH_DATA")
    assert hub_split(fingerprint("someone/toy", "test")) == ("someone/toy", "test")
    assert hub_split(fingerprint("someone/toy:held_out", "test")) == ("someone/toy", "held_out")
    assert hub_split(fingerprint("someone/toy:test[:10%]", "test")) is None
    assert hub_split(fingerprint(str(folder / "toy" / "test.parquet"), "test")) is None
    assert hub_split(None) is None


def test_fingerprints_follow_the_replacement(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a run from going on with other rows under the same name."""
    before = fingerprint("someone/toy")
    assert before == fingerprint(folder / "toy" / "train.parquet")
    put(folder, "toy", ["one", "changed"])
    after = fingerprint("someone/toy")
    monkeypatch.delenv("SSTEXT_BENCH_DATA")
    assert len({before, after, fingerprint("someone/toy")}) == 3
    assert fingerprint("someone/toy") == "hub:someone/toy:train"
