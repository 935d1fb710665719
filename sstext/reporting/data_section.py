"""What the report shows of the data: classes and their rows, findings of the quick check, and texts to label next."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sstext.reporting.examples import shortened
from sstext.reporting.run_files import RunFiles
from sstext.storage.run_folder import TO_LABEL

#: Roles of rows, as people read them.
TITLES = {"labeled": "labeled", "dev": "development", "test": "test"}
#: Texts to label that the page shows, and groups of places of a finding.
SHOWN, GROUPS = 24, 3


@dataclass(frozen=True)
class Shown:
    """A finding.

    Attributes:
        said: the sentence with its remedy.
        examples: groups of (rows that a text is among, its label or "", the text).
    """

    said: str
    examples: list[list[tuple[str, str, str]]]


@dataclass(frozen=True)
class DataSection:
    """Classes and findings.

    Attributes:
        titles: of the columns, the first of which is the class.
        classes: a line for each class.
        findings: what the check found.
        checked: rows that were checked, for example "64 labeled, 20,000 of 1,000,000 unlabeled".
        partly: whether there are more rows than these.
        command: checks all rows.
    """

    titles: list[str]
    classes: list[list[str]]
    findings: list[Shown]
    checked: str
    partly: bool
    command: str


def data_section(run: RunFiles) -> DataSection | None:
    """Classes and findings of a run, or None if nothing was checked."""
    found = run.checkup
    if found is None:
        return None
    columns = {title: found["classes"][role] for role, title in TITLES.items() if role in found["classes"]}
    predicted = run.rounds[run.judged].get("class_shares") or {}
    lines = []
    for name in run.classes:
        line = [name, *(f"{counts.get(name, 0):,}" for counts in columns.values())]
        lines.append(line + ([f"{predicted.get(name, 0):.1%}"] if predicted else []))
    titles = ["class", *columns, *(["predicted in the corpus"] if predicted else [])]
    checked = ", ".join(
        f"{rows['checked']:,} {'of ' + format(rows['all'], ',') + ' ' if rows['checked'] < rows['all'] else ''}{role}"
        for role, rows in found["rows"].items()
    )
    partly = any(rows["checked"] < rows["all"] for rows in found["rows"].values())
    findings = [_shown(one) for one in found["findings"]]
    return DataSection(titles, lines, findings, checked, partly, check_command(run.options))


def _shown(finding: dict[str, Any]) -> Shown:
    examples = [
        [(place["file"], place["label"] or "", shortened(place["text"], 200)) for place in group[:3]]
        for group in finding["examples"][:GROUPS]
    ]
    return Shown(f"{finding['where']}: {finding['said']}; {finding['remedy']}.", examples)


def check_command(options: dict[str, Any] | None) -> str:
    """The command that checks all rows of a run. Empty if its data were given in Python.

    >>> check_command({"labeled": "my.csv", "unlabeled": "all texts.jsonl", "test": None})
    "sstext check my.csv --unlabeled 'all texts.jsonl'"
    >>> check_command({"data": "my.csv", "unlabeled_value": ["?", "none"], "encoding": "utf-8"})
    "sstext check my.csv --unlabeled-value '?' none"
    >>> check_command({"encoding": "cp1252"})
    ''
    """
    options = options or {}
    files = [options[name] for name in ("data", "labeled") if isinstance(options.get(name), str)]
    words = ["sstext", "check", *files]
    for name in ("unlabeled", "dev", "test"):
        if isinstance(options.get(name), str):
            words += [f"--{name}", options[name]]
            files.append(options[name])
    for name in ("text_column", "label_column", "unlabeled_value", "encoding"):
        values = options.get(name)
        if values is not None and values != "utf-8":
            words += [f"--{name.replace('_', '-')}", *([values] if isinstance(values, str) else values)]
    return shlex.join(words) if files else ""


def commands_to_label(run: RunFiles) -> list[str]:
    """The commands that label the texts to label, that go on with them, and that choose others.

    They are for the folder in which the report is written. If the run is elsewhere, only its name is shown, because the page
    may be passed on.
    """
    here = run.path.resolve().is_relative_to(Path.cwd())
    folder = os.path.relpath(run.path) if here else run.path.resolve().name
    file = f"{folder}/{TO_LABEL}"
    return [
        shlex.join(["sstext", "label", file]),
        shlex.join(["sstext", "train", folder, "--more", file]),
        shlex.join(["sstext", "suggest", "--run", folder, "-o", "next.csv"]),
    ]


def texts_to_label(run: RunFiles) -> list[tuple[str, str, str]]:
    """Text, guess and reason of the first texts to label."""
    return [(shortened(one.text), one.guess, one.reason) for one in run.to_label[:SHOWN]]
