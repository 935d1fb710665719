"""The model card: what a stranger needs to know who finds the model's folder, or finds it on the Hub.

The card is made of counts, shares and scores that are handed in. No training text, no file and no path of the machine
gets into it, so that it may go wherever the model goes.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

#: `demo` is a packaged copy of this encoder.
DEMO_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"

#: metric → {"score": float, "confidence_interval": (low, high) or None}
Metrics = Mapping[str, Mapping[str, Any]]

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
_NONE = "–"


def model_card(
    *,
    classes: Sequence[str],
    encoder: str,
    max_length: int,
    rows: Mapping[str, int],
    rounds: Sequence[Mapping[str, Any]],
    results: Mapping[str, Metrics] | None,
    chosen: str,
    license: str | None = None,
    self_trained: bool = True,
    method: str | None = None,
    citation: str | None = None,
) -> str:
    """The README.md of a trained model, in the format of Hub model cards: YAML front matter, then Markdown.

    Args:
        classes: names of the C classes, in the order of the logits.
        encoder: what was fine-tuned; named only where it is a Hub name (or `demo`), never where it is a folder.
        max_length: tokens of a text that the model reads, special tokens included.
        rows: kind → number of rows, for example {"labeled": 64, "unlabeled": 1136}.
        rounds: a record per round, of which "index", "admitted" (rows) and "coverage" (share of the corpus, 0 … 1) are
            read. Everything else in a record stays out of the card.
        results: what was measured → metric → {"score", "confidence_interval"}; None: nothing was measured.
        chosen: which model this is, and why, for example "round 2, the best on the development rows".
        license: the Hub's identifier of a license; None: none is stated.
        self_trained: whether it learned from pseudo-labels.
        method: its name, arguments and further losses, for example "fixmatch (threshold=0.9) + entropy 0.1"; None: none.
        citation: the method's paper; None: it has none.

    >>> measured = {"test": {"accuracy": {"score": 0.9, "confidence_interval": (0.8, 0.95)}}}
    >>> card = model_card(classes=["no", "yes"], encoder="demo", max_length=64, rows={"labeled": 8}, rounds=[],
    ...                   results=measured, chosen="round 0")
    >>> "| test | 0.900 (0.800 to 0.950) |" in card
    True
    """
    base_model = hub_name(encoder)
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=["sstext", *(["semi-supervised", "self-training"] if self_trained else [])],
        base_model=base_model,
        license=license,
    )
    sections = [
        _summary(classes, base_model, chosen, self_trained),
        _how_to_use(max_length),
        "## Classes\n\n" + ", ".join(f"`{_line(name)}`" for name in classes),
        _training(rows, rounds, method, citation),
        _results(results),
        _limits(max_length, self_trained),
    ]
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(sections) + "\n"))


def hub_name(encoder: str) -> str | None:
    """The Hub name of an encoder, None for a folder: a machine's path tells strangers nothing, or too much.

    >>> hub_name("microsoft/deberta-v3-small"), hub_name("/home/ada/encoder"), hub_name("demo")
    ('microsoft/deberta-v3-small', None, 'sentence-transformers/all-MiniLM-L6-v2')
    """
    if encoder == "demo":
        return DEMO_ENCODER
    return encoder if _HUB_NAME.fullmatch(encoder) and not Path(encoder).exists() else None


def _summary(classes: Sequence[str], base_model: str | None, chosen: str, self_trained: bool) -> str:
    origin = f"[{base_model}](https://huggingface.co/{base_model})" if base_model else "a local encoder"
    how = "fine-tuned on labeled texts."
    if self_trained:
        how = (
            "fine-tuned on labeled texts, then, round by round, also on those unlabeled texts whose predicted label seemed\n"
            "safe enough to learn from."
        )
    return f"""# Text classifier with {len(classes)} classes

Made with `sstext` from {origin}:
{how}

Chosen: {_line(chosen).rstrip(".")}."""


def _how_to_use(max_length: int) -> str:
    return f"""## How to use

With plain `transformers`:

```python
from transformers import pipeline

classify = pipeline("text-classification", "<this folder>")
classify("a text", truncation=True, max_length={max_length})
```

A pipeline does not truncate on its own: without `truncation=True, max_length={max_length}` a text beyond the encoder's
limit raises an error.

With `sstext`, which truncates by itself and is made for many texts:

```bash
sstext predict "<this folder>" texts.csv --output predictions.csv
```

```python
from sstext import Classifier

classifier = Classifier.from_pretrained("<this folder>", max_length={max_length})
classifier.predict(["a text", "another text"])
```"""


def _training(
    rows: Mapping[str, int], rounds: Sequence[Mapping[str, Any]], method: str | None, citation: str | None
) -> str:
    counts = ", ".join(f"{count:,} {_line(name)}" for name, count in rows.items()) or _NONE
    section = f"## Training\n\nRows: {counts}. The texts themselves are not part of this folder."
    if method:
        section += f"\n\nMethod: `{_line(method)}`."
        section += f" Source: {_line(citation).rstrip('.')}." if citation else ""
    if not rounds:
        return section
    lines = [(record["index"], f"{record['admitted']:,}", f"{record['coverage']:.1%}") for record in rounds]
    return f"{section}\n\n{_table(('round', 'unlabeled rows kept', 'coverage'), lines)}"


def _results(results: Mapping[str, Metrics] | None) -> str:
    if not results:
        return "## Results\n\nNothing was measured: no test rows were given."
    names = list(dict.fromkeys(name for metrics in results.values() for name in metrics))
    lines = [(measured, *(_score(metrics.get(name)) for name in names)) for measured, metrics in results.items()]
    note = "In parentheses: 95 % intervals over the rows measured on, where they were computed."
    return f"## Results\n\n{_table(('', *names), lines)}\n\n{note}"


def _limits(max_length: int, self_trained: bool) -> str:
    own = "It was trained on few labeled texts, and repeats their errors and biases, and those of the encoder."
    if self_trained:
        own = (
            "Part of the training labels are a model's own predictions: errors and biases of the encoder and of the labeled\n"
            "  rows are repeated in them."
        )
    return f"""## Limits

- It always answers with one of the classes above, also for a text that belongs to none of them.
- Of a longer text, only the first {max_length} tokens are read.
- {own} Measure on your own labeled rows before anything that matters depends on it.
- Scores and intervals hold for texts like those measured on; they say nothing about other sources or later times."""


def _score(result: Mapping[str, Any] | None) -> str:
    if result is None or result.get("score") is None:
        return _NONE
    interval = result.get("confidence_interval")
    return f"{result['score']:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval is not None else "")


def _table(header: Iterable[Any], lines: Iterable[Iterable[Any]]) -> str:
    """A Markdown table; a bar inside a cell would open a new column."""
    rows = [[_line(cell).replace("|", r"\|") for cell in row] for row in (header, *lines)]
    rows.insert(1, ["---"] * len(rows[0]))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _line(value: Any) -> str:
    """A value without line breaks, which would end a Markdown table, list or code span."""
    return " ".join(str(value).split())
