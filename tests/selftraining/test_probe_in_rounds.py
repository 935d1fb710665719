"""auto: a probe labels beside the head of a start on labels alone, and says how sure a student may be."""

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from sstext.config.run_config import RunConfig
from sstext.data.order import random_rows
from sstext.evaluation.calibration import USUAL_TEMPERATURE, fit_temperature, softmax
from sstext.inference.scoring import score
from sstext.methods.method import PROVEN, Belief, Stage
from sstext.pseudolabels.alignment import CorpusScores, align
from sstext.pseudolabels.class_shares import ClassShares, distrust, estimated_prior, usual_prediction
from sstext.pseudolabels.probe import WithProbe, with_probe
from sstext.run.train import open_run, train
from sstext.selftraining import choice, loop
from sstext.selftraining.chain import Chain
from sstext.selftraining.cross_fitting import Run, corpus_weights, held_out_of_teacher, knowing_usual, out_of_fold
from sstext.selftraining.student_store import PROBED_ROWS
from sstext.selftraining.verdict import Gain, Verdict, expected_gain

Quick = Callable[..., RunConfig]
BASELINE = Verdict(None, None)


@pytest.fixture(scope="module")
def quick(tiny_run: Quick) -> Quick:
    """`quick(output, **changes)`: options of a run of `auto` with two folds, without the names of the classes."""
    return partial(tiny_run, method="auto", folds=2, prior="uniform", descriptions="none")


@pytest.fixture(scope="module")
def estimating(quick: Quick, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], Run]:
    """Folder, results and chains of a run of auto with two rounds for its chains. It estimates its class shares, and
    chooses the first round whatever it is worth; results["held_out"] is what the choice was made by. Read only."""
    config, seen = quick(tmp_path_factory.mktemp("estimating") / "out", rounds=2, prior="auto"), []

    def chosen(rounds: Any, held_out: Any, belief: Belief) -> tuple[int, str]:
        seen.extend(held_out)
        return 2, choose(rounds, held_out, belief)[1]

    choose = choice.choose
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice, "choose", chosen)
        found = train(config)
    return Path(config.output), found | {"held_out": seen}, open_run(config)


def logits(chain: Chain, stage: Stage) -> np.ndarray:
    """What the student of a stage says of the corpus."""
    return np.asarray(chain.students.scores(stage).logits, dtype=np.float64)


def beside_head(chain: Chain, stage: Stage) -> WithProbe:
    """Head and probe of a chain's student, made here from all that they may know: its own labels, and texts."""
    corpus = chain.tokens.corpus
    some = corpus.select(random_rows(len(corpus), min(len(corpus), PROBED_ROWS), chain.config.seed))
    return with_probe(chain.students.load(stage), chain.tokens.labeled, some, chain.tokenizer)


def test_a_probe_is_judged_by_labels_that_it_was_not_fitted_on(estimating: tuple[Path, dict[str, Any], Run]) -> None:
    """auto's final model: labels of head and probe get the temperature that out-of-fold rows ask for. Against head and probe
    made here; guards one fitted on the rows that it is asked about."""
    out, _, run = estimating
    _, start, last, _ = run.plan.stages
    both = out_of_fold(run.chains, start, probe=True)
    for chain in run.chains:
        own = beside_head(chain, start)
        expected = score(own, chain.held_out, chain.tokenizer)
        np.testing.assert_allclose(both.logits[both.folds == chain.number], expected, atol=1e-6)
    whole = softmax(logits(run.whole, start), both.temperature())
    temperature = out_of_fold(run.chains, last, class_weights=corpus_weights(run.chains, last)).temperature()
    chains = np.mean([softmax(logits(one, last), temperature) for one in run.chains], axis=0)
    assert both.temperature() not in (1, temperature), "canary"
    np.testing.assert_allclose(np.exp(np.load(out / "all_labels" / "averaged.npy")), (whole + chains) / 2, atol=1e-5)


@pytest.mark.slow
def test_a_start_that_is_refused_may_still_teach_and_one_that_collapsed_may_not(
    quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """auto's start sees labels alone: a little worse than a regression, its head and probe still label the corpus."""
    for collapsed, rounds in ((False, 3), (True, 2)):
        refusal = Verdict(Gain(-0.1, 0.1, -0.05), "worse", collapsed)
        beliefs: list[Belief] = []

        def judged(
            rounds: Any,
            prior: Any,
            belief: Belief,
            first_name: str,
            gain_of_student: float,
            refusal: Verdict = refusal,
            beliefs: list[Belief] = beliefs,
        ) -> list[Verdict]:
            assert (first_name, gain_of_student) == ("regression", 0.0), "rounds can be the model themselves"
            beliefs.append(belief)
            return [BASELINE, refusal]

        monkeypatch.setattr(loop, "judge", judged)
        found = train(quick(tmp_path / str(collapsed), rounds=2, steps=2, round_steps=2))
        assert set(beliefs) == {PROVEN}, "what rounds of auto bring has been measured"
        assert len(found["rounds"]) == rounds
        assert found["rounds"][-1]["stopped_because"] == "worse"
        assert found["chosen"]["round"] == 0


def test_auto_labels_with_head_and_probe_where_labels_alone_were_seen(
    estimating: tuple[Path, dict[str, Any], Run],
) -> None:
    """Guards the teacher of the first pseudo-labels, and against a probe that stays beside a head that has learned."""
    chain = estimating[2].chains[0]
    assert [stage.with_probe for stage in chain.plan.stages] == [False, True, False, False]
    start = chain.plan.named("start")
    expected = score(beside_head(chain, start), chain.tokens.corpus, chain.tokenizer)
    np.testing.assert_allclose(logits(chain, start), expected, atol=1e-5)
    head_alone = score(chain.students.load(start), chain.tokens.corpus, chain.tokenizer)
    assert np.abs(logits(chain, start) - head_alone).max() > 0.01


def test_the_first_teacher_tells_the_class_shares_once_and_for_all(
    estimating: tuple[Path, dict[str, Any], Run], quick: Quick, tmp_path: Path
) -> None:
    """Later students have learned from labels that the shares are in already: an EM on their answers would count them twice."""
    chain = estimating[2].whole
    start = chain.plan.named("start")
    expected = estimated_prior(chain.shares.prior, softmax(logits(chain, start)))
    assert np.abs(expected - chain.shares.prior).max() > 0.01, "canary: predictions are not balanced"
    for later in (logits(chain, start), np.roll(logits(chain, start), 1, axis=1)):
        np.testing.assert_allclose(chain.class_shares(CorpusScores(later, 3.0)), expected, atol=1e-9)
    skewed = ClassShares.resolve("auto", np.repeat([0, 1, 2], [6, 4, 2]), chain.texts.classes)
    regression = softmax(chain.students.sample_logits(chain.plan.baseline)).mean(0)  # it alone weighs rare classes
    assert np.abs(regression - softmax(logits(chain, start)).mean(0)).max() > 0.01
    expected = distrust(12) * regression + (1 - distrust(12)) * np.array([6, 4, 2]) / 12
    for later in (logits(chain, start), np.roll(logits(chain, start), 1, axis=1)):
        found = replace(chain, shares=skewed).class_shares(CorpusScores(later, 3.0))
        np.testing.assert_allclose(found, expected, atol=1e-6, err_msg="labels that are not balanced")
    fixed = open_run(quick(tmp_path / "fixed", prior="uniform", folds=0)).whole
    np.testing.assert_array_equal(fixed.class_shares(CorpusScores(logits(chain, start))), fixed.shares.prior)


def test_held_out_rows_stand_for_the_corpus_as_soon_as_its_shares_are_known(
    estimating: tuple[Path, dict[str, Any], Run], quick: Quick, tmp_path: Path
) -> None:
    """Shares of the chains' first teachers ÷ shares of the labels; before there is a teacher, every row counts once.

    The chains know what the teachers predict on average for held-out rows: their own preferences are not those of the corpus.
    """

    def before_any(name: str, **options: Any) -> np.ndarray | None:
        """Weights of a run in which nothing has been trained, after its baseline."""
        run = open_run(quick(tmp_path / name, **options))
        return corpus_weights(run.chains, run.plan.baseline)

    assert before_any("out", prior="auto") is None
    chains, (baseline, start, *_) = estimating[2].chains, estimating[2].plan.stages
    assert corpus_weights(chains, baseline) is None
    found = corpus_weights(chains, start)
    known = knowing_usual(chains, held_out_of_teacher(chains))
    shares = np.mean([chain.class_shares(CorpusScores(logits(chain, start))) for chain in known], axis=0)
    held_out = out_of_fold(chains, start, probe=True)
    usual = usual_prediction(np.full(3, 1 / 3), softmax(held_out.logits), held_out.labels)
    assert all(np.array_equal(chain.shares.usual, usual) for chain in known)
    assert (
        np.abs(shares - np.mean([chain.class_shares(chain.students.scores(start)) for chain in chains], 0)).max() > 1e-4
    )
    np.testing.assert_allclose(found, shares * 3, atol=1e-9, err_msg="four labels of each of three classes")
    assert found is not None
    assert np.abs(found - 1).max() > 0.01, "canary"
    skewed = ClassShares.resolve("auto", np.repeat([0, 1, 2], [6, 4, 2]), chains[0].texts.classes)
    unbalanced = [replace(chain, shares=skewed) for chain in chains]
    assert corpus_weights(unbalanced, start) is None, "labels that are not balanced count once, as a sample would"
    assert knowing_usual(unbalanced, held_out_of_teacher(chains)) == unbalanced
    told = {"account": 0.5, "delivery": 0.3, "refund": 0.2}
    np.testing.assert_allclose(before_any("told", prior=told), np.array([1.5, 0.9, 0.6]))
    assert before_any("labeled", prior="labeled") is None
    assert before_any("unaligned", prior="none") is None
    assert before_any("by_another_rule", method="self-training", prior=told) is None, "it does not follow shares"


def test_the_gains_on_record_are_those_that_the_choice_is_made_by(
    estimating: tuple[Path, dict[str, Any], Run],
) -> None:
    """A run of auto that estimates its class shares: guards rounds that are judged by other weights than the choice."""
    _, found, run = estimating
    last = found["rounds"][-1]["index"]
    assert last == 3
    for index in (1, 2, 3):
        baseline, stage = run.plan.baseline, run.plan.stages[index]
        weights = corpus_weights(run.chains, stage)
        np.testing.assert_array_equal(weights, corpus_weights(run.chains, run.plan.stages[last]))
        before, later = (out_of_fold(run.chains, of, class_weights=weights) for of in (baseline, stage))
        gain = expected_gain(before.losses(), later.losses(), PROVEN.over_baseline, PROVEN.spread, later.weights())
        assert found["rounds"][index]["gain"] == pytest.approx(asdict(gain))
        assert found["rounds"][index]["temperature"] == later.temperature()
        np.testing.assert_array_equal(found["held_out"][index].weights(), later.weights())
    assert "weighted by the class shares of the corpus" in found["chosen"]["why"]


def test_margins_are_those_of_all_rounds_of_the_chain(quick: Quick, tmp_path: Path) -> None:
    """margin-history, round 2: by hand from the scores on disk. The first teacher labels with its probe, and is tempered then;
    the next one has the temperature that its probe tells. Guards a history of other temperatures, and flipped rows."""
    config = quick(tmp_path / "out", method="margin-history", folds=0, rounds=2, keep=[0.5, 1.0])
    train(config)
    chain = open_run(config).whole
    baseline, first, second = chain.plan.stages
    assert (baseline.with_probe, first.with_probe) == (True, False)
    shares, tempered = chain.class_shares(chain.students.scores(first)), chain.students.fitted(first).temperature
    assert tempered != 1, "canary"
    rounds = []
    for folder, temperature in (("baseline", 1.0), ("round_1", tempered)):
        said = np.load(tmp_path / "out" / folder / "scores.npy").astype(np.float64)
        rounds.append(align(softmax(said, temperature), shares))
    kept = chain.selected(second)
    assert kept is not None
    assert len(kept) > 0
    label = rounds[1].argmax(-1)
    assert (rounds[0].argmax(-1) == label)[kept.rows].all()
    np.testing.assert_allclose(kept.weight, rounds[1].max(-1)[kept.rows], atol=1e-5)
    clear = np.mean([np.sort(one, -1)[:, -1] - np.sort(one, -1)[:, -2] for one in rounds], axis=0)
    steady = np.flatnonzero(rounds[0].argmax(-1) == label)
    assert 0 < len(steady) < len(label), "no label has flipped: nothing is guarded"
    for number in range(3):
        own = kept.rows[kept.labels == number]
        left = np.setdiff1d(steady[label[steady] == number], own)
        assert len(left) == 0 or clear[own].min() >= clear[left].max() - 1e-6


@pytest.mark.slow
def test_margins_of_the_final_model_are_those_of_all_chains(quick: Quick, tmp_path: Path, monkeypatch: Any) -> None:
    """With folds, the chosen model: guards a method that forgets its history there, that of labels in the mean
    of the chains."""
    monkeypatch.setattr(choice, "choose", lambda *_: (1, "it was told to"))
    config = quick(tmp_path / "out", method="margin-history", rounds=1, keep=[0.5, 1.0], prior="auto")
    train(config)
    run = open_run(config)
    averaged = np.load(tmp_path / "out" / "all_labels" / "averaged.npy")
    (last,) = knowing_usual([run.whole], held_out_of_teacher(run.chains))
    shares = last.class_shares(CorpusScores(averaged))
    assert np.abs(shares - 1 / 3).max() > 0.01, "canary: aligned to other shares, rows would flip for that alone"
    first = np.mean([align(softmax(logits(chain, run.plan.baseline)), shares) for chain in run.chains], axis=0)
    label = align(np.exp(averaged.astype(np.float64)), shares).argmax(-1)
    assert run.plan.final is not None
    kept = run.whole.selected(run.plan.final)
    assert kept is not None
    steady = np.flatnonzero(first.argmax(-1) == label)
    assert 0 < len(kept) <= len(steady) < len(label)
    assert set(kept.rows) <= set(steady)


@pytest.mark.parametrize("given", ["nothing", "development rows"])
def test_a_probe_needs_a_corpus_and_gives_way_to_development_rows(
    quick: Quick, tiny_files: Any, tmp_path: Path, given: str
) -> None:
    """Guards `auto` on labels alone, where there is nothing to agree on, and a belief in the place of what was measured."""
    if given == "nothing":
        found = train(quick(tmp_path / "out", folds=0, rounds=0, unlabeled=None))
        assert {record["temperature"] for record in found["rounds"]} == {1.0}
        assert found["chosen"]["calibrated_on"] is None
        return
    config = quick(tmp_path / "out", folds=None, dev=str(tiny_files.dev))
    found = train(config)
    assert found["chosen"]["calibrated_on"] == "the development rows"
    run = open_run(config)
    labels = np.asarray(run.whole.tokens.dev["labels"][:])
    said = run.whole.students.score_development_rows(run.plan.baseline)
    right = (said.argmax(-1) == labels).all()
    assert found["rounds"][0]["temperature"] == (1.0 if right else pytest.approx(fit_temperature(said, labels)))


def test_without_folds_the_probe_says_how_sure_the_model_may_be(quick: Quick, tmp_path: Path) -> None:
    """The temperature of every round, and the one in the weights of the chosen model; guards against a start that is far too
    unsure for want of anything that would say so."""
    found = train(quick(tmp_path / "out", folds=0))
    run = open_run(quick(tmp_path / "out", folds=0))
    temperatures = [record["temperature"] for record in found["rounds"]]
    assert temperatures[0] == 1, "a regression is as sure as a probe"
    assert temperatures[1:] == pytest.approx(
        [beside_head(run.whole, stage).temperature for stage in run.plan.stages[1:]], rel=1e-5
    )
    assert found["chosen"]["temperature"] == temperatures[2] != 1
    assert found["chosen"]["calibrated_on"] == (
        "the predictions of a logistic regression for the corpus, because no labeled rows were held out"
    )
    trained, model = (load_file(tmp_path / "out" / name / "model.safetensors") for name in ("round_1/model", "model"))
    np.testing.assert_allclose(model["classifier.weight"], trained["classifier.weight"] / temperatures[2], rtol=1e-6)


def test_folds_start_from_what_the_probe_says(
    estimating: tuple[Path, dict[str, Any], Run], quick: Quick, tmp_path: Path
) -> None:
    """Out-of-fold rows are few; what is believed before them is what each chain's probe says, and 1 of head and probe, which
    are tempered. Without a probe it is the usual temperature."""
    run = estimating[2]
    start = run.plan.named("start")
    said = [beside_head(chain, start).temperature for chain in run.chains]
    assert out_of_fold(run.chains, start).believed == pytest.approx((said[0] * said[1]) ** 0.5, rel=1e-5)
    assert out_of_fold(run.chains, start, probe=True).believed == 1
    assert out_of_fold(run.chains, run.plan.baseline).believed == 1, "a regression is as sure as a probe"
    plain = open_run(quick(tmp_path / "plain", method="class-balanced"))
    for chain in plain.chains:
        chain.fit(plain.plan.baseline)
    assert out_of_fold(plain.chains, plain.plan.baseline).believed == USUAL_TEMPERATURE
