"""The model card: what people need to know who find the model in a folder or on the Hub.

The card contains only counts, shares and scores that are passed in. It contains no training text, file name or local
path, so it can be published with the model.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from huggingface_hub import ModelCard, ModelCardData

from sstext.hub.markdown import quoted
from sstext.hub.metadata import OneOrSeveral, is_hub_name, metadata, several
from sstext.hub.sections import (
    DEMO_ENCODER,
    FOLDER_NOTE,
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
from sstext.plain import plain_text

#: What stood for the model's name in the cards of earlier versions.
FORMER_NAME = "<this folder>"


def model_card(
    *,
    name: str,
    classes: Sequence[str],
    encoder: str,
    max_length: int,
    rows: Mapping[str, int],
    rounds: Sequence[Mapping[str, Any]],
    results: Mapping[str, Metrics] | None,
    chosen: str | None,
    language: OneOrSeveral = None,
    license: str | None = None,
    tags: OneOrSeveral = None,
    model_name: str | None = None,
    finetuned_from: str | None = None,
    tasks: OneOrSeveral = None,
    dataset_tags: OneOrSeveral = None,
    dataset: OneOrSeveral = None,
    dataset_args: OneOrSeveral = None,
    problem_type: str = "single_label_classification",
    self_trained: bool = True,
    method: str | None = None,
    citation: str | None = None,
    of_this_model: str | None = None,
    test_data: tuple[str, str] | None = None,
    measured_on: str = "test rows",
    calibration: str | None = None,
    plan: Mapping[str, Any] | None = None,
    class_texts: str | None = None,
    encoders: str | None = None,
    pooling: str | None = None,
    prefix: str | None = None,
    part: bool = False,
    zero_shot: bool = False,
    estimate: str = "",
    said_first: Sequence[str] = (),
) -> str:
    """The README.md of a trained model, in the format of Hub model cards: YAML front matter, then Markdown.

    Args:
        name: the model in the examples: the name of its folder, or its name on the Hub.
        classes: names of the C classes, in the order of the logits.
        encoder: the encoder that was fine-tuned. The card names it if it is a Hub name or `demo`, but not if it is a
            folder.
        max_length: maximum number of tokens of a text that the model reads, including special tokens.
        rows: kind → number of rows, for example {"labeled": 64, "unlabeled": 1136}.
        rounds: one record per round. The card shows only the figures in `ROUNDS`.
        results: measured model → metric → {"score", "confidence_interval"}, or None if nothing was measured.
        chosen: which model this is, and why, for example "round 2: the best on the development rows". None if there was
            only one model.
        language: codes of ISO 639. Default: "en" if the encoder is `demo`, otherwise none.
        license: the Hub's identifier of a license. Default: no license is stated.
        tags: further tags for the Hub.
        model_name: the title. Default: the number of classes.
        finetuned_from: Hub name of the encoder. Default: `encoder`, if it is one.
        tasks: tasks of the Hub. Default: text-classification.
        dataset_tags: Hub names of the data sets that the model was trained on. Default: those of `dataset` that are
            names such as user/name.
        dataset: titles of these data sets. Default: none, because the name of the training data may be private.
        dataset_args: configurations of these data sets.
        problem_type: as in the model's configuration.
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
        plan: the content of `plan.json`. Default: the stages of the training are not described.
        class_texts: a sentence on how the names or descriptions of the classes were used. Default: none.
        encoders: a sentence on how the encoder was chosen among several. Default: none.
        pooling: a sentence on what the head reads. Default: none.
        prefix: what must be put before every text. Default: nothing.
        part: whether only a random part of the corpus was read.
        zero_shot: whether the model was made from descriptions of the classes, without labeled rows.
        estimate: sentences on the estimated accuracy of a model without test rows. Default: none.
        said_first: warnings, a sentence each. They are shown before everything else. Default: none.

    Raises:
        UserError: a value that the Hub would refuse, for example a license that it does not know the form of.

    >>> measured = {"test": {"accuracy": {"score": 0.9, "confidence_interval": (0.8, 0.95)}}}
    >>> card = model_card(name="model", classes=["no", "yes"], encoder="demo", max_length=64, rounds=[],
    ...                   rows={"labeled": 8}, results=measured, chosen="baseline")
    >>> "| test | 0.900 (0.800 to 0.950) |" in card
    True
    """
    base_model = finetuned_from or hub_name(encoder)
    english_only = base_model == DEMO_ENCODER
    own_tags = (["zero-shot"] if zero_shot else ["semi-supervised"] if self_trained else []) + (
        ["self-training"] if self_trained else []
    )
    titles, named_data = several(dataset), several(dataset_tags)
    named_data = named_data or [title for title in titles if "/" in title and is_hub_name(title)]
    hub_data, split = test_data or ("local", None)
    measured: tuple[str, str, str | None, str | None] = (hub_data, hub_data if test_data else measured_on, split, None)
    if len(named_data) == 1 and test_data is None:  # of several data sets, nobody knows which one was measured on
        configuration = next(iter(several(dataset_args)), None)
        measured = (named_data[0], titles[0] if titles else named_data[0], None, configuration)
    data = metadata(
        model_name or name,
        tags=["sstext", *own_tags, *several(tags)],
        language=language or ("en" if english_only else None),
        license=license,
        base_model=base_model,
        tasks=tasks,
        datasets=named_data,
        figures=(results or {}).get(of_this_model or "", {}),
        measured_on=measured,
    )
    sections = [
        summary_section(
            classes,
            base_model,
            chosen,
            learned_from(rounds if self_trained else None, part, chosen, zero_shot),
            title=model_name,
            datasets=titles or named_data,
            said_first=said_first,
        ),
        how_to_use_section(name, max_length, prefix or ""),
        classes_section(classes),
        training_section(
            rows,
            rounds,
            method_paragraph(method, citation, chosen, self_trained, zero_shot),
            plan,
            class_texts,
            encoders,
            pooling,
            zero_shot,
        ),
        results_section(
            results,
            estimate,
            unchecked=zero_shot and not any(record.get("metrics") for record in rounds),
            measured_on=measured_on,
        ),
        *([f"## Calibration\n\n{calibration}"] if calibration else []),
        limits_section(max_length, self_trained, english_only, zero_shot, problem_type),
    ]
    return _card(data, sections)


#: Commands of a card that name the model, as far as the name; then the name, and its revision.
_USES = re.compile(
    r'(?P<before>pipeline\("text-classification", |sstext predict |Classifier\.from_pretrained\()'
    r'(?P<name>"(?:[^"\\]|\\.)*")(?:, revision="[^"]*"| --revision "[^"]*")?'
)
_INDEXED = re.compile(r"^(?P<before>model_name: |model-index:\n- name: )(?P<name>.*)$", re.MULTILINE)


def named(card: str, name: str, revision: str | None = None) -> str:
    """The same card with another name of the model in its examples: that on the Hub, or that of its folder.

    A card without our examples, and the name of any other model, stay as they are.

    >>> named('sstext predict "model" texts.csv', "ada/tickets", "v2")
    'sstext predict "ada/tickets" --revision "v2" texts.csv'
    """
    known = {quoted(FORMER_NAME)} | {found["name"] for found in _USES.finditer(card) if "sstext" in found["before"]}

    def renamed(found: re.Match[str]) -> str:
        if found["name"] not in known:
            return found[0]
        flag = ' --revision "{}"' if found["before"].startswith("sstext") else ', revision="{}"'
        return found["before"] + quoted(name) + (flag.format(revision) if revision else "")

    def indexed(found: re.Match[str]) -> str:
        if quoted(_plain(found["name"])) not in known:
            return found[0]
        return found["before"] + (name if "/" in name else quoted(name))

    text = _INDEXED.sub(indexed, _USES.sub(renamed, card))
    return text.replace(FOLDER_NOTE, "") if "/" in name else text


def _plain(value: str) -> str:
    """A value of YAML on one line as text. Returns "" if it is not one."""
    try:
        return str(yaml.safe_load(value))
    except yaml.YAMLError:
        return ""


def bare_card(name: str, classes: Sequence[str], max_length: int, prefix: str = "", problem_type: str = "") -> str:
    """The README.md of a model if only its folder is known: its classes and how to use it.

    >>> "How it was trained is not recorded" in bare_card("model", ["no", "yes"], 64)
    True
    """
    sections = [
        f"# Text classifier with {len(classes)} classes\n\nHow it was trained is not recorded here.",
        how_to_use_section(name, max_length, prefix),
        classes_section(classes),
        limits_section(max_length, self_trained=False, english_only=False, problem_type=problem_type),
    ]
    return _card(metadata(name, tags=["sstext"]), sections)


def tags_of(card: str) -> list[str]:
    """The tags of a card. A card whose metadata cannot be read has none."""
    try:
        return several(ModelCard(card).data.to_dict().get("tags"))
    except ValueError:
        return []


def with_tags(card: str, tags: OneOrSeveral) -> str:
    """The same card with further tags."""
    added = [tag for tag in several(tags) if tag not in tags_of(card)]
    if not added:
        return card
    made = ModelCard(card)
    made.data["tags"] = [*tags_of(card), *added]
    return plain_text(str(made))


def _card(data: ModelCardData, sections: Sequence[str]) -> str:
    text = f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(sections) + "\n"
    return plain_text(str(ModelCard(text)))
