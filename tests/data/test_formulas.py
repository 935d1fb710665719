"""csv files that people open in a spreadsheet: cells that it would run are counted, and quoted if asked."""

import csv
import io
from pathlib import Path

import pytest

from sstext.cli.main import main
from sstext.data.formulas import Formulas, is_formula
from sstext.data.labeling_tasks import LabelingTask, write_labeling_tasks
from sstext.data.writers import RowWriter
from sstext.progress import Reporter

FORMULAS = ["=1+1", "+1+1", "-1+cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "\r=1", "＝1+1", '=HYPERLINK("http://x","y")']
HARMLESS = ["late", "-1", "+4.5e3", "-0.25", "", "1=1", " =1", "'=1", "a-b"]


def test_what_a_spreadsheet_runs_is_told_from_numbers() -> None:
    """Guards both sides: a formula that passes, and a column of numbers that turns into text."""
    assert all(map(is_formula, FORMULAS))
    assert not any(map(is_formula, HARMLESS))


@pytest.mark.parametrize("format", ["csv", "tsv"])
def test_headers_labels_and_texts_are_quoted_if_asked_and_counted_in_any_case(format: str) -> None:
    """Guards every place of a cell, and data that must stay as they are by default."""
    columns = {"=text": [*FORMULAS, *HARMLESS], "label": ["-x", *[None] * 16]}
    for quoted in (False, True):
        formulas, out = Formulas(quoted), io.BytesIO()
        with RowWriter(out, format, formulas=formulas) as writer:
            writer.write(columns)
        assert formulas.count == 1 + len(FORMULAS) + 1
        rows = list(
            csv.reader(io.StringIO(out.getvalue().decode(), newline=""), delimiter="," if format == "csv" else "\t")
        )
        cells = [cell for row in rows for cell in row]
        assert any(map(is_formula, cells)) != quoted
        if quoted:
            assert [cell.removeprefix("'") for cell in cells if is_formula(cell.removeprefix("'"))]
    with RowWriter(io.BytesIO(), "jsonl", formulas=(other := Formulas(True))) as writer:
        writer.write(columns)
    assert other.count == 0


def test_files_to_label_and_cleaned_copies_have_the_same_helper(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards the other files that people open in a spreadsheet."""
    write_labeling_tasks(
        tmp_path / "t.csv", [LabelingTask("=1+1", "random", "-x", 0.5)], formulas=(found := Formulas(True))
    )
    assert found.count == 2
    assert "'=1+1,,random,'-x" in (tmp_path / "t.csv").read_text()
    (tmp_path / "in.csv").write_text("text,label\n=1+1,a\n=1+1,a\nlate,b\n")
    for flags, begin in (([], "=1+1"), (["--excel-safe"], "'=1+1")):
        folder = tmp_path / f"fixed{len(flags)}"
        assert main(["check", str(tmp_path / "in.csv"), "--fix", str(folder), *flags]) == 0
        assert (folder / "in.csv").read_text().splitlines()[1] == f"{begin},a"
        assert (folder / "changes.csv").read_text().rstrip().endswith(begin)
        (line,) = (line for line in capsys.readouterr().err.splitlines() if "formula" in line)
        assert line.startswith(f"{folder}: 2 cells begin like a formula")
        assert ("--excel-safe writes them" in line) == (not flags)


def test_nothing_is_said_without_such_a_cell(capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against a line that everybody learns to overlook."""
    Formulas().note("out.csv", Reporter())
    assert capsys.readouterr().err == ""
