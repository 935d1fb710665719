"""The sections of a model card, in Markdown."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sstext.hub.markdown import code, quoted, sentence, table

#: `demo` is a packaged copy of this encoder.
DEMO_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"


#: What the first example of a card says about a name that is not on the Hub.
FOLDER_NOTE = "  # the folder of this model; from elsewhere, give its path"


#: metric → {"score": float, "confidence_interval": (low, high) or None}
Metrics = Mapping[str, Mapping[str, Any]]


#: Coverage from which all unlabeled rows count as selected.
WHOLE = 0.9995


_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)


_NONE = "–"


def hub_name(encoder: str) -> str | None:
    """The Hub name of an encoder. Returns None for a folder, because a local path must not be published.

    >>> hub_name("microsoft/deberta-v3-small"), hub_name("/home/ada/encoder"), hub_name("demo")
    ('microsoft/deberta-v3-small', None, 'sentence-transformers/all-MiniLM-L6-v2')
    """
    if encoder == "demo":
        return DEMO_ENCODER
    return encoder if _HUB_NAME.fullmatch(encoder) and not Path(encoder).exists() else None


def classes_section(classes: Sequence[str]) -> str:
    return "## Classes\n\n" + ", ".join(map(code, classes))


def summary_section(
    classes: Sequence[str],
    base_model: str | None,
    chosen: str | None,
    learned_from: str,
    *,
    title: str | None = None,
    datasets: Sequence[str] = (),
    said_first: Sequence[str] = (),
) -> str:
    """The title, warnings, and in a sentence each what the model is made from and which one it is.

    Args:
        learned_from: see `learned_from`.
        title: the title. Default: the number of classes.
        datasets: titles of the data sets that it was trained on.
        said_first: the warnings, a sentence each.
    """
    origin = f"[{base_model}](https://huggingface.co/{base_model})" if base_model else "a local encoder"
    stage, _, why = sentence(chosen or "").rstrip(".").partition(": ")
    which = f"\n\nChosen: {stage} ({why})." if why else f"\n\nChosen: {stage}." if stage else ""
    kind = f"Text classifier with {len(classes)} classes"
    data = f"\n\nData: {', '.join(sentence(name) for name in datasets)}." if datasets else ""
    warnings = "".join(f"**{sentence(warning)}**\n\n" for warning in said_first)
    return f"""# {sentence(title) if title else kind}

{warnings}{f"{kind}. " if title else ""}Made with `sstext` from {origin}:
{learned_from}{data}{which}"""


def learned_from(
    rounds: Sequence[Mapping[str, Any]] | None, part: bool, chosen: str | None = None, zero_shot: bool = False
) -> str:
    """Describe the training data of a model in a sentence.

    Args:
        rounds: records of the rounds, or None if the model learned only from labels. Their coverage shows whether all
            unlabeled rows were selected.
        part: whether only a random part of the corpus was read. Coverage is then a share of this part.
        chosen: see `model_card`. A regression is not fine-tuned.
        zero_shot: see `model_card`.
    """
    if zero_shot:
        made = "a zero-shot classifier, made from descriptions of the classes instead of labeled texts.\n"
        if rounds is None:
            return f"{made}It compares the embeddings of texts and descriptions. The encoder is as it was pretrained."
        some = "a random part of a corpus of unlabeled texts" if part else "unlabeled texts"
        return f"{made}It was fine-tuned on {some}, whose labels it had predicted itself."
    if rounds is None and _is_regression(chosen):
        return "a logistic regression on labeled texts. The encoder is as it was pretrained."
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


def how_to_use_section(name: str, max_length: int, prefix: str = "") -> str:
    """Examples that can be copied.

    Args:
        name: name on the Hub, or of the model's folder. The examples then work beside this folder, and say so.
    """
    start = quoted(prefix)
    before = f"{start} + " if prefix else ""
    here = "" if "/" in name else FOLDER_NOTE
    note = (
        f"""
**The model was trained with the prefix {code(start)} before every text.** A pipeline does not add it: put it before each text,
as above, otherwise predictions are worse. `sstext` adds it by itself.
"""
        if prefix
        else ""
    )
    return f"""## How to use

With plain `transformers`:

```python
from transformers import pipeline

classify = pipeline("text-classification", {quoted(name)}){here}
classify({before}"a text", truncation=True, max_length={max_length})
```
{note}
A pipeline does not cut texts by default, and a text beyond the limit of the encoder is an error: give `truncation=True`.

With `sstext`, which truncates by default and is made for many texts:

```bash
sstext predict {quoted(name)} texts.csv --output predictions.csv
```

```python
from sstext import Classifier

classifier = Classifier.from_pretrained({quoted(name)}, max_length={max_length})
classifier.predict(["a text", "another text"])
```"""


def training_section(
    rows: Mapping[str, int],
    rounds: Sequence[Mapping[str, Any]],
    method: str,
    plan: Mapping[str, Any] | None = None,
    class_texts: str | None = None,
    encoders: str | None = None,
    pooling: str | None = None,
    zero_shot: bool = False,
) -> str:
    counts = ", ".join(f"{count:,} {sentence(name.replace('_', ' '))}" for name, count in rows.items()) or _NONE
    section = f"## Training\n\nRows: {counts}. The texts themselves are not published with the model."
    section += f"\n\n{method}" if method else ""
    section += "".join(f"\n\n{sentence(said)}" for said in (encoders, pooling, class_texts) if said)
    given = "descriptions of the classes" if zero_shot else "the labeled rows"
    stages = [_stage(stage, given) for stage in _trained((plan or {}).get("stages", ()), rounds)]
    if stages:
        section += f"\n\nStages: {'; '.join(stages)}."
    if not rounds:
        return section
    columns = {title: [cell(record) for record in rounds] for title, cell in ROUNDS.items()}
    filled = {title: cells for title, cells in columns.items() if any(cell != _NONE for cell in cells)}
    return f"{section}\n\n{table(filled, zip(*filled.values(), strict=True))}"


def method_paragraph(
    method: str | None, citation: str | None, chosen: str | None, self_trained: bool, zero_shot: bool = False
) -> str:
    """The method and its paper. Empty without a method."""
    if not method:
        return ""
    if zero_shot and not self_trained:
        return f"Method of the run: {code(method)}; this model is its first stage, without labels."
    if chosen and not self_trained and citation:  # the method of a paper did not make this model
        if _is_regression(chosen):
            return f"Method of the run: {code(method)}; this model is its first stage, on the labeled rows only."
        baseline = "is its baseline," if chosen.startswith("baseline") else "was"
        return f"Method of the run: {code(method)}; this model {baseline} fine-tuned on the labeled rows only."
    return f"Method: {code(method)}." + (f" Source: {sentence(citation).rstrip('.')}." if citation else "")


def _is_regression(chosen: str | None) -> bool:
    return (chosen or "").startswith("regression")


def _trained(planned: Sequence[Mapping[str, Any]], rounds: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The stages of a plan up to the last one that was trained: a training may have stopped before the others."""
    names = {record.get("stage") for record in rounds}
    last = max((place for place, stage in enumerate(planned) if stage["name"] in names), default=len(planned) - 1)
    return planned[: last + 1]


def _stage(stage: Mapping[str, Any], given: str) -> str:
    """One stage of a plan, for example "round 1: 71 steps on the labeled rows and on pseudo-labels".

    Args:
        given: what it learns from apart from pseudo-labels.
    """
    if not stage["steps"]:
        return sentence(f"{stage['name']}: on {given}, without steps")
    labels = " and on pseudo-labels" if stage["labeled_by"] else ""
    name = "final model" if stage["name"] == "final" else stage["name"]
    return sentence(f"{name}: {stage['steps']:,} steps on {given}{labels}")


def _share(value: float | None) -> str:
    return _NONE if value is None else f"{value:.1%}"


#: Columns of the table of rounds in a card. A column is left out if no round has a value.
ROUNDS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "stage": lambda record: record.get("stage") or f"round {record['index']}",
    "unlabeled rows selected": lambda record: f"{record['admitted']:,}" if record["admitted"] else _NONE,
    "share of corpus": lambda record: f"{record['coverage']:.1%}" if record["admitted"] else _NONE,
    "mean confidence": lambda record: _share(record.get("estimated_precision")),
    "correct (audit)": lambda record: _share(record.get("audit_precision")),
    "held-out accuracy": lambda record: _share((record.get("out_of_fold") or {}).get("accuracy")),
    "development macro-F1": lambda record: _share((record.get("metrics") or {}).get("macro_f1")),
}


#: Figures of a card by the names that people know; others keep theirs.
FIGURES = {
    "macro_f1": "macro-F1",
    "expected_calibration_error": "calibration error (ECE)",
    "nll": "log-loss (nats)",
    "brier": "Brier score",
}


def results_section(
    results: Mapping[str, Metrics] | None, estimate: str = "", unchecked: bool = False, measured_on: str = "test rows"
) -> str:
    """The figures on test rows, or on those that `measured_on` names.

    Args:
        estimate: sentences on the estimated accuracy, for a model without test rows.
        unchecked: whether there was no labeled row at all.
    """
    if not results and estimate:
        return f"## Results\n\nThere were no test rows. {sentence(estimate)}"
    if not results and unchecked:
        return (
            "## Results\n\nNothing was measured, because no text was labeled. How often this model is right is unknown."
        )
    if not results:
        return f"## Results\n\nNothing was measured on {sentence(measured_on)}."
    names = list(dict.fromkeys(name for metrics in results.values() for name in metrics))
    titles = [FIGURES.get(name, name) for name in names]
    lines = [(measured, *(_score(metrics.get(name)) for name in names)) for measured, metrics in results.items()]
    note = "In parentheses: 95 % confidence intervals over the evaluated rows, if they were computed."
    return f"## Results\n\n{table(('', *titles), lines)}\n\n{note}"


def calibration_sentence(
    temperature: float,
    *,
    fitted_on: str | None,
    folded: bool = True,
    unlabeled: bool = False,
    before: float | None = None,
    after: Mapping[str, Any] | None = None,
) -> str:
    """How the probabilities were calibrated, as a sentence for a card.

    Args:
        temperature: the divisor of the logits.
        fitted_on: the rows on which the temperature was fitted, or None if there were no such rows.
        folded: whether the last layer contains the temperature, so that the model predicts calibrated probabilities.
        unlabeled: whether no text was labeled.
        before, after: expected calibration error on the test rows without and with the temperature (with its interval).

    >>> calibration_sentence(1.25, fitted_on="the development rows")
    'Logits are divided by a temperature of 1.250, fitted on the development rows. It is already folded into the last layer.'
    """
    if fitted_on is None:
        why = "no text was labeled" if unlabeled else "there were no folds or development rows"
        return f"The probabilities are not calibrated, because {why}."
    if not folded:
        return (
            f"The probabilities are not calibrated: the temperature {temperature:.3f}, fitted on {fitted_on}, could "
            "not be put into the last layer."
        )
    said = (
        f"Logits are divided by a temperature of {temperature:.3f}, fitted on {fitted_on}. It is already folded "
        "into the last layer."
    )
    if after is None:
        return said
    figures = f"{before:.3f} before, {_score(after)} after" if before is not None else _score(after)
    return f"{said} Expected calibration error on the test rows: {figures}."


def limits_section(
    max_length: int, self_trained: bool, english_only: bool, zero_shot: bool = False, problem_type: str = ""
) -> str:
    own = "It was trained on few labeled texts. It may reproduce their errors and biases, and those of the encoder."
    if self_trained:
        own = (
            "Some of the training labels are predictions of a model. They may reproduce the errors and biases of the\n"
            "  encoder and of the labeled rows."
        )
    if zero_shot:
        own = (
            "It was made without labels. It may reproduce the errors and biases of the encoder and of the descriptions."
        )
    english = "- It reads only English, because its encoder was trained on English.\n" if english_only else ""
    always = {
        "multi_label_classification": "A text may have several of the classes above, or none. Each class has a probability "
        "of its own; give `top_k=None` to see all of them.",
        "regression": "It predicts numbers. The scores are not probabilities.",
    }.get(problem_type, "It always predicts one of the classes above, even for a text that belongs to none of them.")
    return f"""## Limits

{english}- {always}
- It reads only the first {max_length} tokens of a text.
- {own} Measure it on your own labeled rows before you rely on it.
- Scores and intervals hold for texts like the evaluated ones. They may differ for other sources or later periods."""


def _score(result: Mapping[str, Any] | None) -> str:
    if result is None or result.get("score") is None:
        return _NONE
    interval = result.get("confidence_interval")
    return f"{result['score']:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval is not None else "")
