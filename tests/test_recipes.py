"""Every recipe parses against the real options, opens with what it shows, and runs two steps on the tiny encoder."""

import csv
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import texts_of_words

from sstext.cli import main as cli
from sstext.config.options import options
from sstext.config.recipe import read_config
from sstext.config.run_config import RunConfig
from sstext.data.sampling import Sample
from sstext.data.sources import REPLACEMENTS
from sstext.inference.classifier import Classifier
from sstext.inference.files import predict_file
from sstext.selftraining.pace import Pace

ROOT = Path(__file__).parent.parent
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
README = (ROOT / "recipes" / "README.md").read_text(encoding="utf-8")
#: Data sets that the recipes name on the Hub, by their folder under SSTEXT_BENCH_DATA → classes of the stand-in.
STAND_INS = {
    "ag_news": ["World", "Sports", "Business", "Sci/Tech"],
    "imdb": ["neg", "pos"],
    "banking77": [f"intent {i}" for i in range(7)],
    "hate_offensive": ["hate speech", "offensive language", "neither"],
}
FEW = ["--steps", "2", "--round-steps", "2", "--rounds", "1", "--max-length", "16"]
#: What others test already: chains.
ONE_CHAIN = ("own_data", "multi_gpu")
FEW_ROWS = ["--sample", "labels_per_class=3", "unlabeled=20", "test=9"]


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for SSTEXT_BENCH_DATA with tiny data sets, columns text and label."""
    folder, rng = tmp_path_factory.mktemp("bench"), np.random.default_rng(0)
    words = ["parcel", "late", "money", "back", "login", "again", "please", "thanks", "today", "where", "when", "my"]
    for name, classes in STAND_INS.items():
        (folder / name).mkdir()
        for part, size in (("train", 60), ("test", 20)):
            texts = [" ".join(rng.choice(words, 5)) for _ in range(size)]
            labels = [classes[i % len(classes)] for i in range(size)]
            pq.write_table(pa.table({"text": texts, "label": labels}), folder / name / f"{part}.parquet")
    return folder


@pytest.fixture
def at_root(stand_ins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a person stands who runs a recipe: in the clone; data of the Hub are the stand-ins."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv(REPLACEMENTS, str(stand_ins))


#: Recipes that the fast suite runs; the others are slow tests. quickstart.yaml runs in test_readme.py, on few rows.
AT_ONCE = {"imbalanced"}


def of_the_hub(path: Path) -> bool:
    return "sample" in yaml.safe_load(path.read_text(encoding="utf-8"))


def few(path: Path, encoder: Path | str, output: Path) -> list[str]:
    """The arguments of a recipe on few rows, for two steps."""
    given = [str(path), "--encoder", str(encoder), "--output", str(output), *FEW]
    others = (
        ["--descriptions", "names"] if path.stem == "many_classes" else []
    )  # the stand-in has few of the 77 classes
    return (
        given + others + (FEW_ROWS if of_the_hub(path) else []) + (["--folds", "0"] if path.stem in ONE_CHAIN else [])
    )


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"recipes_{name}", ROOT / "recipes" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_are_recipes() -> None:
    """Canary: the tests below are not vacuous."""
    assert "quickstart.yaml" in [path.name for path in RECIPES]
    assert sum(map(of_the_hub, RECIPES)) >= 5


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_recipes_say_what_they_show_and_hold_only_what_differs(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("#"), "a recipe opens with what it shows"
    assert re.search(rf"sstext train recipes/{path.name}", text), "… and with its command"
    assert "Every line below is also a flag, and flags win" in " ".join(text.replace("#", "").split())
    config, defaults = read_config(path, {}), RunConfig(method=read_config(path, {}).method)
    given = [line.split(":")[0] for line in text.splitlines() if re.match(r"\w+:", line)]
    assert given
    for name in given:
        assert name in options(RunConfig)
        assert name == "method" or getattr(config, name) != getattr(defaults, name), f"{name} is the default already"
    if config.sample:
        assert Sample.of(config.sample)


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=path.name, marks=() if path.stem in AT_ONCE else pytest.mark.slow) for path in RECIPES],
)
def test_recipes_run(
    path: Path, at_root: None, tiny_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.main(["train", *few(path, tiny_encoder, tmp_path / "out")])
    assert code in (0, 1), capsys.readouterr().err  # 1: after two steps, a model may predict one class
    assert (tmp_path / "out" / "model" / "model.safetensors").exists()
    test = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))["test"]
    assert test["self_trained"]["rows"] == (9 if of_the_hub(path) else 400), "a recipe measures what it claims"


def test_what_the_skeleton_leaves_out_can_be_put_in() -> None:
    """Guards own_data.yaml's commented lines against options that are renamed or take other values."""
    text = (ROOT / "recipes" / "own_data.yaml").read_text(encoding="utf-8")
    hidden = re.findall(r"^#- (.*)$", text, re.MULTILINE)
    assert len(hidden) >= 8
    for line in hidden:
        values: dict[str, Any] = yaml.safe_load(line)
        (name,) = values
        assert getattr(RunConfig(**values), name) != getattr(RunConfig(), name)


@pytest.mark.distributed
def test_several_processes_by_the_launcher_of_the_recipe(at_root: None, tiny_encoder: Path, tmp_path: Path) -> None:
    """The command of multi_gpu.yaml, with two processes on CPUs: guards a launcher's flag that is gone, and one that starts a
    single process, which the batch of 3 rows shows: two cannot share it."""
    path = ROOT / "recipes" / "multi_gpu.yaml"
    command = re.search(r"^#   accelerate (launch .*) recipes/multi_gpu.yaml$", path.read_text("utf-8"), re.MULTILINE)
    assert command is not None
    words = command[1].replace("--num_processes 4", "--num_processes 2").split()

    def launched(*more: str) -> subprocess.CompletedProcess[str]:
        program = [*words, *few(path, tiny_encoder, tmp_path / "out"), "--device", "cpu", *more]
        return subprocess.run(
            [sys.executable, "-m", "accelerate.commands.accelerate_cli", *program], env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip

    assert (
        "batch_size: expected a multiple of 2 (processes × accumulation steps)" in launched("--batch-size", "3").stderr
    )
    finished = launched()
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert json.loads((tmp_path / "out" / "results.json").read_text())["rows"]["unlabeled"] == 20


@pytest.mark.real
@pytest.mark.parametrize("path", [path for path in RECIPES if of_the_hub(path)], ids=lambda path: path.name)
def test_recipes_find_their_rows_in_the_real_data(
    path: Path,
    bench_data: Path,
    demo_encoder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Guards a sample that asks for more than there is, and class shares of classes that the data do not have."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv(REPLACEMENTS, str(bench_data))
    monkeypatch.setattr(Pace, "measure", lambda chain: Pace(defaultdict(lambda: 1.0), 0.01))  # nothing is timed here
    assert cli.main(["train", str(path), "--dry-run"]) == 0
    said = capsys.readouterr()
    asked = read_config(path, {}).sample
    assert f"{asked['unlabeled']:,}" in said.out
    assert f"{asked['test']:,}" in said.out


# Python


def test_the_composed_method_runs(at_root: None, tiny_encoder: Path, tmp_path: Path) -> None:
    """Two steps of recipes/custom_method.py; guards names of the API that have moved."""
    figures = script("custom_method").main(
        ["--steps", "2", "--encoder", str(tiny_encoder), "--output", str(tmp_path / "out")]
    )
    assert 0 <= figures["eval_macro_f1"] <= 1


def test_the_part_of_ones_own_by_hand() -> None:
    """q = .7, .2, .1 leads by .5; two equal classes count nothing."""
    import torch

    from sstext.objective import Signals

    lead = script("custom_method").Lead()
    weight = lead(Signals(torch.tensor([[0.1, 0.7, 0.2], [0.4, 0.4, 0.2]])))
    assert weight.tolist() == pytest.approx([0.5, 0.0])


def test_the_walk_through_the_api(
    few_tickets: Path, tiny_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    """recipes/python_api.py on the tiny encoder: every stop is reached, and `train` goes on in the folder of `self_train`."""
    walk = script("python_api")
    assert ROOT / "data" / few_tickets.name == walk.DATA
    monkeypatch.setattr(walk, "DATA", few_tickets)
    results = walk.main(["--steps", "2", "--encoder", str(tiny_encoder), "--output", str(tmp_path / "out")])
    said = capsys.readouterr().out
    assert re.findall(r"^(\d)\. ", said, re.MULTILINE) == list("12345")
    assert results["test"]["self_trained"]["rows"] == 40
    assert "macro_f1" in said
    assert "fixmatch" in said


def test_the_script_in_the_style_of_transformers_parses(tmp_path: Path) -> None:
    """Flags, YAML and JSON give the same arguments; the data that ship are replaced together, or not at all."""
    parse = script("run_semi_supervised").parse
    values = {"output_dir": str(tmp_path), "method": "softmatch", "method_args": {"ramp": 0.5}, "max_steps": 2, "use_cpu": True,
              "train_file": "my.csv"}  # fmt: skip
    (tmp_path / "arguments.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    (tmp_path / "arguments.json").write_text(json.dumps(values), encoding="utf-8")
    flags = [
        "--use_cpu",
        *f"--output_dir {tmp_path} --method softmatch --method_args ramp=0.5 --max_steps 2 --train_file my.csv".split(),
    ]
    for words in (flags, [str(tmp_path / "arguments.yaml")], [str(tmp_path / "arguments.json")]):
        _, data, arguments = parse(words)
        assert (arguments.method, arguments.method_args, arguments.max_steps) == ("softmatch", {"ramp": 0.5}, 2)
        assert (data.train_file, data.unlabeled_file, data.test_file) == ("my.csv", None, None)
    _, data, arguments = parse(["--output_dir", str(tmp_path), "--use_cpu", "--push_to_hub"])
    for name in ("train_file", "unlabeled_file", "validation_file", "test_file"):
        assert Path(getattr(data, name)).is_file(), name
    assert arguments.push_to_hub


@pytest.mark.slow
def test_the_script_in_the_style_of_transformers_runs(
    at_root: None, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few steps of recipes/run_semi_supervised.py: what it writes, what it returns, and that it pushes."""
    run = script("run_semi_supervised")
    pushed: list[Any] = []
    monkeypatch.setattr(run.SemiSupervisedTrainer, "init_hf_repo", lambda trainer: None)
    monkeypatch.setattr(run.SemiSupervisedTrainer, "push_to_hub", lambda trainer, *_, **__: pushed.append(trainer))
    out = tmp_path / "out"
    values = {"output_dir": str(out), "model_name_or_path": str(tiny_encoder), "method": "softmatch", "max_steps": 2,
              "use_cpu": True, "report_to": "none", "max_length": 16, "max_unlabeled_samples": 40, "max_eval_samples": 16,
              "max_predict_samples": 5, "push_to_hub": True}  # fmt: skip
    (tmp_path / "arguments.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    found = run.main([str(tmp_path / "arguments.yaml")])
    assert {"train_loss", "eval_accuracy", "eval_macro_f1"} <= found.keys()
    lines = (out / "predictions.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "text,predicted_label"
    names = json.loads((out / "config.json").read_text())["label2id"]
    assert "delivery_delay" in names
    with (out / "predictions.csv").open(encoding="utf-8", newline="") as file:
        assert {row["predicted_label"] for row in csv.DictReader(file)} <= set(names)
    assert json.loads((out / "eval_results.json").read_text())["eval_macro_f1"] == found["eval_macro_f1"]
    assert len(pushed) == 2, "`save_model` pushes too, as that of `Trainer` does"

    log = json.loads((out / "trainer_state.json").read_text())["log_history"]
    assert log, "the last step is logged"
    only = run.main(["--output_dir", str(tmp_path / "only"), "--model_name_or_path", str(out), "--do_eval", "--use_cpu",
                     "--report_to", "none", "--max_eval_samples", "16", "--max_length", "16"])  # fmt: skip
    assert only["eval_macro_f1"] == pytest.approx(found["eval_macro_f1"])
    assert not (tmp_path / "only" / "predictions.csv").exists()


def test_the_function_for_spark_labels_frames_as_they_come(tiny_classifier: Path) -> None:
    """Without Spark: an iterator of data frames in, the same rows with two columns out. Guards frames that are read ahead."""
    import pandas as pd

    frames = [pd.DataFrame({"id": [1, 2], "text": ["money back", None]}), pd.DataFrame({"id": [3], "text": ["late"]})]
    read = []

    def coming() -> Iterator[pd.DataFrame]:
        for frame in frames:
            read.append(len(frame))
            yield frame

    found = script("spark_predict").labeler(str(tiny_classifier))(coming())
    first = next(found)
    assert read == [2]
    labeled = pd.concat([first, *found])
    assert labeled.columns.tolist() == ["id", "text", "predicted_label", "confidence"]
    assert labeled["id"].tolist() == [1, 2, 3]
    classifier = Classifier.from_pretrained(tiny_classifier)
    texts = ["money back", "", "late"]
    assert labeled["predicted_label"].tolist() == classifier.predict(texts)
    assert labeled["confidence"].tolist() == pytest.approx(classifier.predict_proba(texts).max(-1), abs=1e-6)


@pytest.mark.slow
def test_spark_labels_a_corpus_as_predict_does(tiny_classifier: Path, tmp_path: Path) -> None:
    """recipes/spark_predict.py on two files, in local mode. Guards other labels, lost rows, and numbers that pandas rounds."""
    pytest.importorskip("pyspark", reason="pyspark is not installed; pip install pyspark")
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        pytest.skip("Spark needs Java")
    lines = (ROOT / "data" / "support_tickets" / "unlabeled.jsonl").read_text(encoding="utf-8").splitlines()[:200]
    texts = [json.loads(line)["text"] for line in lines] + texts_of_words(100)  # the tickets are of one class to it
    columns = {
        "id": pa.array([2**53 + number for number in range(300)]),  # more than a float can tell apart …
        "stars": pa.array([None, 1, 5] * 100, pa.int8()),  # … and what pandas makes floats of
        "tags": pa.array([["new", None], [], None] * 100),
        "text": pa.array([None, *texts[1:]]),
    }
    corpus, scored = tmp_path / "corpus", tmp_path / "scored"
    corpus.mkdir()
    table = pa.table(columns)
    for part in range(2):
        pq.write_table(table.slice(150 * part, 150), corpus / f"{part}.parquet")
    local = {
        "PYSPARK_SUBMIT_ARGS": "--master local[2] --conf spark.ui.enabled=false pyspark-shell",
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    command = [sys.executable, ROOT / "recipes" / "spark_predict.py", tiny_classifier, corpus, scored]
    ended = subprocess.run(
        list(map(str, command)), env=os.environ | local, capture_output=True, text=True, check=False, timeout=300
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    found = pq.read_table(list(scored.glob("*.parquet"))).sort_by("id")
    pq.write_table(table, tmp_path / "whole.parquet")
    predict_file(Classifier.from_pretrained(tiny_classifier), tmp_path / "whole.parquet", tmp_path / "expected.parquet")
    expected = pq.read_table(tmp_path / "expected.parquet")
    assert found.schema.remove_metadata() == expected.schema.remove_metadata()
    assert found.drop_columns("confidence").to_pydict() == expected.drop_columns("confidence").to_pydict()
    assert found["confidence"].to_pylist() == pytest.approx(expected["confidence"].to_pylist(), abs=1e-6)
    assert len(set(found["predicted_label"].to_pylist())) == 3


# The page


def test_the_page_lists_every_recipe_with_its_command() -> None:
    for path in [*RECIPES, *(ROOT / "recipes").glob("*.py")]:
        if path.name != "table.py":
            assert f"]({path.name})" in README, f"{path.name} is missing from recipes/README.md"
