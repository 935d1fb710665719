"""Options: read, checked and written once; their help stands in one place, and asking for it needs no torch."""

import ast
import math
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainingArguments

import sstext
from sstext.cli.main import main, parser
from sstext.config.old_options import CHANGED, FORMER_DEFAULTS, MOVED, RESOLVED_BY_METHOD, in_new_names, replacement
from sstext.config.option_groups import EDITS
from sstext.config.options import default_of, options
from sstext.config.recipe import read_config
from sstext.config.run_config import RunConfig
from sstext.errors import UserError
from sstext.methods.registry import compose
from sstext.selftraining.planning import method_of, rounds_of_run

SPECS = options(RunConfig)
SOURCES = sorted(Path(sstext.__file__).parent.rglob("*.py"))
RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
FORMER = sorted({*MOVED, *CHANGED})


def recipe(folder: Path, content: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(content, encoding="utf-8")
    return path


# Reading


def test_a_recipe_holds_only_what_differs(tmp_path: Path) -> None:
    """What the file does not name keeps its default."""
    config = read_config(recipe(tmp_path, "labeled: my.csv\nrounds: 2\nmethod_args: {threshold: 0.9}\n"), {})
    assert (config.labeled, config.rounds, config.method_args) == ("my.csv", 2, {"threshold": 0.9})
    assert {n for n in SPECS if getattr(config, n) != getattr(RunConfig(), n)} == {"labeled", "rounds", "method_args"}


def test_flags_override_the_recipe(tmp_path: Path) -> None:
    """Guards against a recipe that wins over the command line."""
    config = read_config(recipe(tmp_path, "rounds: 1\nseed: 5\n"), {"rounds": 2})
    assert (config.rounds, config.seed) == (2, 5)


@pytest.mark.parametrize("content", ["", "# nothing but a comment\n", "---\n"])
def test_an_empty_recipe_is_the_defaults(tmp_path: Path, content: str) -> None:
    """An empty YAML file reads as None: guards against a TypeError."""
    assert read_config(recipe(tmp_path, content), {}) == RunConfig() == read_config(None, {})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("learning_rat: 1\n", "unknown option 'learning_rat'; did you mean learning_rate, head_learning_rate"),
        ("zzz: 1\n", "unknown option 'zzz'; there are data, "),
        ("1: 2\n", "unknown option 1;"),
        ("- labeled\n", "expected `option: value` lines, found list"),
        ("just text\n", "expected `option: value` lines, found str"),
        ("a: [1\n", "not valid YAML: "),
        ("rounds: many\n", "rounds: expected int, found 'many'"),
    ],
)
def test_a_wrong_recipe_says_what_is_wrong(tmp_path: Path, content: str, message: str) -> None:
    """Guards against typos that train something else, and against tracebacks of the YAML parser."""
    path = recipe(tmp_path, content)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        read_config(path, {})
    assert "\n" not in str(caught.value)


def test_a_recipe_that_can_not_be_read(tmp_path: Path) -> None:
    """Missing, a folder, not UTF-8: each one message."""
    with pytest.raises(UserError, match=r"no such recipe: .*nowhere\.yaml \(looked for .*\)$"):
        read_config(tmp_path / "nowhere.yaml", {})
    with pytest.raises(UserError, match="expected a YAML file, found a folder"):
        read_config(tmp_path, {})
    (tmp_path / "latin.yaml").write_bytes(b"encoder: caf\xe9\n")
    with pytest.raises(UserError, match=r"latin\.yaml: not UTF-8 at byte 12"):
        read_config(tmp_path / "latin.yaml", {})
    with pytest.raises(UserError, match=r"no such recipe: .*\); did you mean .*latin\.yaml\?$"):
        read_config(tmp_path / "latn.yaml", {})


# Types and ranges


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("learning_rate", math.inf, "learning_rate: expected a finite number, found inf"),
        ("learning_rate", "nan", "learning_rate: expected a finite number, found nan"),
        ("head_learning_rate", math.nan, "head_learning_rate: expected a finite number, found nan"),
        ("keep", [0.3, math.nan], "keep: expected a finite number, found nan"),
        (
            "method_args",
            {"threshold": [1.0, -math.inf]},
            "method_args: threshold: expected a finite number, found -inf",
        ),
        (
            "training_args",
            {"weight_decay": math.inf},
            "training_args: weight_decay: expected a finite number, found inf",
        ),
        ("prior", {"a": math.nan, "b": 0.5}, "prior: a: expected a finite number, found nan"),
    ],
)
def test_numbers_that_are_not_finite_are_refused(name: str, value: Any, message: str) -> None:
    """Guards a rate of infinity, whose model was NaN, and arguments that are checked only in a training."""
    with pytest.raises(UserError) as refused:
        RunConfig(**{name: value})
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("rounds", 1.5, "rounds: expected int, found 1.5"),
        ("rounds", True, "rounds: expected int, found True"),
        ("batch_size", None, "batch_size: expected int, found None"),
        ("rounds", float("inf"), "rounds: expected int, found inf"),
        ("learning_rate", "fast", "learning_rate: expected float, found 'fast'"),
        ("freeze", [["embeddings"]], "freeze: expected list[str], found [['embeddings']]"),
        ("keep", ["a"], "keep: expected list[float], found ['a']"),
        ("views", None, "views: expected list[str], found None"),
        ("views", {"a": 1}, "views: expected list[str], found {'a': 1}"),
        ("method_args", "threshold=1", "method_args: expected dict["),
        ("precision", "fp8", "precision: expected one of auto, fp32, bf16, fp16, found 'fp8'"),
    ],
)
def test_values_of_another_type_are_refused(name: str, value: Any, message: str) -> None:
    """Guards against "no" that is true, and against half a round."""
    with pytest.raises(UserError, match=re.escape(message)):
        RunConfig(**{name: value})


NAN = float("nan")
#: Option → (value, what is expected of it) of every value that is refused, and values at the edge that are taken.
RANGES: dict[str, tuple[list[tuple[Any, str]], list[Any]]] = {
    "corpus_size": ([(0, "at least 1")], [1, None]),
    "max_length": ([(3, "at least 4")], [4, None]),
    "freeze": (
        [(["-1"], "`embeddings` or a number of layers"), (["head"], "`embeddings` or a number of layers")],
        [["0"], ["embeddings", "2"]],
    ),
    "dropout": ([(-0.1, "a share between 0 and 1"), (1.1, "a share between 0 and 1")], [0.0, 1.0, None]),
    "rounds": ([(-1, "at least 0")], [0, None]),
    "keep": (
        [(shares, "shares above 0 and up to 1") for shares in ([], [0.0], [0.5, 1.1])],
        [[0.01, 1.0], None],
    ),
    "folds": ([(-1, "at least 0")], [0, None]),
    "unlabeled_batch_ratio": ([(0.0, "at least 1e-06"), (-1.0, "at least 1e-06")], [0.5]),
    "gold_share": (
        [(share, "a share between 0 and 1") for share in (-0.1, 1.1)],
        [0.01, 1.0],
    ),
    "logit_adjustment": ([(-1.0, "at least 0"), (NAN, "a finite number")], [0.0]),
    "steps": ([(0, "at least 1")], [1, None]),
    "round_steps": ([(0, "at least 1")], [1, None]),
    "batch_size": ([(0, "at least 1")], [1]),
    "learning_rate": ([(-1.0, "at least 0"), (NAN, "a finite number")], [0.0]),
    "head_learning_rate": ([(-1.0, "at least 0")], [0.0, None]),
    "seed": ([(-1, "a number between 0 and 4294967295"), (2**32, "a number between 0 and 4294967295")], [0, 2**32 - 1]),
    "workers": ([(0, "at least 1")], [1, None]),
}


@pytest.mark.parametrize("name", RANGES)
def test_ranges(name: str) -> None:
    """Guards against ascending the loss, and training on no row: a message names its option, the range and what was found.

    The edges of a range belong to it."""
    wrong, edges = RANGES[name]
    for value, expected in wrong:
        with pytest.raises(UserError, match=rf"^{name}: expected {re.escape(expected)}.*, found "):
            RunConfig(**{name: value})
    for value in edges:
        assert getattr(RunConfig(**{name: value}), name) == value


def test_every_number_has_a_range() -> None:
    """Guards the ranges against an option that has none, and the table above against one that it does not try."""
    numbers = {name for name, spec in SPECS.items() if spec.type in (int, float, int | None, float | None)}
    assert {name for name in numbers if not SPECS[name].metadata["limits"]} == set()
    assert numbers <= set(RANGES)


@pytest.mark.parametrize("name", EDITS)
def test_edits_are_shares(name: str) -> None:
    """Guards token edits against shares that are none, and one edit that is given against taking the others' defaults away."""
    for value in (-0.1, 1.1, True, "much"):
        with pytest.raises(UserError, match=f"^edits: expected a share between 0 and 1 for {name}, found "):
            RunConfig(edits={name: value})
    for value in (0, 1):
        assert RunConfig(edits={name: value}).edits == EDITS | {name: float(value)}
    with pytest.raises(UserError, match=r"^edits: no edit 'cutof'; did you mean cutoff\?"):
        RunConfig(edits={"cutof": 0.1})


@pytest.mark.parametrize(
    ("parts", "message"), [(["²"], "a number of layers, found '²'"), (["2", "6"], "one number of layers")]
)
def test_parts_that_cannot_be_frozen_are_refused(parts: list[str], message: str) -> None:
    """Guards a traceback on a character that is a digit and no number, and one of two numbers that counts silently."""
    with pytest.raises(UserError, match=f"freeze: expected .*{message}"):
        RunConfig(freeze=parts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": ["a", "b", "a"]}, "encoder: 'a' is given twice"),
        ({"encoder": []}, r"encoder: expected list\[str\], found \[\]"),
        (
            {"encoder": "base", "prefix": {"bass": "query: "}},
            "prefix: 'bass' is no encoder of this run; did you mean base",
        ),
    ],
)
def test_encoders_that_cannot_be_compared_are_refused(options: dict[str, Any], message: str) -> None:
    """Guards an encoder that is compared with itself, and a prefix that never reaches a text."""
    with pytest.raises(UserError, match=message):
        RunConfig(**options)


def test_an_encoder_brings_its_prefix() -> None:
    """Guards the prefix of one encoder before the texts of another one, and an empty prefix that counts as not given."""
    several = RunConfig(encoder=["a", "b"], prefix={"b": "query: "})
    assert [several.with_encoder(name).prefix for name in several.encoders] == [None, "query: "]
    assert RunConfig(encoder=["a", "b"], prefix="query: ").with_encoder("a").prefix == "query: "
    assert RunConfig(encoder="a", prefix={}).to_yaml() == RunConfig(encoder="a").to_yaml()
    assert RunConfig(encoder="a", prefix="").prefix == ""


def test_no_labeled_rows_without_rounds_is_no_matter() -> None:
    """gold_share 0 is refused for rounds alone."""
    assert RunConfig(gold_share=0.0, rounds=0).gold_share == 0.0
    with pytest.raises(UserError, match="gold_share: expected more than 0, so that every batch has labeled rows"):
        RunConfig(gold_share=0.0, rounds=2)


def test_rounds_and_shares_are_those_of_the_method_unless_they_are_given() -> None:
    """auto makes one round, since its last student is a further one; guards against a default that overrules a person."""
    assert (RunConfig().method, RunConfig().rounds, RunConfig().keep) == ("auto", None, None)
    of_methods = {name: method_of(RunConfig(method=name)) for name in ("auto", "self-training", "supervised")}
    assert {name: (method.rounds, method.keep) for name, method in of_methods.items() if method.round is not None} == {
        "auto": (1, (1.0,)),
        "self-training": (3, (0.3, 0.5, 0.7)),
    }
    assert of_methods["supervised"].rounds == 0
    for rounds in (3, 0):
        assert rounds_of_run(RunConfig(rounds=rounds), of_methods["auto"]) == rounds
    assert rounds_of_run(RunConfig(), of_methods["self-training"]) == 3
    assert method_of(RunConfig(keep=[0.1])).keep == (0.1,)


@pytest.mark.parametrize("budget", ["soon", "10", "0m", "-5m", "m", "1.2.3h"])
def test_a_budget_that_is_no_time_is_refused(budget: str) -> None:
    with pytest.raises(UserError, match="budget: expected a time such as 10m"):
        RunConfig(budget=budget)


def test_defaults_are_not_shared() -> None:
    """Guards against one run's lists changing the next run's."""
    RunConfig().views.append("back")
    RunConfig().method_args["threshold"] = 0.5
    RunConfig().edits["mask"] = 0.5
    assert (RunConfig().views, RunConfig().method_args, RunConfig().edits["mask"], EDITS["mask"]) == (
        [],
        {},
        0.15,
        0.15,
    )


# Writing


def test_the_resolved_run_reads_back_the_same(tmp_path: Path) -> None:
    """config.yaml is enough to repeat a run: guards against values that YAML reads as something else."""
    config = RunConfig(
        labeled="my.csv", text_column="1", encoder="true", prior={"refund": 0.4, "no": 0.6}, keep=[0.1, 1], learning_rate=1e-5,
        max_length=32, training_args={"max_grad_norm": 0.5}, method="fixmatch", freeze=["embeddings", "1"],
        label_column="é", edits={"drop": 0.2},
    )  # fmt: skip
    assert read_config(recipe(tmp_path, config.to_yaml()), {}) == config


def test_what_changes_the_display_alone_is_not_recorded(tmp_path: Path) -> None:
    """Another number of workers must not make a continued run another run; everything else is written."""
    config = RunConfig(output="here", report_to=["tensorboard"], workers=2, engine="ray")
    again = read_config(recipe(tmp_path, config.to_yaml()), {})
    assert again == RunConfig()
    written = {line.split(":")[0] for line in config.to_yaml().splitlines() if re.match(r"\w+:", line)}
    assert written == set(SPECS) - {"output", "report_to", "workers", "engine"}


# Help


def test_every_field_has_its_help() -> None:
    """Guards against an option that `sstext train --help-all` does not explain in sentences, and one option more unnoticed;
    choices come with a default among them."""
    assert set(SPECS) == {spec.name for spec in fields(RunConfig)}
    assert len(SPECS) == 49, "a further option costs everybody a line of help"
    for name, spec in SPECS.items():
        text = spec.metadata["help"]
        assert len(text) > 10, name
        assert text.endswith("."), name
        assert text[0].isupper(), name
        assert "  " not in text, name
        choices = spec.metadata["choices"]
        assert choices is None or default_of(spec) in choices, name


#: Words that tell when to change an option.
ADVICE = (
    "Change ",
    "Set ",
    "Raise ",
    "Lower ",
    "Give ",
    "Use ",
    "use ",
    "Name ",
    "Add ",
    "Freeze ",
    "Try ",
    "Every run needs ",
)


def test_help_says_the_default_and_when_to_change_it() -> None:
    """Guards against an option that is listed but leaves its reader without a decision."""
    for name, spec in SPECS.items():
        text = spec.metadata["help"]
        assert "Default: " in text or "Every run needs " in text, f"{name}: which default?"
        assert "need" in text or any(words in text for words in ADVICE), f"{name}: when to change it?"


def test_common_options_are_the_few_that_people_decide_on() -> None:
    """Guards `sstext train --help`, a page: whoever adds a common option looks at what stands there."""
    common = {name for name, spec in SPECS.items() if spec.metadata["common"]}
    assert common == {"data", "labeled", "unlabeled", "test", "dev", "descriptions", "encoder", "method", "prior", "folds",
                      "device", "seed", "output", "budget"}  # fmt: skip


def test_no_two_options_share_their_help() -> None:
    """Guards against a field copied with its words."""
    texts = [spec.metadata["help"] for spec in SPECS.values()]
    assert len(set(texts)) == len(texts)


def test_help_stands_nowhere_twice() -> None:
    """The rule of the architecture, section 6: a second copy drifts. Looks at the beginning of every string of the package."""
    texts = {spec.metadata["help"] for spec in SPECS.values()}
    found = [
        f"{path.name}: {text}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for text in texts
        if node.value.startswith(text)
    ]
    assert len(found) == len(texts), sorted(line for line in found if not line.startswith("config.py"))


# Former options


@pytest.mark.parametrize("name", FORMER)
def test_a_former_option_is_an_error_that_names_the_new_one(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards recipes, programs and commands of version 0.1 against being ignored, and against "unknown": each is told what to
    write now, as its interface writes it."""
    now, flag = replacement(name), replacement(name, flag=True)
    assert now
    assert flag
    assert name not in SPECS
    said = re.escape(f"option {name!r} has been replaced; use {now}") + "$"
    with pytest.raises(UserError, match=f"^{re.escape(str(tmp_path))}/run.yaml: {said}"):
        read_config(recipe(tmp_path, f"{name}: 1\n"), {})
    with pytest.raises(UserError, match=f"^{said}"):
        RunConfig(**{name: 1})
    given = "--" + name.replace("_", "-")
    if given[2:] in ("report", "dry-run", "quiet"):  # flags as before
        parser().parse_args(["train", given])
        return
    for words in ([given, "1"], [f"{given}=1"]):
        with pytest.raises(SystemExit) as end:
            main(["train", *words])
        assert end.value.code == 2
        assert capsys.readouterr().err == f"sstext: error: {given} has been replaced; use {flag}\n"


def test_every_former_option_has_a_known_default() -> None:
    """Guards reports of old runs: an option whose former default is unknown would be shown as changed, or dropped."""
    unrecorded = {"report", "dry_run", "quiet"}
    assert {*MOVED, *CHANGED} - unrecorded == (FORMER_DEFAULTS.keys() | RESOLVED_BY_METHOD.keys()) - {"rounds", "keep"}
    today = {"method": "auto", "rounds": 1, "keep": [1.0], "edits": {"mask": 0.3}}
    assert in_new_names(today) == today, "a later run says what was asked for"


@pytest.mark.parametrize("name", MOVED)
def test_what_has_replaced_an_option_is_taken(name: str) -> None:
    """Guards advice that is refused in turn: every option has the key that the message names."""
    option, key = MOVED[name]
    assert option in SPECS
    values = {"labels": "soft", "start": "pretrained", "round_batch_size": 8}
    value = values.get(key, 0.1)
    config = RunConfig(method="softmatch", **{option: {key: value}})
    assert getattr(config, option)[key] == value
    if option == "method_args":
        compose(config.method, config.method_args)
    if option == "training_args":
        assert key == "early_stopping_patience" or key in TrainingArguments.__dataclass_fields__


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("strength", -1.0, "strength: "),
        ("labels", "firm", "labels: expected soft or hard, found 'firm'"),
        ("min_confidence", 1.1, "min_confidence: "),
        ("start", "anew", "start: expected previous or pretrained, found 'anew'"),
        ("stop_agreement", -1.0, "stop_agreement: "),
        ("round_batch_size", 0, "round_batch_size: expected a whole number of at least 1, found 0"),
        ("round_batch_size", 1.5, "round_batch_size: expected a whole number of at least 1, found 1.5"),
        ("round_learning_rate", -1.0, "round_learning_rate: "),
        ("round_learning_rate", NAN, "round_learning_rate: "),
    ],
)
def test_what_has_become_an_argument_of_the_method_has_its_range(name: str, value: Any, expected: str) -> None:
    """Guards against ascending the loss, a negative λ and loops that never end, as the former options did; the steps, decay and
    patience of `training_args` are tried in tests/run/test_opening.py."""
    with pytest.raises(UserError, match=re.escape(expected)):
        method_of(RunConfig(method="softmatch", method_args={name: value}))


def test_a_former_switch_that_was_turned_off_is_named_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Guards `--no-alignment`, the way in which most people gave it."""
    with pytest.raises(SystemExit):
        main(["train", "--no-alignment"])
    assert capsys.readouterr().err == "sstext: error: --no-alignment has been replaced; use --prior none\n"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_key_of_every_recipe_is_an_option(path: Path) -> None:
    """Guards recipes that are copied from the repository against former options and typing mistakes."""
    assert read_config(path, {}) is not None


def test_there_are_recipes() -> None:
    """Canary: guards against a folder that was not found."""
    assert {"quickstart", "own_data", "multi_gpu", "low_memory"} <= {path.stem for path in RECIPES}


# Imports


@pytest.mark.parametrize(
    "statement",
    ["import sstext", "import sstext.config.run_config", "from sstext.cli.main import parser; parser().format_help()"],
)
def test_it_needs_no_torch(statement: str) -> None:
    """`sstext --help` answers at once: guards against a heavy import at the top of a module."""
    heavy = ("torch", "transformers", "datasets", "accelerate", "sklearn", "pandas")
    code = f"import sys; {statement}; print(sorted(set({heavy}) & set(sys.modules)), 'sstext' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] True\n"


def test_public_names_load_when_used() -> None:
    """Every promised name is there; an unknown one is missing, as in any module."""
    for name in sstext.__all__:
        assert getattr(sstext, name).__name__ == name if name != "METHODS" else "fixmatch" in sstext.METHODS
    assert set(sstext.__all__) == set(dir(sstext))
    assert not hasattr(sstext, "Trainer")


def test_a_flag_can_take_back_what_a_recipe_sets() -> None:
    """`--head-learning-rate none`: guards "flags override" where the wanted value is no value."""
    assert RunConfig(head_learning_rate="none").head_learning_rate is None  # type: ignore[arg-type]
    with pytest.raises(UserError, match="batch_size: expected int"):
        RunConfig(batch_size="none")  # type: ignore[arg-type]
