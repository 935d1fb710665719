"""The model card of a trainer: what it knows of its model, and what people add."""

from pathlib import Path
from typing import Any, cast

from sstext.errors import UserError
from sstext.hub.card import model_card
from sstext.methods.catalog import described, entry
from sstext.modeling.pretrained import DEMO, encoder_path, length_limit, prefix_of

#: Figures of an evaluation that say nothing about the model.
_OF_THE_MACHINE = ("_runtime", "_per_second", "_time")


def card_of(trainer: Any, given: dict[str, Any]) -> str:
    """The README.md of a trainer's model: classes, encoder, rows, method, and the figures of the last evaluation.

    Args:
        trainer: a `Trainer`.
        given: values for `sstext.hub.card.model_card`, which go before those of the trainer. `name` is one of them.

    Raises:
        UserError: a value that the Hub would refuse.
    """
    return model_card(**{**_known(trainer), **given})


def _known(trainer: Any) -> dict[str, Any]:
    config, tokenizer = trainer.model.config, cast(Any, trainer.processing_class)
    names = ("train_dataset", "unlabeled_dataset", "pseudo_labeled_dataset")
    kinds = ("labeled", "unlabeled", "pseudo-labeled")
    rows = {
        kind: len(data)
        for kind, name in zip(kinds, names, strict=True)
        if (data := getattr(trainer, name, None)) is not None and hasattr(data, "__len__")
    }
    figures = _last_evaluation(trainer.state.log_history)
    method = trainer.chosen_method
    paper = entry(method).source if isinstance(method, str) else ""
    arguments = (getattr(trainer.args, name, {}) for name in ("method_args", "regularizers"))
    self_trained = any(getattr(trainer, name, None) is not None for name in names[1:])
    return {
        "classes": [config.id2label[number] for number in range(config.num_labels)],
        "encoder": _encoder(str(config._name_or_path or "")),
        "max_length": length_limit(tokenizer, config) if tokenizer is not None else 512,
        "prefix": prefix_of(config),
        "problem_type": config.problem_type or "",
        "rows": rows,
        "rounds": [],
        "results": {"last evaluation": figures} if figures else None,
        "chosen": None,
        "of_this_model": "last evaluation",
        "measured_on": "evaluation rows",
        "self_trained": self_trained,
        "method": described(method, *arguments) if isinstance(method, str) else "an objective of its own",
        "citation": paper or None,
    }


def _last_evaluation(history: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of the last evaluation in a log, by metric."""
    logs = [log for log in history if any(name.startswith("eval_") for name in log)]
    return {
        name.removeprefix("eval_"): {"score": float(value)}
        for name, value in (logs[-1] if logs else {}).items()
        if name.startswith("eval_") and not name.endswith(_OF_THE_MACHINE)
    }


def _encoder(name: str) -> str:
    """The name of an encoder for a card: `demo` for its folder, others as they are."""
    try:
        return DEMO if name and Path(name) == Path(encoder_path(DEMO)) else name
    except UserError:  # it is not installed
        return name
