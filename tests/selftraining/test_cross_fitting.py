"""Cross-fitting: chains that never mix, what they say together, and the student that is chosen."""

import csv
import json
import weakref
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from runs import AtTick, killed
from safetensors.numpy import load_file

from sstext.config.run_config import RunConfig
from sstext.errors import UserError
from sstext.evaluation.calibration import softmax
from sstext.inference.classifier import Classifier
from sstext.methods.method import PROVEN, UNPROVEN, Belief
from sstext.progress import Reporter
from sstext.pseudolabels.alignment import CorpusScores, align
from sstext.run.opening import open_chain
from sstext.run.train import open_run, self_train, train
from sstext.selftraining import chain as chain_module
from sstext.selftraining import choice, loop
from sstext.selftraining.cross_fitting import cross_fitted, out_of_fold
from sstext.selftraining.record import StageRecord
from sstext.selftraining.teachers import Teachers, average_to_disk
from sstext.selftraining.verdict import Gain, Verdict

Quick = Callable[..., RunConfig]
BASELINE = Verdict(None, None)
WITHOUT_TEXTS = "no text was selected for the final model, which is trained on the labels alone"
#: Folders of the stages of the chains of these runs, by position.
FOLDERS = ("baseline", "round_1", "round_2")


@pytest.fixture(scope="module")
def task(tiny_files: Any) -> Any:
    return tiny_files


@pytest.fixture(scope="module")
def quick(tiny_run: Quick) -> Quick:
    """`quick(output, **changes)`: options of a run with two folds and two short rounds."""
    return partial(tiny_run, folds=2, rounds=2, keep=[0.3, 0.5, 0.7], prior="uniform")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run") / "out"


@pytest.fixture(scope="module")
def results(quick: Quick, out: Path) -> dict[str, Any]:
    """What a run came to in which no round is refused and the last one is chosen; its folder is `out`. Read only."""
    gains, choose = iter([0.1, 0.2]), choice.choose

    def judged(rounds: Any, prior: Any, belief: Belief, first_name: str, gain_of_student: float) -> list[Verdict]:
        assert belief == UNPROVEN, "the method is not auto: it has to earn its rounds"
        assert (first_name, gain_of_student) == ("baseline", 0.0)
        return [BASELINE, Verdict(Gain(0.3, 0.1, next(gains)), None)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "judge", judged)
        # So that the second round is chosen, too.
        patch.setattr(choice, "choose", lambda records, held_out, belief: choose(records, held_out, PROVEN))
        return train(quick(out))


def texts_of(rows: Any) -> list[tuple[int, ...]]:
    return sorted(tuple(ids) for ids in rows["input_ids"])


# Chains


def test_every_label_is_held_out_once_and_learned_from_by_the_others(quick: Quick, tmp_path: Path) -> None:
    run = open_run(quick(tmp_path / "out", folds=3))
    everything = texts_of(run.whole.tokens.labeled)
    assert sorted(ids for chain in run.chains for ids in texts_of(chain.held_out)) == everything
    for chain in run.chains:
        assert sorted(texts_of(chain.held_out) + texts_of(chain.tokens.labeled)) == everything
        assert chain.tokens.corpus is run.whole.tokens.corpus
    assert len({chain.students.seed(run.plan.stages[1]) for chain in [run.whole, *run.chains]}) == 4
    assert run.cross_fitted


def test_a_chain_is_a_run_without_its_fold(quick: Quick, out: Path, results: Any, tmp_path: Path, task: Any) -> None:
    """To the bit, in every round: whatever the rows of its fold are labeled with, its students never hear of it."""
    run = open_run(quick(tmp_path / "split"))
    chain = run.chains[0]
    with Path(task.labeled).open(newline="") as file:
        rows = list(csv.DictReader(file))
    encode = chain.tokenizer
    own = {tuple(ids) for ids in chain.tokens.labeled["input_ids"]}
    kept = [row for row in rows if tuple(encode(row["text"])["input_ids"]) in own]
    assert len(kept) == len(chain.tokens.labeled) == 6
    alone = quick(
        tmp_path / "alone",
        labeled=None,
        folds=0,
        seed=chain.students.seed(run.plan.baseline),
        max_length=run.whole.tokens.max_length,
    )
    for _ in self_train(alone, labeled=Dataset.from_list(kept)):
        pass
    for folder in FOLDERS:
        one = load_file(tmp_path / "alone" / folder / "model" / "model.safetensors")
        other = load_file(out / "chain_1" / folder / "model" / "model.safetensors")
        assert all((one[name] == other[name]).all() for name in one), folder


def shuffled_task(task: Any, rows: int = 48) -> tuple[Dataset, Dataset]:
    """Labeled texts whose labels say nothing, and a pool that holds the same words (equal texts would be left out of it)."""
    pool = [json.loads(line)["text"] for line in Path(task.unlabeled).read_text().splitlines()]
    labels = np.random.default_rng(0).permutation(np.arange(rows) % 3)
    labeled = Dataset.from_dict({"text": pool[:rows], "label": [task.classes[number] for number in labels]})
    return labeled, Dataset.from_dict({"text": [text.replace(" ", "  ") for text in pool]})


@pytest.mark.slow
def test_shuffled_labels_stay_at_chance_after_three_rounds(quick: Quick, task: Any, tmp_path: Path) -> None:
    """The canary: students learn such labels by heart and hand them on through the pool. A chain that learned from another
    one would know the labels of its own fold; that it would is shown by letting the chains share their labels."""
    labeled, pool = shuffled_task(task)
    options = {"labeled": None, "unlabeled": None, "rounds": 3, "steps": 150, "round_steps": 60, "folds": 3,
               "keep": [1.0], "edits": {"mask": 0.0}, "dropout": 0.0}  # fmt: skip
    data = {"labeled": labeled, "unlabeled": pool}
    honest = [record.out_of_fold["accuracy"] for record in self_train(quick(tmp_path / "honest", **options), **data)]
    three_errors = 3 * (1 / 3 * 2 / 3 / 48) ** 0.5
    assert max(honest) < 1 / 3 + three_errors

    run = open_run(quick(tmp_path / "mixed", **options), **data)
    baseline, first = run.plan.stages[:2]
    for chain in run.chains:
        chain.fit(baseline)
    scores = [chain.students.scores(baseline) for chain in run.chains]
    mean = average_to_disk(Teachers(scores, [1 / len(scores)] * len(scores)), tmp_path / "averaged.npy")
    for chain in run.chains:
        chain.select_from(first, CorpusScores(mean), keep=first.keep)
        chain.fit(first)
    assert out_of_fold(run.chains, first).metrics()["accuracy"] > 1 / 3 + three_errors, "the canary would not sing"


def test_pseudo_labels_of_one_chain_are_in_memory_at_a_time(
    quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards large corpora: all chains held those of a stage until it ended, and those of the next one were made meanwhile."""
    made, together = list[weakref.ref](), list[int]()

    def counted(name: str) -> None:
        whole = getattr(chain_module, name)

        def call(*given: Any, **options: Any) -> Any:
            together.append(sum(one() is not None for one in made))
            made.append(weakref.ref(found := whole(*given, **options)))
            return found

        monkeypatch.setattr(chain_module, name, call)

    counted("select")
    counted("read_pseudo_labels")
    list(self_train(quick(tmp_path / "out")))
    assert len(made) >= 2 * 2 * 4  # two chains and rounds: selected, trained on, compared, described
    assert max(together) == 0


# What they say together


def test_a_record_holds_what_the_chains_found(out: Path, results: Any) -> None:
    records = [StageRecord.read(json.loads(line)) for line in (out / "rounds.jsonl").read_text().splitlines()]
    assert [asdict(record) for record in records] == results["rounds"]
    assert [record.stage for record in records] == ["baseline", "round 1", "round 2"]
    assert [record.admitted for record in records] == [0, 18, 30]
    assert [record.steps for record in records] == [16, 12, 12]
    for record in records:
        assert set(record.out_of_fold) == {"log_loss", "accuracy", "macro_f1"}
        assert sum(record.class_shares.values()) == pytest.approx(1)
        assert 0 < record.chain_agreement <= 1
    assert records[0].estimated_precision is None
    for index in (1, 2):  # by hand: the mean calibrated probability by each chain's teacher
        chosen = []
        for k in (1, 2):
            kept = pq.read_table(out / f"chain_{k}" / f"round_{index}" / "pseudo_labels.parquet").to_pydict()
            scores = np.load(out / f"chain_{k}" / FOLDERS[index - 1] / "scores.npy").astype(np.float64)
            probs = softmax(scores, records[index - 1].temperature)
            numbers = ["account", "delivery", "refund"]
            chosen.append(
                np.mean(
                    [probs[p, numbers.index(label)] for p, label in zip(kept["position"], kept["label"], strict=True)]
                )
            )
        assert records[index].estimated_precision == pytest.approx(np.mean(chosen), abs=1e-6)
    assert records[0].gain is None
    assert records[2].gain == {"observed": 0.3, "standard_error": 0.1, "expected": 0.2}


def test_labels_are_averaged_over_calibrated_chains(out: Path, results: Any) -> None:
    """Against the mean by hand; guards against a mean of logits, and against a temperature that is forgotten."""
    temperature = results["rounds"][2]["temperature"]
    logits = [np.load(out / f"chain_{k}" / "round_2" / "scores.npy") for k in (1, 2)]
    expected = (softmax(logits[0] / temperature) + softmax(logits[1] / temperature)) / 2
    found = np.load(out / "all_labels" / "averaged.npy")
    np.testing.assert_allclose(np.exp(found), expected, atol=1e-6)
    assert np.abs(softmax((logits[0] + logits[1]) / 2) - expected).max() > 1e-3


def test_the_final_model_learns_from_all_labels_and_the_next_share(out: Path, results: Any) -> None:
    """The rounds kept .3 and .5 of 60 texts, the final model .7. It is the chosen model, with its logits ÷ T."""
    kept = pq.read_table(out / "all_labels" / "final" / "pseudo_labels.parquet")
    assert len(kept) == 42
    trained, chosen_weights = (
        load_file(folder / "model.safetensors") for folder in (out / "all_labels/final/model", out / "model")
    )
    temperature = results["chosen"]["temperature"]
    assert temperature not in (1, results["rounds"][2]["temperature"]), "what it learned from was calibrated"
    np.testing.assert_allclose(
        chosen_weights["classifier.weight"], trained["classifier.weight"] / temperature, rtol=1e-6
    )
    chosen = results["chosen"]
    assert (chosen["round"], chosen["stage"], chosen["model"]) == (2, "round 2", "final")


def test_the_final_models_temperature_is_that_of_its_labels(out: Path, results: Any, task: Any) -> None:
    """Labels as they are learned, aligned; against a grid by hand. Guards the chains' temperature on a student that learned
    from labels that have it already."""
    texts = [json.loads(line)["text"] for line in task.unlabeled.read_text().splitlines()]
    said = Classifier.from_pretrained(out / "all_labels" / "final" / "model").logits(texts).astype(np.float64)
    labels = align(np.exp(np.load(out / "all_labels" / "averaged.npy").astype(np.float64)), np.full(3, 1 / 3))
    grid = np.exp(np.linspace(-2, 2, 2001))
    losses = [-(labels * np.log(softmax(said, temperature))).sum(1).mean() for temperature in grid]
    assert results["chosen"]["temperature"] == pytest.approx(grid[int(np.argmin(losses))], rel=3e-3)


def test_labels_are_the_weighted_mean_of_probabilities(tmp_path: Path) -> None:
    """By hand. Guards a mean of logits, weights that are not used, and a temperature that is not."""

    def scores(*probabilities: float, temperature: float = 1.0) -> CorpusScores:
        return CorpusScores(np.log([probabilities]), temperature)

    both = Teachers([scores(0.6, 0.4), scores(0.2, 0.8)], [0.75, 0.25])
    found = average_to_disk(both, tmp_path / "averaged.npy")
    np.testing.assert_allclose(np.exp(found), [[0.5, 0.5]], rtol=1e-6)
    tempered = Teachers([scores(0.6, 0.4), scores(1.0, 4.0, temperature=0.5)], [0.5, 0.5])  # 1² : 4²
    found = average_to_disk(tempered, tmp_path / "tempered.npy")
    np.testing.assert_allclose(np.exp(found), [[0.3 + 1 / 34, 0.2 + 8 / 17]], rtol=1e-6)


def test_a_refused_round_is_not_chosen(quick: Quick, out: Path, results: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """Round 1 is refused: no further one is trained, and the baseline with all labels is chosen, calibrated."""
    refusal = Verdict(Gain(-0.5, 0.1, -0.3), "harm is more likely than gain")
    monkeypatch.setattr(loop, "judge", lambda *_: [BASELINE, refusal])
    refused = train(quick(tmp_path / "out"))
    assert refused["chosen"] == {
        "round": 0, "stage": "baseline", "model": "baseline", "judged": 0,
        "why": "plain fine-tuning on the labels; round 1 was refused: harm is more likely than gain",
        "warnings": [],
        "temperature": refused["rounds"][0]["temperature"],
        "calibrated_on": "held-out predictions of the labeled rows",
        "folded": True,
        "shift": None,
    }  # fmt: skip
    assert [record["stopped_because"] for record in refused["rounds"]] == [None, "harm is more likely than gain"]
    trained = load_file(tmp_path / "out" / "all_labels" / "baseline" / "model" / "model.safetensors")
    chosen_weights = load_file(tmp_path / "out" / "model" / "model.safetensors")
    temperature = refused["rounds"][0]["temperature"]
    np.testing.assert_allclose(
        chosen_weights["classifier.weight"], trained["classifier.weight"] / temperature, rtol=1e-6
    )
    assert refused["test"]["self_trained"] == refused["test"]["supervised"]


def test_a_final_model_without_texts_has_the_temperature_of_its_own_stage(
    quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Averaged labels are less sure than any chain's: none may join. Guards figures, and weights, of another temperature."""
    monkeypatch.setattr(choice, "choose", lambda *_: (1, "it was told to"))
    monkeypatch.setattr("sstext.selftraining.final_model.average_to_disk", lambda *_: np.log(np.full((60, 3), 1 / 3)))
    found = train(quick(tmp_path / "out", method_args={"min_confidence": 0.35}, rounds=1))
    assert found["chosen"]["warnings"] == [WITHOUT_TEXTS]
    assert (found["chosen"]["stage"], found["chosen"]["model"]) == ("round 1", "baseline")
    assert found["chosen"]["temperature"] == found["rounds"][0]["temperature"] != found["rounds"][1]["temperature"]
    assert found["test"]["self_trained"] == found["test"]["supervised"]


def test_labels_alone_are_calibrated_too(quick: Quick, tmp_path: Path) -> None:
    """Without any unlabeled text, folds still say how sure to be."""
    found = train(quick(tmp_path / "out", method="supervised", unlabeled=None, rounds=0))
    assert [record["temperature"] for record in found["rounds"]] != [1.0]
    assert found["chosen"]["why"] == "plain fine-tuning on the labels"


@pytest.mark.slow
def test_an_interrupted_run_ends_in_the_same_bits(quick: Quick, tmp_path: Path, monkeypatch: Any) -> None:
    """Killed three times: while a later chain trains, while it scores, and while the final model trains."""
    gain = Verdict(Gain(0.3, 0.1, 0.2), None)
    monkeypatch.setattr(loop, "judge", lambda *_: [BASELINE, gain])
    config = quick(tmp_path / "out", rounds=1, training_args={"save_steps": 2})
    for phase, tick in (
        ("chain 2, round 1: training", 3), ("chain 2, round 1: scoring", 1), ("final: training", 3),
    ):  # fmt: skip
        reporter = AtTick(phase, tick, killed)
        with pytest.raises(KeyboardInterrupt):
            train(config, reporter=reporter)
        assert reporter.ticks[phase] == tick
    train(config)
    train(quick(tmp_path / "whole", rounds=1, training_args={"save_steps": 2}))
    for name in ("model/model.safetensors", "all_labels/averaged.npy", "all_labels/final/pseudo_labels.parquet"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_final_model_that_nothing_is_sure_enough_for_has_labels_alone(
    quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chains select by their own confidence, the final model by that of their mean, which is less sure: guards against a
    crash after everything has been paid."""
    monkeypatch.setattr(loop, "judge", lambda *_: [BASELINE, Verdict(Gain(0.3, 0.1, 0.2), None)])
    monkeypatch.setattr("sstext.selftraining.evidence.OutOfFold.temperature", lambda self: 15.0)
    found = train(quick(tmp_path / "out", rounds=1, method_args={"min_confidence": 0.4}))
    assert found["chosen"]["warnings"] == [WITHOUT_TEXTS]
    assert found["chosen"]["calibrated_on"] == "held-out predictions of the labeled rows"
    assert not (tmp_path / "out" / "all_labels" / "final" / "model").exists()
    assert found["test"]["self_trained"] == found["test"]["supervised"]


def test_a_method_inside_a_step_is_compared_with_plain_fine_tuning(quick: Quick, tmp_path: Path) -> None:
    """The baseline is plain, to the bit that of the method supervised; the method has the next stage, with the settings of a
    first training."""
    run = open_run(quick(tmp_path / "fixmatch", method="fixmatch", method_args={"threshold": 0.4}, rounds=0))
    assert [stage.name for stage in run.plan.stages] == ["baseline", "start"]
    baseline, start = run.plan.stages
    assert baseline.objective().plain
    assert start.objective().weight.threshold == 0.4
    plain, own = (run.chains[0].training_arguments(stage, None, tmp_path / "c") for stage in run.plan.stages)
    assert (plain.max_steps, plain.learning_rate) == (own.max_steps, own.learning_rate) == (8, 5e-3)
    other = open_run(quick(tmp_path / "supervised", method="supervised", rounds=0))
    for chain in (run.chains[0], other.chains[0]):
        chain.fit(chain.plan.baseline)
    one, two = (
        load_file(tmp_path / name / "chain_1/baseline/model/model.safetensors") for name in ("fixmatch", "supervised")
    )
    assert all((one[name] == two[name]).all() for name in one)


def test_the_expected_precision_is_that_of_the_chains_on_the_corpus(quick: Quick, out: Path, results: Any) -> None:
    """The curve in the model's config, by hand from the scores of the chosen round at its temperature."""
    curve = json.loads((out / "model" / "config.json").read_text())["sstext"]["precision_curve"]
    temperature = results["rounds"][2]["temperature"]
    scores = np.concatenate([np.load(out / f"chain_{k}" / "round_2" / "scores.npy") for k in (1, 2)])
    confidence = np.sort(softmax(scores.astype(np.float64), temperature).max(-1))[::-1]
    assert curve[-1] == pytest.approx([confidence[-1], confidence.mean(), 1.0], abs=1e-5)
    assert [point[1] for point in curve] == sorted((point[1] for point in curve), reverse=True)


def test_a_collapse_is_said_where_nothing_else_can_tell(quick: Quick, tmp_path: Path, monkeypatch: Any) -> None:
    """Without folds and development rows the last round is chosen, whatever it has become: the end of the run says so."""
    fine = train(quick(tmp_path / "fine", folds=0, rounds=1))
    assert fine["chosen"]["warnings"] == []
    one_class = np.tile([3.0, 0.0, 0.0], (60, 1))
    assert fine["unusable"] is None
    monkeypatch.setattr("sstext.run.usable.score", lambda model, rows, *_, **__: one_class[: len(rows)])
    found = train(quick(tmp_path / "collapsed", folds=0, rounds=1))
    collapsed = (
        "this model may be useless: its predictions have collapsed to few classes (effective number 1.0, expected 3.0)"
    )
    assert found["chosen"]["warnings"] == [collapsed]
    card = (tmp_path / "collapsed" / "model" / "README.md").read_text()
    assert 0 < card.index(f"**Warning: {collapsed}.**") < card.index("Made with")
    assert (
        found["unusable"] == "it predicts 'account' for all 12 labeled texts that it was tried on, which have 3 classes"
    )


# What is said, and refused


def test_the_price_is_said_before_it_is_paid(quick: Quick, tmp_path: Path) -> None:
    notes: list[str] = []

    class Noting(Reporter):
        def note(self, message: str) -> None:
            notes.append(message)

    train(quick(tmp_path / "out", rounds=1, steps=2, round_steps=2), reporter=Noting())
    said = next(i for i, note in enumerate(notes) if note.startswith("chains: 2 chains and a final model take about"))
    assert said < next(i for i, note in enumerate(notes) if note.startswith("baseline:"))


@pytest.mark.parametrize(("changes", "message"), [
    ({"folds": 1}, "folds: expected at least 2"),
    ({"folds": 13}, "folds: expected at most 12, .* found 13"),
    ({"dev": "dev.csv"}, "folds: development rows are already used"),
    ({"method": "ust"}, "folds: ust cannot average the pseudo-labels of several chains; give folds=0"),
])  # fmt: skip
def test_folds_that_cannot_be_leave_nothing_behind(
    quick: Quick, task: Any, tmp_path: Path, changes: Any, message: str
) -> None:
    if "dev" in changes:
        changes = {"dev": str(task.dev)}
    with pytest.raises(UserError, match=message):
        open_run(quick(tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()


def test_auto_has_folds_where_labels_are_enough(quick: Quick, tmp_path: Path, task: Any) -> None:
    """Six texts that are not alone in their class; copies count once, and development rows take the folds' place."""
    texts = [f"money return {word}" for word in ("late", "now", "again", "please", "today", "week")]
    for rows, number in ((6, 3), (5, 0), (4, 0)):
        given = [{"text": text, "label": ["refund", "account"][i % 2]} for i, text in enumerate(texts[:rows])]
        given += given[:2]  # copies
        config = quick(tmp_path / str(rows), labeled=None, method="auto", folds=None, test=None)
        run = open_run(config, labeled=Dataset.from_list(given))
        assert len(run.chains) == max(1, number), rows
        assert run.cross_fitted == bool(number)
    assert not open_run(quick(tmp_path / "dev", method="auto", folds=None, dev=str(task.dev))).cross_fitted


def test_a_budget_is_for_whole_runs(quick: Quick, tmp_path: Path) -> None:
    """`self_train` would not hear of it."""
    with pytest.raises(UserError, match="budget: only a whole run can be cut"):
        next(self_train(quick(tmp_path / "out", budget="1m")))


def test_the_prior_is_decided_once_for_all_chains(quick: Quick, tmp_path: Path, task: Any) -> None:
    """3 and 5 labels are not balanced, though some chain has 2 and 3: guards against chains with priors of different kinds."""
    with Path(task.labeled).open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["label"] != "delivery"]
    given = [row for row in rows if row["label"] == "refund"][:3] + [row for row in rows if row["label"] == "account"]
    given.append({"text": "login password verify again", "label": "account"})
    run = open_run(
        quick(tmp_path / "out", labeled=None, folds=3, prior="auto", test=None), labeled=Dataset.from_list(given)
    )
    assert {chain.shares.source for chain in [run.whole, *run.chains]} == {"both"}
    for chain in run.chains:
        labels = np.asarray(chain.tokens.labeled["labels"][:])
        np.testing.assert_allclose(chain.shares.prior, np.bincount(labels) / len(labels))


def test_chains_of_a_class_with_one_label_keep_it(quick: Quick, tmp_path: Path, task: Any) -> None:
    """It is held out by nobody: a chain without it would have a class that it cannot learn."""
    with Path(task.labeled).open(newline="") as file:
        rows = list(csv.DictReader(file))
    thin = [row for i, row in enumerate(rows) if row["label"] != "refund" or i == 8]
    whole = open_chain(quick(tmp_path / "out", labeled=None), labeled=Dataset.from_list(thin))
    chains = cross_fitted(whole, 2)
    assert [sum(np.asarray(chain.tokens.labeled["labels"]) == 2) for chain in chains] == [1, 1]
    assert sum(len(chain.held_out) for chain in chains) == 8
