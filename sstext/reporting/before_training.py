"""The sentences on what is known and what labels choose before anything is trained."""

from collections.abc import Mapping, Sequence
from typing import Any

from sstext.errors import listed


def class_texts_said(record: Mapping[str, Any]) -> str:
    """How the names or descriptions of the classes were used, and on what evidence.

    Args:
        record: "weight" in labeled rows per class, and "log_loss": weight → mean log-loss of held-out labeled rows. If the
            texts could not be tried: "why".

    >>> class_texts_said({"weight": 8.0, "log_loss": {"0": 1.25, "8": 1.125}})
    'used with the weight of 8 labeled rows per class (log-loss of held-out labels: 1.125 with them, 1.250 without)'
    >>> class_texts_said({"weight": 0.0, "log_loss": {"0": 1.25, "2": 1.5, "4": 2.0}})
    'not used (log-loss of held-out labels: 1.500 with them, 1.250 without)'
    >>> class_texts_said({"weight": 0.0, "log_loss": {}, "why": "some are numbers or codes"})
    'not used, because some are numbers or codes'
    """
    if record.get("why"):
        return f"not used, because {record['why']}"
    weight, losses = f"{record['weight']:g}", record["log_loss"]
    used = weight != "0"
    best = losses[weight] if used else min(loss for other, loss in losses.items() if other != "0")
    how = f"used with the weight of {weight} labeled rows per class" if used else "not used"
    return f"{how} (log-loss of held-out labels: {best:.3f} with them, {losses['0']:.3f} without)"


def reading_said(record: Mapping[str, Any]) -> str:
    """What the head reads, and on what evidence.

    Args:
        record: see `sstext.pseudolabels.reading_choice.ReadingChoice`.

    >>> reading_said({"reading": "mean", "trained": "mean", "gain": -0.25, "rows": 40, "enough": True})
    'the head reads the mean of all tokens, for which the encoder was trained; held-out labels agree'
    >>> reading_said({"reading": "first", "trained": "first", "gain": 0.25, "rows": 12, "enough": False})
    'the head reads the first token, for which the encoder was trained; 12 labels are too few to choose the other'
    >>> reading_said({"reading": "mean", "trained": "first", "gain": 0.25, "rows": 40, "enough": True})
    'the head reads the mean of all tokens, because held-out labels clearly prefer it to the first token'
    """
    names = {"mean": "the mean of all tokens", "first": "the first token"}
    taken, trained = record["reading"], record["trained"]
    (other,) = names.keys() - {taken}
    said = f"the head reads {names[taken]}"
    if taken != (trained or "mean"):
        return f"{said}, because held-out labels clearly prefer it to {names[other]}"
    said += ", for which the encoder was trained" if trained else ", as is usual"
    if record["gain"] <= 0:
        return f"{said}; held-out labels agree"
    if not record["enough"]:
        return f"{said}; {record['rows']} labels are too few to choose the other"
    return f"{said}; held-out labels do not clearly prefer {names[other]}"


def zero_shot_said(classes: Sequence[str], *, checked: bool) -> str:
    """What people must know of a run without labels, before it begins.

    >>> zero_shot_said(["ham", "spam"], checked=True)
    "zero-shot: there are no labels to train on; the classes are those of the descriptions: 'ham', 'spam'"
    """
    said = f"zero-shot: there are no labels to train on; the classes are those of the descriptions: {listed(list(classes))}"
    return said if checked else f"{said}; nothing will show whether the model is right, or whether its round helps"


#: What encoders are compared by.
COMPARED_BY = "logistic regressions on their embeddings, cross-validated on the labels"


def held_out_said(figures: Mapping[str, Any]) -> str:
    """How well the embeddings of an encoder predict held-out labels.

    Args:
        figures: "log_loss", "accuracy", "reading" ("mean" or "first"), and if there are class texts, their "class_texts"
            ("names" or "descriptions") and "weight".

    >>> held_out_said({"log_loss": 0.625, "accuracy": 0.75})
    'calibrated log-loss of held-out labels 0.625, accuracy 75.0%'
    >>> held_out_said({"log_loss": 0.625, "accuracy": 0.75, "class_texts": "names", "weight": 4.0})
    'calibrated log-loss of held-out labels 0.625, accuracy 75.0%, class names used with the weight of 4 labeled rows per class'
    """
    said = f"calibrated log-loss of held-out labels {figures['log_loss']:.3f}, accuracy {figures['accuracy']:.1%}"
    if figures.get("reading") == "first":
        said += ", by the first token"
    if not figures.get("class_texts"):
        return said
    weight = (
        f"used with the weight of {figures['weight']:g} labeled rows per class" if figures["weight"] else "not used"
    )
    return f"{said}, class {figures['class_texts']} {weight}"


def encoders_said(comparison: Mapping[str, Any]) -> list[str]:
    """Each encoder with its figures, and the one that was taken, one line each.

    Args:
        comparison: the content of `encoders.json`.
    """
    lines = [f"{one['encoder']}: {held_out_said(one)}" for one in comparison["compared"]]
    losses = sorted(one["log_loss"] for one in comparison["compared"])
    reason = "the lowest log-loss" if losses[0] < losses[1] else "the first of those with the lowest log-loss"
    return [*lines, f"{comparison['chosen']} was taken ({reason}, {comparison['rows']:,} labels)"]
