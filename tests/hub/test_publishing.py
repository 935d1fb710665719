"""The allow-list: what it takes of a folder, what it leaves, and which folders it refuses. (Pushes: test_sharing.py.)"""

import json
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from sstext.errors import UserError
from sstext.hub import publishing
from sstext.hub.publishing import check_name, model_files, prepare_repository, public_results, with_names
from sstext.modeling.reading import has_reading_layer
from sstext.modeling.student import new_student
from sstext.selftraining.record import StageRecord


def folder_with(path: Path, *names: str, **contents: str) -> Path:
    """A folder with these files, empty but for the configurations."""
    path.mkdir()
    for name in names:
        (path / name).write_text("{}" if name.endswith(".json") else "")
    for name, content in contents.items():
        (path / name.replace("__", ".")).write_text(content)
    return path


def test_everything_that_a_tokenizer_may_need_goes_and_nothing_that_looks_like_it(tmp_path: Path) -> None:
    """Guards slow tokenizers, whose vocabulary is a file of its own, and what somebody keeps beside a model."""
    wanted = {"config.json", "model.safetensors", "vocab.txt", "spm.model", "special_tokens_map.json", "README.md"}
    private = {
        "vocab.csv", "texts.txt", "config.json.bak", "trainer_state.json", "rng_state.pth", "scheduler.pt", "modeling.py",
        "adapter_model.safetensors", "model.safetensors.tmp", "model-00001.safetensors", ".env", "labels.parquet",
    }  # fmt: skip
    folder = folder_with(tmp_path / "model", *wanted, *private)
    (folder / "checkpoint-5").mkdir()
    (folder / "checkpoint-5" / "config.json").write_text("{}")
    assert set(model_files(folder)) == wanted


def test_large_models_go_with_the_shards_that_their_index_names(tmp_path: Path) -> None:
    """Guards against a shard left behind, a shard of another model, and an index that leads out of the folder."""
    first, second, old = (f"model-0000{i}-of-0000{n}.safetensors" for i, n in ((1, 2), (2, 2), (3, 3)))
    index = {"weight_map": {"a": first, "b": second, "c": first}}
    folder = folder_with(
        tmp_path / "model",
        "config.json",
        "tokenizer.json",
        first,
        second,
        old,
        model__safetensors__index__json=json.dumps(index),
    )
    names = {"config.json", "tokenizer.json", first, second, "model.safetensors.index.json"}
    assert set(model_files(folder)) == names
    (folder / second).unlink()
    with pytest.raises(UserError, match=f"names '{second}', which is not there"):
        model_files(folder)
    (tmp_path / "corpus.txt").write_text("private")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../corpus.txt"}}))
    with pytest.raises(UserError, match=r"names '\.\./corpus\.txt'"):
        model_files(folder)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("model.safetensors", "tokenizer.json"), "expected the folder of a run or a model, found no config.json"),
        (("config.json", "tokenizer.json"), "found no weights"),
        (("config.json", "tokenizer.json", "pytorch_model.bin"), "pytorch_model.bin is a pickle.*save it again"),
        (("config.json", "model.safetensors"), "there is no tokenizer"),
    ],
)
def test_a_model_that_nobody_could_use_is_refused(tmp_path: Path, names: tuple[str, ...], expected: str) -> None:
    """Guards against a repository that looks whole, and loads nowhere or runs what is in it."""
    with pytest.raises(UserError, match=expected):
        model_files(folder_with(tmp_path / "model", *names))


def test_configurations_lose_what_they_know_of_this_machine_and_nothing_else(tmp_path: Path) -> None:
    """Guards names of people's folders; and files that know none, which go as they are, to the byte."""
    known = json.dumps({"_name_or_path": "/home/ada/encoder", "hidden_size": 4})
    folder = folder_with(
        tmp_path / "m", "model.safetensors", config__json=known, tokenizer_config__json='{"unk":  "/"}'
    )
    files = model_files(folder)
    assert json.loads(files["config.json"]) == {"hidden_size": 4}  # type: ignore[arg-type]
    assert files["tokenizer_config.json"] == folder / "tokenizer_config.json"


def test_a_head_that_reads_the_mean_survives_a_push(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards the layer of uniform attention and its mark in the configuration: a model without them would read the pooler."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    model = new_student(str(tiny_encoder), ["a", "b"], seed=0, reading="mean").eval()
    for one in (model, tokenizer):
        one.save_pretrained(tmp_path / "model")
    (tmp_path / "pulled").mkdir()
    for name, content in model_files(tmp_path / "model").items():
        (tmp_path / "pulled" / name).write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    pulled = AutoModelForSequenceClassification.from_pretrained(tmp_path / "pulled").eval()
    assert has_reading_layer(pulled)
    inputs = tokenizer(["refund my money", "hello"], padding=True, return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(pulled(**inputs).logits, model(**inputs).logits)
        del pulled.config.sstext_pooling
        assert not has_reading_layer(pulled), "canary"


def test_paths_at_any_depth_are_left_out_and_whatever_only_looks_like_one_stays(tmp_path: Path) -> None:
    """Guards places that libraries note where nobody looks; and class names, tokens and names of files that begin like one."""
    kept = {
        "id2label": {"0": "/r/news", "1": "log_file"}, "label2id": {"/r/news": 0, "log_file": 1}, "pad_token": "/pad",
        "extra_special_tokens": ["/think"], "vocabulary_file": "vocab.txt", "ratio": "1/2", "unk": "/", "use_path": True,
    }  # fmt: skip
    places = {
        "merges_file": "encoders/merges.txt", "data_dir": r"our\texts", "base_model_name_or_path": "../encoder",
        "corpus": "/data", "home": "~/texts", "drive": "C:/Users/Ada", "share": r"\\server\texts", "url": "file:///data",
    }  # fmt: skip
    nested = kept | {"parts": [{"deep": kept}, "a"]}
    planted = kept | places | {"parts": [{"deep": kept | places}, "a", "/home/ada", r"D:\ada"]}
    known = json.dumps(planted)
    index = json.dumps({"metadata": {"from": "/home/ada"}, "weight_map": {"a.b": "model-00001-of-00001.safetensors"}})
    folder = folder_with(
        tmp_path / "m", "model-00001-of-00001.safetensors", config__json=known, tokenizer_config__json=known,
        model__safetensors__index__json=index,
    )  # fmt: skip
    files = model_files(folder)
    for name in ("config.json", "tokenizer_config.json"):
        assert json.loads(files[name]) == nested, name  # type: ignore[arg-type]
    assert json.loads(files["model.safetensors.index.json"]) == {  # type: ignore[arg-type]
        "metadata": {}, "weight_map": {"a.b": "model-00001-of-00001.safetensors"},
    }  # fmt: skip


def test_every_field_of_a_record_is_published_on_purpose() -> None:
    """Guards a pushed results.json whose choice names a stage that its records do not."""
    assert {spec.name for spec in fields(StageRecord)} == set(publishing._PUBLIC_ROUNDS)


def test_of_results_only_what_is_known_to_be_harmless_goes() -> None:
    """Guards what later versions will add to results.json: texts to look at, settings with paths."""
    harmless = {
        "chosen": {"round": 1}, "baseline": "baseline", "baseline_temperature": 1.5, "test": {},
        "left_out": ["1 of the chains"], "class_texts": {"kind": "names", "weight": 8.0, "log_loss": {"0": 1.25, "8": 1.125}},
    }  # fmt: skip
    results = {
        **harmless, "encoders": {"chosen": "/home/ada/encoder"},
        "settings": {"labeled": "/home/ada/my.csv"}, "examples": ["a text"],
        "rounds": [{"index": 1, "admitted": 3, "flipped": ["a text"]}],
    }  # fmt: skip
    assert public_results(results) == harmless | {"rounds": [{"index": 1, "admitted": 3}]}


def test_a_card_of_ones_own_is_named_and_otherwise_left(tmp_path: Path) -> None:
    card = '# Mine\n\npipeline("text-classification", "<this folder>")\nsstext predict "<this folder>" new.csv\n'
    files = with_names({"README.md": card.encode()}, "ada/tickets", "v2")
    assert files["README.md"] == (
        b'# Mine\n\npipeline("text-classification", "ada/tickets", revision="v2")\n'
        b'sstext predict "ada/tickets" --revision "v2" new.csv\n'
    )
    assert with_names({}, "ada/tickets") == {}


@pytest.mark.parametrize(
    "name", ["tickets", "a/b/c", "ada/", "/tickets", "ada/tick ets", "./out", "ada/../x", "ada/x.git"]
)
def test_names_that_the_hub_would_not_take_are_refused(name: str) -> None:
    """Guards against a request for a name that cannot be, and folders and names given in the wrong order."""
    with pytest.raises(UserError, match="expected a name on the Hub as user/name"):
        check_name(name)


def test_without_a_login_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a stranger's request that fails with a riddle."""
    monkeypatch.setattr("sstext.hub.publishing.get_token", lambda: None)
    with pytest.raises(
        UserError, match="cannot push to 'ada/tickets': you are not logged in; log in with `hf auth login`"
    ):
        prepare_repository("ada/tickets")
