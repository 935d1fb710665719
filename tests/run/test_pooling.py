"""`--pooling mean` in whole runs: every student reads the mean, and an encoder that cannot says so."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, DistilBertConfig, DistilBertModel

from sstext.config.run_config import RunConfig
from sstext.inference.classifier import Classifier
from sstext.modeling.mean_reading import FACTOR, has_mean_layer
from sstext.progress import Reporter
from sstext.run.opening import open_chain
from sstext.run.train import train


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "auto", "folds": 0},
        {"method": "fixmatch", "rounds": 0},
        {"method": "supervised", "rounds": 0, "regularizers": {"reconstruction": 1.0}},
    ],
    ids=["rounds", "inside a step", "masked words"],
)
def test_every_student_reads_the_mean(
    changes: dict[str, Any], tiny_run: Callable[..., RunConfig], tmp_path: Path
) -> None:
    """Guards what is handed from stage to stage: the layer stays what it was, and it is one layer."""
    config = tiny_run(tmp_path / "out", pooling="mean", **changes)
    config.method_args = {}
    train(config, report=False)
    models = [folder for folder in (tmp_path / "out").rglob("model") if (folder / "config.json").exists()]
    assert models
    for folder in models:
        model = AutoModelForSequenceClassification.from_pretrained(folder)
        assert has_mean_layer(model)
        layer = model.bert.encoder.layer[2]
        assert len(model.bert.encoder.layer) == 3
        assert torch.equal(layer.attention.output.dense.weight, FACTOR * torch.eye(16))
        assert torch.equal(layer.output.LayerNorm.weight, torch.ones(16))
        assert not layer.attention.self.query.weight.any()
    assert len(Classifier.from_pretrained(tmp_path / "out" / "model").predict(["my parcel", "login"])) == 2


def test_an_encoder_that_cannot_keeps_its_head_and_says_so(
    tiny_run: Callable[..., RunConfig], tiny_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards an option that silently does nothing, and a default method that silently lacks its regression."""
    shutil.copytree(tiny_encoder, tmp_path / "encoder")
    (tmp_path / "encoder" / "model.safetensors").unlink()
    config = DistilBertConfig(vocab_size=400, dim=16, n_layers=1, n_heads=2, hidden_dim=32, max_position_embeddings=64)
    DistilBertModel(config).save_pretrained(tmp_path / "encoder")
    own = {"encoder": str(tmp_path / "encoder"), "method": "supervised", "rounds": 0, "steps": 2}
    for pooling in ("mean", "auto"):
        options = tiny_run(tmp_path / pooling, pooling=pooling, **own)
        options.method_args = {}
        train(options, reporter=Reporter(), report=False)
        said = "pooling: the head of distilbert cannot be made to read the mean exactly; it keeps its own head"
        assert (said in capsys.readouterr().err) == (pooling == "mean")
    chain = open_chain(tiny_run(tmp_path / "default", encoder=own["encoder"], method="auto"), Reporter())
    assert chain.plan.baseline.name == "baseline"
    said = "the head of distilbert cannot be a regression on the mean of the tokens; auto begins with plain fine-tuning instead"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("pooling", "names", "regressions"),
    [
        ("auto", ["regression", "start", "round 1"], 2),
        ("mean", ["regression", "start", "round 1"], 2),
        ("native", ["baseline", "start", "round 1"], 0),
    ],
)
def test_a_regression_reads_the_mean_unless_the_native_head_is_asked_for(
    pooling: str, names: list[str], regressions: int, tiny_run: Callable[..., RunConfig], tmp_path: Path
) -> None:
    """Guards `--pooling native` of auto, whose first stages read the mean: without them it begins with plain fine-tuning."""
    chain = open_chain(tiny_run(tmp_path / "out", method="auto", folds=0, pooling=pooling))
    assert [stage.name for stage in chain.plan.stages] == names
    assert sum(stage.regression_head for stage in chain.plan.stages) == regressions
    layers = {stage.name: chain.student(stage).config.num_hidden_layers for stage in chain.plan.stages[:2]}
    assert set(layers.values()) == {2 if pooling == "native" else 3}
    fixmatch = open_chain(tiny_run(tmp_path / "other", method="fixmatch", rounds=0, pooling=pooling))
    assert [stage.name for stage in fixmatch.plan.stages] == ["start"]
