"""The run folder: it belongs to one run, and every file in it is whole or not there."""

import ast
import json
from pathlib import Path

import pytest

import sstext
from sstext.config.run_config import RunConfig
from sstext.errors import UserError
from sstext.storage import run_folder
from sstext.storage.run_folder import RunDirectory
from sstext.storage.whole import write_folder_whole, write_whole

CONFIG, PRINTS = "rounds: 2\nseed: 0\n", {"labeled": "file:aa", "unlabeled": "file:bb"}


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    directory = RunDirectory(tmp_path / "some" / "out")
    directory.claim(CONFIG, PRINTS)
    return directory


def test_the_same_run_may_come_back(directory: RunDirectory) -> None:
    """Guards continuing: the same options on the same data are the same run."""
    directory.claim(CONFIG, dict(PRINTS))
    assert (directory.path / "config.yaml").read_text() == CONFIG
    assert directory.read_data()["fingerprints"] == PRINTS


def test_what_a_kill_left_beside_a_whole_array_is_removed(directory: RunDirectory) -> None:
    """Guards a part of `scores.npy` that stays for ever: the whole array was there, so that nobody looked for its parts. A part
    of an array that is not whole saves its computation."""
    stage = directory.path / "chain_2" / "start"
    stage.mkdir(parents=True)
    for name in ("scores.npy", "scores-000000000000.npy", "passes-000000000000.npy"):
        (stage / name).write_bytes(b"")
    directory.claim(CONFIG, dict(PRINTS))
    assert sorted(file.name for file in stage.iterdir()) == ["passes-000000000000.npy", "scores.npy"]


def test_other_options_are_named_with_both_values(directory: RunDirectory) -> None:
    """Guards a run against another one's rounds; the person sees at once which option it was."""
    with pytest.raises(
        UserError, match=r"another run, with other options; choose another --output.*:\n  seed: 0 → 7$"
    ) as caught:
        directory.claim("rounds: 2\nseed: 7\n", PRINTS)
    assert str(directory.path) in str(caught.value)
    assert "rounds" not in str(caught.value)
    assert (directory.path / "config.yaml").read_text() == CONFIG


def test_every_other_option_has_a_line(directory: RunDirectory) -> None:
    """Guards a line of eight options that nobody can read, and one with a hundred lines for a foreign config.yaml."""
    with pytest.raises(UserError) as caught:
        directory.claim("keep:\n- 0.3\nrounds: null\nseed: 0\ntest: new.csv\n", PRINTS, replaceable=["test"])
    assert str(caught.value).splitlines()[1:] == [
        "  keep: not there → [0.3]",
        "  rounds: 2 → none",
        "  test: not there → new.csv",
    ]
    with pytest.raises(UserError) as caught:
        directory.claim("".join(f"option_{number:02}: 1\n" for number in range(40)), PRINTS)
    assert str(caught.value).splitlines()[-1] == "  and 30 more", "of 40 and two that are gone"


@pytest.mark.parametrize(
    ("config", "prints"),
    [
        (CONFIG + "test: new.csv\n", PRINTS | {"test": "file:cc"}),
        (CONFIG, PRINTS | {"test": "file:cc"}),
        (CONFIG + "test: a_copy.csv\n", PRINTS),
    ],
)
def test_replaced_sources_are_taken_in_only_when_asked(
    directory: RunDirectory, config: str, prints: dict[str, str]
) -> None:
    """Guards a folder that changes before all errors are found: `claim` only says that the test rows differ."""
    for name in (
        "results.json",
        "report.html",
        "predictions/test.parquet",
        "baseline/model/config.json",
        "baseline/fit.json",
    ):
        write_whole(directory.path / name, "{}")
    directory.append_round({"index": 0, "stage": "baseline"})
    before = {path: path.read_bytes() for path in directory.path.rglob("*") if path.is_file()}
    assert directory.claim(config, prints, replaceable=["test"])
    assert {path: path.read_bytes() for path in directory.path.rglob("*") if path.is_file()} == before
    directory.replace_sources(config, prints)
    left = {str(path.relative_to(directory.path)) for path in directory.path.rglob("*") if path.is_file()}
    kept = {"baseline/fit.json", "baseline/model/config.json", "config.yaml", "data.json", "rounds.jsonl"}
    assert left == kept | {"manifest.jsonl"}
    assert not directory.claim(config, prints, replaceable=["test"]), "it is the run of these rows now"
    with pytest.raises(UserError, match="other"):
        directory.claim(CONFIG + "test: yet_another.csv\n", prints)


def test_a_run_without_its_models_is_not_measured_again(directory: RunDirectory) -> None:
    """Guards results that are thrown away, and stages that are trained again, after somebody has deleted the stages."""
    directory.append_round({"index": 0, "stage": "baseline"})
    write_whole(directory.results, "{}")
    with pytest.raises(
        UserError, match="cannot be measured on other test rows, because models of its stages have been deleted"
    ):
        directory.replace_sources(CONFIG, PRINTS | {"test": "file:cc"})
    assert directory.results.exists()
    assert directory.read_data()["fingerprints"] == PRINTS


@pytest.mark.parametrize(
    ("prints", "named"),
    [
        (PRINTS | {"unlabeled": "file:cc"}, "unlabeled"),
        (PRINTS | {"dev": "file:cc"}, "dev"),
        ({"labeled": "file:aa"}, "unlabeled"),
    ],
)
def test_other_data_are_named(directory: RunDirectory, prints: dict[str, str], named: str) -> None:
    """Guards a run against files that were edited, added or left out since."""
    with pytest.raises(UserError, match=rf"a run on other data \({named} changed\); choose another --output"):
        directory.claim(CONFIG, prints)


def test_a_run_of_an_earlier_version_goes_on(directory: RunDirectory) -> None:
    """Options that came later are no change while they are at their defaults, and one where they are used."""
    directory.claim("regularizers: {}\nrounds: 2\nseed: 0\ndropout: null\nviews: []\n", PRINTS, RunConfig.defaults())
    assert (directory.path / "config.yaml").read_text() == CONFIG
    with pytest.raises(UserError, match=r"with other options; .*\(in the folder → now\):\n  dropout: none → 0.2$"):
        directory.claim("rounds: 2\nseed: 0\ndropout: 0.2\nviews: []\n", PRINTS, RunConfig.defaults())
    with pytest.raises(UserError, match=r":\n  rounds: 2 → none$"):  # recorded, and not at its default
        directory.claim("seed: 0\n", PRINTS, RunConfig.defaults())


def test_a_run_with_former_options_is_not_continued(directory: RunDirectory) -> None:
    """Guards a folder of version 0.1 against eight lines of other options, from which nobody learns what is the matter."""
    before = "alignment: true\nrounds: 2\nseed: 0\ntoken_mask: 0.15\nwarmup: 0.1\nweight_decay: 0.01\n"
    write_whole(directory.path / "config.yaml", before)
    with pytest.raises(UserError, match=r"holds a run of an earlier version, .* choose another --output") as caught:
        directory.claim(CONFIG, PRINTS, RunConfig.defaults())
    assert "('alignment', 'token_mask', 'warmup' and 1 more)" in str(caught.value)
    assert (directory.path / "config.yaml").read_text() == before


def test_foreign_files_are_never_mixed_with_a_run(tmp_path: Path) -> None:
    """Guards somebody's folder, and somebody's file."""
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="holds files that do not belong to a run; choose another --output"):
        RunDirectory(tmp_path).claim(CONFIG, PRINTS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(UserError, match=r"expected a folder, found the file .*thesis\.tex"):
        RunDirectory(tmp_path / "thesis.tex").claim(CONFIG, PRINTS)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_an_empty_folder_may_be_taken(tmp_path: Path) -> None:
    """Guards `mkdir out` before the run."""
    RunDirectory(tmp_path).claim(CONFIG, PRINTS)
    assert (tmp_path / "config.yaml").read_text() == CONFIG


def test_a_kill_before_the_rename_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against half a file: what was there stays until all of the new one is."""
    file = tmp_path / "rounds.jsonl"
    write_whole(file, "old")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_whole(file, "new")
    assert file.read_text() == "old"
    monkeypatch.undo()
    write_whole(file, "new")
    assert file.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["rounds.jsonl"]


def test_a_folder_is_filled_whole_or_not_at_all(tmp_path: Path) -> None:
    """Guards `model/`: a failure while writing leaves the old one, and a later try leaves nothing of the first."""

    def half(path: Path) -> None:
        (path / "config.json").write_text("half")
        raise KeyboardInterrupt

    model = tmp_path / "model"
    write_folder_whole(model, lambda path: (path / "old").write_text("old"))
    with pytest.raises(KeyboardInterrupt):
        write_folder_whole(model, half)
    assert [path.name for path in model.iterdir()] == ["old"]
    write_folder_whole(model, lambda path: (path / "new").write_text("new"))
    assert [path.name for path in model.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_rounds_come_back_in_order(directory: RunDirectory) -> None:
    """Guards the record from which a killed run goes on, letters beyond ASCII included."""
    assert directory.rounds() == []
    records = [{"index": 0, "per_class": {"größe": 1}}, {"index": 1, "per_class": {"größe": 2}}]
    for record in records:
        directory.append_round(record)
    assert directory.rounds() == records
    lines = (directory.path / "rounds.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == records
    assert "größe" in lines[0]  # people read it too


def test_results_and_paths(directory: RunDirectory) -> None:
    """Guards the names that other tools read."""
    directory.write_results({"seed": 3})
    assert json.loads((directory.path / "results.json").read_text()) == {"seed": 3}
    names = ("baseline", "start", "round 2", "final")
    assert [directory.stage(name).name for name in names] == ["baseline", "start", "round_2", "final"]
    assert directory.stage("start").parent == directory.path
    assert directory.model == directory.path / "model"


def test_a_claim_that_a_kill_cut_short_can_be_made_again(tmp_path: Path) -> None:
    """Guards the moment between data.json and config.yaml: the same command must not be refused."""
    (tmp_path / "data.json").write_text("{}")
    RunDirectory(tmp_path).claim("seed: 0\n", {"labeled": "1"})
    assert (tmp_path / "config.yaml").read_text() == "seed: 0\n"


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    """Guards `--output notes.txt/out` against a traceback."""
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="found the file"):
        RunDirectory(tmp_path / "notes.txt" / "out").claim("seed: 0\n", {})


def test_only_the_storage_knows_how_the_files_of_a_run_are_called() -> None:
    """Guards two rooms that spell one file: what the one renames, the other does not find, and a report leaves it out.

    The rooms of the Hub are below: they publish a `results.json` of their own.
    """
    package = Path(sstext.__file__).parent
    names = {name for name in vars(run_folder).values() if isinstance(name, str) and "." in name and "/" not in name}
    names -= {run_folder.__name__}
    assert {"scores.npy", "fit.json", "log.jsonl", "averaged.npy", "plan.json", "report.html"} <= names
    found = {
        f"{file.relative_to(package)}: {node.value}"
        for file in sorted(package.rglob("*.py"))
        if file.relative_to(package).parts[0] not in ("storage", "hub")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in {*names, "unlabeled.arrow"}
    }
    assert found == {
        "reporting/report.py: report.html",  # the template has the name of the page
        "cli/suggest.py: to_label.csv",  # in the present folder, not in that of a run
    }


def test_the_folder_says_what_is_in_it(finished_run: Path) -> None:
    """Guards the list in the docstring, which people read, against a file that it does not know."""
    told = set((RunDirectory.__doc__ or "").split())
    assert {"baseline/", "start/", "round_1/", "chain_1/", "all_labels/", "plan.json"} <= told
    there = {file.name + "/" * file.is_dir() for file in finished_run.iterdir()}
    assert {name for name in there - told if not name.startswith(("chain_", "round_"))} == set()
