"""Label rows: the columns that predictions add, whatever reads and writes the rows."""

from collections.abc import Iterable, Sequence

from sstext.data.columns import find_column, text_of
from sstext.data.parsers import Rows
from sstext.errors import UserError, listed
from sstext.inference.classifier import Classifier


class Labeling:
    """How a classifier labels rows, and which columns they get.

    The columns are `predicted_label`, `confidence`, `abstain` with a target precision, and `probability/<class>` for each of
    the C classes with `probabilities`.

    Args:
        classifier: the classifier.
        text_column: name of the text column. Default: recognized by its name.
        probabilities: whether each class has a column.
        target_precision: marks rows below the confidence for this precision (`Classifier.threshold`). Default: no such column.

    Attributes:
        added: names of the columns.
        column: the text column of the rows so far, empty before the first ones.

    Raises:
        UserError: the model is a regression, or it cannot reach the precision.
    """

    def __init__(
        self,
        classifier: Classifier,
        *,
        text_column: str | None = None,
        probabilities: bool = False,
        target_precision: float | None = None,
    ) -> None:
        classifier.refuse_regression()
        self.classifier, self.probabilities = classifier, probabilities
        self.threshold = None if target_precision is None else classifier.threshold(target_precision)
        self._kept = self._read = 0
        self.added = [
            "predicted_label",
            "confidence",
            *(["abstain"] if self.threshold is not None else []),
            *(f"probability/{label}" for label in classifier.classes if probabilities),
        ]
        self.column = ""
        self._text_column, self._cut_before = text_column, classifier.truncated

    def of_rows(self, rows: Rows, name: str, digits: int | None = None) -> dict[str, list]:
        """The columns of N rows, and those of the predictions.

        Args:
            rows: the rows. All batches have the text column of the first one.
            name: of the source, for messages.
            digits: see `of_texts`.

        Raises:
            UserError: no column has the texts, predictions would overwrite a column, or a cell is no text.
        """
        place = rows.file or name
        self.column = self.column or self.text_column_of(list(rows.columns), place)
        self.refuse_taken(rows.columns, place)
        before = "" if rows.file else f"{name}: "  # `where` names the file of the row
        texts = [text_of(value, f"{before}{rows.where(i)}") for i, value in enumerate(rows.columns[self.column])]
        return rows.columns | self.of_texts(texts, digits)

    def of_texts(self, texts: Sequence[str], digits: int | None = None) -> dict[str, list]:
        """The columns of the predictions for N texts.

        Args:
            texts: the texts.
            digits: probabilities are texts with this number of digits after the decimal point. None: they are numbers.
        """
        scored = self.classifier.predict_proba(texts)

        def written(column: Iterable[float]) -> list:
            return [float(p) for p in column] if digits is None else [f"{p:.{digits}f}" for p in column]

        best, classes = scored.argmax(-1), self.classifier.classes
        columns: dict[str, list] = {
            "predicted_label": [classes[number] for number in best],
            "confidence": written(scored.max(-1)),
        }
        if self.threshold is not None:
            columns["abstain"] = [bool(p < self.threshold) for p in scored.max(-1)]
            self._kept += len(texts) - sum(columns["abstain"])
            self._read += len(texts)
        if self.probabilities:
            for number, label in enumerate(classes):
                columns[f"probability/{label}"] = written(scored[:, number])
        return columns

    def text_column_of(self, names: list[str], place: str) -> str:
        """The text column among the columns of rows.

        Raises:
            UserError: there is none.
        """
        return find_column(names, "text", self._text_column, place)

    def refuse_taken(self, names: Iterable[str], place: str) -> None:
        """Refuse rows that have columns of the predictions.

        Raises:
            UserError: they have.
        """
        if taken := sorted(set(self.added) & set(names)):
            raise UserError(f"{place}: predictions would overwrite {listed(taken)}; rename or drop these input columns")

    def cut(self) -> int:
        """Number of texts that were cut so far."""
        return self.classifier.truncated - self._cut_before

    def notes(self, rows: int) -> list[str]:
        """What to know of the predictions, after all rows.

        Args:
            rows: their number.
        """
        found = []
        if self.classifier.problem_type == "multi_label_classification":
            found.append(
                "the model is multi-label: each class has a probability of its own, and predicted_label is the most probable "
                "one; --probabilities shows all of them"
            )
        if self.threshold is not None and self._read:  # a shard that was there already is not read again
            found.append(
                f"{self._kept:,} of {self._read:,} texts have a confidence of {self.threshold:.2f} or more; the column abstain "
                "marks the others"
            )
        if cut := self.cut():
            limit = self.classifier.encoder.max_length
            found.append(f"{cut:,} of {rows:,} texts were cut to the {limit} tokens that the model reads")
        return found
