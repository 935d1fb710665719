"""The packaged MiniLM on real texts: what no tiny encoder can show."""

import numpy as np
import pandas as pd
import pytest

from sstext import RunConfig, train


@pytest.mark.real
@pytest.mark.slow
def test_self_training_learns_ag_news(bench_data, demo_encoder, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """10 labels a class, one short round on 1,000 texts: far above chance, pseudo-labels better than the model that made them.

    Guards against a main path that runs and learns nothing with a real encoder and real text.
    """
    rows = pd.read_parquet(bench_data / "ag_news" / "train.parquet")
    rows = rows.iloc[np.random.default_rng(0).permutation(len(rows))].reset_index(drop=True)
    labeled = rows.groupby("label").head(10)
    rest = rows.drop(labeled.index)
    pool = rest.iloc[:1000]
    labeled.to_parquet(tmp_path / "labeled.parquet")
    pool[["text"]].to_parquet(tmp_path / "unlabeled.parquet")
    pool[["label"]].to_parquet(tmp_path / "answers.parquet")
    rest.iloc[1000:1400].to_parquet(tmp_path / "test.parquet")
    config = RunConfig(
        labeled=str(tmp_path / "labeled.parquet"), unlabeled=str(tmp_path / "unlabeled.parquet"),
        audit=str(tmp_path / "answers.parquet"), test=str(tmp_path / "test.parquet"), encoder=str(demo_encoder),
        output=str(tmp_path / "out"), rounds=1, steps=60, round_steps=60, max_length=64,
    )  # fmt: skip
    results = train(config)
    supervised, trained = (
        results["test"][name]["metrics"]["accuracy"]["score"] for name in ("supervised", "self_trained")
    )
    assert supervised > 0.65
    assert trained > 0.65
    assert results["rounds"][1]["audit_precision"] > supervised, "the most confident 30 % are better than the average"
