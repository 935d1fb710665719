"""The callable for `map_batches` of Ray Data, and for everything else that hands out batches of rows."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from sstext.data.columns import text_of
from sstext.inference.classifier import Classifier as Model
from sstext.inference.devices import calm_libraries
from sstext.inference.labeling import Labeling
from sstext.storage.model_folder import find_model


class Classifier:
    """Adds predictions to batches of rows: a callable for `ray.data.Dataset.map_batches`, which loads its model once per actor.

    The columns are those that `sstext predict` adds: `predicted_label`, `confidence`, `abstain` with a `target_precision`, and
    `probability/<class>` for each class with `probabilities`. It needs no ray: Spark's `mapInPandas` can call it, too.

    ```
    texts = ray.data.read_parquet("corpus/")
    pool = sstext.ray.pool_for(sstext.ray.nodes_of(ray))
    texts.map_batches(sstext.ray.Classifier, fn_constructor_args=["out/model"], **pool.arguments()).write_parquet("scored/")
    ```

    Args:
        model: folder of a run or of a model, or a name on the Hub. Each node of a cluster must find it.
        text_column: name of the text column. Default: recognized by its name.
        probabilities, target_precision: see above.
        device, precision, max_length, revision: see `sstext.Classifier`.

    Raises:
        UserError: there is no such model, it is a regression, or it cannot reach the precision.
    """

    def __init__(
        self,
        model: str,
        *,
        text_column: str | None = None,
        probabilities: bool = False,
        target_precision: float | None = None,
        device: str = "auto",
        precision: str = "fp32",
        max_length: int | None = None,
        revision: str | None = None,
    ) -> None:
        calm_libraries()
        self.model = Model.from_pretrained(
            find_model(model), revision=revision, device=device, precision=precision, max_length=max_length
        )
        self.labeling = Labeling(
            self.model, text_column=text_column, probabilities=probabilities, target_precision=target_precision
        )

    def __call__(self, batch: Any) -> Any:
        """The batch with the columns of the predictions.

        Args:
            batch: columns of N rows: name → array, an Arrow table, or a data frame of pandas. Missing texts are empty ones.

        Returns:
            A batch of the same kind.

        Raises:
            UserError: no column has the texts, it has a column that predictions would overwrite, or a cell is no text.
        """
        names = batch.column_names if isinstance(batch, pa.Table) else list(batch)
        column = self.labeling.text_column_of(names, "the batch")
        self.labeling.refuse_taken(names, "the batch")
        added = self.labeling.of_texts([text_of(value, "the batch") for value in _values(batch[column])])
        if isinstance(batch, pa.Table):
            for name, values in added.items():
                batch = batch.append_column(name, pa.array(values, _KINDS.get(name, pa.float64())))
            return batch
        arrays = {name: np.asarray(values, _DTYPES.get(name, np.float64)) for name, values in added.items()}
        return {**batch, **arrays} if isinstance(batch, Mapping) else batch.assign(**arrays)


#: Types of the added columns; the others are probabilities.
_KINDS = {"predicted_label": pa.string(), "abstain": pa.bool_()}
_DTYPES: dict[str, Any] = {"predicted_label": np.object_, "abstain": np.bool_}


def _values(column: Any) -> list:
    if isinstance(column, pa.ChunkedArray):
        return column.to_pylist()
    return list(column)
