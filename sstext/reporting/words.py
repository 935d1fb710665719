"""The sentences and tables of a report, from the numbers of a run."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from sstext.config.old_options import in_new_names
from sstext.config.options import default_of, options
from sstext.config.run_config import RunConfig
from sstext.errors import UserError, listed
from sstext.progress import duration
from sstext.reporting.comparison import Comparison
from sstext.reporting.run_files import RunFiles
from sstext.storage.run_folder import FINAL, TO_LABEL, ZERO_SHOT, stage_name

#: The stage "regression" in words.
REGRESSION = "a logistic regression on the encoder as it was pretrained"
#: What a run without labels learns from.
DESCRIPTIONS = "descriptions of the classes"


def capitalized(words: str) -> str:
    """Words with a capital first letter. Unlike `str.capitalize`, it keeps all other letters.

    >>> capitalized("the baseline (VAT)")
    'The baseline (VAT)'
    """
    return words[:1].upper() + words[1:]


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
    'Accuracy: unknown, because no labeled rows were held out. --folds 3 estimates it, --test measures it.'
    """
    if results.get("test") or "accuracy_estimate" not in results:
        return ""
    found = results["accuracy_estimate"]
    if found is None and "description" in results["rows"]:  # without labels, folds are impossible
        return ""
    if found is None:
        return "Accuracy: unknown, because no labeled rows were held out. --folds 3 estimates it, --test measures it."
    value, low, high, level = (_whole(found[name]) for name in ("value", "low", "high", "level"))
    figure = f"{value} ({level} interval: {low} to {high})"
    if found["source"] == "development":
        return (
            f"Accuracy on {found['rows']:,} development rows: {figure}. The model was chosen on these rows, so it is "
            "probably lower on new texts."
        )
    texts = "the corpus" if results["rows"].get("unlabeled") else "texts like the labeled ones"
    return f"Accuracy on {texts}: about {figure}, estimated from {found['rows']:,} held-out labeled rows."


def _whole(share: float) -> str:
    """A share in whole percent. Halves are rounded up."""
    return f"{int(100 * share + 0.5)}%"


def what_was_left_out(run: RunFiles) -> str:
    """A sentence on the parts of a run that a budget left out. Empty if nothing was left out."""
    left_out = run.results.get("left_out")
    return left_out_said(left_out, (run.options or {}).get("budget")) if left_out else ""


def what_to_label(run: RunFiles) -> str:
    """A sentence on the texts that should be labeled first. Empty if none were chosen."""
    chosen = run.results.get("to_label")
    if not chosen:
        return ""
    return f"{TO_LABEL} has {chosen:,} texts that should be labeled first."


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


def comparison_table(compared: Comparison) -> list[list[str]]:
    """One line per metric that all models have: its title, and a cell for each of `Comparison.models`."""
    titles = {
        "accuracy": ("accuracy", 100),
        "macro_f1": ("macro-F1", 100),
        "expected_calibration_error": ("calibration error", 100),
        "nll": ("log-loss (nats)", 1),
        "log_loss": ("log-loss (nats)", 1),
        "brier": ("Brier score", 1),
    }
    models = list(compared.models.values())
    shown = [name for name in titles if all(name in metrics for metrics in models)]

    def cell(
        numbers: Mapping[str, Any], name: str
    ) -> str:  # a phone may break the line before the interval, but not inside
        return with_interval(numbers[name], titles[name][1]).replace(", ", ",\N{NO-BREAK SPACE}")

    return [[titles[name][0], *(cell(metrics, name) for metrics in models)] for name in shown]


def rounds_table(rounds: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Column titles, and one line per stage. Columns without any value are left out."""
    calibrated = stage_name(rounds[0]) != ZERO_SHOT  # without labels, there is nothing to calibrate with
    cells: dict[str, Any] = {
        "stage": stage_name,
        "pseudo-labels": lambda r: f"{r['admitted']:,}",
        "share of corpus": lambda r: _share(r["coverage"] or None),
        "correct (estimate)": lambda r: _share(r.get("estimated_precision")),
        "correct (audit)": lambda r: _share(r.get("audit_precision")),
        "accuracy, held-out": lambda r: _share(r.get("out_of_fold", {}).get("accuracy")),
        "macro-F1, held-out": lambda r: _share(r.get("out_of_fold", {}).get("macro_f1")),
        "log-loss, held-out": lambda r: _number(r.get("out_of_fold", {}).get("log_loss")),
        "gain (expected)": _gain,
        "accuracy, development": lambda r: _share(r["metrics"].get("accuracy")),
        "macro-F1, development": lambda r: _share(r["metrics"].get("macro_f1")),
        "unchanged class": lambda r: _share(r["agreement"]),
        "chains agree": lambda r: _share(r.get("chain_agreement")),
        "temperature": lambda r: f"{r['temperature']:.2f}" if calibrated or r["metrics"] else "",
        "steps": lambda r: _steps(r["steps"]),
        "time": lambda r: _together(duration(r["seconds"])),
        "refused": lambda r: r.get("refused") or "",
    }
    table = {title: [cell(record) for record in rounds] for title, cell in cells.items()}
    filled = {title: column for title, column in table.items() if any(column)}
    return list(filled), [list(line) for line in zip(*filled.values(), strict=True)]


def plan_table(plan: Mapping[str, Any] | None) -> list[tuple[str, str, str, str]]:
    """One line per stage of a plan: name, training data, what labels these texts, steps. Empty without stages."""
    stages = (plan or {}).get("stages", ())
    given = DESCRIPTIONS if stages and stages[0]["name"] == ZERO_SHOT else "labeled rows"
    return [
        (
            capitalized("final model" if stage["name"] == FINAL else stage["name"]),
            f"{given} and pseudo-labels of {stage['learns_from']}" if stage["learns_from"] else given,
            stage["labeled_by"] or "",
            _steps(stage["steps"]),
        )
        for stage in stages
    ]


def how_selected(plan: Mapping[str, Any] | None, every: bool) -> str:
    """A sentence on the selection of pseudo-labels. Empty if no stage of the plan selects by quota.

    Args:
        every: whether all rows were selected.

    >>> how_selected(None, every=True), how_selected(None, every=False)
    ('Every row was selected.', 'The selection also depends on the rank within the class.')
    """
    if every:
        return "Every row was selected."
    stages = (plan or {}).get("stages", ())
    if stages and not any(stage.get("keep") for stage in stages):
        return ""
    return "The selection also depends on the rank within the class."


def changed_settings(recorded: Mapping[str, Any] | None) -> list[tuple[str, str, str]]:
    """Name, value and default of every option that differs from its default. Options that name data are included.

    Options of version 0.1 have their present names.
    """
    if recorded is None:
        return []
    recorded = in_new_names(recorded)
    try:
        usual = RunConfig(method=recorded.get("method", default_of(options(RunConfig)["method"])))
    except UserError:  # a method of a newer version
        usual = RunConfig()
    changed = []
    for name, spec in options(RunConfig).items():
        default = default_of(spec) if name == "method" else getattr(usual, name)
        if name in recorded and recorded[name] != default:
            usually = "auto" if default is None and spec.metadata["computed"] else _value(default)
            changed.append((name, _value(recorded[name]), usually))
    return changed


def class_texts_said(record: Mapping[str, Any]) -> str:
    """How the names or descriptions of the classes were used, and on what evidence.

    Args:
        record: "weight" in labeled rows per class, and "log_loss": weight → mean log-loss of held-out labeled rows.

    >>> class_texts_said({"weight": 8.0, "log_loss": {"0": 1.25, "8": 1.125}})
    'used with the weight of 8 labeled rows per class (log-loss of held-out labels: 1.125 with them, 1.250 without)'
    >>> class_texts_said({"weight": 0.0, "log_loss": {"0": 1.25, "2": 1.5, "4": 2.0}})
    'not used (log-loss of held-out labels: 1.500 with them, 1.250 without)'
    """
    weight, losses = f"{record['weight']:g}", record["log_loss"]
    used = weight != "0"
    best = losses[weight] if used else min(loss for other, loss in losses.items() if other != "0")
    how = f"used with the weight of {weight} labeled rows per class" if used else "not used"
    return f"{how} (log-loss of held-out labels: {best:.3f} with them, {losses['0']:.3f} without)"


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
        figures: "log_loss", "accuracy", and if there are class texts, their "class_texts" ("names" or "descriptions") and
            "weight".

    >>> held_out_said({"log_loss": 0.625, "accuracy": 0.75})
    'calibrated log-loss of held-out labels 0.625, accuracy 75.0%'
    >>> held_out_said({"log_loss": 0.625, "accuracy": 0.75, "class_texts": "names", "weight": 4.0})
    'calibrated log-loss of held-out labels 0.625, accuracy 75.0%, class names used with the weight of 4 labeled rows per class'
    """
    said = f"calibrated log-loss of held-out labels {figures['log_loss']:.3f}, accuracy {figures['accuracy']:.1%}"
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


def facts(run: RunFiles) -> list[tuple[str, str]]:
    """Further facts about a run: rows, machine, versions, seed."""
    results = run.results
    machine, lengths = results.get("machine", {}), results.get("max_length", {})
    texts = results.get("class_texts")  # runs of earlier versions have none
    encoders = results.get("encoders")  # neither do they have several encoders
    found = {
        "method": results.get("method", ""),
        "classes": f"{len(run.classes):,}",
        "rows": ", ".join(f"{count:,} {name}" for name, count in results.get("rows", {}).items()),
        **({"encoders": "; ".join(encoders_said(encoders))} if encoders else {}),
        **({f"class {texts['kind']}": class_texts_said(texts)} if texts else {}),
        "tokens read": ", ".join(f"{count:,} in {name}" for name, count in lengths.items()),
        "seed": str(results.get("seed", "")),
        "machine": ", ".join(
            f"{value} thread{'s' if value != 1 else ''}" if name == "threads" else str(value)
            for name, value in machine.items()
        ),
        "versions": ", ".join(f"{name} {version}" for name, version in results.get("versions", {}).items()),
        "time": duration(results["seconds"]) if "seconds" in results else "",
        "peak memory": _memory(results.get("peak_memory_mib") or {}),
    }
    return [(name, text) for name, text in found.items() if text]


def phases(run: RunFiles) -> list[tuple[str, str, float]]:
    """Name, time and share of the total time of every phase. Older runs have only the times of their stages."""
    recorded = run.results.get("phases") or [
        {"name": stage_name(record), "seconds": record["seconds"]} for record in run.rounds
    ]
    whole = max(sum(phase["seconds"] for phase in recorded), 1e-9)
    return [(phase["name"], _together(duration(phase["seconds"])), phase["seconds"] / whole) for phase in recorded]


def short_name(name: str, limit: int) -> str:
    """Shorten the name of a class to at most `limit` columns of a terminal.

    >>> short_name("card_payment_wrong_exchange_rate", 12), short_name("退款", 12)
    ('card_paymen…', '退款')
    """
    name = " ".join(name.split())
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


def _gain(record: Mapping[str, Any]) -> str:
    gain = record.get("gain")
    if not gain:
        return ""
    return _together(f"{gain['observed']:+.3f} ± {gain['standard_error']:.3f}") + f" ({gain['expected']:+.3f})"


def _memory(peak: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{peak[name]:,.0f} MiB of the {name}" for name in ("process", "device") if peak.get(name) is not None
    )


def _together(words: str) -> str:
    """Keep words on one line."""
    return words.replace(" ", "\N{NO-BREAK SPACE}")


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{name}={one}" for name, one in value.items()) or "none"
    return "none" if value is None else str(value)


def _steps(steps: int) -> str:
    """A number of steps. Empty for 0: a regression is fitted without steps."""
    return f"{steps:,}" if steps else ""


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def left_out_said(left_out: Sequence[str], budget: str | None) -> str:
    """A sentence on the parts of a run that a budget left out, with the remedy. Empty if nothing was left out.

    >>> left_out_said(["15% of the steps", "1 of the chains"], "9m")
    'Left out for --budget 9m: 15% of the steps, 1 of the chains; a larger --budget, or none, brings them back.'
    """
    if not left_out:
        return ""
    given = f"--budget {budget}" if budget else "the budget"
    return f"Left out for {given}: {', '.join(left_out)}; a larger --budget, or none, brings them back."
