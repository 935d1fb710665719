"""What a trainer pushes: the model by the allow-list, whatever lies beside it, at the moments that `Trainer` pushes at."""

import inspect
import io
import json
import logging
import sys
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_hub import FakeHub, fake_hub
from huggingface_hub import ModelCard
from transformers import AutoModelForSequenceClassification, Trainer

from sstext.errors import UserError
from sstext.training.arguments import SemiSupervisedTrainingArguments
from sstext.training.pushing import HubTrainer

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the client's own
FILES = [".gitattributes", "README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
PROGRAM = """
import json, sys
from pathlib import Path
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from sstext import SemiSupervisedTrainer, SemiSupervisedTrainingArguments, UserError

encoder, folder = sys.argv[1], Path(sys.argv[2])
labels = {"money": 0, "parcel": 1}
rows = Dataset.from_dict({"text": [f"my {name} please" for name in labels] * 4, "label": [0, 1] * 4})
unlabeled = Dataset.from_dict({"text": ["hello my private parcel"] * 8})

def trainer(name, **changes):
    model = AutoModelForSequenceClassification.from_pretrained(encoder, num_labels=2, id2label=dict(enumerate(labels)))
    settings = dict(
        max_steps=4, save_steps=2, per_device_train_batch_size=4, use_cpu=True, max_length=16, disable_tqdm=True,
        push_to_hub=True, report_to="none", eval_strategy="no",
    )
    args = SemiSupervisedTrainingArguments(str(folder / name), **settings | changes)
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "corpus.txt").write_text("hello my private parcel")
    (folder / name / "pseudo_labels.parquet").write_text("private")
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    return SemiSupervisedTrainer(
        model, args, train_dataset=rows, eval_dataset=rows, unlabeled_dataset=unlabeled, processing_class=tokenizer,
        method="softmatch",
    )

found = {}
every = trainer("every", hub_private_repo=True, hub_always_push=True)
every.train()
found["every"] = every.push_to_hub(license="mit").oid
end = trainer("end", hub_strategy="end", hub_model_id="ada/at-the-end", hub_revision="v2")
end.train()
end.evaluate()
end.save_model()
found["local"] = sorted(path.name for path in (folder / "end").iterdir() if path.is_file())
end.create_model_card(license="mit", tags=["support"], dataset="ada/rows")
found["local card"] = (folder / "end" / "README.md").read_text()
found["later"] = type(end.push_to_hub("Now", blocking=False, revision="x", tags="late").result()).__name__
try:
    trainer("refused", hub_model_id="bob/not-mine")
except UserError as error:
    found["refused"] = str(error)
print("RESULT " + json.dumps(found))
"""


def run(hub: FakeHub, encoder: Path, folder: Path) -> tuple[dict[str, Any], str]:
    out, errors = io.StringIO(), io.StringIO()
    heard = logging.StreamHandler(errors)
    logging.getLogger().addHandler(heard)
    try:
        with hub.here(folder / "home"), redirect_stdout(out), pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["-c", str(encoder), str(folder)])
            exec(PROGRAM, {"__name__": "__main__"})
    finally:
        logging.getLogger().removeHandler(heard)
    return json.loads(out.getvalue().rpartition("RESULT ")[2]), errors.getvalue()


@pytest.fixture(scope="module")
def pushed(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two trainings that push, the first commit of the first one breaking off."""
    with fake_hub() as hub:
        hub.break_off("POST", "/ada/every/commit/")
        found, errors = run(hub, tiny_encoder, tmp_path_factory.mktemp("trainers"))
        yield SimpleNamespace(hub=hub, found=found, errors=errors)


def test_every_save_pushes_the_model_and_nothing_else(pushed: Any) -> None:
    """Guards against `Trainer`'s own push: the whole output folder, with corpus and pseudo-labels, optimizer and pickles."""
    repository = pushed.hub.repositories["models", "ada/every"]
    assert repository.private
    assert repository.messages == ["initial commit", "Training in progress, step 4", "End of training"]
    for commit in list(repository.commits.values())[1:]:
        assert set(commit) <= set(FILES)
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(commit)
        assert b"private parcel" not in b"".join(commit.values())
    assert sorted(repository.files()) == FILES
    assert pushed.found["every"] == repository.branches["main"], "the id of the commit, as `Trainer` returns it"


def test_a_push_that_fails_on_the_way_does_not_end_the_training(pushed: Any) -> None:
    """Guards hours of training against a network that is away for a minute; and silence about it."""
    assert "Training in progress, step 2" not in pushed.hub.repositories["models", "ada/every"].messages
    assert "cannot push to 'ada/every'" in pushed.errors
    assert "the training continues" in pushed.errors


def test_end_pushes_once_to_the_branch(pushed: Any) -> None:
    """Guards `save_model`, which pushes in `Trainer`, and the branch; the folder here keeps what it had, without a pickle."""
    repository = pushed.hub.repositories["models", "ada/at-the-end"]
    assert repository.messages == ["initial commit", "Model save", "Now"]
    assert list(repository.files("main")) == [".gitattributes"]
    assert sorted(repository.files("v2")) == FILES
    assert sorted(repository.branches) == ["main", "v2", "x"], "push_to_hub(revision='x') makes its branch"
    assert sorted(repository.files("x")) == FILES
    assert pushed.found["local"] == sorted([*FILES[1:], "corpus.txt", "pseudo_labels.parquet"])


def test_the_card_of_a_bare_trainer_says_what_it_knows(pushed: Any) -> None:
    """Guards strangers: classes, counts, method and its paper, the last evaluation, and a license only where one was given."""
    first = pushed.hub.repositories["models", "ada/every"].files()["README.md"].decode()
    text = pushed.hub.repositories["models", "ada/at-the-end"].files("v2")["README.md"].decode()
    assert ModelCard(first).data.license == "mit"
    card = ModelCard(text)
    assert card.data.license is None
    assert card.data.library_name == "transformers"
    assert [
        (result.metric_type, result.dataset_name, result.dataset_split) for result in card.data.eval_results or []
    ] == [("loss", "evaluation rows", None)]
    for shown in (
        "`money`, `parcel`",
        "8 labeled, 8 unlabeled",
        "Method: `softmatch`",
        "Chen et al. 2023",
        'revision="v2"',
    ):
        assert shown in text, shown
    assert "Chosen" not in text


def test_the_card_has_what_trainer_takes_and_keeps_it(pushed: Any) -> None:
    """Guards `create_model_card`, whose license the next push would lose, and examples that name no model."""
    local = pushed.found["local card"]
    there = pushed.hub.repositories["models", "ada/at-the-end"].files("x")["README.md"].decode()
    for text, name, late in ((local, '"end"', []), (there, '"ada/at-the-end"', ["late"])):
        data = ModelCard(text).data
        assert (data.license, data.datasets) == ("mit", ["ada/rows"])
        assert data.tags == ["sstext", "semi-supervised", "self-training", "support", *late]
        assert f"sstext predict {name}" in text
        assert f'pipeline("text-classification", {name}' in text
        assert "this folder" not in text
    assert pushed.found["later"] == "CommitInfo"
    assert pushed.hub.repositories["models", "ada/at-the-end"].messages[-1] == "Now"


def test_the_signatures_are_those_of_trainer() -> None:
    """Guards scripts that give an argument by its place."""
    for name in ("create_model_card", "push_to_hub", "save_model"):
        ours, theirs = (inspect.signature(getattr(kind, name)).parameters for kind in (HubTrainer, Trainer))
        known = {k: v.default for k, v in ours.items() if k in theirs}
        assert list(known.items()) == [(k, v.default) for k, v in theirs.items()]
        assert set(ours) - set(theirs) <= {"private"}, "early versions of transformers do not have it"


def test_a_name_that_is_not_ones_own_is_refused_before_the_training(pushed: Any) -> None:
    assert pushed.found["refused"].startswith("cannot push to 'bob/not-mine': your token has no permission for this")


@pytest.mark.parametrize("strategy", ["checkpoint", "all_checkpoints"])
def test_strategies_that_push_the_optimizer_are_refused(strategy: str, tmp_path: Path) -> None:
    """Guards both ways to such a strategy: as an argument, and set afterwards, when the trainer is made."""
    reason = (
        f"hub_strategy: '{strategy}' would push whole checkpoints, including the state of the optimizer; choose 'end'"
    )
    with pytest.raises(UserError, match=reason):
        SemiSupervisedTrainingArguments(str(tmp_path), use_cpu=True, hub_strategy=strategy)
    arguments = SemiSupervisedTrainingArguments(str(tmp_path), use_cpu=True)
    arguments.set_push_to_hub("ada/tickets", strategy=strategy)
    with pytest.raises(UserError, match=reason):
        HubTrainer(None, arguments)


def test_only_the_first_process_touches_saved_files(
    tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All processes enter `_save`. Guards a second one that reads a configuration while the first one is writing it."""
    model = AutoModelForSequenceClassification.from_pretrained(tiny_encoder)
    trainer = HubTrainer(model, SemiSupervisedTrainingArguments(str(tmp_path), use_cpu=True, report_to="none"))
    half = ["config.json", "training_args.bin"]
    for name in half:
        (tmp_path / name).write_text('{"model_')
    monkeypatch.setattr(SemiSupervisedTrainingArguments, "should_save", False)
    monkeypatch.setattr(
        Trainer, "_save", lambda *_: None
    )  # in early versions of transformers, only the first process calls it
    trainer._save(str(tmp_path))
    assert [(tmp_path / name).read_text() for name in half] == ['{"model_'] * 2
