"""What a folder holds: read where it is there, said where it is not, refused where it is no run."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from made_up_run import ATTACK, TEMPERATURE, as_version_0_1_left_it, make_run

from sstext.errors import UserError
from sstext.methods.registry import METHODS, compose
from sstext.reporting.readers import read_texts_to_label
from sstext.reporting.run_files import WITH_PROBE_IN_VERSION_0_1, open_run_files
from sstext.storage.manifest import Manifest, digest_of
from sstext.storage.whole import write_whole


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "no results.json and no rounds.jsonl"),
        ({"config.yaml": "seed: 1\n"}, "without a finished round"),
        ({"results.json": '{"accuracy": 1}'}, "was not written by a run"),
        ({"results.json": '{"chosen": {}, "rou'}, "damaged"),
        ({"results.json": "[1, 2]"}, "damaged"),
        ({"rounds.jsonl": "not json\n"}, "damaged"),
    ],
)
def test_what_is_no_run_is_refused_with_the_reason(files: dict[str, str], said: str, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=said):
        open_run_files(tmp_path)


def test_a_folder_of_runs_is_answered_with_the_runs_in_it(tmp_path: Path) -> None:
    """Guards `sstext report out`, where recipes write to out/NAME: the remedy names a folder that works."""
    first = make_run(tmp_path / "quickstart", 2)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError) as one:
        open_run_files(tmp_path)
    assert str(one.value).endswith(f"no rounds.jsonl; did you mean {first}?")
    second = make_run(tmp_path / "ag_news" / "seed-0", 2)
    with pytest.raises(UserError) as two:
        open_run_files(tmp_path)
    assert str(two.value).endswith(f"did you mean one of '{first}', '{second}'?")


@pytest.mark.parametrize(
    ("config", "knows"),
    [
        ('{"sstext": {"precision_curve": [[0.9, 0.95, 0.5]]}}', True),
        ('{"sstext": {"precision_curve": []}}', False),
        ("{}", False),
        (None, False),
    ],
)
def test_a_model_knows_its_precision_by_the_curve_in_it(config: str | None, knows: bool, tmp_path: Path) -> None:
    """Guards against a remedy that is refused: `--target-precision` needs what `sstext predict` looks for."""
    file = make_run(tmp_path / "run", 2) / "model" / "config.json"
    file.unlink() if config is None else file.write_text(config)
    run = open_run_files(tmp_path / "run")
    assert (run.knows_precision, run.missing) == (knows, [])


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--output"):
        open_run_files(tmp_path / "nowhere")


@pytest.mark.parametrize("folds", [True, False])
def test_pseudo_labels_are_those_of_the_chosen_student(folds: bool, tmp_path: Path) -> None:
    """With folds, of the last student, from averaged labels that are calibrated already; without, of the chosen round."""
    run = open_run_files(make_run(tmp_path / "run", 3, folds=folds))
    assert run.teaching is not None
    where = "all_labels/final" if folds else "round_2"
    assert run.teaching.labels == run.path / where / "pseudo_labels.parquet"
    assert run.teaching.temperature == (1.0 if folds else TEMPERATURE)


def test_the_probes_scores_are_tempered_already(tmp_path: Path) -> None:
    """The stage before the first pseudo-labels scores with a probe: its temperature must not count twice."""
    run = open_run_files(make_run(tmp_path / "run", 3))
    before, later = run.scores(0), run.scores(1)
    assert before is not None
    assert later is not None
    assert (before[1], later[1]) == (1.0, TEMPERATURE)
    run.rounds[1]["labeled_by"] = "head"
    assert run.scores(0)[1] == TEMPERATURE  # type: ignore[index]


def test_a_final_model_is_a_stage_outside_the_chains(tmp_path: Path) -> None:
    """Guards a stage that has no folder in a chain and no held-out predictions: those of its teacher stand for it, and it is
    not listed as a training of the chain."""
    folder = make_run(tmp_path / "run", 3)
    shutil.rmtree(folder / "chain_1" / "round_2")
    run = open_run_files(folder)
    run.rounds[2] |= {"stage": "final", "labeled_by": "round 1 of the chains, and of all labels", "out_of_fold": {}}
    assert (run.chosen, run.judged) == (2, 2), "results of earlier versions say only which stage is chosen"
    run.results["chosen"] |= {"judged": 1}
    assert (run.chosen, run.judged) == (2, 1)
    assert run.folder(run.rounds[2]) == folder / "all_labels" / "final"
    write_whole(folder / "all_labels" / "final" / "fit.json", "{}")
    assert [title for title, _ in run.trainings()] == [
        "Baseline, chain 1", "Round 1, chain 1", "Final model, all labels",
    ]  # fmt: skip
    taught = run.scores(1)
    assert taught is not None
    assert taught[1] == 1.0, "head and probe of the first teacher are calibrated already"
    assert run.scores(2) is None
    assert run.teaching is not None
    assert run.teaching.student == "the final model"
    (folder / "all_labels" / "averaged.npy").unlink()
    del run.__dict__["teaching"]
    assert run.teaching is not None
    assert run.teaching.labels == folder / "chain_1" / "round_1" / "pseudo_labels.parquet"
    assert run.missing == []


def test_the_model_beside_the_chosen_one_has_a_name(tmp_path: Path) -> None:
    """Guards figures of plain fine-tuning that are called those of the regression, and a chosen model shown beside itself."""
    run = open_run_files(make_run(tmp_path / "run", 2))
    assert (run.first, run.baseline, run.baseline_chosen) == ("baseline", "baseline", False)
    run.results["chosen"]["round"] = 0
    assert run.baseline_chosen
    run.rounds[0]["stage"] = "regression"
    assert (run.first, run.baseline, run.baseline_chosen) == ("regression", "regression", True)
    run.results["baseline"] = "baseline"
    assert (run.first, run.baseline, run.baseline_chosen) == ("regression", "baseline", False)


def test_a_run_of_version_0_1_is_read(tmp_path: Path) -> None:
    """Its records name no stage and do not say what labeled the corpus: guards folders, names and temperatures of old runs."""
    run = open_run_files(as_version_0_1_left_it(make_run(tmp_path / "run", 3)))
    before, later = run.scores(0), run.scores(1)
    assert before is not None
    assert later is not None
    assert (before[1], later[1]) == (1.0, TEMPERATURE)
    assert [title for title, _ in run.trainings()] == [
        "Round 0, chain 1", "Round 1, chain 1", "Round 2, chain 1",
    ]  # fmt: skip
    assert run.log(run.folder(run.rounds[0]))
    assert run.teaching is not None
    assert run.teaching.labels == run.path / "all_labels" / "round_2" / "pseudo_labels.parquet"
    run.results["method"] = "softmatch"
    assert run.scores(0)[1] == TEMPERATURE  # type: ignore[index]


def test_the_corpus_is_read_a_text_at_a_time_across_its_batches(tmp_path: Path) -> None:
    run = open_run_files(make_run(tmp_path / "run", 2))
    assert run.corpus is not None
    assert (len(run.corpus), run.corpus.text(0)) == (300, ATTACK)
    assert run.corpus.text(299).endswith("number 299"), "the last of three batches"


def test_numbers_that_the_run_did_not_write_are_not_shown(tmp_path: Path) -> None:
    """A flipped bit in predictions can be read. Guards a report that shows it."""
    run = open_run_files(make_run(tmp_path / "run", 2))
    file, manifest = run.folder(run.rounds[0]) / "scores.npy", Manifest(run.path)
    manifest.expect({file: digest_of(file)})
    manifest.done([file])
    assert run.scores(0) is not None
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert run.scores(0) is None
    assert run.missing == ["chain_1/baseline/scores.npy cannot be read: predictions for the corpus are left out."]


def test_what_is_damaged_or_gone_is_said_once(tmp_path: Path) -> None:
    run = open_run_files(make_run(tmp_path / "run", 2))
    (run.path / "config.yaml").unlink()
    (run.path / "predictions" / "test.parquet").write_bytes(b"half a file")
    (run.path / "data" / "unlabeled.arrow").write_bytes(b"")
    for _ in range(2):
        assert run.options is None
        assert run.predictions("test", expected=True) is None
    assert run.corpus is None
    assert [sentence.split(":")[0] for sentence in run.missing] == [
        "config.yaml is missing", "predictions/test.parquet cannot be read", "data/unlabeled.arrow cannot be read",
    ]  # fmt: skip


def test_an_unfinished_run_has_the_rounds_so_far(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", 2)
    (folder / "results.json").unlink()
    records = (folder / "rounds.jsonl").read_text().splitlines()
    (folder / "rounds.jsonl").write_text("\n".join(records[:2]) + "\n")
    run = open_run_files(folder)
    assert (run.finished, len(run.rounds), run.chosen) == (False, 2, 1)
    assert run.classes == list(json.loads(records[0])["per_class"])


def test_trainings_lead_to_the_chosen_student(tmp_path: Path) -> None:
    """Guards against the last student's losses shown as those of a chain's round of the same number."""
    folder = make_run(tmp_path / "run", 2)
    for stage in ("baseline", "final"):
        write_whole(folder / "all_labels" / stage / "fit.json", "{}")
    found = {title: path.relative_to(folder).as_posix() for title, path in open_run_files(folder).trainings()}
    assert found == {
        "Baseline, all labels": "all_labels/baseline", "Round 1, chain 1": "chain_1/round_1",
        "Round 2, chain 1": "chain_1/round_2", "Final model, all labels": "all_labels/final",
    }  # fmt: skip


def test_the_report_knows_which_methods_have_a_probe() -> None:
    """It is written without torch, and cannot ask the methods: guards scores that are tempered a second time."""
    assert {name for name in METHODS if compose(name).teacher.with_probe} == WITH_PROBE_IN_VERSION_0_1


def test_a_text_to_label_may_be_long(tmp_path: Path) -> None:
    """Guards a long text, at which the csv module stops by default, and with it all texts to label."""
    (tmp_path / "a.csv").write_text(f"text,label,predicted_label,probability,reason\n{'x' * 200_000},,a,0.5,b\n")
    limit = csv.field_size_limit(131_072)
    try:
        (row,) = read_texts_to_label(tmp_path / "a.csv")
    finally:
        csv.field_size_limit(limit)
    assert (len(row.text), row.guess) == (200_000, "a (50%)")
