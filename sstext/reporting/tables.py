"""The tables of a report, as text: models, stages, plan, settings, facts, and times of the phases."""

from collections.abc import Mapping, Sequence
from typing import Any

from sstext.config.old_options import in_new_names
from sstext.config.options import default_of, options
from sstext.config.run_config import RunConfig
from sstext.errors import UserError
from sstext.progress import duration
from sstext.reporting.before_training import class_texts_said, encoders_said, reading_said
from sstext.reporting.comparison import Comparison
from sstext.reporting.run_files import RunFiles
from sstext.reporting.words import DESCRIPTIONS, capitalized, with_interval
from sstext.storage.run_folder import FINAL, ZERO_SHOT, stage_name

#: The stage "regression" in words.


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
        "pseudo-labels": lambda r: f"{r['admitted']:,}" if r["admitted"] else "",
        "share of corpus": lambda r: _share(r["coverage"] or None),
        "mean confidence": lambda r: _share(r.get("estimated_precision")),
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


def facts(run: RunFiles) -> list[tuple[str, str]]:
    """Further facts about a run: rows, machine, versions, seed."""
    results = run.results
    machine, lengths = results.get("machine", {}), results.get("max_length", {})
    texts = results.get("class_texts")  # runs of earlier versions have none
    encoders, reading = results.get("encoders"), results.get("pooling")  # neither do they have these
    found = {
        "method": results.get("method", ""),
        "classes": f"{len(run.classes):,}",
        "rows": ", ".join(f"{count:,} {name}" for name, count in results.get("rows", {}).items()),
        **({"encoders": "; ".join(encoders_said(encoders))} if encoders else {}),
        **({"pooling": reading_said(reading)} if reading and reading["model"] == reading["reading"] else {}),
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
