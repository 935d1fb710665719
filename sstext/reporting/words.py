"""The sentences of a report and of the terminal, from the numbers of a run."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from sstext.config.spelling import spelled
from sstext.evaluation.held_out import cause_and_remedy
from sstext.plain import plain
from sstext.reporting.comparison import Comparison
from sstext.reporting.run_files import RunFiles
from sstext.storage.run_folder import ALL_DONE, FINAL, TO_LABEL, ZERO_SHOT, stage_name

#: The stage "regression" in words.
REGRESSION = "a logistic regression on the encoder as it was pretrained"
#: What a run without labels learns from.
DESCRIPTIONS = "descriptions of the classes"


#: Total variation from equal shares from which estimated class shares of a corpus are said, and the classes that are named.
FAR_FROM_EQUAL, SHARES_SHOWN = 0.15, 5


def capitalized(words: str) -> str:
    """Words with a capital first letter. Unlike `str.capitalize`, it keeps all other letters.

    >>> capitalized("the baseline (VAT)")
    'The baseline (VAT)'
    """
    return words[:1].upper() + words[1:]


def skipped_said(skipped: int, steps: int) -> str:
    """How many steps of a training were skipped, and why.

    >>> skipped_said(3, 1200)
    '3 of 1,200 steps were skipped, because their loss or gradients were not finite (NaN or infinite)'
    """
    were = "was" if skipped == 1 else "were"
    return f"{skipped:,} of {steps:,} steps {were} skipped, because their loss or gradients were not finite (NaN or infinite)"


def said_first(results: Mapping[str, Any]) -> list[str]:
    """What people must see first: a model that cannot be used, a training that stopped early, and warnings.

    >>> said_first({"rounds": [{"stopped_because": None}], "chosen": {"warnings": ["no text was selected for a final model"]}})
    ['Warning: no text was selected for a final model.']
    """
    lines = []
    if reason := results.get("unusable"):
        lines = [
            f"The model cannot be used: {reason}. Train it longer ({spelled('steps')}) or with a lower "
            f"{spelled('learning_rate')} (for auto and for rounds, {spelled('round_steps')} and round_learning_rate in "
            f"{spelled('method_args')}), and check that the labels follow from the texts."
        ]
    if (stopped := results["rounds"][-1]["stopped_because"]) not in (None, ALL_DONE):
        lines.append(f"Training stopped early: {stopped}.")
    return lines + [f"Warning: {warning}." for warning in results["chosen"].get("warnings", ())]


def what_was_chosen(run: RunFiles) -> str:
    """The first sentences of a report: the chosen model's stage, its training data, and the reason for the choice."""
    if not run.finished:
        done = ", ".join(stage_name(record) for record in run.rounds)
        return f"This run is not finished, and no model is chosen yet. Done so far: {done}."
    record, why = run.rounds[run.chosen], run.results["chosen"]["why"]
    if run.chosen == 0:
        what = f"The chosen model is {first_stage(run)}"
        for said in ("plain fine-tuning on the labels", "supervised fine-tuning", REGRESSION):
            why = why.removeprefix(said).removeprefix("; ")
        why = why or "no later stage was accepted"
    else:
        used = "labeled rows" if run.first != ZERO_SHOT else DESCRIPTIONS
        if record["admitted"]:
            used += f" and {record['admitted']:,} pseudo-labels"
        elif record.get("reads_corpus"):
            used += " and unlabeled rows inside its steps"
        elif not any(r["admitted"] for r in run.rounds[: run.chosen]):
            used += " only"
        model = f"comes from the stage “{stage_name(record)}”" if stage_name(record) != FINAL else "is the final model"
        what = f"The chosen model {model}, which was trained on {used}"
    if why.startswith("the last one"):
        why = why.replace("the last one", "it is the last stage", 1)
    return f"{what}. Reason: {why.rstrip('.')}."


def first_stage(run: RunFiles) -> str:
    """A description of the first stage. If the method uses unlabeled rows in its steps, the baseline uses them, too."""
    if run.first == ZERO_SHOT:
        return f"the zero-shot model, which compares texts with {DESCRIPTIONS}"
    if run.first == "regression":
        return f"the regression ({REGRESSION})"
    if run.rounds[0].get("reads_corpus"):
        return f"the baseline ({run.results.get('method', 'the method')} without further rounds)"
    return "the baseline (fine-tuning on the labeled rows only)"


def what_it_brought(compared: Comparison | None, first: str = "") -> str:
    """The next sentences of a report: the accuracy of the chosen model and of the baseline.

    Args:
        first: name of the first stage.
    """
    if compared is None and first == ZERO_SHOT:
        return "How often it is right is unknown, because no text was labeled, and its confidence was not checked."
    if compared is None:
        return "The accuracy is unknown, because there were no test rows, no folds and no development rows."
    baseline, chosen = compared.names
    baseline = f"{baseline} model" if baseline == ZERO_SHOT else baseline
    accuracy = f"On {compared.rows}, the {chosen} has an accuracy of {with_interval(compared.chosen['accuracy'])}"
    if compared.same:
        return f"{accuracy}."
    gain = ""
    if compared.gain is not None:
        score, low, high = (100 * value for value in compared.gain)
        gain = f" On the same rows, this is a difference of {score:+.1f} points [{low:+.1f}, {high:+.1f}]."
    return f"{accuracy}. The {baseline} has {with_interval(compared.baseline['accuracy'])}.{gain}"


def accuracy_said(results: Mapping[str, Any]) -> str:
    """The estimated accuracy of a run without test rows, in one or two sentences. Empty with test rows, which are the figure.

    Results of earlier versions have no estimate.

    >>> estimate = {"value": .7, "low": .6125, "high": .775, "level": .9, "rows": 80, "source": "held-out"}
    >>> accuracy_said({"test": {}, "rows": {"unlabeled": 9}, "accuracy_estimate": estimate})
    'Accuracy on the corpus: about 70% (90% interval: 61% to 78%), estimated from 80 held-out labeled rows.'
    >>> accuracy_said({"test": {}, "rows": {}, "accuracy_estimate": None})
    'Accuracy: unknown, because no labeled rows were held out. To estimate it, add --folds 3; to measure it, give --test.'
    """
    if results.get("test") or "accuracy_estimate" not in results:
        return ""
    found = results["accuracy_estimate"]
    if found is None and "descriptions" in results["rows"]:  # a run without labels says so beside its choice
        return ""
    if found is None:
        cause, remedy = cause_and_remedy(results.get("nothing_held_out"))
        return f"Accuracy: unknown, because {cause}. To estimate it, {remedy}; to measure it, give --test."
    value, low, high, level = (_whole(found[name]) for name in ("value", "low", "high", "level"))
    figure = f"{value} ({level} interval: {low} to {high})"
    if found["source"] == "development":
        return (
            f"Accuracy on {found['rows']:,} development rows: {figure}. The model was chosen on these rows, so it is "
            "probably lower on new texts."
        )
    texts = "the corpus" if results["rows"].get("unlabeled") else "texts like the labeled ones"
    chosen = f", {found['chosen']:,} of which were chosen, not drawn at random" if found.get("chosen") else ""
    return f"Accuracy on {texts}: about {figure}, estimated from {found['rows']:,} held-out labeled rows{chosen}."


def regression_said(results: Mapping[str, Any]) -> str:
    """A sentence on a frozen regression that is better than the model. Empty if none is known to be better.

    On test rows, its accuracy must lie above the interval of the model. Otherwise its log-loss on held-out or development rows
    decides (`sstext.run.regression_beside`). Runs with a regression among their stages have compared it already.

    >>> beside = {"source": "held-out", "rows": 64, "accuracy": [.75, .5], "log_loss": [.812, 1.204], "ahead": True}
    >>> regression_said({"test": {}, "rounds": [{"stage": "baseline"}], "regression": beside})[:88]
    'On 64 held-out rows, a logistic regression on the encoder as it was pretrained is better'
    >>> regression_said({"test": {}, "rounds": [{"stage": "baseline"}], "regression": beside | {"ahead": False}})
    ''
    """
    test, beside = results.get("test") or {}, results.get("regression")
    if stage_name(results["rounds"][0]) == "regression":
        return ""
    if "regression" in test:
        chosen = test.get("self_trained", test["supervised"])["metrics"]["accuracy"]
        found = test["regression"]["metrics"]["accuracy"]["score"]
        ahead = found > chosen["confidence_interval"][1]
        return f"On the test rows, {REGRESSION} is right more often ({found:.1%}) than this model." if ahead else ""
    if not beside or not beside["ahead"]:
        return ""
    (own, models), (loss, of_model) = beside["accuracy"], beside["log_loss"]
    return (
        f"On {beside['rows']:,} {beside['source']} rows, {REGRESSION} is better than this model: its log-loss is {loss:.3f} "
        f"({of_model:.3f}), and its accuracy is {own:.1%} ({models:.1%})."
    )


def shares_said(results: Mapping[str, Any]) -> str:
    """A sentence on the class shares of the corpus if they seem to be far from equal, as those of balanced labels are.

    >>> found = shares_said({"corpus_shares": {"ham": 0.75, "spam": 0.25}})
    >>> found[:113]
    'Every class has the same number of labels, but the corpus seems to have other shares: ham 75%, spam 25% (estimate'
    >>> shares_said({"corpus_shares": {"ham": 0.6, "spam": 0.4}})
    ''
    """
    shares = results.get("corpus_shares") or {}
    if sum(abs(share - 1 / len(shares)) for share in shares.values()) / 2 < FAR_FROM_EQUAL:
        return ""
    order = sorted(shares, key=lambda name: -shares[name])
    found = ", ".join(f"{name} {_whole(shares[name])}" for name in order[:SHARES_SHOWN])
    others = f" and {len(order) - SHARES_SHOWN} more" if len(order) > SHARES_SHOWN else ""
    option = spelled("prior", dict.fromkeys(order, "SHARE")) if len(order) <= SHARES_SHOWN else spelled("prior")
    return (
        f"Every class has the same number of labels, but the corpus seems to have other shares: {found}{others} (estimated). "
        f"If you know the true shares, give {option}; the model is better with them."
    )


def _whole(share: float) -> str:
    """A share in whole percent. Halves are rounded up."""
    return f"{int(100 * share + 0.5)}%"


def what_was_left_out(run: RunFiles) -> str:
    """A sentence on the parts of a run that a budget left out. Empty if nothing was left out."""
    left_out = run.results.get("left_out")
    return left_out_said(left_out, (run.options or {}).get("budget")) if left_out else ""


def what_overlaps(run: RunFiles) -> str:
    """A sentence on held-out texts that are training texts, too. Empty if none are known."""
    kinds = {"test": "test", "dev": "development"}
    found = [f"{count:,} {kinds[what]} texts" for what, count in (run.results.get("overlap") or {}).items()]
    if not found:
        return ""
    return f"{capitalized(' and '.join(found))} are labeled training texts, too: figures on them say nothing about new texts."


def what_to_label(run: RunFiles) -> str:
    """A sentence on the texts that should be labeled next. Empty if none were chosen."""
    chosen = run.results.get("to_label")
    if not chosen or not (run.path / TO_LABEL).exists():  # `sstext forget` deletes them
        return ""
    return f"{TO_LABEL} has {chosen:,} texts that should be labeled {'first' if run.first == ZERO_SHOT else 'next'}."


def with_interval(figure: Mapping[str, Any], scale: float = 100.0) -> str:
    """A figure and its 95 % interval. Default: in percent.

    >>> with_interval({"score": .5, "confidence_interval": (.25, .75)}), with_interval({"score": 1.25}, scale=1)
    ('50.0% [25.0, 75.0]', '1.250')
    """
    digits, unit = (1, "%") if scale == 100 else (3, "")
    score = f"{scale * figure['score']:.{digits}f}{unit}"
    interval = figure.get("confidence_interval")
    if not interval:
        return score
    return f"{score} [{', '.join(f'{scale * bound:.{digits}f}' for bound in interval)}]"


def short_name(name: str, limit: int) -> str:
    """Shorten the name of a class to at most `limit` columns of a terminal.

    >>> short_name("card_payment_wrong_exchange_rate", 12), short_name("退款", 12)
    ('card_paymen…', '退款')
    """
    name = plain(" ".join(name.split()))
    if columns_of(name) <= limit:
        return name
    while columns_of(name) > limit - 1:
        name = name[:-1]
    return name + "…"


def columns_of(name: str) -> int:
    """The width of a name in Latin letters. East Asian letters count twice, and combining accents do not count.

    >>> columns_of("Müller"), columns_of("退款")
    (6, 4)
    """
    widths = {"W": 2, "F": 2}
    return sum(0 if unicodedata.combining(c) else widths.get(unicodedata.east_asian_width(c), 1) for c in name)


def left_out_said(left_out: Sequence[str], budget: str | None) -> str:
    """A sentence on the parts of a run that a budget left out, with the remedy. Empty if nothing was left out.

    >>> left_out_said(["15% of the steps", "1 of the chains"], "9m")
    'Left out for --budget 9m: 15% of the steps, 1 of the chains; a larger --budget, or none, brings them back.'
    """
    if not left_out:
        return ""
    given = f"--budget {budget}" if budget else "the budget"
    return f"Left out for {given}: {', '.join(left_out)}; a larger --budget, or none, brings them back."
