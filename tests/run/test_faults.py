"""A run under faults: damaged folders, full disks, kills between the last checkpoint and the result, and its texts."""

import errno
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runs import QUICK

from sstext.cli import main as cli
from sstext.config.run_config import RunConfig
from sstext.inference.classifier import Classifier
from sstext.run.train import train
from sstext.run.verifying import differences, verify
from sstext.selftraining import chain as chains
from sstext.storage.ownership import owned

Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def sstext(capsys: pytest.CaptureFixture[str]) -> Say:
    """`sstext(*arguments)`: exit code, stdout and stderr of a command."""

    def run(*arguments: Any) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def copy(finished_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / "out"))


@pytest.fixture(scope="module")
def reference(tiny_run: Callable[..., RunConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing has interrupted; read only."""
    folder = tmp_path_factory.mktemp("reference") / "out"
    train(constant(tiny_run, folder))
    return folder


def constant(tiny_run: Callable[..., RunConfig], output: Path, **changes: Any) -> RunConfig:
    arguments = {"lr_scheduler_type": "constant", "save_steps": 4} | changes.pop("training_args", {})
    return tiny_run(output, folds=0, training_args=arguments, **changes)


def stop_before_the_choice(monkeypatch: pytest.MonkeyPatch, config: RunConfig) -> None:
    """Leave a run whose stages are finished, and whose model is not chosen."""
    with monkeypatch.context() as patch:
        patch.setattr("sstext.run.train.choose_and_measure", killed)
        with pytest.raises(KeyboardInterrupt):
            train(config)


def one_sentence(error: str) -> str:
    """The only line on stderr that is an error; there is no traceback."""
    assert "Traceback" not in error
    lines = [line for line in error.splitlines() if line.startswith("sstext: error: ")]
    assert len(lines) == 1, error
    return lines[0].removeprefix("sstext: error: ")


# Kills


def killed(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "changes",
    [
        {},
        pytest.param({"training_args": {"lr_scheduler_type": "cosine"}}, marks=pytest.mark.slow),
        pytest.param({"training_args": {"lr_scheduler_type": "linear", "save_steps": 3, "logging_steps": 4}},
                     marks=pytest.mark.slow),
        pytest.param({"dev": True, "training_args": {"eval_steps": 1, "early_stopping_patience": 1}},
                     marks=pytest.mark.slow),
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["write_folder_whole", pytest.param("_calibrate", marks=pytest.mark.slow)])
def test_a_kill_after_the_last_checkpoint_adds_no_step(
    place: str, changes: dict[str, Any], tiny_run: Callable[..., RunConfig], tiny_files: Any, reference: Path,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Guards other weights under a constant rate, a wrong number of steps, and the best step that early stopping chose."""
    changes = changes | ({"dev": str(tiny_files.dev)} if changes.get("dev") else {})
    whole = reference
    if changes:
        whole = tmp_path / "whole"
        train(constant(tiny_run, whole, **changes))
    for _ in range(2):  # in the baseline, and in the round
        with monkeypatch.context() as patch:
            patch.setattr(chains if place == "write_folder_whole" else chains.Chain, place, killed)
            with pytest.raises(KeyboardInterrupt):
                train(constant(tiny_run, tmp_path / "out", **changes))
        assert list((tmp_path / "out").glob("*/checkpoints/checkpoint-*"))
    train(constant(tiny_run, tmp_path / "out", **changes))
    assert differences(whole, tmp_path / "out") == []
    assert verify(tmp_path / "out").problems == []
    assert not list((tmp_path / "out").glob("*/checkpoints"))


@pytest.mark.parametrize(
    "renames", [11, *(pytest.param(n, marks=pytest.mark.slow) for n in (*range(11), *range(12, 25)))]
)
def test_a_kill_at_any_rename_changes_no_file(
    renames: int, tiny_run: Callable[..., RunConfig], reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards every file of a run, `tokenizer.json` among them, and what a kill leaves behind."""
    count, replace = [0], Path.replace

    def counted(one: Path, other: Path) -> Any:
        count[0] += 1
        if count[0] > renames:
            os.mkdir(one.with_name(f".{one.name}-left.4194305.partial"))  # of a process that has been killed
            raise KeyboardInterrupt
        return replace(one, other)

    monkeypatch.setattr(Path, "replace", counted)
    with pytest.raises(KeyboardInterrupt):
        train(constant(tiny_run, tmp_path / "out"))
    monkeypatch.undo()
    train(constant(tiny_run, tmp_path / "out"))
    assert differences(reference, tmp_path / "out") == []
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.slow
def test_runs_that_are_killed_at_random_moments_end_in_the_same_bits() -> None:
    """SIGKILL, SIGTERM and SIGINT at 30 moments, in four kinds of runs, each process a real one."""
    import subprocess
    import sys

    tests = Path(__file__).parent.parent
    paths = os.pathsep.join([str(tests.parent), str(tests), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, str(tests / "soak.py"), "--moments", "30", "--seconds", "3000"],
        env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kills, no difference" in done.stdout


# Disks


@pytest.mark.parametrize(
    ("turn", "number"),
    [(12, errno.ENOSPC), *(pytest.param(turn, number, marks=pytest.mark.slow)
                           for turn in (1, 5, 20, 33, 47, 60) for number in (errno.ENOSPC, errno.EDQUOT, errno.EIO))],
)  # fmt: skip
def test_a_full_disk_is_one_sentence_and_the_same_command_goes_on(
    turn: int, number: int, sstext: Say, tiny_files: Any, tiny_encoder: Path, reference: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Guards the traceback of the times, which hid the first error: from some write on, every further one fails."""
    command = [
        "train", "--labeled", tiny_files.labeled, "--unlabeled", tiny_files.unlabeled, "--encoder", tiny_encoder, *QUICK,
        "--folds", 0, "--output", tmp_path / "out", "--no-report",
    ]  # fmt: skip
    writes = [0]

    def fail(handle: int) -> None:
        writes[0] += 1
        if writes[0] >= turn:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    code, _, error = sstext(*command)
    assert code == (1 if number == errno.EIO else 2)
    said = one_sentence(error)
    assert "cannot be written, because" in said
    assert "times.json" not in said
    monkeypatch.undo()
    assert sstext(*command)[0] == 0
    assert verify(tmp_path / "out").problems == []


def test_a_checkpoint_that_cannot_be_written_is_one_sentence(
    tiny_run: Callable[..., RunConfig], sstext: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards the traceback of torch, whose error has no number."""

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")

    monkeypatch.setattr("sstext.training.component_log.ComponentLogTrainer._save_optimizer_and_scheduler", fail)
    with pytest.raises(ValueError, match=r"checkpoints: cannot be written, because .*inline_container"):
        train(constant(tiny_run, tmp_path / "out"))


def test_a_read_only_place_is_refused_before_anything_is_computed(
    finished_run: Path,
    sstext: Say,
    tiny_files: Any,
    tiny_encoder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Guards hours of training and an evaluation whose result cannot be kept. Root may write everywhere, so the disk is one."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(Path, "write_bytes", refuse)
    monkeypatch.setattr("sstext.run.train.open_run", killed)
    monkeypatch.setattr("sstext.cli.predict._classifier", killed)
    code, _, error = sstext("train", tiny_files.labeled, "--encoder", tiny_encoder, "--output", tmp_path / "ro" / "out")
    assert code == 2
    assert "output: " in one_sentence(error)
    assert "because the disk is read-only" in error
    for command in (
        ("evaluate", finished_run, tiny_files.test, "--json", tmp_path / "x.json"),
        ("predict", finished_run, tiny_files.test, "-o", tmp_path / "x.csv"),
    ):
        code, _, error = sstext(*command)
        assert (code, "because the disk is read-only" in one_sentence(error)) == (2, True)


def test_a_file_that_vanished_is_one_sentence(sstext: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards whatever has no message of its own: a file is named, and the machine is told from the user."""
    for number, expected in ((errno.ENOENT, 2), (errno.ENOSPC, 2), (errno.EIO, 1)):

        def fail(_: Any, number: int = number) -> None:
            raise OSError(number, os.strerror(number), "/tmp/gone")

        monkeypatch.setattr("sstext.cli.report.run_report", fail)
        code, _, error = sstext("report", "out")
        assert code == expected
        assert one_sentence(error).startswith("/tmp/gone: ")


# Damage


def test_every_file_of_a_run_is_verified(copy: Path, sstext: Say) -> None:
    """Each file in turn is emptied, cut, or has one wrong byte: it is named, with its remedy. Guards a check with gaps."""
    code, said, _ = sstext("verify", copy)
    assert (code, "are as they were written" in said) == (0, True)
    files = [file for file in sorted(copy.rglob("*")) if file.is_file()]
    unrecorded = {"manifest.jsonl", "README.md", "to_label.csv"}  # people edit the last two
    tried = 0
    recorded = [
        file for file in files if file.name not in unrecorded and "embeddings" not in file.parts
    ]  # found by name
    for number, file in enumerate(recorded):
        right = file.read_bytes()
        file.write_bytes((b"", right[: len(right) // 2], right[:-1] + bytes([right[-1] ^ 1]))[number % 3])
        (problem,) = verify(copy).problems
        assert problem.startswith(f"{file} is damaged ("), problem
        file.write_bytes(right)
        tried += 1
    assert tried >= 20
    (copy / "manifest.jsonl").write_text("")
    code, said, error = sstext("verify", copy)
    assert code == 2
    assert "manifest.jsonl is damaged" in said
    one_sentence(error)
    assert sstext("verify", copy.parent)[0] == 2


def test_a_damaged_model_is_neither_used_nor_pushed(copy: Path, sstext: Say, tiny_files: Any) -> None:
    """Guards predictions of weights with a flipped bit, and a model on the Hub that nobody can load."""
    config, model = copy / "model" / "config.json", copy / "model" / "model.safetensors"
    edited, right = config.read_text().replace("refund", "money back"), model.read_bytes()
    config.write_text(edited)
    code, said, _ = sstext("predict", copy, tiny_files.test)
    assert (code, "money back" in said) == (0, True), "names may be edited"
    config.write_text(edited[:100])
    assert "config.json is damaged" in one_sentence(sstext("push", copy, "me/model", "--dry-run")[2])
    config.write_text(edited)
    for content in (b"", right[:1000], right[:-1] + bytes([right[-1] ^ 1])):
        model.write_bytes(content)
        for command in (
            ("predict", copy, tiny_files.test),
            ("predict", copy / "model", tiny_files.test),
            ("push", copy, "me/model", "--dry-run"),
        ):
            code, _, error = sstext(*command)
            assert code == 2
            assert "model.safetensors is damaged" in one_sentence(error)
            assert "results.json, and the same command writes the model and its figures again" in error


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"", b"half"])
@pytest.mark.parametrize("name", ["results.json", "config.yaml", "data.json"])
def test_no_command_ends_in_a_traceback_on_damage(
    name: str, content: bytes, copy: Path, sstext: Say, tiny_files: Any
) -> None:
    """Guards the commands that read a finished run."""
    (copy / name).write_bytes(content)
    for command in (
        ("report", copy),
        ("train", copy, "--more", tiny_files.test, "--output", copy.parent / "more"),
        ("suggest", "--run", copy, "--count", 2, "-o", copy.parent / "x.csv"),
        ("forget", copy) if name == "results.json" else ("verify", copy),
        ("reproduce", copy),
    ):
        code, _, error = sstext(*command)
        assert "Traceback" not in error
        assert code in (0, 2), command


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "baseline/scores.npy", "baseline/fit.json", "baseline/model/model.safetensors", "round_1/pseudo_labels.parquet",
        "rounds.jsonl", "plan.json", "data/unlabeled.arrow", "data/unlabeled.json", "config.yaml", "data.json",
    ],
)  # fmt: skip
def test_the_remedy_repeats_the_phase_and_ends_in_the_same_bits(
    name: str, tiny_run: Callable[..., RunConfig], reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupted run with a damaged file: the message is followed to the letter. Guards advice that does not help."""
    out = tmp_path / "out"
    stop_before_the_choice(monkeypatch, constant(tiny_run, out))
    (out / name).write_bytes((out / name).read_bytes()[:20])
    if name in ("rounds.jsonl", "plan.json", "config.yaml", "data.json", "data/unlabeled.arrow", "data/unlabeled.json"):
        with pytest.raises(ValueError, match="is damaged") as caught:
            train(constant(tiny_run, out))
        problem = str(caught.value)
    else:
        (problem,) = verify(out).problems
    assert problem.startswith(f"{out / name} is damaged")
    remedy = problem.split("; delete ")[1].split(", and ")[0].removeprefix("the folder ")
    for target in map(Path, remedy.replace(" and ", ", ").split(", ")):
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    train(constant(tiny_run, out))
    unneeded = [f"{name}: only in {reference}"] if name.endswith("scores.npy") else []
    assert differences(reference, out) == unneeded
    assert verify(out).problems == []


def test_a_run_is_reproduced_and_what_differs_is_named(copy: Path, sstext: Say) -> None:
    """Guards the promise of the same bits, a comparison that finds nothing, and one that complains about a person's notes."""
    (copy / "notes.txt").write_text("Ask Ana about the refunds.")
    code, said, _ = sstext("reproduce", copy, "--quiet")
    assert (code, "all files are the same, bit for bit" in said) == (0, True)
    again = copy.with_name("out-reproduced")
    results = json.loads((again / "results.json").read_text())
    (again / "results.json").write_text(json.dumps(results | {"seed": 7, "seconds": 0.0}))
    (again / "model" / "model.safetensors").write_bytes(b"other")
    (again / "rounds.jsonl").unlink()
    found = differences(copy, again)
    assert [line.split(":")[0] for line in found] == [
        "model/model.safetensors", "notes.txt", "results.json", "rounds.jsonl"
    ]  # fmt: skip
    assert "other values of 'seed'" in found[2]
    assert sstext("reproduce", copy, "--output", copy)[0] == 2


# Texts


def test_texts_are_private_and_can_be_forgotten(copy: Path, finished_run: Path, sstext: Say, tiny_files: Any) -> None:
    """Guards texts that other accounts can read, and texts that are left after `forget`; the model predicts as before."""
    assert stat.S_IMODE(finished_run.stat().st_mode) == 0o700
    private = [file for name in ("data", "predictions") for file in (finished_run / name).rglob("*")]
    assert private
    assert {stat.S_IMODE(file.stat().st_mode) for file in private if file.is_file()} == {0o600}
    texts = [json.loads(line)["text"] for line in tiny_files.unlabeled.read_text().splitlines()]
    texts += [line.rsplit(",", 1)[0] for path in (tiny_files.labeled, tiny_files.test) for line in path.open()][1:]
    texts.remove("text") if "text" in texts else None
    before = Classifier.from_pretrained(copy / "model").predict_proba(texts[:3])
    for name in ("report.html", ".report.html.999999999.partial"):  # the latter is what a killed process left
        (copy / name).write_text(texts[0])
    code, said, _ = sstext("forget", copy)
    assert code == 0
    assert {line.split()[1] for line in said.splitlines() if line.startswith("deleted")} == {
        str(copy / name) for name in ("data", "predictions", "report.html", "to_label.csv")
    }
    left = b"".join(file.read_bytes() for file in copy.rglob("*") if file.is_file())
    assert not [text for text in texts if text.encode() in left]
    assert (Classifier.from_pretrained(copy / "model").predict_proba(texts[:3]) == before).all()
    assert sstext("verify", copy)[0] == 0, "what was forgotten is not missed"
    assert sstext("report", copy)[0] == 0
    assert "no file holds texts" in sstext("forget", copy)[1] or (copy / "report.html").exists() is False


def test_an_unfinished_run_forgets_its_texts_and_can_go_on_all_the_same(
    tiny_run: Callable[..., RunConfig],
    reference: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sstext: Say,
    tiny_files: Any,
) -> None:
    """Guards the texts of a run that was given up, and a run that is broken by it: it reads its texts again."""
    out = tmp_path / "out"
    stop_before_the_choice(monkeypatch, constant(tiny_run, out))
    texts = [json.loads(line)["text"].encode() for line in tiny_files.unlabeled.read_text().splitlines()]
    assert any(text in (out / "data" / "unlabeled.arrow").read_bytes() for text in texts)
    code, said, _ = sstext("forget", out)
    assert (code, "This run is not finished and has no model. It cannot go on without its texts" in said) == (0, True)
    left = b"".join(file.read_bytes() for file in out.rglob("*") if file.is_file())
    assert not [text for text in texts if text in left]
    assert (out / "baseline" / "model").is_dir()
    assert verify(out).problems == []
    train(constant(tiny_run, out))
    assert differences(reference, out) == []


def test_nothing_is_deleted_in_a_folder_that_is_no_run(tmp_path: Path, sstext: Say) -> None:
    """Guards a project of other people that has a config.yaml and a folder data."""
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.csv").write_text("text\n")
    code, _, error = sstext("forget", tmp_path)
    assert (code, one_sentence(error).startswith("forget: expected the folder of a run, found ")) == (2, True)
    assert (tmp_path / "data" / "mine.csv").is_file()


def test_commands_that_write_into_a_run_wait_for_its_owner(copy: Path, sstext: Say, tiny_files: Any) -> None:
    """Guards a report and a deletion in the midst of a training. What only reads, or writes what no run owns, goes on."""
    before = (copy / "manifest.jsonl").read_bytes()
    with owned(copy):
        for command in ("report", "forget"):
            code, _, error = sstext(command, copy)
            assert (code, one_sentence(error).startswith(f"{copy} is in use by process ")) == (2, True)
        assert sstext("verify", copy)[0] == 0
        assert sstext("predict", copy, tiny_files.test, "-o", copy / "predictions.csv")[0] == 0
        assert sstext("evaluate", copy, tiny_files.test, "--json", copy / "figures.json")[0] == 0
    assert (copy / "manifest.jsonl").read_bytes() == before
    assert not (copy / "report.html").exists()
    assert sstext("report", copy)[0] == 0


def test_cleaned_copies_do_not_belong_into_a_run(copy: Path, sstext: Say, tiny_files: Any) -> None:
    """Guards files of other data that the manifest of a run would answer for, and that `forget` would not know."""
    before = (copy / "manifest.jsonl").read_bytes()
    code, _, error = sstext("check", tiny_files.labeled, "--fix", copy / "new" / "cleaned")
    assert (code, "fix: expected a folder outside of a run" in one_sentence(error)) == (2, True)
    assert (copy / "manifest.jsonl").read_bytes() == before
    assert not (copy / "new").exists()


def test_an_edited_model_is_said_and_is_no_damage(copy: Path, sstext: Say) -> None:
    """Guards people who rename a class: `verify` passes, and `reproduce` compares with what the run wrote."""
    config = copy / "model" / "config.json"
    right = config.read_text()
    config.write_text(right.replace("refund", "money back"))
    code, said, _ = sstext("verify", copy)
    assert (code, f"{config} was edited" in said, " files are as they were written" in said) == (0, True, True)
    code, said, _ = sstext("reproduce", copy, "--quiet")
    assert (code, "all files are the same, bit for bit" in said) == (0, True)
    other = copy.with_name("out-reproduced") / "model" / "config.json"
    other.write_text(right.replace("refund", "credit"))
    assert differences(copy, copy.with_name("out-reproduced")) == [
        "model/config.json: other values of 'id2label', 'label2id'"
    ]
    config.write_text(right[:100])
    code, said, error = sstext("verify", copy)
    assert (code, f"{config} is damaged" in said) == (2, True)
    one_sentence(error)
