"""Bad input of every kind ends in one message and exit code 2: a bounded, repeatable part of `fuzz_soak.py`."""

import contextlib
import io
import itertools
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import yaml
from fuzzing import VALUES, Fuzz, Hang, limit, outcome_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_models import keep_loaded, make_encoder, make_model

from sstext.cli.main import main
from sstext.config.pairs import from_pairs, yaml_value
from sstext.config.yaml_text import read_yaml
from sstext.data.formats import FORMATS, read_rows
from sstext.errors import UserError

ENDINGS = ["csv", "tsv", "txt", "jsonl", "json", "parquet", "arrow", "xlsx", "csv.gz", "csv.bz2"]
#: Repeatable and cheap. Failing inputs are shrunk by hypothesis.
BOUNDED = {"derandomize": True, "deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzz]:
    with pytest.MonkeyPatch.context() as patch:
        from sstext.inference.classifier import Classifier

        patch.setattr(Classifier, "from_pretrained", Classifier.__dict__["from_pretrained"])  # put back at the end
        folder = tmp_path_factory.mktemp("fuzz")
        encoder = make_encoder(folder / "encoder")
        model = make_model(encoder, folder / "model", ["x", "y", "z"])
        keep_loaded()
        (folder / "work").mkdir()
        yield Fuzz(folder / "work", encoder, model, deep=0.0)


@pytest.mark.parametrize("begin", range(0, 40, 20))
def test_commands_survive_bad_files_and_bad_flags(begin: int, fuzz: Fuzz) -> None:
    """Guards against tracebacks, hangs, half-written files and messages of several lines."""
    for seed in range(begin, begin + 20):
        arguments = fuzz.arguments(Random(seed))
        assert outcome_of(arguments, fuzz.folder)[1] == "", f"seed {seed}: {arguments}"


@settings(max_examples=30, **BOUNDED)
@given(st.one_of(st.text("!&*[]{}:,-09_ex. \n~\x00", max_size=30), st.sampled_from(VALUES)))
def test_yaml_is_read_or_refused(text: str) -> None:
    """Guards recipes and KEY=VALUE: PyYAML lets pass what `int`, `float` and `datetime` raise."""
    for read in (read_yaml, yaml_value):
        with contextlib.suppress(yaml.YAMLError):
            read(text)
    with contextlib.suppress(UserError):
        assert list(from_pairs([f"key={text}"])) == ["key"]


@settings(max_examples=50, **BOUNDED)
@given(st.binary(max_size=120), st.sampled_from(ENDINGS),
       st.sampled_from(["utf-8", "utf-16", "cp1252", "unicode_escape", "undefined", "idna"]))  # fmt: skip
def test_bytes_are_rows_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, ending: str, encoding: str
) -> None:
    """Guards every reader: whatever the bytes are, there are rows or one sentence."""
    file = tmp_path_factory.getbasetemp() / f"bytes.{ending}"
    magic = {
        "parquet": b"PAR1",
        "arrow": b"ARROW1",
        "xlsx": b"PK\x03\x04",
        "csv.gz": b"\x1f\x8b\x08",
        "csv.bz2": b"BZh9",
    }
    file.write_bytes(magic.get(ending, b"") + content)
    with contextlib.suppress(UserError):
        for rows in read_rows(file, encoding=encoding):
            assert all(len(values) == len(rows) for values in rows.columns.values())


@settings(max_examples=25, **BOUNDED)
@given(
    st.lists(
        st.fixed_dictionaries({"text": st.text(max_size=20), "label": st.text(max_size=8)}), min_size=1, max_size=6
    )
)
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str]]) -> None:
    """Guards labels and texts of users: no format changes a character of them."""
    from sstext.data.writers import RowWriter

    columns = {name: [row[name] for row in rows] for name in ("text", "label")}
    for ending in (one for one in FORMATS if one != "txt"):
        file = tmp_path_factory.getbasetemp() / f"written.{ending}"
        try:
            with RowWriter(file) as writer:
                writer.write(columns)
        except UserError:
            continue  # half a character, which no encoding has
        batches = list(read_rows(file))
        for name, values in columns.items():
            assert [value for batch in batches for value in batch.columns[name]] == values, ending


def test_an_archive_of_an_unknown_version_is_one_sentence(tmp_path: Path) -> None:
    """Guards what a soak found: zipfile raises NotImplementedError for it."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.csv", "text\nlate\n")
    content = bytearray(packed.getvalue())
    content[content.index(b"PK\x01\x02") + 6] = 92
    (tmp_path / "a.csv.zip").write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        list(read_rows(tmp_path / "a.csv.zip"))


def test_a_hang_is_found() -> None:
    """Guards the watch itself: a test that cannot fail shows nothing."""
    with pytest.raises(Hang), limit(1):
        time.sleep(30)
    with pytest.raises(Hang), limit(1, patience=9):
        any(number < 0 for number in itertools.count())


def test_any_name_may_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """Guards what a soak found: a name that no file can have is an OSError of `Path.is_file`."""
    assert main(["train", "[" * 300]) == 2
    assert capsys.readouterr().err.count("sstext: error: ") == 1
