"""The token head: the classifier beside it stays what it is, learns only when it should, and is all that is ever written."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.utils import convert_outputs_to_fp32
from datasets import Dataset
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    PreTrainedConfig,
    RobertaConfig,
    Trainer,
    TrainingArguments,
    set_seed,
)

from sstext.errors import UserError
from sstext.modeling.pooling import last_hidden_states
from sstext.modeling.token_head import WithTokenHead
from sstext.objective.objective import Objective
from sstext.objective.regularizers import Reconstruction
from sstext.objective.teachers import EMA
from sstext.objective.views import shifted_embeddings
from sstext.training.arguments import SemiSupervisedTrainingArguments
from sstext.training.checkpoints import STATE_FILE
from sstext.training.trainer import SemiSupervisedTrainer

SIZES = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
         "max_position_embeddings": 32, "num_labels": 3}  # fmt: skip
FAMILIES = {
    "bert": BertConfig(**SIZES),
    "roberta": RobertaConfig(**SIZES),
    "distilbert": DistilBertConfig(vocab_size=50, dim=16, n_layers=2, n_heads=2, hidden_dim=24, num_labels=3),
    "deberta-v2": DebertaV2Config(**SIZES, relative_attention=True, pos_att_type=["p2c", "c2p"]),
    "modernbert": ModernBertConfig(**SIZES, pad_token_id=0, cls_token_id=1, sep_token_id=2, eos_token_id=2, bos_token_id=1),
    "electra, with narrow embeddings": ElectraConfig(**SIZES, embedding_size=8),
}  # fmt: skip
MASKED = torch.zeros(2, 6, dtype=torch.bool)
MASKED[0, 1] = MASKED[0, 4] = MASKED[1, 2] = True


def classifier(config: PreTrainedConfig = FAMILIES["bert"]) -> Any:
    set_seed(0)
    return AutoModelForSequenceClassification.from_config(config).eval()


def inputs() -> dict[str, Tensor]:
    ids = torch.arange(3, 15).reshape(2, 6)
    return {"input_ids": ids, "attention_mask": torch.tensor([[1] * 6, [1] * 4 + [0] * 2])}


# The module


@pytest.mark.parametrize("family", FAMILIES)
def test_the_classifier_says_what_it_said_to_the_bit(family: str) -> None:
    """Guards against a head that changes what it sits on, in any family of encoders, with masked tokens and without."""
    plain = classifier(FAMILIES[family])
    with torch.no_grad():
        before = plain(**inputs()).logits
        model = WithTokenHead(plain)
        said = model(**inputs(), masked=MASKED)
        assert torch.equal(before, model(**inputs()).logits)
        assert torch.equal(before, said.logits)
        assert said.hidden_states is None, "nobody asked for them"
        assert model(**inputs(), masked=MASKED, output_hidden_states=True).hidden_states is not None


@pytest.mark.parametrize("family", FAMILIES)
def test_token_logits_are_those_of_the_masked_positions(family: str) -> None:
    """Row by row, of the last hidden states: guards against a shifted or transposed mask, and a layer before the last norm."""
    model = WithTokenHead(classifier(FAMILIES[family]))
    with torch.no_grad():
        said = model(**inputs(), masked=MASKED)
        last = model.base_model(**inputs()).last_hidden_state
        embeddings = model.get_input_embeddings().weight
        expected = [model.token_head(last[row, column], embeddings) for row, column in ((0, 1), (0, 4), (1, 2))]
    assert said.token_logits.shape == (3, 50)
    assert torch.allclose(said.token_logits, torch.stack(expected), atol=1e-5)


def test_the_decoder_is_the_embeddings() -> None:
    """LayerNorm(gelu(W h + b₁)) · Eᵀ + b₂, E the encoder's own: guards against a copy that training pulls away from it."""
    model = WithTokenHead(classifier())
    hidden, embeddings = torch.randn(16), torch.eye(50, 16)
    with torch.no_grad():
        model.token_head.bias[3] = 7.0
        said = model.token_head(hidden, embeddings)
    assert said[:16].mean().item() == pytest.approx(7 / 16, abs=1e-5), "of LayerNorm, mean 0"
    assert said[16:].tolist() == [0.0] * 34
    pointers = [weight.data_ptr() for weight in model.state_dict().values()]
    assert len(pointers) == len(set(pointers)), "safetensors refuses one memory under two names"


@pytest.mark.parametrize("head_only", [True, False])
def test_gradient_of_the_masked_tokens(head_only: bool) -> None:
    """`head_only`: none reaches the encoder, neither through hidden states nor through the tied embeddings; else both."""
    model = WithTokenHead(classifier())
    model(**inputs(), masked=MASKED, head_only=head_only).token_logits.logsumexp(-1).sum().backward()
    moved = {
        name for name, weight in model.named_parameters() if weight.grad is not None and weight.grad.abs().max() > 0
    }
    head = {"token_head.dense.weight", "token_head.dense.bias", "token_head.norm.weight", "token_head.norm.bias"}
    assert {*head, "token_head.bias"} <= moved
    encoder = {name for name in moved if not name.startswith("token_head.")}
    if head_only:
        assert not encoder
    else:
        assert "classifier.bert.encoder.layer.0.attention.self.query.weight" in encoder
        unused = model.get_input_embeddings().weight.grad[40]  # a token of no row: the decoder alone reaches it
        assert unused.abs().max() > 0


def test_no_masked_tokens_at_all() -> None:
    """Guards against a batch of short rows in which the draw has masked nothing."""
    model = WithTokenHead(classifier())
    said = model(**inputs(), masked=torch.zeros(2, 6, dtype=torch.bool))
    assert said.token_logits.shape == (0, 50)
    said.token_logits.sum().backward()
    assert model.token_head.bias.grad.abs().max() == 0, "several devices wait for a gradient, be it 0"


def test_token_logits_survive_mixed_precision() -> None:
    """Guards against an attribute that is lost where the output is rebuilt in float32."""
    model = WithTokenHead(classifier())

    def forward(**given: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return model(**given)

    said = convert_outputs_to_fp32(forward)(**inputs(), masked=MASKED)
    assert said.token_logits.dtype == said.logits.dtype == torch.float32
    exact = model(**inputs(), masked=MASKED)
    assert torch.allclose(said.token_logits, exact.token_logits, atol=0.1)


def test_it_is_written_as_the_plain_classifier(tmp_path: Path) -> None:
    """Guards against keys that plain transformers reports as unexpected."""
    model = WithTokenHead(classifier())
    model.save_pretrained(tmp_path)
    loaded, loading = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(loading.values())
    assert torch.equal(loaded.eval()(**inputs()).logits, model(**inputs()).logits)


def test_an_unknown_attribute_is_an_attribute_error() -> None:
    """Guards the delegation against an endless recursion, and `hasattr` against a yes to everything."""
    model = WithTokenHead(classifier())
    assert not hasattr(model, "no_such_thing")
    assert not hasattr(WithTokenHead.__new__(WithTokenHead), "config")


def test_teachers_and_views_work_on_it() -> None:
    """A moving average calls it with other weights; a view of shifted embeddings sees one lookup per pass."""
    model = WithTokenHead(classifier())
    teacher = EMA(decay=0.0, ramp=0.0)
    teacher.bind_student(model)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1)
    with torch.no_grad():
        assert not torch.allclose(teacher(model, {"weak": inputs()}), model(**inputs()).logits.softmax(-1))
        teacher.after_step(model, 1.0)
        assert torch.allclose(teacher(model, {"weak": inputs()}), model(**inputs()).logits.softmax(-1))
        with shifted_embeddings(model, torch.arange(96.0).reshape(1, 6, 16) % 7, first=1):
            shifted = model(**inputs(), masked=MASKED)
    plain = model(**inputs(), masked=MASKED)
    assert torch.allclose(shifted.logits[0], plain.logits[0])
    assert not torch.allclose(shifted.logits[1], plain.logits[1])


# In a training

TEXTS = ["my money return please", "the parcel is late today", "password login not again", "refund charged twice now"]


def rows(n: int) -> Dataset:
    return Dataset.from_dict(
        {"text": [TEXTS[i % 3] + " very" * (i % 4) for i in range(n)], "label": [i % 3 for i in range(n)]}
    )


def student(encoder: Path) -> Any:
    set_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(encoder, num_labels=3)


def make(encoder: Path, output: Path, *, model_init: Any = None, optimizers: Any = (None, None), strength: float = 1.0,
         head_first: float = 0.0, **settings: Any) -> Any:  # fmt: skip
    arguments = {"use_cpu": True, "per_device_train_batch_size": 4, "max_steps": 6, "logging_steps": 2, "learning_rate": 1e-2,
                 "save_strategy": "no", "disable_tqdm": True, "seed": 3} | settings  # fmt: skip
    return SemiSupervisedTrainer(
        None if model_init else student(encoder),
        SemiSupervisedTrainingArguments(str(output), **arguments),
        train_dataset=rows(12), eval_dataset=rows(6), unlabeled_dataset=rows(20).remove_columns("label"),
        processing_class=AutoTokenizer.from_pretrained(encoder),
        method=Objective(regularizers=[Reconstruction(strength, head_first)]),
        model_init=model_init, optimizers=optimizers,
    )  # fmt: skip


def weights(model: Any) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_training_wraps_the_model_and_export_strips_it(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards what is saved, in checkpoints and at the end: the names of a plain classifier, and weights that were trained."""
    trainer = make(tiny_encoder, tmp_path / "run", save_strategy="steps", save_steps=3)
    assert not isinstance(trainer.model, WithTokenHead)
    trainer.train()
    assert isinstance(trainer.model, WithTokenHead)
    trainer.save_model(str(tmp_path / "saved"))
    trainer.student.save_pretrained(tmp_path / "exported")
    plain = student(tiny_encoder)
    for folder in (tmp_path / "saved", tmp_path / "exported", tmp_path / "run" / "checkpoint-6"):
        assert load_file(folder / "model.safetensors").keys() == plain.state_dict().keys()
        loaded, loading = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
        assert not any(loading.values())
        assert torch.equal(weights(loaded), weights(trainer.student))
    assert not torch.equal(weights(plain), weights(trainer.student))
    head = {
        name for name in load_file(tmp_path / "run" / "checkpoint-6" / STATE_FILE) if name.startswith("token_head.")
    }
    assert head == {"token_head." + name for name in trainer.model.token_head.state_dict()}


def test_the_encoder_waits_while_the_head_learns(tiny_encoder: Path, tmp_path: Path) -> None:
    """Head first, for the whole training: the classifier ends in the bits of strength 0, the head does not; at once: neither.

    Without clipping, which would see the norm of all gradients together.
    """
    runs = {}
    for name, strength, head_first in (("none", 0.0, 0.0), ("waits", 1.0, 1.0), ("learns", 1.0, 0.0)):
        runs[name] = make(tiny_encoder, tmp_path / name, max_grad_norm=0.0, strength=strength, head_first=head_first)
        runs[name].train()
    assert torch.equal(weights(runs["waits"].student), weights(runs["none"].student))
    assert not torch.equal(weights(runs["waits"].model.token_head), weights(runs["none"].model.token_head))
    assert not torch.allclose(weights(runs["learns"].student), weights(runs["none"].student), atol=1e-3)
    losses = [log["loss_reconstruction"] for log in runs["learns"].state.log_history if "loss_reconstruction" in log]
    assert losses[-1] < losses[0]


def test_resuming_equals_not_stopping_to_the_bit(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards against a head that starts anew after an interruption, or whose optimizer state meets other weights."""
    settings = {"save_strategy": "steps", "save_steps": 1, "head_first": 0.5, "head_learning_rate": 3e-2}
    whole = make(tiny_encoder, tmp_path / "whole", **settings)
    whole.train()
    for step in (1, 4):  # the head alone, and both
        resumed = make(tiny_encoder, tmp_path / f"resumed-{step}", **settings)
        resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{step}"))
        assert torch.equal(weights(whole.model), weights(resumed.model)), step
    whole.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-4"))
    assert torch.equal(weights(whole.model), weights(resumed.model)), "a trainer that has a head already"


def test_the_best_checkpoint_is_loaded(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards against a best model whose weights find no place in the wrapped one, silently."""
    trainer = make(
        tiny_encoder, tmp_path, save_strategy="steps", save_steps=2, eval_strategy="steps", eval_steps=2,
        load_best_model_at_end=True, metric_for_best_model="loss", greater_is_better=True,
    )  # fmt: skip
    trainer.train()
    assert not trainer.state.best_model_checkpoint.endswith("checkpoint-6"), "the worst loss comes early"
    best = load_file(Path(trainer.state.best_model_checkpoint) / "model.safetensors")
    assert all(torch.equal(best[name], weight) for name, weight in trainer.student.state_dict().items())


def test_evaluation_is_that_of_the_plain_classifier(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards against labels that `Trainer` no longer finds in the signature, and columns that it no longer removes."""
    trainer = make(tiny_encoder, tmp_path / "a")
    trainer.train()
    plain = Trainer(
        trainer.student, TrainingArguments(str(tmp_path / "b"), use_cpu=True), processing_class=trainer.processing_class
    )
    evaluated = trainer.eval_dataset.add_column("who", ["nobody"] * 6)
    expected, found = plain.predict(evaluated), trainer.predict(evaluated)
    assert (found.predictions == expected.predictions).all()
    assert found.metrics["test_loss"] == pytest.approx(expected.metrics["test_loss"])


def test_the_token_head_has_the_rate_of_the_head(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards against a new head that creeps along at the encoder's rate, and against weights without an optimizer."""
    trainer = make(tiny_encoder, tmp_path, head_learning_rate=5e-2, weight_decay=0.1)
    trainer.add_token_head()
    groups = trainer.create_optimizer().param_groups
    rate = {id(weight): group["lr"] for group in groups for weight in group["params"]}
    decay = {id(weight): group["weight_decay"] for group in groups for weight in group["params"]}
    assert len(rate) == len(list(trainer.model.parameters()))
    for name, weight in trainer.model.named_parameters():
        assert rate[id(weight)] == (1e-2 if name.startswith("classifier.bert.") else 5e-2), name
    head = trainer.model.token_head
    assert [decay[id(weight)] for weight in (head.dense.weight, head.norm.weight, head.bias)] == [0.1, 0.0, 0.0]


def test_every_trial_of_a_search_gets_a_head(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards against a model that `model_init` makes anew and nobody wraps."""
    trainer = make(tiny_encoder, tmp_path, model_init=lambda: student(tiny_encoder))
    ends = []
    for _ in range(2):
        trainer.train()
        ends.append(weights(trainer.model))
    assert isinstance(trainer.model, WithTokenHead)
    assert torch.equal(*ends), "the second began where the first had ended"


def test_an_optimizer_of_the_callers_own_is_refused(tiny_encoder: Path, tmp_path: Path) -> None:
    """It does not hold the head's weights: the head would never learn, and nothing would say so."""
    model = student(tiny_encoder)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(UserError, match="leave optimizers out"):
        make(tiny_encoder, tmp_path, optimizers=(optimizer, None)).train()


def test_a_whole_state_dict_can_be_written(tmp_path: Path) -> None:
    """Guards against tied weights, which safetensors refuses."""
    save_file(WithTokenHead(classifier()).state_dict(), tmp_path / "all.safetensors")


def test_an_encoder_without_hidden_states_is_refused_by_name() -> None:
    """Guards reconstruction and supervised contrast on an encoder with a decoder: not an error of Python's."""
    with pytest.raises(
        UserError, match="Identity returns no hidden states, but embeddings, reconstruction and supervised contrast"
    ):
        last_hidden_states(SimpleNamespace(logits=None), torch.nn.Identity())
    states = (torch.zeros(1), torch.ones(1))
    assert last_hidden_states(SimpleNamespace(hidden_states=states), torch.nn.Identity()) is states[-1]
