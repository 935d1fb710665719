"""Options: read, checked and written once; their help stands in one place, and asking for it needs no torch."""

import ast
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import sstext
from sstext.config.options import default_of, options
from sstext.config.recipe import read_config
from sstext.config.run_config import BY_METHOD, RunConfig
from sstext.errors import UserError

SPECS = options(RunConfig)
SOURCES = sorted(Path(sstext.__file__).parent.rglob("*.py"))


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
        ("zzz: 1\n", "unknown option 'zzz'; `sstext train --help` lists the options"),
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
        ("rounds", 1.5, "rounds: expected int, found 1.5"),
        ("rounds", True, "rounds: expected int, found True"),
        ("batch_size", None, "batch_size: expected int, found None"),
        ("rounds", float("inf"), "rounds: expected int, found inf"),
        ("learning_rate", "fast", "learning_rate: expected float, found 'fast'"),
        ("freeze_embeddings", "yes", "freeze_embeddings: expected bool, found 'yes'"),
        ("freeze_embeddings", 1, "freeze_embeddings: expected bool, found 1"),
        ("keep", ["a"], "keep: expected list[float], found ['a']"),
        ("views", None, "views: expected list[str], found None"),
        ("views", {"a": 1}, "views: expected list[str], found {'a': 1}"),
        ("method_args", "threshold=1", "method_args: expected dict["),
        ("precision", "fp8", "precision: expected one of auto, fp32, bf16, fp16, found 'fp8'"),
        ("pseudo_labels", "firm", "pseudo_labels: expected one of hard, soft, found 'firm'"),
    ],
)
def test_values_of_another_type_are_refused(name: str, value: Any, message: str) -> None:
    """Guards against "no" that is true, and against half a round."""
    with pytest.raises(UserError, match=re.escape(message)):
        RunConfig(**{name: value})


@pytest.mark.parametrize(
    ("name", "wrong", "edges"),
    [
        ("gold_share", [-0.1, 1.1, float("nan"), 0.0], [0.01, 1.0]),
        ("token_mask", [-0.1, 1.1], [0.0, 1.0]),
        ("token_drop", [-0.1, 1.1], [0.0, 1.0]),
        ("min_confidence", [-0.1, 1.1], [0.0, 1.0]),
        ("warmup", [-0.1, 1.1], [0.0, 1.0]),
        ("keep", [[], [0.0], [0.5, 1.1], [float("nan")]], [[0.01, 1.0]]),
        ("rounds", [-1], [0]),
        ("freeze_layers", [-1], [0]),
        ("seed", [-1], [0]),
        ("max_length", [3], [4, None]),
        ("batch_size", [0], [1]),
        ("round_batch_size", [0], [1]),
        ("steps", [0], [1, None]),
        ("round_steps", [0], [1, None]),
        ("eval_steps", [0], [1, None]),
        ("save_steps", [0], [1]),
        ("patience", [0], [1]),
    ],
)
def test_ranges(name: str, wrong: list[Any], edges: list[Any]) -> None:
    """Each message names its option; the edges of the range belong to it."""
    for value in wrong:
        with pytest.raises(UserError, match=rf"^{name}: expected "):
            RunConfig(**{name: value})
    for value in edges:
        assert getattr(RunConfig(**{name: value}), name) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", -1.0),
        ("learning_rate", float("nan")),
        ("head_learning_rate", -1.0),
        ("weight_decay", -1.0),
        ("dropout", 3.0),
        ("unlabeled_batch_ratio", -1.0),
        ("unsupervised_strength", -1.0),  # the trainer sets it on the objective, past the objective's own check
        ("stop_agreement", -1.0),
    ],
)
def test_ranges_of_the_other_numbers(name: str, value: Any) -> None:
    """Guards against ascending the loss, a negative λ and loops that never end."""
    with pytest.raises(UserError, match=name):
        RunConfig(**{name: value})


def test_no_gold_rows_without_rounds_is_no_matter() -> None:
    """gold_share 0 is refused for rounds alone."""
    assert RunConfig(gold_share=0.0, rounds=0).gold_share == 0.0


def test_rounds_and_shares_follow_the_method_unless_they_are_given() -> None:
    """auto makes one round, since its last student is a further one; guards against a default that overrules a person."""
    assert [(RunConfig(method=name).rounds, RunConfig(method=name).keep) for name in ("auto", "supervised")] == [
        (1, [1.0]),
        (3, [0.3, 0.5, 0.7]),
    ]
    assert (RunConfig(rounds=3).rounds, RunConfig(rounds=0).rounds, RunConfig(keep=[0.1]).keep) == (3, 0, [0.1])
    assert RunConfig().method == "auto"


@pytest.mark.parametrize("budget", ["soon", "10", "0m", "-5m", "m", "1.2.3h"])
def test_a_budget_that_is_no_time_is_refused(budget: str) -> None:
    with pytest.raises(UserError, match="budget: expected a time such as 10m"):
        RunConfig(budget=budget)


def test_defaults_are_not_shared() -> None:
    """Guards against one run's list of shares changing the next run's."""
    RunConfig().keep.append(0.9)
    RunConfig().method_args["threshold"] = 0.5
    assert (RunConfig().keep, RunConfig().method_args) == ([1.0], {})


# Writing


def test_the_resolved_run_reads_back_the_same(tmp_path: Path) -> None:
    """config.yaml is enough to repeat a run: guards against values that YAML reads as something else."""
    config = RunConfig(
        labeled="my.csv", text_column="1", encoder="true", prior={"refund": 0.4, "no": 0.6}, keep=[0.1, 1], learning_rate=1e-5,
        max_length=32, training_args={"max_grad_norm": 0.5}, method="fixmatch", freeze_embeddings=True, label_column="é",
    )  # fmt: skip
    assert read_config(recipe(tmp_path, config.to_yaml()), {}) == config


def test_what_changes_the_display_alone_is_not_recorded(tmp_path: Path) -> None:
    """`--quiet` must not make a continued run another run; everything else is written."""
    config = RunConfig(output="here", report_to=["tensorboard"], report=False, quiet=True, workers=2, dry_run=True)
    again = read_config(recipe(tmp_path, config.to_yaml()), {})
    assert again == RunConfig()
    written = {line.split(":")[0] for line in config.to_yaml().splitlines() if re.match(r"\w+:", line)}
    assert written == set(SPECS) - {"output", "report_to", "workers", "report", "quiet", "dry_run"}


# Help


def test_every_field_has_its_help() -> None:
    """Guards against an option that `sstext train --help` does not explain; choices come with a default among them."""
    assert set(SPECS) == {spec.name for spec in fields(RunConfig)}
    assert len(SPECS) > 40
    for name, spec in SPECS.items():
        assert len(spec.metadata["help"]) > 10, name
        choices = spec.metadata["choices"]
        assert choices is None or default_of(spec) in choices or set(BY_METHOD[name]) <= set(choices), name


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
