"""A chain: how a student is trained, and which rows of the corpus it may learn from next."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModel

from sstext.config.run_config import RunConfig
from sstext.errors import UserError
from sstext.evaluation.metrics import checkpoint_metrics, development_metrics
from sstext.pseudolabels.alignment import CorpusScores
from sstext.pseudolabels.selection import Selection
from sstext.run.opening import open_chain
from sstext.selftraining.chain import Chain
from sstext.selftraining.planning import make_plan

#: Corpus with blank lines: the six texts stand in rows 0, 2, 3, 5, 6 and 7 of the user's file.
CORPUS = "money back\n\nparcel late\ncourier here\n   \nlogin again\npassword not verified\ncharged twice\n"
ROWS = [0, 2, 3, 5, 6, 7]
#: What a student might say of them; classes account, delivery, refund.
PROBABILITIES = np.array(
    [[0.9, 0.05, 0.05], [0.6, 0.2, 0.2], [0.1, 0.8, 0.1], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7], [0.05, 0.05, 0.9]]
)
LOGITS = np.log(PROBABILITIES)


@pytest.fixture(scope="module")
def opened(
    tiny_task: Callable[[Path], Any], tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Chain]:
    """`opened(**options)` opens a chain in a folder of its own."""
    folder = tmp_path_factory.mktemp("chain")
    task = tiny_task(folder)
    (folder / "corpus.txt").write_text(CORPUS)

    def open_one(**options: Any) -> Chain:
        settings = {"labeled": str(task.labeled), "unlabeled": str(folder / "corpus.txt"), "encoder": str(tiny_encoder),
                    "output": str(tmp_path_factory.mktemp("run") / "out"), "precision": "fp32", "device": "cpu",
                    "method": "class-balanced"}  # fmt: skip
        return open_chain(RunConfig(**settings | options))

    return open_one


@pytest.fixture(scope="module")
def chain(opened: Callable[..., Chain]) -> Chain:
    """A chain that no test writes to."""
    return opened()


def parquet(chain: Chain) -> dict[str, list]:
    return pq.read_table(chain.directory.stage("round 1") / "pseudo_labels.parquet").to_pydict()


def select(
    chain: Chain, logits: np.ndarray = LOGITS, temperature: float = 1.0, *, number: int = 1, align: bool | None = None
) -> Selection:
    """Select the pseudo-labels of a round from these scores, aligned as the options say, or as `align` does."""
    stage = chain.plan.named(f"round {number}")
    if align is not None:
        assert stage.selection is not None
        stage = replace(stage, selection=replace(stage.selection, align=align))
    return chain.select_from(stage, CorpusScores(logits, temperature), keep=stage.keep)


def selected(chain: Chain) -> Selection:
    found = chain.selected(chain.plan.named("round 1"))
    assert found is not None
    return found


def changed(chain: Chain, **changes: Any) -> Chain:
    """A chain with other options, on the same data and in the same folder."""
    config = replace(chain.config, **changes)
    return replace(chain, config=config, plan=make_plan(config, labeled=12, corpus=6, folds=0))


# Select


def test_pseudo_labels_name_the_rows_of_the_users_file(opened: Callable[..., Chain]) -> None:
    """Guards the record that people join with their own file: blank rows count there, and labels are names."""
    chain = opened(keep=[0.5], prior="none")
    select(chain)
    table = parquet(chain)
    assert table["row"] == [0, 3, 7]  # the most confident of each class
    assert table["position"] == [0, 2, 5]
    assert table["label"] == ["account", "delivery", "refund"]
    np.testing.assert_allclose(table["confidence"], [0.9, 0.8, 0.9])
    assert table["weight"] == [1.0, 1.0, 1.0]
    assert table["round"] == [1, 1, 1]
    assert "target" not in table


def test_quotas_grow_by_round_and_the_last_one_goes_on(opened: Callable[..., Chain]) -> None:
    """Guards the order of `--keep`: round 1 takes the first share, not the second or the last."""
    chain = opened(keep=[0.5, 0.75], prior="none", rounds=9)
    assert [len(select(chain, number=number)) for number in (1, 2, 3, 9)] == [3, 4, 4, 4]


def test_the_prior_shares_out_the_quotas(opened: Callable[..., Chain]) -> None:
    """Guards class balance: what the user knows of the corpus decides, a class fills at most what it has."""
    chain = opened(keep=[0.67], prior={"account": 2, "delivery": 1, "refund": 1})
    assert select(chain, align=False).rows.tolist() == [0, 1, 2, 5]
    only_refund = opened(keep=[1.0], prior={"account": 0.01, "delivery": 0.01, "refund": 0.98})
    assert select(only_refund, align=False).rows.tolist() == [4, 5]


def test_rows_below_the_confidence_are_never_kept(opened: Callable[..., Chain]) -> None:
    """Guards the filter, and the temperature before it: what T makes less sure may fall below."""
    chain = opened(keep=[1.0], prior="none", method_args={"min_confidence": 0.75})
    assert select(chain).rows.tolist() == [0, 2, 5]
    calmer = select(chain, temperature=2.0)
    assert len(calmer) == 0
    assert parquet(chain)["row"] == []
    sharper = select(chain, temperature=0.5)
    assert sharper.rows.tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_allclose(sharper.confidence[0], 0.81 / (0.81 + 2 * 0.0025))


def test_alignment_frees_a_corpus_from_one_favored_class(opened: Callable[..., Chain]) -> None:
    """Guards the sign of alignment: a student that favors one class would otherwise teach only that one."""
    favoring = LOGITS + np.array([5.0, 0, 0])
    without = select(opened(keep=[0.5], prior="uniform"), favoring, align=False)
    assert without.labels.tolist() == [0]  # one class, and no more than its quota
    aligned = select(opened(keep=[0.5], prior="uniform"), favoring)
    assert aligned.labels.tolist() == [0, 1, 2]


def test_the_prior_of_balanced_labels_goes_half_way_to_what_is_predicted(opened: Callable[..., Chain]) -> None:
    """Balanced labels tell nothing of the corpus. By hand: mean prediction of the six rows, averaged with 1/3; a prior that
    was given, and the shares of labels that nobody balanced, stay as they are."""
    mean = np.array([0.9 + 0.6 + 0.1 + 0.2 + 0.1 + 0.05, 0.05 + 0.2 + 0.8 + 0.7 + 0.2 + 0.05, 0.0]) / 6
    mean[2] = 1 - mean[:2].sum()
    np.testing.assert_allclose(opened().class_shares(CorpusScores(LOGITS)), (mean + 1 / 3) / 2, atol=1e-9)
    for fixed in ("uniform", {"account": 2, "delivery": 1, "refund": 1}):
        chain = opened(prior=fixed)
        np.testing.assert_array_equal(chain.class_shares(CorpusScores(LOGITS)), chain.shares.prior)
    flat, sharp = (opened().class_shares(CorpusScores(LOGITS, temperature)) for temperature in (100.0, 1.0))
    assert flat.std() < sharp.std()


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_what_is_written_is_what_is_trained_on(kind: str, opened: Callable[..., Chain]) -> None:
    """Guards a continued run, which reads its pseudo-labels back; soft ones with all their probabilities."""
    chain = opened(keep=[0.5], prior="none", method_args={"labels": kind})
    written, back = select(chain), selected(chain)
    for name in ("rows", "labels", "confidence", "weight"):
        np.testing.assert_array_equal(getattr(back, name), getattr(written, name))
    if kind == "soft":
        np.testing.assert_allclose(back.targets, PROBABILITIES[[0, 2, 5]], atol=1e-6)
        assert back.targets.dtype == np.float32
    else:
        assert back.targets is None
    assert chain.selected(chain.plan.baseline) is None


@pytest.mark.parametrize(
    ("method", "rows", "labels"),
    [
        ({"method": "self-training", "method_args": {"threshold": 0.75}}, [0, 2, 5], [0, 1, 2]),
        ({"method": "noisy-student"}, [0, 1, 2, 3, 4, 5], [0, 0, 1, 1, 2, 2]),
        ({"method": "noisy-student", "method_args": {"min_confidence": 0.75}}, [0, 0, 2, 2, 5, 5], [0, 0, 1, 1, 2, 2]),
        ({"method": "noisy-student", "method_args": {"threshold": 0.95}}, [], []),
    ],
)
def test_a_method_of_the_round_loop_admits_by_its_own_rule(
    method: dict[str, Any], rows: list[int], labels: list[int], opened: Callable[..., Chain]
) -> None:
    """Guards the way from --method to pseudo_labels.parquet, where a row stands as often as it joins; targets as hand-made."""
    chain = opened(keep=[1.0], prior={"account": 0.9, "delivery": 0.05, "refund": 0.05}, **method)
    select(chain)
    back = selected(chain)
    assert (back.rows.tolist(), back.labels.tolist()) == (rows, labels)
    assert parquet(chain)["row"] == [ROWS[row] for row in rows]
    if method["method"] == "noisy-student":
        np.testing.assert_allclose(back.targets, PROBABILITIES[rows].reshape(-1, 3), atol=1e-6)
    else:
        assert back.targets is None


def test_dropout_passes_are_of_the_student_before(opened: Callable[..., Chain], monkeypatch: Any) -> None:
    """Guards UST's figures: the calibrated passes over a part of the corpus, not the plain scores; read, not repeated."""

    def fitted() -> Chain:
        one = opened(keep=[1.0], steps=2, method="ust", method_args={"passes": 4, "subset": 5}, dropout=0.3)
        one.fit(one.plan.baseline)
        return one

    chain, cold = fitted(), fitted()
    teacher, stage = chain.plan.baseline, chain.plan.named("round 1")
    admission = stage.selection
    assert admission is not None
    kept = chain.select_from(stage, CorpusScores(LOGITS, 2.0), keep=stage.keep, teacher=teacher)
    table = np.load(chain.directory.stage("baseline") / "passes.npy", allow_pickle=False)
    assert table.shape == (5, 5)
    rows, again = chain.students.score_passes(teacher, admission, 2.0)
    np.testing.assert_array_equal(table, again)
    assert len(set(rows)) == 5
    assert set(kept.rows) <= set(rows)
    place = np.searchsorted(rows, kept.rows)
    np.testing.assert_array_equal(kept.labels, table[place, :3].argmax(-1))
    np.testing.assert_allclose(kept.confidence, np.exp(table[place, :3].max(-1)), rtol=1e-5)
    np.testing.assert_allclose(kept.weight, -np.log(np.clip(table[place, 3], 1e-10, 1)), rtol=1e-5)
    assert (table[:, 3] > 0).all()  # canary: there is dropout
    same_part, colder = cold.students.score_passes(teacher, admission, 1.0)
    assert not np.allclose(colder, table)  # the temperature counts
    np.testing.assert_array_equal(same_part, rows)  # the same seed, the same part
    monkeypatch.setattr("sstext.selftraining.student_store.score_passes_to_disk", None)
    cold.students.score_passes(teacher, admission, 1.0)


# Fit


def test_default_steps_follow_the_rows(chain: Chain) -> None:
    """Guards the stated rules: 20 passes over the labels within 60 … 500, 3 over the kept rows within 120 … 2,000."""

    def first(labeled: int) -> int:
        return replace(chain, tokens=replace(chain.tokens, labeled=range(labeled))).steps(chain.plan.baseline, 0)

    assert [first(12), first(200), first(5_000)] == [60, 250, 500]
    # 24 of the 32 rows of a step are kept ones: 3 · 2,400 / 24 = 300.
    assert [chain.steps(chain.plan.stages[1], rows) for rows in (18, 2_400, 10**6)] == [120, 300, 2_000]
    asked = changed(chain, steps=7, round_steps=9)
    rows = (0, 10**6, 0)
    assert [asked.steps(asked.plan.stages[index], rows[index]) for index in range(3)] == [7, 9, 9]


def test_batches_are_global(chain: Chain, tmp_path: Path) -> None:
    """Guards the batch size against gradient accumulation: accumulated, a step still sees as many rows."""
    for accumulation in (1, 4):
        own = changed(chain, training_args={"gradient_accumulation_steps": accumulation})
        sizes = [own.training_arguments(s, None, tmp_path).per_device_train_batch_size for s in own.plan.stages[:2]]
        assert [size * accumulation for size in sizes] == [16, 32]
    own = changed(chain, training_args={"per_device_train_batch_size": 5})
    assert own.training_arguments(own.plan.baseline, None, tmp_path).per_device_train_batch_size == 5


def test_options_reach_the_training(chain: Chain, tmp_path: Path) -> None:
    """Guards options that nothing reads, and what is handed to TrainingArguments: both in, never against each other."""
    own = changed(
        chain, learning_rate=1e-3, head_learning_rate=None, precision="bf16", seed=5, edits={"mask": 0.3}, gold_share=0.5,
        method_args={"round_learning_rate": 3e-4},
        training_args={"weight_decay": 0.5, "warmup_steps": 0.25, "save_steps": 7, "max_grad_norm": 3, "logging_steps": 1},
    )  # fmt: skip
    made, later = (own.training_arguments(stage, None, tmp_path) for stage in own.plan.stages[:2])
    found = (made.learning_rate, made.head_learning_rate, made.weight_decay, made.warmup_steps, made.bf16, made.fp16)
    assert found == (1e-3, None, 0.5, 0.25, True, False)
    assert (made.save_steps, made.seed, made.edits["mask"], made.max_grad_norm, made.use_cpu) == (7, 5, 0.3, 3, True)
    assert (made.logging_steps, made.eval_strategy, made.gold_share) == (1, "no", 0.5)
    assert later.learning_rate == 3e-4


@pytest.mark.parametrize(
    ("argument", "message"),
    [("no_such_argument", "^training_args: .*'no_such_argument'"), ("max_steps", "set by steps and round_steps")],
)
def test_arguments_that_are_unknown_or_have_an_option(
    argument: str, message: str, chain: Chain, tmp_path: Path
) -> None:
    """Guards against a value that is given twice, and against a traceback for one that does not exist."""
    with pytest.raises(UserError, match=message):
        changed(chain, training_args={argument: 1}).training_arguments(chain.plan.baseline, None, tmp_path)


def test_rounds_differ_in_their_seeds(chain: Chain) -> None:
    """Guards against rounds that draw the same head, order and edits again, and runs whose seeds overlap."""
    anew = changed(chain, method_args={"start": "pretrained"})
    heads = [anew.student(stage).classifier.weight for stage in anew.plan.stages[:2]]
    assert not torch.equal(*heads)
    many = changed(chain, rounds=19)
    runs = [replace(many, config=replace(many.config, seed=seed)).students for seed in range(100)]
    assert len({students.seed(stage) for students in runs for stage in many.plan.stages}) == 2_000


def test_a_student_starts_from_what_was_asked_for(opened: Callable[..., Chain], tiny_encoder: Path) -> None:
    """Guards `start`: the pretrained encoder, or the student before; nothing in between, and no silent default."""
    chain = opened(steps=2)
    chain.fit(chain.plan.baseline)

    def body(chain: Chain) -> torch.Tensor:
        return chain.student(chain.plan.named("round 1")).base_model.state_dict()["pooler.dense.weight"]

    pretrained = AutoModel.from_pretrained(tiny_encoder).state_dict()["pooler.dense.weight"]
    trained = chain.students.load(chain.plan.baseline).base_model.state_dict()["pooler.dense.weight"]
    assert not torch.equal(pretrained, trained)  # canary
    for start, expected in (("pretrained", pretrained), ("previous", trained)):
        assert torch.equal(body(changed(chain, method_args={"start": start})), expected)
    assert torch.equal(body(chain), trained)


def test_a_finished_fit_is_read_not_repeated(opened: Callable[..., Chain], monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a kill between training and scoring; the checkpoints of a finished fit are gone, and nothing is a pickle."""
    chain = opened(steps=2)
    fit = chain.fit(chain.plan.baseline)
    assert (fit.steps, fit.temperature, fit.metrics, len(fit.training_hash), len(fit.scores_hash)) == (
        2,
        1.0,
        {},
        32,
        32,
    )
    folder = chain.directory.stage("baseline")
    assert not (folder / "checkpoints").exists()
    assert not [path for path in folder.rglob("*") if path.suffix in (".bin", ".pt", ".pkl", ".pth")]
    assert json.loads((folder / "fit.json").read_text()) == {
        "steps": 2, "temperature": 1.0, "metrics": {}, "skipped_steps": 0, "training_hash": fit.training_hash,
        "scores_hash": fit.scores_hash,
    }  # fmt: skip
    monkeypatch.setattr(Chain, "_train", lambda *_: pytest.fail("trained again"))
    assert chain.fit(chain.plan.baseline) == fit


def test_development_metrics_by_hand() -> None:
    """Guards what rounds are compared by: F1 of class 0 is 2/3, of class 1 0.8, of class 2 0 (predicted, never true)."""
    logits = np.eye(3)[[0, 1, 1, 0, 2, 0][:5]]
    labels = np.array([0, 1, 1, 1, 0])  # class 0: 1 hit, 2 predicted, 2 true; class 1: 2 hits, 2 predicted, 3 true
    metrics = development_metrics(logits, labels)
    assert metrics["accuracy"] == pytest.approx(3 / 5)
    assert metrics["macro_f1"] == pytest.approx((2 / 4 + 4 / 5 + 0) / 3)


def test_fp32_stands_against_the_launchers_precision(
    tiny_task: Any, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against results that say fp32 and were trained in bfloat16."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    task = tiny_task(tmp_path)
    options = {
        "labeled": str(task.labeled),
        "unlabeled": str(task.unlabeled),
        "encoder": str(tiny_encoder),
        "device": "cpu",
    }
    for precision, mixed in (("fp32", "no"), ("auto", "bf16")):
        chain = open_chain(RunConfig(**options, output=str(tmp_path / precision), precision=precision))
        arguments = chain.training_arguments(chain.plan.baseline, None, tmp_path)
        assert arguments.mixed_precision == mixed, precision


def test_of_equal_steps_the_one_with_the_lower_loss_is_kept() -> None:
    """Guards few development rows: macro-F1 is 1 after six steps, and a hardly trained model would be chosen."""
    labels = np.array([0, 1])
    early, late, wrong = (
        np.array([[0.1, 0.0], [0.0, 0.1]]),
        np.array([[4.0, 0.0], [0.0, 4.0]]),
        np.array([[9.0, 0.0], [1.0, 0.9]]),
    )
    choices = [checkpoint_metrics(logits, labels)["choice"] for logits in (early, late, wrong)]
    assert choices[1] > choices[0] > choices[2]
