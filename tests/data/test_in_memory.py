"""Data sets in Python: every kind gives the same rows, and a stream is read once."""

from collections.abc import Callable, Iterator
from typing import Any

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from sstext.data.fingerprints import fingerprint
from sstext.data.loading import load_labeled
from sstext.data.run_sources import given_data
from sstext.data.sources import as_source
from sstext.errors import UserError

TEXTS, LABELS = ["a b", "c d", "e f"], ["x", "y", None]
COLUMNS: dict[str, list] = {"text": TEXTS, "label": LABELS}
RECORDS: list[dict[str, Any]] = [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)]

KINDS: dict[str, Callable[[], Any]] = {
    "pandas": lambda: pd.DataFrame(COLUMNS, index=[7, 8, 9]),
    "pandas, categories": lambda: pd.DataFrame({"text": TEXTS, "label": pd.Categorical(LABELS)}),
    "pandas, strings": lambda: pd.DataFrame(COLUMNS, dtype="string"),
    "polars": lambda: pl.DataFrame(COLUMNS),
    "polars, categories": lambda: pl.DataFrame(COLUMNS, schema_overrides={"label": pl.Categorical}),
    "pyarrow": lambda: pa.table(COLUMNS),
    "pyarrow, dictionary": lambda: pa.table({"text": pa.array(TEXTS), "label": pa.array(LABELS).dictionary_encode()}),
    "pyarrow, view": lambda: pa.table({"text": pa.array(TEXTS, pa.string_view()), "label": pa.array(LABELS, pa.binary())}),
    "columns": lambda: COLUMNS,
    "arrays": lambda: {"text": np.array(TEXTS, dtype=object), "label": np.array(LABELS, dtype=object)},
    "records": lambda: RECORDS,
    "pairs": lambda: list(zip(TEXTS, LABELS, strict=True)),
    "generator": lambda: iter(RECORDS),
    "streamed": lambda: datasets.IterableDataset.from_generator(lambda: iter(RECORDS)),
    "data set": lambda: datasets.Dataset.from_dict(COLUMNS),
    "splits": lambda: datasets.DatasetDict({name: datasets.Dataset.from_dict(COLUMNS) for name in ("test", "train")}),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data_is_read(kind: str) -> None:
    """Guards the types in which libraries keep texts and missing labels."""
    source = as_source(KINDS[kind](), "train")
    for _ in range(2):  # a stream, too, can be read again
        read = load_labeled(source)
        assert (read.texts["text"][:], read.classes) == (["a b", "c d"], ["x", "y"])
        assert read.without_label is not None
        assert read.without_label.columns["text"] == ["e f"]
    assert fingerprint(source) == fingerprint(source)


def test_a_stream_is_read_once_and_its_content_is_its_name() -> None:
    """Guards a generator that is empty at the second reading, and a run that is continued on other rows."""
    asked = []

    def rows() -> Iterator[dict[str, Any]]:
        for record in RECORDS:
            asked.append(record)
            yield record

    stream = rows()
    given = given_data(labeled=stream, unlabeled=stream)
    assert given["labeled"] is given["unlabeled"]
    assert given_data(**given) == given
    assert load_labeled(given["labeled"]).classes == ["x", "y"]
    assert len(asked) == 3
    assert fingerprint(given["labeled"]) == fingerprint(RECORDS) == fingerprint(COLUMNS)
    assert fingerprint(given["labeled"]) != fingerprint(RECORDS[::-1])


def test_class_numbers_of_a_stream_keep_their_names() -> None:
    """Guards numbers in place of names: −1 is no class either."""
    kinds = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["ham", "spam"])})
    rows = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, -1]}, features=kinds)
    for source in (rows, rows.to_iterable_dataset()):
        read = load_labeled(as_source(source, "train"))
        assert (read.classes, read.texts["label"][:]) == (["ham", "spam"], [1, 0])
        assert read.without_label is not None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (3, "labeled: expected a path, .*found int"),
        ([3], "row 1: expected a mapping .*found int"),
        ({"text": ["a"], "label": ["x", "y"]}, "columns of one length"),
        ({"text": "a", "label": "x"}, "expected a list of values for 'text', found str"),
        (datasets.DatasetDict(one=datasets.Dataset.from_dict(COLUMNS), two=datasets.Dataset.from_dict(COLUMNS)),
         r"labeled: the data set has no split 'train'; found 'one', 'two'; pass one of them, such as data\['one'\]"),
        ([], "expected at least one row, found none"),
    ],
)  # fmt: skip
def test_what_holds_no_rows_is_refused(data: Any, message: str) -> None:
    """Guards a traceback of a library in place of what was expected."""
    with pytest.raises(UserError, match=message):
        load_labeled(given_data(labeled=data)["labeled"])
