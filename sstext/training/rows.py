"""The data sets that a trainer is given → tokenized data sets with the class numbers of its model."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, Value
from torch.utils.data import IterableDataset

from sstext.data.batching import Relabeled
from sstext.data.tokens import VIEW_INPUTS, TextEncoder, choose_max_length, tokenize, with_view_texts
from sstext.errors import UserError, listed
from sstext.modeling.pretrained import length_limit, prefix_of

#: Columns with the label of a row. Raw rows have the first one.
LABEL_COLUMNS = ("label", "labels", "label_ids")
#: The label that the cross-entropy of torch leaves out.
IGNORED_LABEL = -100


def as_data_set(rows: Any, name: str) -> Any:
    """Listed raw rows (dictionaries, or texts alone) as a data set. Anything else is returned unchanged.

    Args:
        name: name of the data set in messages.

    Raises:
        UserError: there are no rows, the rows of a list do not fit together, these are several splits, or raw rows are
            streamed.

    >>> as_data_set(["late", "broken"], "unlabeled_dataset").column_names
    ['text']
    """
    if isinstance(rows, Mapping):
        raise UserError(
            f"{name}: expected one data set, found {listed(list(rows))}; choose one, for example rows['train']"
        )
    if is_streamed(rows) and "input_ids" not in (columns_of(rows) or ["input_ids"]):
        refuse_stream(rows, name)
    if hasattr(rows, "__len__") and not len(rows) and "eval" not in name:
        raise UserError(f"{name}: expected at least one row, found none")
    if not isinstance(rows, list | tuple) or not rows or (isinstance(rows[0], Mapping) and "input_ids" in rows[0]):
        return rows
    if all(isinstance(row, str) for row in rows):
        return Dataset.from_dict({"text": list(rows)})
    if not all(isinstance(row, Mapping) for row in rows):
        raise UserError(f"{name}: expected texts or dictionaries such as {{'text': …}}, found {type(rows[0]).__name__}")
    try:
        return Dataset.from_list([dict(row) for row in rows])
    except (TypeError, ValueError) as error:
        raise UserError(f"{name}: the rows do not have the same columns and types ({error})") from None


def is_streamed(rows: Any) -> bool:
    """Whether rows can only be read one after another."""
    return isinstance(rows, IterableDataset) or (rows is not None and not hasattr(rows, "__len__"))


def refuse_stream(rows: Any, name: str) -> None:
    """Refuse streamed rows: they cannot be read in the order that training needs.

    Raises:
        UserError: with the way to read them first.
    """
    if is_streamed(rows):
        raise UserError(
            f"{name}: expected rows with a length, found a stream ({type(rows).__name__}); read it first: "
            "Dataset.from_list(list(rows)), or a part of it: Dataset.from_list(list(rows.take(100_000)))"
        )


def columns_of(rows: Any) -> list[str] | None:
    """The names of the columns, or None for rows that have no names. The first row of a stream may be read."""
    names = getattr(rows, "column_names", None)
    if names is None and is_streamed(rows):
        first = next(iter(rows), None)
        names = list(first) if isinstance(first, Mapping) else None
    return names


def labels_of(rows: Any) -> Any:
    """The labels of tokenized rows: classes, or probabilities."""
    if isinstance(rows, Relabeled):
        return rows.labels
    return [row["labels"] for row in rows] if columns_of(rows) is None else rows["labels"][:]


def check_labels(rows: Any, num_classes: int | None, name: str) -> None:
    """Refuse labeled rows without labels, and class numbers that the model does not have.

    Args:
        num_classes: C. None if labels are no classes.

    Raises:
        UserError: no column with labels, an empty label, a number outside of 0 … C − 1, or numbers with decimals.
    """
    columns = columns_of(rows)
    if columns is None:
        return
    if not set(LABEL_COLUMNS) & set(columns):
        raise UserError(
            f"{name}: expected a column 'label', found {listed(columns)}; give rows with labels here, and rows without labels "
            "as unlabeled_dataset"
        )
    column = _label_column(rows)
    if column is None or is_streamed(rows):
        return
    values = rows[column][:]
    if isinstance(values, list) and None in values:
        raise UserError(f"{name}: row {values.index(None) + 1} has no label; leave such rows out")
    numbers = np.asarray(values) if len(values) and not isinstance(values[0], list | str) else np.zeros(0)
    if len(numbers) and numbers.ndim == 1 and np.issubdtype(numbers.dtype, np.floating):
        raise UserError(
            f"{name}: expected class numbers or names, found {numbers[0]:g}: regression is not supported; cut the numbers into "
            "classes, and give num_labels=… to from_pretrained"
        )
    if num_classes is None or numbers.ndim != 1 or not np.issubdtype(numbers.dtype, np.integer):
        return
    wrong = numbers[((numbers < 0) & (numbers != IGNORED_LABEL)) | (numbers >= num_classes)]
    if len(wrong):
        remedy = "give num_labels=… to from_pretrained, or correct the labels"
        if wrong[0] < 0:
            remedy = "if it means that a row has no label, give such rows as unlabeled_dataset"
        row = int(np.flatnonzero(numbers == wrong[0])[0])
        raise UserError(
            f"{name}: expected classes from 0 to {num_classes - 1}, found {wrong[0]} in row {row + 1}; {remedy}"
        )


def class_names(rows: Any) -> list[str] | None:
    """The names of the classes in the order of their numbers, or None if labels are numbers only.

    They are those of a `ClassLabel` column, or the different labels of a column of strings in sorted order.

    >>> class_names(Dataset.from_dict({"text": ["a", "b"], "label": ["refund", "delivery"]}))
    ['delivery', 'refund']
    """
    feature = _label_feature(rows)
    if isinstance(feature, ClassLabel):
        names = list(feature.names)
        return None if names == [str(number) for number in range(len(names))] else names
    if _is_text(feature) and not is_streamed(rows):
        return sorted({name for name in rows[_label_column(rows)][:] if name is not None})
    return None


def number_of_classes(rows: Any) -> int | None:
    """The number of classes in the labels, or None if it is not known from them."""
    names, feature = class_names(rows), _label_feature(rows)
    if names is not None or isinstance(feature, ClassLabel):
        return len(names) if names is not None else feature.num_classes
    if not isinstance(feature, Value) or "int" not in feature.dtype or is_streamed(rows):
        return None
    numbers = [number for number in rows[_label_column(rows)][:] if number is not None]
    return max(numbers, default=0) + 1


def tokenized(
    rows: Any, name: str, tokenizer: Any, config: Any, *, max_length: int | None, views: Sequence[str] = ()
) -> Any:
    """Tokenize raw `text` rows and their columns `views`, and number their classes as the model does.

    Rows that have `input_ids` or no columns are not tokenized.

    Args:
        name: name of the data set in messages. The text lengths of evaluation rows are not used to choose a length.
        config: configuration of the model.
        max_length: T in tokens. Default: see `choose_max_length`; for evaluation rows, the limit of the model.

    Raises:
        UserError: a missing column, a text that is none, unknown class names, or no tokenizer.
    """
    columns = None if rows is None else columns_of(rows)
    if columns is None or "input_ids" in columns:
        if views and columns and VIEW_INPUTS not in columns:
            raise UserError(f"views: {name} is tokenized, but its paraphrases are not; give both as raw text")
        unread = columns is None or is_streamed(rows) or name == "unlabeled_dataset"
        return rows if unread else in_numbers_of_model(rows, name, config)
    if tokenizer is None:
        raise UserError(f"{name} has raw text; give processing_class=tokenizer, or tokenize it")
    if "text" not in columns:
        raise UserError(f"{name}: expected a column 'text' or 'input_ids', found {listed(columns)}")
    _check_texts(rows["text"][:], name)
    limit, prefix = length_limit(tokenizer, config), prefix_of(config)
    if max_length is None:
        max_length = limit
        if "eval" not in name:
            max_length = choose_max_length(tokenizer, rows["text"], limit, prefix=prefix)
    encoder = TextEncoder(tokenizer, min(max_length, limit), prefix)
    if views:
        rows = with_view_texts(rows, views, name)
    if name == "unlabeled_dataset" and "label" in rows.column_names:
        rows = rows.remove_columns("label")  # never read, so it may contain anything
    return tokenize(in_numbers_of_model(rows, name, config), encoder).remove_columns("truncated")


def in_numbers_of_model(rows: Any, name: str, config: Any) -> Any:
    """Replace class names, and the numbers of a `ClassLabel` column in another order, by the numbers of the model.

    Raises:
        UserError: the rows have a class that the model does not have.
    """
    names, column = class_names(rows) if len(rows) else None, _label_column(rows)
    if names is None or column is None:
        return rows
    own = {label: int(number) for number, label in config.id2label.items()}
    unknown = [label for label in names if label not in own]
    if unknown:
        raise UserError(
            f"{name}: labels {listed(unknown)} are not among the classes of the model ({listed(list(own))}); correct them, or "
            "give your id2label to from_pretrained"
        )
    known = [own[label] for label in names]
    values = rows[column][:]
    if _is_text(rows.features[column]):
        numbers = [None if label is None else own[label] for label in values]
    elif known == list(range(len(known))):
        return rows
    else:
        numbers = [number if number is None or number < 0 else known[number] for number in values]
    return rows.remove_columns(column).add_column(column, numbers)


def _check_texts(texts: Sequence[Any], name: str) -> None:
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise UserError(f"{name}: row {number + 1}: expected a text, found {text!r}; leave such rows out")


def _label_column(rows: Any) -> str | None:
    columns = getattr(rows, "column_names", None) or ()
    return next((column for column in LABEL_COLUMNS if column in columns), None)


def _label_feature(rows: Any) -> Any:
    column, features = _label_column(rows), getattr(rows, "features", None)
    return features[column] if column is not None and features else None


def _is_text(feature: Any) -> bool:
    return isinstance(feature, Value) and feature.dtype in ("string", "large_string")
