"""The page as a whole: from any folder of a run, whatever is left of it, and the same every time."""

import json
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from made_up_run import ATTACK, make_run

from sstext.cli import main as cli
from sstext.config.run_config import RunConfig
from sstext.data.label_file import LabelFile
from sstext.errors import UserError
from sstext.reporting import write_report
from sstext.reporting.data_section import commands_to_label
from sstext.reporting.run_files import open_run_files
from sstext.reporting.svg import Drawing
from sstext.run.train import train
from sstext.selftraining import choice

CHARTS = (
    "comparison",
    "rounds",
    "class_shares",
    "corpus_confidence",
    "reliability",
    "confidence",
    "threshold",
    "confusion",
)


class Page(HTMLParser):
    """What stands in a page: its tags, its text, and the content of its scripts."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags, self.text, self.scripts, self.inside = list[tuple[str, dict]](), "", list[str](), list[str]()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.tags.append((tag, dict(attributes)))
        self.inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self.inside and self.inside[-1] == "script":
            self.scripts.append(data)
        elif not self.inside or self.inside[-1] != "style":
            self.text += data


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of eight classes with its report. Read only."""
    folder = make_run(tmp_path_factory.mktemp("made_up") / "run", 8)
    write_report(folder)
    return folder


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made and not drawn, which is what takes the time."""
    monkeypatch.setattr(
        "sstext.reporting.report.drawn", lambda figure, name, description, **_: Drawing(name, description, "", "")
    )


def test_every_chart_is_on_the_page_and_a_file(made_up: Path) -> None:
    files = {path.stem for path in (made_up / "report_figures").iterdir()}
    losses = {"losses_chain_1_baseline", "losses_chain_1_round_1", "losses_chain_1_round_2"}
    assert files == {*CHARTS, *losses}
    charts = [attributes for tag, attributes in Page(made_up / "report.html").tags if tag == "svg"]
    assert len(charts) == len(files)
    assert all(chart["role"] == "img" and chart["aria-label"] for chart in charts)


def test_texts_and_names_are_shown_and_never_markup(made_up: Path) -> None:
    """Guards against a text that runs in the page of whoever looks at it."""
    page = Page(made_up / "report.html")
    assert len(page.scripts) == 1
    assert "attacked" not in page.scripts[0]
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert page.text.count(ATTACK) >= 2, "the corpus's and the test file's"
    assert '<b>$x^2$ & "quoted" </svg>' in page.text


def test_the_page_asks_for_nothing_from_elsewhere(made_up: Path) -> None:
    page = Page(made_up / "report.html")
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-")
    assert not [a for _, a in page.tags if "src" in a or a.get("href", "#")[0] != "#"]
    assert "url(http" not in (made_up / "report.html").read_text()


def test_the_same_run_gives_the_same_report(made_up: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(made_up, tmp_path / "run")
    assert write_report(folder) == folder / "report.html"
    for name in ("report.html", *(f"report_figures/{chart}.svg" for chart in CHARTS)):
        assert (folder / name).read_bytes() == (made_up / name).read_bytes(), name


def test_classes_findings_and_texts_to_label_are_shown(
    made_up: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards counts of another class, an example that is markup, a command for another folder, and texts that a person has
    labeled in the meantime."""
    text = " ".join(Page(made_up / "report.html").text.split())
    assert "classlabeledtestpredicted in the corpus" in text
    assert "退款83012.5%" in text
    assert "looked at these texts: 64 labeled, 20,000 of 30,000 unlabeled." in text
    assert "sstext check my.csv --unlabeled corpus.jsonl" in text
    assert "test: 1 of 240 texts is a leak; leave it out." in text
    assert f"{ATTACK} leaked" in text
    assert f"{ATTACK} to label" in text
    assert "late退款 (50%)unsure" in text
    for command in ("label run/to_label.csv", "train run --more run/to_label.csv", "suggest --run run -o next.csv"):
        assert f"sstext {command}" in text
    folder = shutil.copytree(made_up, tmp_path / "run")
    monkeypatch.chdir(tmp_path.parent)
    assert commands_to_label(open_run_files(folder))[0] == f"sstext label {tmp_path.name}/run/to_label.csv"
    LabelFile(folder / "to_label.csv").give(1, "refund")
    assert [row.text for row in open_run_files(folder).to_label] == [f"{ATTACK} to label"]


@pytest.mark.usefixtures("undrawn")
def test_a_run_of_an_earlier_version_has_no_findings_and_nothing_is_missing(made_up: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(made_up, tmp_path / "run")
    (folder / "data" / "check.json").unlink()
    (folder / "to_label.csv").unlink()
    text = Page(write_report(folder)).text
    assert "Findings" not in text
    assert "Texts to label" not in text
    assert "Left out" not in text


def test_what_the_run_was_is_told(made_up: Path) -> None:
    text = Page(made_up / "report.html").text
    for said in (
        "The chosen model comes from the stage “round 2”, which was trained on labeled rows and 90 pseudo-labels",
        "a difference of",
        "64 labeled, 300 unlabeled, 240 test", "torch 2.13.0",
        "1,234 MiB of the process", "corpus.jsonl", "Changed class",
        "predictions of chain 1 that differ between the stages “round 1” and “round 2”", "do not add them.",
        "by the model that made the pseudo-labels. The selection also depends on the rank within the class.",
    ):  # fmt: skip
        assert said in text, said
    assert "“Chains agree” is the share of the corpus" in text
    assert "because few rows are held out, the gain is shrunk" in text
    assert "Left out" not in text
    assert "A probe is" not in text, "without a plan nothing is said of it"
    assert "--target-precision" in text


@pytest.mark.usefixtures("undrawn")
def test_of_a_run_of_which_only_the_results_are_left_the_report_says_what_is_missing(
    made_up: Path, tmp_path: Path
) -> None:
    (tmp_path / "results.json").write_text((made_up / "results.json").read_text())
    text = Page(write_report(tmp_path)).text
    for said in (
        "config.yaml is missing: the settings are left out.", "predictions/test.parquet is missing",
        "data/unlabeled.arrow is missing", "Pseudo-labels and scores are missing", "There are no training logs",
    ):  # fmt: skip
        assert said in text, said
    assert "One row per true class" in text, "results.json has the matrix"
    assert {path.stem for path in (tmp_path / "report_figures").iterdir()} == {
        "comparison", "rounds", "class_shares", "confusion",
    }  # fmt: skip


@pytest.mark.parametrize(
    "damaged", ["predictions/test.parquet", "data/unlabeled.arrow", "all_labels/averaged.npy", "config.yaml",
                "all_labels/final/pseudo_labels.parquet", "chain_1/round_1/log.jsonl", "chain_1/round_2/scores.npy",
                "model/config.json", "data/check.json", "to_label.csv"],
)  # fmt: skip
@pytest.mark.usefixtures("undrawn")
def test_a_damaged_file_costs_its_part_alone(damaged: str, made_up: Path, tmp_path: Path) -> None:
    """Guards against a report that fails on a file that was cut off."""
    folder = shutil.copytree(made_up, tmp_path / "run")
    (folder / damaged).write_bytes(b"[damaged")
    text = Page(write_report(folder)).text
    assert "Left out of this report" in text
    assert "The chosen model comes from the stage “round 2”" in text


@pytest.mark.usefixtures("undrawn")
def test_a_plan_with_a_probe_explains_it(made_up: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(made_up, tmp_path / "run")
    stage = {"name": "final", "learns_from": "the chains", "labeled_by": "head and probe", "steps": 9}
    (folder / "plan.json").write_text(json.dumps({"stages": [stage]}))
    text = Page(write_report(folder)).text
    assert "Final model" in text
    assert "A probe is a logistic regression on the embeddings of the student." in text


@pytest.mark.usefixtures("undrawn")
def test_a_run_without_any_measure_says_so(made_up: Path, tmp_path: Path) -> None:
    """No test rows, no folds, no development rows."""
    results = json.loads((made_up / "results.json").read_text())
    for record in results["rounds"]:
        record |= {"out_of_fold": {}, "metrics": {}, "gain": None, "chain_agreement": None}
    (tmp_path / "results.json").write_text(json.dumps(results | {"test": {}, "left_out": ["folds"]}))
    text = Page(write_report(tmp_path)).text
    assert "Left out for the budget: folds;" in text
    assert "The accuracy is unknown" in text
    assert "One row per true class" not in text


@pytest.mark.usefixtures("undrawn")
def test_an_unfinished_run_has_a_report_of_its_rounds(made_up: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(made_up, tmp_path / "run")
    (folder / "results.json").unlink()
    text = Page(write_report(folder)).text
    assert "This run is not finished" in text
    assert "Done so far: baseline, round 1, round 2." in text
    assert "Reason:" not in text


def test_a_folder_that_is_no_run_is_left_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert cli.main(["report", str(tmp_path)]) == 2
    assert "expected a run" in capsys.readouterr().err
    with pytest.raises(UserError):
        write_report(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("folds", [2, 0])
def test_a_real_run_has_a_report(
    folds: int, tiny_encoder: Path, tiny_task: Callable[[Path], Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards against made-up folders that have drifted from what a run leaves."""
    task = tiny_task(tmp_path)
    out = tmp_path / "out"
    train(
        RunConfig(
            labeled=str(task.labeled), unlabeled=str(task.unlabeled), test=str(task.test), encoder=str(tiny_encoder),
            output=str(out), steps=2, round_steps=2, rounds=1, folds=folds, learning_rate=5e-3, device="cpu",
            precision="fp32", method="class-balanced", prior="uniform", training_args={"logging_steps": 1},
        )
    )  # fmt: skip
    assert cli.main(["report", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out / "report.html")
    page = Page(out / "report.html")
    assert "Left out" not in page.text
    for said in ("Selected", "Not selected", "Reliability", "Baseline", "learning_rate", "MiB of the process"):
        assert said in page.text, said
    assert ("--target-precision" in page.text) == (folds > 0), "without folds, `predict` refuses it"
    texts = [json.loads(line)["text"] for line in task.unlabeled.read_text().splitlines()]
    assert sum(text in page.text for text in texts) >= 24


@pytest.mark.slow
@pytest.mark.filterwarnings("error::UserWarning:matplotlib")
@pytest.mark.parametrize("tested", [True, False])
def test_a_real_run_whose_chains_only_make_teachers_has_a_report(
    tested: bool, tiny_encoder: Path, tiny_task: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards the default method with folds: the final model is a stage without held-out predictions and without a folder in a
    chain, the regression has neither steps nor a log, and the model beside the chosen one is not always plain fine-tuning."""
    monkeypatch.setattr(
        choice, "choose", lambda *_: (1, "it was told to")
    )  # two steps would not convince held-out rows
    task, out = tiny_task(tmp_path), tmp_path / "out"
    results = train(
        RunConfig(
            labeled=str(task.labeled), unlabeled=str(task.unlabeled), test=str(task.test) if tested else None,
            encoder=str(tiny_encoder), output=str(out), steps=2, round_steps=2, folds=2, learning_rate=5e-3, device="cpu",
            precision="fp32", training_args={"logging_steps": 1},
        )
    )  # fmt: skip
    assert [record["stage"] for record in results["rounds"]] == ["regression", "start", "final"], "canary"
    assert (results["chosen"]["round"], results["chosen"]["stage"]) == (2, "final"), "canary"
    judged = results["chosen"]["judged"]
    page = Page(write_report(out))
    words = " ".join(page.text.split())
    assert "Left out" not in words
    assert "The chosen model is the final model, which was trained on labeled rows and 60 pseudo-labels." in words
    taught = f"{('regression', 'start')[judged]} that taught the chosen model"
    if tested:
        assert list(results["test"]) == ["supervised", "regression", "self_trained"]
        assert "On 30 test rows, the chosen model has an accuracy of" in words
        assert f"The baseline has {100 * results['test']['supervised']['metrics']['accuracy']['score']:.1f}%" in words
        assert taught not in words
    else:
        assert f"On 12 held-out labeled rows, the {taught} has an accuracy of" in words
        assert "baseline" not in words.lower(), "none was trained"
    assert "held-out log-loss over the regression" in words
    for said in (
        "Final model, all labels",
        "Start, all labels",
        "Selected",
        "Reliability",
        "Confusion matrix",
        "class names",
    ):
        assert said in words, said
    assert "Final, chain 1" not in words
    losses = {path.stem for path in (out / "report_figures").glob("losses_*")}
    assert losses == {"losses_all_labels_final", "losses_all_labels_start"}, "a regression has none"
    assert (f"The predictions are those of the {taught}" in words) != tested


@pytest.mark.filterwarnings("error::UserWarning:matplotlib")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"unlabeled": None}, "The chosen model is the baseline (fine-tuning on the labeled rows only)."),
        ({"method": "fixmatch"}, "The chosen model is the baseline (fixmatch without further rounds)."),
    ],
)
def test_the_barest_run_has_a_report(
    changes: dict, said: str, tiny_encoder: Path, tiny_task: Callable[[Path], Any], tmp_path: Path
) -> None:
    """One round, nothing measured: guards an empty chart, a warning in a person's terminal, and a method that learned from the
    corpus in its steps and is called fine-tuning on labeled rows."""
    task = tiny_task(tmp_path)
    options = {"labeled": str(task.labeled), "unlabeled": str(task.unlabeled), "encoder": str(tiny_encoder), "steps": 2,
               "rounds": 0, "folds": 0, "device": "cpu", "precision": "fp32", "method": "supervised"} | changes  # fmt: skip
    train(RunConfig(output=str(tmp_path / "out"), **options))
    page = Page(write_report(tmp_path / "out"))
    assert "Accuracy: unknown, because no labeled rows were held out. To estimate it, add --folds 3" in page.text
    assert "The accuracy is unknown" not in page.text, "once is enough"
    assert "Progress by stage" not in page.text
    assert said in page.text
    assert "it is the only stage" in page.text
    card = (tmp_path / "out" / "model" / "README.md").read_text()
    assert ("- semi-supervised" in card) == (options["method"] == "fixmatch")


def test_a_damaged_configuration_costs_its_part_alone(tmp_path: Path) -> None:
    """Guards a traceback for a run that is not finished."""
    run = make_run(tmp_path / "run", 2)
    (run / "results.json").unlink()
    (run / "config.yaml").write_text("{")
    assert "This run is not finished" in Page(write_report(run)).text
