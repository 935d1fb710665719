"""The callable for batches, without ray: dicts of arrays, Arrow tables and data frames get the same columns."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from sstext.errors import UserError
from sstext.inference.classifier import Classifier as Model
from sstext.ray import Classifier

TEXTS = ["money back please", "courier late today", ""]


@pytest.fixture(scope="module")
def label(tiny_classifier: Path) -> Classifier:
    return Classifier(str(tiny_classifier), probabilities=True, device="cpu")


@pytest.fixture(scope="module")
def expected(tiny_classifier: Path) -> dict[str, list]:
    model = Model.from_pretrained(tiny_classifier, device="cpu")
    shares = model.predict_proba(TEXTS).astype(float)
    return {"id": [3, 4, 5], "predicted_label": model.predict(TEXTS), "confidence": shares.max(-1).tolist()} | {
        f"probability/{name}": shares[:, number].tolist() for number, name in enumerate(model.classes)
    }


@pytest.mark.parametrize("missing", [None, "", float("nan")])
@pytest.mark.parametrize("kind", ["arrays", "table", "frame"])
def test_batches_of_every_kind(label: Classifier, expected: dict[str, list], kind: str, missing: Any) -> None:
    """Guards a column that is lost, another order, and a missing text that is read as the word `nan`."""
    texts = [*TEXTS[:2], missing]
    if kind == "arrays":
        batch: Any = {"id": np.array([3, 4, 5]), "text": np.array(texts, dtype=object)}
        found = label(batch)
        assert set(batch) == {"id", "text"}, "what is given stays as it is"
        columns = {name: found[name].tolist() for name in found}
    elif kind == "table":
        batch = pa.table({"id": pa.array([3, 4, 5], pa.int8()), "text": pa.array(texts, from_pandas=True)})
        found = label(batch)
        assert found.schema.field("id").type == pa.int8()
        columns = found.to_pydict()
    else:
        found = label(pd.DataFrame({"id": [3, 4, 5], "text": texts}))
        columns = {name: found[name].tolist() for name in found}
    del columns["text"]
    assert columns == expected
    assert list(columns) == list(expected)


def test_an_empty_batch_has_the_columns(label: Classifier) -> None:
    """Ray calls it with no rows to learn the columns. Guards types that differ from those of other batches."""
    found = label({"text": np.array([], dtype=object)})
    assert found["predicted_label"].dtype == object
    assert found["confidence"].dtype == np.float64
    assert label(pa.table({"text": pa.array([], pa.string())})).schema.field("confidence").type == pa.float64()


def test_what_it_refuses(label: Classifier, tiny_classifier: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the batch: predictions would overwrite 'confidence'"):
        label({"text": np.array(["a"]), "confidence": np.array([1.0])})
    with pytest.raises(UserError, match=r"the batch: .*'body'"):
        Classifier(str(tiny_classifier), text_column="body", device="cpu")({"id": np.array([1]), "n": np.array([2])})
    with pytest.raises(UserError, match="target precision: this model has no estimate"):
        Classifier(str(tiny_classifier), target_precision=0.9)
    with pytest.raises(UserError, match="nowhere"):
        Classifier(str(tmp_path / "nowhere"))
