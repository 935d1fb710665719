"""The loop of a run: its limits as equalities, its records, and a run that a kill does not change."""

import csv
import json
import os
import signal
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from notes import Notes
from runs import AtTick, contents, killed, pseudo_labels, records
from safetensors.torch import load_file
from transformers import AutoTokenizer

from sstext.config.run_config import RunConfig
from sstext.errors import UserError
from sstext.modeling.student import new_student
from sstext.run.train import open_run, self_train
from sstext.selftraining import loop
from sstext.selftraining.record import StageRecord
from sstext.training import fit as fitting
from sstext.training.arguments import SemiSupervisedTrainingArguments
from sstext.training.trainer import SemiSupervisedTrainer

Quick = Callable[..., RunConfig]
#: Folders of the stages of these runs, by position.
FOLDERS = ("baseline", "round_1", "round_2")


def ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(scope="module")
def task(tiny_task: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny_task(tmp_path_factory.mktemp("task"))


@pytest.fixture(scope="module")
def quick(task: Any, tiny_encoder: Path) -> Quick:
    """`quick(output, **changes)`: options of a run of two short rounds."""

    def configure(output: Path, **changes: Any) -> RunConfig:
        options = {"labeled": str(task.labeled), "unlabeled": str(task.unlabeled), "audit": str(task.answers),
                   "encoder": str(tiny_encoder), "output": str(output), "steps": 6, "round_steps": 6, "rounds": 2,
                   "learning_rate": 5e-3, "keep": [0.3, 0.5], "precision": "fp32", "device": "cpu", "prior": "uniform",
                   "method": "class-balanced"}  # fmt: skip
        arguments = {"round_learning_rate": 5e-3, "stop_agreement": 1.01} | changes.pop("method_args", {})
        checkpoints = {"save_steps": 2} | changes.pop("training_args", {})
        return RunConfig(**options | changes, method_args=arguments, training_args=checkpoints)

    return configure


@pytest.fixture(scope="module")
def whole(quick: Quick, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing interrupted; read only."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    assert [record.index for record in self_train(quick(folder))] == [0, 1, 2]
    return folder


def alone(quick: Quick, output: Path, **changes: Any) -> RunConfig:
    """Options of a run on the labels alone."""
    return quick(output, method="supervised", rounds=0, unlabeled=None, audit=None, keep=None, **changes)


def column(path: Path, name: str) -> list[str]:
    with path.open(newline="") as file:
        return [row[name] for row in csv.DictReader(file)]


# Limits


def test_zero_rounds_are_supervised_fine_tuning(quick: Quick, task: Any, tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards the baseline: it is the trainer on the labeled rows with the stated options, to the bit."""
    (record,) = self_train(alone(quick, tmp_path / "out"))
    assert (record.admitted, record.coverage, record.steps) == (0, 0, 6)
    assert record.stopped_because == "all rounds are done"

    classes = ["account", "delivery", "refund"]
    labels = [classes.index(label) for label in column(task.labeled, "label")]
    arguments = SemiSupervisedTrainingArguments(
        str(tmp_path / "plain"), use_cpu=True, max_steps=6, learning_rate=5e-3, head_learning_rate=1e-3, weight_decay=0.01,
        warmup_steps=0.1, per_device_train_batch_size=16, seed=0, save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    trainer = SemiSupervisedTrainer(
        new_student(str(tiny_encoder), classes, seed=0),
        arguments,
        train_dataset=Dataset.from_dict({"text": column(task.labeled, "text"), "label": labels}),
        processing_class=AutoTokenizer.from_pretrained(tiny_encoder),
    )
    trainer.train()
    saved = load_file(tmp_path / "out" / "baseline" / "model" / "model.safetensors")
    assert {name: value.tolist() for name, value in trainer.model.state_dict().items()} == {
        name: value.tolist() for name, value in saved.items()
    }


def test_rounds_do_not_change_the_baseline(quick: Quick, whole: Path, tmp_path: Path) -> None:
    """Guards the comparison: self-training must not weaken, or strengthen, the supervised model beside it."""
    list(self_train(alone(quick, tmp_path / "out")))
    # Read to the same length: the corpus would choose another one than the labeled rows.
    model = Path("baseline/model/model.safetensors")
    lengths = [next((folder / "data").glob("labeled-*")).name for folder in (whole, tmp_path / "out")]
    assert lengths[0] == lengths[1]
    assert (whole / model).read_bytes() == (tmp_path / "out" / model).read_bytes()


# Records


def test_records_tell_what_happened(whole: Path) -> None:
    """Guards rounds.jsonl: growing quotas, coverage of 60 texts, counts per class, and one reason at the end."""
    rounds = records(whole)
    assert [record["index"] for record in rounds] == [0, 1, 2]
    assert [record["stage"] for record in rounds] == ["baseline", "round 1", "round 2"]
    assert [record["labeled_by"] for record in rounds] == [None, "head", "head"]
    assert rounds[0]["admitted"] == 0
    assert rounds[1]["admitted"] == 18
    assert rounds[2]["admitted"] > 18
    assert rounds[1]["per_class"] == {"account": 6, "delivery": 6, "refund": 6}
    for record in rounds:
        assert record["coverage"] == record["admitted"] / 60
        assert sum(record["per_class"].values()) == record["admitted"]
        assert max(record["per_class"].values()) <= 10  # a third of the half that round 2 may keep
        assert (record["steps"], record["temperature"], record["metrics"]) == (6, 1.0, {})
    assert [record["stopped_because"] for record in rounds] == [None, None, "all rounds are done"]


def test_precision_is_audited_against_the_true_labels(whole: Path, task: Any) -> None:
    """Guards `audit_precision`: recomputed from the parquet file and the user's own answers."""
    truth = column(task.answers, "label")
    for record in records(whole)[1:]:
        kept = pseudo_labels(whole, record["index"])
        right = [truth[row] == label for row, label in zip(kept["row"], kept["label"], strict=True)]
        assert record["audit_precision"] == pytest.approx(np.mean(right))
        assert set(kept["round"]) == {record["index"]}
    assert records(whole)[0]["audit_precision"] is None
    assert len({record["audit_precision"] for record in records(whole)[1:]} - {1.0}) > 0  # canary: errors do occur


@pytest.mark.parametrize(("index", "quota"), [(1, 6), (2, 10)])
def test_pseudo_labels_are_what_the_student_before_predicts(index: int, quota: int, whole: Path) -> None:
    """Guards against labels of an older round, or of other rows: recomputed from that student's scores."""
    scores = np.load(whole / FOLDERS[index - 1] / "scores.npy", allow_pickle=False).astype(float)
    aligned = np.exp(scores)
    for _ in range(200):  # Sinkhorn: rows sum to 1, columns have the mean 1/3 of a balanced corpus
        aligned /= 3 * aligned.mean(0)
        aligned /= aligned.sum(1, keepdims=True)
    expected = {}
    for number, name in enumerate(["account", "delivery", "refund"]):
        mine = [row for row in range(60) if aligned[row].argmax() == number]
        best = sorted(mine, key=lambda row: -aligned[row, number])[:quota]
        expected |= {row: (name, aligned[row, number]) for row in best}
    kept = pseudo_labels(whole, index)
    assert kept["row"] == sorted(expected)
    assert kept["label"] == [expected[row][0] for row in kept["row"]]
    np.testing.assert_allclose(kept["confidence"], [expected[row][1] for row in kept["row"]], atol=1e-4)


def test_agreement_compares_two_students(whole: Path) -> None:
    """Guards the stopping rule's figure."""
    predicted = [np.load(whole / FOLDERS[i] / "scores.npy", allow_pickle=False).argmax(-1) for i in (0, 1)]
    found = [record["agreement"] for record in records(whole)]
    assert found == [None, pytest.approx(np.mean(predicted[0] == predicted[1])), None]
    assert 0 < found[1] < 1


def test_it_stops_where_nothing_changes(quick: Quick, whole: Path, tmp_path: Path) -> None:
    """Guards both sides of the threshold: exactly the agreement stops the run, a little more does not."""
    agreement = records(whole)[1]["agreement"]
    rounds = list(self_train(quick(tmp_path / "out", method_args={"stop_agreement": agreement})))
    assert len(rounds) == 2
    assert (
        rounds[-1].stopped_because
        == f"predictions no longer change: {agreement:.1%} of the corpus kept its predicted class"
    )
    assert not (tmp_path / "out" / "round_2").exists()


def test_it_stops_where_no_text_may_be_trusted(quick: Quick, tmp_path: Path) -> None:
    """Guards against a round without pseudo-labels."""
    (record,) = self_train(quick(tmp_path / "out", method_args={"min_confidence": 1.0}))
    assert record.stopped_because == "no text is predicted with a confidence of 1.0 or more"


def test_labeled_rows_are_never_rewritten(
    quick: Quick, whole: Path, task: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards the labels of people: in every round the same, pseudo-labels beside them and never among them."""
    seen = []

    class Watched(SemiSupervisedTrainer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            seen.append((kwargs["train_dataset"]["labels"][:], kwargs["pseudo_labeled_dataset"]))

    monkeypatch.setattr(fitting, "SemiSupervisedTrainer", Watched)
    # Labels that the texts contradict: a student that could rewrite them would.
    swapped = {"account": "delivery", "delivery": "refund", "refund": "account"}
    texts, labels = column(task.labeled, "text"), [swapped[label] for label in column(task.labeled, "label")]
    rows = Dataset.from_dict({"text": texts, "label": labels})
    list(self_train(quick(tmp_path / "out", labeled=None), labeled=rows))
    assert [labeled for labeled, _ in seen] == [[1] * 4 + [2] * 4 + [0] * 4] * 3
    assert seen[0][1] is None
    for index in (1, 2):
        assert seen[index][1].rows.tolist() == pseudo_labels(tmp_path / "out", index)["position"]


def test_soft_pseudo_labels_are_trained_on(quick: Quick, whole: Path, tmp_path: Path) -> None:
    """Guards `labels=soft`: the same rows as hard ones, another student."""
    list(self_train(quick(tmp_path / "out", rounds=1, method_args={"labels": "soft"})))
    soft, hard = pseudo_labels(tmp_path / "out", 1), pseudo_labels(whole, 1)
    assert soft["row"] == hard["row"]
    np.testing.assert_allclose(np.sum(soft["target"], axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.max(soft["target"], axis=1), soft["confidence"], atol=1e-6)
    model = "round_1/model/model.safetensors"
    assert (tmp_path / "out" / model).read_bytes() != (whole / model).read_bytes()
    baseline = "baseline/model/model.safetensors"
    assert (tmp_path / "out" / baseline).read_bytes() == (whole / baseline).read_bytes()


def test_data_sets_at_hand_are_the_same_run_as_files(quick: Quick, whole: Path, task: Any, tmp_path: Path) -> None:
    """Guards the way of notebooks: the same rows as `datasets` objects end in the same bits, also when called again."""
    texts = [json.loads(line)["text"] for line in task.unlabeled.read_text().splitlines()]
    data = {
        "labeled": Dataset.from_dict({name: column(task.labeled, name) for name in ("text", "label")}),
        "unlabeled": Dataset.from_dict({"text": texts}),
        "audit": Dataset.from_dict({"label": column(task.answers, "label")}),
    }
    config = quick(tmp_path / "out", **dict.fromkeys(data))
    rounds = list(self_train(config, **data))
    assert contents(tmp_path / "out") == contents(whole)
    same = {name: Dataset.from_dict(rows.to_dict()) for name, rows in data.items()}
    assert list(self_train(config, **same)) == rounds
    with pytest.raises(UserError, match=r"on other data \(unlabeled changed\)"):
        list(self_train(config, **data | {"unlabeled": Dataset.from_dict({"text": texts[::-1]})}))


# Interruptions


@pytest.mark.parametrize(
    ("interruptions", "act"),
    [
        ([("tokenizing unlabeled", 1), ("baseline: training", 5), ("baseline: scoring", 1), ("round 1: training", 3)],
         killed),
        ([("round 1: training", 3)], ctrl_c),
        ([("round 2: training", 6)], ctrl_c),
    ],
)  # fmt: skip
def test_an_interrupted_run_ends_in_the_same_bits(
    interruptions: list[tuple[str, int]], act: Callable[[], object], quick: Quick, whole: Path, tmp_path: Path
) -> None:
    """Guards everything that a run computes against a kill or Ctrl-C anywhere: models, scores, pseudo-labels, records."""
    for phase, tick in interruptions:
        reporter = AtTick(phase, tick, act)
        with pytest.raises(KeyboardInterrupt):
            list(self_train(quick(tmp_path / "out"), reporter=reporter))
        assert reporter.ticks[phase] == tick
    if act is ctrl_c:  # the step was finished and written down, also where no checkpoint was due
        assert f"checkpoint-{tick}" in [path.name for path in (tmp_path / "out").glob("*/checkpoints/*")]
    count = AtTick("", 0, killed)
    assert len(list(self_train(quick(tmp_path / "out"), reporter=count))) == 3
    assert contents(tmp_path / "out") == contents(whole)
    if act is ctrl_c:
        assert count.ticks.get(phase, 0) == 6 - tick  # no step is repeated
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_kill_after_the_selection_changes_nothing(
    quick: Quick, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards the moment between pseudo_labels.parquet of the next round and the record of this one."""
    monkeypatch.setattr(loop, "describe", lambda *_, **__: killed())
    with pytest.raises(KeyboardInterrupt):
        list(self_train(quick(tmp_path / "out")))
    assert (tmp_path / "out" / "round_1" / "pseudo_labels.parquet").exists()
    assert not (tmp_path / "out" / "rounds.jsonl").exists()
    monkeypatch.undo()
    list(self_train(quick(tmp_path / "out")))
    assert contents(tmp_path / "out") == contents(whole)


def test_a_checkpoint_that_a_kill_cut_short_is_not_read(quick: Quick, whole: Path, tmp_path: Path) -> None:
    """Guards against half a checkpoint: the one before it is taken."""
    with pytest.raises(KeyboardInterrupt):
        list(
            self_train(
                quick(tmp_path / "out", training_args={"save_total_limit": 3}),
                reporter=AtTick("round 1: training", 5, killed),
            )
        )
    (tmp_path / "out" / "round_1" / "checkpoints" / "checkpoint-4" / "trainer_state.json").write_text('{"half')
    count = AtTick("", 0, killed)
    list(self_train(quick(tmp_path / "out", training_args={"save_total_limit": 3}), reporter=count))
    assert count.ticks["round 1: training"] == 4  # from step 2
    assert contents(tmp_path / "out") == contents(whole)


def test_the_loop_may_be_left_and_taken_up_again(quick: Quick, whole: Path, tmp_path: Path) -> None:
    """Guards `for round in self_train(…): … break`: finished rounds come from their records, the rest is computed."""
    for record in self_train(quick(tmp_path / "out")):
        if record.index == 1:
            break
    count = AtTick("", 0, killed)
    rounds = list(self_train(quick(tmp_path / "out"), reporter=count))
    assert [type(record) for record in rounds] == [StageRecord] * 3
    assert rounds[1] == record
    assert {name for name in count.ticks if "training" in name} == {"round 2: training"}
    assert contents(tmp_path / "out") == contents(whole)


def test_records_of_version_0_1_are_read(quick: Quick, whole: Path, tmp_path: Path) -> None:
    """They have no names of stages, and may lack what later fields say. Guards reports and runs of such a folder."""
    newer = {"stage", "labeled_by", "reads_corpus", "estimated_precision", "out_of_fold", "gain", "refused",
             "class_shares", "chain_agreement"}  # fmt: skip
    for line in records(whole):
        old = StageRecord.read({name: value for name, value in line.items() if name not in newer})
        assert (old.stage, old.labeled_by, old.reads_corpus) == (f"round {line['index']}", None, False)
        assert (old.gain, old.out_of_fold, old.class_shares) == (None, {}, {})
        assert {name: value for name, value in asdict(old).items() if name not in newer} == {
            name: value for name, value in line.items() if name not in newer
        }
    config = quick(tmp_path / "out")
    list(self_train(config))
    file = tmp_path / "out" / "rounds.jsonl"
    kept = [json.dumps({name: value for name, value in line.items() if name not in newer}) for line in records(whole)]
    file.write_text("\n".join(kept) + "\n")
    (tmp_path / "out" / "manifest.jsonl").unlink()  # which version 0.1 did not write
    assert [record.stage for record in self_train(config)] == ["round 0", "round 1", "round 2"]


def test_fields_that_a_later_version_has_added_are_ignored(whole: Path) -> None:
    """Guards a run folder that a newer version has written: what is known of a stage is read, the rest left out."""
    for line in records(whole):
        assert asdict(StageRecord.read({**line, "of a later version": [1, 2]})) == line


# A bad start


def test_a_bad_start_in_an_empty_folder_leaves_it_empty(quick: Quick, tmp_path: Path) -> None:
    """Guards `mkdir out` before a command whose input is wrong."""
    (tmp_path / "out").mkdir()
    (tmp_path / "test.csv").write_text("text,label\nmoney,no such class\n")
    with pytest.raises(UserError, match="unknown label"):
        list(self_train(quick(tmp_path / "out", test=str(tmp_path / "test.csv"))))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_corpus_that_no_training_can_read_is_cut_at_random(
    quick: Quick, task: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where every text joins, 6 steps of 4 have room for 24: the rest is neither tokenized nor scored, and answers stay with
    their texts. Guards hours of scoring of which nothing is used, an audit of other rows, and a report of other texts."""
    monkeypatch.setattr("sstext.selftraining.planning.LEAST_TEXTS", 1)
    options = {"rounds": 1, "gold_share": 0.5, "method_args": {"round_batch_size": 8}}
    config, notes = quick(tmp_path / "out", **options, method="auto", folds=0, keep=[1.0]), Notes()
    final = list(self_train(config, reporter=notes))[-1]
    assert any(note.startswith("unlabeled: 24 of these texts are used, drawn at random") for note in notes.said)
    kept, answers = pseudo_labels(tmp_path / "out", 1), column(task.answers, "label")
    assert (final.admitted, final.coverage, len(set(kept["row"]))) == (24, 1.0, 24)
    assert len(np.load(tmp_path / "out" / "start" / "scores.npy")) == 24 < len(answers)
    assert max(kept["row"]) >= 24, "the first rows, not a random part"
    right = [label == answers[row] for row, label in zip(kept["row"], kept["label"], strict=True)]
    assert final.audit_precision == pytest.approx(np.mean(right))
    texts = [json.loads(line)["text"] for line in task.unlabeled.read_text().splitlines()]
    corpus = Dataset.from_file(str(tmp_path / "out" / "data" / "unlabeled.arrow"))
    assert [corpus[place]["text"] for place in kept["position"]] == [texts[row] for row in kept["row"]]
    assert list(self_train(config))[-1] == final  # a finished run reads the part again
    run = open_run(config)
    assert run.whole.texts.counts() == {"labeled": 12, "unlabeled": 24, "unlabeled_left_out": len(answers) - 24}
    chosen_among_all = list(self_train(quick(tmp_path / "other", **options)))[-1]
    assert chosen_among_all.coverage == pytest.approx(0.3, abs=0.05)
