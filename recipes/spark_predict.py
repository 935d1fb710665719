"""Label a corpus with Spark: the callable of `sstext.ray`, handed to `mapInPandas`. It needs no ray.

spark-submit recipes/spark_predict.py out/model s3a://bucket/corpus/ s3a://bucket/scored/

Each task of Spark loads the model once, so give it partitions of 10⁵ rows or so. Spark writes its shards itself, and begins a
task again if its executor is lost. Executors need `pip install sstext`, and the folder of the model under the same path, or its
name on the Hub. The text column is recognized by its name; `--text-column` names another one.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sstext.ray import Classifier

#: Rows that Spark hands over at a time. Texts are sorted by their length among these, so more of them are faster.
ROWS_PER_BATCH = 4_000


def labeler(model: str, text_column: str | None = None) -> Callable[[Iterator[Any]], Iterator[Any]]:
    """The function for `mapInPandas`: data frames of rows → the same rows with `predicted_label` and `confidence`."""

    def label(frames: Iterator[Any]) -> Iterator[Any]:
        import torch

        torch.set_num_threads(1)  # Spark runs one task per core
        classifier = Classifier(model, text_column=text_column)
        for frame in frames:
            yield classifier(frame)

    return label


def main(arguments: Sequence[str] | None = None) -> None:
    """Read parquet, label it, write parquet."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("model")
    options.add_argument("input")
    options.add_argument("output")
    options.add_argument("--text-column")
    asked = options.parse_args(arguments)

    from pyspark.sql import SparkSession
    from pyspark.sql.types import DoubleType, StringType, StructField, StructType

    spark = SparkSession.builder.appName("sstext").getOrCreate()
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", ROWS_PER_BATCH)
    rows = spark.read.parquet(asked.input)
    added = [StructField("predicted_label", StringType()), StructField("confidence", DoubleType())]
    schema = StructType([*rows.schema.fields, *added])
    rows.mapInPandas(labeler(asked.model, asked.text_column), schema).write.parquet(asked.output)


if __name__ == "__main__":
    main()
