"""The metadata of a model card: the YAML that the Hub reads for its filters, its widget and its index of results."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from huggingface_hub import EvalResult, ModelCardData
from huggingface_hub.utils import validate_repo_id

from sstext.errors import UserError

#: One value or several, as `Trainer.create_model_card` takes them.
OneOrSeveral: TypeAlias = str | Sequence[str] | None

#: What the model does, in the words of the Hub.
TASK = "text-classification"

#: Names and arguments on the Hub of our metrics, if they differ from ours.
HUB_METRICS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "macro_f1": ("f1", {"average": "macro"}),
    "brier": ("brier_score", {}),
}

_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]+)*|multilingual|code", re.ASCII)
_IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9.+-]*", re.ASCII)


def metadata(
    name: str,
    *,
    tags: Sequence[str] = (),
    language: OneOrSeveral = None,
    license: str | None = None,
    base_model: str | None = None,
    tasks: OneOrSeveral = None,
    datasets: OneOrSeveral = None,
    figures: Mapping[str, Any] | None = None,
    measured_on: tuple[str, str, str | None, str | None] = ("local", "test rows", None, None),
) -> ModelCardData:
    """The metadata of a card, checked as far as possible without the Hub.

    Args:
        name: name of the model in the Hub's index of results.
        tags: every tag is kept once.
        language: codes of ISO 639, for example "en".
        license: the Hub's identifier, for example "apache-2.0".
        base_model: Hub name of the encoder.
        tasks: tasks of the Hub. The first one is the card's. Default: text-classification.
        datasets: Hub names of data sets that the model was trained on.
        figures: metric → {"score", "confidence_interval"} of this model, for the index.
        measured_on: Hub name, title, split and configuration of the data set that the figures were measured on.

    Raises:
        UserError: a value that the Hub would refuse.

    >>> metadata("tickets", language="de", license="mit", tags=["sstext"]).to_dict()["language"]
    'de'
    >>> metadata("tickets", license="MIT License")
    Traceback (most recent call last):
    ...
    sstext.errors.UserError: license: expected an identifier of the Hub, such as apache-2.0, mit or other, found 'MIT License'
    """
    languages, kinds, trained_on = several(language), several(tasks) or [TASK], several(datasets)
    for code in languages:
        if not _LANGUAGE.fullmatch(code):
            raise UserError(f"language: expected a code of ISO 639, such as en or de, or multilingual, found {code!r}")
    if license is not None and not _IDENTIFIER.fullmatch(license):
        raise UserError(
            f"license: expected an identifier of the Hub, such as apache-2.0, mit or other, found {license!r}"
        )
    for kind in kinds:
        if not _IDENTIFIER.fullmatch(kind):
            raise UserError(f"tasks: expected tasks of the Hub, such as {TASK}, found {kind!r}")
    for what, names in (("dataset_tags", trained_on), ("finetuned_from", several(base_model))):
        for found in names:
            if not is_hub_name(found):
                raise UserError(f"{what}: expected a name on the Hub, such as user/name, found {found!r}")
    return ModelCardData(
        language=languages[0] if len(languages) == 1 else languages or None,
        library_name="transformers",
        pipeline_tag=kinds[0],
        tags=list(dict.fromkeys(tags)),
        base_model=base_model,
        license=license,
        datasets=trained_on or None,
        model_name=name,
        eval_results=_eval_results(figures or {}, kinds, measured_on),
    )


def several(given: OneOrSeveral) -> list[str]:
    """One value, several or none, as a list.

    >>> several("en"), several(("en", "de")), several(None)
    (['en'], ['en', 'de'], [])
    """
    return [given] if isinstance(given, str) else list(given or ())


def is_hub_name(name: str) -> bool:
    """Whether a repository on the Hub may have this name.

    >>> is_hub_name("ada/tickets"), is_hub_name("imdb"), is_hub_name("My tickets"), is_hub_name("a/b/c")
    (True, True, False, False)
    """
    try:
        validate_repo_id(name)
    except ValueError:
        return False
    return name.count("/") < 2


def _eval_results(
    figures: Mapping[str, Any], tasks: Sequence[str], measured_on: tuple[str, str, str | None, str | None]
) -> list[EvalResult] | None:
    """Scores in the format of the Hub's index. An interval is in the metric's name and in its arguments."""
    found = []
    data_set, title_of_data, split, part = measured_on
    for name, result in figures.items():
        if result.get("score") is None:
            continue
        kind, arguments = HUB_METRICS.get(name, (name, {}))
        interval, title = result.get("confidence_interval"), name.replace("_", " ")
        if interval is not None:
            low, high = interval
            title += f" (95% {low:.3f}–{high:.3f})"
            arguments = arguments | {"confidence_interval": [round(low, 4), round(high, 4)], "level": 0.95}
        score = EvalResult(
            task_type=tasks[0],
            task_name=tasks[0].replace("-", " ").title(),
            dataset_type=data_set,
            dataset_name=title_of_data,
            dataset_config=part,
            dataset_split=split,
            metric_type=kind,
            metric_name=title,
            metric_value=round(result["score"], 4),
            metric_args=arguments or None,
        )
        found.append(score)
    return found or None
