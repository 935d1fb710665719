"""Go on from a finished run with further labeled texts or other options: `sstext train out --more labels.csv --rounds 2`."""

import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sstext.config.run_config import RunConfig
from sstext.config.spelling import spelled
from sstext.data.exports.export import REASON
from sstext.data.labeling_tasks import reasons_in
from sstext.data.labels import similar_class
from sstext.data.loading import load_labeled
from sstext.data.run_sources import fingerprints, sources
from sstext.data.sources import open_table
from sstext.data.writers import RowWriter
from sstext.errors import UserError, listed
from sstext.progress import SILENT, Reporter
from sstext.reporting.readers import read_predictions
from sstext.storage.run_folder import CONFIG, RunDirectory
from sstext.storage.whole import written_whole

#: Options that say how labeled texts are read.
READING = ("text_column", "label_column", "encoding", "unlabeled_value")


@dataclass(frozen=True)
class Labels:
    """Labeled texts: text → class, and text → the reason why it was chosen, where this is known."""

    classes: dict[str, str]
    reasons: dict[str, str]
    unlabeled: list[str] = field(default_factory=list)  #: texts of the same source that have no label
    source: str = ""  #: its name
    contradicted: int = 0  #: texts with several labels, of which the last one counts


def finished_run(folder: str | Path, what: str = "run") -> RunDirectory:
    """The folder of a finished run.

    Args:
        what: the option that names it.

    Raises:
        UserError: it is none.
    """
    directory = RunDirectory(folder)
    if not directory.results.is_file() or not (directory.path / CONFIG).is_file():
        resumed = "; to resume it, give the command that began it" if directory.holds_run() else ""
        raise UserError(
            f"{what}: expected the folder of a finished run (with {directory.results.name}), found {folder}{resumed}"
        )
    return directory


def given_in_python(run: RunDirectory) -> set[str]:
    """The sources of a run that were given in Python, and not as files."""
    return (
        run.read_data().get("fingerprints", {}).keys()
        - sources(RunConfig(**run.read_options())).keys()
        - {"descriptions"}
    )


def labels_of(run: RunDirectory) -> Labels | None:
    """The labeled texts of a finished run. None if it was not given them as a file, and none of them were held out."""
    options = run.read_options()
    source, held_out = options.get("data") or options.get("labeled"), run.predictions("out_of_fold")
    if source is not None and not options.get("sample"):
        return read_labels(source, **_reading(options))
    if not held_out.is_file():
        return None
    classes = run.read_results()["classes"]
    rows = read_predictions(held_out, classes)
    return Labels(dict(zip(rows.texts.to_pylist(), (classes[number] for number in rows.labels), strict=True)), {})


def _reading(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in READING if options.get(name) is not None}


def _that_fit(source: Any, reading: Mapping[str, Any]) -> dict[str, Any]:
    """Without names of columns that a file does not have: `to_label.csv` has a text and a label in any case."""
    if not isinstance(source, str | Path):
        return dict(reading)
    first = next(open_table(source, reading.get("encoding", "utf-8"), "train").batches, None)
    columns = first.columns if first is not None else {}
    if {"text", "label", REASON} <= set(columns):  # whatever the column of that name holds in other files
        columns = {name: values for name, values in columns.items() if name != REASON}
    return {name: value for name, value in reading.items() if not name.endswith("_column") or value in columns}


def read_labels(source: Any, least_classes: int = 2, **reading: Any) -> Labels:
    """Labeled texts from a source. Rows without a label are left out.

    Args:
        least_classes: number of classes that must occur.
        reading: `text_column`, `label_column`, `encoding` and `unlabeled_value`, see `sstext.RunConfig`.

    Raises:
        UserError: the source cannot be read, or has no label.
    """
    reasons = reasons_in(source, **reading)
    read = load_labeled(source, what="more", least_classes=least_classes, **reading)
    names = [read.classes[number] for number in read.texts["label"][:]]
    others = read.without_label.columns["text"] if read.without_label is not None else []
    pairs = list(zip(read.texts["text"][:], names, strict=True))
    several = sum(count > 1 for count in Counter(text for text, _ in set(pairs)).values())
    return Labels(dict(pairs), reasons, others, str(source), several)


def next_folder(run: Path) -> Path:
    """The folder of the run that goes on from another one.

    >>> next_folder(Path("runs/out")).name, next_folder(Path("out-2")).name
    ('out-2', 'out-3')
    """
    run = run if run.name else run.resolve()  # "."
    numbered = re.fullmatch(r"(.+)-(\d+)", run.name)
    name, number = (numbered[1], int(numbered[2])) if numbered else (run.name, 1)
    return run.with_name(f"{name}-{number + 1}")


def go_on(
    run: str | Path,
    more: Any,
    changes: Mapping[str, Any],
    *,
    reporter: Reporter = SILENT,
    file: Path | None = None,
) -> RunConfig:
    """The options of a new run that has the options and labels of a finished one, other options, and further labels.

    All labels are written to a file beside the new folder (`out-2.labeled.csv` for `out-2`), so that the new run can be
    repeated like any other, and others can go on from it. If a text has another label in both, the new one counts. If the file
    of the old labels also has texts without a label, these stay in the corpus: the new file has them, too, unless the old file
    becomes the corpus. Texts of a corpus that are labeled are left out of it.

    Args:
        run: folder of the finished run. It stays as it is.
        more: labeled texts, in any format that `labeled` may have, or a list of files; rows without a label are left out. None:
            there are none.
        changes: options that differ from those of the finished run. Default output: see `next_folder`.
        reporter: says how many labels there are.
        file: the file to write instead.

    Raises:
        UserError: the run is not finished, its labels are not known, `more` has no labels, or nothing changes.
    """
    before = finished_run(run, "train")
    options = before.read_options() | {"output": str(next_folder(before.path))} | dict(changes)
    if more is None:
        return _with_other_options(before, options, reporter)
    if options.get("sample"):
        raise UserError(
            "more: the run drew a sample of labeled texts; give --labeled and --unlabeled instead of going on"
        )
    reading = _reading(options)
    zero_shot = "labeled" not in before.read_data().get("fingerprints", {})
    old = Labels({}, {}) if zero_shot else labels_of(before)
    if old is None:
        raise UserError(
            f"more: the labeled texts of {run} are not in a file; train with --labeled, with all labels in it"
        )
    if not zero_shot:
        _note_changes(before, RunConfig(**before.read_options()), ("labeled",), reporter)
    files = more if isinstance(more, list) and all(isinstance(one, str | Path) for one in more) else [more]
    joined = old
    for one in files:
        new = read_labels(one, least_classes=1 if joined.classes else 2, **_that_fit(one, reading))
        joined = _joined(joined, new, reporter)
    content = io.BytesIO()
    with RowWriter(content, "csv", encoding=reading.get("encoding", "utf-8")) as writer:
        columns: dict[str, list[Any]] = {
            reading.get("text_column", "text"): list(joined.classes),
            reading.get("label_column", "label"): list(joined.classes.values()),
        }
        if REASON not in columns:  # a column of that name may hold the texts or the labels
            columns[REASON] = [joined.reasons.get(text) for text in joined.classes]
        writer.write(columns)
        others = [text for text in old.unlabeled if text not in joined.classes]
        if others and (options.get("unlabeled") or not options.get("data")):
            text, label = list(columns)[:2]
            empty = [None] * len(others)
            writer.write(dict.fromkeys(columns, empty) | {text: others, label: empty})
            if options.get("views"):
                reporter.note(f"views: the {len(others):,} unlabeled texts of {old.source} lose their paraphrases")
    place = _written(content.getvalue(), Path(f"{options['output']}.labeled.csv"), str(options["output"]), file)
    if (table := options.pop("data", None)) is not None and old.unlabeled:  # those that have a label leave the corpus
        options["unlabeled"] = options.get("unlabeled") or table
    return RunConfig(**options | {"labeled": str(place)})


def _written(content: bytes, place: Path, output: str, instead: Path | None) -> Path:
    """Write the labels of a run to their place, unless they are there already, and return it.

    Args:
        output: folder of the run.
        instead: file to write if the place has other content.

    Raises:
        UserError: the folder has a run with other labels.
    """
    if place.is_file() and place.read_bytes() == content:
        return place
    if RunDirectory(output).holds_run():
        raise UserError(
            f"output: {output} is a run with other labels; choose another {spelled('output')}, or delete it"
        )
    place = instead or place
    with written_whole(place, private=True, recorded=False) as partial:
        partial.write_bytes(content)
    return place


def _with_other_options(before: RunDirectory, options: Mapping[str, Any], reporter: Reporter) -> RunConfig:
    """The options of a new run on the same data."""
    config, former = RunConfig(**options), RunConfig(**before.read_options())
    if config.to_yaml() == former.to_yaml():
        raise UserError(
            f"{before.path}: this is the folder of a finished run, and nothing changes; give --more labels.csv to go on from "
            "it with more labels, or an option to change, such as --rounds 2"
        )
    named = sources(config)
    if lacking := sorted(given_in_python(before) - named.keys()):
        raise UserError(
            f"{before.path}: the run was given {listed(lacking)} in Python, not as files; give "
            f"{' and '.join(spelled(name) for name in lacking)}"
        )
    same = [name for name, source in named.items() if sources(former).get(name) == source]
    _note_changes(before, config, same, reporter)
    return config


def _note_changes(before: RunDirectory, config: RunConfig, names: Iterable[str], reporter: Reporter) -> None:
    """Say which of these sources have another content than they had in a run."""
    known = before.read_data().get("fingerprints", {})
    named = {name: source for name, source in sources(config).items() if name in names}
    changed = [name for name, found in fingerprints(named).items() if found != known.get(name)]
    if changed:
        reporter.note(f"{listed(changed)}: the content has changed since the run in {before.path}")


def _joined(old: Labels, new: Labels, reporter: Reporter) -> Labels:
    added = [text for text in new.classes if text not in old.classes]
    changed = [text for text in new.classes if old.classes.get(text, new.classes[text]) != new.classes[text]]
    if not added and not changed:
        raise UserError(f"more: {new.source} has no label that the run does not have already")
    reporter.note(
        f"more: {len(added):,} labeled text{'s join' if len(added) != 1 else ' joins'} {len(old.classes):,}"
        + (f"; {len(changed):,} got another label" if changed else "")
    )
    if new.contradicted:
        count = new.contradicted
        reporter.note(f"more: {count:,} text{'s have' if count > 1 else ' has'} several labels; the last one counts")
    known = set(old.classes.values())
    for name, count in sorted(Counter(new.classes.values()).items()) if known else ():
        if name not in known:
            like = similar_class(name, known)
            asked = f"; did you mean {like!r}?" if like is not None else ""
            reporter.note(f"more: new class {name!r} ({count:,} text{'s' if count > 1 else ''}){asked}")
    return replace(old, classes=old.classes | new.classes, reasons=old.reasons | new.reasons)


def what_it_brought(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """What more labels or other options have brought, in a few sentences. Empty if nothing was measured in the new run.

    The accuracy on the test rows if both runs have measured it, otherwise the estimated accuracy.

    Args:
        before, after: `results.json` of both runs.
    """
    labeled = [results["rows"].get("labeled", 0) for results in (before, after)]
    start = "Before → now" if labeled[0] == labeled[1] else f"With {labeled[1]:,} labels instead of {labeled[0]:,}"
    tested, estimate = _on_test(after), _estimate(after)
    if tested is not None and (_on_test(before) is not None or estimate is None):
        return _compared(f"{start}: accuracy on the test rows", _on_test(before), tested, "95 %")
    if estimate is None:
        return ""
    said = _compared(f"{start}: estimated accuracy", _estimate(before), estimate, "90 %")
    chosen = after["accuracy_estimate"].get("chosen", 0)
    if chosen and _estimate(before) is not None:
        said += (
            f" The estimates may be too low: {chosen:,} of the labeled texts were chosen because they are difficult."
        )
    return said


#: Accuracy, and the ends of its interval.
_Figure = tuple[float, float, float]


def _estimate(results: Mapping[str, Any]) -> _Figure | None:
    found = results.get("accuracy_estimate")
    return None if found is None else (found["value"], found["low"], found["high"])


def _on_test(results: Mapping[str, Any]) -> _Figure | None:
    found = (results.get("test") or {}).get("self_trained")
    if found is None:
        return None
    measured = found["metrics"]["accuracy"]
    return (measured["score"], *measured["confidence_interval"])


def _compared(start: str, first: _Figure | None, second: _Figure, level: str) -> str:
    """A figure before and now, with intervals. If they overlap, the difference may be chance."""
    figures = [second] if first is None else [first, second]
    said = " → ".join(f"{value:.1%} [{low:.1%}, {high:.1%}]" for value, low, high in figures)
    if first is None:
        return f"{start} {said} ({level} interval; not known before)."
    overlap = max(first[1], second[1]) < min(first[2], second[2])
    return f"{start} {said} ({level} intervals{'; they overlap, so this may be chance' if overlap else ''})."
