"""Apply a trained classifier to files: add predictions to the input's columns, or evaluate on labeled rows."""

from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any

import numpy as np

from sstext.data.columns import find_column
from sstext.data.formats import format_of, read_rows
from sstext.data.loading import load_labeled
from sstext.data.writers import RowWriter
from sstext.errors import UserError, listed
from sstext.evaluation.metrics import evaluate_predictions
from sstext.inference.classifier import Classifier
from sstext.processes import is_main_process
from sstext.progress import SILENT, Reporter

#: Rows that are read, scored and written together: enough to sort by length, but few enough for small memories.
ROWS_AT_ONCE = 4_000


def predict_file(
    classifier: Classifier,
    source: str | Path | IO[bytes],
    target: str | Path | IO[bytes],
    *,
    text_column: str | None = None,
    encoding: str = "utf-8",
    probabilities: bool = False,
    target_precision: float | None = None,
    input_format: str | None = None,
    output_format: str | None = None,
    reporter: Reporter = SILENT,
) -> int:
    """Label every row of a file. Adds the columns `predicted_label` and `confidence`, and keeps columns and order.

    Empty texts are labeled too, so no row is lost. Rows are processed in batches, so memory use does not grow.

    Args:
        source, target: paths, whose formats are recognized by their names, or byte streams. The default `input_format`
            of a stream is recognized by its first line. The default `output_format` of a stream is csv.
        probabilities: whether to add a column `probability/<class>` for each of the C classes.
        target_precision: adds a column `abstain`, which is true for rows below the confidence for this precision
            (`Classifier.threshold`). Default: no such column.

    Returns:
        The number of rows.

    Raises:
        UserError: if the source cannot be read or the target cannot be written, or if the source already has columns
            with these names. A target file is written whole or not at all.
    """
    if isinstance(target, str | Path):
        if isinstance(source, str | Path) and Path(target).resolve() == Path(source).resolve():
            raise UserError(f"{target}: this is the input and would be overwritten; choose another --output")
        output_format = output_format or format_of(target)
    threshold = None if target_precision is None else classifier.threshold(target_precision)
    name = str(source) if isinstance(source, str | Path) else "the input"
    added = [
        "predicted_label",
        "confidence",
        *(["abstain"] if threshold is not None else []),
        *(f"probability/{label}" for label in classifier.classes if probabilities),
    ]
    batches = read_rows(
        source, format=input_format, encoding=encoding, batch_size=ROWS_AT_ONCE, text_column=text_column
    )
    writer = (
        RowWriter(target, format=output_format or "csv", text_column="predicted_label") if is_main_process() else None
    )
    done, column, cut_before = 0, "", classifier.truncated
    with reporter.phase("predicting", _rows_in(source, input_format), "text") as tick, writer or nullcontext():
        for rows in batches:
            column = column or find_column(list(rows.columns), "text", text_column, name)
            taken = sorted(set(added) & set(rows.columns))
            if taken:
                raise UserError(
                    f"{name}: predictions would overwrite {listed(taken)}; rename or drop these input columns"
                )
            scored = classifier.predict_proba(rows.columns[column])
            if writer is not None:
                writer.write(rows.columns | _predictions(classifier, scored, probabilities, threshold))
            tick(len(rows))
            done += len(rows)
    reporter.note(f"{done:,} text{'s' if done != 1 else ''} from column {column!r}")
    cut = classifier.truncated - cut_before
    if cut:
        limit = classifier.encoder.max_length
        reporter.note(f"{cut:,} of {done:,} texts were cut to the {limit} tokens that the model reads")
    return done


def _predictions(
    classifier: Classifier, scored: np.ndarray, probabilities: bool, threshold: float | None
) -> dict[str, list]:
    best = scored.argmax(-1)
    columns: dict[str, list] = {
        "predicted_label": [classifier.classes[number] for number in best],
        "confidence": [float(p) for p in scored.max(-1)],
    }
    if threshold is not None:
        columns["abstain"] = [bool(p < threshold) for p in scored.max(-1)]
    if probabilities:
        for number, label in enumerate(classifier.classes):
            columns[f"probability/{label}"] = [float(p) for p in scored[:, number]]
    return columns


def _rows_in(source: str | Path | IO[bytes], format: str | None) -> int | None:
    """The number of rows in a file, or None if counting them takes long."""
    if not isinstance(source, str | Path) or not Path(source).is_file():
        return None
    if (format or format_of(source)) == "parquet":
        import pyarrow.parquet as pq

        return pq.read_metadata(source).num_rows
    return None


def evaluate_file(
    classifier: Classifier,
    source: Any,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    encoding: str = "utf-8",
    reporter: Reporter = SILENT,
) -> dict[str, Any]:
    """Evaluate a classifier on labeled rows. The result is that of `sstext.evaluation.metrics.evaluate_predictions`.

    Raises:
        UserError: if the rows cannot be read, or have a label that is not a class of the classifier.
    """
    rows = load_labeled(
        source, what="test", classes=classifier.classes, split="test",
        text_column=text_column, label_column=label_column, encoding=encoding,
    )  # fmt: skip
    for note in rows.notes:
        reporter.note(note)
    with reporter.phase("scoring", len(rows.texts), "text") as tick:
        probabilities = classifier.predict_proba(rows.texts["text"][:], tick)
    return evaluate_predictions(probabilities, np.asarray(rows.texts["label"][:]), classifier.classes)
