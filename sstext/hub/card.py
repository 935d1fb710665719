"""The model card: what people need to know who find the model in a folder or on the Hub.

The card contains only counts, shares and scores that are passed in. It contains no training text, file name or local
path, so it can be published with the model.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

#: `demo` is a packaged copy of this encoder.
DEMO_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"


#: Name of the model in its card before it has a name on the Hub.
THIS_FOLDER = "<this folder>"


#: Names and arguments on the Hub of our metrics, if they differ from ours.
HUB_METRICS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "macro_f1": ("f1", {"average": "macro"}),
    "brier": ("brier_score", {}),
}


#: metric → {"score": float, "confidence_interval": (low, high) or None}
Metrics = Mapping[str, Mapping[str, Any]]


#: Key of the row counts for unlabeled texts that are not read, because the training steps can use no more.
LEFT_OUT = "unlabeled_left_out"


#: Coverage from which all unlabeled rows count as selected.
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
    measured_on: str = "test rows",
    calibration: str | None = None,
    datasets: Sequence[str] = (),
    plan: Mapping[str, Any] | None = None,
) -> str:
    """The README.md of a trained model, in the format of Hub model cards: YAML front matter, then Markdown.

    Args:
        classes: names of the C classes, in the order of the logits.
        encoder: the encoder that was fine-tuned. The card names it if it is a Hub name or `demo`, but not if it is a
            folder.
        max_length: maximum number of tokens of a text that the model reads, including special tokens.
        rows: kind → number of rows, for example {"labeled": 64, "unlabeled": 1136}.
        rounds: one record per round. The card shows only the figures in `ROUNDS`.
        results: measured model → metric → {"score", "confidence_interval"}, or None if nothing was measured.
        chosen: which model this is, and why, for example "round 2: the best on the development rows". None if there was
            only one model.
        license: the Hub's identifier of a license. Default: no license is stated.
        self_trained: whether the model learned from pseudo-labels.
        method: name, arguments and further losses of the method, for example "fixmatch (threshold=0.9) + entropy 0.1".
            Default: no method is stated.
        citation: the method's paper. It is left out if the model is the baseline of a method. Default: none.
        of_this_model: key of `results` for this model. Its scores go into the index of the Hub. Default: no scores do.
        test_data: name and split of the Hub data set that the scores were measured on, if all its rows were used.
            Default: the test data are not on the Hub.
        measured_on: name of the test rows if `test_data` is None.
        calibration: a sentence on how the probabilities were calibrated, and with which effect. Default: no such
            section.
        datasets: names of data sets on the Hub that the model was trained on.
        plan: the content of `plan.json`. Default: the stages of the training are not described.

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
        eval_results=_eval_results((results or {}).get(of_this_model or "", {}), test_data, measured_on),
    )
    sections = [
        _summary(classes, base_model, chosen, _learned_from(rounds if self_trained else None, part=LEFT_OUT in rows)),
        _how_to_use(max_length),
        _classes(classes),
        _training(rows, rounds, _method(method, citation, chosen, self_trained), plan),
        _results(results),
        *([f"## Calibration\n\n{calibration}"] if calibration else []),
        _limits(max_length, self_trained, english_only),
    ]
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(sections) + "\n"))


def hub_name(encoder: str) -> str | None:
    """The Hub name of an encoder. Returns None for a folder, because a local path must not be published.

    >>> hub_name("microsoft/deberta-v3-small"), hub_name("/home/ada/encoder"), hub_name("demo")
    ('microsoft/deberta-v3-small', None, 'sentence-transformers/all-MiniLM-L6-v2')
    """
    if encoder == "demo":
        return DEMO_ENCODER
    return encoder if _HUB_NAME.fullmatch(encoder) and not Path(encoder).exists() else None


def named(card: str, name: str, revision: str | None = None) -> str:
    """Insert the name on the Hub into the usage examples of a card.

    >>> named('sstext predict "<this folder>" new.csv', "ada/tickets", "v2")
    'sstext predict "ada/tickets" --revision "v2" new.csv'
    """
    lines = card.split("\n")
    for i, line in enumerate(lines):
        flag = f' --revision "{revision}"' if line.startswith("sstext ") else f', revision="{revision}"'
        lines[i] = line.replace(f'"{THIS_FOLDER}"', f'"{name}"' + (flag if revision else "")).replace(THIS_FOLDER, name)
    return "\n".join(lines)


def _eval_results(metrics: Mapping[str, Any], test_data: tuple[str, str] | None, rows: str) -> list[EvalResult] | None:
    """Scores in the format of the Hub's index. An interval is in the metric's name and in its arguments."""
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
    """The README.md of a model if only its folder is known: its classes and how to use it.

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
    stage, _, why = _line(chosen or "").rstrip(".").partition(": ")
    which = f"\n\nChosen: {stage} ({why})." if why else f"\n\nChosen: {stage}." if stage else ""
    return f"""# Text classifier with {len(classes)} classes

Made with `sstext` from {origin}:
{learned_from}{which}"""


def _learned_from(rounds: Sequence[Mapping[str, Any]] | None, part: bool) -> str:
    """Describe the training data of a model in a sentence.

    Args:
        rounds: records of the rounds, or None if the model learned only from labels. Their coverage shows whether all
            unlabeled rows were selected.
        part: whether only a random part of the corpus was read. Coverage is then a share of this part.
    """
    if rounds is None:
        return "fine-tuned on labeled texts."
    coverages = [record["coverage"] for record in rounds if record["admitted"]]
    if coverages and max(coverages) < WHOLE:
        return (
            "fine-tuned on labeled texts and then, in one or more rounds, also on unlabeled texts. Only texts with a\n"
            "sufficiently confident predicted label were used."
        )
    if coverages and min(coverages) >= WHOLE:
        return (
            "fine-tuned on labeled texts and then, in one or more rounds, also on all unlabeled texts"
            + (" of a random part of the corpus" if part else "")
            + ".\nThe labels of the unlabeled texts were predicted by earlier models."
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

A pipeline does not truncate by default: without `truncation=True, max_length={max_length}`, a text beyond the encoder's
limit raises an error.

With `sstext`, which truncates by default and is made for many texts:

```bash
sstext predict "{THIS_FOLDER}" texts.csv --output predictions.csv
```

```python
from sstext import Classifier

classifier = Classifier.from_pretrained("{THIS_FOLDER}", max_length={max_length})
classifier.predict(["a text", "another text"])
```"""


def _training(
    rows: Mapping[str, int],
    rounds: Sequence[Mapping[str, Any]],
    method: str,
    plan: Mapping[str, Any] | None = None,
) -> str:
    counts = ", ".join(f"{count:,} {_line(name.replace('_', ' '))}" for name, count in rows.items()) or _NONE
    section = f"## Training\n\nRows: {counts}. The texts themselves are not part of this folder."
    section += f"\n\n{method}" if method else ""
    stages = [_stage(stage) for stage in (plan or {}).get("stages", ())]
    if stages:
        section += f"\n\nPlan: {'; '.join(stages)}."
    if not rounds:
        return section
    columns = {title: [cell(record) for record in rounds] for title, cell in ROUNDS.items()}
    filled = {title: cells for title, cells in columns.items() if any(cell != _NONE for cell in cells)}
    return f"{section}\n\n{table(filled, zip(*filled.values(), strict=True))}"


def _method(method: str | None, citation: str | None, chosen: str | None, self_trained: bool) -> str:
    """The method and its paper. Empty without a method."""
    if not method:
        return ""
    if chosen and not self_trained and method.split()[0] != "supervised":  # the method did not make this model
        baseline = "is its baseline," if chosen.startswith("baseline") else "was"
        return f"Method of the run: `{_line(method)}`; this model {baseline} fine-tuned on the labeled rows only."
    return f"Method: `{_line(method)}`." + (f" Source: {_line(citation).rstrip('.')}." if citation else "")


def _stage(stage: Mapping[str, Any]) -> str:
    """One stage of a plan, for example "round 1, 71 steps, on pseudo-labels by head and probe"."""
    labels = f", on pseudo-labels by {stage['labeled_by']}" if stage["labeled_by"] else ", on labeled rows"
    name = "final model" if stage["name"] == "final" else stage["name"]
    return _line(f"{name}, {stage['steps']:,} steps{labels}")


def _share(value: float | None) -> str:
    return _NONE if value is None else f"{value:.1%}"


#: Columns of the table of rounds in a card. A column is left out if no round has a value.
ROUNDS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "stage": lambda record: record.get("stage") or f"round {record['index']}",
    "unlabeled rows selected": lambda record: f"{record['admitted']:,}",
    "share of corpus": lambda record: f"{record['coverage']:.1%}",
    "estimated precision": lambda record: _share(record.get("estimated_precision")),
    "audited precision": lambda record: _share(record.get("audit_precision")),
    "held-out accuracy": lambda record: _share((record.get("out_of_fold") or {}).get("accuracy")),
    "development macro-F1": lambda record: _share((record.get("metrics") or {}).get("macro_f1")),
}


def _results(results: Mapping[str, Metrics] | None) -> str:
    if not results:
        return "## Results\n\nNothing was measured, because there were no test rows."
    names = list(dict.fromkeys(name for metrics in results.values() for name in metrics))
    lines = [(measured, *(_score(metrics.get(name)) for name in names)) for measured, metrics in results.items()]
    note = "In parentheses: 95 % bootstrap intervals over the evaluated rows, if they were computed."
    return f"## Results\n\n{table(('', *names), lines)}\n\n{note}"


def calibration_sentence(
    temperature: float,
    *,
    fitted_on: str | None,
    folded: bool = True,
    before: float | None = None,
    after: Mapping[str, Any] | None = None,
) -> str:
    """How the probabilities were calibrated, as a sentence for a card.

    Args:
        temperature: the divisor of the logits.
        fitted_on: the rows on which the temperature was fitted, or None if there were no such rows.
        folded: whether the last layer contains the temperature, so that the model predicts calibrated probabilities.
        before, after: expected calibration error on the test rows without and with the temperature (with its interval).

    >>> calibration_sentence(1.25, fitted_on="the development rows")
    'Logits are divided by a temperature of 1.250, fitted on the development rows. It is already folded into the last layer.'
    """
    if fitted_on is None:
        return "The probabilities are not calibrated, because there were no folds or development rows."
    if not folded:
        return (
            f"The probabilities are not calibrated: the temperature {temperature:.3f}, fitted on {fitted_on}, could "
            "not be put into the last layer."
        )
    sentence = (
        f"Logits are divided by a temperature of {temperature:.3f}, fitted on {fitted_on}. It is already folded "
        "into the last layer."
    )
    if after is None:
        return sentence
    figures = f"{before:.3f} before, {_score(after)} after" if before is not None else _score(after)
    return f"{sentence} Expected calibration error on the test rows: {figures}."


def _limits(max_length: int, self_trained: bool, english_only: bool) -> str:
    own = "It was trained on few labeled texts. It may reproduce their errors and biases, and those of the encoder."
    if self_trained:
        own = (
            "Part of the training labels are predictions of a model. They may reproduce the errors and biases of the\n"
            "  encoder and of the labeled rows."
        )
    english = "- It reads only English, because its encoder was trained on English.\n" if english_only else ""
    return f"""## Limits

{english}- It always predicts one of the classes above, even for a text that belongs to none of them.
- It reads only the first {max_length} tokens of a text.
- {own} Measure it on your own labeled rows before you rely on it.
- Scores and intervals hold for texts like the evaluated ones. They may differ for other sources or later periods."""


def _score(result: Mapping[str, Any] | None) -> str:
    if result is None or result.get("score") is None:
        return _NONE
    interval = result.get("confidence_interval")
    return f"{result['score']:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval is not None else "")


def table(header: Iterable[Any], lines: Iterable[Iterable[Any]]) -> str:
    """A Markdown table. Bars inside cells are escaped, because they would start a new column."""
    rows = [[_line(cell).replace("|", r"\|") for cell in row] for row in (header, *lines)]
    rows.insert(1, ["---"] * len(rows[0]))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _line(value: Any) -> str:
    """A value without line breaks, because they would end a Markdown table, list or code span."""
    return " ".join(str(value).split())
