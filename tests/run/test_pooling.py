"""`--pooling` in whole runs: what every student reads, what labels choose, and an encoder that cannot read anything else."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from notes import Notes
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    DistilBertConfig,
    DistilBertModel,
    ModernBertConfig,
    ModernBertModel,
)

from sstext.config.run_config import RunConfig
from sstext.errors import UserError
from sstext.inference.classifier import Classifier
from sstext.modeling.reading import FACTOR, has_reading_layer
from sstext.progress import Reporter
from sstext.pseudolabels.reading_choice import ReadingChoice, choose_reading
from sstext.reporting.run_files import open_run_files
from sstext.reporting.tables import facts
from sstext.run import chosen_by_labels
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
        assert has_reading_layer(model)
        layer = model.bert.encoder.layer[2]
        assert len(model.bert.encoder.layer) == 3
        assert torch.equal(layer.attention.output.dense.weight, FACTOR * torch.eye(16))
        assert torch.equal(layer.output.LayerNorm.weight, torch.ones(16))
        assert not layer.attention.self.query.weight.any()
    assert len(Classifier.from_pretrained(tmp_path / "out" / "model").predict(["my parcel", "login"])) == 2


def test_labels_choose_the_first_token(
    tiny_run: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards a choice that a student, the record, the card or the report does not follow, and one that is lost when a run goes
    on. Plain fine-tuning, beside which the model is measured, keeps the head of the encoder."""
    asked = []

    def first(embedded: Any, labels: Any, classes: int, seed: int, trained: str | None) -> ReadingChoice:
        assert trained is None
        asked.append({reading: rows.shape for reading, rows in embedded.items()})
        assert not np.allclose(embedded["mean"], embedded["first"])
        return ReadingChoice("first", {"mean": 1.5, "first": 1.25}, None, 0.25, 0.1, len(labels))

    monkeypatch.setattr(chosen_by_labels, "choose_reading", first)
    config = tiny_run(tmp_path / "out", method="auto", folds=2)
    config.method_args = {}
    train(config)
    assert asked == [{"mean": (12, 16), "first": (12, 16)}]
    models = [folder for folder in (tmp_path / "out").rglob("model") if (folder / "config.json").exists()]
    marks = {str(folder.relative_to(tmp_path / "out")): AutoConfig.from_pretrained(folder) for folder in models}
    others = {name for name, own in marks.items() if getattr(own, "sstext_pooling", None) != "first"}
    assert others == {"all_labels/baseline/model"}
    assert marks["model"].num_hidden_layers == 3
    layer = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out" / "model").bert.encoder.layer[2]
    assert not layer.attention.output.dense.weight.any()
    record = json.loads((tmp_path / "out" / "results.json").read_text())["pooling"]
    assert (record["reading"], record["model"]) == ("first", "first")
    said = "the head reads the first token, because held-out labels clearly prefer it to the mean of all tokens"
    assert f"Pooling: {said}." in (tmp_path / "out" / "model" / "README.md").read_text()
    assert dict(facts(open_run_files(tmp_path / "out")))["pooling"] == said
    choice = ReadingChoice("mean", {"mean": 1.0, "first": 2.0}, None, 0.0, 0.0, 12)
    monkeypatch.setattr(chosen_by_labels, "choose_reading", lambda *given, **more: choice)
    chain = open_chain(config)
    assert chain.student(chain.plan.baseline).config.sstext_pooling == "first"
    (tmp_path / "out" / "pooling.json").unlink()  # as earlier versions have left it, whose heads read the mean
    monkeypatch.setattr(chosen_by_labels, "choose_reading", first)
    assert open_chain(config).reading is None


@pytest.mark.parametrize(("pooling", "asked"), [("auto", 1), ("mean", 0), ("first", 0), ("native", 0)])
def test_labels_are_asked_only_where_nothing_is_given(
    pooling: str, asked: int, tiny_run: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards an option that evidence overrules, and a comparison by methods that read what the encoder's head reads."""
    calls = []
    monkeypatch.setattr(
        chosen_by_labels, "choose_reading", lambda *given, **more: calls.append(given) or choose_reading(*given, **more)
    )
    chain = open_chain(tiny_run(tmp_path / "out", method="auto", folds=0, pooling=pooling))
    assert len(calls) == asked
    mark = {"auto": "mean", "native": None}.get(pooling, pooling)
    assert getattr(chain.student(chain.plan.named("start")).config, "sstext_pooling", None) == mark
    notes = Notes()
    chain = open_chain(tiny_run(tmp_path / "other", method="fixmatch", rounds=0, pooling=pooling), notes)
    assert len(calls) == asked
    assert not any(note.startswith("pooling") for note in notes.said)
    assert getattr(chain.student(chain.plan.baseline).config, "sstext_pooling", None) == {"auto": None}.get(
        pooling, mark
    )


def test_an_encoder_that_was_trained_for_its_first_token_is_read_there(
    tiny_run: Callable[..., RunConfig], tiny_encoder: Path, tmp_path: Path
) -> None:
    """Guards BGE and its like, which say in a file of their own what they were trained for. Labels that tell no difference do
    not overrule it, and neither does the next run, for which the model is the encoder."""
    shutil.copytree(tiny_encoder, tmp_path / "encoder")
    (tmp_path / "encoder" / "1_Pooling").mkdir()
    told = {"word_embedding_dimension": 16, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (tmp_path / "encoder" / "1_Pooling" / "config.json").write_text(json.dumps(told))
    encoder = str(tmp_path / "encoder")
    described = {"account": "password login", "delivery": "parcel courier", "refund": "money invoice"}
    alone = tiny_run(
        tmp_path / "zero", method="auto", labeled=None, descriptions=described, folds=None, test=None, encoder=encoder
    )
    chain = open_chain(alone)
    assert chain.texts.zero_shot
    assert chain.student(chain.plan.baseline).config.sstext_pooling == "first", "without labels, too"
    for output in ("out", "again"):
        options = tiny_run(tmp_path / output, method="auto", folds=0, rounds=0, encoder=encoder)
        options.method_args = {}
        found = train(options, report=False)["pooling"]
        assert (found["trained"], found["reading"]) == ("first", "first")
        encoder = str(tmp_path / output / "model")
        assert AutoConfig.from_pretrained(encoder).sstext_pooling == "first"
        assert AutoConfig.from_pretrained(encoder).num_hidden_layers == 3


@pytest.mark.parametrize("better", ["mean", "first"])
def test_labels_choose_the_pooling_that_an_encoder_has_itself(
    better: str, tiny_run: Callable[..., RunConfig], tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ModernBERT: guards a start of auto that reads what its head read before, whatever the labels say."""
    shutil.copytree(tiny_encoder, tmp_path / "encoder")
    (tmp_path / "encoder" / "model.safetensors").unlink()
    sizes = {
        "vocab_size": 400,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    ends = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
    before = "cls" if better == "mean" else "mean"
    ModernBertModel(ModernBertConfig(**sizes, **ends, classifier_pooling=before)).save_pretrained(tmp_path / "encoder")
    choice = ReadingChoice(better, {"mean": 1.0, "first": 2.0}, None, 0.0, 0.0, 12)
    monkeypatch.setattr(chosen_by_labels, "choose_reading", lambda *given, **more: choice)
    config = tiny_run(tmp_path / "out", method="auto", folds=0, encoder=str(tmp_path / "encoder"))
    config.method_args = {}
    train(config, report=False)
    stages = {"baseline": before, "start": "mean" if better == "mean" else "cls"}
    shipped = AutoConfig.from_pretrained(tmp_path / "out" / "model")
    card = (tmp_path / "out" / "model" / "README.md").read_text()
    assert ("Pooling: " in card) == (getattr(shipped, "sstext_pooling", None) == better)
    assert json.loads((tmp_path / "out" / "results.json").read_text())["pooling"]["reading"] == better
    for stage, expected in stages.items():
        (folder,) = (tmp_path / "out").rglob(f"{stage}/model")
        assert AutoConfig.from_pretrained(folder).classifier_pooling == expected


def test_a_tokenizer_that_pads_on_the_left_reads_the_mean(
    tiny_run: Callable[..., RunConfig], tiny_encoder: Path, tmp_path: Path
) -> None:
    """Guards a first token that is padding."""
    shutil.copytree(tiny_encoder, tmp_path / "encoder")
    file = tmp_path / "encoder" / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"padding_side": "left"}))
    own = {"encoder": str(tmp_path / "encoder"), "folds": 0, "method": "auto"}
    chain = open_chain(tiny_run(tmp_path / "out", **own))
    assert chain.reading is None
    assert chain.student(chain.plan.baseline).config.sstext_pooling == "mean"
    with pytest.raises(UserError, match=r"pooling: the tokenizer of .* pads on the left"):
        open_chain(tiny_run(tmp_path / "first", pooling="first", **own))
    assert not (tmp_path / "first").exists()


def test_the_pooling_of_a_configuration_is_an_option(
    tiny_run: Callable[..., RunConfig], tiny_encoder: Path, tmp_path: Path
) -> None:
    """Guards two options of which one silently overrules the other."""
    with pytest.raises(UserError, match="classifier_pooling is an option of its own; give"):
        open_chain(tiny_run(tmp_path / "out", model_args={"classifier_pooling": "cls"}))


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
        said = "pooling: the head of distilbert can only read what it was built for, so that"
        assert (said in capsys.readouterr().err) == (pooling == "mean")
    chain = open_chain(tiny_run(tmp_path / "default", encoder=own["encoder"], method="auto"), Reporter())
    assert chain.plan.baseline.name == "baseline"
    said = "the head of distilbert cannot be a regression on the embeddings of the encoder; auto begins with plain "
    said += "fine-tuning instead"
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
