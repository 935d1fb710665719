"""Several encoders: the one whose embeddings tell the classes apart is taken, by evidence that is kept. And its prefix."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from notes import Notes
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, FunnelConfig, FunnelModel, pipeline

from sstext.cli.main import main
from sstext.config.run_config import RunConfig
from sstext.errors import UserError
from sstext.inference.classifier import Classifier
from sstext.modeling.pretrained import prefix_of
from sstext.reporting.run_files import open_run_files
from sstext.reporting.tables import facts
from sstext.run import encoders
from sstext.run.dry_run import forecast
from sstext.run.opening import open_chain
from sstext.run.train import train

PREFIX = "please hello "


@pytest.fixture(scope="module")
def shuffled(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny encoder with the embeddings of its words shuffled: no subject stands close together."""
    folder = tmp_path_factory.mktemp("encoders") / "shuffled"
    shutil.copytree(tiny_encoder, folder)
    weights = load_file(folder / "model.safetensors")
    (name,) = (name for name in weights if name.endswith("word_embeddings.weight"))
    order = torch.randperm(len(weights[name]), generator=torch.Generator().manual_seed(0))
    weights[name] = weights[name][order].contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def changes(tiny_encoder: Path, shuffled: Path) -> dict[str, Any]:
    """A run of two steps that chooses between the two encoders; only the good one has a prefix."""
    return {
        "encoder": [str(shuffled), str(tiny_encoder)], "prefix": {str(tiny_encoder): PREFIX}, "method": "supervised",
        "rounds": 0, "steps": 2,
    }  # fmt: skip


@pytest.fixture(scope="module")
def quick(tiny_run: Any, changes: dict[str, Any]) -> Any:
    """`quick(output, **more)`: the options of this run, changed."""

    def configure(output: Path, **more: Any) -> RunConfig:
        return replace(tiny_run(output, **changes | more), method_args={})

    return configure


@pytest.fixture(scope="module")
def ran(quick: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Notes]:
    """The folder of this run, and its notes."""
    out, notes = tmp_path_factory.mktemp("chosen") / "out", Notes()
    train(quick(out), reporter=notes)
    return out, notes


def test_the_encoder_that_separates_the_classes_is_taken_and_the_reason_is_told(
    ran: tuple[Path, Notes], tiny_encoder: Path, shuffled: Path
) -> None:
    """Guards a choice by order or by chance, a choice without its figures, and folders' names on a card that is published."""
    out, notes = ran
    comparison = json.loads((out / "encoders.json").read_text())
    bad, good = comparison["compared"]
    assert (bad["encoder"], good["encoder"]) == (str(shuffled), str(tiny_encoder))
    assert comparison["chosen"] == str(tiny_encoder)
    assert good["log_loss"] < bad["log_loss"] - 0.05
    assert good["accuracy"] > bad["accuracy"]
    assert comparison["rows"] == 12
    assert json.loads((out / "results.json").read_text())["encoders"] == comparison
    figures = f"calibrated log-loss of held-out labels {good['log_loss']:.3f}, accuracy {good['accuracy']:.1%}"
    told = [note for note in notes.said if note.startswith("encoder ")]
    assert told[1] == f"encoder {tiny_encoder}: {figures}"
    assert told[2] == f"encoder {tiny_encoder} was taken (the lowest log-loss, 12 labels)"
    assert len(told) == 3
    card = (out / "model" / "README.md").read_text()
    assert f"a local encoder (chosen): {figures}." in card
    assert str(tiny_encoder) not in card
    assert figures in dict(facts(open_run_files(out)))["encoders"]


def test_a_continued_run_takes_the_same_encoder_without_comparing(
    ran: tuple[Path, Notes], quick: Any, changes: dict[str, Any], tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards a second half of a run on another encoder than the first, and minutes that are spent twice."""
    out, notes = ran[0], Notes()
    monkeypatch.setattr(encoders, "encoder_figures", lambda *_, **__: pytest.fail("compared again"))
    chain = open_chain(quick(out), notes)
    assert chain.config.encoder == str(tiny_encoder)
    assert chain.config.prefix == PREFIX
    assert f"encoder {tiny_encoder}, as chosen when the run began" in notes.said
    for other in ({"encoder": changes["encoder"][::-1]}, {"prefix": None}, {"prefix": "please "}):
        with pytest.raises(UserError, match="belongs to another run, with other options"):
            open_chain(quick(out, **other))


def test_the_names_of_the_classes_count_as_the_run_would_let_them(
    quick: Any, changes: dict[str, Any], tmp_path: Path
) -> None:
    """Guards a comparison without what the run reads: `auto` reads class texts, `supervised` does not. In any order, the
    same encoder is taken."""
    told = {"descriptions": {"account": "password login", "delivery": "parcel courier", "refund": "money invoice"}}
    config = quick(tmp_path / "out", method="auto", rounds=None, encoder=changes["encoder"][::-1], **told)
    chain = open_chain(config)
    comparison = json.loads((tmp_path / "out" / "encoders.json").read_text())
    good, bad = comparison["compared"]
    assert comparison["chosen"] == good["encoder"] == chain.config.encoder
    assert good["class_texts"] == bad["class_texts"] == "descriptions"
    assert chain.class_texts is not None
    assert good["weight"] == chain.class_texts.weight > 0


def test_what_cannot_be_compared_is_named(quick: Any, tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards errors that do not say which encoder is meant, and a claimed folder after them."""
    short = tmp_path / "short"  # an encoder that shortens its sequences
    shutil.copytree(tiny_encoder, short, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    FunnelModel(FunnelConfig(d_model=16, n_head=2, d_head=8, d_inner=16, block_sizes=[1] * 5)).save_pretrained(short)
    missing, alone = (
        str(tmp_path / "missing"),
        {"labeled": None, "descriptions": {"ham": "a message", "spam": "an advertisement"}},
    )
    for second, more, message in (
        (str(short), {}, f"encoder '{short}' cannot be compared"),
        (missing, {}, f"cannot load '{missing}'"),
        (str(short), alone, "encoder: found 2 encoders, but no labels to compare them by"),
    ):
        with pytest.raises(UserError, match=message):
            open_chain(quick(tmp_path / "out", encoder=[str(tiny_encoder), second], prefix=None, **more))
        assert not (tmp_path / "out").exists()


def test_one_encoder_is_not_compared(quick: Any, tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards time that is spent without a choice, and folders of earlier runs, which record one name and no list."""
    assert RunConfig(encoder=[str(tiny_encoder)]).to_yaml() == RunConfig(encoder=str(tiny_encoder)).to_yaml()
    config = quick(tmp_path / "out", encoder=str(tiny_encoder))
    assert open_chain(config).config.prefix == PREFIX
    assert not (tmp_path / "out" / "encoders.json").exists()


def test_the_prefix_goes_with_the_model(ran: tuple[Path, Notes], tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards predictions without the prefix: those of sstext put it before every text by themselves, those of a plain pipeline
    are the same with it and others without it. The card says so."""
    model = ran[0] / "model"
    assert json.loads((model / "config.json").read_text())["sstext"]["prefix"] == PREFIX
    texts = ["my parcel is late", "money"]
    classifier = Classifier.from_pretrained(model, device="cpu")
    plain = pipeline("text-classification", str(model), top_k=None, device="cpu")

    def probabilities(prefix: str) -> np.ndarray:
        found = plain([prefix + text for text in texts], truncation=True, max_length=64)
        return np.array(
            [[{one["label"]: one["score"] for one in row}[name] for name in classifier.classes] for row in found]
        )

    np.testing.assert_allclose(classifier.predict_proba(texts), probabilities(PREFIX), atol=1e-5)
    assert np.abs(probabilities(PREFIX) - probabilities("")).max() > 1e-3, "canary"
    usage = ModelCard.load(model / "README.md").text.split("## How to use")[1].split("\n## ")[0]
    assert 'classify("please hello " + "a text", truncation=True, max_length=64)' in usage
    assert 'trained with the prefix `"please hello "` before every text' in usage
    assert json.loads((ran[0] / "results.json").read_text())["prefix"] == PREFIX


def test_the_prefix_of_a_model_is_inherited(ran: tuple[Path, Notes], quick: Any, tmp_path: Path) -> None:
    """Guards a model of an earlier run that is trained on without its prefix, and a prefix that cannot be replaced."""
    model = str(ran[0] / "model")
    for given, prefix in ((None, PREFIX), ("please ", "please "), ("", "")):
        notes = Notes()
        chain = open_chain(quick(tmp_path / f"out{given}", encoder=model, prefix=given), notes)
        assert chain.config.prefix == prefix
        assert prefix_of(chain.student(chain.plan.baseline).config) == prefix
        said = f"prefix: {PREFIX!r}, because {model} was trained with it; prefix replaces it"
        assert (said in notes.said) == (given is None)
    assert open_chain(quick(tmp_path / "outNone", encoder=model, prefix=None)).config.prefix == PREFIX, "continued"


def test_files_are_read_with_the_prefix_too(
    ran: tuple[Path, Notes], tiny_files: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards `sstext evaluate` against texts without the prefix: its figures are those that the run has measured."""
    figures = tmp_path / "figures.json"
    assert (
        main(["evaluate", str(ran[0] / "model"), str(tiny_files.test), "--json", str(figures), "--device", "cpu"]) == 0
    )
    measured = json.loads((ran[0] / "results.json").read_text())["test"]["self_trained"]["metrics"]["nll"]["score"]
    found = json.loads(figures.read_text())["metrics"]["nll"]["score"]
    assert found == pytest.approx(measured, abs=1e-5)


def test_every_text_of_a_run_begins_with_the_prefix(quick: Any, tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards one kind of rows without it, and lengths that forget it."""
    options = {"encoder": str(tiny_encoder), "prefix": PREFIX}
    tokens = open_chain(quick(tmp_path / "out", max_length=8, **options)).tokens
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    begins = tokenizer(PREFIX)["input_ids"][:-1]
    for rows in (tokens.labeled, tokens.corpus, tokens.class_texts):
        assert {tuple(ids[:3]) for ids in rows["input_ids"][:]} == {tuple(begins)}
    for rows in (tokens.labeled, tokens.corpus):
        assert max(map(len, rows["input_ids"][:])) <= 8
    texts = [tokenizer(PREFIX + text)["input_ids"] for text in ("account", "This text is account.")]
    assert tokens.class_texts["input_ids"][:2] == texts, "texts of classes are whole, even if the others are cut"
    assert forecast(quick(tmp_path / "out", max_length=8, **options)).prefix == PREFIX
    with pytest.raises(
        UserError, match=r"prefix: expected fewer than 4 tokens.*found 4; shorten it, or raise max_length"
    ):
        open_chain(quick(tmp_path / "other", max_length=4, **options))
    assert not (tmp_path / "other").exists()
