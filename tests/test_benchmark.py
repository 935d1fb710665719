"""recipes/benchmark: which rows a cell gets, and what happens to a run that is cut short."""

import doctest
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sstext import RunConfig
from sstext.errors import UserError
from sstext.methods.registry import OF_ROUNDS, build

BENCHMARK = Path(__file__).parent.parent / "recipes" / "benchmark"
sys.path.append(str(BENCHMARK))  # scripts, not a package
cells, figures, lines, run, table = (import_module(name) for name in ("cells", "figures", "lines", "run", "table"))

TINY = cells.Profile("tiny", {"toy": (2,)}, pool=20, test=15, seeds=(0,), steps=10, methods=cells.COMPETITORS)
WORDS = {"refund": "money return charged twice invoice", "delivery": "parcel courier late tracking shipped"}


@pytest.fixture
def tiny_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    """The profile TINY by its name."""
    monkeypatch.setitem(cells.PROFILES, TINY.name, TINY)


@pytest.fixture(scope="module")
def toy_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one data set: 330 training rows, 25 test rows, two classes."""
    folder, rng = tmp_path_factory.mktemp("bench"), np.random.default_rng(0)
    (folder / "toy").mkdir()
    for part, size in (("train", 330), ("test", 25)):
        labels = rng.permutation([*WORDS] * size)[:size]
        texts = [" ".join(rng.permutation(WORDS[label].split())) for label in labels]
        pd.DataFrame({"text": texts, "label": labels}).to_parquet(folder / "toy" / f"{part}.parquet")
    return folder


@pytest.mark.parametrize("module", [cells, figures], ids=lambda module: module.__name__)
def test_examples_in_docstrings(module: Any) -> None:
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed


# Rows


def test_rows_of_a_cell_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """default_rng(0).permutation(10) = 4 6 2 7 3 5 9 0 8 1; rows 0–3 are a, 4–9 are b.

    In that order: b b a b a b b a b a. First of each class: 4 (b) and 2 (a); then 6 7 3 5 9 0 8 1, of which a pool of 4
    takes 6 7 3 5, and two validation rows 9 0.
    """
    assert np.random.default_rng(0).permutation(10).tolist() == [4, 6, 2, 7, 3, 5, 9, 0, 8, 1], "numpy draws otherwise"
    monkeypatch.setattr(cells, "VALIDATION_ROWS", (1, 2))
    split = cells.split_rows(list("aaaabbbbbb"), n=1, seed=0, pool=4)
    assert split.labeled.tolist() == [4, 2]
    assert split.pool.tolist() == [6, 7, 3, 5]
    assert split.validation.tolist() == [9, 0]
    assert cells.split_rows(list("aaaabbbbbb"), n=1, seed=0, pool=99).pool.size == 7, "a pool leaves validation rows"
    assert cells.split_rows(list("abbbbbbbbb"), n=3, seed=0, pool=4).labeled.size == 4, "all of a class that has fewer"


@pytest.mark.parametrize("seed", [0, 1])
def test_no_row_has_two_parts(seed: int) -> None:
    """A row that is labeled and in the pool, or measured on, would flatter every method."""
    labels = np.random.default_rng(9).choice(["a", "b", "c"], size=3_000, p=[0.9, 0.09, 0.01])
    split = cells.split_rows(labels, n=10, seed=seed, pool=500)
    parts = np.concatenate([split.labeled, split.pool, split.validation])
    assert len(np.unique(parts)) == len(parts) == 30 + 500 + 2_000
    assert [int((labels[split.labeled] == name).sum()) for name in "abc"] == [10, 10, 10]
    other = cells.split_rows(labels, n=10, seed=seed + 1, pool=500)
    assert set(split.labeled) != set(other.labeled)


def test_too_few_rows_are_said() -> None:
    with pytest.raises(UserError, match="more than 300 training rows beside the 4 labeled, found 296"):
        cells.split_rows(["a", "b"] * 150, n=2, seed=0, pool=10)


def test_support_tickets_with_their_answers() -> None:
    """1,200 training rows of which 300 stay out of the pool; unlabeled text i has answer i; no test text in training."""
    train, test = cells.read_set("support_tickets", None)
    split = cells.split_rows(train["label"], n=10, seed=0, pool=2_000)
    assert [len(part) for part in (train, split.labeled, split.pool, split.validation, test)] == [
        1_200, 80, 820, 300, 400,
    ]  # fmt: skip
    answers = (cells.SAMPLE_FOLDER / "unlabeled_answers.csv").read_text(encoding="utf-8").splitlines()[1:]
    texts = (cells.SAMPLE_FOLDER / "unlabeled.jsonl").read_text(encoding="utf-8").splitlines()
    assert train["label"][64:].tolist() == answers
    assert train["text"][64:].tolist() == [json.loads(line)["text"] for line in texts]
    assert not set(train["text"]) & set(test["text"])


# Cells


def test_every_method_is_run_as_what_it_is() -> None:
    """A method of the round loop that is run without rounds would be supervised under another name."""
    for method in cells.METHODS:
        options = cells.options_of(method, 60)
        assert options["method"] == method
        if method != "auto":  # its rounds are its own
            assert options["rounds"] == (3 if method in OF_ROUNDS else 0)
        assert options["steps"] == options.get("round_steps", 60) == 60
    assert cells.options_of("class-balanced", 60) == {
        "method": "class-balanced", "rounds": 3, "steps": 60, "round_steps": 60,
    }  # fmt: skip
    assert cells.options_of("supervised", 60) == {"method": "supervised", "rounds": 0, "steps": 60}
    assert cells.options_of(cells.ALL_LABELS, 60) == {"method": "supervised", "rounds": 0}


@pytest.mark.parametrize("name", cells.ABLATIONS)
def test_an_ablation_is_auto_but_for_what_it_names(name: str) -> None:
    """Options that nobody knows, or that change nothing, would make a line of `auto` itself."""
    usual, changed = (asdict(RunConfig(**cells.options_of(method, 60))) for method in ("auto", name))
    different = {option for option in usual if usual[option] != changed[option]}
    assert different == set(cells.ABLATIONS[name])
    build(changed["method"], changed["method_args"], changed["regularizers"])


@pytest.mark.parametrize("name", cells.PROFILES)
def test_the_cells_of_a_profile_differ(name: str) -> None:
    """Two cells with one key would be measured once."""
    profile = cells.PROFILES[name]
    planned = cells.plan(profile)
    places = len(profile.seeds) * sum(map(len, profile.sets.values())) * len(profile.draws)
    in_a_place = sum(len(profile.told) if method in cells.TELLABLE else 1 for method in profile.methods)
    assert len({cell.key for cell in planned}) == len(planned) == places * in_a_place
    assert {cell.key for cell in planned}.isdisjoint(cell.key for cell in cells.plan(profile, encoder="other"))
    other = {"test": "validation", "validation": "test"}[profile.on]
    assert {cell.key for cell in planned}.isdisjoint(cell.key for cell in cells.plan(profile, on=other))


def test_a_part_of_a_profile() -> None:
    glance = cells.PROFILES["glance"]
    part = cells.plan(glance, methods=["supervised"], sets=["support_tickets"], seeds=[1])
    assert [str(cell) for cell in part] == ["support_tickets, n = 10, seed 1, supervised"]
    assert part[0].settings["run"]["max_length"] == 96
    with pytest.raises(UserError, match=r"methods: expected names among .*, found 'fixmatsch'"):
        cells.plan(glance, methods=["fixmatsch"])
    with pytest.raises(UserError, match="sets: expected names among 'ag_news', 'support_tickets', found 'imdb'"):
        cells.plan(glance, sets=["imdb"])
    full = cells.PROFILES["full"]
    few = cells.plan(full, methods=["supervised"], sets=["banking77", "imdb"], seeds=[0], n=[3, 50])
    assert [(cell.set, cell.n) for cell in few] == [("banking77", 3), ("imdb", 50)], "sizes differ between sets"
    with pytest.raises(UserError, match=r"n: expected some of 5, 10, 50, found 3$"):
        cells.plan(full, sets=["imdb"], n=[3])


# Figures


def test_figures_by_hand() -> None:
    """Two right of three; F1 of class 0 is 2·1/(1+2), of class 1 2·1/(2+1); NLL = −(ln .8 + ln .4 + ln .9)/3."""
    probabilities = np.array([[0.8, 0.2], [0.4, 0.6], [0.1, 0.9]])
    found = figures.figures(probabilities, np.array([0, 0, 1]))
    assert found["rows"] == 3
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["macro_f1"] == pytest.approx(2 / 3)
    assert found["nll"] == pytest.approx(-np.log([0.8, 0.4, 0.9]).mean())
    assert found["calibration_error"] == pytest.approx((0.2 + 0.6 + 0.1) / 3)
    expected = found["calibration_error"] - figures.chance_calibration_error(probabilities)
    assert found["calibration_error_excess"] == expected


def test_calibration_error_of_a_perfect_model() -> None:
    """One row of confidence p is right with probability p: the error is 1 − p or p, 2p(1 − p) on average; 0 at p = 1."""
    one_row = np.array([[0.25, 0.75]])
    assert figures.chance_calibration_error(one_row, draws=4_000) == pytest.approx(2 * 0.75 * 0.25, abs=0.01)
    certain = np.eye(3, dtype=np.float32)[[0, 2, 2]]
    assert figures.chance_calibration_error(certain, draws=10) == 0


def test_what_counted_at_the_end_of_a_training() -> None:
    """The last logged mean counts, not the first; the summary line at the end of a log has none."""
    log = [{"kept_share": 0.1, "mean_weight": 0.2}, {"kept_share": 0.5, "mean_weight": 0.6}, {"train_runtime": 1.0}]
    found = run.kept_at_the_end("\n".join(map(json.dumps, log)))
    assert found == {"kept_share": 0.5, "mean_weight": 0.6}
    assert run.kept_at_the_end('{"loss": 1.0}\n') == {"kept_share": None, "mean_weight": None}


# Runs


def test_a_small_run_from_files_to_table(
    tiny_profile: None, toy_data: Path, tiny_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, methods = tmp_path / "tiny.jsonl", ["supervised", "fixmatch", "class-balanced"]
    given = ["--profile", "tiny", "--data", str(toy_data), "--encoder", str(tiny_encoder), "--output", str(output)]
    assert run.main([*given, "--methods", *methods]) == 0
    rows = {row["method"]: row for row in map(json.loads, output.read_text(encoding="utf-8").splitlines())}
    assert [*rows] == methods
    assert not [row["error"] for row in rows.values() if "error" in row]
    assert all(row["rows"] == 15 and row["seconds"] > 0 and row["machine"] and row["commit"] for row in rows.values())
    assert [record["steps"] for record in rows["fixmatch"]["rounds"]] == [10]
    assert 0 <= rows["fixmatch"]["kept_share"] <= 1
    assert rows["supervised"]["kept_share"] is None
    by_round = rows["class-balanced"]["rounds"]
    assert [record["stage"] for record in by_round][:2] == ["baseline", "round 1"]
    assert by_round[0]["audit_precision"] is None
    assert by_round[1]["admitted"] == pytest.approx(0.3 * 20, abs=1)
    assert 0 <= by_round[1]["audit_precision"] <= 1
    assert table.main([str(output)]) == 0
    said = capsys.readouterr().out
    assert f"| supervised |  | {rows['supervised']['accuracy']:.1%} |" in said
    assert f"Not run yet, {len(cells.COMPETITORS) - 3} cells: " in said


def test_all_pool_labels_are_seen_by_that_mark_alone(
    toy_data: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A method that saw the pool's labels would close every gap."""
    seen: dict[str, Any] = {}

    def stop(config: Any, **data: Any) -> None:
        seen.update(data)
        raise RuntimeError("seen")

    monkeypatch.setattr(run, "train", stop)
    rows, test = cells.read_set("toy", toy_data)
    for method, labeled in (("supervised", 4), (cells.ALL_LABELS, 24)):
        (cell,) = cells.plan(TINY, methods=[method])
        assert run.outcome(cell, rows, test, str(tiny_encoder))["error"] == "RuntimeError: seen"
        assert len(seen["labeled"]) == labeled
        assert seen["unlabeled"].column_names == ["text"]
        assert len(seen["unlabeled"]) == len(seen["audit"]) == 20
        assert "test" not in seen
        assert "dev" not in seen


def fake(calls: list[str], failing: str = "", interrupted: str = "") -> Callable[..., dict[str, Any]]:
    """In the place of `run_cell`: notes the method, and fails or is stopped where it is told to."""

    def run_cell(cell: Any, *_: Any) -> dict[str, Any]:
        calls.append(cell.method)
        if cell.method == interrupted:
            raise KeyboardInterrupt
        if cell.method == failing:
            raise FloatingPointError("loss is\nnan")
        return {"accuracy": 0.5}

    return run_cell


def test_a_run_goes_on_cell_by_cell(
    tiny_profile: None, toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C keeps what is done; half a line after a kill is dropped and its cell, no other, is run again."""
    output, calls = tmp_path / "new" / "tiny.jsonl", []
    methods = ["supervised", "fixmatch", "softmatch"]
    given = ["--profile", "tiny", "--data", str(toy_data), "--output", str(output), "--methods", *methods]
    monkeypatch.setattr(run, "run_cell", fake(calls, interrupted="softmatch"))
    assert run.main(given) == 130
    whole = output.read_bytes()
    assert whole.count(b"\n") == 2
    output.write_bytes(whole[:-40])
    assert len(lines.read_lines(output)) == 1

    calls.clear()
    monkeypatch.setattr(run, "run_cell", fake(calls))
    assert run.main(given) == 0
    assert calls == ["fixmatch", "softmatch"]
    rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert [row["method"] for row in rows] == methods
    calls.clear()
    assert run.main(given) == 0
    assert calls == []


def test_a_failure_is_a_line_and_stops_nothing(
    tiny_profile: None, toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """… and is run again only where it is asked for; the later line counts."""
    output, calls = tmp_path / "tiny.jsonl", []
    methods = ["supervised", "fixmatch"]
    given = ["--profile", "tiny", "--data", str(toy_data), "--output", str(output), "--methods", *methods]
    monkeypatch.setattr(run, "run_cell", fake(calls, failing="supervised"))
    assert run.main(given) == run.main(given) == 0
    assert calls == methods
    failed, done = map(json.loads, output.read_text(encoding="utf-8").splitlines())
    assert failed["error"] == "FloatingPointError: loss is nan"
    assert "accuracy" not in failed
    assert done["accuracy"] == 0.5
    monkeypatch.setattr(run, "run_cell", fake(calls))
    assert run.main([*given, "--retry"]) == 0
    assert calls == [*methods, "supervised"]
    assert [row.get("accuracy") for row in lines.read_lines(output).values()] == [0.5, 0.5]


def test_a_figure_that_is_no_number_is_a_failure(toy_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON has no NaN: such a line could not be read elsewhere, and a mean over it would be NaN too."""
    monkeypatch.setattr(run, "run_cell", lambda *_: {"accuracy": float("nan")})
    (cell,) = cells.plan(TINY, methods=["supervised"])
    assert "error" in run.outcome(cell, *cells.read_set("toy", toy_data), "demo")


def test_input_that_can_be_mended(
    tiny_profile: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SSTEXT_BENCH_DATA", raising=False)
    output = tmp_path / "tiny.jsonl"
    given = ["--profile", "tiny", "--output", str(output)]
    assert run.main(given) == 2
    assert "toy: no folder with the data sets; give --data" in capsys.readouterr().err
    assert run.main([*given, "--data", str(tmp_path)]) == 2
    assert f"toy: expected {tmp_path / 'toy' / 'train.parquet'}" in capsys.readouterr().err
    assert not output.exists()
    output.write_text('{"set": "toy"}\n')
    with pytest.raises(UserError, match=r"tiny.jsonl:1: expected the result of a cell"):
        lines.read_lines(output)


# Peers


@pytest.mark.parametrize("name", cells.PEERS)
def test_a_peer_learns_the_toy_task_from_its_four_labels(name: str, toy_data: Path, demo_encoder: Path) -> None:
    """Guards the order of the classes, and rows of the pool that are taken for labeled ones; figures as of any method."""
    if name == "SetFit":
        pytest.importorskip("setfit", reason="the extra bench is not installed")
    (cell,) = cells.plan(TINY, methods=[name])
    measured = run.outcome(cell, *cells.read_set("toy", toy_data), str(demo_encoder))
    assert measured.get("error") is None
    assert measured["accuracy"] == 1.0
    assert (measured["rows"], measured["rounds"], cell.settings["run"].keys()) == (15, [], {"encoder", "max_length"})
    json.dumps(measured, allow_nan=False)
