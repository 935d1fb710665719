"""Weights and outputs that are not finite are refused by name, wherever a model comes from."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sstext.cli.main import main
from sstext.errors import UserError
from sstext.inference.classifier import Classifier
from sstext.modeling.finite import refuse_bad_outputs, refuse_bad_weights
from sstext.modeling.pretrained import explained
from sstext.modeling.student import new_student
from sstext.training.models import load_by_name

NAN, INF = float("nan"), float("inf")


def spoil(folder: Path, value: float = NAN) -> str:
    """Write one bad number into the weights of a model. Returns the name of the tensor."""
    file = folder / "model.safetensors"
    tensors = {key: tensor.clone() for key, tensor in load_file(file).items()}
    name = next(key for key in tensors if key.endswith("layer.1.output.dense.weight"))
    tensors[name][0, 0] = value
    save_file(tensors, file, metadata={"format": "pt"})
    return name


@pytest.fixture(scope="module")
def bad_encoder(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad") / "encoder"
    shutil.copytree(tiny_encoder, folder)
    spoil(folder, INF)
    return folder


@pytest.mark.parametrize(
    ("spoiled", "value", "refused"),
    [("0.weight", NAN, True), ("0.weight", -INF, True), ("1.mask", NAN, True), ("1.mask", -INF, False)],
)
def test_a_weight_that_is_not_finite_is_named(spoiled: str, value: float, refused: bool) -> None:
    """Guards against a check of some tensors only; −∞ in a buffer is how some models mask."""
    model = nn.Sequential(nn.Linear(3, 2), nn.Module())
    model[1].register_buffer("mask", torch.zeros(4))
    model[1].register_buffer("steps", torch.tensor(3))
    model[1].register_buffer("empty", torch.zeros(0))
    refuse_bad_weights(model, "mine")
    model.state_dict()[spoiled].view(-1)[1] = value
    if not refused:
        return refuse_bad_weights(model, "mine")
    size = {"0.weight": 6, "1.mask": 4}[spoiled]
    with pytest.raises(
        UserError, match=rf"^mine: expected finite weights, found 1 of {size} numbers in '{spoiled}' that are"
    ):
        refuse_bad_weights(model, "mine")


def test_memory_that_runs_out_is_not_said_of_the_model() -> None:
    """Guards exit code 2, and advice about the files of a model, where the machine is too small for it."""
    with pytest.raises(RuntimeError, match="CUDA out of memory"), explained("a/model"):
        raise RuntimeError("CUDA out of memory")


def test_a_number_that_float16_cannot_hold_is_explained() -> None:
    model = nn.Linear(1, 1)
    model.weight.data[:] = 70_000
    refuse_bad_weights(model, "mine")
    with pytest.raises(UserError, match="in 'weight' that are NaN or infinite; load it with dtype float32, or fetch"):
        refuse_bad_weights(model.half(), "mine")


def test_outputs_are_refused_by_row() -> None:
    refuse_bad_outputs(np.ones((2, 3)))
    bad = np.array([[1.0, 2.0], [NAN, INF], [3.0, -INF]], dtype=np.float32)
    with pytest.raises(UserError, match="for 2 of 3 rows, the first of which is row 1; compute in precision fp32"):
        refuse_bad_outputs(bad, "bf16")
    with pytest.raises(UserError, match=r"; take a model that was trained with a lower learning rate$"):
        refuse_bad_outputs(bad)


def test_no_encoder_with_such_weights_is_loaded(bad_encoder: Path) -> None:
    """Guards the two ways to an encoder: that of a run, and that of a trainer."""
    with pytest.raises(UserError, match=r"encoder .*bad.*'bert\.encoder\.layer\.1\.output\.dense\.weight'"):
        new_student(str(bad_encoder), ["a", "b"], seed=0)
    with pytest.raises(UserError, match=r"'bert\.encoder\.layer\.1\.output\.dense\.weight'"):
        load_by_name(str(bad_encoder), {}, None, names=None, number=2, seed=0)


def test_a_run_refuses_them_before_it_trains(bad_encoder: Path, tiny_run: Callable[..., Any], tmp_path: Path) -> None:
    """Guards a run that embeds all texts with an encoder of NaN, and a folder that is left."""
    from sstext.run.train import train

    with pytest.raises(UserError, match="expected finite weights, found 1 of 512 numbers"):
        train(tiny_run(tmp_path / "out", encoder=str(bad_encoder)))
    assert not (tmp_path / "out").exists()


def test_predict_and_evaluate_refuse_them(finished_run: Path, tmp_path: Path, capsys: Any) -> None:
    """Guards predictions of the first class with the confidence nan."""
    model, texts = tmp_path / "model", tmp_path / "texts.csv"
    shutil.copytree(finished_run / "model", model)
    name = spoil(model)
    texts.write_text("text,label\nmy money,refund\n", encoding="utf-8")
    for command in (["predict", model, texts, "-o", tmp_path / "out.csv"], ["evaluate", model, texts]):
        assert main([str(part) for part in command]) == 2
        shown = capsys.readouterr()
        assert f"numbers in {name!r} that are NaN or infinite" in shown.err
        assert "Traceback" not in shown.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "texts.csv"]


def test_logits_that_overflow_are_refused(finished_run: Path, tmp_path: Path, capsys: Any) -> None:
    """Guards models whose weights are finite, and whose outputs are not."""
    classifier = Classifier.from_pretrained(finished_run / "model", device="cpu")
    classifier.model.bert.pooler.dense.bias.data[:] = 100  # tanh makes ones of it …
    classifier.model.classifier.weight.data[:] = 3e38  # … and the sum of sixteen of these is too large
    with pytest.raises(UserError, match="for 2 of 2 rows"):
        classifier.predict(["a", "refund my money"])
    classifier.model.save_pretrained(tmp_path / "model")
    classifier.tokenizer.save_pretrained(tmp_path / "model")
    texts = tmp_path / "texts.csv"
    texts.write_text("text\nmy money\n", encoding="utf-8")
    assert main(["predict", str(tmp_path / "model"), str(texts), "-o", str(tmp_path / "out.csv")]) == 2
    assert "expected finite outputs of the model" in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()


def test_all_weights_of_a_sharded_model_are_checked() -> None:
    """Guards the export of FSDP: the model of a process has a part of the weights, and a bad number may be in another one."""
    model = torch.nn.Linear(2, 2)
    refuse_bad_weights(model, "out")
    whole = {**model.state_dict(), "weight": torch.tensor([[0.0, float("nan")], [1.0, 2.0]])}
    with pytest.raises(UserError, match=r"out: expected finite weights, found 1 of 4 numbers in 'weight'"):
        refuse_bad_weights(model, "out", whole)
