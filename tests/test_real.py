"""The packaged MiniLM on real texts: what no tiny encoder can show."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from transformers import AutoModel, AutoTokenizer

from sstext import RunConfig, train
from sstext.inference.scoring import score
from sstext.modeling.embedder import Embedder
from sstext.pseudolabels.class_shares import estimated_prior, half_way_prior
from sstext.pseudolabels.regression import PENALTY


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
        output=str(tmp_path / "out"), method="class-balanced", rounds=1, steps=60, round_steps=60, max_length=64,
    )  # fmt: skip
    results = train(config)
    supervised, trained = (
        results["test"][name]["metrics"]["accuracy"]["score"] for name in ("supervised", "self_trained")
    )
    assert supervised > 0.65
    assert trained > 0.65
    assert results["rounds"][1]["audit_precision"] > supervised, "the most confident 30 % are better than the average"


@pytest.mark.real
@pytest.mark.parametrize("name", ["sms_spam", "trec6"])
def test_balanced_labels_are_no_evidence_of_the_prior(name: str, bench_data: Path, demo_encoder: Path) -> None:
    """13 % of the messages are spam, one kind of question in a hundred is about an abbreviation; 10 labels of each class know
    nothing of it. What is predicted, with doubt, is nearer to the truth than uniform quotas; than half way where there is
    much to find (messages), and hardly farther where the embeddings know little (questions)."""
    rows = pd.read_parquet(bench_data / name / "train.parquet")
    rows = rows.iloc[np.random.default_rng(0).permutation(len(rows))].reset_index(drop=True)
    labeled = rows.groupby("label").head(10)
    pool = rows.drop(labeled.index).iloc[:600]
    tokenizer = AutoTokenizer.from_pretrained(demo_encoder)
    model = Embedder(AutoModel.from_pretrained(demo_encoder)).eval()

    def embedded(texts: pd.Series) -> np.ndarray:
        ids = tokenizer(texts.tolist(), truncation=True, max_length=32)["input_ids"]
        return score(model, [{"input_ids": one} for one in ids], tokenizer)

    classes = labeled["label"].nunique()
    probe = LogisticRegression(C=PENALTY * classes, max_iter=1_000).fit(embedded(labeled["text"]), labeled["label"])
    predicted = probe.predict_proba(embedded(pool["text"]))
    truth = pool["label"].value_counts(normalize=True).reindex(probe.classes_).to_numpy()
    uniform = np.full(len(truth), 1 / len(truth))
    half_way = half_way_prior(uniform, predicted.mean(0))
    off = {"uniform": uniform, "half way": half_way, "estimated": estimated_prior(uniform, predicted)}
    apart = {kind: np.abs(shares - truth).sum() / 2 for kind, shares in off.items()}
    assert apart["uniform"] > 0.1, "canary: the pool is skewed"
    assert apart["estimated"] < 0.9 * apart["uniform"]
    assert apart["estimated"] < {"sms_spam": 0.7, "trec6": 1.05}[name] * apart["half way"]
