"""A head that reads the mean or the first token: what reaches it in every family, saved, in 16 bits, and after training."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    CamembertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    EuroBertConfig,
    ModernBertConfig,
    MPNetConfig,
    PreTrainedConfig,
    RobertaConfig,
    XLMRobertaConfig,
    pipeline,
)

from sstext.errors import UserError
from sstext.modeling.embedder import Embedder
from sstext.modeling.pooling import last_hidden_states, mean_pooled
from sstext.modeling.reading import (
    FAMILIES,
    FIRST,
    MARK,
    MEAN,
    READINGS,
    Diagonal,
    has_reading_layer,
    head_rate_factor,
    hold_reading,
    make_read,
    reading_scale,
    why_not,
    write_linear,
)
from sstext.modeling.student import new_student
from sstext.training.arguments import SemiSupervisedTrainingArguments
from sstext.training.trainer import SemiSupervisedTrainer

WIDTH, CLASSES = 32, ["refund", "account", "delivery"]
SIZES: dict[str, Any] = {
    "vocab_size": 60, "hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": 40, "num_labels": 3, "pad_token_id": 1,
}  # fmt: skip
#: As in deberta-v3: relative positions, shared keys.
POSITIONS = {
    "relative_attention": True,
    "pos_att_type": ["c2p", "p2c"],
    "position_buckets": 8,
    "norm_rel_ebd": "layer_norm",
}
CONFIGS: dict[str, Callable[[], PreTrainedConfig]] = {
    "bert": lambda: BertConfig(**SIZES),
    "roberta": lambda: RobertaConfig(**SIZES),
    "xlm-roberta": lambda: XLMRobertaConfig(**SIZES),
    "camembert": lambda: CamembertConfig(**SIZES),
    "electra": lambda: ElectraConfig(**SIZES, embedding_size=16),
    "deberta-v2": lambda: DebertaV2Config(**SIZES),
    "deberta-v3": lambda: DebertaV2Config(**SIZES, **POSITIONS, share_att_key=True),
    "deberta-v2-xlarge": lambda: DebertaV2Config(**SIZES, **POSITIONS, share_att_key=False, conv_kernel_size=3),
}


def made(name: str) -> Any:
    """A classifier with random weights. LayerNorms are uneven, as training leaves them: the mean is then not centered."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_config(CONFIGS[name]()).eval()
        for parameter_name, parameter in model.named_parameters():
            if "LayerNorm" in parameter_name:
                parameter.data += 0.2 * torch.randn_like(parameter)
    return model


def batch() -> dict[str, Tensor]:
    """Six rows of 20 to 5 tokens, padded on the right."""
    ids = torch.randint(5, 60, (6, 20), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(20) < 20 - 3 * torch.arange(6)[:, None]).long()
    return {"input_ids": ids.where(mask.bool(), torch.tensor(1)), "attention_mask": mask}


def embedded_by(model: Any, inputs: dict[str, Tensor], reading: str = MEAN) -> Tensor:
    """The masked mean of the encoder's last states, or the state of the first token, (N, D)."""
    with torch.no_grad():
        outputs = model(**inputs, output_hidden_states=True)
    states = last_hidden_states(outputs, model)
    return states[:, 0] if reading == FIRST else mean_pooled(states, inputs["attention_mask"])


def read_by_the_head(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    """What enters the last linear layer, (N, D)."""
    seen = []
    output = model.get_submodule(FAMILIES[model.config.model_type].output)
    hook = output.register_forward_pre_hook(lambda layer, arguments: seen.append(arguments[0]))
    with torch.no_grad():
        model(**inputs)
    hook.remove()
    return seen[0]


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("used", [False, True], ids=["new", "used before"])
def test_the_head_reads_what_it_should_and_the_embeddings_stay(name: str, used: bool, reading: str) -> None:
    """Guards the whole construction, with padding; the norm LN(m) = (m - mean m) / std m by hand."""
    model, inputs = made(name), batch()
    before = embedded_by(model if used else made(name), inputs, reading)
    assert make_read(model, reading)
    read = read_by_the_head(model, inputs)
    centered = before - before.mean(1, keepdim=True)
    normalized = centered / centered.std(1, correction=0, keepdim=True)
    assert F.cosine_similarity(read, normalized).min() > 0.9999
    assert F.cosine_similarity(read, before).min() > 0.99  # this far from centered
    torch.testing.assert_close(read, reading_scale(model) * normalized, rtol=0.02, atol=1e-2 * reading_scale(model))
    torch.testing.assert_close(embedded_by(model, inputs, reading), before)
    appended = model(**inputs, output_hidden_states=True).hidden_states
    assert len(appended) == 1 + 2 + 1
    # What belongs to the model is what its head reads, for probe, contrast and regression.
    torch.testing.assert_close(Embedder(model)(**inputs).logits, F.normalize(before, dim=-1))
    if reading == MEAN:
        # The mean of the appended layer's states is the same vector, so whoever reads it reads no other text.
        pooled = mean_pooled(appended[-1], inputs["attention_mask"])
        assert F.cosine_similarity(pooled, normalized).min() > 0.9999
    other = embedded_by(model, inputs, FIRST if reading == MEAN else MEAN)
    assert F.cosine_similarity(read, other - other.mean(1, keepdim=True)).min() < 0.95, "canary"


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("name", CONFIGS)
def test_padding_changes_nothing(name: str, reading: str) -> None:
    """Guards against padding that counts: each row alone, without padding, has the same logits."""
    model, inputs = made(name), batch()
    make_read(model, reading)
    with torch.no_grad():
        together = model(**inputs).logits
        for row, length in enumerate(inputs["attention_mask"].sum(1)):
            alone = model(**{key: value[row : row + 1, :length] for key, value in inputs.items()}).logits
            torch.testing.assert_close(together[row], alone[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("name", CONFIGS)
def test_a_regression_is_written_into_the_head(name: str, reading: str) -> None:
    """logits = W z + b with the normalized embedding z: what SetFit computes, in one checkpoint."""
    model, inputs = made(name), batch()
    make_read(model, reading)
    weight, bias = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(1)) * 5, torch.tensor([1.0, -2.0, 0.5])
    write_linear(model, weight, bias)
    states = embedded_by(model, inputs, reading)
    embedded = F.normalize(states - states.mean(1, keepdim=True), dim=-1)
    with torch.no_grad():
        logits = model(**inputs).logits
    expected = embedded @ weight.T + bias
    assert (logits - expected).abs().max() < 0.01 * (expected - bias).abs().max()
    with pytest.raises(UserError, match=r"expected weights \(3, 32\) and a bias \(3,\), found \(2, 32\) and \(2,\)"):
        write_linear(model, weight[:2], bias[:2])


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("name", CONFIGS)
def test_plain_transformers_loads_it(name: str, reading: str, tmp_path: Path) -> None:
    """Guards against a model that only this package can read, or whose mark is lost."""
    model, inputs = made(name), batch()
    make_read(model, reading)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)
    assert has_reading_layer(loaded)
    assert getattr(loaded.config, MARK) == reading


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("name", CONFIGS)
def test_the_layer_is_computed_without_products_of_matrices_and_has_the_same_bits(name: str, reading: str) -> None:
    """Guards a shorter way that rounds, forward or backward, and one that plain transformers would not go."""
    fast = made(name)
    assert make_read(fast, reading)
    plain = copy.deepcopy(fast)
    shortened = [part for part in plain.modules() if isinstance(part, Diagonal)]
    assert len(shortened) == 6
    for part in shortened:
        part.__class__ = nn.Linear
    found = []
    for model in (fast, plain):
        logits = model(**batch()).logits
        logits.square().sum().backward()
        found.append([logits.detach(), *(part.grad for part in model.parameters() if part.grad is not None)])
    assert len(found[0]) == len(found[1])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert list(fast.state_dict()) == list(plain.state_dict())


@pytest.mark.parametrize("part", ["self.query", "self.value", "output.dense"])
def test_a_part_that_was_changed_is_computed_as_it_is(part: str) -> None:
    """Guards a merged adapter, and weights that are loaded into the layer: no class and no flag says that they are there."""
    model = made("bert")
    make_read(model, MEAN)
    changed = model.bert.encoder.layer[-1].attention.get_submodule(part)
    assert isinstance(changed, Diagonal)
    before = changed(torch.ones(2, WIDTH))
    changed.weight.data[3, 4] += 0.5
    changed.bias.data[5] += 0.25
    expected = before.clone()
    expected[:, 3] += 0.5
    expected[:, 5] += 0.25
    torch.testing.assert_close(changed(torch.ones(2, WIDTH)), expected)
    changed.weight.data[3, 4] -= 0.5
    assert changed(torch.ones(2, WIDTH))[0, 5] == before[0, 5] + 0.25, "the bias alone counts, too"


@pytest.mark.parametrize("name", CONFIGS)
def test_another_reading_takes_the_place_of_the_first(name: str) -> None:
    """Guards a second layer, and one that still makes the mean, or takes the long way, under the mark of the first token."""
    model, other, inputs = made(name), made(name), batch()
    make_read(model, MEAN)
    make_read(model, FIRST)
    make_read(other, FIRST)
    assert model.config.num_hidden_layers == other.config.num_hidden_layers == 3
    torch.testing.assert_close(read_by_the_head(model, inputs), read_by_the_head(other, inputs), rtol=0, atol=0)
    assert all(part.is_diagonal() for part in model.modules() if isinstance(part, Diagonal))


def test_an_adapter_is_merged() -> None:
    """Guards predictions that change when the weights of an adapter become part of the layer."""
    peft = pytest.importorskip("peft")
    model, inputs = made("bert"), batch()
    make_read(model, MEAN)
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["query", "value"])).eval()
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    with torch.no_grad():
        before = adapted(**inputs).logits
        torch.testing.assert_close(adapted.merge_and_unload()(**inputs).logits, before, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("mixed", [True, False], ids=["autocast", "weights"])
@pytest.mark.parametrize("reading", READINGS)
def test_in_16_bits(name: str, mixed: bool, reading: str) -> None:
    """Guards bf16: what is read are the states that a model in 16 bits has, within 1 % of their size."""
    model, inputs = made(name), batch()
    make_read(model, reading)
    model.to(torch.float32 if mixed else torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        read, states = read_by_the_head(model, inputs).float(), embedded_by(model, inputs, reading).float()
    normalized = F.layer_norm(states, (WIDTH,))
    assert F.cosine_similarity(read, normalized).min() > 0.9999
    assert (read / reading_scale(model) - normalized).abs().max() < 1e-2 * normalized.abs().max()


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize(
    "name",
    [
        "bert",
        "roberta",
        *(pytest.param(other, marks=pytest.mark.slow) for other in ("electra", "xlm-roberta", "deberta-v2")),
    ],
)
def test_it_is_exported(name: str, reading: str) -> None:
    """Guards deployment: the exported program has the same logits, for rows of another length too."""
    model, inputs = made(name), batch()
    make_read(model, reading)
    length = torch.export.Dim("length", min=2, max=32)
    program = torch.export.export(
        model, (), inputs, dynamic_shapes={key: {1: length} for key in inputs}, strict=False
    )  # fmt: skip
    for rows in (inputs, {key: value[:, :11] for key, value in inputs.items()}):
        with torch.no_grad():
            torch.testing.assert_close(program.module()(**rows).logits, model(**rows).logits)


# In training


def train(student: Any, tiny_encoder: Path, folder: Path, **arguments: Any) -> SemiSupervisedTrainer:
    settings = {"use_cpu": True, "max_steps": 3, "learning_rate": 1e-2, "weight_decay": 0.1, "save_strategy": "no",
                "disable_tqdm": True, "report_to": "none"}  # fmt: skip
    rows = Dataset.from_dict({"text": ["refund my money", "parcel is late", "login"], "label": [0, 2, 1]})
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    trainer = SemiSupervisedTrainer(
        student,
        SemiSupervisedTrainingArguments(str(folder), **settings | arguments),
        train_dataset=rows,
        processing_class=tokenizer,
    )
    trainer.train()
    return trainer


FROZEN = ("bert.encoder.layer.2.", "bert.pooler.dense.")


@pytest.mark.parametrize("loaded", ["new", "earlier student", "plain transformers"])
def test_training_leaves_the_mean_alone(loaded: str, tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards a mean that drifts, by gradient or by weight decay, also when the training of a saved student goes on."""
    student = new_student(str(tiny_encoder), CLASSES, seed=0, reading=MEAN)
    student.save_pretrained(tmp_path / "saved")
    if loaded == "earlier student":
        student = new_student(str(tmp_path / "saved"), CLASSES, seed=1, keep_head=True)
    elif loaded == "plain transformers":
        student = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    before = {name: value.clone() for name, value in student.state_dict().items()}
    trainer = train(student, tiny_encoder, tmp_path)
    moved = {name for name, value in student.state_dict().items() if not torch.equal(value, before[name])}
    assert not [name for name in moved if name.startswith(FROZEN)]
    assert {"classifier.weight", "bert.encoder.layer.1.output.dense.weight"} <= moved
    optimized = sum(len(group["params"]) for group in trainer.optimizer.param_groups)
    assert optimized == sum(parameter.requires_grad for parameter in student.parameters())
    assert all(part.p == 0 for part in student.bert.encoder.layer[2].modules() if isinstance(part, torch.nn.Dropout))
    assert student.bert.encoder.layer[1].output.dropout.p == student.dropout.p == 0.1


@pytest.mark.parametrize("head_rate", [1e-3, None])
def test_the_size_of_what_is_read_does_not_change_the_training(
    head_rate: float | None, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AdamW with weights 1/a times as large and steps 1/a times as large: the same logits, whatever a is."""
    logits = []
    for scale in (1 / 64, 1 / 256):
        monkeypatch.setattr("sstext.modeling.reading.NEARLY_LINEAR", {"tanh": (scale, 1.0)})
        student = new_student(str(tiny_encoder), CLASSES, seed=0, dropout=0.0, reading=MEAN)
        assert head_rate_factor(student) == 0.25 / scale
        train(student, tiny_encoder, tmp_path, head_learning_rate=head_rate, learning_rate=1e-3, max_grad_norm=0)
        with torch.no_grad():
            logits.append(student.eval()(**batch()).logits)
    torch.testing.assert_close(logits[0], logits[1], rtol=0.02, atol=0.02)


def test_an_earlier_student_is_loaded_as_it_was(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards a second layer on top of the first, and a trained head that is scaled again."""
    student = new_student(str(tiny_encoder), CLASSES, seed=0, reading=MEAN)
    student.save_pretrained(tmp_path)
    again = new_student(str(tmp_path), CLASSES, seed=1, keep_head=True, reading=MEAN)
    assert again.config.num_hidden_layers == 3
    assert all(torch.equal(value, student.state_dict()[name]) for name, value in again.state_dict().items())
    as_encoder = new_student(str(tmp_path), ["yes", "no"], seed=1)
    assert as_encoder.config.num_hidden_layers == 3
    assert F.cosine_similarity(read_by_the_head(as_encoder, batch()), read_by_the_head(student, batch())).min() > 0.9999


def test_the_pipeline_predicts_with_it(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards what users do with a model: rows of different lengths in one batch of a plain pipeline."""
    student, tokenizer = new_student(str(tiny_encoder), CLASSES, seed=0, reading=MEAN).eval(), None
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    student.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    texts = ["refund my money", "the parcel is late again and no courier can be reached", "login"]
    with torch.no_grad():
        logits = [student(**tokenizer(text, return_tensors="pt")).logits[0] for text in texts]
    classify = pipeline("text-classification", str(tmp_path), top_k=None, function_to_apply="none", device="cpu")
    for found, expected in zip(classify(texts, batch_size=3), logits, strict=True):
        scores = torch.tensor([{entry["label"]: entry["score"] for entry in found}[name] for name in CLASSES])
        torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)


def test_the_probe_reads_the_encoder(tiny_encoder: Path) -> None:
    """Guards embeddings that change because the head reads something else."""
    inputs = batch()
    with torch.no_grad():
        native, mean = (
            Embedder(new_student(str(tiny_encoder), CLASSES, seed=0, reading=read).eval())(**inputs).logits
            for read in (False, True)
        )
    torch.testing.assert_close(native, mean)


# Other models


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (
            DistilBertConfig(vocab_size=9, dim=4, n_layers=1, n_heads=2, hidden_dim=8),
            "the head of distilbert can only read what it was built for",
        ),
        (MPNetConfig(**SIZES), "the head of mpnet can only read what it was built for"),
        (DebertaV2Config(**SIZES, pooler_hidden_act="relu"), "this deberta-v2 has the activation relu"),
        (BertConfig(**SIZES, is_decoder=True), "this bert is a decoder"),
    ],
    ids=["distilbert", "mpnet", "relu", "decoder"],
)
def test_a_model_that_cannot_stays_as_it_is(config: Any, reason: str) -> None:
    """Guards a mean that is nearly one, and silence about it."""
    model = AutoModelForSequenceClassification.from_config(config)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert not make_read(model, MEAN)
    assert reason in why_not(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    hold_reading(model)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert head_rate_factor(model) == 1
    with pytest.raises(UserError, match="expected a classifier that reads embeddings through a layer of its own"):
        write_linear(model, torch.zeros(3, WIDTH), torch.zeros(3))


@pytest.mark.parametrize("before", [None, *READINGS])
@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("family", [ModernBertConfig, EuroBertConfig])
def test_a_native_pooling_is_chosen(family: Any, reading: str, before: str | None) -> None:
    """ModernBERT and EuroBERT have both: what the head reads is the masked mean or the first token, and no layer is appended.
    They have different names for it."""
    sizes = {key: SIZES[key] for key in SIZES if key != "max_position_embeddings"}
    ends = {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
    model = AutoModelForSequenceClassification.from_config(family(**sizes, **ends)).eval()
    assert before is None or make_read(model, before)
    assert make_read(model, reading)
    assert not has_reading_layer(model)
    assert model.config.num_hidden_layers == 2
    seen, inputs = [], batch()
    head = model.head if family is ModernBertConfig else model.dense
    head.register_forward_pre_hook(lambda layer, arguments: seen.append(arguments[0]))
    torch.testing.assert_close(embedded_by(model, inputs, reading), seen[0])
