"""Run folders as `sstext train` leaves them, made up within a second, for as many classes as a test wants."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset

from sstext.config.run_config import RunConfig
from sstext.data.doctor.finding import Finding, Place
from sstext.data.labeling_tasks import AT_RANDOM, LabelingTask, write_labeling_tasks
from sstext.evaluation.bootstrap import evaluate_predictions
from sstext.evaluation.calibration import softmax
from sstext.pseudolabels.selection import Selection
from sstext.pseudolabels.table import write_pseudo_labels
from sstext.reporting.run_files import RunFiles
from sstext.selftraining.record import StageRecord
from sstext.storage.run_folder import TO_LABEL, RunDirectory
from sstext.storage.whole import write_array_whole, write_whole

ATTACK = "<script>window.attacked = true</script> my card <img src=x onerror='window.attacked = true'>"
#: The stages of a run, by their position, and their folders.
STAGES = ("baseline", "round 1", "round 2")
FOLDERS = ("baseline", "round_1", "round_2")
#: Names that break careless figures and pages, before ordinary ones.
NAMES = (
    '<b>$x^2$ & "quoted" </svg>',
    "退款",
    "card_payment_wrong_exchange_rate_and_more",
    "#010103",
    "late\x1b[31m\x08\u202e\nnew",
)
CORPUS, TEST, TEMPERATURE = 300, 240, 2.0
WORDS = [
    "card",
    "top",
    "up",
    "pending",
    "refund",
    "exchange",
    "rate",
    "cash",
    "withdrawal",
    "transfer",
    "fee",
    "limit",
    "pin",
    "lost",
    "stolen",
    "late",
    "parcel",
]


def class_names(count: int) -> list[str]:
    """C different names, the awkward ones first."""
    return [*NAMES[:count], *(f"class_{place:02d}" for place in range(len(NAMES), count))][:count]


def as_version_0_1_left_it(run: Path) -> Path:
    """The same run as version 0.1 wrote it: every training is a round, and records do not name stages."""
    for chain in (run, run / "chain_1"):
        if (chain / "baseline").exists():
            (chain / "baseline").rename(chain / "round_0")
    if (run / "all_labels").exists():
        (run / "all_labels" / "final").rename(run / "all_labels" / "round_2")
    for file in (run / "results.json", run / "rounds.jsonl"):
        known = [json.loads(line) for line in ([file.read_text()] if file.suffix == ".json" else file.open())]
        for record in known if file.suffix == ".jsonl" else known[0]["rounds"]:
            del record["stage"], record["labeled_by"]
        write_whole(file, "".join(json.dumps(one) + "\n" for one in known))
    return run


def make_run(folder: Path, classes: int, *, folds: bool = True, seed: int = 0) -> Path:
    """A finished run of two rounds, round 2 chosen, with all files that a report reads; returns its folder."""
    rng = np.random.default_rng(seed)
    names = class_names(classes)
    rows = max(TEST, 4 * classes)
    labels = rng.integers(classes, size=rows)
    weak, strong = noisy_logits(labels, classes, rng, 3.0), noisy_logits(labels, classes, rng, 5.0)
    rounds = [round_record(index, names, folds) for index in range(3)]
    test = {
        name: evaluate_predictions(softmax(logits, TEMPERATURE), labels, names, resamples=200)
        for name, logits in (("supervised", weak), ("self_trained", strong))
    }
    results = {
        "chosen": {"round": 2, "why": "its out-of-fold log-loss is 0.100 ± 0.050 better", "temperature": TEMPERATURE},
        "method": "margin-history", "classes": names, "rows": {"labeled": 64, "unlabeled": CORPUS, "test": rows},
        "max_length": {"training": 32, "prediction": 64}, "rounds": rounds, "test": test,
        "versions": {"sstext": "0.1.0", "torch": "2.13.0"}, "seed": 3, "seconds": 100.0,
        "machine": {"device": "cpu", "name": "x86_64", "threads": 2, "precision": "fp32"},
        "phases": [{"name": "baseline: training", "seconds": 60.0}, {"name": "scoring", "seconds": 40.0}],
        "peak_memory_mib": {"process": 1234.5, "device": None},
    }  # fmt: skip
    write_whole(folder / "model" / "config.json", json.dumps({"sstext": {"precision_curve": [[0.9, 0.95, 0.5]]}}))
    directory = RunDirectory(folder)
    directory.write_results(results)
    write_whole(folder / "rounds.jsonl", "".join(json.dumps(record) + "\n" for record in rounds))
    write_whole(folder / "config.yaml", RunConfig(labeled="my.csv", unlabeled="corpus.jsonl", seed=3).to_yaml())
    texts = [ATTACK, *(" ".join(rng.choice(WORDS, 8)) + f" number {i}" for i in range(1, CORPUS))]
    write_corpus(folder / "data" / "unlabeled.arrow", texts)
    # A text that attacks is confused, so that it is shown, too.
    strong[0], strong[1] = strong[0] * 0, strong[1] * 0
    strong[0, (labels[0] + 1) % classes], strong[1, (labels[1] + 1) % classes] = 9.0, 9.0
    test_texts = [f"{ATTACK} tested", *(f"test text {i} {WORDS[i % len(WORDS)]}" for i in range(1, rows))]
    write_predictions(
        folder / "predictions" / "test.parquet", test_texts, [names[i] for i in labels],
        supervised=weak, final=strong / TEMPERATURE,
    )  # fmt: skip
    write_rounds(folder, names, rng, folds)
    write_checkup(directory.checkup, names)
    tasks = [
        LabelingTask(f"{ATTACK} to label", AT_RANDOM, names[0], 0.4),
        LabelingTask("late", "unsure", names[1], 0.5),
    ]
    write_labeling_tasks(folder / TO_LABEL, tasks)
    return folder


def write_checkup(path: Path, names: list[str]) -> None:
    """A class without a test row, and a leak."""
    leak = [Place("test", "row 3", f"{ATTACK} leaked", names[0]), Place("labeled", "row 1", "my card", names[0])]
    finding = Finding("leak", "test", 1, "1 of 240 texts is a leak", "leave it out", [leak])
    content = {
        "rows": {"labeled": {"all": 64, "checked": 64}, "unlabeled": {"all": 30_000, "checked": 20_000}},
        "classes": {"labeled": dict.fromkeys(names, 8), "test": dict.fromkeys(names[1:], 30) | {names[0]: 0}},
        "findings": [finding.record()],
    }
    write_whole(path, json.dumps(content))


def noisy_logits(labels: np.ndarray, classes: int, rng: np.random.Generator, margin: float) -> np.ndarray:
    """Logits (N, C) that are mostly right, and wrong most often by one class."""
    logits = rng.normal(size=(len(labels), classes))
    logits[np.arange(len(labels)), labels] += margin
    logits[np.arange(len(labels)), (labels + 1) % classes] += margin / 2
    return logits


def round_record(index: int, names: list[str], folds: bool) -> dict[str, Any]:
    """A record as rounds.jsonl has it."""
    kept, share = (0, 60, 90)[index], 1 / len(names)
    quality = {"accuracy": 0.6 + 0.05 * index, "macro_f1": 0.58 + 0.05 * index}
    record = StageRecord(
        stage=STAGES[index], labeled_by=(None, "head and probe", "head")[index], index=index,
        admitted=kept, coverage=kept / CORPUS, per_class={name: round(kept * share) for name in names},
        audit_precision=0.8 if kept else None, temperature=TEMPERATURE, agreement=0.7 if kept else None,
        metrics={} if folds else quality, steps=120, seconds=30.0,
        stopped_because="all rounds are done" if index == 2 else None,
        estimated_precision=0.83 if kept and folds else None,
        out_of_fold=quality | {"log_loss": 1.2 - 0.1 * index} if folds else {},
        gain={"observed": 0.1, "standard_error": 0.05, "expected": 0.09} if folds and index else None,
        class_shares=dict.fromkeys(names, share) if folds else {}, chain_agreement=0.8 if folds else None,
    )  # fmt: skip
    return asdict(record)


def write_rounds(folder: Path, names: list[str], rng: np.random.Generator, folds: bool) -> None:
    """Logs, scores and pseudo-labels of the rounds, and of the last student."""
    chain, C = folder / "chain_1" if folds else folder, len(names)
    truth = np.arange(CORPUS) % C
    for index in range(3):
        scores = noisy_logits(truth, C, rng, 3.0 + index).astype(np.float32)
        scores[0] = 9 * (np.arange(C) == (0 if index < 2 else 1))  # the text that attacks is kept, then flips
        write_array_whole(chain / FOLDERS[index] / "scores.npy", scores)
        losses = [
            {"loss": 2.0 / step, "loss_labeled": 1.5 / step, "loss_unlabeled": 0.5 / step, "step": 10 * step}
            for step in range(1, 13)
        ]
        write_whole(chain / FOLDERS[index] / "log.jsonl", "".join(json.dumps(line) + "\n" for line in losses))
        if index:
            write_kept(chain / FOLDERS[index] / "pseudo_labels.parquet", scores, names, index)
    if folds:
        write_array_whole(folder / "all_labels" / "averaged.npy", np.log(softmax(scores, TEMPERATURE)))
        write_kept(folder / "all_labels" / "final" / "pseudo_labels.parquet", scores, names, 2)


def write_kept(path: Path, scores: np.ndarray, names: list[str], index: int) -> None:
    """The 90 surest rows of the corpus as pseudo-labels."""
    rows = np.sort(np.argsort(-softmax(scores).max(-1), kind="stable")[:90])
    labels, confidence = scores[rows].argmax(-1), softmax(scores[rows]).max(-1)
    kept = Selection(rows=rows, labels=labels, confidence=confidence, weight=np.ones(len(rows)), targets=None)
    corpus = Dataset.from_dict({"row": list(range(len(scores)))})
    write_pseudo_labels(path, kept, corpus=corpus, classes=names, index=index)


def write_corpus(path: Path, texts: list[str]) -> None:
    """As `datasets` writes it: an Arrow stream of several batches."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"text": texts, "row": list(range(len(texts)))})
    with pa.ipc.new_stream(str(path), table.schema) as stream:
        stream.write_table(table, max_chunksize=100)


def write_predictions(path: Path, texts: list[str], labels: list[str], **logits: np.ndarray) -> None:
    """Predictions for labeled rows, a list of C logits per model."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {name: pa.array(list(values.astype(np.float32))) for name, values in logits.items()}
    pq.write_table(pa.table({"text": texts, "label": labels} | columns), path)


def run_of(records: list[dict[str, Any]], round: int, why: str, **results: Any) -> RunFiles:
    """A finished run with these records, of which a round was chosen. Nothing is on disk."""
    chosen = {"round": round, "why": why}
    return RunFiles(Path(), {"classes": class_names(2), "rounds": records, "chosen": chosen} | results, True)


#: Records of three stages, with an audit.
RECORDS = [round_record(index, class_names(2), True) for index in range(3)]
