"""`sstext push` against a Hub on loopback: what arrives there, who can use it, and what is left where it fails."""

import csv
import hashlib
import inspect
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from fake_hub import LARGE, TOKEN, FakeHub, fake_hub
from huggingface_hub.utils import http_backoff

from sstext.cli.main import main
from sstext.errors import UserError
from sstext.run.sharing import shares

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the client's own
MODEL = ["README.md", "config.json", "model.safetensors", "results.json", "tokenizer.json", "tokenizer_config.json"]
#: Where the client waits before it tries again, this program does not: `python -c` instead of `python -m sstext`.
IMPATIENT = (
    "import sys, huggingface_hub.utils._http as http; http.time.sleep = lambda _: None; "
    "from sstext.cli.main import main; "
)


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with fake_hub() as server:
        yield server


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A run's folder, in it and in its model whatever must never leave the machine."""
    folder = tmp_path / "out"
    shutil.copytree(finished_run, folder)
    (folder / "manifest.jsonl").unlink()  # which would know what is changed here
    for name in (
        "training_args.bin",
        "optimizer.pt",
        "pytorch_model.bin",
        "semi_supervised_state.safetensors",
        "notes.txt",
    ):
        (folder / "model" / name).write_bytes(b"private")
    shutil.copy(folder / "round_1" / "pseudo_labels.parquet", folder / "model")
    for place in (folder, folder / "model"):
        (place / "report.html").write_text("hello my parcel is late")
        (place / "report_figures").mkdir(exist_ok=True)
        (place / "report_figures" / "confusion.svg").write_text("hello my parcel is late")
    results = json.loads((folder / "results.json").read_text())
    results["settings"], results["examples"] = {"labeled": str(tmp_path)}, ["hello my parcel is late"]
    (folder / "results.json").write_text(json.dumps(results))
    places = {
        "name_or_path": str(tmp_path),
        "merges_file": str(tmp_path / "m.txt"),
        "parts": [{"at": str(finished_run)}],
    }
    for name in ("config.json", "tokenizer_config.json"):
        settings = json.loads((folder / "model" / name).read_text())
        (folder / "model" / name).write_text(json.dumps(settings | places))
    return folder


def push(hub: FakeHub, home: Path, *arguments: object, token: str | None = TOKEN) -> subprocess.CompletedProcess[str]:
    """`sstext push` in this process, which takes the server for the Hub meanwhile: a process of its own takes a second."""
    out, err, given = io.StringIO(), io.StringIO(), list(map(str, arguments))
    with hub.here(home, token), redirect_stdout(out), redirect_stderr(err):
        code = main(["push", *given])
    return subprocess.CompletedProcess(given, code, out.getvalue(), err.getvalue())


def push_as_a_person_does(
    hub: FakeHub, home: Path, *arguments: object, token: str | None = TOKEN
) -> subprocess.CompletedProcess[str]:
    """Run `sstext push` as a person does, in a process that takes the server for the Hub."""
    program = IMPATIENT + "sys.exit(main(['push', *sys.argv[1:]]))"
    command = [sys.executable, "-c", program, *map(str, arguments)]
    environment = hub.environment(home, token)
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder, by its digest."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def texts_of(folder: Path) -> list[str]:
    """Every text of the tiny task."""
    rows = [json.loads(line) for line in (folder / "unlabeled.jsonl").read_text().splitlines()]
    for name in ("labeled.csv", "test.csv"):
        rows += csv.DictReader((folder / name).read_text().splitlines())
    return [row["text"] for row in rows]


def test_a_push_holds_the_allowed_files_in_one_commit(
    hub: FakeHub, run: Path, finished_run: Path, tmp_path: Path
) -> None:
    """Guards people's texts, pickles and paths against publication, and strangers against half a model."""
    before = contents(run)
    assert {"to_label.csv", "data/check.json"} <= before.keys(), "what the report shows of the data is there, too"
    done = push_as_a_person_does(hub, tmp_path, run, "ada/tickets", "--private", "--message", "first")
    assert done.returncode == 0, done.stderr
    repository = hub.repositories["models", "ada/tickets"]
    files = repository.files()
    assert files is not None
    assert sorted(files) == [".gitattributes", *MODEL]
    assert repository.private
    assert repository.messages == ["initial commit", "first"]
    assert files["model.safetensors"] == (run / "model" / "model.safetensors").read_bytes()
    assert len(files["model.safetensors"]) >= LARGE, "the weights went the way of large files"
    assert hashlib.sha256(files["model.safetensors"]).hexdigest() in hub.large
    everything = b"".join(files.values())
    assert str(tmp_path.parent).encode() not in everything
    texts = texts_of(finished_run.parent)
    assert len(texts) == 60 + 12 + 30
    assert not [text for text in (*texts, "parcel is late") if text.encode() in everything]
    for secret in (TOKEN, *map(str, (finished_run, tmp_path, Path.home(), sys.prefix))):
        assert secret.encode() not in everything, f"{secret} was pushed"
    length = int.from_bytes(files["model.safetensors"][:8], "little")
    header = json.loads(files["model.safetensors"][8 : 8 + length])
    assert header["__metadata__"] == {"format": "pt"}, "nothing else is said beside the weights"
    assert json.loads(files["results.json"])["chosen"]["round"] == 1
    card = files["README.md"].decode()
    assert 'pipeline("text-classification", "ada/tickets")' in card
    assert "<this folder>" not in card
    for shown in (
        "6 files",
        f"{hub.url}/ada/tickets",
        "sstext predict ada/tickets new.csv",
        "'ada/tickets')('your text'",
    ):
        assert shown in done.stdout, shown
    assert contents(run) == before


def test_a_second_push_commits_what_has_changed_and_nothing_else(hub: FakeHub, run: Path, tmp_path: Path) -> None:
    """Guards histories full of empty commits, and a model beside whose weights old ones lie that are loaded first."""
    push(hub, tmp_path, run, "ada/tickets")
    repository = hub.repositories["models", "ada/tickets"]
    first = dict(repository.branches)
    same = push(hub, tmp_path, run, "ada/tickets")
    assert "Nothing changed" in same.stdout, same.stderr
    assert repository.branches == first

    old = ("model-00001-of-00001.safetensors", "optimizer.pt", "pytorch_model-00001-of-00002.bin", "pytorch_model.bin",
           "rng_state.pth", "training_args.bin", "vocab.txt")  # fmt: skip
    kept = ("own.md", "embeddings.bin", "onnx/pytorch_model.bin")
    repository.commit("main", {**(repository.files() or {}), **dict.fromkeys(old + kept, b"old")}, "")
    (run / "model" / "README.md").write_text("---\nlicense: mit\n---\n\n# Mine\n")
    changed = push(hub, tmp_path, run, "ada/tickets")
    assert "Pushed" in changed.stdout, changed.stderr
    files = repository.files() or {}
    assert sorted(files) == [".gitattributes", *sorted([*MODEL, *kept])]
    assert f"Deleted there (files of an earlier push): {', '.join(old)}\n" in changed.stdout
    assert "Deleted" not in same.stdout
    assert b"# Mine" in files["README.md"]
    assert len(repository.messages) == 4


def test_a_branch_is_made_and_named_everywhere(hub: FakeHub, run: Path, tmp_path: Path) -> None:
    """Guards `main` against an experiment, and its users against a command that loads another model than was pushed."""
    done = push(hub, tmp_path, run, "ada/tickets", "--revision", "v2")
    repository = hub.repositories["models", "ada/tickets"]
    assert sorted(repository.files("main") or {}) == [".gitattributes"], done.stderr
    files = repository.files("v2") or {}
    assert sorted(files) == [".gitattributes", *MODEL]
    assert '"ada/tickets", revision="v2"' in files["README.md"].decode()
    assert "predict ada/tickets --revision v2 new.csv" in done.stdout
    assert "Nothing changed" in push(hub, tmp_path, run, "ada/tickets", "--revision", "v2").stdout


def test_a_dry_run_lists_the_files_and_asks_nobody(hub: FakeHub, run: Path, tmp_path: Path) -> None:
    """Guards the look before the leap: no request, no token wanted, and the same files as a push has."""
    done = push(hub, tmp_path, run, "ada/tickets", "--dry-run", "--push-pseudo-labels", "ada/labels", token=None)
    assert done.returncode == 0, done.stderr
    assert hub.requests == []
    listed = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")]
    assert listed == [*MODEL, "6", "README.md", "train.parquet", "2"]
    assert "New repositories would be public" in done.stdout


def test_pseudo_labels_are_published_only_when_asked(hub: FakeHub, run: Path, tmp_path: Path) -> None:
    """Guards the corpus: its texts leave by a flag of their own, and the card says whose labels these are."""
    assert push(hub, tmp_path, run, "ada/tickets").returncode == 0
    assert list(hub.repositories) == [("models", "ada/tickets")]
    done = push(hub, tmp_path, run, "ada/tickets", "--push-pseudo-labels", "ada/labels", "--private")
    assert "--private only applies to new repositories" in done.stderr, "the model is already public"
    assert ("datasets", "ada/labels") not in hub.repositories
    hub.add("ada/labels", {"results.json": b"of theirs", "vocab.txt": b"", "training_args.bin": b""}, kind="datasets")
    done = push(hub, tmp_path, run, "ada/tickets", "--push-pseudo-labels", "ada/labels")
    assert done.returncode == 0, done.stderr
    files = hub.repositories["datasets", "ada/labels"].files() or {}
    theirs = ["results.json", "train.parquet", "training_args.bin", "vocab.txt"]
    assert sorted(files) == [".gitattributes", "README.md", *theirs], "of a data set, nothing is deleted"
    assert "predictions of a model" in files["README.md"].decode()


@pytest.mark.slow
def test_published_pseudo_labels_are_a_data_set(hub: FakeHub, run: Path, finished_run: Path, tmp_path: Path) -> None:
    """Guards those who take them: `load_dataset` by name gives texts, labels and what is known of each row."""
    assert push(hub, tmp_path, run, "ada/tickets", "--push-pseudo-labels", "ada/labels").returncode == 0
    program = (
        "import json, datasets; rows = datasets.load_dataset('ada/labels', split='train'); "
        "print(json.dumps([rows.column_names, len(rows), rows[0]]))"
    )
    pulled = subprocess.run(
        [sys.executable, "-c", program], env=hub.environment(tmp_path), capture_output=True, text=True, check=False
    )
    assert pulled.returncode == 0, pulled.stderr
    names, count, row = json.loads(pulled.stdout)
    assert names == ["text", "label", "confidence", "weight", "round"]
    corpus = [json.loads(line)["text"] for line in (finished_run.parent / "unlabeled.jsonl").read_text().splitlines()]
    assert 0 < count <= len(corpus)
    assert row["text"] in corpus


@pytest.mark.parametrize(
    ("token", "expected"),
    [(None, "you are not logged in; log in with `hf auth login`"), ("wrong", "the Hub refuses the token")],
)
def test_without_a_good_token_nothing_is_made(
    hub: FakeHub, run: Path, tmp_path: Path, token: str | None, expected: str
) -> None:
    """Guards against a stack trace where a sentence helps."""
    done = push(hub, tmp_path, run, "ada/tickets", token=token)
    assert done.returncode == 2
    assert expected in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert hub.repositories == {}


def test_a_dead_network_is_said_at_once(hub: FakeHub, run: Path, tmp_path: Path) -> None:
    """Guards against minutes of waiting for a network that is not there: the client does not try again and again."""
    environment = hub.environment(tmp_path) | {"HF_ENDPOINT": "http://127.0.0.1:9"}  # the port that discards
    program = IMPATIENT.replace("lambda _: None", "lambda _: sys.exit('it waits')") + "sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "push", str(run), "ada/tickets"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2, done.stderr
    assert "cannot push to 'ada/tickets': the Hub (http://127.0.0.1:9) cannot be reached" in done.stderr


def test_somebody_elses_name_is_refused(hub: FakeHub, run: Path, tmp_path: Path) -> None:
    done = push(hub, tmp_path, run, "bob/tickets")
    assert done.returncode == 2
    assert "your token has no permission for this" in done.stderr


@pytest.mark.parametrize(("method", "path"), [("POST", "/commit/main$"), ("PUT", "^/lfs/")])
def test_an_upload_that_breaks_off_leaves_nothing_half_done(
    hub: FakeHub, run: Path, tmp_path: Path, method: str, path: str
) -> None:
    """Guards the folder here and the model there; the same command succeeds afterwards."""
    repository = hub.add("ada/tickets", {"README.md": b"# The last one\n", "model.safetensors": b"other weights"})
    before, there = contents(run), repository.files()
    hub.break_off(method, path, times=100)
    done = push(hub, tmp_path, run, "ada/tickets")
    assert done.returncode == 2
    assert "cannot push to 'ada/tickets': the Hub" in done.stderr
    assert "cannot be reached" in done.stderr
    assert repository.files() == there
    assert contents(run) == before
    hub.broken.clear()
    again = push(hub, tmp_path, run, "ada/tickets")
    assert again.returncode == 0, again.stderr
    weights = (run / "model" / "model.safetensors").read_bytes()
    assert (repository.files() or {})["model.safetensors"] == weights
    assert len(repository.messages) == 2


def _client_tries_again() -> bool:
    """Whether the client sends a part again that broke off. Early versions do not, and the command says so then."""
    tries_again = inspect.signature(http_backoff).parameters["retry_on_exceptions"].default
    return any(error.__name__ == "RemoteProtocolError" for error in tries_again)


@pytest.mark.skipif(not _client_tries_again(), reason="this version of huggingface_hub does not try again")
def test_a_single_hiccup_is_survived(hub: FakeHub, run: Path, tmp_path: Path) -> None:
    """Guards large uploads: the client's own retry of a part that broke off counts."""
    hub.break_off("PUT", "^/lfs/", times=1)
    done = push(hub, tmp_path, run, "ada/tickets")
    assert done.returncode == 0, done.stderr
    assert sorted(hub.repositories["models", "ada/tickets"].files() or {}) == [".gitattributes", *MODEL]


def test_the_folder_of_a_model_is_enough(run: Path) -> None:
    """Guards models without a run (a trainer's, an earlier round's): they get a card, and their folder stays as it is."""
    folder = run / "baseline" / "model"
    before = contents(folder)
    assert "README.md" not in before
    (share,) = shares(folder, "ada/tickets")
    assert set(share.files) == {*before, "README.md"}
    card = share.files["README.md"]
    assert isinstance(card, bytes)
    for shown in ('"ada/tickets"', "max_length=32", "`account`, `delivery`, `refund`"):
        assert shown in card.decode(), shown
    assert contents(folder) == before


def test_a_card_knows_what_a_configuration_leaves_out(run: Path, tmp_path: Path) -> None:
    """Guards the two default classes, which transformers does not write down, and positions that RoBERTa never uses."""
    folder = tmp_path / "bare"
    shutil.copytree(run / "baseline" / "model", folder)
    config = json.loads((folder / "config.json").read_text())
    left = {name: value for name, value in config.items() if name not in ("id2label", "label2id")}
    like_roberta = {"model_type": "roberta", "max_position_embeddings": 34, "pad_token_id": 1}
    (folder / "config.json").write_text(json.dumps(left | like_roberta))
    card = shares(folder, "ada/tickets")[0].files["README.md"]
    assert isinstance(card, bytes)
    for shown in ("with 2 classes", "`LABEL_0`, `LABEL_1`", "max_length=32"):
        assert shown in card.decode(), shown


def test_what_cannot_be_pushed_is_said_before_anybody_is_asked(run: Path, tmp_path: Path) -> None:
    """Guards against half a run on the Hub, and a data set that overwrites the model."""
    (run / "results.json").rename(run / "results.json.tmp")
    with pytest.raises(
        UserError, match=r"expected the folder of a finished run or of a model.*run `sstext train` again to finish"
    ):
        shares(run, "ada/tickets")
    with pytest.raises(UserError, match=r"no such folder: .*nowhere"):
        shares(tmp_path / "nowhere", "ada/tickets")
    with pytest.raises(UserError, match="expected a name on the Hub as user/name"):
        shares(run, "tickets")
    with pytest.raises(UserError, match="push_pseudo_labels: expected a different name than the model's"):
        shares(run, "ada/tickets", pseudo_labels="ada/tickets")
