"""The model card: what people need to know who find the model in a folder or on the Hub.

The card contains only counts, shares and scores that are passed in. It contains no training text, file name or local
path, so it can be published with the model.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from sstext.hub.sections import (
    DEMO_ENCODER,
    THIS_FOLDER,
    Metrics,
    classes_section,
    how_to_use_section,
    hub_name,
    learned_from,
    limits_section,
    method_paragraph,
    results_section,
    summary_section,
    training_section,
)

#: Names and arguments on the Hub of our metrics, if they differ from ours.
HUB_METRICS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "macro_f1": ("f1", {"average": "macro"}),
    "brier": ("brier_score", {}),
}


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
    class_texts: str | None = None,
    encoders: str | None = None,
    prefix: str | None = None,
    part: bool = False,
    zero_shot: bool = False,
    estimate: str = "",
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
        class_texts: a sentence on how the names or descriptions of the classes were used. Default: none.
        encoders: a sentence on how the encoder was chosen among several. Default: none.
        prefix: what must be put before every text. Default: nothing.
        part: whether only a random part of the corpus was read.
        zero_shot: whether the model was made from descriptions of the classes, without labeled rows.
        estimate: sentences on the estimated accuracy of a model without test rows. Default: none.

    >>> measured = {"test": {"accuracy": {"score": 0.9, "confidence_interval": (0.8, 0.95)}}}
    >>> card = model_card(classes=["no", "yes"], encoder="demo", max_length=64, rows={"labeled": 8}, rounds=[],
    ...                   results=measured, chosen="baseline")
    >>> "| test | 0.900 (0.800 to 0.950) |" in card
    True
    """
    base_model = hub_name(encoder)
    english_only = base_model == DEMO_ENCODER
    data = ModelCardData(
        language="en" if english_only else None,
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=[
            "sstext",
            *(["zero-shot"] if zero_shot else ["semi-supervised"] if self_trained else []),
            *(["self-training"] if self_trained else []),
        ],
        base_model=base_model,
        license=license,
        datasets=list(datasets) or None,
        model_name=THIS_FOLDER,
        eval_results=_eval_results((results or {}).get(of_this_model or "", {}), test_data, measured_on),
    )
    sections = [
        summary_section(
            classes, base_model, chosen, learned_from(rounds if self_trained else None, part, chosen, zero_shot)
        ),
        how_to_use_section(max_length, prefix or ""),
        classes_section(classes),
        training_section(
            rows,
            rounds,
            method_paragraph(method, citation, chosen, self_trained, zero_shot),
            plan,
            class_texts,
            encoders,
            zero_shot,
        ),
        results_section(results, estimate, unchecked=zero_shot and not any(record.get("metrics") for record in rounds)),
        *([f"## Calibration\n\n{calibration}"] if calibration else []),
        limits_section(max_length, self_trained, english_only, zero_shot),
    ]
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(sections) + "\n"))


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


def bare_card(classes: Sequence[str], max_length: int, prefix: str = "") -> str:
    """The README.md of a model if only its folder is known: its classes and how to use it.

    >>> "How it was trained is not recorded" in bare_card(["no", "yes"], 64)
    True
    """
    data = ModelCardData(library_name="transformers", pipeline_tag="text-classification", tags=["sstext"])
    sections = [
        f"# Text classifier with {len(classes)} classes\n\nHow it was trained is not recorded here.",
        how_to_use_section(max_length, prefix),
        classes_section(classes),
        limits_section(max_length, self_trained=False, english_only=False),
    ]
    return _card(data, sections)


def _card(data: ModelCardData, sections: Sequence[str]) -> str:
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(sections) + "\n"))
