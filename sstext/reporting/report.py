"""report.html: one self-contained page about a run, and its figures as separate files."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sstext.reporting import figures
from sstext.reporting.comparison import Comparison, Evidence, compare, evidence_of
from sstext.reporting.confusion_figure import confusion_matrix
from sstext.reporting.curves import (
    confidence_counts,
    confused_pairs,
    confusion,
    precision_and_coverage,
    reliability,
)
from sstext.reporting.data_section import commands_to_label, data_section, texts_to_label
from sstext.reporting.examples import SampledCorpus, example_groups, sampled_corpus
from sstext.reporting.pages import render_page
from sstext.reporting.readers import UNREADABLE
from sstext.reporting.run_files import RunFiles, open_run_files
from sstext.reporting.svg import Drawing, drawn, figure_style
from sstext.reporting.tables import (
    changed_settings,
    comparison_table,
    facts,
    how_selected,
    phases,
    plan_table,
    rounds_table,
)
from sstext.reporting.words import (
    accuracy_said,
    capitalized,
    regression_said,
    said_first,
    shares_said,
    what_it_brought,
    what_overlaps,
    what_to_label,
    what_was_chosen,
    what_was_left_out,
)
from sstext.storage.ownership import owned
from sstext.storage.run_folder import FIGURES, REPORT, stage_name
from sstext.storage.whole import write_folder_whole, write_whole


def write_report(folder: str | Path) -> Path:
    """Write the report of a run (`write_report_of_owner`), if no other process works in its folder.

    Raises:
        UserError: another process works there, the folder is not a run, or no stage of the run is finished.
    """
    with owned(open_run_files(folder).path, option=None):
        return write_report_of_owner(folder)


def write_report_of_owner(folder: str | Path) -> Path:
    """Write `report.html` and `report_figures/` into the folder of a run, using only the files in the folder.

    The same files give the same report. If a file is missing, the report leaves out its part and names it. The report
    of an unfinished run shows the stages so far.

    Args:
        folder: the --output folder of `sstext train`, which this process owns (`sstext.storage.ownership`).

    Returns:
        The path of the page.

    Raises:
        UserError: the folder is not a run, or no stage of the run is finished.
    """
    run = open_run_files(folder)
    evidence = evidence_of(run)
    compared = compare(run, evidence)
    sample = _sample(run)
    with figure_style():
        drawings = {drawing.name: drawing for drawing in _drawings(run, evidence, compared, sample)}
    page = _page(run, evidence, compared, sample, drawings)
    write_folder_whole(run.path / FIGURES, lambda path: _write_figures(path, drawings))
    write_whole(run.path / REPORT, page, private=True)
    return run.path / REPORT


def _write_figures(path: Path, drawings: dict[str, Drawing]) -> None:
    for name, drawing in drawings.items():
        write_whole(path / f"{name}.svg", drawing.alone)


def _page(
    run: RunFiles,
    evidence: Evidence | None,
    compared: Comparison | None,
    sample: SampledCorpus | None,
    drawings: dict[str, Drawing],
) -> str:
    counts = _confusion_counts(run, evidence)
    classes = run.classes
    groups = example_groups(run, evidence)
    return render_page(
        "report.html",
        "report.js",
        data=data_section(run),
        to_label=texts_to_label(run),
        label_commands=commands_to_label(run),
        name=run.path.resolve().name,
        finished=run.finished,
        sentences=_head(run, compared),
        compared=compared,
        comparison=comparison_table(compared) if compared else [],
        first=run.first,
        rounds=rounds_table(run.rounds),
        chosen=stage_name(run.rounds[run.chosen]) if run.finished else "",
        cross_fitted=run.cross_fitted,
        evidence=evidence,
        knows_precision=run.knows_precision,
        pairs=[] if counts is None else [(classes[p.true], classes[p.predicted], p) for p in confused_pairs(counts)],
        per_class=_per_class(run),
        groups=groups,
        tested=bool(run.results.get("test")),
        selection=how_selected(run.plan, every=bool(sample.kept.all())) if sample is not None else "",
        plan=plan_table(run.plan),
        settings=changed_settings(run.options),
        facts=facts(run),
        phases=phases(run),
        missing=run.missing,
        drawings=drawings,
        losses=[drawing for name, drawing in drawings.items() if name.startswith("losses_")],
    )


def _head(run: RunFiles, compared: Comparison | None) -> list[str]:
    """The sentences under the title."""
    estimated = accuracy_said(run.results)
    brought = what_it_brought(compared, run.first) if run.finished and (compared is not None or not estimated) else ""
    of_data = (shares_said(run.results), what_overlaps(run), what_was_left_out(run), what_to_label(run))
    first, ahead = (said_first(run.results), regression_said(run.results)) if run.finished else ([], "")
    said = (*first, what_was_chosen(run), brought, ahead, estimated, *of_data)
    return [sentence for sentence in said if sentence]


def _drawings(
    run: RunFiles, evidence: Evidence | None, compared: Comparison | None, sample: SampledCorpus | None
) -> Iterator[Drawing]:
    """Every figure that the files of a run allow."""
    if compared is not None:
        first, chosen = compared.names
        title = f"{', '.join([first, *compared.others])} and {chosen} on {compared.rows}"
        yield drawn(figures.comparison(compared.models), "comparison", capitalized(title))
    if len(run.rounds) > 1 and figures.rounds_shown(run.rounds):  # one stage alone shows no change
        yield drawn(figures.rounds(run.rounds), "rounds", "Accuracy, precision and share of corpus by stage")
    shares = _class_shares(run)
    if shares:
        yield drawn(figures.class_shares(shares), "class_shares", "Share of every class, by stage")
    if evidence is not None:
        yield from _calibration(evidence)
    if sample is not None:
        counted = confidence_counts(sample.probabilities.max(-1), sample.kept)
        figure = figures.confidence_histogram(*counted, names=("selected", "not selected"), unit="texts")
        yield drawn(figure, "corpus_confidence", f"Histogram of the confidence on {len(sample.rows):,} unlabeled texts")
    counts = _confusion_counts(run, evidence)
    if counts is not None:
        figure, titles = confusion_matrix(counts, run.classes)
        yield drawn(figure, "confusion", "Confusion matrix", titles=titles, wide=True)
    yield from _losses(run)


def _calibration(evidence: Evidence) -> Iterator[Drawing]:
    after = reliability(evidence.chosen, evidence.labels)
    before = None if evidence.uncalibrated is None else reliability(evidence.uncalibrated, evidence.labels)
    figure = figures.reliability_diagram(after, before)
    yield drawn(figure, "reliability", f"Confidence against accuracy on {evidence.rows}")
    right = evidence.chosen.argmax(-1) == evidence.labels
    counted = confidence_counts(evidence.chosen.max(-1), right)
    figure = figures.confidence_histogram(*counted, names=("correct", "wrong"), unit="rows")
    yield drawn(figure, "confidence", f"Histogram of the confidence on {evidence.rows}")
    figure = figures.precision_and_coverage(*precision_and_coverage(evidence.chosen, evidence.labels))
    yield drawn(figure, "threshold", f"Precision and coverage by threshold on {evidence.rows}")


def _sample(run: RunFiles) -> SampledCorpus | None:
    """A sample of the corpus, or None without pseudo-labels."""
    if run.teaching is None:
        return None
    try:
        return sampled_corpus(run.teaching)
    except UNREADABLE:
        run.say_missing("Pseudo-labels cannot be read: the confidence on the corpus is left out.")
        return None


def _losses(run: RunFiles) -> Iterator[Drawing]:
    """The losses of all trainings that led to the chosen model."""
    found = False
    for title, folder in run.trainings():
        log = [entry for entry in run.log(folder) if "loss" in entry or "eval_loss" in entry]
        if log:
            found = True
            yield drawn(
                figures.losses(log),
                f"losses_{folder.parent.name}_{folder.name}" if folder.parent != run.path else f"losses_{folder.name}",
                title,
            )
    if not found:
        run.say_missing("There are no training logs: losses are left out.")


def _class_shares(run: RunFiles) -> dict[str, dict[str, float]]:
    """Class shares of the pseudo-labels by stage. Without pseudo-labels, the predicted class shares of the corpus."""
    selected = {
        stage_name(record): {name: count / record["admitted"] for name, count in record["per_class"].items()}
        for record in run.rounds
        if record["admitted"]
    }
    predicted = {stage_name(record): record["class_shares"] for record in run.rounds if record.get("class_shares")}
    return selected or predicted


def _confusion_counts(run: RunFiles, evidence: Evidence | None) -> np.ndarray | None:
    test = run.results.get("test")
    if test:
        return np.asarray(test.get("self_trained", test["supervised"])["confusion_matrix"])
    return None if evidence is None else confusion(evidence.chosen, evidence.labels)


def _per_class(run: RunFiles) -> list[tuple[str, dict[str, float]]]:
    test = run.results.get("test")
    if not test:
        return []
    return list(test.get("self_trained", test["supervised"])["per_class"].items())
