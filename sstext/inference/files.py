"""Apply a trained classifier to files: add predictions to the input's columns, or evaluate on labeled rows."""

from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any

import numpy as np

from sstext.data.formats import format_of, read_rows
from sstext.data.formulas import Formulas
from sstext.data.loading import load_labeled
from sstext.data.tables import types_of
from sstext.data.writers import RowWriter
from sstext.errors import UserError
from sstext.evaluation.bootstrap import evaluate_predictions
from sstext.inference.classifier import Classifier
from sstext.inference.labeling import Labeling
from sstext.inference.shard_folder import is_parquet
from sstext.processes import is_main_process
from sstext.progress import SILENT, Reporter

#: Rows that are read, scored and written together: enough to sort by length, but few enough for small memories.
ROWS_AT_ONCE = 4_000
#: Digits of probabilities in csv and tsv. Further ones mean nothing: the calibration is an estimate from few labels.
DIGITS = 4


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
    digits: int | None = DIGITS,
    excel_safe: bool = False,
    reporter: Reporter = SILENT,
) -> int:
    """Label every row of a file. Adds the columns `predicted_label` and `confidence`, and keeps columns and order.

    Empty texts are labeled too, so no row is lost. From parquet to parquet, columns keep their types. Rows are processed in
    batches, so memory use does not grow.

    Args:
        source, target: paths, whose formats are recognized by their names, or byte streams. The default `input_format`
            of a stream is recognized by its first line. The default `output_format` of a stream is csv.
        probabilities: whether to add a column `probability/<class>` for each of the C classes.
        target_precision: adds a column `abstain`, which is true for rows below the confidence for this precision
            (`Classifier.threshold`). Default: no such column.
        digits: digits after the decimal point of confidences and probabilities in csv and tsv. None writes all of them, as
            the other formats do. What is marked as `abstain` does not depend on it.
        excel_safe: whether cells of csv and tsv that a spreadsheet would run as formulas get a ' in front.

    Returns:
        The number of rows.

    Raises:
        UserError: if the source cannot be read or the target cannot be written, if the source already has columns
            with these names, or if the model is a regression. A target file is written whole or not at all.
    """
    labeling = Labeling(
        classifier, text_column=text_column, probabilities=probabilities, target_precision=target_precision
    )
    if isinstance(target, str | Path):
        if isinstance(source, str | Path) and Path(target).resolve() == Path(source).resolve():
            raise UserError(f"{target}: this is the input and would be overwritten; choose another --output")
        output_format = output_format or format_of(target)
    name = str(source) if isinstance(source, str | Path) else "the input"
    batches = read_rows(
        source, format=input_format, encoding=encoding, batch_size=ROWS_AT_ONCE, text_column=text_column
    )
    output_format = output_format or "csv"
    formulas = Formulas(excel_safe)
    known = output_format == "parquet" and isinstance(source, str | Path) and _is_parquet(Path(source))
    types = types_of([str(source)]) if known else None
    writer = (
        RowWriter(target, output_format, text_column="predicted_label", formulas=formulas, types=types)
        if is_main_process()
        else None
    )
    shown, done = digits if output_format in ("csv", "tsv") else None, 0
    with reporter.phase("predicting", _rows_in(source, input_format), "text") as tick, writer or nullcontext():
        for rows in batches:
            columns = labeling.of_rows(rows, name, shown)
            if writer is not None:
                writer.write(columns)
            tick(len(rows))
            done += len(rows)
    formulas.note(str(target) if isinstance(target, str | Path) else "the output", reporter)
    reporter.note(f"{done:,} text{'s' if done != 1 else ''} from column {labeling.column!r}")
    for note in labeling.notes(done):
        reporter.note(note)
    return done


def _is_parquet(file: Path) -> bool:
    return file.is_file() and is_parquet(file)


def _rows_in(source: str | Path | IO[bytes], format: str | None) -> int | None:
    """The number of rows in a file, or None if counting them takes long."""
    if not isinstance(source, str | Path) or not Path(source).is_file():
        return None
    if (format or Path(source).suffix.lower().removeprefix(".")) != "parquet":
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_metadata(source).num_rows
    except (pa.ArrowException, OSError):  # the reader says what is wrong with it
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
    """Evaluate a classifier on labeled rows. The result is that of `sstext.evaluation.bootstrap.evaluate_predictions`.

    Raises:
        UserError: if the rows cannot be read, or have a label that is not a class of the classifier, or if the model does
            not predict one class per text.
    """
    if classifier.problem_type != "single_label_classification":
        raise UserError(
            f"expected a model with one label per text, found problem_type={classifier.problem_type!r}; measure it on the "
            "probabilities of `sstext predict --probabilities`, or on the outputs of Classifier(…).logits"
        )
    rows = load_labeled(
        source, what="test", classes=classifier.classes, split="test",
        text_column=text_column, label_column=label_column, encoding=encoding,
    )  # fmt: skip
    for note in rows.notes:
        reporter.note(note)
    with reporter.phase("scoring", len(rows.texts), "text") as tick:
        probabilities = classifier.predict_proba(rows.texts["text"][:], tick)
    return evaluate_predictions(probabilities, np.asarray(rows.texts["label"][:]), classifier.classes)
