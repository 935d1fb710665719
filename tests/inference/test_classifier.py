"""Classifier and scoring: a text's prediction is its own, whatever stands beside it, and a killed pass goes on."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from datasets import Dataset
from fake_hub import TOKEN, fake_hub
from huggingface_hub import ModelCard
from transformers import AutoConfig, AutoModel, AutoTokenizer, pipeline

from sstext.data.tokens import TextEncoder, tokenize
from sstext.errors import UserError
from sstext.evaluation.calibration import softmax
from sstext.inference import devices
from sstext.inference.classifier import Classifier
from sstext.inference.devices import resolve_device, resolve_precision
from sstext.inference.scoring import plan_batches, score
from sstext.inference.texts import as_texts
from sstext.modeling.student import new_student

CLASSES = ["account", "delivery", "refund"]
TEXTS = [
    "refund my money",
    "where is the parcel that was shipped last week and is late",
    "password",
    "the courier has my package and this invoice is not what i should pay because you charged me twice again today",
    "login or email not verified",
]


@pytest.fixture(scope="module")
def folder(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier's folder; its head is new, which makes predictions no less distinct."""
    path = tmp_path_factory.mktemp("model")
    model = new_student(str(tiny_encoder), CLASSES, seed=0)
    torch.nn.init.normal_(model.classifier.weight, std=0.3, generator=torch.Generator().manual_seed(0))
    model.save_pretrained(path)
    AutoTokenizer.from_pretrained(tiny_encoder).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def classifier(folder: Path) -> Classifier:
    return Classifier.from_pretrained(folder, device="cpu")


@pytest.fixture(scope="module")
def rows(classifier: Classifier) -> Dataset:
    texts = [TEXTS[i % 5] + " again" * (i % 7) for i in range(25)]
    return tokenize(Dataset.from_dict({"text": texts}), TextEncoder(classifier.tokenizer, 64))


def test_a_prediction_does_not_hang_on_its_company(classifier: Classifier) -> None:
    """Guards against padding that is attended to, and against rows that come back in the order of the batches."""
    together = classifier.predict_proba(TEXTS)
    alone = np.concatenate([classifier.predict_proba([text]) for text in TEXTS])
    backwards = classifier.predict_proba(TEXTS[::-1])[::-1]
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(together, backwards, atol=1e-6)
    assert len({tuple(row) for row in together.round(4)}) == len(TEXTS)  # canary: the texts do differ


def test_a_model_is_compiled_once_for_all_lengths(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a compilation for every length of a batch, and a model that is compiled and then not used."""
    calls: list[Any] = []

    def compile_nothing(function: Any, **settings: Any) -> Any:
        calls.append(settings)
        return lambda *arguments, **inputs: calls.append("used") or function(*arguments, **inputs)

    monkeypatch.setattr(torch, "compile", compile_nothing)
    compiled = Classifier(copy.deepcopy(classifier.model), classifier.tokenizer, device="cpu", compile=True)
    texts = ["a parcel", "a parcel that is late"]
    np.testing.assert_array_equal(compiled.logits(texts), classifier.logits(texts))
    assert calls == [{"dynamic": True}, *["used"] * (len(calls) - 1)]
    assert "used" in calls


def test_predictions_are_class_names_and_probabilities(classifier: Classifier) -> None:
    """Guards against class numbers, shares that do not sum to 1, and columns in another order than `classes`."""
    probabilities = classifier.predict_proba(TEXTS)
    assert classifier.classes == CLASSES
    assert probabilities.shape == (5, 3)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-6)
    assert classifier.predict(TEXTS) == [CLASSES[i] for i in probabilities.argmax(-1)]
    assert len(set(classifier.predict(TEXTS))) > 1
    np.testing.assert_allclose(probabilities, softmax(classifier.logits(TEXTS)))


def test_one_string_gives_one_result_and_several_a_list(classifier: Classifier) -> None:
    """Guards against a string that is read letter by letter, and a list of one whose shape is another."""
    assert classifier.predict([]) == []
    assert classifier.predict_proba([]).shape == (0, 3)
    assert classifier([]) == []
    assert [classifier.predict(TEXTS[0])] == classifier.predict(TEXTS[:1])
    assert classifier.predict_proba(TEXTS[0]).shape == classifier.logits(TEXTS[0]).shape == (3,)
    np.testing.assert_array_equal(classifier.predict_proba(TEXTS[:1])[0], classifier.predict_proba(TEXTS[0]))


@pytest.mark.parametrize(
    "make",
    [
        tuple,
        iter,
        lambda texts: (text for text in texts),
        np.array,
        pd.Series,
        lambda texts: pd.Series(texts, dtype="category"),
        pa.array,
        lambda texts: pa.chunked_array([texts[:2], texts[2:]]),
        lambda texts: Dataset.from_dict({"text": texts})["text"],
        lambda texts: Dataset.from_dict({"id": range(len(texts)), "text": texts}),
        lambda texts: pd.DataFrame({"id": range(len(texts)), "text": texts}, index=range(5, 5 + len(texts))),
        lambda texts: pa.table({"id": range(len(texts)), "Message": texts}),
    ],
)
def test_texts_may_be_in_anything_that_holds_texts(make: Any) -> None:
    """Guards a data frame whose column names were classified, and columns that are no list."""
    found = as_texts(make(TEXTS))
    assert found == TEXTS
    assert {type(text) for text in found} == {str}


def test_data_frames_of_polars_are_read() -> None:
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"id": [1, 2], "text": TEXTS[:2]})
    assert as_texts(frame) == as_texts(frame["text"]) == TEXTS[:2]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["a", None], r"texts\[1\]: expected a string, found None"),
        ([1.5], r"texts\[0\]: expected a string, found float '1.5'"),
        (np.array([1, 2]), r"texts\[0\]: expected a string, found int"),
        (pd.Series(["a", "b", float("nan")]), r"texts\[2\]: expected a string, found float 'nan'"),
        ([("a", "b")], r"texts\[0\]: expected a string, found tuple"),
        (7, "expected a string or a list of strings, found int"),
        (None, "expected a string or a list of strings, found NoneType"),
        ({"text": "a"}, "expected a string or a list of strings, found dict"),
        (b"a", "expected a string or a list of strings, found bytes"),
        (pd.DataFrame({"a": ["x"], "b": ["y"]}), r"a table with the columns 'a', 'b'.*for example rows\['a'\]"),
        (pd.DataFrame(), "found a table with the columns ,"),
    ],
)
def test_what_is_no_text_is_refused_with_its_position(classifier: Classifier, given: Any, message: str) -> None:
    """Guards predictions for "None" and "nan", which look like any others."""
    with pytest.raises(UserError, match=message):
        classifier.predict(given)


def test_a_call_answers_as_a_pipeline_does(classifier: Classifier, folder: Path) -> None:
    """Guards code that puts a `Classifier` in the place of a pipeline, or the other way round."""
    pipe = pipeline("text-classification", str(folder), device="cpu")
    for texts in (TEXTS[0], TEXTS[:2], TEXTS[:1]):
        for given in ({}, {"top_k": 1}, {"top_k": 2}, {"top_k": None}):
            expected, found = pipe(texts, **given), classifier(texts, **given)
            assert _labels(found) == _labels(expected)
            np.testing.assert_allclose(_scores(found), _scores(expected), atol=1e-6)
    for wrong in (0, True, 1.5, "all"):
        with pytest.raises(UserError, match="top_k: expected a whole number of at least 1, or None"):
            classifier(TEXTS, top_k=wrong)


def _labels(found: Any) -> Any:
    return [_labels(part) for part in found] if isinstance(found, list) else found["label"]


def _scores(found: Any) -> Any:
    return [_scores(part) for part in found] if isinstance(found, list) else found["score"]


@pytest.mark.parametrize("problem_type", ["multi_label_classification", "regression"])
def test_other_problems_are_answered_as_by_a_pipeline_or_refused(classifier: Classifier, problem_type: str) -> None:
    """Guards a softmax over classes that do not exclude each other, or over numbers that are no logits."""
    model = copy.deepcopy(classifier.model)
    model.config.problem_type = problem_type
    other = Classifier(model, classifier.tokenizer, device="cpu")
    pipe = pipeline("text-classification", model=model, tokenizer=classifier.tokenizer, device="cpu")
    expected, found = pipe(TEXTS[:2], top_k=None), other(TEXTS[:2], top_k=None)
    assert _labels(found) == _labels(expected)
    np.testing.assert_allclose(_scores(found), _scores(expected), atol=1e-6)
    np.testing.assert_allclose(other(TEXTS[0])[0]["score"], pipe(TEXTS[0])[0]["score"], atol=1e-6)
    if problem_type == "regression":
        for ask in (other.predict, other.predict_proba):
            with pytest.raises(UserError, match="expected a classifier, found a model with problem_type='regression'"):
                ask(TEXTS)
    else:
        shares = other.predict_proba(TEXTS)
        np.testing.assert_allclose(shares, 1 / (1 + np.exp(-other.logits(TEXTS).astype(float))), atol=1e-6)
        assert not np.allclose(shares.sum(1), 1), "canary: a softmax would sum to 1"
        assert other.predict(TEXTS) == classifier.predict(TEXTS)


def test_it_says_what_it_is_and_has_the_names_that_people_look_for(classifier: Classifier, folder: Path) -> None:
    """Guards `<sstext.inference.classifier.Classifier object at 0x…>`."""
    assert repr(classifier) == (
        f"Classifier({str(folder)!r}, classes={CLASSES}, device='cpu', dtype='float32', max_length=64)"
    )
    assert classifier.id2label == dict(enumerate(CLASSES))
    assert classifier.label2id == {name: number for number, name in enumerate(CLASSES)}
    assert classifier.to("cpu") is classifier
    assert classifier.to(torch.device("cpu")).device == torch.device("cpu")
    with pytest.raises(UserError, match="device: expected auto, cpu"):
        classifier.to("gpu")


def test_a_saved_classifier_is_the_same_and_keeps_its_card(
    classifier: Classifier, folder: Path, tmp_path: Path
) -> None:
    """Guards the way to a folder and back, a card that is lost on it, and one that names the former folder."""
    classifier.save_pretrained(tmp_path / "bare" / "copy")
    assert "How it was trained is not recorded" in (tmp_path / "bare" / "copy" / "README.md").read_text()
    again = Classifier.from_pretrained(
        tmp_path / "bare", subfolder="copy", device_map="cpu", attn_implementation="eager"
    )
    np.testing.assert_allclose(again.logits(TEXTS), classifier.logits(TEXTS), atol=1e-5)  # another attention
    assert again.model.config._attn_implementation == "eager"
    (tmp_path / "bare" / "copy" / "README.md").write_text('# Mine\n\nsstext predict "copy" new.csv\n')
    again.save_pretrained(tmp_path / "third")
    assert (tmp_path / "third" / "README.md").read_text() == '# Mine\n\nsstext predict "third" new.csv\n'
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="expected a folder to save the model in"):
        again.save_pretrained(tmp_path / "file")


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the client's own
def test_a_push_and_a_load_hand_on_what_they_are_given(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards `token`, `cache_dir`, `local_files_only` and `tags`: each must reach every request, that of the tokenizer too."""
    with fake_hub() as hub, hub.here(tmp_path / "home", token=None):
        address = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"  # downloads ask this one, not the endpoint
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address)
        info = classifier.push_to_hub("tickets", private=True, token=TOKEN, revision="v2", tags="support")
        repository = hub.repositories["models", "ada/tickets"]
        files = repository.files("v2") or {}
        assert info.oid == repository.branches["v2"]
        assert repository.private
        assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= set(files)
        card = files["README.md"].decode()
        assert ModelCard(card).data.tags == ["sstext", "support"]
        assert 'sstext predict "ada/tickets" --revision "v2" texts.csv' in card
        there = {"revision": "v2", "cache_dir": tmp_path / "cache", "device": "cpu"}
        with pytest.raises(UserError, match="cannot load 'ada/tickets'"):
            Classifier.from_pretrained("ada/tickets", **there)
        loaded = Classifier.from_pretrained("ada/tickets", token=TOKEN, **there)
        np.testing.assert_array_equal(loaded.logits(TEXTS), classifier.logits(TEXTS))
        asked = len(hub.requests)
        again = Classifier.from_pretrained("ada/tickets", local_files_only=True, **there)
        assert len(hub.requests) == asked
        np.testing.assert_array_equal(again.logits(TEXTS), classifier.logits(TEXTS))
        with pytest.raises(UserError, match="cannot load 'ada/other'"):
            Classifier.from_pretrained("ada/other", local_files_only=True, **there)
        loaded.save_pretrained(tmp_path / "copy")
    assert 'sstext predict "copy" texts.csv' in (tmp_path / "copy" / "README.md").read_text()
    assert ModelCard((tmp_path / "copy" / "README.md").read_text()).data.tags == ["sstext", "support"]


def test_weights_of_sixteen_bits_are_close_and_wrong_types_are_named(classifier: Classifier, folder: Path) -> None:
    """Guards `dtype`, which must reach the weights, and scores that stay float32."""
    half = Classifier.from_pretrained(folder, device="cpu", dtype="bfloat16")
    assert half.model.dtype == torch.bfloat16
    assert "dtype='bfloat16'" in repr(half)
    assert half.logits(TEXTS).dtype == np.float32
    difference = np.abs(half.predict_proba(TEXTS) - classifier.predict_proba(TEXTS)).max()
    assert 0 < difference < 0.02
    with pytest.raises(UserError, match="dtype: expected auto, float32, bfloat16 or float16, found 'int8'"):
        Classifier.from_pretrained(folder, dtype="int8")
    with pytest.raises(UserError, match="expected either device or device_map, found both"):
        Classifier.from_pretrained(folder, device="cpu", device_map="auto")
    with pytest.raises(UserError, match=r"cannot load .*attn_implementation"):
        Classifier.from_pretrained(folder, attn_implementation="fast")


def test_a_model_over_several_devices_stays_there(classifier: Classifier) -> None:
    """Guards weights that `to` would tear from their places."""
    model = copy.deepcopy(classifier.model)
    model.hf_device_map = {"bert": "cpu", "classifier": "disk"}
    with pytest.raises(UserError, match="to: the model is spread over 'cpu', 'disk' by its device_map"):
        Classifier(model, classifier.tokenizer).to("cpu")


@pytest.mark.parametrize("length", [0, -1])
def test_a_length_that_is_none_is_refused(folder: Path, length: int) -> None:
    """Guards the OverflowError of a tokenizer, and a 0 that means something else."""
    with pytest.raises(UserError, match=f"max_length: expected a whole number of at least 1, found {length}"):
        Classifier.from_pretrained(folder, max_length=length)


def test_no_more_than_max_length_is_read_and_cut_texts_are_counted(folder: Path, classifier: Classifier) -> None:
    """Guards against a crash beyond the model's limit, and against texts that are cut without a word."""
    short = Classifier.from_pretrained(folder, device="cpu", max_length=6)  # four words between two special tokens
    np.testing.assert_allclose(
        short.predict_proba(["cancel my money today please", "cancel my money today"]),
        classifier.predict_proba(["cancel my money today"] * 2),
        atol=1e-6,
    )
    assert short.truncated == 1
    whole = Classifier.from_pretrained(folder, device="cpu", max_length=10_000)
    assert whole.encoder.max_length == 64  # the model's own limit
    whole.predict(["again " * 62, "again " * 63, "again " * 500])
    assert whole.truncated == 2


def test_stream_yields_what_one_call_would(classifier: Classifier) -> None:
    """Guards the way that texts beyond the memory take."""
    batches = list(classifier.stream(iter([TEXTS[:2], [], TEXTS[2:]])))
    assert [len(batch) for batch in batches] == [2, 0, 3]
    np.testing.assert_allclose(np.concatenate(batches), classifier.predict_proba(TEXTS), atol=1e-6)


@pytest.mark.parametrize("budget", [1, 64, 500])
def test_batches_hold_every_row_once_within_the_budget(budget: int) -> None:
    """Guards against lost or doubled rows, and against batches that a device's memory cannot hold."""
    lengths = np.random.default_rng(0).integers(1, 65, size=200)
    batches = plan_batches(lengths, budget)
    assert sorted(np.concatenate(batches).tolist()) == list(range(200))
    assert all(len(batch) * lengths[batch].max() <= budget or len(batch) == 1 for batch in batches)
    longest = [lengths[batch].max() for batch in batches]
    assert longest == sorted(longest, reverse=True)
    assert plan_batches([], budget) == []


def test_batches_are_hardly_padded() -> None:
    """At most 3 % of a batch is padding, unless it is a small one. Guards scoring that spends its time on padding."""
    lengths = np.random.default_rng(0).integers(1, 129, size=2_000)
    batches = plan_batches(lengths, 2_048)
    padded = [len(batch) * lengths[batch].max() for batch in batches]
    shares = [1 - lengths[batch].sum() / size for batch, size in zip(batches, padded, strict=True)]
    assert all(share <= 0.03 + 1e-9 for share, size in zip(shares, padded, strict=True) if size > 2_048 / 8 + 128)
    assert sum(padded) <= 1.03 * lengths.sum()
    assert len(batches) < 2 * lengths.sum() / 2_048, "hardly more batches than full ones"


def test_scores_do_not_hang_on_the_batches(classifier: Classifier, rows: Dataset) -> None:
    """Guards the order of rows, and a training mode (dropout) that scoring must leave as it found it."""
    model, tokenizer, ticks = classifier.model, classifier.tokenizer, []
    wide = score(model, rows, tokenizer)
    np.testing.assert_allclose(wide, score(model, rows, tokenizer, tokens_per_batch=40, tick=ticks.append), atol=1e-6)
    assert sum(ticks) == 25
    assert len(ticks) > 5
    model.train()
    np.testing.assert_array_equal(wide, score(model, rows, tokenizer))
    assert model.training
    model.eval()
    assert wide.dtype == np.float32


def test_dropout_is_on_where_it_is_asked_for(classifier: Classifier, rows: Dataset) -> None:
    """Guards passes with dropout that all say the same, and a model that is left in training mode."""
    noisy = [score(classifier.model, rows, classifier.tokenizer, dropout=True) for _ in range(2)]
    assert not np.allclose(*noisy)
    assert not classifier.model.training


def test_softmax_divides_by_the_temperature_and_does_not_overflow() -> None:
    """Guards the sign and the place of T: 0 is e^0, ln 3 / 1 makes odds of 3 : 1, and T = 2 their root."""
    logits = np.log([[3.0, 1.0]])
    np.testing.assert_allclose(softmax(logits), [[0.75, 0.25]])
    np.testing.assert_allclose(softmax(logits, 2.0), [[np.sqrt(3) / (1 + np.sqrt(3)), 1 / (1 + np.sqrt(3))]])
    np.testing.assert_allclose(softmax(np.array([[1e4, 0.0]])), [[1.0, 0.0]])


def unusable(kind: str, folder: Path, tiny_encoder: Path) -> None:
    """Fill a folder with something that is no classifier."""
    folder.mkdir()
    if kind == "a bare encoder":
        AutoModel.from_pretrained(tiny_encoder).save_pretrained(folder)
    if kind == "no weights":
        config = AutoConfig.from_pretrained(tiny_encoder)
        config.architectures = ["BertForSequenceClassification"]
        config.save_pretrained(folder)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("a bare encoder", "expected a trained text classifier, found .'BertModel'.; use the `model` folder of a run"),
        ("nothing", "the folder must hold config.json, model.safetensors and a tokenizer"),
        ("no weights", "the folder must hold config.json, model.safetensors and a tokenizer"),
    ],
)
def test_a_folder_without_a_classifier_says_so(kind: str, message: str, tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards against a bare encoder with a head of random numbers, and against tracebacks of the libraries."""
    unusable(kind, tmp_path / "folder", tiny_encoder)
    with pytest.raises(UserError, match=message) as caught:
        Classifier.from_pretrained(tmp_path / "folder")
    assert str(tmp_path / "folder") in str(caught.value)


@pytest.mark.parametrize("name", ["no-such-org/no-such-model", "out/modle"])
def test_a_name_that_cannot_be_found_says_what_to_do(name: str) -> None:
    """Guards against the Hub client's many errors: one message, with the name, the network and the way out."""
    with pytest.raises(UserError, match="there is no such folder, and the Hub cannot be reached") as caught:
        Classifier.from_pretrained(name)
    assert repr(name) in str(caught.value)
    assert "check the name and the network, or download it elsewhere" in str(caught.value)


def test_the_folder_of_a_run_is_told_from_its_model(tmp_path: Path) -> None:
    """Guards `sstext predict out new.csv`: the message names out/model."""
    run = tmp_path / "out"
    (run / "model").mkdir(parents=True)
    (run / "model" / "config.json").write_text("{}")
    with pytest.raises(UserError, match="this is the folder of a run; use its model"):
        Classifier.from_pretrained(run)
    with pytest.raises(UserError, match=r"this folder holds runs; use the model of one, for example .*out/model"):
        Classifier.from_pretrained(tmp_path)


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards `auto` (a GPU where there is one, each process its own) and names that torch does not know here."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert resolve_device("auto") == torch.device("cuda", 3)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device() == torch.device("cpu")
    for name in ("cuda", "cuda:1", "mps", "meta"):
        with pytest.raises(UserError, match=f"device: '{name}' is not available here; use device=.auto"):
            resolve_device(name)
    with pytest.raises(UserError, match="expected auto, cpu, cuda, cuda:N or mps, found 'gpu'"):
        resolve_device("gpu")


def test_precisions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards `auto` (bf16 only where it is native), `accelerate launch`'s own choice, and fp16 on a CPU."""
    cpu = torch.device("cpu")
    for native, chosen in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(devices, "_has_native_bf16", lambda device, native=native: native)
        assert resolve_precision("auto", cpu) == chosen
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert resolve_precision("auto", cpu) == "bf16"
    assert resolve_precision("fp32", cpu) == "fp32"  # said is said
    assert resolve_precision("fp16", torch.device("cuda")) == "fp16"
    with pytest.raises(UserError, match="fp16 training needs a GPU; use --precision bf16 or fp32"):
        resolve_precision("fp16", cpu)
