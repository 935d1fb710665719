"""Classifier and scoring: a text's prediction is its own, whatever stands beside it, and a killed pass goes on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoConfig, AutoModel, AutoTokenizer

from sstext.data.tokens import TextEncoder, tokenize
from sstext.errors import UserError
from sstext.evaluation.calibration import softmax
from sstext.inference import devices
from sstext.inference.classifier import Classifier
from sstext.inference.devices import resolve_device, resolve_precision
from sstext.inference.scoring import plan_batches, score
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


def test_predictions_are_class_names_and_probabilities(classifier: Classifier) -> None:
    """Guards against class numbers, shares that do not sum to 1, and columns in another order than `classes`."""
    probabilities = classifier.predict_proba(TEXTS)
    assert classifier.classes == CLASSES
    assert probabilities.shape == (5, 3)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-6)
    assert classifier.predict(TEXTS) == [CLASSES[i] for i in probabilities.argmax(-1)]
    assert len(set(classifier.predict(TEXTS))) > 1
    np.testing.assert_allclose(probabilities, softmax(classifier.logits(TEXTS)))


def test_no_texts_one_string_and_none(classifier: Classifier) -> None:
    """Guards against a crash on nothing, and against a string that is read letter by letter."""
    assert classifier.predict([]) == []
    assert classifier.predict_proba([]).shape == (0, 3)
    with pytest.raises(UserError, match=r"expected a list of texts.*predict\(\[text\]\)"):
        classifier.predict("refund my money")
    np.testing.assert_allclose(classifier.predict_proba([None]), classifier.predict_proba([""]))


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
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    with pytest.raises(UserError, match="this is the folder of a run; use its model"):
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
        with pytest.raises(UserError, match=f"device: '{name}' is not available here; use --device auto"):
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
