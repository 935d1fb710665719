"""Rows in and out of files: nothing is guessed, changed or lost, and every complaint names file and line."""

import bz2
import datetime
import gzip
import io
import json
import lzma
import zipfile
from pathlib import Path

import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sstext.data.formats import FORMATS, format_of, read_rows
from sstext.data.writers import RowWriter
from sstext.errors import UserError

AWKWARD = {
    "text": ['say "hi", twice', "two\nlines", "carriage\rreturn", "crlf\r\nhere", " spaces ", "Ünïcode 😀\u2028x", ""],
    "label": ["01", "NA", "null", "1e5", "True", "", "nan"],
}


def gathered(source, **options) -> dict[str, list]:
    columns: dict[str, list] = {}
    for rows in read_rows(source, **options):
        for name, values in rows.columns.items():
            columns.setdefault(name, []).extend(values)
    return columns


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def written(target, columns: dict[str, list], **options) -> None:
    with RowWriter(target, **options) as writer:
        writer.write(columns)


@pytest.mark.parametrize("format", [name for name in FORMATS if name != "txt"])
@pytest.mark.parametrize("batch_size", [1, 2, 1000])
def test_what_is_written_is_read_back_exactly(tmp_path, format, batch_size):
    """Guards against type guessing ("01" → 1, "NA" → None) and against cells that break at quotes or line ends."""
    path = tmp_path / f"rows.{format}"
    written(path, AWKWARD)
    assert gathered(path, batch_size=batch_size) == AWKWARD


def test_csv_to_csv_keeps_every_byte_of_a_plain_file(tmp_path):
    """Guards the promise that predict's output is the user's file plus columns."""
    source = write(tmp_path / "in.csv", 'b,a\n01,"x, y"\n,"say ""hi"""\n')
    written(tmp_path / "out.csv", gathered(source))
    assert (tmp_path / "out.csv").read_bytes() == source.read_bytes()


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    """Guards against a column named '\\ufefftext', as Excel's UTF-8 export begins."""
    path = write(tmp_path / "bom.csv", b"\xef\xbb\xbftext\r\nhello\r\n")
    assert gathered(path) == {"text": ["hello"]}


def test_lines_point_at_where_each_row_starts(tmp_path):
    """Guards the line numbers of messages: quoted line breaks and blank lines count."""
    path = write(tmp_path / "a.csv", 'text,label\n"one\ntwo",x\n\nthree,y\n')
    assert [rows.lines for rows in read_rows(path)] == [[2, 5]]
    path = write(tmp_path / "a.jsonl", '\n{"text": 1}\n\n{"text": 2}\n')
    assert [(rows.lines, rows.where(0)) for rows in read_rows(path, batch_size=1)] == [([2], "line 2"), ([4], "line 4")]
    path = write(tmp_path / "a.json", '[{"text": 1},\n{"text": 2}]')
    assert [rows.where(0) for rows in read_rows(path, batch_size=1)] == ["row 1", "row 2"]
    path = write(tmp_path / "a.txt", "x\n\ny")
    assert [rows.lines for rows in read_rows(path, batch_size=2)] == [[1, 2], [3]]


def test_txt_keeps_blank_lines(tmp_path):
    """Guards row-for-row output: dropping a blank line would shift every later prediction."""
    assert gathered(write(tmp_path / "a.txt", "a\r\n\n  b \n")) == {"text": ["a", "", "  b "]}


def test_keys_that_come_late_are_not_lost(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"text": "a"}\n{"text": "b", "id": 7}\n{"id": 8}\n')
    batches = [rows.columns for rows in read_rows(path, batch_size=1)]
    assert batches == [{"text": ["a"]}, {"text": ["b"], "id": [7]}, {"text": [None], "id": [8]}]
    with pytest.raises(UserError, match=r"out.csv: expected the same columns.*then 'text', 'id'"):
        copied(path, tmp_path / "out.csv")
    copied(path, tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_text().splitlines()[2] == '{"text": null, "id": 8}'


def copied(source: Path, target: Path) -> None:
    with RowWriter(target) as writer:
        for rows in read_rows(source, batch_size=1):
            writer.write(rows.columns)


def test_a_json_array_is_decoded_across_windows(tmp_path):
    """Guards the moving window: objects cut off anywhere, longer than a window, with escapes at the cut."""
    objects = [{"text": 'é\n"\\' * (i * 37 % 300), "n": i} for i in range(600)] + [{"text": "b" * 300_000, "n": -1}]
    path = write(tmp_path / "a.json", "\n [" + " ,\n".join(json.dumps(item) for item in objects) + "]\n")
    assert gathered(path) == {"text": [item["text"] for item in objects], "n": [item["n"] for item in objects]}


def test_json_without_a_bracket_is_json_lines(tmp_path):
    assert gathered(write(tmp_path / "a.json", '\n{"text": "a"}\n{"text": "b"}\n')) == {"text": ["a", "b"]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "text,label\nx,y\nx\n", r"a.csv: line 3: expected 2 cells \('text', 'label'\), found 1"),
        ("a.csv", "text\nhello, world\n", r"a.csv: line 2: expected 1 cells.*found 2"),
        ("a.csv", 'text,label\n"so" they said,y\n', r"a.csv: line 2: .*quotes inside"),
        ("a.csv", 'text,label\nx,y\n"never closed,y\nx,y\n', r"a.csv: line 3: .*close every quote"),
        ("a.csv", "text,text\nx,y\n", r"line 1: two columns are named 'text'"),
        ("a.csv", ",text\n0,y\n", r"line 1: column 1 has no name"),
        ("a.csv", "text,label\n", r"a.csv: expected at least one row"),
        ("a.csv", "", r"a.csv: expected at least one row"),
        ("a.json", "[]", r"a.json: expected at least one row"),
        ("a.txt", "", r"a.txt: expected at least one row"),
        ("a.jsonl", '{"text": 1}\n\n{"text": }\n', r"a.jsonl: line 3: expected one JSON object per line"),
        ("a.jsonl", '{"text": 1}\n[1]\n', r"a.jsonl: line 2: expected a JSON object.*found list"),
        ("a.jsonl", '{"text": "\\ud83d"}\n', r"a.jsonl: line 1: found an unpaired surrogate"),
        ("a.json", '[{"text": 1},\n{"text": "x]', r"a.json: line 2: not a JSON array"),
        ("a.json", '[{"text": 1}\n\n{"text": 2}]', r"a.json: line 3: .*expected ','"),
        ("a.json", '[{"text": 1},', r"a.json: line 1: not a JSON array"),
        ("a.json", '[{"text": 1}', r"expected ',', found the end"),
        ("a.json", "[1, 2]", r"a.json: row 1: expected a JSON object.*found int"),
        ("a.parquet", "no parquet at all", r"a.parquet: not a readable parquet file"),
        ("a.csv", b"text\nok\ncaf\xe9\n", r"a.csv: line 3: expected utf-8, found byte 0xe9; .*encoding=.cp1252"),
        ("a.json", b'[{"text": "ok"},\n{"text": "caf\xe9"}]', r"a.json: line 2: expected utf-8, found byte 0xe9"),
        ("a.txt", b"a\n\xed\xa0\x80\n", r"a.txt: line 2: expected utf-8, found byte 0xed"),
    ],
)
def test_what_cannot_be_read_is_named_with_file_and_line(tmp_path, name, content, message):
    with pytest.raises(UserError, match=message):
        gathered(write(tmp_path / name, content))


def test_the_bad_byte_is_found_far_into_a_file(tmp_path):
    """Guards the line number against the decoder's block size."""
    path = write(tmp_path / "a.txt", b"x" * 99 + b"\n" + b"line\n" * 20_000 + b"\xff\n")
    with pytest.raises(UserError, match=r"line 20002: expected utf-8, found byte 0xff"):
        gathered(path)


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"no such file: .*gone\.csv"):
        gathered(tmp_path / "gone.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match=r"expected a file, found a folder"):
        gathered(tmp_path / "folder.csv")


def test_other_encodings_are_read_and_written_when_named(tmp_path):
    """Guards line splitting in encodings of two bytes, and one byte-order mark for a file of several batches."""
    for encoding in ("cp1252", "utf-16"):
        path = tmp_path / f"{encoding}.csv"
        with RowWriter(path, encoding=encoding) as writer:
            writer.write({"text": ["café"]})
            writer.write({"text": ["naïve"]})
        assert path.read_bytes().decode(encoding) == "text\ncafé\nnaïve\n"
        assert gathered(path, encoding=encoding) == {"text": ["café", "naïve"]}
    with pytest.raises(UserError, match=r"'😀' cannot be written in cp1252"):
        written(tmp_path / "b.csv", {"text": ["😀"]}, encoding="cp1252")
    with pytest.raises(UserError, match=r"encoding: expected a known encoding.*'utf-88'"):
        gathered(path, encoding="utf-88")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"text": "a"}\n{"text": "b"}\n', {"text": ["a", "b"]}),
        (b'[{"text": "a"}]', {"text": ["a"]}),
        (b"id\ttext\n1\ta\n", {"id": ["1"], "text": ["a"]}),
        (b"id,Message\n1,a\n", {"id": ["1"], "Message": ["a"]}),
        (b"text\nhello\n", {"text": ["hello"]}),
        (b"id,mine\n1,a\n", {"id": ["1"], "mine": ["a"]}),
        (b"my parcel is late, where is it\n", {"text": ["my parcel is late, where is it"]}),
        (b'"quoted", she said\nyes\n', {"text": ['"quoted", she said', "yes"]}),
        (b"\nsecond\n", {"text": ["", "second"]}),
    ],
)
def test_a_stream_is_told_by_its_first_line(content, expected):
    """Guards a single sentence with commas from being read as the header of a csv file."""
    assert gathered(io.BytesIO(content), text_column="mine") == expected


def test_streams_stay_open_and_may_be_parquet():
    """Guards stdin and stdout: closing them would end the process's own streams."""
    stream = io.BytesIO()
    written(stream, AWKWARD, format="parquet")
    stream.seek(0)
    assert gathered(stream, format="parquet") == AWKWARD
    lines = io.BytesIO(b"a\nb\n")
    assert gathered(lines) == {"text": ["a", "b"]}
    assert not lines.closed
    assert not stream.closed
    with pytest.raises(UserError, match="expected a format"):
        RowWriter(io.BytesIO())


def test_format_of_names_what_is_supported():
    assert [format_of(f"x.{ending}") for ending in ("CSV", "ndjson", "parquet")] == ["csv", "jsonl", "parquet"]
    of_excel = r"\.csv, .*found the ending '.xlsx'"
    for name, message in [("x.csv.gz", "found the ending '.gz'"), ("x.xlsx", of_excel), ("x", "no ending")]:
        with pytest.raises(UserError, match=message):
            format_of(name)


@pytest.mark.parametrize("format", FORMATS)
def test_a_failed_write_leaves_the_older_file_and_nothing_else(tmp_path, format):
    """Guards a half-written file from looking whole, and an older result from being lost."""
    path = write(tmp_path / f"out.{format}", "older")

    def interrupted() -> None:
        with RowWriter(path) as writer:
            writer.write({"text": ["new"]})
            raise KeyError("interrupted")

    with pytest.raises(KeyError):
        interrupted()
    assert path.read_text() == "older"
    assert list(tmp_path.iterdir()) == [path]
    written(path, {"text": ["new"]})
    assert gathered(path) == {"text": ["new"]}
    assert list(tmp_path.iterdir()) == [path]


def test_a_target_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    for target, message in [(tmp_path / "no" / "out.csv", "no such folder"), (tmp_path, "expected a file")]:
        with pytest.raises(UserError, match=message), RowWriter(target, format="csv"):
            pass


def test_parquet_and_csv_turn_into_each_other(tmp_path):
    """Guards None → "" and numbers on the way to csv, strings on the way back, an empty first batch in parquet."""
    pq.write_table(pa.table({"text": ["a", None], "n": [1, 2], "tags": [["x"], None]}), tmp_path / "a.parquet")
    written(tmp_path / "a.csv", gathered(tmp_path / "a.parquet"))
    assert gathered(tmp_path / "a.csv") == {"text": ["a", ""], "n": ["1", "2"], "tags": ['["x"]', ""]}
    copied(tmp_path / "a.csv", tmp_path / "b.parquet")
    assert gathered(tmp_path / "b.parquet") == gathered(tmp_path / "a.csv")
    with RowWriter(tmp_path / "c.parquet") as writer:
        writer.write({"text": [None]})
        writer.write({"text": ["late"]})
    assert gathered(tmp_path / "c.parquet") == {"text": [None, "late"]}
    with pytest.raises(UserError, match="one type per column"):
        written(tmp_path / "d.parquet", {"text": ["a", 1]})


def test_txt_writes_the_one_column_asked_for(tmp_path):
    columns = {"text": ["a", "b"], "predicted_label": ["spam", "ham"]}
    written(tmp_path / "a.txt", columns, text_column="predicted_label")
    assert (tmp_path / "a.txt").read_text() == "spam\nham\n"
    with pytest.raises(UserError, match="txt holds one column, found 'text', 'predicted_label'"):
        written(tmp_path / "b.txt", columns)
    with pytest.raises(UserError, match="txt holds one row per line"):
        written(tmp_path / "b.txt", {"text": ["two\nlines"]})


def test_columns_of_different_lengths_are_a_mistake(tmp_path):
    with pytest.raises(ValueError, match="one length"):
        written(tmp_path / "a.jsonl", {"text": ["a", "b"], "label": ["x"]})


def test_reading_is_lazy(tmp_path):
    """Guards streaming: a broken line far behind must not stop the first batch."""
    path = write(tmp_path / "a.jsonl", '{"text": "a"}\n' * 10 + "broken\n")
    batches = read_rows(path, batch_size=5)
    assert len(next(batches)) == 5
    assert len(next(batches)) == 5
    with pytest.raises(UserError, match="line 11"):
        next(batches)


# Packed files, workbooks, delimiters and encodings


def packed(kind: str, content: bytes) -> bytes:
    """A file with this content, packed."""
    if kind == "zip":
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("folder/", "")
            archive.writestr("folder/rows.csv", content)
            archive.writestr("__MACOSX/folder/._rows.csv", b"not a row")
        return out.getvalue()
    return {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[kind](content)


def workbook(rows: list[list[object]], *, before: str | None = None) -> bytes:
    """An Excel workbook, optionally with an empty sheet before the rows."""
    book = openpyxl.Workbook()
    sheet = book.active
    if before is not None:
        sheet.title = before
        sheet = book.create_sheet("rows")
    for row in rows:
        sheet.append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zip"])
def test_packed_files_are_read_whatever_they_are_called(tmp_path, kind):
    """Guards the encoding and the format inside, also of a file that hides what it is."""
    content = packed(kind, "text,label\ncafé,x\n".encode("utf-16"))
    expected = {"text": ["café"], "label": ["x"]}
    assert gathered(write(tmp_path / f"rows.csv.{kind}", content)) == expected
    assert gathered(write(tmp_path / "rows.csv", content)) == expected
    assert gathered(io.BytesIO(content)) == expected


def test_packed_files_that_cannot_be_read_are_named(tmp_path):
    """Guards tracebacks of libraries about damaged files, and a choice among several files."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.csv", "text\na\n")
        archive.writestr("b.csv", "text\na\n")
    incomplete = io.BytesIO()
    with zipfile.ZipFile(incomplete, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/worksheets/sheet1.xml", "<worksheet/>")
    for name, content, message in [
        ("a.csv", incomplete.getvalue(), "not a readable Excel workbook .*; save it as CSV UTF-8"),
        ("a.zip", out.getvalue(), "expected a zip with one file, found 2: 'a.csv', 'b.csv'"),
        ("a.zip", b"PK\x03\x04 and no more", "damaged or cut off"),
        ("a.csv.gz", packed("gz", b"text\n" + b"hello\n" * 99)[:-12], "damaged or cut off"),
        ("a.csv.zst", b"\x28\xb5\x2f\xfd....", "damaged or cut off"),
        ("a.xls", b"\xd0\xcf\x11\xe0....", r"an old Excel workbook \(.xls\), or one with a password; save it as .xlsx"),
        ("a.xlsx", b"text,label\na,b\n", "not a readable xlsx file, .* rename it to .csv"),
        ("a.xlsx", workbook([["text"], ["a"]])[:-30], "damaged|not a readable"),
        ("a.arrow", b"ARROW1....", "not a readable Arrow file"),
    ]:
        with pytest.raises(UserError, match=rf"{name}: .*{message}"):
            gathered(write(tmp_path / name, content))


def test_workbooks_are_read_by_their_first_sheet_with_rows(tmp_path):
    """Guards numbers, dates, empty rows and cells at the end, and a workbook that is called .csv."""
    rows = [["text", "label", None], [], ["a", 1, None], ["b", None], ["c", datetime.date(2024, 5, 6)]]
    expected = {"text": ["a", "b", "c"], "label": [1, None, "2024-05-06T00:00:00"]}
    for name, content in (
        ("a.xlsx", workbook(rows)),
        ("b.csv", workbook(rows)),
        ("c.xlsx", workbook(rows, before="notes")),
    ):
        assert gathered(write(tmp_path / name, content)) == expected
    batch = next(read_rows(tmp_path / "a.xlsx"))
    assert batch.where(0) == "row 3"


@pytest.mark.parametrize(
    "content",
    [
        "text;label\na, b;x\n",
        "sep=;\ntext;label\na, b;x\n",
        '"sep=|"\r\ntext|label\r\na, b|x\r\n',
        "text\tlabel\na, b\tx\n",
    ],
)
def test_other_delimiters_are_recognized(tmp_path, content):
    """Guards files of spreadsheets in languages that write a comma in numbers."""
    assert gathered(write(tmp_path / "a.csv", content)) == {"text": ["a, b"], "label": ["x"]}
    assert gathered(io.BytesIO(content.encode())) == {"text": ["a, b"], "label": ["x"]}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
@pytest.mark.parametrize("own", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_a_file_tells_its_own_encoding(tmp_path, own, encoding):
    """Guards two files with different encodings: one option cannot fit both."""
    path = write(tmp_path / "a.csv", "text,label\nthe café is open,x\n".encode(own))
    assert gathered(path, encoding=encoding) == {"text": ["the café is open"], "label": ["x"]}


@pytest.mark.parametrize("encoding", ["undefined", "unicode_escape", "base64", "utf-88", "rot13"])
def test_what_is_no_encoding_of_texts_is_refused(tmp_path, encoding):
    """Guards codecs of Python that are none, and halves of characters that no file can hold."""
    path = write(tmp_path / "a.txt", b"\\ud800\n")
    with pytest.raises(UserError, match=r"encoding: expected a known|found half a character"):
        gathered(path, encoding=encoding)


def test_arrow_and_parquet_of_every_type_of_text(tmp_path):
    """Guards the types in which polars and pandas store texts, and the index of pandas."""
    columns = {
        "text": pa.array(["a", "b"], pa.string_view()),
        "label": pa.array(["x", None], pa.large_string()).dictionary_encode(),
        "bytes": pa.array([b"c", b"d"], pa.large_binary()),
        "__index_level_0__": pa.array([7, 8]),
    }
    expected = {"text": ["a", "b"], "label": ["x", None], "bytes": ["c", "d"]}
    table = pa.table(columns)
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with pa.OSFile(str(tmp_path / "b.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    try:
        pq.write_table(table, tmp_path / "c.parquet")
    except pa.ArrowNotImplementedError:  # early versions of pyarrow write no string views
        pq.write_table(pa.table(columns | {"text": ["a", "b"]}), tmp_path / "c.parquet")
    for name in ("a.arrow", "b.arrow", "c.parquet"):
        assert gathered(tmp_path / name) == expected


def test_a_number_that_parquet_does_not_have_is_one_sentence(tmp_path):
    """Guards the OverflowError of pyarrow, which is none of its own exceptions."""
    with (
        pytest.raises(UserError, match=r"parquet needs one type per column: .*; write \.jsonl instead"),
        RowWriter(tmp_path / "a.parquet") as writer,
    ):
        writer.write({"id": [2**80]})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", [pa.ipc.new_file, pa.ipc.new_stream])
def test_an_arrow_file_that_points_outside_of_itself_is_one_sentence(kind, tmp_path):
    """Guards the process itself: pyarrow follows wrong offsets of texts wherever they lead."""
    offsets = pa.array([0, 1, 2, 3], pa.int32())
    table = pa.table({"text": pa.array(["a", "b", "c"])})
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, kind(sink, table.schema) as writer:
        writer.write_table(table)
    right = (tmp_path / "a.arrow").read_bytes()
    wrong = right.replace(offsets.buffers()[1].to_pybytes()[:16], np.array([0, 1, 2**30, 2**30], np.int32).tobytes())
    assert wrong != right
    (tmp_path / "a.arrow").write_bytes(wrong)
    with pytest.raises(UserError, match="not a readable Arrow file"):
        gathered(tmp_path / "a.arrow")


def test_an_arrow_file_that_asks_for_all_memory_is_one_sentence(tmp_path, monkeypatch):
    """Guards a damaged length, which is no fault of the machine."""
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, pa.ipc.new_stream(sink, pa.schema([])):
        pass

    def ask(*_):
        raise MemoryError

    monkeypatch.setattr(pa.ipc, "open_stream", ask)
    with pytest.raises(UserError, match="not a readable Arrow file, or a batch of it does not fit into memory"):
        gathered(tmp_path / "a.arrow")
