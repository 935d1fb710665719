"""The model card: the Hub can read it, people can use it, and it gives nothing away."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from sstext.config.run_config import RunConfig
from sstext.data.preparing import LEFT_OUT
from sstext.errors import UserError
from sstext.hub.card import bare_card, model_card, named, with_tags
from sstext.hub.sections import calibration_sentence, hub_name
from sstext.run.results import card as card_of_run
from sstext.storage.run_folder import RunDirectory

SECRET = "my parcel is still not here"


def card(**changes: Any) -> str:
    arguments: dict[str, Any] = {
        "name": "model",
        "classes": ["delivery", "refund"],
        "encoder": "microsoft/deberta-v3-small",
        "max_length": 96,
        "rows": {"labeled": 64, "unlabeled": 1136},
        "rounds": [
            {"index": 0, "admitted": 0, "coverage": 0.0},
            {"index": 1, "admitted": 341, "coverage": 0.3, "examples": [SECRET], "folder": "/home/ada/out/round_1"},
        ],
        "results": {
            "test": {"accuracy": {"score": 0.6512, "confidence_interval": (0.61, 0.69)}},
            "supervised": {"accuracy": {"score": 0.5, "confidence_interval": None}, "macro_f1": {"score": 0.25}},
        },
        "chosen": "round 1, the best on the development rows",
    }
    return model_card(**{**arguments, **changes})


def section(text: str, title: str) -> str:
    return text.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def test_the_hub_reads_the_front_matter():
    """Guards the file that the Hub parses: a card without it has no widget, no filters and no base model."""
    data = ModelCard(card(license="apache-2.0")).data
    assert data.library_name == "transformers"
    assert data.pipeline_tag == "text-classification"
    assert data.tags == ["sstext", "semi-supervised", "self-training"]
    assert data.base_model == "microsoft/deberta-v3-small"
    assert data.license == "apache-2.0"


def test_no_license_is_stated_for_the_user():
    """Guards against a license that nobody chose."""
    assert "license" not in ModelCard(card()).data.to_dict()


def test_the_plain_pipeline_comes_first_and_truncates():
    """Guards the first thing people copy: without truncation a long text raises in `pipeline`."""
    usage = section(card(), "How to use")
    assert 'classify("a text", truncation=True, max_length=96)' in usage
    assert (
        usage.index('pipeline("text-classification"')
        < usage.index("sstext predict")
        < usage.index("Classifier.from_pretrained")
    )


@pytest.mark.parametrize("prefix", ["query: ", 'say "it":\n'])
def test_a_prefix_is_in_the_snippet_and_without_one_nothing_is_said(prefix: str):
    """Guards a snippet that predicts worse than the model can, one that is no Python, and a riddle on all other cards."""
    usage = section(card(prefix=prefix), "How to use")
    (line,) = (line for line in usage.splitlines() if line.startswith("classify("))
    asked: list[str] = []
    exec(line, {"classify": lambda text, **_: asked.append(text)})
    assert asked == [f"{prefix}a text"]
    assert "**The model was trained with the prefix" in usage
    assert "prefix" not in card()
    assert "with the prefix" in bare_card("model", ["no", "yes"], 64, prefix)


@pytest.mark.parametrize(
    "encoder", ["/home/ada/encoders/bert", "./bert", "../bert", "~/bert", r"C:\models\bert", "a/b/c"]
)
def test_a_path_is_never_named(encoder: str):
    """Guards against a card that tells the names of a machine's folders (and a base model that does not exist)."""
    text = card(encoder=encoder)
    assert "base_model" not in ModelCard(text).data.to_dict()
    assert "bert" not in text
    assert encoder not in text
    assert "a local encoder" in text


def test_a_folder_that_looks_like_a_hub_name_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Guards against `models/bert` beside the user's files taken for a model of the Hub user `models`."""
    assert hub_name("models/bert") == "models/bert"
    (tmp_path / "models" / "bert").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert hub_name("models/bert") is None


def test_demo_is_named_by_what_it_is():
    """Guards against a base model "demo", which is somebody else's on the Hub."""
    assert ModelCard(card(encoder="demo")).data.base_model == "sentence-transformers/all-MiniLM-L6-v2"


def test_texts_and_folders_in_the_records_stay_out():
    """Guards privacy: a record may hold more than a card may say."""
    text = card()
    assert SECRET not in text
    assert "/home" not in text
    assert str(Path.cwd()) not in text


def test_rows_and_rounds_are_counted():
    training = section(card(), "Training")
    assert "Rows: 64 labeled, 1,136 unlabeled." in training
    assert "| round 0 | – | – |\n| round 1 | 341 | 30.0% |" in training


@pytest.mark.parametrize(
    ("coverages", "expected"),
    [
        ([0.3, 0.5], "also on unlabeled texts. Only texts with a\nsufficiently confident predicted label were used."),
        (
            [1.0, 0.9999],
            "also on all unlabeled texts.\nThe labels of the unlabeled texts were predicted by earlier models.",
        ),
        ([0.5, 1.0], "fine-tuned on labeled texts with the help of unlabeled ones."),
        ([], "fine-tuned on labeled texts with the help of unlabeled ones."),
    ],
)
def test_what_was_learned_from_is_said_as_it_was(coverages: list[float], expected: str) -> None:
    """Guards against "safe enough" where every row was learned from, as by default; a round of labels alone does not count."""
    rounds = [{"index": 0, "admitted": 0, "coverage": 0.0}]
    rounds += [{"index": 1 + i, "admitted": 9, "coverage": share} for i, share in enumerate(coverages)]
    assert expected in card(rounds=rounds)
    assert "fine-tuned on labeled texts.\n" in card(rounds=rounds, self_trained=False)


def test_a_regression_is_not_said_to_be_fine_tuned() -> None:
    """Guards the card of a run in which nothing was better than its first stage, whose encoder nothing has changed."""
    said = card(self_trained=False, chosen="regression: it is better", method="auto", citation="Us 2026")
    assert "a logistic regression on labeled texts. The encoder is as it was pretrained.\n" in said
    assert "Method of the run: `auto`; this model is its first stage, on the labeled rows only." in said
    assert "fine-tuned" not in said
    assert "a logistic regression" not in card(chosen="final: it learned from pseudo-labels of the regression")


def test_a_part_of_the_corpus_is_said_to_be_one() -> None:
    """Guards "all unlabeled texts" where a random part of them was read."""
    said = card(rounds=[{"index": 1, "admitted": 9, "coverage": 1.0}], rows={"labeled": 9, LEFT_OUT: 1_000}, part=True)
    assert "also on all unlabeled texts of a random part of the corpus.\n" in said
    assert "Rows: 9 labeled, 1,000 unlabeled left out." in section(said, "Training")


def test_the_method_is_named_with_its_paper():
    """Guards a stranger against a model of which nobody knows how it was trained; without a method nothing is said."""
    method, citation = "fixmatch (threshold=0.9) + entropy 0.1", 'Sohn et al. 2020, "FixMatch",\neqs. 3–4.'
    training = section(card(method=method, citation=citation), "Training")
    assert (
        "with the model.\n\nMethod: `fixmatch (threshold=0.9) + entropy 0.1`. "
        'Source: Sohn et al. 2020, "FixMatch", eqs. 3–4.\n\n| stage |' in training
    )
    assert "Method: `mine`.\n\n| stage |" in section(card(method="mine"), "Training")
    assert card(method=None, citation=citation) == card()
    assert "Method" not in card()


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ("baseline: plain fine-tuning on the labels", "is its baseline, fine-tuned on the labeled rows only."),
        ("start: it is better", "was fine-tuned on the labeled rows only."),
    ],
)
def test_a_method_that_did_not_make_the_model_is_not_its_method(chosen: str, said: str) -> None:
    """Guards the card of a baseline against the claim that it was self-trained, with the paper of the method."""
    plain = {"self_trained": False, "citation": "Sohn et al. 2020", "chosen": chosen}
    text = card(method="auto", **plain)
    assert f"Method of the run: `auto`; this model {said}" in text
    assert "Source" not in text
    assert "Method: `supervised`." in card(method="supervised", **plain | {"citation": None})


def test_the_reason_for_the_choice_is_in_parentheses() -> None:
    """Guards against two colons in a sentence."""
    why = "plain fine-tuning on the labels; round 1 was refused: it harms"
    assert f"Chosen: baseline ({why})." in card(chosen=f"baseline: {why}.")


def test_results_show_intervals_where_there_are_some_and_gaps_where_not():
    """Guards against columns that slip: not everything measured has every metric."""
    table = section(card(), "Results").strip().split("\n\n")[0].splitlines()
    assert table == [
        "|  | accuracy | macro-F1 |",
        "| --- | --- | --- |",
        "| test | 0.651 (0.610 to 0.690) | – |",
        "| supervised | 0.500 | 0.250 |",
    ]


@pytest.mark.parametrize("results", [None, {}])
def test_nothing_measured_is_said(results: dict | None):
    """Guards against an empty table, which reads like a mistake."""
    assert "Nothing was measured on test rows." in section(card(results=results), "Results")
    assert "measured on evaluation rows." in section(card(results=results, measured_on="evaluation rows"), "Results")


def test_an_estimate_takes_the_place_of_figures():
    """Guards a model of unknown accuracy that has one, and an estimate beside measured figures."""
    said = section(card(results=None, estimate="Accuracy on the corpus: about 70%."), "Results")
    assert "There were no test rows. Accuracy on the corpus: about 70%." in said
    assert "about 70%" not in card(estimate="Accuracy on the corpus: about 70%.")


def test_what_was_chosen_and_every_class_are_named():
    text = card(classes=["delivery", "refund|return", "two\nlines"])
    assert "Chosen: round 1, the best on the development rows." in text
    assert section(text, "Classes").strip() == "`delivery`, `refund|return`, `two lines`"


def test_bars_in_names_do_not_open_columns():
    """Guards the tables: every line keeps the same number of columns."""
    results = {"test | part 2": {"f1|macro": {"score": 0.5}}}
    assert r"| test \| part 2 | 0.500 |" in section(card(results=results), "Results")


def test_writing_a_card_needs_no_torch():
    """Guards the torch-free start of the command line, and the layer: a card is words and numbers."""
    program = (
        "import sys; from sstext.hub.card import model_card; "
        "model_card(name='m', classes=['a'], encoder='demo', max_length=8, rows={}, rounds=[], results=None, chosen=None); "
        "print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_the_index_has_this_models_scores_with_their_intervals():
    """Guards the metrics that the Hub shows: those of the chosen model, none of the one it is compared with."""
    data = ModelCard(card(of_this_model="test", test_data=("ada/rows", "validation"))).data
    (result,) = data.eval_results
    assert (result.metric_type, result.metric_value) == ("accuracy", 0.6512)
    assert result.metric_name == "accuracy (95% 0.610–0.690)"
    assert result.metric_args == {"confidence_interval": [0.61, 0.69], "level": 0.95}
    assert (result.dataset_type, result.dataset_name, result.dataset_split) == ("ada/rows", "ada/rows", "validation")
    (own,) = ModelCard(
        card(of_this_model="supervised", results={"supervised": {"macro_f1": {"score": 0.25}}})
    ).data.eval_results
    assert (own.metric_type, own.metric_name, own.metric_args) == ("f1", "macro f1", {"average": "macro"})
    assert (own.dataset_type, own.dataset_name, own.dataset_split) == ("local", "test rows", None)
    (other,) = ModelCard(card(of_this_model="test", measured_on="evaluation rows")).data.eval_results
    assert (other.dataset_name, other.dataset_split) == ("evaluation rows", None)
    assert ModelCard(card()).data.eval_results is None


def test_rounds_show_their_evidence_and_no_empty_columns():
    rounds = [
        {"index": 0, "admitted": 0, "coverage": 0.0, "out_of_fold": {"accuracy": 0.5}},
        {"index": 1, "admitted": 9, "coverage": 0.5, "out_of_fold": {"accuracy": 0.625}, "estimated_precision": 0.75},
    ]
    lines = section(card(rounds=rounds), "Training").strip().split("\n\n")[-1].splitlines()
    assert lines[0] == "| stage | unlabeled rows selected | share of corpus | mean confidence | held-out accuracy |"
    assert lines[2:] == ["| round 0 | – | – | – | 50.0% |", "| round 1 | 9 | 50.0% | 75.0% | 62.5% |"]


def test_calibration_says_what_was_done_and_what_it_brought():
    """Guards against a claim of calibrated probabilities where nothing could calibrate them."""
    after = {"score": 0.05, "confidence_interval": (0.04, 0.06)}
    said = calibration_sentence(1.25, fitted_on="the development rows", before=0.12, after=after)
    assert said.startswith(
        "Logits are divided by a temperature of 1.250, fitted on the development rows. "
        "It is already folded into the last layer."
    )
    assert said.endswith("on the test rows: 0.120 before, 0.050 (0.040 to 0.060) after.")
    assert calibration_sentence(1.25, fitted_on="x", after=after).endswith("test rows: 0.050 (0.040 to 0.060).")
    assert calibration_sentence(1.0, fitted_on=None).endswith("because there were no folds or development rows.")
    assert "could not be put into the last layer" in calibration_sentence(1.25, fitted_on="x", folded=False)
    assert section(card(calibration=said), "Calibration").strip() == said
    assert "## Calibration" not in card()


def test_demo_is_said_to_read_english_only():
    """Guards people with texts of other languages: the encoder answers all the same."""
    assert ModelCard(card(encoder="demo")).data.language == "en"
    assert "It reads only English" in section(card(encoder="demo"), "Limits")
    assert ModelCard(card()).data.language is None
    assert "English" not in card()


def test_the_plan_is_a_line_of_the_training():
    """Guards the stages in the card against a plan.json of version 0.1, which has none."""
    stages = [
        {"name": "baseline", "steps": 80, "labeled_by": None},
        {"name": "round 1", "steps": 1_250, "labeled_by": "head and probe"},
    ]
    stages.append({"name": "final", "steps": 625, "labeled_by": "the chains"})
    plan = "Stages: baseline: 80 steps on the labeled rows; round 1: 1,250 steps on the labeled rows and on pseudo-labels; "
    plan += "final model: 625 steps on the labeled rows and on pseudo-labels."
    assert plan in section(card(plan={"stages": stages}), "Training")
    record = {"index": 1, "stage": "round 1", "admitted": 60, "coverage": 1.0}
    stopped = section(card(plan={"stages": stages}, rounds=[record]), "Training")
    assert "round 1: 1,250 steps" in stopped
    assert "final model" not in stopped, "stages that a training did not reach are not in its card"
    assert "Plan:" not in card(plan={"steps": [80], "rounds": 0}) + card()


def commands(text: str) -> list[str]:
    """The lines of a card that name the model."""
    return [line for line in section(text, "How to use").splitlines() if "pipeline(" in line or line.startswith("sstext")
            or "from_pretrained(" in line]  # fmt: skip


def test_the_examples_name_the_folder_and_after_a_push_the_repository() -> None:
    """Guards commands that cannot be copied: a placeholder, a folder that the Hub does not have, and an old revision."""
    for local in (card(name='my "model"'), bare_card('my "model"', ["no", "yes"], 96)):
        assert commands(local) == [
            'classify = pipeline("text-classification", "my \\"model\\"")'
            "  # the folder of this model; from elsewhere, give its path",
            'sstext predict "my \\"model\\"" texts.csv --output predictions.csv',
            'classifier = Classifier.from_pretrained("my \\"model\\"", max_length=96)',
        ]
        branch, main = named(local, "ada/tickets", "v2"), named(named(local, "ada/tickets", "v2"), "bob/ours")
        assert commands(branch) == [
            'classify = pipeline("text-classification", "ada/tickets", revision="v2")',
            'sstext predict "ada/tickets" --revision "v2" texts.csv --output predictions.csv',
            'classifier = Classifier.from_pretrained("ada/tickets", revision="v2", max_length=96)',
        ]
        assert commands(main)[1] == 'sstext predict "bob/ours" texts.csv --output predictions.csv'
        assert "ada" not in main
        assert "my" not in main


def test_only_the_model_itself_is_renamed() -> None:
    """Guards a comparison with another model, and a title that somebody chose."""
    other = '\n```python\npipeline("text-classification", "eve/other")\n```\n'
    text = named(card(model_name="Ticket sorter") + other, "ada/tickets")
    assert other in text
    assert "\n# Ticket sorter\n" in text
    assert ModelCard(text).data.to_dict()["model_name"] == "Ticket sorter"
    assert ModelCard(named(card(), "ada/tickets")).data.to_dict()["model_name"] == "ada/tickets"
    results = {"test": {"accuracy": {"score": 0.5}}}
    indexed = named(card(results=results, of_this_model="test"), "ada/tickets")
    assert ModelCard(indexed).data.to_dict()["model-index"][0]["name"] == "ada/tickets"


def test_what_people_add_is_in_the_metadata() -> None:
    """Guards the keywords of `Trainer.create_model_card`: each reaches the YAML, and what is ours stays."""
    text = card(
        language=["en", "de"], license="mit", tags=["support", "sstext"], model_name="Ticket sorter",
        finetuned_from="ada/encoder", tasks="zero-shot-classification", dataset_tags="ada/rows", dataset="Ada's rows",
        dataset_args="clean", of_this_model="test", measured_on="evaluation rows",
    )  # fmt: skip
    data = ModelCard(text).data
    found = {name: getattr(data, name) for name in ("language", "license", "base_model", "pipeline_tag", "datasets")}
    assert found == {
        "language": ["en", "de"], "license": "mit", "base_model": "ada/encoder",
        "pipeline_tag": "zero-shot-classification", "datasets": ["ada/rows"],
    }  # fmt: skip
    assert data.tags == ["sstext", "semi-supervised", "self-training", "support"]
    (result,) = data.eval_results
    assert (result.dataset_type, result.dataset_name, result.dataset_config) == ("ada/rows", "Ada's rows", "clean")
    assert result.task_type == "zero-shot-classification"
    assert "\nData: Ada's rows.\n" in text
    assert "\n# Ticket sorter\n\nText classifier with 2 classes. Made with" in text
    assert ModelCard(card(dataset=["ada/rows", "our tickets"])).data.datasets == ["ada/rows"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"license": "MIT License"}, "license: expected an identifier of the Hub, such as apache-2.0"),
        ({"language": "English"}, "language: expected a code of ISO 639, such as en or de"),
        ({"tasks": "Text Classification"}, "tasks: expected tasks of the Hub, such as text-classification"),
        ({"dataset_tags": ["my rows"]}, "dataset_tags: expected a name on the Hub, such as user/name, found 'my rows'"),
        ({"finetuned_from": "./encoder"}, "finetuned_from: expected a name on the Hub"),
    ],
)
def test_what_the_hub_would_refuse_is_refused_here(given: dict[str, Any], message: str) -> None:
    """Guards a training that ends with a refused upload."""
    with pytest.raises(UserError, match=message):
        card(**given)


def test_a_multi_label_card_does_not_claim_one_class() -> None:
    """Guards readers who would take the first class of several for the only one."""
    assert "A text may have several" in section(card(problem_type="multi_label_classification"), "Limits")
    assert "always predicts one of the classes" in section(card(), "Limits")


def test_tags_are_added_once() -> None:
    """Guards `push_to_hub(tags=…)` of a model with a card."""
    assert ModelCard(with_tags(card(), ["sstext", "new"])).data.tags == [*ModelCard(card()).data.tags, "new"]
    assert with_tags(card(), "sstext") == card()


def test_a_bare_card_claims_nothing_about_the_training():
    """Guards against "fine-tuned by sstext" on a model that came from elsewhere."""
    text = bare_card("model", ["no", "yes"], 64)
    assert ModelCard(text).data.tags == ["sstext"]
    assert "How it was trained is not recorded here." in text
    assert "max_length=64" in text
    assert "## Training" not in text


@pytest.mark.parametrize(
    ("fingerprint", "sample", "expected"),
    [
        ("hub:ada/rows:validation", {}, ("ada/rows", "validation")),
        ("hub:ada/rows:validation", {"labels_per_class": 2}, ("test rows", None)),
        ("file:1f", {}, ("test rows", None)),
    ],
)
def test_a_card_names_a_data_set_only_where_all_of_its_split_was_measured_on(
    finished_run: Path, tmp_path: Path, fingerprint: str, sample: dict[str, int], expected: tuple[str, str | None]
) -> None:
    """Guards the Hub's index against scores on a sample or on a file under a public name, and training data against naming."""
    (tmp_path / "data.json").write_text(json.dumps({"fingerprints": {"test": fingerprint}}))
    config = RunConfig(labeled="ada/secret", unlabeled="ada/secret", test="ada/rows", encoder="demo", sample=sample)
    text = card_of_run(config, RunDirectory(tmp_path), json.loads((finished_run / "results.json").read_text()))
    data = ModelCard(text).data
    assert {(score.dataset_name, score.dataset_split) for score in data.eval_results} == {expected}
    assert data.datasets is None
    assert "ada/secret" not in text


def test_the_card_of_a_run_says_that_a_part_of_the_corpus_was_read(finished_run: Path, tmp_path: Path) -> None:
    """Guards the count that a run leaves in its results and that the card does not know by its name."""
    (tmp_path / "data.json").write_text("{}")
    results = json.loads((finished_run / "results.json").read_text())
    for record in results["rounds"]:
        record["coverage"] = float(record["admitted"] > 0)
    results["chosen"]["model"] = "of all stages"
    config = RunConfig(labeled="a.csv", unlabeled="b.csv", encoder="demo")
    for rows, expected in ((results["rows"], False), (results["rows"] | {LEFT_OUT: 1_000}, True)):
        text = card_of_run(config, RunDirectory(tmp_path), results | {"rows": rows})
        assert ("of a random part of the corpus" in text) == expected
        assert "also on all unlabeled texts" in text, "canary"


def test_the_card_of_a_run_says_how_class_texts_were_used(finished_run: Path, tmp_path: Path) -> None:
    """Guards evidence that nobody reads. A baseline has not learned from names, and an earlier version has no record."""
    (tmp_path / "data.json").write_text("{}")
    results = json.loads((finished_run / "results.json").read_text())
    results["chosen"]["stage"] = "start"
    record = {"kind": "names", "weight": 8.0, "log_loss": {"0": 1.25, "2": 1.2, "8": 1.125}}
    config = RunConfig(labeled="a.csv", unlabeled="b.csv", encoder="demo")
    losses = "(log-loss of held-out labels: 1.125 with them, 1.250 without)"
    used = f"The class names were used with the weight of 8 labeled rows per class {losses}."
    for found, expected in (
        (record, used),
        (None, None),
        (record | {"weight": 0.0}, "The class names were not used ("),
    ):
        training = section(card_of_run(config, RunDirectory(tmp_path), results | {"class_texts": found}), "Training")
        assert expected in training if expected else "class names" not in training
    results["chosen"]["stage"] = "baseline"
    assert "class names" not in card_of_run(config, RunDirectory(tmp_path), results | {"class_texts": record})
    results.pop("class_texts", None)
    assert "class names" not in card_of_run(config, RunDirectory(tmp_path), results)


def test_the_card_of_a_zero_shot_model_claims_no_labels_and_no_check() -> None:
    """Guards "fine-tuned on labeled texts" for a model without labels, and "unknown" where development rows were given."""
    record = {"index": 1, "stage": "round 1", "admitted": 60, "coverage": 1.0}
    rows = {"descriptions": 6, "unlabeled": 60}
    plan = {"stages": [{"name": "zero-shot", "steps": 0, "labeled_by": None}]}
    usual = {"rows": rows, "rounds": [record], "results": None, "zero_shot": True, "plan": plan}
    text = card(**usual)
    assert "made from descriptions of the classes instead of labeled texts" in text
    assert "fine-tuned on labeled texts" not in text
    assert "zero-shot: on descriptions of the classes, without steps" in section(text, "Training")
    assert "is unknown" in section(text, "Results")
    assert "without labels" in section(text, "Limits")
    assert "- semi-supervised" not in text
    assert "is unknown" not in section(card(**usual | {"rounds": [record | {"metrics": {"macro_f1": 0.5}}]}), "Results")
    first = card(**usual | {"self_trained": False, "method": "auto", "citation": "a paper"})
    assert "this model is its first stage, without labels" in first
