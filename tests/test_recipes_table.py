"""recipes/table.py: run folders → lines → the table of what was measured."""

import doctest
import json
from pathlib import Path
from typing import Any

import pytest
from test_recipes import ROOT, script

from sstext.config.recipe import read_config
from sstext.errors import UserError

table = script("table")
MACHINE = {"device": "cpu", "name": "x86_64", "threads": 2, "precision": "fp32"}


def finished(folder: Path, recipe: str, seed: int, accuracy: float, **more: Any) -> Path:
    """A folder as a run of a recipe leaves it."""
    folder.mkdir(parents=True)
    options = {"seed": seed} | more.pop("options", {})
    config = read_config(ROOT / "recipes" / f"{recipe}.yaml", options)
    (folder / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
    (folder / "data.json").write_text('{"fingerprints": {"labeled": "file:0"}}', encoding="utf-8")
    before, after = ({"metrics": {name: {"score": score} for name in table.FIGURES}} for score in (0.5, accuracy))
    results = {
        "seed": seed, "rows": {"labeled": 40}, "chosen": {"round": 2}, "rounds": [{"steps": 60}, {"steps": 125}],
        "test": {"supervised": before, "self_trained": after},
        "seconds": 100.0, "machine": MACHINE, "versions": {"torch": "2"}, "commit": "abc",
    } | more  # fmt: skip
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    return folder


def test_a_line_per_recipe_over_its_seeds(tmp_path: Path) -> None:
    """70 and 80: mean 75, standard deviation √50 = 7.1; 100 and 200 s: 2.5 min; the most memory of both."""
    folders = [
        finished(tmp_path / "ag_news" / "seed-0", "ag_news", 0, 0.7),
        finished(
            tmp_path / "ag_news" / "seed-1", "ag_news", 1, 0.8, seconds=200.0, commit="def",
            peak_memory_mib={"process": 1234.4, "device": None},
        ),
    ]  # fmt: skip
    lines = table.merged([], map(table.line_of, folders))
    said = table.report(lines).splitlines()
    cell = "50.0 ± 0.0 → **75.0** ± 7.1"
    assert said[2] == f"| ag_news | 0, 1 | {cell} | {cell} | {cell} | 2.5 min | 1,234 MiB |"
    assert "| imdb | not measured yet | | | | | |" in said
    assert "| multi_gpu | wants several GPUs | | | | | |" in said
    assert sum(line.startswith("- Measured on cpu (x86_64, 2 threads, fp32), commit ") for line in said) == 2
    assert said[-1].endswith("commit def; torch 2: ag_news (seed 1)")


def test_memory_of_a_gpu_is_what_counts_where_there_is_one(tmp_path: Path) -> None:
    run = finished(tmp_path / "imdb", "imdb", 0, 0.7, peak_memory_mib={"process": 3000.0, "device": 512.0})
    assert "| 512 MiB on the GPU |" in table.report([table.line_of(run)])


def test_what_a_budget_cut_is_said(tmp_path: Path) -> None:
    """Guards figures of a shortened run under the name of the whole one."""
    run = finished(tmp_path / "quickstart" / "seed-0", "quickstart", 0, 0.7)
    (run / "plan.json").write_text('{"left_out": ["15% of the steps", "1 of the chains"]}')
    assert "Cut by its budget: quickstart, seed 0, without 15% of the steps, 1 of the chains" in table.report(
        [table.line_of(run)]
    )


def test_a_new_run_takes_the_place_of_an_older_one() -> None:
    old, other, new = (
        {"recipe": "imdb", "seed": seed, "commit": code} for seed, code in ((1, "a"), (0, "a"), (1, "b"))
    )
    assert table.merged([old, other], [new]) == [other, new]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 2}, "other options .steps: None there, 2 here"),
        ({"sample": {"labels_per_class": 3}}, "sample: "),
    ],
)
def test_a_run_with_other_options_is_no_run_of_the_recipe(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """Guards the table against a trial of two steps; the seed and the device may differ."""
    run = finished(tmp_path / "imdb" / "seed-0", "imdb", 0, 0.7, options=options)
    with pytest.raises(UserError, match=message):
        table.line_of(run)
    assert table.line_of(finished(tmp_path / "imdb" / "b", "imdb", 3, 0.7, options={"device": "cpu"}))["seed"] == 3


def test_folders_that_are_no_finished_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="named after a recipe, or in one"):
        table.line_of(finished(tmp_path / "elsewhere", "imdb", 0, 0.7))
    with pytest.raises(UserError, match=r"expected a finished run, found no results\.json"):
        table.line_of(tmp_path / "imdb")
    with pytest.raises(UserError, match="expected figures on test rows"):
        table.line_of(finished(tmp_path / "imdb", "imdb", 0, 0.7, test={}))


def test_lines_and_table_are_written_and_read_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards seeds whose folders are gone since; a page without a place for the table leaves the lines as they were."""
    page = tmp_path / "benchmark" / "RESULTS.md"
    page.parent.mkdir()
    page.write_text("above\n<!-- recipes -->\n<!-- /recipes -->\nbelow\n", encoding="utf-8")
    home = ["--home", str(tmp_path), "--write"]
    for seed in (0, 1):
        run = finished(tmp_path / "imdb" / f"seed-{seed}", "imdb", seed, 0.7)
        assert table.main([str(run), *home]) == 0
    assert "| imdb | 0, 1 | 50.0 ± 0.0 → **70.0** ± 0.0 |" in page.read_text(encoding="utf-8")
    kept = (tmp_path / "results.jsonl").read_text(encoding="utf-8")
    assert kept.count("\n") == 2
    page.write_text("no place\n", encoding="utf-8")
    assert table.main([str(finished(tmp_path / "imdb" / "seed-2", "imdb", 2, 0.7)), *home]) == 2
    assert "expected the lines <!-- recipes -->" in capsys.readouterr().err
    assert (tmp_path / "results.jsonl").read_text(encoding="utf-8") == kept


def test_the_page_holds_the_table_of_the_lines() -> None:
    """Guards a figure on the page that no line stands for."""
    page = (ROOT / "recipes" / "benchmark" / "RESULTS.md").read_text(encoding="utf-8")
    shown = page.split("<!-- recipes -->")[1].split("<!-- /recipes -->")[0]
    assert shown.strip() == table.report(table.read_lines(ROOT / "recipes" / "results.jsonl"))


def test_the_example_in_a_docstring() -> None:
    assert doctest.testmod(table).attempted
    assert not doctest.testmod(table).failed
