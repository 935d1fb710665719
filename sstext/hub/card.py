"""The model card: what a stranger needs to know who finds the model's folder, or finds it on the Hub.

The card is made of counts, shares and scores that are handed in. No training text, no file and no path of the machine
gets into it, so that it may go wherever the model goes.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

#: `demo` is a packaged copy of this encoder.
DEMO_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"


#: How a card calls the model as long as it has no name on the Hub.
THIS_FOLDER = "<this folder>"


#: Our metrics as the Hub calls them, and what is to be known about them.
HUB_METRICS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "macro_f1": ("f1", {"average": "macro"}),
    "brier": ("brier_score", {}),
}


#: metric → {"score": float, "confidence_interval": (low, high) or None}
Metrics = Mapping[str, Mapping[str, Any]]


#: Among the counts of rows: unlabeled texts that nobody reads, because no training has room for them.
LEFT_OUT = "unlabeled_left_out"


#: Coverage from which on every unlabeled row counts as kept.
WHOLE = 0.9995


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
    chosen: str | None,
    license: str | None = None,
    self_trained: bool = True,
    method: str | None = None,
    citation: str | None = None,
    of_this_model: str | None = None,
    test_data: tuple[str, str] | None = None,
    measured_on: str = "held-out test rows",
    calibration: str | None = None,
    datasets: Sequence[str] = (),
) -> str:
    """The README.md of a trained model, in the format of Hub model cards: YAML front matter, then Markdown.

    Args:
        classes: names of the C classes, in the order of the logits.
        encoder: what was fine-tuned; named only where it is a Hub name (or `demo`), never where it is a folder.
        max_length: tokens of a text that the model reads, special tokens included.
        rows: kind → number of rows, for example {"labeled": 64, "unlabeled": 1136}.
        rounds: a record per round, of which the figures of `ROUNDS` are read. Everything else stays out of the card.
        results: what was measured → metric → {"score", "confidence_interval"}; None: nothing was measured.
        chosen: which model this is, and why, for example "round 2, the best on the development rows"; None: there was only one.
        license: the Hub's identifier of a license; None: none is stated.
        self_trained: whether it learned from pseudo-labels.
        method: its name, arguments and further losses, for example "fixmatch (threshold=0.9) + entropy 0.1"; None: none.
        citation: the method's paper; None: it has none.
        of_this_model: which of `results` are this model's own, and go into the index that the Hub reads; None: none.
        test_data: name and split of the data set on the Hub that they were measured on, all of it; None: it has no name there.
        measured_on: what else the rows are called that they were measured on.
        calibration: how probabilities were calibrated, and what that brought, in a sentence; None: nothing is said.
        datasets: names of data sets on the Hub that it was trained on.

    >>> measured = {"test": {"accuracy": {"score": 0.9, "confidence_interval": (0.8, 0.95)}}}
    >>> card = model_card(classes=["no", "yes"], encoder="demo", max_length=64, rows={"labeled": 8}, rounds=[],
    ...                   results=measured, chosen="round 0")
    >>> "| test | 0.900 (0.800 to 0.950) |" in card
    True
    """
    base_model = hub_name(encoder)
    english_only = base_model == DEMO_ENCODER
    data = ModelCardData(
        language="en" if english_only else None,
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=["sstext", *(["semi-supervised", "self-training"] if self_trained else [])],
        base_model=base_model,
        license=license,
        datasets=list(datasets) or None,
        model_name=THIS_FOLDER,
        eval_results=_index((results or {}).get(of_this_model or "", {}), test_data, measured_on),
    )
    sections = [
        _summary(classes, base_model, chosen, _learned_from(rounds if self_trained else None, part=LEFT_OUT in rows)),
        _how_to_use(max_length),
        _classes(classes),
        _training(rows, rounds, method, citation),
        _results(results),
        *([f"## Calibration\n\n{calibration}"] if calibration else []),
        _limits(max_length, self_trained, english_only),
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


def named(card: str, name: str, revision: str | None = None) -> str:
    """A card with a name on the Hub wherever it says how to use the model.

    >>> named('sstext predict "<this folder>" new.csv', "ada/tickets", "v2")
    'sstext predict "ada/tickets" --revision "v2" new.csv'
    """
    lines = card.split("\n")
    for i, line in enumerate(lines):
        flag = f' --revision "{revision}"' if line.startswith("sstext ") else f', revision="{revision}"'
        lines[i] = line.replace(f'"{THIS_FOLDER}"', f'"{name}"' + (flag if revision else "")).replace(THIS_FOLDER, name)
    return "\n".join(lines)


def _index(metrics: Mapping[str, Any], test_data: tuple[str, str] | None, rows: str) -> list[EvalResult] | None:
    """Scores as the Hub's index wants them; an interval is said in the name, and in the arguments for machines."""
    found = []
    data_set, split = test_data or (None, None)
    for name, result in metrics.items():
        if result.get("score") is None:
            continue
        kind, arguments = HUB_METRICS.get(name, (name, {}))
        interval, title = result.get("confidence_interval"), name.replace("_", " ")
        if interval is not None:
            low, high = interval
            title += f" (95% {low:.3f}–{high:.3f})"
            arguments = arguments | {"confidence_interval": [round(low, 4), round(high, 4)], "level": 0.95}
        score = EvalResult(
            task_type="text-classification",
            task_name="Text Classification",
            dataset_type=data_set or "local",
            dataset_name=data_set or rows,
            dataset_split=split,
            metric_type=kind,
            metric_name=title,
            metric_value=round(result["score"], 4),
            metric_args=arguments or None,
        )
        found.append(score)
    return found or None


def bare_card(classes: Sequence[str], max_length: int) -> str:
    """The README.md of a model of which nothing but its folder is known: what it answers, and how to use it.

    >>> "How it was trained is not recorded" in bare_card(["no", "yes"], 64)
    True
    """
    data = ModelCardData(library_name="transformers", pipeline_tag="text-classification", tags=["sstext"])
    sections = [
        f"# Text classifier with {len(classes)} classes\n\nHow it was trained is not recorded here.",
        _how_to_use(max_length),
        _classes(classes),
        _limits(max_length, self_trained=False, english_only=False),
    ]
    return _card(data, sections)


def _card(data: ModelCardData, sections: Sequence[str]) -> str:
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(sections) + "\n"))


def _classes(classes: Sequence[str]) -> str:
    return "## Classes\n\n" + ", ".join(f"`{_line(name)}`" for name in classes)


def _summary(classes: Sequence[str], base_model: str | None, chosen: str | None, learned_from: str) -> str:
    origin = f"[{base_model}](https://huggingface.co/{base_model})" if base_model else "a local encoder"
    which = f"\n\nChosen: {_line(chosen).rstrip('.')}." if chosen else ""
    return f"""# Text classifier with {len(classes)} classes

Made with `sstext` from {origin}:
{learned_from}{which}"""


def _learned_from(rounds: Sequence[Mapping[str, Any]] | None, part: bool) -> str:
    """What a model learned from, in a sentence; None: from labels alone.

    Whether its rounds kept some of the unlabeled rows or all is seen in their coverage, a share of the part that was read
    where `part` says so.
    """
    if rounds is None:
        return "fine-tuned on labeled texts."
    coverages = [record["coverage"] for record in rounds if record["admitted"]]
    if coverages and max(coverages) < WHOLE:
        return (
            "fine-tuned on labeled texts, then, round by round, also on those unlabeled texts whose predicted label\n"
            "seemed safe enough to learn from."
        )
    if coverages and min(coverages) >= WHOLE:
        return (
            "fine-tuned on labeled texts, then, round by round, also on all unlabeled texts"
            + (" of a random part of the corpus" if part else "")
            + ", with what the models before\npredicted for them, sure or not."
        )
    return "fine-tuned on labeled texts with the help of unlabeled ones."


def _how_to_use(max_length: int) -> str:
    return f"""## How to use

With plain `transformers`:

```python
from transformers import pipeline

classify = pipeline("text-classification", "{THIS_FOLDER}")
classify("a text", truncation=True, max_length={max_length})
```

A pipeline does not truncate on its own: without `truncation=True, max_length={max_length}` a text beyond the encoder's
limit raises an error.

With `sstext`, which truncates by itself and is made for many texts:

```bash
sstext predict "{THIS_FOLDER}" texts.csv --output predictions.csv
```

```python
from sstext import Classifier

classifier = Classifier.from_pretrained("{THIS_FOLDER}", max_length={max_length})
classifier.predict(["a text", "another text"])
```"""


def _training(
    rows: Mapping[str, int], rounds: Sequence[Mapping[str, Any]], method: str | None, citation: str | None
) -> str:
    counts = ", ".join(f"{count:,} {_line(name.replace('_', ' '))}" for name, count in rows.items()) or _NONE
    section = f"## Training\n\nRows: {counts}. The texts themselves are not part of this folder."
    if method:
        section += f"\n\nMethod: `{_line(method)}`."
        section += f" Source: {_line(citation).rstrip('.')}." if citation else ""
    if not rounds:
        return section
    columns = {title: [cell(record) for record in rounds] for title, cell in ROUNDS.items()}
    filled = {title: cells for title, cells in columns.items() if any(cell != _NONE for cell in cells)}
    return f"{section}\n\n{table(filled, zip(*filled.values(), strict=True))}"


def _share(value: float | None) -> str:
    return _NONE if value is None else f"{value:.1%}"


#: What a card tells of a round; what no round has is left out.
ROUNDS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "round": lambda record: str(record["index"]),
    "unlabeled rows kept": lambda record: f"{record['admitted']:,}",
    "coverage": lambda record: f"{record['coverage']:.1%}",
    "estimated precision": lambda record: _share(record.get("estimated_precision")),
    "audited precision": lambda record: _share(record.get("audit_precision")),
    "out-of-fold accuracy": lambda record: _share((record.get("out_of_fold") or {}).get("accuracy")),
    "development macro-F1": lambda record: _share((record.get("metrics") or {}).get("macro_f1")),
}


def _results(results: Mapping[str, Metrics] | None) -> str:
    if not results:
        return "## Results\n\nNothing was measured: no test rows were given."
    names = list(dict.fromkeys(name for metrics in results.values() for name in metrics))
    lines = [(measured, *(_score(metrics.get(name)) for name in names)) for measured, metrics in results.items()]
    note = "In parentheses: 95 % intervals over the rows measured on, where they were computed."
    return f"## Results\n\n{table(('', *names), lines)}\n\n{note}"


def calibration_sentence(
    temperature: float,
    *,
    fitted_on: str | None,
    folded: bool = True,
    before: float | None = None,
    after: Mapping[str, Any] | None = None,
) -> str:
    """How the probabilities were calibrated, for a card.

    Args:
        temperature: what logits were divided by.
        fitted_on: what it was fitted on; None: nothing told how sure the model may be.
        folded: whether the last layer has it, so that everyone gets calibrated probabilities.
        before, after: expected calibration error on the test rows without and with it (with its interval).

    >>> calibration_sentence(1.25, fitted_on="the development rows")
    'Logits are divided by 1.250, a temperature fitted on the development rows; the last layer does it.'
    """
    if fitted_on is None:
        return "None: without folds or development rows, nothing told how sure the model may be."
    if not folded:
        return f"None: the temperature {temperature:.3f}, fitted on {fitted_on}, could not be put into the last layer."
    said = f"Logits are divided by {temperature:.3f}, a temperature fitted on {fitted_on}; the last layer does it."
    if after is None:
        return said
    figures = f"{before:.3f} before, {_score(after)} after" if before is not None else _score(after)
    return f"{said} Expected calibration error on the test rows: {figures}."


def _limits(max_length: int, self_trained: bool, english_only: bool) -> str:
    own = "It was trained on few labeled texts, and repeats their errors and biases, and those of the encoder."
    if self_trained:
        own = (
            "Part of the training labels are a model's own predictions: errors and biases of the encoder and of the labeled\n"
            "  rows are repeated in them."
        )
    english = "- It reads English only: its encoder knows no other language.\n" if english_only else ""
    return f"""## Limits

{english}- It always answers with one of the classes above, also for a text that belongs to none of them.
- Of a longer text, only the first {max_length} tokens are read.
- {own} Measure on your own labeled rows before anything that matters depends on it.
- Scores and intervals hold for texts like those measured on; they say nothing about other sources or later times."""


def _score(result: Mapping[str, Any] | None) -> str:
    if result is None or result.get("score") is None:
        return _NONE
    interval = result.get("confidence_interval")
    return f"{result['score']:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval is not None else "")


def table(header: Iterable[Any], lines: Iterable[Iterable[Any]]) -> str:
    """A Markdown table; a bar inside a cell would open a new column."""
    rows = [[_line(cell).replace("|", r"\|") for cell in row] for row in (header, *lines)]
    rows.insert(1, ["---"] * len(rows[0]))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _line(value: Any) -> str:
    """A value without line breaks, which would end a Markdown table, list or code span."""
    return " ".join(str(value).split())
