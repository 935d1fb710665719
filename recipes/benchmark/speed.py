"""Speed of scoring, training and start-up as ratios, measured in one run.

python recipes/benchmark/speed.py TEXTS [--of scoring training startup] [--precision bf16] [--rows N] [--steps N]
                                  [--repeats N] [--output FILE]

TEXTS is a file with the columns text and label (parquet, csv or jsonl). All jobs of a group are run in turn, and this is
repeated, so that other work on the machine slows all of them. The median of the repeats counts. Ratios can be compared
between machines; seconds cannot.

The references are what people write without sstext: the pipeline and the `Trainer` of transformers, and a loop for FixMatch.
The ceiling is the same model on as many tokens in batches of rows of one length, with the tokens ready. No scorer can be much
faster with this model on this machine.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from commit import commit
from datasets import Dataset
from rich.console import Console
from rich.table import Table
from torch.nn import functional as F
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    pipeline,
)

from sstext import Classifier, SemiSupervisedTrainer, SemiSupervisedTrainingArguments, encoder_path
from sstext.data.loading import load_labeled
from sstext.inference.devices import calm_libraries, resolve_device

#: Tokens of a text that are read, and rows of a batch of the pipeline.
MAX_LENGTH, PIPELINE_ROWS = 256, 32
#: Tokens of a batch of the ceiling.
CEILING_TOKENS = 4_096
#: Labeled and unlabeled rows of a step, and the threshold of FixMatch.
LABELED, UNLABELED, THRESHOLD = 16, 32, 0.95

Jobs = dict[str, Callable[[], object]]
#: Group → its jobs, and the job that all others are compared with.
GROUPS: dict[str, str] = {"scoring": "sstext", "training": "Trainer", "startup": "import and load"}
#: Beside the median: ratios that are wanted, as (group, job, other job): seconds of the job ÷ seconds of the other one.
WANTED = (
    ("scoring", "ceiling", "sstext", "sstext ÷ ceiling, texts per second"),
    ("scoring", "pipeline, sorted", "sstext", "sstext ÷ sorted pipeline, texts per second"),
    ("training", "sstext supervised", "Trainer", "supervised step ÷ Trainer's, seconds"),
    ("training", "FixMatch loop", "sstext fixmatch", "sstext's FixMatch ÷ the loop, steps per second, no row kept"),
    ("training", "FixMatch loop", "fixmatch, all rows kept", "the same, all rows kept"),
    ("startup", "sstext predict", "import and load", "predict of one text ÷ import and load, seconds"),
)


def scoring(texts: list[str], model: str, precision: str) -> Jobs:
    """Predict all texts with a classifier in several ways.

    Args:
        precision: fp32 or bf16. The pipeline then has weights in bfloat16, the others autocast.
    """
    ours = Classifier.from_pretrained(model, precision=precision)
    device, half = resolve_device(), precision == "bf16"
    dtype = torch.bfloat16 if half else torch.float32
    pipe = pipeline("text-classification", model, device=device, dtype=dtype, truncation=True, max_length=MAX_LENGTH)
    plain = AutoModelForSequenceClassification.from_pretrained(model).eval().to(device)
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokens = sorted(tokenizer(texts, truncation=True, max_length=MAX_LENGTH)["input_ids"], key=len)
    by_length = sorted(texts, key=len)

    @torch.inference_mode()
    def ceiling() -> None:
        start = 0
        while start < len(tokens):
            rows = tokens[start : start + max(1, CEILING_TOKENS // len(tokens[start]))]
            length = round(statistics.mean(map(len, rows)))  # as many tokens as the texts have, without padding
            ids = torch.tensor([(row * 2 * length)[:length] for row in rows], device=device)
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                plain(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.cpu()
            start += len(rows)

    return {
        "sstext": lambda: ours.predict_proba(texts),
        "pipeline": lambda: list(pipe(texts, batch_size=PIPELINE_ROWS)),
        "pipeline, sorted": lambda: list(pipe(by_length, batch_size=PIPELINE_ROWS)),
        "ceiling": ceiling,
    }


def training(texts: list[str], labels: list[int], classes: int, steps: int) -> Jobs:
    """Take some optimizer steps on the same rows in several ways."""
    encoder = encoder_path("demo")
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    ids = tokenizer(texts, truncation=True, max_length=64)["input_ids"]
    labeled = Dataset.from_dict({"input_ids": ids[:64], "labels": labels[:64]})
    unlabeled = Dataset.from_dict({"input_ids": ids[64:]})

    def student() -> Any:
        return AutoModelForSequenceClassification.from_pretrained(encoder, num_labels=classes)

    def common(folder: str) -> dict[str, Any]:
        return {
            "output_dir": folder, "max_steps": steps, "per_device_train_batch_size": LABELED, "learning_rate": 1e-4,
            "report_to": "none", "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True,
        }  # fmt: skip

    def plain() -> None:
        with tempfile.TemporaryDirectory() as folder:
            Trainer(
                student(), TrainingArguments(**common(folder)), train_dataset=labeled, processing_class=tokenizer,
                data_collator=DataCollatorWithPadding(tokenizer),
            ).train()  # fmt: skip

    def ours(method: str, **given: float) -> None:
        with tempfile.TemporaryDirectory() as folder:
            more = {} if method == "supervised" else {"unlabeled_dataset": unlabeled}
            arguments = SemiSupervisedTrainingArguments(
                **common(folder), method=method, method_args=given, unlabeled_batch_ratio=UNLABELED // LABELED
            )
            SemiSupervisedTrainer(
                student(), arguments, train_dataset=labeled, processing_class=tokenizer, **more
            ).train()  # fmt: skip

    return {
        "Trainer": plain,
        "sstext supervised": lambda: ours("supervised"),
        "FixMatch loop": lambda: fixmatch_loop(student(), tokenizer, labeled, unlabeled, steps),
        "sstext fixmatch": lambda: ours("fixmatch", threshold=THRESHOLD),  # a new head is never so confident
        "fixmatch, all rows kept": lambda: ours("fixmatch", threshold=0.0),
    }


def fixmatch_loop(model: Any, tokenizer: Any, labeled: Dataset, unlabeled: Dataset, steps: int) -> None:
    """FixMatch as one writes it in ten minutes: three passes a step, each padded on its own."""
    device = resolve_device()
    model = model.to(device).train()
    optimizer, rng = torch.optim.AdamW(model.parameters(), lr=1e-4), np.random.default_rng(0)

    def batch(rows: Dataset, chosen: np.ndarray) -> Any:
        return tokenizer.pad({"input_ids": rows[chosen.tolist()]["input_ids"]}, return_tensors="pt").to(device)

    for _ in range(steps):
        own, other = rng.choice(len(labeled), LABELED), rng.choice(len(unlabeled), UNLABELED)
        weak = batch(unlabeled, other)
        strong = {name: values.clone() for name, values in weak.items()}
        masked = (torch.rand(strong["input_ids"].shape, device=device) < 0.15) & (strong["attention_mask"] > 0)
        strong["input_ids"][masked] = tokenizer.mask_token_id
        with torch.no_grad():
            confidence, targets = model(**weak).logits.softmax(-1).max(-1)
        labels = torch.tensor(labeled[own.tolist()]["labels"], device=device)
        consistency = F.cross_entropy(model(**strong).logits, targets, reduction="none")
        loss = F.cross_entropy(model(**batch(labeled, own)).logits, labels)
        loss = loss + ((confidence > THRESHOLD) * consistency).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def startup(text: str, model: str, folder: str) -> Jobs:
    """Start Python, and answer: help, one prediction, and what is needed for a prediction in any case."""
    file = Path(folder) / "one.csv"
    file.write_text(f"text\n{json.dumps(text)}\n", encoding="utf-8")
    load = f"import transformers; transformers.AutoModelForSequenceClassification.from_pretrained({model!r})"

    def run(*command: str) -> None:
        subprocess.run([sys.executable, *command], check=True, capture_output=True)

    def predict() -> None:
        run("-m", "sstext", "predict", model, str(file), "--output", str(file.with_name("predictions.csv")))

    return {
        "import and load": lambda: run("-c", load),
        "sstext predict": predict,
        "sstext --help": lambda: run("-m", "sstext", "--help"),
    }


def measured(jobs: Jobs, repeats: int) -> dict[str, list[float]]:
    """Seconds of every job, in all repeats. The jobs are run in turn, after each has been run once without a clock."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for repeat in range(-1, repeats):
        for name, job in jobs.items():
            began = time.perf_counter()
            job()
            if repeat >= 0:
                seconds[name].append(round(time.perf_counter() - began, 4))
    return seconds


@contextmanager
def a_classifier(classes: int) -> Iterator[str]:
    """The folder of a classifier with the packaged encoder and a new head."""
    with tempfile.TemporaryDirectory() as folder:
        encoder = encoder_path("demo")
        AutoModelForSequenceClassification.from_pretrained(encoder, num_labels=classes).save_pretrained(folder)
        AutoTokenizer.from_pretrained(encoder).save_pretrained(folder)
        yield folder


def ratios(medians: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The ratios that are wanted, of the groups that were measured.

    >>> ratios({"startup": {"import and load": 4.0, "sstext predict": 5.0, "sstext --help": 0.2}})
    {'predict of one text ÷ import and load, seconds': 1.25}
    """
    return {
        words: medians[group][job] / medians[group][other] for group, job, other, words in WANTED if group in medians
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", metavar="TEXTS")
    parser.add_argument("--of", nargs="+", choices=GROUPS, default=list(GROUPS), help="Default: all.")
    parser.add_argument("--rows", type=int, default=600, help="Texts that are scored (default: 600).")
    parser.add_argument(
        "--precision", choices=("fp32", "bf16"), default="fp32", help="Precision of scoring (default: fp32)."
    )
    parser.add_argument("--steps", type=int, default=20, help="Optimizer steps of a training (default: 20).")
    parser.add_argument("--repeats", type=int, default=5, help="Times that every job is run (default: 5).")
    parser.add_argument("--output", type=Path, help="Append the result to this file, as a line of JSON.")
    asked = parser.parse_args()
    calm_libraries()
    read = load_labeled(asked.texts)
    rows = read.texts.shuffle(seed=0).select(range(min(len(read.texts), max(asked.rows, 64 + UNLABELED))))
    texts, labels, classes = rows["text"][:], rows["label"][:], len(read.classes)
    load, seconds = os.getloadavg()[0], dict[str, dict[str, list[float]]]()
    with a_classifier(classes) as model, tempfile.TemporaryDirectory() as folder:
        makers: dict[str, Callable[[], Jobs]] = {
            "scoring": lambda: scoring(texts[: asked.rows], model, asked.precision),
            "training": lambda: training(texts, labels, classes, asked.steps),
            "startup": lambda: startup(texts[0], model, folder),
        }
        for group in asked.of:
            seconds[group] = measured(makers[group](), asked.repeats)
    medians = {group: {name: statistics.median(all_) for name, all_ in jobs.items()} for group, jobs in seconds.items()}
    line = {
        "commit": commit(), "torch": torch.__version__, "transformers": transformers.__version__,
        "device": str(resolve_device()), "cores": os.cpu_count(), "threads": torch.get_num_threads(),
        "load_before": round(load, 2), "load_after": round(os.getloadavg()[0], 2), "rows": asked.rows, "steps": asked.steps,
        "precision": asked.precision,
        "seconds": seconds,
        "ratios": {words: round(value, 3) for words, value in ratios(medians).items()},
    }  # fmt: skip
    show(medians, line)
    if asked.output:
        with asked.output.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def show(medians: Mapping[str, Mapping[str, float]], line: Mapping[str, Any]) -> None:
    """Print the medians of all jobs, each beside the job that it is compared with, and the ratios that are wanted."""
    console = Console()
    for group, jobs in medians.items():
        table = Table("job", "seconds (median)", f"÷ {GROUPS[group]}", title=group)
        for name, median in jobs.items():
            table.add_row(name, f"{median:.3f}", f"{median / jobs[GROUPS[group]]:.2f}")
        console.print(table)
    for words, value in line["ratios"].items():
        console.print(f"{words}: {value:.2f}")
    console.print(
        f"{line['device']}, {line['threads']} threads, {line['cores']} cores; load average {line['load_before']} before, "
        f"{line['load_after']} after; commit {line['commit']}"
    )


if __name__ == "__main__":
    main()
