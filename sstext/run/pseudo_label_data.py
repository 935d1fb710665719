"""The pseudo-labels of a model's training as a data set for the Hub: a parquet file and a card."""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from huggingface_hub import DatasetCard, DatasetCardData

from sstext.errors import UserError
from sstext.hub.markdown import table
from sstext.storage.damage import read_json, reading
from sstext.storage.run_folder import ALL_LABELS, FINAL, PSEUDO_LABELS, RunDirectory

#: The only data file of the data set. `load_dataset` takes the split from its name.
ROWS, CARD = "train.parquet", "README.md"


def pseudo_label_files(folder: Path, *, model: str) -> dict[str, bytes]:
    """The files of the data set, by name. Each pseudo-labeled row of the chosen model's training is in it once.

    Columns: `text`, `label` (the most probable class, even if the model learned from all probabilities), `confidence`
    (of the label, 0 … 1), `weight` (in training), `round` (position of the stage that trained on the row).

    Args:
        folder: folder of a finished run.
        model: `user/name` of the model that learned from these labels, for the card.

    Raises:
        UserError: if the model learned only from labels, or the run's private files were deleted.
    """
    file = _chosen_file(folder)
    with reading(file):
        found = pq.read_table(file)
    _, first = _first_occurrences(found["position"])
    found = found.take(first)
    if not len(found):
        raise UserError(
            f"{folder}: no pseudo-label was confident enough for training, so there are none to publish; leave out "
            "--push-pseudo-labels"
        )
    corpus = RunDirectory(folder).corpus
    if not corpus.is_file():
        raise UserError(
            f"{folder}: the texts of the pseudo-labels ({corpus.relative_to(folder)}) were deleted; leave out "
            "--push-pseudo-labels, or repeat the run"
        )
    with reading(corpus), pa.memory_map(str(corpus)) as source:
        corpus_texts = pa.ipc.open_stream(source).read_all()["text"]
        texts, total = corpus_texts.take(found["position"]), len(corpus_texts)
    counts = corpus.with_suffix(".json")
    left = (read_json(counts) or {}).get("left", 0)
    columns = {"text": texts, "label": found["label"].cast(pa.string())}
    rows = pa.table(columns | {name: found[name] for name in ("confidence", "weight", "round")})
    parquet = io.BytesIO()
    pq.write_table(rows, parquet, compression="zstd")
    return {
        ROWS: parquet.getvalue(),
        CARD: card(rows, model, total=total, left=left, soft="target" in found.column_names).encode(),
    }


def _chosen_file(folder: Path) -> Path:
    """The file of the pseudo-labels that the model in `model/` was trained on."""
    run = RunDirectory(folder)
    if not run.results.is_file():
        raise UserError(
            f"{folder}: only the folder of a finished run has pseudo-labels; leave out --push-pseudo-labels"
        )
    cross_fitted = folder / ALL_LABELS
    chosen = run.read_results()["chosen"]
    stage = chosen.get("stage") or f"round {chosen['round']}"
    if cross_fitted.is_dir():  # the final model, which learned from the averaged labels of the chains
        rounds = sorted(cross_fitted.glob(f"*/{PSEUDO_LABELS}"))
        own = cross_fitted / str(
            chosen.get("model")
        )  # if the final model was refused, one of its teachers is the model
        file = rounds[-1] if rounds and not (own.is_dir() and own.name != FINAL) else cross_fitted / "none"
    else:
        file = run.stage(stage) / PSEUDO_LABELS
    if not file.is_file():
        raise UserError(
            f"{folder}: the model of {stage} learned from no pseudo-labels, or the private files of the run "
            "were deleted; leave out --push-pseudo-labels"
        )
    return file


def _first_occurrences(positions: pa.ChunkedArray) -> tuple[pa.Array, pa.Array]:
    """Distinct positions, and the index of the first row with each position. Repeated rows count once."""
    numbered = pa.table({"position": positions, "index": pa.array(range(len(positions)), pa.int64())})
    firsts = numbered.group_by("position").aggregate([("index", "min")]).sort_by("index_min")
    return firsts["position"], firsts["index_min"]


def card(rows: pa.Table, model: str, *, total: int, soft: bool, left: int = 0) -> str:
    """The README.md of the data set. It contains counts and shares, but no text.

    Args:
        rows: rows of the data set.
        model: `user/name` of the model that learned from them.
        total: number of texts in the corpus, or in its random part if only a part was read.
        soft: whether the model learned from the probabilities of all classes.
        left: number of texts of the corpus that were not read.
    """
    counts = sorted(rows["label"].value_counts().to_pylist(), key=lambda entry: entry["values"])
    classes = table(("class", "rows"), ((entry["values"], f"{entry['counts']:,}") for entry in counts))
    sure = pc.mean(rows["confidence"]).as_py()
    learned = "The model learned from exactly these labels."
    if soft:
        learned = "The model learned from the probabilities of all classes. Only the most probable class is published."
    whole = "The data set contains all texts of the corpus, including those with low confidence."
    if len(rows) < total:
        whole = (
            f"{total - len(rows):,} of the {total:,} texts of the corpus were not used for training and are missing,\n"
            "usually those with lower confidence. This data set is therefore not representative of the corpus."
        )
    if left:
        whole = f"The corpus is a random part of a larger one, whose other {left:,} texts were not read.\n{whole}"
    data = DatasetCardData(task_categories=["text-classification"], tags=["sstext", "pseudo-labels"])
    return str(
        DatasetCard(
            f"""---
{data.to_yaml()}
---

# Pseudo-labels of {model}

**The labels are predictions of a model. They were not checked.** These are {len(rows):,} texts of an unlabeled corpus
that [{model}](https://huggingface.co/{model}) was trained on. Each label is the most probable class according to an
earlier model. Some labels are wrong. Their mean confidence is {sure:.1%}, which is an estimate and was not measured. Do
not evaluate models on these rows.

{learned}

{whole}

| column | |
| --- | --- |
| `text` | the unchanged text of the corpus |
| `label` | the predicted class |
| `confidence` | estimated probability of that class |
| `weight` | weight of the row in training |
| `round` | position of the stage that was trained on the row: 0 is the first one |

{classes}

Made with `sstext`.
"""
        )
    )
