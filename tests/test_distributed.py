"""Two processes do what one does: the same batches, the same statistics, the same scores."""

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from contract import SETTINGS
from distributed_job import RUNS, train_all
from safetensors.torch import load_file

from sstext.evaluation.calibration import softmax
from sstext.methods.registry import METHODS, build
from sstext.storage.run_folder import EMBEDDINGS

FLAGS = [
    *("--steps", "6", "--round-steps", "6", "--rounds", "2", "--keep", "0.3", "0.5"),
    # All 12 labeled rows in a batch: plain Trainer repeats rows where the last batch of an epoch cannot be shared out.
    *("--precision", "fp32", "--device", "cpu", "--dropout", "0", "--batch-size", "12"),
    *("--method-args", "stop_agreement=1.1", "round_batch_size=8"),
    # SGD: Adam would blow rounding up to the size of a step.
    *("--training-args", "optim=sgd", "--learning-rate", "0.05", "--head-learning-rate", "0.05"),
]


def launch(processes: int, program: Sequence[object]) -> None:
    """`python PROGRAM …` in one process, or in several that know of each other."""
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    finished = subprocess.run(
        [*launcher, *map(str, program)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]


def train(processes: int, output: Path, task: object, encoder: Path, *more: str) -> dict:
    files = ["--labeled", task.labeled, "--unlabeled", task.unlabeled, "--test", task.test]  # type: ignore[attr-defined]
    launch(processes, ["-m", "sstext", "train", *files, "--encoder", encoder, "--output", output, *FLAGS, *more])
    return json.loads((output / "results.json").read_text())


@pytest.mark.distributed
@pytest.mark.parametrize(
    "method", ["class-balanced", "softmatch", "ust", "noisy-student", "self-training", "margin-history"]
)
def test_two_processes_train_select_and_score_as_one(
    tiny_encoder: Path, tiny_task: Callable, tmp_path: Path, method: str
) -> None:
    """Guards against batches that are not shared out, statistics of one process only, and shuffled scores."""
    task = tiny_task(tmp_path)
    arguments = {"class-balanced": (), "margin-history": (), "softmatch": ("momentum=0.5",), "ust": ("passes=2",)}.get(
        method, ("threshold=0.36",)
    )
    more = ("--method", method, *(("--method-args", *arguments) if arguments else ()))
    one = train(1, tmp_path / "one", task, tiny_encoder, *more)
    two = train(2, tmp_path / "two", task, tiny_encoder, *more)
    assert [record["per_class"] for record in one["rounds"]] == [record["per_class"] for record in two["rounds"]]
    stages = [record["stage"] for record in one["rounds"]]
    assert stages == ["start" if method == "softmatch" else "baseline", "round 1", "round 2"]
    for stage in stages:
        model = f"{stage.replace(' ', '_')}/model/model.safetensors"
        alone, shared = load_file(tmp_path / "one" / model), load_file(tmp_path / "two" / model)
        assert max((alone[name] - shared[name]).abs().max().item() for name in alone) < 1e-5, stage
    scores = [run["test"]["self_trained"]["metrics"]["nll"]["score"] for run in (one, two)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)


@pytest.mark.distributed
@pytest.mark.parametrize("pooling", ["auto", "first"])
def test_two_processes_read_embeddings_as_one(
    pooling: str, tiny_encoder: Path, tiny_task: Callable, tmp_path: Path
) -> None:
    """Guards a layer that is frozen while DDP waits for its gradients, a student that goes on from another, and processes that
    choose for themselves what they read."""
    task, more = tiny_task(tmp_path), ("--method", "auto", "--folds", "0", "--pooling", pooling)
    one = train(1, tmp_path / "one", task, tiny_encoder, *more)
    two = train(2, tmp_path / "two", task, tiny_encoder, *more)
    alone, shared = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("one", "two"))
    assert max((alone[name] - shared[name]).abs().max().item() for name in alone) < 1e-4
    scores = [run["test"]["self_trained"]["metrics"]["nll"]["score"] for run in (one, two)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)


@pytest.mark.distributed
@pytest.mark.parametrize(
    "more", [("--folds", "2", "--budget", "2h", "--method", "auto"), ("--dev", "dev.csv")], ids=["folds", "dev"]
)
def test_two_processes_compare_and_ship_as_one(
    tiny_encoder: Path, tiny_task: Callable, tmp_path: Path, more: tuple[str, ...]
) -> None:
    """Folds, a budget, and development rows: guards against a score that one process alone asks for, which waits for ever."""
    task = tiny_task(tmp_path)
    given = [str(task.dev) if word == "dev.csv" else word for word in more]
    if "--dev" in given:
        given += ["--method", "class-balanced"]
    given += ["--report-to", "tensorboard"]
    one = train(1, tmp_path / "one", task, tiny_encoder, *given)
    two = train(2, tmp_path / "two", task, tiny_encoder, *given)
    assert one["chosen"]["round"] == two["chosen"]["round"]
    alone, shared = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("one", "two"))
    assert max((alone[name] - shared[name]).abs().max().item() for name in alone) < 1e-4
    plans = [json.loads((tmp_path / name / "plan.json").read_text()) for name in ("one", "two")]
    assert plans[0]["stages"] == plans[1]["stages"], "one process decides, and tells the other"
    assert all((plan["seconds"] is not None) == ("--budget" in more) for plan in plans)
    assert (tmp_path / "two" / "report.html").exists()
    for file in sorted((tmp_path / "one" / "predictions").iterdir()):
        rows = [pq.read_table(tmp_path / name / "predictions" / file.name) for name in ("one", "two")]
        assert rows[0].column_names == rows[1].column_names
        assert rows[0]["text"].to_pylist() == rows[1]["text"].to_pylist(), "every row once, in the same order"
    assert [phase["name"] for phase in one["phases"]] == [phase["name"] for phase in two["phases"]]
    assert len({path.parent for path in (tmp_path / "two" / "logs").rglob("events.*")}) == 1, (
        "one process writes the logs"
    )


@pytest.mark.distributed
def test_two_processes_end_a_run_of_auto_with_folds_where_one_does(
    tiny_encoder: Path, tiny_task: Callable, tmp_path: Path
) -> None:
    """The whole default method, with AdamW: guards rounding that a regression or an order of rows blows up.

    Only the biases of the keys differ: they change no prediction, so that their gradients are rounding, and AdamW makes steps
    of it.
    """
    task = tiny_task(tmp_path)
    files = ["--labeled", task.labeled, "--unlabeled", task.unlabeled, "--test", task.test, "--encoder", tiny_encoder]
    given = [*("--folds", "2", "--dropout", "0", "--precision", "fp32", "--device", "cpu", "--batch-size", "12")]
    given += ["--method-args", "round_learning_rate=5e-3", "round_batch_size=24"]  # with them, the start is chosen
    one, two = tmp_path / "one", tmp_path / "two"
    for processes, output in ((1, one), (2, two)):
        launch(processes, ["-m", "sstext", "train", *files, "--output", output, *given])
    results = [json.loads((run / "results.json").read_text()) for run in (one, two)]
    assert results[0]["chosen"]["stage"] == results[1]["chosen"]["stage"] == "final", "every kind of stage has been run"
    assert [record["per_class"] for record in results[0]["rounds"]] == [
        record["per_class"] for record in results[1]["rounds"]
    ]
    compared = 0
    logits = [file for file in sorted(one.rglob("*.npy")) if file.parent.name != EMBEDDINGS]  # these have other names
    for file in logits:  # of the corpus, of held-out rows and of samples, of all students
        alone, shared = np.load(file), np.load(two / file.relative_to(one))
        assert softmax(alone) == pytest.approx(softmax(shared), abs=1e-6), file
        compared += 1
    assert compared >= 12
    for file in sorted((one / "predictions").iterdir()):
        tables = [pq.read_table(run / "predictions" / file.name) for run in (one, two)]
        for name in set(tables[0].column_names) - {"text", "label", "chain"}:
            alone, shared = (np.stack(table[name].to_pylist()) for table in tables)
            if alone.ndim == 2:  # logits, compared as the probabilities that they give, like those above
                alone, shared = softmax(alone), softmax(shared)
            assert alone == pytest.approx(shared, abs=1e-6), (file.name, name)
    assert results[0]["chosen"]["temperature"] == pytest.approx(results[1]["chosen"]["temperature"], rel=1e-6)
    assert results[0]["rounds"][1]["gain"] == pytest.approx(results[1]["rounds"][1]["gain"], abs=1e-6)


@pytest.fixture(scope="module")
def trained(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders in which one process and two have left every run of the job: all methods in one start."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    train_all(tiny_encoder, one)
    launch(2, [Path(__file__).with_name("distributed_job.py"), tiny_encoder, two])
    return one, two


@pytest.mark.distributed
@pytest.mark.parametrize("name", RUNS)
def test_two_processes_end_where_one_does(trained: tuple[Path, Path], name: str) -> None:
    """Weights, the objective's state and what is logged of three steps of SGD: guards against statistics of one process only,
    batch means with too little gradient to the own rows or too much, and rows that come twice."""
    alone, shared = (load_file(folder / f"{name}.safetensors") for folder in trained)
    assert alone.keys() == shared.keys()
    apart = {key: (alone[key].float() - shared[key].float()).abs().max().item() for key in alone}
    assert max(apart.values()) < 1e-5, max(apart, key=lambda key: apart[key])
    method, regularizers, arguments = RUNS[name]
    objective = build(method, SETTINGS[method] | arguments, regularizers)
    logged = {key for key, value in alone.items() if key.startswith("logged.loss_") and value.abs() > 1e-6}
    if not objective.plain:  # the canary: every loss has something to say, but Π-model's, which lives from dropout
        taught = objective.teacher is not None and name != "pi-model"
        assert len(logged) == 1 + taught + len(objective.regularizers)
    if "threshold" in inspect.signature(METHODS[method]).parameters:  # … and of every threshold, both sides are seen
        assert 0 < alone["logged.kept_share"] < 1


@pytest.mark.distributed
def test_all_processes_skip_the_same_step(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards processes whose weights drift apart, because only one of them has seen that a loss is infinite."""
    launch(2, [Path(__file__).with_name("skipping_job.py"), tiny_encoder, tmp_path])
    first, second = (json.loads((tmp_path / f"process-{number}.json").read_text()) for number in range(2))
    assert first == second
    assert first["skipped"] == 1
