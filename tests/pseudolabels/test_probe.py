"""The probe: what it says beside the head, and that it stays out of the model."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from sstext.evaluation.calibration import matching_temperature, softmax
from sstext.inference.scoring import score
from sstext.modeling.embedder import Embedder
from sstext.pseudolabels.probe import with_probe
from sstext.pseudolabels.regression import PENALTY

TEXTS = [
    "money return",
    "refund charged twice now",
    "the parcel is late",
    "courier address",
    "login again",
    "password username",
]


@pytest.fixture(scope="module")
def classifier(tiny_encoder: Path) -> Any:
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(tiny_encoder, num_labels=3).eval()


@pytest.fixture(scope="module")
def tokenizer(tiny_encoder: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_encoder)


class Rows(list):
    """Tokenized rows with a column of labels, as a data set has them."""

    def __getitem__(self, key: Any) -> Any:
        return [row["labels"] for row in self] if key == "labels" else super().__getitem__(key)


def rows(tokenizer: Any, labels: list[int]) -> Rows:
    encoded = tokenizer(TEXTS[: len(labels)])["input_ids"]
    return Rows({"input_ids": ids, "labels": label} for ids, label in zip(encoded, labels, strict=True))


def by_hand(classifier: Any, tokenizer: Any) -> tuple[np.ndarray, np.ndarray]:
    """Logits and unit embeddings, text by text without padding."""
    logits, embedded = [], []
    with torch.no_grad():
        for text in TEXTS:
            said = classifier(**tokenizer(text, return_tensors="pt"), output_hidden_states=True)
            logits.append(said.logits[0])
            embedded.append(F.normalize(said.hidden_states[-1][0].mean(0), dim=-1))
    return torch.stack(logits).numpy(), torch.stack(embedded).numpy()


def test_an_embedding_is_the_mean_of_its_own_tokens(classifier: Any, tokenizer: Any) -> None:
    """Guards against padding in the mean, against a row that is not at length 1, and logits of another text beside it."""
    logits, embedded = by_hand(classifier, tokenizer)
    some = rows(tokenizer, [0] * 6)
    np.testing.assert_allclose(score(Embedder(classifier), some, tokenizer), embedded, atol=1e-6)
    np.testing.assert_allclose(score(Embedder(classifier.bert), some, tokenizer), embedded, atol=1e-6)  # without a head
    both = score(Embedder(classifier, with_logits=True), some, tokenizer)
    np.testing.assert_allclose(both, np.concatenate([logits, embedded], axis=-1), atol=1e-6)


@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1, 1]])
def test_head_and_probe_are_averaged_as_logarithms(classifier: Any, tokenizer: Any, labels: list[int]) -> None:
    """By hand, also with two classes, of which scikit-learn keeps one row of weights; guards against a head that is not
    tempered, and against the probe's sign."""
    model = classifier if len(set(labels)) == 3 else AutoModelForSequenceClassification.from_pretrained(
        classifier.config._name_or_path, num_labels=2
    ).eval()  # fmt: skip
    logits, embedded = by_hand(model, tokenizer)
    some = rows(tokenizer, labels)
    said = score(with_probe(model, some, some, tokenizer), some, tokenizer)
    classes = len(set(labels))
    fitted = LogisticRegression(C=PENALTY * classes, max_iter=1_000, tol=1e-6).fit(embedded.astype(np.float64), labels)
    probe = fitted.predict_log_proba(embedded)
    temperature = matching_temperature(logits, np.exp(probe))
    head = F.log_softmax(torch.tensor(logits) / temperature, -1).numpy()
    np.testing.assert_allclose(said, (head + probe) / 2, atol=1e-4)
    assert np.abs(said - head).max() > 0.01


@pytest.mark.parametrize("labels", [[0, 0, 0, 2, 2, 2], [1, 1, 1, 2, 2, 2]])
def test_a_class_without_a_label_gets_no_probability(classifier: Any, tokenizer: Any, labels: list[int]) -> None:
    """Names of classes may be given of which no row is; guards against a crash, and weights that stand at another class."""
    some = rows(tokenizer, labels)
    probed = with_probe(classifier, some, some, tokenizer)
    said = score(probed, some, tokenizer).astype(np.float64)
    one, other = sorted(set(labels))
    (missing,) = {0, 1, 2} - {one, other}
    assert softmax(said)[:, missing].max() < 1e-9
    logits, embedded = by_hand(classifier, tokenizer)
    odds = LogisticRegression(C=3 * PENALTY, max_iter=1_000).fit(embedded, labels).decision_function(embedded)
    expected = ((logits[:, other] - logits[:, one]) / probed.temperature + odds) / 2
    np.testing.assert_allclose(said[:, other] - said[:, one], expected, atol=1e-3)


@pytest.mark.parametrize("sharpness", [0.1, 10.0])
def test_a_head_becomes_as_sure_as_the_probe(classifier: Any, tokenizer: Any, sharpness: float) -> None:
    """The same head ten times flatter or ten times surer says the same beside the probe; guards against labels that are as
    flat, or as certain, as a head that steps on few labels have left."""
    logits = by_hand(classifier, tokenizer)[0]
    logits -= logits.mean(0)  # so that the labels are all three classes, and those that the head predicts
    model, other = copy.deepcopy(classifier), copy.deepcopy(classifier)
    with torch.no_grad():
        model.classifier.bias -= torch.tensor(by_hand(classifier, tokenizer)[0].mean(0))
        for own, scaled in zip(model.classifier.parameters(), other.classifier.parameters(), strict=True):
            scaled.copy_(own * sharpness)
    some = rows(tokenizer, logits.argmax(-1).tolist())
    probed, sharper = (with_probe(one, some, some, tokenizer) for one in (model, other))
    said = score(probed, some, tokenizer)
    assert sharper.temperature == pytest.approx(sharpness * probed.temperature, rel=1e-3)
    np.testing.assert_allclose(score(sharper, some, tokenizer), said, atol=1e-4)


def test_the_classifier_stays_as_it_was(classifier: Any, tokenizer: Any) -> None:
    """What is saved and trained on is the classifier: it has no new weights, and says what it said."""
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    some = rows(tokenizer, [0, 0, 1, 1, 2, 2])
    probed = with_probe(classifier, some, some, tokenizer)
    assert probed.embedder.model is classifier
    assert not classifier.training, "scoring left dropout on"
    assert classifier.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in classifier.state_dict().items())
    assert list(dict(probed.named_parameters())) == [f"embedder.model.{n}" for n, _ in classifier.named_parameters()]
