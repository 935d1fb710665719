"""Options that do not fit a run: each is said before anything is trained, and nothing is left behind."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from notes import Notes
from transformers import BertConfig, BertModel, FNetConfig, FNetModel, FunnelConfig, FunnelModel, PreTrainedModel

from sstext.config.run_config import RunConfig
from sstext.errors import UserError
from sstext.methods.registry import compose
from sstext.modeling.pooling import last_hidden_states
from sstext.progress import Reporter
from sstext.run.opening import open_chain
from sstext.selftraining import planning


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"method": "softmatch", "unlabeled": None, "rounds": 0},
            "softmatch learns from unlabeled texts; give unlabeled=",
        ),
        ({"method": "softmatch", "method_args": {"prior": [0.5, 0.5]}}, "expected a prior of 3 class shares"),
        ({"training_args": {"push_to_hub": True}}, "training_args: push_to_hub cannot be set"),
        ({"training_args": {"hub_token": "hf_secret"}}, "training_args: hub_token cannot be set"),
        ({"training_args": {"save_strategy": "no"}}, "training_args: save_strategy cannot be set"),
        ({"training_args": {"max_steps": 3}}, "training_args: max_steps is set by steps and round_steps"),
        ({"training_args": {"gradient_accumulation_steps": 5}}, "batch_size: expected a multiple of 5"),
        (
            {"training_args": {"weight_decay": -1.0}},
            "training_args: weight_decay: expected a number of at least 0, found",
        ),
        (
            {"training_args": {"weight_decay": "x"}},
            "training_args: weight_decay: expected a number of at least 0, found 'x'",
        ),
        ({"training_args": {"warmup_steps": -0.1}}, "training_args: .*warmup_steps"),
        ({"training_args": {"evaluation_strategy": "no"}}, "training_args: .*'evaluation_strategy'"),
        (
            {"training_args": {"eval_steps": 0}},
            "training_args: eval_steps: expected a whole number of at least 1, found 0",
        ),
        (
            {"training_args": {"save_steps": 0}},
            "training_args: save_steps: expected a whole number of at least 1, found 0",
        ),
        (
            {"training_args": {"early_stopping_patience": 0}},
            "training_args: early_stopping_patience: expected a whole number of at least 1, found 0",
        ),
        ({"gold_share": 0.0}, "gold_share: expected more than 0"),
        (
            {"method_args": {"round_batch_size": 1}, "training_args": {"gradient_accumulation_steps": 2}},
            "round_batch_size",
        ),
        (
            {"batch_size": 3, "training_args": {"gradient_accumulation_steps": 2}},
            "^batch_size: expected a multiple of 2",
        ),
        ({"encoder": "demo@v2"}, "encoder 'demo@v2': expected name@revision of a Hub encoder"),
        ({"freeze": ["3"]}, "freeze: expected at most 2, the number of layers, found 3"),
    ],
)
def test_what_a_training_would_trip_over_is_said_before_the_first_one(
    changes: dict[str, Any], message: str, tiny_task: Any, tiny_encoder: Path, tmp_path: Path
) -> None:
    """Guards against hours of training before a message, and against a claimed folder after it."""
    task = tiny_task(tmp_path)
    options = {"labeled": str(task.labeled), "unlabeled": str(task.unlabeled), "encoder": str(tiny_encoder)}
    with pytest.raises(UserError, match=message):
        open_chain(RunConfig(**options | {"output": str(tmp_path / "out")} | changes))
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_without_a_mask_token_is_said_before_the_first_training(
    tiny_task: Any, tiny_encoder: Path, tmp_path: Path
) -> None:
    """Guards against a run that dies in round 1, after the baseline."""
    encoder = tmp_path / "encoder"
    shutil.copytree(tiny_encoder, encoder)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (encoder / name).exists():
            known = json.loads((encoder / name).read_text())
            (encoder / name).write_text(json.dumps(known | {"mask_token": None}))
    task = tiny_task(tmp_path)
    config = RunConfig(
        labeled=str(task.labeled), unlabeled=str(task.unlabeled), encoder=str(encoder), output=str(tmp_path / "o")
    )
    notes = Notes()
    chain = open_chain(config, notes)
    assert chain.config.edits == {"mask": 0.0, "drop": 0.15, "swap": 0.0, "cutoff": 0.0}
    assert any("has no mask token, so 15% of the tokens are dropped instead (edits=" in note for note in notes.said)
    open_chain(config)  # a run that is continued has the options that were given
    asked = replace(config, edits={"mask": 0.1}, output=str(tmp_path / "p"))
    with pytest.raises(UserError, match=r"edits: mask=0\.1: .* use mask=0"):
        open_chain(asked)
    assert not (tmp_path / "p").exists()


def never_read(*_: Any, **__: Any) -> None:
    """In place of the function that reads the data."""
    raise AssertionError("the data were read first")


def test_an_encoder_decoder_works_by_the_states_of_its_encoder(tiny_task: Any, tiny_t5: Path, tmp_path: Path) -> None:
    """auto pools the states of the tokens: those of the decoder belong to other tokens, and have another name."""
    task = tiny_task(tmp_path)
    files = {"labeled": str(task.labeled), "unlabeled": str(task.unlabeled), "encoder": str(tiny_t5)}
    chain = open_chain(RunConfig(**files, output=str(tmp_path / "out"), device="cpu"))
    student = chain.student(chain.plan.baseline).eval()
    inputs = chain.tokenizer(["late", "my parcel is late"], padding=True, return_tensors="pt")
    states = last_hidden_states(student(**inputs, output_hidden_states=True), student)
    assert states.shape == (*inputs["input_ids"].shape, student.config.d_model)


def other_encoder(folder: Path, tokenizer: Path, encoder: PreTrainedModel) -> Path:
    """Another tiny encoder with the tokenizer of a folder."""
    shutil.copytree(tokenizer, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    encoder.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["fnet", "funnel", "no tokenizer", "larger tokenizer"])
def test_an_encoder_that_cannot_fit_is_refused_before_the_data_are_read(
    kind: str, tiny_task: Any, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards a KeyError in the first step, an IndexError in an embedding, and texts of unknown tokens alone."""
    folder, size = (
        tmp_path / "encoder",
        len(json.loads((tiny_encoder / "tokenizer.json").read_text())["model"]["vocab"]),
    )
    sizes = {"vocab_size": size, "hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 16}
    message = "reads no attention mask"
    if kind == "fnet":
        other_encoder(folder, tiny_encoder, FNetModel(FNetConfig(**sizes, max_position_embeddings=64)))
    elif kind == "funnel":
        funnel = {"d_model": 16, "n_head": 2, "d_head": 8, "d_inner": 16, "block_sizes": [1, 1, 1], "vocab_size": size}
        other_encoder(folder, tiny_encoder, FunnelModel(FunnelConfig(**funnel)))
        message = r"encoder: returns \d+ states for \d+ tokens"
    elif kind == "no tokenizer":
        shutil.copytree(tiny_encoder, folder, ignore=shutil.ignore_patterns("*token*", "vocab*"))
        message = "there is no tokenizer, or its vocabulary is empty"
    else:
        smaller = BertConfig(**sizes | {"vocab_size": size - 2}, num_attention_heads=2)
        other_encoder(folder, tiny_encoder, BertModel(smaller))
        message = f"its tokenizer has {size} tokens, but the encoder has only {size - 2} embeddings"
    monkeypatch.setattr("sstext.run.opening.read_texts", never_read)
    task = tiny_task(tmp_path)
    files = {"labeled": str(task.labeled), "unlabeled": str(task.unlabeled), "encoder": str(folder)}
    with pytest.raises(UserError, match=message):
        open_chain(RunConfig(**files, output=str(tmp_path / "out"), device="cpu"))
    assert not (tmp_path / "out").exists()


def test_the_revision_of_an_encoder_stands_behind_its_name(
    tiny_task: Any, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards `--encoder name@revision` against another version of the weights, and folders that have an @ in their names."""
    task = tiny_task(tmp_path)
    files = {"labeled": str(task.labeled), "unlabeled": str(task.unlabeled), "device": "cpu"}
    shutil.copytree(tiny_encoder, tmp_path / "bert@home")
    chain = open_chain(RunConfig(**files, encoder=str(tmp_path / "bert@home"), output=str(tmp_path / "out")))
    assert chain.student(chain.plan.baseline).config.num_labels == 3

    class AskedForError(Exception):
        """What the Hub would be asked for."""

    def ask(name: str, revision: str | None) -> None:
        raise AskedForError(name, revision)

    monkeypatch.setattr("sstext.run.encoders.load_tokenizer", ask)
    for given, expected in (("ada/encoder@v2", ("ada/encoder", "v2")), ("ada/encoder", ("ada/encoder", None))):
        with pytest.raises(AskedForError) as asked:
            open_chain(RunConfig(**files, encoder=given, output=str(tmp_path / "other")))
        assert asked.value.args == expected


def test_descriptions_that_no_stage_reads_are_said(tiny_task: Any, tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards a file that someone wrote for a method that never reads it."""
    task = tiny_task(tmp_path)
    files = {"labeled": str(task.labeled), "unlabeled": str(task.unlabeled), "encoder": str(tiny_encoder)}
    told = {"account": "login", "delivery": "parcel", "refund": "money"}
    for number, (method, descriptions, expected) in enumerate(
        [("class-balanced", told, True), ("class-balanced", "names", False), ("auto", told, False)]
    ):
        notes: list[str] = []
        reporter = Reporter(quiet=True)
        reporter.note = notes.append  # type: ignore[method-assign]
        out = str(tmp_path / f"out{number}")
        open_chain(RunConfig(**files, method=method, descriptions=descriptions, output=out, device="cpu"), reporter)
        said = f"descriptions has no effect: {method} reads no descriptions of the classes"
        assert (said in notes) == expected


def test_a_run_is_opened_from_one_method(
    tiny_task: Any, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards a plan whose method is composed once more than the one that the options were checked with."""
    task, composed = tiny_task(tmp_path), []
    monkeypatch.setattr(
        planning, "compose", lambda *args, **options: composed.append(compose(*args, **options)) or composed[-1]
    )
    files = {"labeled": str(task.labeled), "unlabeled": str(task.unlabeled), "encoder": str(tiny_encoder)}
    open_chain(RunConfig(**files, device="cpu", folds=2, output=str(tmp_path / "out")))
    assert len(composed) == 1
