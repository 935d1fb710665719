"""The pseudo-labels that a model learned from as a data set for the Hub: parquet, and a card that says what they are."""

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from huggingface_hub import DatasetCard, DatasetCardData

from sstext.errors import UserError
from sstext.hub.card import table
from sstext.storage.run_folder import ALL_LABELS, PSEUDO_LABELS, RunDirectory

#: The data set's only file of rows; `load_dataset` takes the split from its name.
ROWS, CARD = "train.parquet", "README.md"


def pseudo_label_files(folder: Path, *, model: str) -> dict[str, bytes]:
    """The files of the data set, by name: the rows that the chosen model was trained on beside the labels, each once.

    Columns: `text`, `label` (the most probable class, also where the model learned from the probabilities of all), `confidence`
    (of the label, 0 … 1), `weight` (in the training), `round` (that trained on it).

    Args:
        folder: of a finished run.
        model: `user/name` of the model that learned from them, for the card.

    Raises:
        UserError: the model learned from labels alone, or the run's private files are gone.
    """
    found = pq.read_table(_chosen(folder))
    _, first = _first_of_each(found["position"])
    found = found.take(first)
    if not len(found):
        raise UserError(
            f"{folder}: no pseudo-label was sure enough to be learned from, so that there is none to publish"
        )
    corpus = folder / "data" / "unlabeled.arrow"
    if not corpus.is_file():
        raise UserError(
            f"{folder}: the texts ({corpus.relative_to(folder)}) are gone, without which labels mean nothing"
        )
    with pa.memory_map(str(corpus)) as source:
        corpus_texts = pa.ipc.open_stream(source).read_all()["text"]
        texts, total = corpus_texts.take(found["position"]), len(corpus_texts)
    counts = corpus.with_suffix(".json")
    left = json.loads(counts.read_text(encoding="utf-8")).get("left", 0) if counts.is_file() else 0
    columns = {"text": texts, "label": found["label"].cast(pa.string())}
    rows = pa.table(columns | {name: found[name] for name in ("confidence", "weight", "round")})
    parquet = io.BytesIO()
    pq.write_table(rows, parquet, compression="zstd")
    return {
        ROWS: parquet.getvalue(),
        CARD: card(rows, model, total=total, left=left, soft="target" in found.column_names).encode(),
    }


def _chosen(folder: Path) -> Path:
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
        file = rounds[-1] if rounds else cross_fitted / "none"
    else:
        file = run.stage(stage) / PSEUDO_LABELS
    if not file.is_file():
        raise UserError(
            f"{folder}: the model of {stage} learned from no pseudo-labels, or the private files of the run are gone; "
            "leave out --push-pseudo-labels"
        )
    return file


def _first_of_each(positions: pa.ChunkedArray) -> tuple[pa.Array, pa.Array]:
    """Distinct positions, and the index of the first row that has each: a row that joined several times is one row."""
    numbered = pa.table({"position": positions, "index": pa.array(range(len(positions)), pa.int64())})
    firsts = numbered.group_by("position").aggregate([("index", "min")]).sort_by("index_min")
    return firsts["position"], firsts["index_min"]


def card(rows: pa.Table, model: str, *, total: int, soft: bool, left: int = 0) -> str:
    """The README.md of the data set: counts and shares, no text.

    Args:
        rows: of the data set.
        model: `user/name` of the model that learned from them.
        total: texts in the corpus, or in the part of it that was drawn at random.
        left: texts of the corpus that were not drawn.
        soft: whether it learned from the probabilities of all classes.
    """
    counts = sorted(rows["label"].value_counts().to_pylist(), key=lambda entry: entry["values"])
    classes = table(("class", "rows"), ((entry["values"], f"{entry['counts']:,}") for entry in counts))
    sure = pc.mean(rows["confidence"]).as_py()
    learned = "It learned from these labels as they are."
    if soft:
        learned = "It learned from the probabilities of all classes; only the most probable one is published."
    whole = "No text of the corpus is missing: those of which that model was unsure are here, too."
    if len(rows) < total:
        whole = (
            f"{total - len(rows):,} of the corpus's {total:,} texts were not learned from, as a rule those of which that\n"
            "model was less sure, and are missing: neither the shares of the classes nor the kinds of texts are the corpus's."
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

**The labels are a model's guesses, nobody has checked them.** These are {len(rows):,} texts of an unlabeled corpus that
[{model}](https://huggingface.co/{model}) learned from, each with the class that the model before it found most probable. Some
are wrong; their mean confidence is {sure:.1%}, which is no measurement. Do not evaluate on these rows.

{learned}

{whole}

| column | |
| --- | --- |
| `text` | as it stood in the corpus |
| `label` | the predicted class |
| `confidence` | estimated probability of that class |
| `weight` | how much the row counted in the training |
| `round` | of self-training that trained on it |

{classes}

Made with `sstext`.
"""
        )
    )
