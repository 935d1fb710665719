"""A name on the Hub in the place of a folder: it loads the same model, and what cannot be loaded says why."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_hub import TOKEN, FakeHub, fake_hub

from sstext.hub.publishing import model_files
from sstext.inference.classifier import Classifier

TEXTS = ["refund my money", "where is the parcel that is late", "password", "hello"]
PROGRAM = """
import json, os, sys
sys.modules["sstext"] = None  # for now, importing it is an error
from transformers import pipeline
classify = pipeline("text-classification", "ada/plain", revision="v2", top_k=None)
found = {"plain": classify(json.loads(sys.argv[2]), truncation=True, max_length=32)}
del sys.modules["sstext"]

import huggingface_hub
import huggingface_hub.utils._http as http
from sstext.cli import main as cli
from sstext.errors import UserError
from sstext.data.loading import load_labeled
from sstext.inference.classifier import Classifier
from sstext.modeling.student import new_student

def said(load):
    try:
        return ["loaded", load()]
    except UserError as error:
        return ["refused", str(error)]

tries = {
    "classifier": lambda: Classifier.from_pretrained("ada/tickets", revision="v2").logits(["refund my money"]).tolist(),
    "encoder": lambda: new_student("ada/encoder", ["a", "b"], seed=0, revision="v2").config.num_labels,
    "data set": lambda: load_labeled("ada/rows:train", what="test").texts["text"][:],
    "missing": lambda: Classifier.from_pretrained("ada/tikets"),
    "private": lambda: Classifier.from_pretrained("ada/secret"),
    "revision": lambda: Classifier.from_pretrained("ada/tickets", revision="v9"),
    "pickle": lambda: Classifier.from_pretrained("bob/pickle"),
    "code": lambda: Classifier.from_pretrained("bob/code"),
    "encoder with code": lambda: new_student("bob/code", ["a", "b"], seed=0),
    "encoder missing": lambda: new_student("ada/encodr", ["a", "b"], seed=0),
    "data set missing": lambda: load_labeled("ada/rowz", what="test"),
    "no name": lambda: Classifier.from_pretrained("out/round_1/model"),
}
found |= {name: said(load) for name, load in tries.items()}
os.environ["HF_TOKEN"] = sys.argv[1]  # Ada logs in
found["command"] = ["left with", cli.main(["predict", "ada/secret", "new.csv", "-o", "predictions.csv"])]
huggingface_hub.constants.ENDPOINT = "http://127.0.0.1:9"  # the port that discards: the network is gone
found["waits"] = []
http.time.sleep = found["waits"].append  # where the client waits before it tries again
found["network"] = said(lambda: Classifier.from_pretrained("ada/never-seen"))
found["network, data set"] = said(lambda: load_labeled("ada/never-seen", what="test"))
print("RESULT " + json.dumps(found))
"""


def stored(folder: Path) -> dict[str, bytes]:
    """The files of a model, as they lie on the Hub after a push."""
    return {k: v if isinstance(v, bytes) else v.read_bytes() for k, v in model_files(folder).items()}


@pytest.fixture(scope="module")
def hub(finished_run: Path, tiny_encoder: Path) -> Iterator[FakeHub]:
    """A Hub with Ada's model on a branch, an encoder, rows, a private model; and what Bob would have people run."""
    model, encoder = stored(finished_run / "model"), stored(tiny_encoder)
    with fake_hub() as server:
        for name, files in (("ada/tickets", model), ("ada/plain", model), ("ada/encoder", encoder)):
            server.add(name, {}).commit("v2", files, "the model")
        server.add("ada/secret", model, private=True)
        weights = model.pop("model.safetensors")
        server.add("bob/pickle", model | {"pytorch_model.bin": weights})
        config = {"model_type": "bobs", "auto_map": {"AutoConfig": "bobs.Config"}, "architectures": ["X"]}
        code = b"import pathlib; pathlib.Path('bob_was_here').touch()\n"
        server.add(
            "bob/code", {"config.json": json.dumps(config).encode(), "bobs.py": code, "model.safetensors": weights}
        )
        server.add("ada/rows", {"train.csv": b"text,label\nmy parcel,delivery\nmy money,refund\n"}, kind="datasets")
        yield server


def run(hub: FakeHub, home: Path, program: str, *arguments: str) -> str:
    """What a program prints in a process of its own that takes the server for the Hub; nobody is logged in there."""
    command = [sys.executable, "-c", program, *arguments]
    environment = hub.environment(home, token=None)
    done = subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def said(hub: FakeHub, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `PROGRAM` finds: first plain transformers, then every try of ours, in one process that nobody is logged in to."""
    home = tmp_path_factory.mktemp("home")
    (home / "new.csv").write_text("text\nrefund my money\n")
    printed = run(hub, home, PROGRAM, TOKEN, json.dumps(TEXTS))
    assert not list(home.rglob("bob_was_here")), "code of a repository was run"
    return json.loads(printed.rpartition("RESULT ")[2]) | {"predictions": (home / "predictions.csv").read_text()}


def test_a_stranger_gets_the_same_probabilities(said: dict[str, Any], finished_run: Path) -> None:
    """Guards the promise of the README and of a push: plain transformers, a fresh cache, no sstext in the process, equal labels
    and probabilities to 1e-6."""
    classifier = Classifier.from_pretrained(finished_run / "model", device="cpu", max_length=32)
    shares = [{entry["label"]: entry["score"] for entry in row} for row in said["plain"]]
    found = np.array([[row[name] for name in classifier.classes] for row in shares])
    np.testing.assert_allclose(found, classifier.predict_proba(TEXTS), atol=1e-6)
    assert [max(row, key=lambda name: row[name]) for row in shares] == classifier.predict(TEXTS)


def test_names_serve_as_classifier_encoder_and_data_set(said: dict[str, Any], finished_run: Path) -> None:
    """Guards every place that takes a name: the branch counts, and the weights that arrive are those that were pushed."""
    classifier = Classifier.from_pretrained(finished_run / "model", device="cpu")
    logits = classifier.logits(["refund my money"]).tolist()
    assert said["classifier"][0] == "loaded", said["classifier"]
    assert said["classifier"][1][0] == pytest.approx(logits[0], abs=1e-6)
    assert said["encoder"] == ["loaded", 2]
    assert said["data set"] == ["loaded", ["my parcel", "my money"]]


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (
            "missing",
            "cannot load 'ada/tikets': there is no such folder, and the Hub has no such name, or it is private",
        ),
        (
            "private",
            "cannot load 'ada/secret': there is no such folder, and the Hub has no such name, or it is private",
        ),
        ("revision", "cannot load 'ada/tickets': it has no such branch, tag or commit"),
        (
            "pickle",
            "cannot load 'bob/pickle': it has no weights as safetensors, the only format in which classifiers are read",
        ),
        ("code", "cannot load 'bob/code': it needs its own code, which sstext never runs"),
        ("encoder with code", "cannot load 'bob/code': it needs its own code"),
        ("encoder missing", "cannot load 'ada/encodr': there is no such folder, and the Hub has no such name"),
        ("data set missing", "no such file, and no Hub data set that can be loaded: ada/rowz (split train): "),
        (
            "no name",
            "cannot load 'out/round_1/model': there is no such folder, and this is not a valid name on the Hub",
        ),
    ],
)
def test_what_cannot_be_pulled_says_why(said: dict[str, Any], what: str, expected: str) -> None:
    """Guards against the client's pages of causes: one sentence that names the remedy, and nothing is opened that could run."""
    outcome, message = said[what]
    assert outcome == "refused"
    assert message.startswith(expected)
    assert "Traceback" not in message


def test_the_command_predicts_with_a_private_model_of_ones_own(said: dict[str, Any]) -> None:
    """Guards the way from the command line: name, token of the environment, fresh cache."""
    assert said["command"] == ["left with", 0]
    lines = said["predictions"].splitlines()
    assert lines[0] == "text,predicted_label,confidence"
    assert len(lines) == 2


def test_a_dead_network_is_said_at_once(said: dict[str, Any]) -> None:
    """Guards against retries that make a person wait for minutes."""
    unreachable = "the Hub (http://127.0.0.1:9) cannot be reached, or the connection was lost; check the network"
    assert said["network"][1].startswith(
        f"cannot load 'ada/never-seen': there is no folder 'ada/never-seen' here, and {unreachable}"
    )
    assert unreachable in said["network, data set"][1]
    assert said["waits"] == []
