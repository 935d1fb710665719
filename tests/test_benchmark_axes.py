"""recipes/benchmark: what methods are told of the classes, random draws, and encoders by name."""

import doctest
import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sstext.data.descriptions import read_descriptions
from sstext.errors import UserError
from sstext.methods.registry import METHODS, compose

sys.path.append(str(Path(__file__).parent.parent / "recipes" / "benchmark"))  # scripts, not a package
cells, choosing, draws, embedding, figures, lines, peers, run, told = (
    import_module(name)
    for name in ("cells", "choosing", "draws", "embedding", "figures", "lines", "peers", "run", "told")
)
TINY = cells.Profile("tiny", {"toy": (2,)}, pool=20, test=15, seeds=(0,), steps=10, methods=("auto", "supervised"))


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The profile TINY by its name; a folder with its set: classes a, b and, in one row of a hundred, c; descriptions."""
    monkeypatch.setitem(cells.PROFILES, TINY.name, TINY)
    monkeypatch.setattr(told, "FOLDER", tmp_path)
    (tmp_path / "toy.yaml").write_text("a: An apple.\nb: [A bee., A bear.]\nc: A cat.\n", encoding="utf-8")
    (tmp_path / "toy").mkdir()
    for part, size in (("train", 400), ("test", 25)):
        labels = ["c" if i % 100 == 0 else "ab"[i % 2] for i in range(size)]
        rows = pd.DataFrame({"text": [f"{label} {i}" for i, label in enumerate(labels)], "label": labels})
        rows.to_parquet(tmp_path / "toy" / f"{part}.parquet")
    return tmp_path


# What is told


def test_lines_of_the_first_generation_keep_their_keys() -> None:
    """A key that changes would lose what was measured: the cell would be run again, its line shown nowhere."""
    quick, results = cells.PROFILES["quick"], lines.read_lines(run.RESULTS / "quick.jsonl")
    first = cells.plan(quick, told=[cells.FIRST])
    assert {cell.key for cell in first} == results.keys()
    assert first[0].key == (
        '["ag_news", 10, 0, "auto", {"on": "test", "pool": 2000, "run": {"encoder": "demo", "max_length": 64, "method": '
        '"auto", "round_steps": null, "steps": null}, "test": 1000}]'
    )
    assert {cell.key for cell in cells.plan(quick, told=cells.TOLD)}.isdisjoint(results)


def test_a_method_that_cannot_be_told_anything_is_run_once() -> None:
    """It would be the same training under three keys."""
    planned = cells.plan(TINY, told=cells.TOLD)
    assert [(cell.method, cell.told) for cell in planned] == [
        ("auto", "none"), ("auto", "names"), ("auto", "descriptions"), ("supervised", "none"),
    ]  # fmt: skip
    assert planned[1].settings["told"] == "names"
    assert str(planned[1]) == "toy, n = 2, seed 0, auto, names"
    assert [cell.method for cell in cells.as_told(planned, "names")] == ["auto", "supervised"]


@pytest.mark.parametrize("method", METHODS)
def test_who_can_be_told_something(method: str) -> None:
    """Guards a method that reads the texts of classes in secret, or in vain."""
    reads = any(stage.reads_class_texts for stage in compose(method).stages(rounds=1))
    assert (method in cells.TELLABLE) == reads


def test_nobody_is_told_of_a_class_that_the_draw_missed(toy: Path) -> None:
    assert told.knowledge("descriptions", "toy", ["a", "b"]) == {"a": ["An apple."], "b": ["A bee.", "A bear."]}
    assert [told.knowledge(one, "toy", ["a"]) for one in ("none", "names", cells.FIRST)] == ["none", "names", "none"]
    with pytest.raises(UserError, match=r"other: expected descriptions of its classes in .*other\.yaml"):
        told.knowledge("descriptions", "other", ["a"])


def test_template_rows_by_hand() -> None:
    """Eight rows of each class, as SetFit's own function makes them from names; two descriptions make four rows each."""
    texts, classes = told.template_rows("names", ["late_parcel", "refund"])
    assert texts == ["This sentence is late parcel"] * 8 + ["This sentence is refund"] * 8
    assert classes == ["late_parcel"] * 8 + ["refund"] * 8
    texts, classes = told.template_rows({"a": ["x", "y"], "b": ["z"]}, ["a", "b"])
    assert texts == ["x", "y"] * 4 + ["z"] * 8
    assert classes == ["a"] * 8 + ["b"] * 8
    assert told.template_rows("none", ["a"]) == told.template_rows("names", ["refund", "2"]) == ([], [])


def test_template_rows_are_those_of_setfit() -> None:
    setfit = pytest.importorskip("setfit", reason="the extra bench is not installed")
    theirs = setfit.get_templated_dataset(candidate_labels=["delivery", "refund"], sample_size=told.TEMPLATE_ROWS)
    assert told.template_rows("names", ["delivery", "refund"])[0] == theirs["text"][:]


def test_a_peer_reads_the_texts_of_classes_as_labeled_rows() -> None:
    task = peers.Task(["x", "y"], ["b", "a"], [], [], "demo", 8, 0, known={"a": ["one"], "b": ["two", "three"]})
    read = task.with_class_rows()
    assert read.texts == ["x", "y", "one", "two", "three"]
    assert read.numbers().tolist() == [1, 0, 0, 1, 1]
    assert peers.Task(["x"], ["b"], [], [], "demo", 8, 0).with_class_rows().texts == ["x"]


@pytest.mark.parametrize(
    "name",
    sorted(
        {name for profile in cells.PROFILES.values() for name in profile.sets}
        | {file.stem for file in told.FOLDER.glob("*.yaml")}
    ),
)
def test_every_set_has_descriptions_of_its_classes(name: str) -> None:
    """Of all of them, and of no other: a name that is misspelled would be found after hours of other cells."""
    file, data = told.description_file(name), os.environ.get("SSTEXT_BENCH_DATA")
    if name != cells.SAMPLE and not data:
        pytest.skip(f"{file} is there; its classes want the data: SSTEXT_BENCH_DATA")
    train, _ = cells.read_set(name, Path(data) if data else None)
    classes = sorted(set(train["label"]))
    assert list(read_descriptions(file, classes)) == classes


@pytest.mark.parametrize(
    ("knows", "expected"),
    [("none", "none"), ("names", "names"), ("descriptions", {"a": ["An apple."], "b": ["A bee.", "A bear."]})],
)
def test_sstext_is_told_what_the_cell_says(
    knows: str, expected: Any, toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards three cells with one option: names are what `auto` takes where it is given none."""
    seen: dict[str, Any] = {}

    def stop(config: Any, **data: Any) -> None:
        seen.update(data, descriptions=config.descriptions, encoder=config.encoder)
        raise RuntimeError("seen")

    monkeypatch.setattr(run, "train", stop)
    rows, test = cells.read_set("toy", toy)
    two = rows[rows["label"] != "c"].reset_index(drop=True)
    (cell,) = cells.plan(TINY, methods=["auto"], told=[knows], encoder="small")
    assert run.outcome(cell, two, test, "somewhere/else")["error"] == "RuntimeError: seen"
    assert seen["descriptions"] == expected
    assert seen["encoder"] == "somewhere/else"
    assert len(seen["audit"]) == len(seen["unlabeled"])


# Draws


def test_a_random_draw_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """default_rng(0).permutation(10) = 4 6 2 7 3 5 9 0 8 1; rows 0–3 are a, 4–9 are b: two rows are 4 and 6, both b."""
    monkeypatch.setattr(cells, "VALIDATION_ROWS", (1, 2))
    split = cells.split_rows(list("aaaabbbbbb"), n=1, seed=0, pool=4, draw="random")
    assert [part.tolist() for part in (split.labeled, split.pool, split.validation)] == [[4, 6], [2, 7, 3, 5], [9, 0]]


def test_rows_are_chosen_among_those_of_a_random_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same candidates and validation rows: default_rng(0).permutation(10) = 4 6 2 7 3 5 9 0 8 1. Guards a comparison with
    other rows, and a chosen row that is in the pool, too."""
    monkeypatch.setattr(cells, "VALIDATION_ROWS", (1, 2))
    split = cells.split_rows(
        list("aaaabbbbbb"), n=1, seed=0, pool=4, draw="suggested", choose=lambda rows, count: rows[::-1][:count]
    )
    assert [part.tolist() for part in (split.labeled, split.pool, split.validation)] == [[5, 3], [4, 6, 2, 7], [9, 0]]


@pytest.mark.parametrize("steps", [1, 2])
def test_the_second_step_reads_labels_of_the_first_alone(steps: int) -> None:
    """Guards an oracle: other labels change nothing, and with labels, the second step is another one."""
    rng = np.random.default_rng(0)
    embedded = rng.normal(size=(60, 4))
    embedded /= np.linalg.norm(embedded, axis=1, keepdims=True)
    labels = np.array(["a", "b"])[(embedded[:, 0] > 0).astype(int)]
    rows = choosing.suggested(embedded, labels, 12, 0, steps=steps)
    assert len(set(rows)) == 12
    hidden = np.where(np.isin(np.arange(60), rows[: 12 // steps]), labels, "c")
    assert choosing.suggested(embedded, hidden, 12, 0, steps=steps).tolist() == rows.tolist()


def test_a_table_of_draws_by_hand() -> None:
    """Gains of .2 and .0 over random on one set: +10.0. Guards a draw that is compared with other places."""
    profile = cells.PROFILES["suggest"]
    results = {}
    for (n, draw), value in {
        (5, "random"): 0.5,
        (10, "random"): 0.7,
        (5, "suggested"): 0.7,
        (10, "suggested"): 0.7,
    }.items():
        row = {"set": "sst2", "n": n, "seed": 0, "method": cells.PROBE, "settings": {"on": "test", "draw": draw}}
        results[lines.key_of(row)] = row | {"accuracy": value}
    said = draws.draws_report(profile, results)
    assert "| random | 50.0 / 70.0 | 60.0 |  |  |" in said
    assert "| suggested | 70.0 / 70.0 | 70.0 | +10.0 [+0.0, +20.0] | +10.0 (sst2) |" in said
    assert "balanced |" not in said


def test_embeddings_are_computed_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Guards the cache: in memory, and in a folder for the next process; and the order of the rows."""
    computed: list[str] = []

    def made(texts: list[str], *_: Any) -> np.ndarray:
        computed.extend(texts)
        return np.array([[float(text)] for text in texts], dtype=np.float32)

    monkeypatch.setattr(embedding, "_embed", made)
    monkeypatch.setattr(embedding, "_known", {})
    monkeypatch.setenv(embedding.CACHE, str(tmp_path))
    assert embedding.embed(["1", "2", "1"], "e", 8).tolist() == [[1], [2], [1]]
    monkeypatch.setattr(embedding, "_known", {})
    assert embedding.embed(["3", "2"], "e", 8).tolist() == [[3], [2]]
    assert embedding.embed(["2"], "e", 9).tolist() == [[2]]
    assert computed == ["1", "2", "3", "2"]


def test_texts_of_a_class_without_a_label_are_wrong() -> None:
    """Two classes are known. Right: the first of a; wrong: the one of c, whatever is predicted. 1 of 3.

    F1: a 2·1/(2+1), b 0 of 1 predicted and 1 true, c 0: (2/3 + 0 + 0)/3. Log-loss of a and b alone: −(ln .8 + ln .1)/2.
    """
    probabilities = np.array([[0.8, 0.2], [0.9, 0.1], [0.3, 0.7]])
    found = figures.figures_by_name(probabilities, ["a", "b"], ["a", "b", "c"])
    assert found["accuracy"] == pytest.approx(1 / 3)
    assert found["macro_f1"] == pytest.approx(2 / 9)
    assert found["nll"] == pytest.approx(-(np.log(0.8) + np.log(0.1)) / 2)
    assert (found["rows"], found["rows_of_unknown_classes"]) == (3, 1)
    known = figures.figures_by_name(probabilities, ["a", "b"], ["a", "b", "b"])
    assert known == figures.figures(probabilities, np.array([0, 1, 1])) | {"rows_of_unknown_classes": 0}


def test_a_draw_that_misses_a_class_is_measured(toy: Path, demo_encoder: Path) -> None:
    """Six rows at random hold no c: the cell is no failure, and the one test row of c is wrong."""
    (cell,) = cells.plan(TINY, methods=[cells.FROZEN], draws=["random"], told=["descriptions"])
    rows, test = cells.read_set("toy", toy)
    split = cells.split_rows(rows["label"], n=2, seed=0, pool=20, draw="random")
    assert set(rows["label"].iloc[split.labeled]) == {"a", "b"}
    measured = run.outcome(cell, rows, test, str(demo_encoder))
    assert measured.get("error") is None
    assert measured["rows_of_unknown_classes"] == 1
    assert measured["accuracy"] <= 14 / 15


def test_a_pool_with_a_class_that_nobody_labeled_is_not_audited(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sstext refuses answers of a class that it does not know: the cell would fail."""
    seen: dict[str, Any] = {}
    monkeypatch.setattr(run, "train", lambda config, **data: seen.update(data) or 1 / 0)
    rows, test = cells.read_set("toy", toy)
    order = np.random.default_rng(0).permutation(len(rows))
    rows.loc[order[10], "label"] = "c"  # of the pool
    (cell,) = cells.plan(TINY, methods=["auto"], draws=["random"])
    assert "ZeroDivisionError" in run.outcome(cell, rows, test, "demo")["error"]
    assert seen["audit"] is None
    assert len(seen["labeled"]) == 6


# Encoders


def test_no_line_has_a_path_of_the_machine(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of an encoder gets its name, also in the message of a failure; the same folder elsewhere is the same cell."""
    encoder, output = toy / "some-encoder", toy / "out.jsonl"
    encoder.mkdir()

    def fail(cell: Any, *_: Any) -> None:
        raise FileNotFoundError(f"no file {encoder}/model.safetensors, see https://example.org/a/b")

    monkeypatch.setattr(run, "run_cell", fail)
    given = ["--profile", "tiny", "--data", str(toy), "--output", str(output), "--encoder", str(encoder)]
    assert run.main(given) == 0
    assert run.main([*given, "--encoder-name", "its name"]) == 0
    written = output.read_text(encoding="utf-8")
    assert str(toy) not in written
    rows = [json.loads(line) for line in written.splitlines()]
    assert [row["settings"]["run"]["encoder"] for row in rows] == ["some-encoder"] * 2 + ["its name"] * 2
    assert rows[0]["error"] == "FileNotFoundError: no file …/model.safetensors, see https://example.org/a/b"


def test_descriptions_that_are_missing_are_said_before_hours_of_work(
    toy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "run_cell", lambda *_: pytest.fail("a cell was run"))
    (toy / "toy.yaml").unlink()
    given = ["--profile", "tiny", "--data", str(toy), "--output", str(toy / "out.jsonl")]
    assert run.main([*given, "--told", "names", "descriptions"]) == 2
    assert "toy: expected descriptions of its classes" in capsys.readouterr().err


@pytest.mark.parametrize("module", [told, run], ids=lambda module: module.__name__)
def test_examples_in_docstrings(module: Any) -> None:
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed
