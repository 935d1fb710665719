"""What `sstext predict` refuses, with and without --engine ray, before Ray or a model is loaded."""

from pathlib import Path

import pytest

from sstext.cli import main as cli


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.csv", "b.csv"], "output: expected a folder for the shards, found -"),
        (["."], ".: expected a folder with files of texts"),
        (["a.csv", "--workers", "2"], "workers: one process labels a file; give --engine ray"),
        (["-", "--engine", "ray", "-o", "out"], "input: not with --engine ray; name files or folders"),
        (["a.csv", "--engine", "ray"], "output: expected a folder for the shards, found -"),
        (["a.csv", "--engine", "ray", "-o", "out", "--output-format", "csv"], "shards are parquet files"),
        (["a.csv", "--engine", "ray", "-o", "out", "--input-format", "csv"], "files tell their format"),
        (["a.csv", "--engine", "ray", "-o", "out", "--profile", "times"], "profile: not with --engine ray"),
        (["a.csv", "--engine", "ray", "-o", "out.csv"], "output: expected a folder for the shards, found out.csv"),
        (["a.csv", "--engine", "ray", "-o", "out", "--compile"], "compile: not with --engine ray"),
        (["a.csv", "--shard-rows", "9"], "shard-rows: the output is one file"),
        (["a.csv", "--engine", "ray", "-o", "out", "--excel-safe"], "excel-safe: not with --engine ray"),
    ],
)
def test_what_does_not_go_together(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Guards an option without effect, and a folder that is made for nothing."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(["predict", "model", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_shards_are_not_written_where_they_do_harm(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards shards that the next call reads as texts, and texts that stay in the folder of a run after `sstext forget`."""
    monkeypatch.chdir(tmp_path)
    for name in ("corpus", "run"):
        Path(name).mkdir()
    Path("corpus/a.csv").write_text("text\nhello\n")
    Path("run/manifest.jsonl").write_text("")
    for output, message in (("corpus/scored/", "outside of the input"), ("run/scored/", "outside of a run")):
        assert cli.main(["predict", "model", "corpus", "-o", output, "--engine", engine]) == 2
        assert f"output: expected a folder {message}" in capsys.readouterr().err
        assert not Path(output).exists()
